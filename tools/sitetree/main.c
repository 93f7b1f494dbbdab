/* The command line of sitetree. parse.c takes the words apart by the tables in commands.c and option.c; ask.c
 * asks the daemon over the control socket; view.c, views.c and draw.c show the answer; wait.c and setup.c do
 * what takes longer. */
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tools/sitetree/run.h"

static int show_help(struct cli *c)
{
    char name[64], *space;
    if (c->command) {
        command_name(c->command, name);
        space = strchr(name, ' ');
        c->n_args = 0;
        c->args[c->n_args++] = c->command->noun;
        if (space)
            c->args[c->n_args++] = c->command->verb;
    } else if (c->noun) {
        c->n_args = 1;
        c->args[0] = c->noun;
    } else {
        c->n_args = 0;
    }
    return run_help(c);
}

static int answer(struct cli *c)
{
    return c->command->run ? c->command->run(c) : run_ask(c);
}

/* Ends with the first answer that cannot be had, or when nobody reads any more. */
static int watch(struct cli *c)
{
    bool terminal = isatty(STDOUT_FILENO) && !c->output.json;
    for (;;) {
        if (terminal)
            fputs("\033[H\033[2J", stdout);
        int exit_code = answer(c);
        if (fflush(stdout) != 0 || (exit_code != 0 && exit_code != 3))
            return exit_code;
        nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
    }
}

static int run(struct cli *c, int rc, const char *hint)
{
    char name[64];
    output_init(&c->output, cli_has(c, OPT_JSON), cli_has(c, OPT_LOCAL), c->options[OPT_COLOR]);
    c->output.dir = c->options[OPT_DIR];
    if (c->command)
        c->output.command = command_name(c->command, name);
    else if (c->noun)
        c->output.command = c->noun;
    if (rc)
        return output_fail(&c->output, rc, hint);
    if (cli_has(c, OPT_HELP) || (!c->command && !cli_has(c, OPT_VERSION)))
        return show_help(c);
    if (cli_has(c, OPT_VERSION))
        return run_version(c);
    return cli_has(c, OPT_WATCH) ? watch(c) : answer(c);
}

int main(int argc, char **argv)
{
    static struct cli cli;
    const char *hint = NULL;
    setlocale(LC_TIME, "C");
    signal(SIGPIPE, SIG_IGN); /* `sitetree events | head` ends by the failed write */
    int rc = command_parse(argc, argv, &cli, &hint);
    int exit_code = run(&cli, rc, hint);
    if (fflush(stdout) != 0 && exit_code == 0 && errno != EPIPE)
        exit_code = 1;
    return exit_code;
}

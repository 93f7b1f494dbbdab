#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/word.h"
#include "common/config/config.h"
#include "tools/sitetree/command.h"

const struct command *command_find(const char *noun, const char *verb)
{
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].noun, noun) == 0 &&
            (commands[i].verb ? verb && strcmp(commands[i].verb, verb) == 0 : verb == NULL))
            return &commands[i];
    return NULL;
}

char *command_name(const struct command *c, char out[64])
{
    snprintf(out, 64, "%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
    return out;
}

static bool noun_has_verbs(const char *noun)
{
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].noun, noun) == 0 && commands[i].verb)
            return true;
    return false;
}

static bool is_noun(const char *word)
{
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].noun, word) == 0)
            return true;
    return false;
}

/* "--name" or "--name=value" of an option that takes a value; which command it belongs to is not known yet.
 */
static bool takes_next_word(const char *word)
{
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (strcmp(option_rows[i].name, word) == 0)
            return option_rows[i].kind != OPTION_FLAG;
    return false;
}

/* The first words that are no options; returns how many of the two were found. */
static int first_words(int argc, char **argv, const char *words[2])
{
    int n = 0;
    for (int i = 1; i < argc && n < 2; i++) {
        if (strcmp(argv[i], "--") == 0)
            break;
        if (strncmp(argv[i], "--", 2) == 0)
            i += takes_next_word(argv[i] + 2);
        else if (argv[i][0] != '-' || !argv[i][1])
            words[n++] = argv[i];
    }
    return n;
}

static int unknown_noun(const char *word, const char **ret_hint)
{
    static char hint[96];
    const char *names[64], *near;
    size_t n = 0;
    for (size_t i = 0; i < nouns_count; i++)
        names[n++] = nouns[i].name;
    near = word_nearest(word, names, n);
    snprintf(hint, sizeof hint, near ? "sitetree %s" : "sitetree help", near ? near : "");
    /* A noun with verbs alone is no command. */
    if (near && noun_has_verbs(near))
        snprintf(hint, sizeof hint, "sitetree help %s", near);
    *ret_hint = hint;
    if (near)
        return err_fail(ERR_USAGE, "'%.40s' is no command; the nearest is '%s'", word, near);
    return err_fail(ERR_USAGE, "'%.40s' is no command", word);
}

static int unknown_verb(const char *noun, const char *word, const char **ret_hint)
{
    static char hint[96];
    const char *names[64], *near;
    AUTO_BUF all = {0};
    size_t n = 0;
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].noun, noun) == 0 && commands[i].verb) {
            buf_fmt(&all, "%s%s", n ? ", " : "", commands[i].verb);
            names[n++] = commands[i].verb;
        }
    buf_u8(&all, 0);
    snprintf(hint, sizeof hint, "sitetree help %s", noun);
    *ret_hint = hint;
    if (!word)
        return err_fail(ERR_USAGE, "say what to do: %s", (const char *)all.data);
    near = word_nearest(word, names, n);
    if (near) {
        snprintf(hint, sizeof hint, "sitetree %s %s", noun, near);
        const struct command *c = command_find(noun, near);
        if (c && c->args[0].meta && !c->args[0].optional)
            snprintf(hint, sizeof hint, "sitetree help %s %s", noun, near);
        return err_fail(ERR_USAGE, "'%.40s' is none of its verbs; the nearest is '%s'", word, near);
    }
    return err_fail(ERR_USAGE, "'%.40s' is none of its verbs (%s)", word, (const char *)all.data);
}

static const char *help_hint(const struct cli *cli)
{
    static char hint[96];
    char name[64];
    snprintf(hint, sizeof hint, "sitetree help %s", cli->command ? command_name(cli->command, name) : "");
    if (!cli->command)
        hint[strlen("sitetree help")] = 0;
    return hint;
}

static int unknown_option(const struct cli *cli, uint64_t set, const char *word)
{
    char name[64];
    const char *names[OPT_COUNT], *near;
    size_t len = strcspn(word, "=");
    bool elsewhere = false;
    snprintf(name, sizeof name, "%.*s", (int)(len < 63 ? len : 63), word);
    const char *plain = name + strspn(name, "-");
    for (size_t i = 0; i < OPT_COUNT; i++) {
        names[i] = option_in(set, (enum option_id)i) ? option_rows[i].name : NULL;
        elsewhere = elsewhere || strcmp(option_rows[i].name, plain) == 0;
    }
    if (elsewhere)
        return err_fail(ERR_USAGE, "option %s belongs to other commands%s", name,
            cli->command ? ", not to this one" : "");
    near = word_nearest(plain, names, OPT_COUNT);
    if (near)
        return err_fail(ERR_USAGE, "there is no option %s; the nearest is --%s", name, near);
    return err_fail(ERR_USAGE, "there is no option %s", name);
}

static int check_choice(const struct option_row *row, const char *value)
{
    const char *words[16];
    char all[200];
    size_t n = 0;
    snprintf(all, sizeof all, "%s", row->meta);
    char *save = NULL;
    for (char *w = strtok_r(all, "|", &save); w && n < COUNT_OF(words); w = strtok_r(NULL, "|", &save)) {
        words[n++] = w;
        if (strcmp(w, value) == 0)
            return 0;
    }
    const char *near = word_nearest(value, words, n);
    return err_fail(ERR_USAGE, "--%s: '%.40s' is not one of %s%s%s%s", row->name, value, row->meta,
        near ? "; the nearest is '" : "", near ? near : "", near ? "'" : "");
}

static int check_value(const struct option_row *row, const char *value)
{
    int64_t ns;
    char *end;
    int rc;
    switch (row->kind) {
    case OPTION_CHOICE:
        return check_choice(row, value);
    case OPTION_DURATION:
        rc = duration_parse(value, &ns);
        return rc ? err_fail(ERR_USAGE, "--%s: %s", row->name, err_text(rc)) : 0;
    case OPTION_NUMBER:
        errno = 0;
        return value[0] >= '0' && value[0] <= '9' && strtoull(value, &end, 10) <= INT32_MAX && !*end && !errno
                   ? 0
                   : err_fail(ERR_USAGE, "--%s: '%.40s' is not a number", row->name, value);
    case OPTION_FLAG:
    case OPTION_TEXT:
    case OPTION_LIST:
    case OPTION_FILE:
        break;
    }
    return 0;
}

static size_t getopt_table(uint64_t set, struct option *rows, char *letters)
{
    size_t n = 0;
    *letters++ = '-'; /* words come in their order, wherever options stand, also with POSIXLY_CORRECT */
    *letters++ = ':';
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if (!option_in(set, (enum option_id)i))
            continue;
        bool value = option_rows[i].kind != OPTION_FLAG;
        rows[n++] = (struct option){
            option_rows[i].name, value ? required_argument : no_argument, NULL, 1000 + (int)i};
        if (option_rows[i].letter)
            *letters++ = option_rows[i].letter;
    }
    *letters = 0;
    rows[n] = (struct option){0};
    return n;
}

static enum option_id option_of_letter(uint64_t set, int letter)
{
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_in(set, (enum option_id)i) && option_rows[i].letter == letter)
            return (enum option_id)i;
    return OPT_COUNT;
}

static int add_word(struct cli *cli, size_t *skip, const char *word)
{
    if (*skip) {
        --*skip; /* the noun, the verb */
        return 0;
    }
    if (cli->n_args == ARGS_MAX)
        return err_fail(ERR_USAGE, "more than %d words", ARGS_MAX);
    cli->args[cli->n_args++] = word;
    return 0;
}

static int parse_options(int argc, char **argv, struct cli *cli, size_t skip)
{
    uint64_t set = OPT_EVERYWHERE | (cli->command ? cli->command->options : OPT(OPT_VERSION));
    struct option rows[OPT_COUNT + 1];
    char letters[OPT_COUNT + 3];
    getopt_table(set, rows, letters);
    opterr = 0;
    optind = 0; /* begins anew, also in a program that has parsed before */
    int rc = 0, first = 0;
    for (int got; (got = getopt_long(argc, argv, letters, rows, NULL)) != -1;) {
        rc = 0;
        enum option_id id = got >= 1000 ? (enum option_id)(got - 1000)
                            : got > 1   ? option_of_letter(set, got)
                                        : OPT_COUNT;
        if (got == 1)
            rc = add_word(cli, &skip, optarg);
        else if (got == ':')
            rc = err_fail(ERR_USAGE, "%s needs a value", argv[optind - 1]);
        else if (got == '?' && optopt >= 1000)
            rc = err_fail(ERR_USAGE, "--%s takes no value", option_rows[optopt - 1000].name);
        else if (got == '?' && optopt)
            rc = err_fail(ERR_USAGE, "there is no option -%c", optopt);
        else if (got == '?')
            rc = unknown_option(cli, set, argv[optind - 1]);
        else if ((rc = optarg ? check_value(&option_rows[id], optarg) : 0) == 0)
            cli->options[id] = optarg ? optarg : "";
        if (rc && !first)
            first = rc; /* the others are read all the same: --json may come later */
        if (rc && first)
            break;
    }
    for (int i = optind; i < argc && !first; i++)
        first = add_word(cli, &skip, argv[i]);
    if (first) /* so that an error is JSON where JSON was asked for */
        for (int i = 1; i < argc; i++)
            if (strcmp(argv[i], "--json") == 0)
                cli->options[OPT_JSON] = "";
    return first;
}

static int check_words(const struct cli *cli)
{
    const struct command *c = cli->command;
    size_t least = 0, most = 0;
    for (size_t i = 0; i < COUNT_OF(c->args) && c->args[i].meta; i++) {
        least += !c->args[i].optional;
        most = c->args[i].many ? ARGS_MAX : most + 1;
    }
    if (cli->n_args < least)
        return err_fail(ERR_USAGE, "%s is missing", c->args[cli->n_args].meta);
    if (cli->n_args > most)
        return err_fail(ERR_USAGE, "'%.60s' is one word too many", cli->args[most]);
    for (size_t i = 0; i < cli->n_args; i++)
        if (!cli->args[i][0])
            return err_fail(ERR_USAGE, "an empty word where %s is wanted",
                c->args[i < 2 && c->args[i].meta ? i : 0].meta);
    return 0;
}

int command_parse(int argc, char **argv, struct cli *cli, const char **ret_hint)
{
    const char *words[2] = {NULL, NULL};
    int n = first_words(argc, argv, words);
    size_t skip = 0;
    cli->argc = argc;
    cli->argv = argv;
    *ret_hint = "sitetree help";
    int rc = 0;
    if (n > 0) {
        if (!is_noun(words[0])) {
            rc = unknown_noun(words[0], ret_hint);
        } else {
            cli->noun = words[0];
            bool verbs = noun_has_verbs(words[0]);
            cli->command = command_find(words[0], verbs ? words[1] : NULL);
            skip = verbs && n > 1 ? 2 : 1;
            if (!cli->command && n > 1)
                rc = unknown_verb(words[0], words[1], ret_hint);
        }
    }
    if (cli->command && (cli->command->flags & COMMAND_RAW))
        return 0;
    if (rc) {
        for (int i = 1; i < argc; i++)
            if (strcmp(argv[i], "--json") == 0)
                cli->options[OPT_JSON] = "";
        return rc;
    }
    if (n > 0)
        *ret_hint = help_hint(cli);
    rc = parse_options(argc, argv, cli, skip);
    if (rc || cli_has(cli, OPT_HELP) || cli_has(cli, OPT_VERSION))
        return rc;
    if (!cli->command)
        return n == 1 ? unknown_verb(words[0], NULL, ret_hint) : 0;
    return check_words(cli);
}

const char *cli_dir(const struct cli *c)
{
    const char *dir = c->options[OPT_DIR];
    if (!dir)
        dir = getenv("SITETREE_DIR");
    return dir && dir[0] ? dir : "/var/lib/sitetree";
}

const char *cli_socket(const struct cli *c)
{
    static char path[4200];
    char file[4096];
    struct config *config = NULL;
    snprintf(file, sizeof file, "%s/sitetree.conf", cli_dir(c));
    /* Where the configuration cannot be read, sitetreed cannot either; the default is the best guess. */
    int rc = config_load(file, &config);
    if (rc == 0 && config_text(config, CONFIG_RUN_DIR)[0])
        snprintf(path, sizeof path, "%s/control.sock", config_text(config, CONFIG_RUN_DIR));
    else
        snprintf(path, sizeof path, "%s/run/control.sock", cli_dir(c));
    config_free(config);
    return path;
}

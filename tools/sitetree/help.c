#include "tools/sitetree/run.h"

#include <stdio.h>

static void put_wrapped(struct buf *out, const char *text, size_t indent, size_t width)
{
    size_t column = indent;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ");
        if (column > indent && column + 1 + n > width) {
            buf_fmt(out, "\n%*s", (int)indent, "");
            column = indent;
        }
        buf_fmt(out, "%s%.*s", column > indent ? " " : "", (int)n, p);
        column += n + (column > indent);
        p += n + (p[n] == ' ');
    }
    buf_u8(out, '\n');
}

static void put_option_usage(const struct option_row *row, struct buf *out)
{
    buf_fmt(out, "--%s%s%s", row->name, row->meta[0] ? " " : "", row->meta);
}

void help_usage(const struct command *command, struct buf *out)
{
    char name[64];
    buf_fmt(out, "sitetree %s", command_name(command, name));
    for (size_t i = 0; i < COUNT_OF(command->args) && command->args[i].meta; i++) {
        const struct arg *a = &command->args[i];
        buf_fmt(
            out, " %s%s%s%s", a->optional ? "[" : "", a->meta, a->optional ? "]" : "", a->many ? "..." : "");
    }
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_in(command->options, (enum option_id)i)) {
            buf_str(out, " [");
            put_option_usage(&option_rows[i], out);
            buf_u8(out, ']');
        }
}

static void put_option(const struct option_row *row, struct buf *out)
{
    char left[80];
    AUTO_BUF usage = {0};
    put_option_usage(row, &usage);
    buf_u8(&usage, 0);
    snprintf(left, sizeof left, "%s%c%s%s", row->letter ? "-" : "", row->letter ? row->letter : ' ',
        row->letter ? ", " : "   ", (const char *)usage.data);
    buf_fmt(out, "  %-32s", left);
    if (strlen(left) > 31)
        buf_fmt(out, "\n%34s", "");
    put_wrapped(out, row->sentence, 34, 100);
}

static void put_exits(const struct command *command, struct buf *out)
{
    buf_str(out, "exit  0 done, 1 failed, 2 usage");
    if (command->flags & COMMAND_NOT_FINE)
        buf_str(out, ", 3 answered, and it is not fine");
    if (command->flags & COMMAND_WAITS)
        buf_str(out, ", 4 the time ran out");
    buf_u8(out, '\n');
}

void help_command(const struct command *command, struct buf *out)
{
    help_usage(command, out);
    buf_str(out, "\n  ");
    put_wrapped(out, command->sentence, 2, 100);
    if (command->more) {
        buf_str(out, "  ");
        put_wrapped(out, command->more, 2, 100);
    }
    buf_u8(out, '\n');
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_in(command->options, (enum option_id)i))
            put_option(&option_rows[i], out);
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_in(OPT_EVERYWHERE, (enum option_id)i))
            put_option(&option_rows[i], out);
    buf_u8(out, '\n');
    put_exits(command, out);
}

void help_noun(const char *noun, struct buf *out)
{
    const struct command *alone = command_find(noun, NULL);
    if (alone) {
        help_command(alone, out);
        return;
    }
    for (size_t i = 0; i < nouns_count; i++)
        if (strcmp(nouns[i].name, noun) == 0)
            buf_fmt(out, "sitetree %s: %s\n\n", noun, nouns[i].sentence);
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].noun, noun) == 0) {
            char name[64];
            buf_fmt(out, "  %-20s  ", command_name(&commands[i], name));
            put_wrapped(out, commands[i].sentence, 24, 100);
        }
    buf_fmt(out, "\nsitetree help %s VERB tells more\n", noun);
}

void help_overview(struct buf *out)
{
    buf_str(out, "sitetree NOUN [VERB] [WORDS] [OPTIONS]: a tree of sites that holds one signed catalogue of "
                 "updates\n\n");
    for (size_t i = 0; i < nouns_count; i++) {
        AUTO_BUF verbs = {0};
        for (size_t j = 0; j < commands_count; j++)
            if (strcmp(commands[j].noun, nouns[i].name) == 0 && commands[j].verb)
                buf_fmt(&verbs, "%s%s", verbs.len ? " " : "", commands[j].verb);
        buf_u8(&verbs, 0);
        if (!verbs.data[0] && !command_find(nouns[i].name, NULL))
            continue;
        buf_fmt(out, "  %-10s %s\n", nouns[i].name, nouns[i].sentence);
        if (verbs.data[0])
            buf_fmt(out, "  %-10s %s\n", "", (const char *)verbs.data);
    }
    buf_str(out, "\nsitetree help NOUN [VERB] tells more; every command takes --json\n"
                 "begin with: sitetree site init --central, or sitetree site join TOKEN\n");
}

int run_version(struct cli *c)
{
    if (c->output.json)
        output_data(&c->output, "version", json_pack("{s:s}", "version", SITETREE_VERSION));
    else
        fprintf(c->output.out, "sitetree %s\n", SITETREE_VERSION);
    return 0;
}

int run_help(struct cli *c)
{
    AUTO_BUF text = {0};
    const struct command *command = NULL;
    bool known = true;
    if (c->n_args > 2)
        known = false;
    else if (c->n_args == 2)
        known = (command = command_find(c->args[0], c->args[1])) != NULL;
    else if (c->n_args == 1) {
        known = false;
        for (size_t i = 0; i < commands_count; i++)
            known = known || strcmp(commands[i].noun, c->args[0]) == 0;
    }
    if (!known)
        return output_fail(&c->output,
            err_fail(ERR_USAGE, "there is no command '%.40s%s%.40s'", c->args[0], c->n_args > 1 ? " " : "",
                c->n_args > 1 ? c->args[1] : ""),
            "sitetree help");
    if (command)
        help_command(command, &text);
    else if (c->n_args == 1)
        help_noun(c->args[0], &text);
    else
        help_overview(&text);
    if (c->output.json)
        output_data(&c->output, "help", json_pack("{s:s%}", "text", text.data, text.len));
    else
        output_text(&c->output, buf_view(&text));
    return 0;
}

/* Writes the man pages, as scdoc, from the tables of commands, options, views, errors and configuration keys.
 * Runs at build time: sitetree-pages PAGE, or --list for the names of the pages. */
#include <stdio.h>

#include "common/config/config.h"
#include "tools/sitetree/command.h"
#include "tools/sitetree/run.h"

static void put(struct buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("\\*_~`#[|]<>", *p))
            buf_u8(out, '\\');
        buf_u8(out, (uint8_t)*p);
    }
}

static void bold(struct buf *out, const char *text)
{
    buf_u8(out, '*');
    put(out, text);
    buf_u8(out, '*');
}

static void head(struct buf *out, const char *name, int section, const char *sentence)
{
    buf_fmt(
        out, "%s(%d) \"sitetree %s\" \"sitetree\"\n\n# NAME\n\n%s - ", name, section, SITETREE_VERSION, name);
    put(out, sentence);
    buf_str(out, "\n");
}

static void put_option(struct buf *out, const struct option_row *row)
{
    if (row->letter)
        buf_fmt(out, "*-%c*, ", row->letter);
    char name[64];
    snprintf(name, sizeof name, "--%s", row->name);
    bold(out, name);
    if (row->meta[0]) {
        buf_u8(out, ' ');
        put(out, row->meta);
    }
    buf_str(out, "\n\t");
    put(out, row->sentence);
    buf_str(out, "\n\n");
}

static void put_options(struct buf *out, uint64_t set)
{
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_in(set, (enum option_id)i))
            put_option(out, &option_rows[i]);
}

static void put_usage(struct buf *out, const struct command *c)
{
    char name[64], whole[80];
    snprintf(whole, sizeof whole, "sitetree %s", command_name(c, name));
    AUTO_BUF usage = {0};
    help_usage(c, &usage);
    buf_u8(&usage, 0);
    bold(out, whole);
    put(out, (const char *)usage.data + strlen(whole));
}

static void put_exits(struct buf *out, unsigned flags)
{
    buf_str(out, "# EXIT STATUS\n\n*0*\n\tDone; or yes, it is so.\n\n*1*\n\tFailed, or no "
                 "answer.\n\n*2*\n\tThe words of the command "
                 "are off.\n\n");
    if (flags & COMMAND_NOT_FINE)
        buf_str(out,
            "*3*\n\tAnswered, and it is not fine: behind, differs, partly, or something would change.\n\n");
    if (flags & COMMAND_WAITS)
        buf_str(out, "*4*\n\tThe time ran out.\n\n");
}

static void put_fields(struct buf *out, const struct section *s)
{
    for (const struct field *f = s->fields; f && f->title; f++) {
        buf_str(out, "|  ");
        put(out, f->title);
        buf_str(out, "\n:  data");
        if (s->path[0]) {
            buf_u8(out, '.');
            put(out, s->path);
        }
        buf_str(out, s->kind == SECTION_TABLE ? "\\[\\]." : ".");
        put(out, f->path);
        buf_u8(out, '\n');
    }
    if (s->kind == SECTION_LINES) {
        buf_str(out, "|  ");
        put(out, s->title);
        buf_str(out, "\n:  data.");
        put(out, s->path);
        buf_str(out, "\\[\\]\n");
    }
}

static void put_mapping(struct buf *out, const struct command *c)
{
    if (!c->view)
        return;
    buf_fmt(
        out, "The answer with *--json* has the schema *sitetree.%s/1*:\n\n|[ *text*\n:[ *JSON*\n", c->schema);
    for (const struct section *s = c->view->sections; s->kind != SECTION_END; s++)
        put_fields(out, s);
    buf_u8(out, '\n');
}

static void put_command(struct buf *out, const struct command *c, bool alone)
{
    char name[64];
    if (!alone)
        buf_fmt(out, "## %s\n\n", command_name(c, name));
    put_usage(out, c);
    buf_str(out, "\n\n");
    if (!alone) {
        put(out, c->sentence);
        buf_str(out, ".\n\n");
    }
    if (c->more) {
        put(out, c->more);
        buf_str(out, "\n\n");
    }
    put_options(out, c->options);
    put_mapping(out, c);
}

static void noun_page(struct buf *out, const struct noun *noun)
{
    char name[80];
    unsigned flags = 0;
    const struct command *alone = command_find(noun->name, NULL);
    snprintf(name, sizeof name, "sitetree-%s", noun->name);
    head(out, name, 1, noun->sentence);
    buf_str(out, alone ? "\n# DESCRIPTION\n\n" : "\n# COMMANDS\n\n");
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].noun, noun->name) == 0) {
            put_command(out, &commands[i], alone != NULL);
            flags |= commands[i].flags;
        }
    buf_str(out, "# COMMON OPTIONS\n\n");
    put_options(out, OPT_EVERYWHERE);
    put_exits(out, flags);
    buf_str(out, "# SEE ALSO\n\n*sitetree*(1), *sitetreed*(8)\n");
}

static const char *const main_text =
    "A site holds the catalogue of updates that the central site signed, passes it on to the sites below it, "
    "and says "
    "upward how it fares. *sitetree* asks the *sitetreed* of this site over a socket in its folder; it needs "
    "no address "
    "and no login, but the user of the daemon, or root.\n\n"
    "The answer goes to the standard output, progress and remarks to the standard error. The first column of "
    "a list is a "
    "name that fits into the next command. A number that is not known is *?*, never 0; *as of* says how old "
    "an answer is. "
    "A narrow terminal loses columns from the right. There is colour on a terminal only.\n\n";

static void main_page(struct buf *out)
{
    head(out, "sitetree", 1, "a tree of sites that holds one signed catalogue of updates");
    buf_str(
        out, "\n# SYNOPSIS\n\n*sitetree* NOUN \\[VERB\\] \\[WORD...\\] \\[OPTION...\\]\n\n# DESCRIPTION\n\n");
    buf_str(out, main_text);
    buf_str(out, "# NOUNS\n\n");
    for (size_t i = 0; i < nouns_count; i++) {
        AUTO_BUF verbs = {0};
        bool there = command_find(nouns[i].name, NULL) != NULL;
        for (size_t j = 0; j < commands_count; j++)
            if (strcmp(commands[j].noun, nouns[i].name) == 0 && commands[j].verb)
                buf_fmt(&verbs, "%s%s", verbs.len ? ", " : "", commands[j].verb);
        if (!there && !verbs.len)
            continue;
        buf_u8(&verbs, 0);
        buf_fmt(out, "*sitetree-%s*(1)\n\t", nouns[i].name);
        put(out, nouns[i].sentence);
        if (verbs.data[0])
            buf_fmt(out, ". Verbs: %s", (const char *)verbs.data);
        buf_str(out, ".\n\n");
    }
    buf_str(out, "# OPTIONS\n\nEvery command takes these:\n\n");
    put_options(out, OPT_EVERYWHERE | OPT(OPT_VERSION));
    buf_str(out, "# JSON\n\nWith *--json* every answer is one object a line: *schema*, *as\\_of*, *data*; an "
                 "error is the schema "
                 "*sitetree.error/1* with *code*, *message* and *hint*. The exit status is the same. "
                 "Durations are seconds, sizes are "
                 "bytes, times are RFC 3339, what is not known is null.\n\n");
    put_exits(out, COMMAND_NOT_FINE | COMMAND_WAITS);
    buf_str(out, "# ERRORS\n\nEach error has a word, and a command that helps:\n\n");
    static const int codes[] = {
#define CODE_OF(name, number, word, text, hint) name,
        ERR_TABLE(CODE_OF)
#undef CODE_OF
    };
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        bold(out, err_word(codes[i]));
        buf_str(out, "\n\t");
        put(out, err_sentence(codes[i]));
        if (err_hint(codes[i])[0]) {
            buf_str(out, "; try: ");
            put(out, err_hint(codes[i]));
        }
        buf_str(out, "\n\n");
    }
    buf_str(out, "# ENVIRONMENT\n\n*SITETREE\\_DIR*\n\tThe folder of the site, where *--dir* is not "
                 "given.\n\n*NO\\_COLOR*\n\tNo colour, when "
                 "it is not empty; *--color* is stronger.\n\n# FILES\n\n_/var/lib/sitetree_\n\tThe folder of "
                 "the site: keys, stores, "
                 "configuration.\n\n# EXAMPLES\n\nA new tree, and a site below it:\n\n```\nsitetree site "
                 "init --central\n"
                 "sitetree upstream add --from-system\nsitetree sync now --wait\nsitetree site invite P01 "
                 "--tier primary\n```\n\n"
                 "At the other machine:\n\n```\nsitetree site join st1-...\nsitetree status\n```\n\n"
                 "# SEE ALSO\n\n*sitetreed*(8), *sitetree.conf*(5)\n");
}

static void daemon_page(struct buf *out)
{
    head(out, "sitetreed", 8, "the daemon of one site of a tree");
    buf_str(out,
        "\n# SYNOPSIS\n\n*sitetreed* \\[*--dir* DIR\\] \\[*--check* | *--print-config*\\]\n\n# "
        "DESCRIPTION\n\n"
        "Answers the sites below, asks the site above, and keeps the workers of this site alive. It owns the "
        "two public "
        "sockets, the keys, and the control socket that *sitetree*(1) asks. It is made by *sitetree site "
        "init* or *sitetree "
        "site join*, and stays in the foreground.\n\n# OPTIONS\n\n"
        "*--dir* DIR\n\tThe folder of the site; without it SITETREE\\_DIR, or /var/lib/sitetree.\n\n"
        "*--check*\n\tChecks the configuration and the folder, says what is wrong with file and line, and "
        "ends.\n\n"
        "*--print-config*\n\tPrints the configuration that holds, with the defaults; the text can be used as "
        "a file.\n\n"
        "*--version*\n\tPrints the version.\n\n"
        "# SIGNALS\n\n*TERM*, *INT*\n\tA clean stop: the workers end first, and nothing that was "
        "acknowledged is lost.\n\n"
        "*HUP*\n\tReads the configuration again, as *sitetree reload* does.\n\n"
        "# FILES\n\n_DIR/sitetree.conf_\n\tThe configuration, see *sitetree.conf*(5).\n\n"
        "_DIR/keys_\n\tThe keys, readable by the daemon's user only. *root.key* at the central site can be "
        "taken offline.\n\n"
        "_DIR/run/control.sock_\n\tThe control socket.\n\n# SEE ALSO\n\n*sitetree*(1), *sitetree.conf*(5)\n");
}

static void config_page(struct buf *out)
{
    head(out, "sitetree.conf", 5, "the configuration of one site");
    buf_str(out, "\n# DESCRIPTION\n\n_sitetree.conf_ in the folder of a site holds lines of the form _key = "
                 "value_. A value with other than "
                 "letters, digits, dots and dashes stands in double quotes. What follows a # or // is a "
                 "comment. A key that is "
                 "unknown, repeated or out of range is refused with file and line; *sitetreed --check* says "
                 "so without starting.\n\n"
                 "A duration is a number with *ms*, *s*, *m*, *h* or *d*. A size is a number with *KiB*, "
                 "*MiB*, *GiB*, *TiB* or *kB*, *MB*, "
                 "*GB*, *TB*, or none for bytes; for a rate */s* may follow.\n\n"
                 "Keys marked as reloadable take effect with *sitetree reload*, the others at the next "
                 "start.\n\n# KEYS\n\n");
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        bold(out, row->name);
        buf_fmt(out, " (%s", config_type_text(row->type));
        if (row->least[0])
            buf_fmt(out, ", %s to %s", row->least, row->most);
        buf_fmt(out, "; default %s%s)\n\t", row->def[0] ? row->def : "derived",
            row->reload ? "; reloadable" : "");
        put(out, row->sentence);
        buf_str(out, "\n\n");
    }
    buf_str(out, "# SEE ALSO\n\n*sitetreed*(8), *sitetree*(1)\n");
}

static int page(const char *name, struct buf *out)
{
    if (strcmp(name, "sitetree.1") == 0)
        main_page(out);
    else if (strcmp(name, "sitetreed.8") == 0)
        daemon_page(out);
    else if (strcmp(name, "sitetree.conf.5") == 0)
        config_page(out);
    for (size_t i = 0; i < nouns_count; i++) {
        char own[64];
        snprintf(own, sizeof own, "sitetree-%s.1", nouns[i].name);
        if (strcmp(own, name) == 0)
            noun_page(out, &nouns[i]);
    }
    return out->len && !out->err ? 0 : 1;
}

int main(int argc, char **argv)
{
    AUTO_BUF out = {0};
    if (argc != 2 || page(argv[1], &out) != 0) {
        fprintf(stderr,
            "usage: sitetree-pages PAGE (sitetree.1, sitetree-NOUN.1, sitetreed.8, sitetree.conf.5)\n");
        return 2;
    }
    return fwrite(out.data, 1, out.len, stdout) == out.len ? 0 : 1;
}

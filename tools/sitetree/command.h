/* The one table of commands. Parser, help, usage errors, completion and man pages come from it. */
#pragma once
#include "tools/sitetree/option.h"
#include "tools/sitetree/output.h"
#include "tools/sitetree/view.h"

#define ARGS_MAX 2048

enum command_flag {
    COMMAND_CHANGES = 1,
    COMMAND_DESTROYS = 2, /* asks, or wants --yes */
    COMMAND_NOT_FINE = 4, /* exit 3 is possible */
    COMMAND_WAITS = 8,    /* exit 4 is possible */
    COMMAND_HIDDEN = 16,
    COMMAND_RAW = 32,  /* parses its own words */
    COMMAND_LONG = 64, /* the daemon may be silent for minutes before it answers */
};

/* What an argument is: completion fetches names of that kind. */
enum arg_kind { ARG_NONE, ARG_TEXT, ARG_SITE, ARG_RUN, ARG_UPSTREAM, ARG_UPDATE, ARG_FILE, ARG_COMMAND };
struct arg {
    const char *meta, *key; /* key: argument of the control command, or NULL */
    enum arg_kind kind;
    bool optional, many;
};

struct cli;
struct command {
    const char *noun, *verb; /* verb NULL: the noun alone is the command */
    struct arg args[2];
    uint64_t options; /* beside OPT_EVERYWHERE */
    unsigned flags;
    const char *control; /* command of the control socket that it asks first, or NULL */
    const char *schema;  /* of the JSON answer, without "sitetree." and "/1" */
    const struct screen *view;
    int (*run)(struct cli *c); /* NULL: ask, and show the view */
    const char *sentence;
    const char *more; /* further text for the man page, or NULL */
};
extern const struct command commands[];
extern const size_t commands_count;

struct noun {
    const char *name, *sentence;
};
extern const struct noun nouns[];
extern const size_t nouns_count;

/* A command line taken apart. Words and values are borrowed from argv. */
struct cli {
    const struct command *command;
    const char *noun; /* the first word where it is a noun; also without a command (sitetree site --help) */
    const char *args[ARGS_MAX];
    size_t n_args;
    const char *options[OPT_COUNT]; /* value, "" for a flag that is set, NULL for what was not given */
    struct output output;
    int argc;
    char **argv;
};

static inline bool cli_has(const struct cli *c, enum option_id id)
{
    return c->options[id] != NULL;
}

const struct command *command_find(const char *noun, const char *verb);
/* Takes argv apart. 0; ERR_USAGE with a text that names the nearest word, and *ret_hint (static storage) the
 * help that fits. cli->command is NULL after success where only --help or --version was asked. Sets options
 * even on failure, as far as they were read. */
int command_parse(int argc, char **argv, struct cli *cli, const char **ret_hint) MUST_CHECK;
/* The name as it is typed: "sync now". out needs 64 bytes. */
char *command_name(const struct command *c, char out[64]);

/* Folder of the site, and the path of its control socket. Static storage; the second may give NULL and an
 * error text. */
const char *cli_dir(const struct cli *c);
const char *cli_socket(const struct cli *c);

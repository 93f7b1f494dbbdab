#include "tools/sitetree/run.h"

#include <stdio.h>

static void offer(struct buf *out, const char *beginning, const char *word)
{
    if (strncmp(word, beginning, strlen(beginning)) == 0)
        buf_fmt(out, "%s\n", word);
}

static const struct option_row *option_named(const char *word, uint64_t set)
{
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_in(set, (enum option_id)i) && strncmp(word, "--", 2) == 0 &&
            strcmp(word + 2, option_rows[i].name) == 0)
            return &option_rows[i];
    return NULL;
}

static void offer_values(const struct option_row *row, const char *beginning, struct buf *out)
{
    char words[200], *save = NULL;
    if (row->kind != OPTION_CHOICE)
        return;
    snprintf(words, sizeof words, "%s", row->meta);
    for (char *w = strtok_r(words, "|", &save); w; w = strtok_r(NULL, "|", &save))
        offer(out, beginning, w);
}

static void offer_commands(const char *noun, const char *beginning, struct buf *out)
{
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        if (c->flags & COMMAND_HIDDEN)
            continue;
        if (noun && strcmp(c->noun, noun) == 0 && c->verb)
            offer(out, beginning, c->verb);
        if (!noun && (i == 0 || strcmp(commands[i - 1].noun, c->noun) != 0))
            offer(out, beginning, c->noun);
    }
}

static void offer_names(enum arg_kind kind, const char *beginning,
    void (*names)(void *, enum arg_kind, struct buf *), void *ctx, struct buf *out)
{
    AUTO_BUF all = {0};
    char *save = NULL;
    names(ctx, kind, &all);
    buf_u8(&all, 0);
    for (char *w = all.err ? NULL : strtok_r((char *)all.data, "\n", &save); w;
         w = strtok_r(NULL, "\n", &save))
        offer(out, beginning, w);
}

void complete_words(const char *const *words, size_t n,
    void (*names)(void *ctx, enum arg_kind kind, struct buf *out), void *ctx, struct buf *out)
{
    const char *last = n ? words[n - 1] : "", *noun = NULL, *verb = NULL;
    size_t args = 0;
    bool verbs = false;
    for (size_t i = 0; i + 1 < n; i++) {
        if (words[i][0] == '-') {
            const struct option_row *row = option_named(words[i], ~UINT64_C(0));
            i += row && row->kind != OPTION_FLAG && i + 2 < n;
        } else if (!noun) {
            noun = words[i];
            for (size_t j = 0; j < commands_count; j++)
                verbs = verbs || (strcmp(commands[j].noun, noun) == 0 && commands[j].verb);
        } else if (verbs && !verb) {
            verb = words[i];
        } else {
            args++;
        }
    }
    const struct command *c = noun ? command_find(noun, verb) : NULL;
    uint64_t set = OPT_EVERYWHERE | (c ? c->options : 0);
    const struct option_row *row = n > 1 ? option_named(words[n - 2], set) : NULL;
    if (row && row->kind != OPTION_FLAG) {
        offer_values(row, last, out);
        if (strcmp(row->name, "below") == 0 || strcmp(row->name, "site") == 0)
            offer_names(ARG_SITE, last, names, ctx, out);
        if (row == &option_rows[OPT_FOR])
            for (size_t i = 0; i < 4; i++)
                offer(out, last, (const char *const[]){"current", "live", "joined", "run="}[i]);
    } else if (last[0] == '-') {
        for (size_t i = 0; i < OPT_COUNT; i++) {
            char name[64];
            snprintf(name, sizeof name, "--%s", option_rows[i].name);
            if (option_in(set, (enum option_id)i))
                offer(out, last, name);
        }
    } else if (!noun) {
        offer_commands(NULL, last, out);
    } else if (!c) {
        if (!verb)
            offer_commands(noun, last, out);
    } else {
        size_t i = args < COUNT_OF(c->args) && c->args[args].meta ? args : 0;
        if (c->args[i].meta && c->args[i].kind == ARG_COMMAND)
            offer_commands(args ? words[n - 2] : NULL, last, out);
        else if (c->args[i].meta && (args == i || c->args[i].many))
            offer_names(c->args[i].kind, last, names, ctx, out);
    }
}

/* Names that only the daemon knows. Nobody waits for a shell: a short time, and silence on any failure. */
static void names_of_daemon(void *ctx, enum arg_kind kind, struct buf *out)
{
    static const struct {
        enum arg_kind kind;
        const char *command, *list, *name;
    } sources[] = {{ARG_SITE, "site.list", "sites", "site"}, {ARG_RUN, "sync.list", "runs", "run"},
        {ARG_UPSTREAM, "upstream.list", "upstreams", "name"}};
    struct control *control = NULL;
    for (size_t s = 0; s < COUNT_OF(sources); s++) {
        if (sources[s].kind != kind || ask_open(ctx, 200 * NS_PER_MS, &control) != 0)
            continue;
        json_t *reply = NULL, *row, *args = json_pack("{s:b}", "all", 1);
        size_t i;
        int exit_code;
        if (ask_once(control, sources[s].command, args, &reply, &exit_code) == 0)
            json_array_foreach(json_object_get(json_object_get(reply, "data"), sources[s].list), i, row)
            {
                const char *name = json_string_value(json_object_get(row, sources[s].name));
                if (name)
                    buf_fmt(out, "%s\n", name);
            }
        json_decref(reply);
        json_decref(args);
        control_close(control);
        control = NULL;
    }
}

int run_complete(struct cli *c)
{
    AUTO_BUF out = {0};
    for (int i = 2; i + 1 < c->argc; i++) /* so that names come from the right site */
        if (strcmp(c->argv[i], "--dir") == 0)
            c->options[OPT_DIR] = c->argv[i + 1];
    complete_words(
        (const char *const *)c->argv + 2, c->argc > 2 ? (size_t)c->argc - 2 : 0, names_of_daemon, c, &out);
    output_text(&c->output, buf_view(&out));
    return 0;
}

/* Waiting: for sites, and for runs. Polls over one connection, and dials again when the daemon was away. */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "tools/sitetree/draw.h"
#include "tools/sitetree/run.h"
#include "tools/sitetree/views.h"

#define POLL_MS 250
#define CALL_NS (10 * NS_PER_S)

static int64_t now_ns(void)
{
    return clock_mono(&clock_real).ns;
}

static int64_t until_of(const struct cli *c)
{
    int64_t ns = 0;
    if (!cli_has(c, OPT_TIMEOUT) || duration_parse(c->options[OPT_TIMEOUT], &ns) != 0)
        return 0;
    return now_ns() + (ns ? ns : 1);
}

static bool over(int64_t until)
{
    return until && now_ns() >= until;
}

static const char *text_at(const json_t *from, const char *path)
{
    return json_string_value(view_at(from, path));
}

/* --- runs
 * -------------------------------------------------------------------------------------------------------- */

static void show_progress(struct cli *c, struct control *control, const char *run)
{
    json_t *reply = NULL;
    int exit_code;
    if (ask_once(control, "sync.status", NULL, &reply, &exit_code) != 0)
        return;
    const json_t *data = json_object_get(reply, "data");
    const char *active = text_at(data, "run");
    AUTO_BUF line = {0};
    buf_fmt(&line, "run %s  ", run);
    if (active && strcmp(active, run) == 0)
        draw_progress(data, &line);
    else
        buf_fmt(&line, "waits behind %s", active ? active : "?");
    buf_u8(&line, 0);
    output_progress(&c->output, (const char *)line.data, false);
    json_decref(reply);
}

int wait_run(struct cli *c, struct control *control, const char *run, int64_t until_ns, json_t **ret_reply)
{
    int rc, exit_code;
    json_t *args = json_pack("{s:s}", "run", run);
    for (;;) {
        json_t *reply = NULL;
        rc = ask_once(control, "sync.show", args, &reply, &exit_code);
        if (rc)
            break;
        if (ask_is_error(reply) || text_at(reply, "data.result")) {
            *ret_reply = reply;
            break;
        }
        if (text_at(reply, "data.waits_for")) {
            *ret_reply = reply;
            break;
        }
        char phase[64];
        snprintf(
            phase, sizeof phase, "%s", text_at(reply, "data.phase") ? text_at(reply, "data.phase") : "?");
        json_decref(reply);
        if (over(until_ns)) {
            rc = err_fail(ERR_TIMEOUT, "run %s has not ended; it is in phase %s", run, phase);
            break;
        }
        show_progress(c, control, run);
        poll(NULL, 0, POLL_MS);
    }
    output_progress(&c->output, NULL, false);
    json_decref(args);
    return rc;
}

static int failed(struct cli *c, int rc)
{
    return rc == ERR_TIMEOUT ? output_fail(&c->output, rc, "sitetree sync status") : ask_fail(c, rc);
}

static int exit_of_run(const json_t *reply)
{
    if (text_at(reply, "data.waits_for"))
        return 3;
    const char *result = text_at(reply, "data.result");
    return result && strcasecmp(result, "succeeded") == 0 ? 0 : 1;
}

/* Shows sync.show whatever the command is. */
static int show_run(struct cli *c, json_t *reply)
{
    static const struct command *show;
    const struct command *own = c->command;
    int exit_code = ask_is_error(reply) ? 1 : exit_of_run(reply);
    show = command_find("sync", "show");
    c->command = show;
    ask_show(c, reply);
    c->command = own;
    if (text_at(reply, "data.waits_for") && !c->output.json)
        output_note(&c->output, "it waits for %s\ntry: sitetree sync approve %s, or sitetree sync reject %s",
            text_at(reply, "data.waits_for"), text_at(reply, "data.run"), text_at(reply, "data.run"));
    json_decref(reply);
    return exit_code;
}

int run_sync_now(struct cli *c)
{
    struct control *control = NULL;
    json_t *reply = NULL, *args = ask_args(c), *shown = NULL;
    int exit_code = 1;
    int64_t until = until_of(c);
    int rc = ask_open(c, 3 * CALL_NS, &control);
    if (rc == 0)
        rc = ask_once(control, c->command->control, args, &reply, &exit_code);
    json_decref(args);
    const char *run = rc ? NULL : text_at(reply, "data.run");
    if (rc == 0 && (!cli_has(c, OPT_WAIT) || ask_is_error(reply) || !run)) {
        ask_show(c, reply);
    } else if (rc == 0) {
        rc = wait_run(c, control, run, until, &shown);
        if (rc == 0)
            exit_code = show_run(c, shown);
    }
    json_decref(reply);
    control_close(control);
    return rc ? failed(c, rc) : exit_code;
}

static int wait_for_run(struct cli *c, const char *run)
{
    struct control *control = NULL;
    json_t *reply = NULL;
    int rc = ask_open(c, CALL_NS, &control);
    if (rc == 0)
        rc = wait_run(c, control, run, until_of(c), &reply);
    control_close(control);
    return rc ? failed(c, rc) : show_run(c, reply);
}

/* --- sites
 * ---------------------------------------------------------------------------------------------------------
 */

enum goal { GOAL_CURRENT, GOAL_LIVE, GOAL_JOINED };

struct waiting {
    struct cli *c;
    enum goal goal;
    json_int_t generation; /* pinned at the start; -1 while nothing is known */
    int64_t begun;
    json_t *sites;        /* name -> {site, reached, seconds, generation, cause}; in the order of arrival */
    const char *hopeless; /* a named site that is not there */
};

static const json_t *row_of(const json_t *rows, const char *site)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *name = text_at(row, "site");
        if (name && strcmp(name, site) == 0)
            return row;
    }
    return NULL;
}

static bool reached(const struct waiting *w, const json_t *row)
{
    const char *class_name = row ? text_at(row, "class") : NULL;
    const json_t *generation = row ? view_at(row, "generation") : NULL;
    if (!row)
        return false;
    if (w->goal == GOAL_JOINED)
        return true;
    if (!class_name || strcmp(class_name, "broken") == 0 || strcmp(class_name, "not-heard") == 0)
        return false;
    if (w->goal == GOAL_LIVE)
        return strcmp(class_name, "live") == 0;
    return w->generation >= 0 && json_is_integer(generation) &&
           json_integer_value(generation) >= w->generation;
}

static void arrive(struct waiting *w, const char *site, const json_t *row)
{
    char took[24];
    AUTO_BUF generation = {0};
    double seconds = (double)(now_ns() - w->begun) / 1e9;
    json_t *entry = json_pack("{s:s, s:b, s:f, s:O?, s:n}", "site", site, "reached", 1, "seconds", seconds,
        "generation", view_at(row, "generation"), "cause");
    json_object_set_new(w->sites, site, entry);
    if (w->c->output.json)
        return;
    output_progress(&w->c->output, NULL, false);
    const struct field f = {"generation", "generation", FORMAT_NUMBER, 0};
    view_value(&w->c->output, &f, row, &generation);
    buf_u8(&generation, 0);
    fprintf(w->c->output.out, "%s  generation %s  after %s\n", site, (const char *)generation.data,
        duration_text((int64_t)(seconds * 1e9), took));
    fflush(w->c->output.out);
}

static void miss(struct waiting *w, const char *site, const json_t *row)
{
    const json_t *cause = row ? view_at(row, "cause") : NULL;
    const json_t *class_name = row ? view_at(row, "class") : NULL;
    json_t *entry = json_pack("{s:s, s:b, s:n, s:O?, s:O?}", "site", site, "reached", 0, "seconds",
        "generation", row ? view_at(row, "generation") : NULL, "cause", cause ? cause : class_name);
    json_object_set_new(w->sites, site, entry);
}

/* Takes one look; returns how many are missing, and how many there are. */
static size_t look(struct waiting *w, const json_t *rows, size_t *ret_all)
{
    struct cli *c = w->c;
    size_t n = c->n_args ? c->n_args : json_array_size(rows), missing = 0;
    for (size_t i = 0; i < n; i++) {
        const char *site = c->n_args ? c->args[i] : text_at(json_array_get(rows, i), "site");
        const json_t *row = site ? row_of(rows, site) : NULL;
        bool before = site && json_is_true(view_at(json_object_get(w->sites, site), "reached"));
        if (!row && site && w->goal != GOAL_JOINED && !before)
            w->hopeless = site;
        if (!site || before)
            continue;
        if (reached(w, row)) {
            arrive(w, site, row);
        } else {
            miss(w, site, row);
            missing++;
        }
    }
    *ret_all = n;
    return missing;
}

static void show_waiting(struct waiting *w, size_t missing, size_t all)
{
    AUTO_BUF line = {0};
    const char *site;
    json_t *entry;
    size_t shown = 0;
    buf_fmt(&line, "%zu of %zu sites", all - missing, all);
    json_object_foreach(
        w->sites, site, entry) if (!json_is_true(json_object_get(entry, "reached")) && shown++ < 4)
        buf_fmt(&line, "%s %s (%s)", shown == 1 ? "; not yet:" : ",", site,
            text_at(entry, "cause") ? text_at(entry, "cause") : "not in the tree");
    if (shown > 4)
        buf_fmt(&line, " and %zu more", shown - 4);
    buf_u8(&line, 0);
    output_progress(&w->c->output, (const char *)line.data, false);
}

static void pin(struct waiting *w, struct control *control)
{
    json_t *reply = NULL;
    int exit_code;
    if (w->generation >= 0 || w->goal != GOAL_CURRENT ||
        ask_once(control, "status", NULL, &reply, &exit_code) != 0)
        return;
    const json_t *generation = view_at(reply, "data.generation");
    if (json_is_integer(generation)) {
        w->generation = json_integer_value(generation);
        output_note(&w->c->output, "waiting for generation %" JSON_INTEGER_FORMAT, w->generation);
    }
    json_decref(reply);
}

static const char *const goal_words[] = {"current", "live", "joined"};

static int finish(struct waiting *w, int rc)
{
    static const struct field fields[] = {{"site", "site", FORMAT_TEXT},
        {"generation", "generation", FORMAT_NUMBER}, {"cause", "cause", FORMAT_TEXT}, {0}};
    static const struct section section = {SECTION_TABLE, "", NULL, fields, NULL};
    struct output *o = &w->c->output;
    const char *site;
    json_t *entry, *all = json_array(), *missing = json_array();
    json_object_foreach(w->sites, site, entry)
    {
        json_array_append(all, entry);
        if (!json_is_true(json_object_get(entry, "reached")))
            json_array_append(missing, entry);
    }
    output_progress(o, NULL, false);
    if (o->json && (rc == 0 || rc == ERR_TIMEOUT)) {
        output_data(o, "wait",
            json_pack("{s:s, s:o, s:f, s:O}", "goal", goal_words[w->goal], "generation",
                w->generation < 0 ? json_null() : json_integer(w->generation), "seconds",
                (double)(now_ns() - w->begun) / 1e9, "sites", all));
        rc = rc ? 4 : 0;
    } else if (rc) {
        char hint[80];
        const char *first = text_at(json_array_get(missing, 0), "site");
        snprintf(hint, sizeof hint, "sitetree explain %s", first ? first : "");
        o->as_of = clock_wall(&clock_real);
        if (rc == ERR_TIMEOUT && json_array_size(missing) > 0)
            view_table(o, &section, missing, false);
        rc = output_fail(o, rc,
            rc == ERR_TIMEOUT && first ? hint
            : rc == ERR_UNKNOWN_SITE   ? "sitetree site list --all"
                                       : NULL);
    }
    json_decref(all);
    json_decref(missing);
    return rc;
}

static int wait_for_sites(struct waiting *w, int64_t until)
{
    struct control *control = NULL;
    int rc = 0;
    for (bool done = false; !done && rc == 0;) {
        json_t *reply = NULL;
        int exit_code;
        size_t all = 0, missing = 1;
        if (!control)
            rc = ask_open(w->c, CALL_NS, &control);
        if (rc == 0) {
            pin(w, control);
            rc = ask_once(control, "tree", NULL, &reply, &exit_code);
        }
        if (rc == 0 && !ask_is_error(reply)) {
            missing = look(w, view_at(reply, "data.sites"), &all);
            done = missing == 0 && all > 0;
            show_waiting(w, missing, all);
        } else {
            /* It may be starting, or coming back: only the time ends this. */
            output_progress(&w->c->output, rc ? err_text(rc) : text_at(reply, "message"), false);
            if (rc) {
                control_close(control);
                control = NULL;
            }
        }
        json_decref(reply);
        char why[600];
        snprintf(why, sizeof why, "%s", rc ? err_text(rc) : "");
        if (w->hopeless)
            rc = err_fail(ERR_UNKNOWN_SITE, "%s is not in the tree, so it cannot become %s", w->hopeless,
                goal_words[w->goal]);
        else if (!done && over(until))
            rc = rc ? err_fail(ERR_TIMEOUT, "the time ran out; %s", why)
                    : err_fail(ERR_TIMEOUT, "the time ran out with %zu of %zu sites not %s", missing, all,
                          goal_words[w->goal]);
        else
            rc = 0;
        if (!done && rc == 0)
            poll(NULL, 0, POLL_MS);
    }
    control_close(control);
    return rc;
}

int run_wait(struct cli *c)
{
    const char *goal = c->options[OPT_FOR] ? c->options[OPT_FOR] : "current";
    struct waiting w = {.c = c, .generation = -1, .begun = now_ns()};
    if (strncmp(goal, "run=", 4) == 0 && goal[4] && c->n_args == 0)
        return wait_for_run(c, goal + 4);
    while (w.goal <= GOAL_JOINED && strcmp(goal_words[w.goal], goal) != 0)
        if (++w.goal > GOAL_JOINED)
            return output_fail(&c->output,
                err_fail(ERR_USAGE, "--for: '%.40s' is not one of current, live, joined, run=ID", goal),
                "sitetree help wait");
    w.sites = json_object();
    int rc = finish(&w, wait_for_sites(&w, until_of(c)));
    json_decref(w.sites);
    return rc;
}

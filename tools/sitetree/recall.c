/* Recalls: asked for, and waited for until every site that can be reached has them in force. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tools/sitetree/run.h"
#include "tools/sitetree/views.h"

#define POLL_MS 250
#define CALL_NS (30 * NS_PER_S)

static const char *text_at(const json_t *from, const char *path)
{
    return json_string_value(view_at(from, path));
}

static int64_t count_at(const json_t *from, const char *path)
{
    return json_integer_value(view_at(from, path));
}

static const char *reason_of(const json_t *row)
{
    const char *cause = text_at(row, "cause"), *state = text_at(row, "state");
    return cause ? cause : state ? state : "?";
}

static bool is_there(const json_t *row)
{
    const char *state = text_at(row, "state");
    return state && (strcmp(state, "confirmed") == 0 || strcmp(state, "ahead") == 0);
}

/* A line for each site that has it in force and had not before. */
static void show_new(struct output *o, const json_t *reply, json_t *shown, int64_t begun_ns)
{
    size_t i;
    json_t *row;
    json_array_foreach(view_at(reply, "data.sites"), i, row)
    {
        char took[24];
        const char *site = text_at(row, "site");
        if (!site || !is_there(row) || json_object_get(shown, site))
            continue;
        json_object_set_new(shown, site, json_true());
        if (o->json)
            continue;
        output_progress(o, NULL, false);
        fprintf(o->out, "%s  %s  generation %" JSON_INTEGER_FORMAT "  after %s\n", site,
            text_at(row, "state"), (json_int_t)count_at(row, "generation"),
            duration_text(clock_mono(&clock_real).ns - begun_ns, took));
        fflush(o->out);
    }
}

static void show_rest(struct output *o, const json_t *reply)
{
    AUTO_BUF line = {0};
    size_t i, n = 0;
    json_t *row;
    buf_fmt(&line, "%lld of %lld sites", (long long)count_at(reply, "data.confirmed"),
        (long long)count_at(reply, "data.of"));
    json_array_foreach(view_at(reply, "data.sites"), i, row) if (!is_there(row) && n++ < 4)
        buf_fmt(&line, "%s %s (%s)", n == 1 ? "; not yet:" : ",", text_at(row, "site"), reason_of(row));
    if (n > 4)
        buf_fmt(&line, " and %zu more", n - 4);
    buf_u8(&line, 0);
    if (line.data)
        output_progress(o, (const char *)line.data, false);
}

/* Until all that are heard have it: 0, or ERR_TIMEOUT. The newest answer is in *reply. */
static int wait_for_all(struct cli *c, struct control *control, json_t **reply)
{
    int64_t limit = 0, begun = clock_mono(&clock_real).ns;
    int rc = 0, exit_code;
    json_t *shown = json_object();
    json_t *args = json_pack("{s:O}", "id", view_at(*reply, "data.id"));
    if (cli_has(c, OPT_TIMEOUT))
        rc = duration_parse(c->options[OPT_TIMEOUT], &limit);
    while (!rc) {
        show_new(&c->output, *reply, shown, begun);
        int64_t of = count_at(*reply, "data.of");
        if (count_at(*reply, "data.confirmed") + count_at(*reply, "data.offline") >= of)
            break; /* whoever is left cannot be reached: no waiting helps */
        show_rest(&c->output, *reply);
        if (limit && clock_mono(&clock_real).ns - begun >= limit) {
            rc = err_fail(ERR_TIMEOUT, "the time ran out: the recall is in force at %lld of %lld sites",
                (long long)count_at(*reply, "data.confirmed"), (long long)of);
            break;
        }
        poll(NULL, 0, POLL_MS);
        json_t *next = NULL;
        rc = ask_once(control, "recall.show", args, &next, &exit_code);
        if (!rc) {
            json_decref(*reply);
            *reply = next;
            if (ask_is_error(next))
                break;
        }
    }
    output_progress(&c->output, NULL, false);
    json_decref(shown);
    json_decref(args);
    return rc;
}

static int show_list(struct cli *c)
{
    static struct command list;
    struct control *control = NULL;
    json_t *reply = NULL;
    int exit_code = 1;
    int rc = ask_open(c, CALL_NS, &control);
    if (!rc)
        rc = ask_once(control, "recall.list", NULL, &reply, &exit_code);
    control_close(control);
    if (rc)
        return ask_fail(c, rc);
    list = *c->command;
    list.view = &view_recalls;
    c->command = &list;
    ask_show(c, reply);
    json_decref(reply);
    return exit_code;
}

/* Those that have it are named already where it was waited for. */
static void show_end(struct cli *c, json_t *reply, bool waited)
{
    size_t i;
    json_t *row, *rest = json_array();
    if (waited && !c->output.json)
        json_array_foreach(view_at(reply, "data.sites"), i, row) if (!is_there(row))
            json_array_append(rest, row);
    if (waited && !c->output.json)
        json_object_set(json_object_get(reply, "data"), "sites", rest);
    ask_show(c, reply);
    json_decref(rest);
}

int run_recall(struct cli *c)
{
    if (c->n_args == 0 || strcmp(c->args[0], "list") == 0)
        return show_list(c);
    struct control *control = NULL;
    json_t *reply = NULL, *args = ask_args(c);
    int exit_code = 1;
    bool wait = cli_has(c, OPT_WAIT) && !cli_has(c, OPT_DRY_RUN);
    int rc = ask_open(c, CALL_NS, &control);
    if (!rc)
        rc = ask_once(control, "recall", args, &reply, &exit_code);
    json_decref(args);
    bool known = !rc && !ask_is_error(reply);
    if (known && wait) {
        rc = wait_for_all(c, control, &reply);
        known = !ask_is_error(reply);
        exit_code = rc == ERR_TIMEOUT                                                         ? 4
                    : known && count_at(reply, "data.confirmed") < count_at(reply, "data.of") ? 3
                                                                                              : 0;
    }
    control_close(control);
    if (rc && rc != ERR_TIMEOUT) {
        json_decref(reply);
        return ask_fail(c, rc);
    }
    AUTO_BUF why = {0};
    buf_str(&why, rc ? err_text(rc) : "");
    buf_u8(&why, 0);
    show_end(c, reply, known && wait);
    if (rc && !c->output.json)
        (void)output_fail(&c->output, err_fail(rc, "%s", (const char *)why.data), "sitetree recall list");
    json_decref(reply);
    return exit_code;
}

/* Beginning a tree, and joining one: what is done before there is a daemon to ask. */
#include "services/node/setup.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "common/config/config.h"
#include "tools/sitetree/draw.h"
#include "tools/sitetree/start.h"

#define START_NS (60 * NS_PER_S)
#define JOIN_NS (60 * NS_PER_S)
#define POLL_MS 250

static void say(struct cli *c, const char *label, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The answer grows line by line; with --json it comes as one object at the end. */
static void say(struct cli *c, const char *label, const char *fmt, ...)
{
    va_list ap;
    if (c->output.json)
        return;
    output_progress(&c->output, NULL, false);
    fprintf(c->output.out, "%-9s", label);
    va_start(ap, fmt);
    vfprintf(c->output.out, fmt, ap);
    va_end(ap);
    fputc('\n', c->output.out);
    fflush(c->output.out);
}

/* " --dir DIR" where a pasted command would otherwise go to another folder. */
static const char *dir_option(struct cli *c)
{
    static char text[4200];
    text[0] = 0;
    if (cli_has(c, OPT_DIR))
        snprintf(text, sizeof text, " --dir %s", cli_dir(c));
    return text;
}

static int fail_start(struct cli *c, int rc)
{
    char hint[4300];
    snprintf(hint, sizeof hint, "sitetreed --dir %s --check", cli_dir(c));
    return output_fail(&c->output, rc, hint);
}

/* Before anything is made: a daemon that could not start would leave a half-made site. */
static int check_config(struct cli *c)
{
    char path[4200];
    struct config *config = NULL;
    snprintf(path, sizeof path, "%s/sitetree.conf", cli_dir(c));
    int rc = config_load(path, &config);
    config_free(config);
    return rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

/* --- a new tree
 * -------------------------------------------------------------------------------------------------- */

int run_init(struct cli *c)
{
    const char *code = c->n_args              ? c->args[0]
                       : cli_has(c, OPT_NAME) ? c->options[OPT_NAME]
                                              : "CEN",
               *how = "not started";
    struct hash hierarchy;
    char fingerprint[15];
    if (!cli_has(c, OPT_CENTRAL))
        return output_fail(&c->output,
            err_fail(ERR_USAGE,
                "only the top of a new tree is made this way (--central); another site joins with a token"),
            "sitetree help site join");
    int rc = check_config(c);
    if (rc)
        return fail_start(c, rc);
    rc = setup_init_central(cli_dir(c), code, &hierarchy);
    if (rc)
        return output_fail(&c->output, rc, rc == ERR_EXISTS ? "sitetree status" : "sitetree help site init");
    fingerprint_text(&hierarchy, fingerprint);
    say(c, "key", "%s  (keep %s/keys/root.key offline; nothing needs it from day to day)", fingerprint,
        cli_dir(c));
    if (!cli_has(c, OPT_NO_START) && (rc = start_daemon(c, START_NS, &how)))
        return fail_start(c, rc);
    if (cli_has(c, OPT_NO_START))
        say(c, "next", "sitetreed --dir %s", cli_dir(c));
    else
        say(c, "ready", "%s  central  %s", code, how);
    if (!cli_has(c, OPT_NO_START))
        say(c, "next", "sitetree site invite CODE --tier primary%s", dir_option(c));
    if (c->output.json)
        output_data(&c->output, "site-init",
            json_pack("{s:s, s:s, s:s, s:s, s:b}", "site", code, "tier", "central", "fingerprint",
                fingerprint, "dir", cli_dir(c), "started", !cli_has(c, OPT_NO_START)));
    return 0;
}

/* --- joining
 * ------------------------------------------------------------------------------------------------------ */

static void on_step(void *ctx, const char *step, const char *text)
{
    say(ctx, step, "%s", text);
}

static const char *text_at(const json_t *from, const char *path)
{
    return json_string_value(view_at(from, path));
}

/* One look at the site that has just joined: 1 when it is live at the parent's generation, 0 when not yet. */
static int look(
    struct cli *c, struct control *control, const struct setup_result *joined, json_t **ret_status)
{
    json_t *status = NULL, *run = NULL;
    int exit_code;
    AUTO_BUF line = {0};
    int rc = ask_once(control, "status", NULL, &status, &exit_code);
    if (rc)
        return rc;
    const char *state = text_at(status, "data.state"), *cause = text_at(status, "data.cause");
    json_int_t generation = json_integer_value(view_at(status, "data.generation"));
    const char *parent = text_at(status, "data.parent"); /* another one: the daemon of before a move */
    bool placed = parent && strcmp(parent, joined->parent.s) == 0;
    if (placed && state && strcmp(state, "live") == 0 && generation >= (json_int_t)joined->generation) {
        *ret_status = status;
        return 1;
    }
    if (cause && (strcmp(cause, "site-removed") == 0 || strcmp(cause, "key-not-trusted") == 0)) {
        rc = err_fail(ERR_HOPELESS, "%s: %s", cause,
            text_at(status, "data.text") ? text_at(status, "data.text") : "the parent refuses this site");
        json_decref(status);
        return rc;
    }
    buf_fmt(&line, "%s  ", state ? state : "?");
    if (ask_once(control, "sync.status", NULL, &run, &exit_code) == 0 && text_at(run, "data.run") &&
        !text_at(run, "data.result"))
        draw_progress(json_object_get(run, "data"), &line);
    else if (cause)
        buf_fmt(&line, "%s", cause);
    buf_u8(&line, 0);
    output_progress(&c->output, (const char *)line.data, false);
    json_decref(status);
    json_decref(run);
    return 0;
}

static int wait_live(struct cli *c, const struct setup_result *joined, json_t **ret_status)
{
    struct control *control = NULL;
    int64_t ns = 0, until = 0;
    if (cli_has(c, OPT_TIMEOUT) && duration_parse(c->options[OPT_TIMEOUT], &ns) == 0)
        until = clock_mono(&clock_real).ns + ns;
    for (;;) {
        int rc = control ? 0 : ask_open(c, 10 * NS_PER_S, &control);
        if (rc == 0)
            rc = look(c, control, joined, ret_status);
        if (rc == 1 || rc == ERR_HOPELESS) {
            control_close(control);
            return rc == 1 ? 0 : rc;
        }
        if (rc) { /* it comes back, or the time runs out */
            control_close(control);
            control = NULL;
        }
        if (until && clock_mono(&clock_real).ns >= until) {
            control_close(control);
            return err_fail(
                ERR_TIMEOUT, "%s has joined and goes on fetching; it is not live yet", joined->site.s);
        }
        poll(NULL, 0, POLL_MS);
    }
}

static void tell_joined(struct cli *c, const struct setup_result *joined, const json_t *status)
{
    char fingerprint[15];
    const char *root = text_at(status, "data.root");
    const json_t *generation = view_at(status, "data.generation");
    fingerprint_text(&joined->hierarchy, fingerprint);
    if (status)
        say(c, "live", "generation %" JSON_INTEGER_FORMAT ", root %.8s verified",
            json_integer_value(generation), root ? root : "?");
    say(c, "next", cli_has(c, OPT_NO_START) ? "sitetreed --dir %s" : "sitetree status%s",
        cli_has(c, OPT_NO_START) ? cli_dir(c) : dir_option(c));
    if (c->output.json)
        output_data(&c->output, "site-join",
            json_pack("{s:s, s:s, s:s, s:s, s:b, s:O?, s:O?, s:O?}", "site", joined->site.s, "parent",
                joined->parent.s, "tier", tier_word(joined->tier), "fingerprint", fingerprint, "started",
                !cli_has(c, OPT_NO_START), "state", view_at(status, "data.state"), "generation", generation,
                "root", view_at(status, "data.root")));
}

int run_join(struct cli *c)
{
    struct setup_result joined;
    struct setup_progress progress = {on_step, c};
    const char *how = "not started";
    json_t *status = NULL;
    int rc = check_config(c);
    if (rc)
        return fail_start(c, rc);
    rc = setup_join(cli_dir(c), c->args[0], JOIN_NS, &progress, &joined);
    if (rc)
        return output_fail(&c->output, rc, rc == ERR_EXISTS ? "sitetree status" : NULL);
    if (!cli_has(c, OPT_NO_START)) {
        if ((rc = start_daemon(c, START_NS, &how)))
            return fail_start(c, rc);
        say(c, "started", "%s", how);
        rc = wait_live(c, &joined, &status);
        output_progress(&c->output, NULL, false);
        if (rc)
            return output_fail(&c->output, rc, "sitetree explain");
    }
    tell_joined(c, &joined, status);
    json_decref(status);
    return 0;
}

/* --- moving
 * ------------------------------------------------------------------------------------------------------ */

int run_move(struct cli *c)
{
    struct setup_result moved;
    struct setup_progress progress = {on_step, c};
    struct control *control = NULL;
    json_t *status = NULL, *answer = NULL;
    int exit_code;
    int rc = setup_move(cli_dir(c), c->args[0], JOIN_NS, &progress, &moved);
    if (rc)
        return output_fail(&c->output, rc, NULL);
    rc = ask_open(c, 10 * NS_PER_S, &control);
    bool runs = rc == 0;
    if (runs)
        rc = ask_once(control, "reload", NULL, &answer, &exit_code);
    control_close(control);
    json_decref(answer);
    if (runs && !rc)
        rc = wait_live(c, &moved, &status);
    output_progress(&c->output, NULL, false);
    if (runs && rc)
        return output_fail(&c->output, rc, "sitetree explain");
    say(c, "moved", "%s is below %s now%s", moved.site.s, moved.parent.s,
        runs ? "" : "; sitetreed does not run");
    say(c, "next", "at the parent of before: sitetree site remove %s", moved.site.s);
    if (c->output.json)
        output_data(&c->output, "site-move",
            json_pack("{s:s, s:s, s:b, s:b, s:O?}", "site", moved.site.s, "parent", moved.parent.s, "again",
                moved.again, "running", runs, "state", view_at(status, "data.state")));
    json_decref(status);
    return 0;
}

/* The head key of the hierarchy: which one counts, and another one. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "services/node/setup.h"
#include "tools/sitetree/run.h"

#define ASK_NS (10 * NS_PER_S)
#define SIGNED_NS (30 * NS_PER_S) /* until the daemon has signed the catalogue with another key */
#define POLL_MS 50

static const char *root_key_path(struct cli *c)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/keys/root.key", cli_dir(c));
    return path;
}

/* The daemon's answer, and what only the folder knows. */
int run_trust_show(struct cli *c)
{
    struct control *control = NULL;
    json_t *reply = NULL;
    int exit_code = 1;
    int rc = ask_open(c, ASK_NS, &control);
    if (!rc)
        rc = ask_once(control, "trust.show", NULL, &reply, &exit_code);
    control_close(control);
    if (rc)
        return ask_fail(c, rc);
    bool here = access(root_key_path(c), F_OK) == 0;
    if (!ask_is_error(reply))
        json_object_set_new(
            json_object_get(reply, "data"), "root_key", here ? json_string(root_key_path(c)) : json_null());
    ask_show(c, reply);
    json_decref(reply);
    return exit_code;
}

/* The greatest trust version that this site or one below it has seen; 0 where nobody answers. */
static uint64_t seen_version(struct cli *c)
{
    struct control *control = NULL;
    json_t *reply = NULL;
    int exit_code;
    json_int_t seen = 0;
    if (ask_open(c, ASK_NS, &control) == 0 && ask_once(control, "trust.show", NULL, &reply, &exit_code) == 0)
        seen = json_integer_value(view_at(reply, "data.seen"));
    json_decref(reply);
    control_close(control);
    return seen > 0 ? (uint64_t)seen : 0;
}

/* Until the daemon has signed under this version; *ret_reply is its last trust.show. */
static int wait_signed(struct control *control, uint64_t version, json_t **ret_reply)
{
    int64_t until = clock_mono(&clock_real).ns + SIGNED_NS;
    for (;;) {
        json_t *reply = NULL;
        int exit_code;
        int rc = ask_once(control, "trust.show", NULL, &reply, &exit_code);
        if (rc)
            return rc;
        const json_t *head = view_at(reply, "data.head_version");
        if (!ask_is_error(reply) && (!head || (uint64_t)json_integer_value(head) == version)) {
            *ret_reply = reply;
            return 0;
        }
        json_decref(reply);
        if (clock_mono(&clock_real).ns >= until)
            return err_fail(ERR_TIMEOUT,
                "the head key is changed (trust version %" PRIu64
                "), and the catalogue is not signed with it yet",
                version);
        poll(NULL, 0, POLL_MS);
    }
}

/* 0 with the data of the answer; a daemon that does not run takes the key over at its start. */
static int take_over(struct cli *c, uint64_t version, json_t **ret_data)
{
    struct control *control = NULL;
    json_t *reply = NULL;
    int exit_code;
    int rc = ask_open(c, ASK_NS, &control);
    if (rc == ERR_NOT_RUNNING) {
        *ret_data = json_pack("{s:I, s:s}", "version", (json_int_t)version, "state",
            "sitetreed does not run; it signs with the new key from its next start on");
        return 0;
    }
    if (!rc)
        rc = ask_once(control, "trust.reload", NULL, &reply, &exit_code);
    if (!rc && ask_is_error(reply)) {
        const char *why = json_string_value(json_object_get(reply, "message"));
        rc = err_fail(ERR_KEY, "sitetreed does not take the new key over: %s", why ? why : "?");
    }
    json_t *shown = NULL;
    if (!rc)
        rc = wait_signed(control, version, &shown);
    if (!rc)
        *ret_data = json_pack("{s:I, s:O?, s:O?, s:s}", "version", (json_int_t)version, "head_key",
            view_at(reply, "data.head_key"), "generation", view_at(shown, "data.generation"), "state",
            "the catalogue is signed with the new key; every site takes it over with this head");
    json_decref(shown);
    json_decref(reply);
    control_close(control);
    return rc;
}

int run_trust_rotate(struct cli *c)
{
    uint64_t version = 0;
    json_t *data = NULL;
    const char *root = cli_has(c, OPT_ROOT_KEY) ? c->options[OPT_ROOT_KEY] : NULL;
    int rc = setup_rotate_head(cli_dir(c), root, seen_version(c) + 1, &version);
    if (rc)
        return output_fail(
            &c->output, rc, rc == ERR_KEY_FILE ? "sitetree help trust rotate" : "sitetree trust show");
    rc = take_over(c, version, &data);
    if (rc)
        return output_fail(&c->output, rc, "sitetree trust show");
    if (c->output.json) {
        output_data(&c->output, "trust-rotate", data);
    } else {
        c->output.as_of = clock_wall(&clock_real);
        view_show(&c->output, c->command->view, data);
        json_decref(data);
    }
    return 0;
}

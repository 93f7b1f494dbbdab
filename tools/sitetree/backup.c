/* Backups: the daemon copies its stores, the rest is done here. */
#include "services/node/backup.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/sitetree/run.h"
#include "tools/sitetree/start.h"

#define COPY_NS (900 * NS_PER_S)

/* One call that must succeed; its reply is the caller's. */
static int ask_fine(struct control *control, const char *command, json_t *args, json_t **ret_reply)
{
    json_t *reply = NULL;
    int exit_code;
    int rc = ask_once(control, command, args, &reply, &exit_code);
    json_decref(args);
    if (!rc && ask_is_error(reply)) {
        const char *code = json_string_value(json_object_get(reply, "code")),
                   *why = json_string_value(json_object_get(reply, "message"));
        rc = err_fail(err_from_word(code ? code : ""), "%s", why ? why : "the daemon refuses");
    }
    if (rc)
        json_decref(reply);
    else
        *ret_reply = reply;
    return rc;
}

/* The catalogue first: what the node's store says of signed generations must not be older than it. */
static int copy_stores(struct cli *c, json_t **ret_more)
{
    struct control *control = NULL;
    json_t *shown = NULL, *reply = NULL;
    int rc = ask_open(c, COPY_NS, &control);
    if (!rc)
        rc = ask_fine(control, "catalogue.show", NULL, &shown);
    if (rc == ERR_NOT_FOUND) /* nothing applied yet */
        rc = 0;
    static const char *const stores[] = {"metadata", "node"};
    for (size_t i = 0; i < COUNT_OF(stores) && !rc; i++) {
        rc = ask_fine(control, "store.copy", json_pack("{s:s}", "store", stores[i]), &reply);
        json_decref(reply);
        reply = NULL;
    }
    control_close(control);
    if (!rc)
        *ret_more = json_pack("{s:O?, s:O?, s:O?}", "generation", view_at(shown, "data.generation"), "epoch",
            view_at(shown, "data.epoch"), "root", view_at(shown, "data.root"));
    json_decref(shown);
    return rc;
}

static int show(struct cli *c, const char *schema, json_t *data, int exit_code)
{
    if (c->output.json) {
        output_data(&c->output, schema, data);
    } else {
        c->output.as_of = clock_wall(&clock_real);
        view_show(&c->output, c->command->view, data);
        json_decref(data);
    }
    return exit_code;
}

int run_backup(struct cli *c)
{
    struct backup_result r;
    json_t *more = NULL;
    bool root = cli_has(c, OPT_WITH_ROOT_KEY);
    backup_clear(cli_dir(c)); /* of one that was cut short */
    int rc = copy_stores(c, &more);
    if (rc == ERR_NOT_RUNNING)
        return ask_fail(c, rc);
    json_t *generation = rc ? NULL : json_incref(json_object_get(more, "generation"));
    if (!rc)
        rc = backup_make(cli_dir(c), c->args[0], root, more, &r);
    backup_clear(cli_dir(c));
    if (rc) {
        json_decref(generation);
        return output_fail(&c->output, rc, rc == ERR_EXISTS ? "sitetree help backup" : NULL);
    }
    json_t *data = json_pack("{s:s, s:s, s:i, s:I, s:b, s:b}", "site", r.site.s, "folder", c->args[0],
        "files", (int)r.files, "bytes", (json_int_t)r.bytes, "root_key", r.root_key, "verified", 1);
    json_object_set_new(data, "generation", generation ? generation : json_null());
    return show(c, "backup", data, 0);
}

int run_restore(struct cli *c)
{
    struct backup_result r;
    bool dry = cli_has(c, OPT_DRY_RUN);
    char next[4300];
    int rc = backup_restore(c->args[0], cli_dir(c), dry, &r);
    if (!rc && !dry)
        rc = start_give(c);
    if (rc)
        return output_fail(&c->output, rc, "sitetree help restore");
    const json_t *generation = json_object_get(r.manifest, "generation");
    snprintf(next, sizeof next, "%s", start_how(c));
    json_t *data = json_pack("{s:s, s:s, s:s, s:s, s:O?, s:i, s:I, s:b, s:o}", "site", r.site.s, "tier",
        tier_word(r.tier), "folder", cli_dir(c), "made", r.made, "generation", generation, "files",
        (int)r.files, "bytes", (json_int_t)r.bytes, "restored", !dry, "next",
        dry ? json_null() : json_string(next));
    json_decref(r.manifest);
    return show(c, "restore", data, dry ? 3 : 0);
}

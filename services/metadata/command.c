/* Operator commands that this worker owns (docs/control.md): looked up by name, answered as JSON. */
#include <stdlib.h>

#include "services/metadata/core.h"

const char *arg_text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

bool arg_flag(json_t *args, const char *name)
{
    return json_is_true(json_object_get(args, name));
}

json_t *json_time(struct wall t)
{
    char text[32];
    return t.ns ? json_string(wall_text(t, text)) : json_null();
}

json_t *json_hash(const struct hash *h)
{
    char hex[65];
    return json_string(hex_encode(h->b, 32, hex));
}

static void send_reply(struct metadata *m, struct peer caller, uint64_t command, json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (!text) {
        m->fx->err = -ENOMEM;
    } else if (caller.kind == PEER_NODE) {
        Sitetree__ControlReply r = SITETREE__CONTROL_REPLY__INIT;
        r.command = command;
        r.json = pb_bytes(view_str(text));
        struct blob *b = frame_pack(FRAME_CONTROL_REPLY, CLASS_HEAD, 0, NULL, &r.base, true);
        if (b)
            send_to(m, caller, CLASS_HEAD, b);
        else
            command_fail(m, caller, command,
                err_fail(ERR_TOO_LARGE, "the answer is too large; ask for less with --limit"));
    } else {
        effects_reply(m->fx, command, false, blob_new(text, strlen(text)));
    }
    free(text);
    json_decref(j);
}

void command_reply(
    struct metadata *m, struct peer caller, uint64_t command, const char *schema, json_t *data, int exit)
{
    char name[64], t[32];
    size_t n = 0;
    for (const char *p = "sitetree."; *p; p++)
        name[n++] = *p;
    for (const char *p = schema; *p && n < sizeof name - 3; p++)
        name[n++] = *p == '.' ? '-' : *p;
    name[n++] = '/';
    name[n++] = '1';
    name[n] = 0;
    send_reply(m, caller, command,
        json_pack("{s:s, s:s, s:o, s:i, s:b}", "schema", name, "as_of", wall_text(m->wall, t), "data",
            data ? data : json_object(), "exit", exit, "more", 0));
}

void command_fail(struct metadata *m, struct peer caller, uint64_t command, int code)
{
    char t[32];
    send_reply(m, caller, command,
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b}", "schema", "sitetree.error/1", "as_of",
            wall_text(m->wall, t), "code", err_word(code), "message", err_text(code), "hint", err_hint(code),
            "exit", code == ERR_USAGE ? 2 : 1, "more", 0));
}

static int sync_now(struct metadata *m, json_t *args, json_t **ret_data)
{
    bool queued;
    uint64_t number;
    char id[32], hint[80];
    if (!m->central)
        return err_fail(ERR_NOT_CENTRAL,
            "%s syncs only when its parent %s asks it to; run this at the central site %s", m->site,
            m->parent[0] ? m->parent : "?", m->top[0] ? m->top : "?");
    if (fence_closed(m))
        return fence_error(m);
    enum run_kind kind = arg_flag(args, "full") ? RUN_FULL : RUN_DELTA_NEW;
    int rc = run_request(m, kind, "operator", &queued, &number);
    if (rc)
        return rc;
    run_id(number, id);
    snprintf(hint, sizeof hint, "sitetree wait --for run=%s", id);
    *ret_data = json_pack("{s:s, s:s, s:b, s:s}", "run", id, "kind", kind == RUN_FULL ? "FULL" : "DELTA_NEW",
        "queued", queued, "try", hint);
    return 0;
}

static int sync_cancel(struct metadata *m, json_t *args, json_t **ret_data)
{
    const char *run = arg_text(args, "run");
    uint64_t number = run ? run_number(run) : m->run ? m->run->number : 0;
    char id[32];
    int rc = number ? run_cancel(m, number) : err_fail(ERR_NOT_FOUND, "no run %s", run ? run : "is active");
    if (!rc)
        *ret_data = json_pack("{s:s, s:s}", "run", run_id(number, id), "result", "cancelled");
    return rc;
}

static int sync_decide(struct metadata *m, json_t *args, bool approve, json_t **ret_data)
{
    const char *run = arg_text(args, "run");
    uint64_t number = run ? run_number(run) : m->run ? m->run->number : 0;
    char id[32];
    int rc = run_decide(m, number, approve);
    if (!rc)
        *ret_data =
            json_pack("{s:s, s:s}", "run", run_id(number, id), "decision", approve ? "approved" : "rejected");
    return rc;
}

static int not_central(struct metadata *m, const char *what)
{
    return err_fail(ERR_NOT_CENTRAL, "%s at the central site %s; this is %s", what, m->top, m->site);
}

/* What every update of a publication must meet: an id of its own, and the filter in force, which holds for
 * the local publisher as for any product (A12). */
static int check_publication(struct metadata *m, struct source_set *set)
{
    size_t n = set->n;
    source_sort(set);
    if (set->n != n)
        return err_fail(ERR_USAGE, "id: %zu of %zu updates have the id of another one", n - set->n, n);
    json_t *filter = m->filter.len ? json_loadb((const char *)m->filter.data, m->filter.len, 0, NULL) : NULL;
    int rc = 0;
    for (size_t i = 0; !rc && i < set->n; i++)
        if (!filter_match(filter, &set->items[i]))
            rc = err_fail(ERR_USAGE,
                "%.*s: product %s, %s, %s: the filter in force leaves that out (sitetree filter show)",
                (int)set->items[i].key.len, (const char *)set->items[i].key.data, set->items[i].product,
                set->items[i].classification, set->items[i].architecture);
    json_decref(filter);
    return rc;
}

static int publish(struct metadata *m, struct peer caller, uint64_t command, json_t *args)
{
    const char *text = arg_text(args, "json"), *publisher = arg_text(args, "publisher");
    json_error_t where;
    if (!m->central)
        return err_fail(
            ERR_NOT_CENTRAL, "updates are published at the central site %s; this is %s", m->top, m->site);
    if (store_nearly_full(m->store))
        return err_fail(ERR_MAP_FULL, "the store or its disk is 85 %% full: nothing new is taken in");
    json_t *j = text ? json_loads(text, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (!j)
        return err_fail(ERR_USAGE, "not JSON: %s", text ? where.text : "nothing was given");
    json_t *list = json_is_array(j) ? json_incref(j) : json_pack("[O]", j);
    struct source_set *set = source_new();
    int rc = list && set ? 0 : -ENOMEM;
    if (!publisher)
        publisher = m->site;
    if (!rc && json_array_size(list) == 0)
        rc = err_fail(ERR_USAGE, "no update in it");
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        rc = update_from_json(json_array_get(list, i), publisher, set);
    rc = rc ? rc : check_publication(m, set);
    struct view owner;
    struct op op = {.kind = OP_PUT, .caller = caller};
    snprintf(op.scope, sizeof op.scope, "local/%s", publisher);
    if (!rc && meta_get(m->txn, meta_of("owned", view_str(op.scope)).s, &owner) == 0)
        rc = err_fail(ERR_EXISTS, "%s is filled by the upstream %.*s: put the file into its folder", op.scope,
            (int)owner.len, (const char *)owner.data);
    size_t before = m->n_ops;
    for (size_t i = 0; !rc && i < set->n; i++) {
        struct op one = op;
        one.command = i + 1 < set->n ? 0 : command; /* the last one answers for all */
        buf_append_view(&one.id, set->items[i].key);
        buf_append_view(&one.value, set->items[i].value);
        rc = origin_push(m, one);
    }
    for (; rc && m->n_ops > before; m->n_ops--) /* all or none */
        op_done(&m->ops[m->n_ops - 1]);
    source_free(set);
    json_decref(list);
    json_decref(j);
    return rc ? rc : origin_ops(m);
}

static int take_away(
    struct metadata *m, struct peer caller, uint64_t command, enum op_kind kind, json_t *args)
{
    const char *id = arg_text(args, "id");
    json_t *data;
    int exit = 0;
    if (!m->central)
        return err_fail(
            ERR_NOT_CENTRAL, "updates are changed at the central site %s; this is %s", m->top, m->site);
    if (!id)
        return err_fail(ERR_USAGE, "which update?");
    int rc = query_command(m, "update.show", args, &data, &exit);
    if (rc)
        return rc;
    if (arg_flag(args, "dry_run")) {
        command_reply(m, caller, command, kind == OP_EXPIRE ? "update-expire" : "update-remove", data, 3);
        return 0;
    }
    json_decref(data);
    struct op op = {.kind = kind, .command = command, .caller = caller};
    buf_str(&op.id, id);
    return op.id.err ? -ENOMEM : origin_op(m, op);
}

static int recall(struct metadata *m, struct peer caller, uint64_t command, json_t *args)
{
    const char *id = arg_text(args, "id");
    json_t *data = NULL;
    if (!m->central)
        return err_fail(
            ERR_NOT_CENTRAL, "updates are recalled at the central site %s; this is %s", m->top, m->site);
    if (!id || !*id || strlen(id) > RECORD_KEY_MAX)
        return err_fail(ERR_USAGE, "which update?");
    int rc = recall_show(m, view_str(id), &data), exit = 0;
    if (rc && arg_flag(args, "dry_run")) {
        rc = query_command(m, "update.show", args, &data, &exit);
        exit = 3;
    }
    if (!rc) {
        command_reply(m, caller, command, "recall", data, exit);
        return 0;
    }
    rc = query_command(m, "update.show", args, &data, &exit); /* there is no such update */
    json_decref(data);
    struct op op = {.kind = OP_RECALL, .command = command, .caller = caller};
    if (!rc)
        buf_str(&op.id, id);
    return rc ? rc : op.id.err ? -ENOMEM : origin_op(m, op);
}

static int plan(struct metadata *m, struct peer caller, uint64_t command, json_t *args)
{
    const char *id = arg_text(args, "recall");
    json_t *data = NULL;
    int exit = 0;
    if (!m->central)
        return not_central(m, "a run is planned");
    if (!id)
        return run_plan(m, caller, command, args);
    json_t *show = json_pack("{s:s}", "id", id);
    int rc = query_command(m, "update.show", show, &data, &exit); /* there is no such update */
    json_decref(show);
    json_decref(data);
    data = NULL;
    if (!rc)
        rc = origin_plan_recall(m, id, &data, &exit);
    if (!rc)
        command_reply(m, caller, command, "plan", data, exit);
    return rc;
}

static int run_command(
    struct metadata *m, struct peer caller, uint64_t command, const char *name, json_t *args)
{
    json_t *data = NULL;
    int exit = 0, rc;
    if (strcmp(name, "sync.now") == 0)
        rc = sync_now(m, args, &data);
    else if (strcmp(name, "sync.cancel") == 0)
        rc = sync_cancel(m, args, &data);
    else if (strcmp(name, "sync.approve") == 0 || strcmp(name, "sync.reject") == 0)
        rc = sync_decide(m, args, strcmp(name, "sync.approve") == 0, &data);
    else if (strcmp(name, "plan") == 0)
        return plan(m, caller, command, args);
    else if (strcmp(name, "epoch.open") == 0)
        return m->central ? origin_epoch(m, caller, command) : not_central(m, "an epoch is opened");
    else if (strcmp(name, "repair") == 0)
        rc = replica_repair(m, arg_flag(args, "dry_run"), &data, &exit);
    else if (strcmp(name, "upstream.add") == 0)
        rc = upstream_add(m, args, &data);
    else if (strcmp(name, "upstream.remove") == 0)
        rc = upstream_remove(m, args, &data);
    else if (strcmp(name, "upstream.list") == 0)
        rc = upstream_list(m, &data);
    else if (strcmp(name, "upstream.test") == 0)
        return upstream_test(m, caller, command, args);
    else if (strcmp(name, "update.publish") == 0)
        return publish(m, caller, command, args);
    else if (strcmp(name, "update.expire") == 0)
        return take_away(m, caller, command, OP_EXPIRE, args);
    else if (strcmp(name, "recall") == 0)
        return recall(m, caller, command, args);
    else if (strcmp(name, "update.remove") == 0)
        return take_away(m, caller, command, OP_REMOVE, args);
    else
        rc = query_command(m, name, args, &data, &exit);
    if (!rc)
        command_reply(m, caller, command, name, data, exit);
    return rc;
}

int command_run(struct metadata *m, struct peer caller, uint64_t command, struct view text)
{
    json_t *j = json_loadb((const char *)text.data, text.len, 0, NULL), *given = json_object_get(j, "args");
    json_t *args = given ? json_incref(given) : json_object();
    const char *name = arg_text(j, "command");
    int rc;
    if (!args)
        rc = -ENOMEM;
    else if (!name || !json_is_object(args))
        rc = err_fail(ERR_USAGE, "not a command with an object of arguments");
    else
        rc = run_command(m, caller, command, name, args);
    json_decref(args);
    json_decref(j);
    if (rc == -ENOMEM || store_txn_error(m->txn))
        return rc;
    if (rc)
        command_fail(m, caller, command, rc);
    return 0;
}

/* The upstreams of the central site: added, listed, tested, removed; and what is known of each from the last
 * runs. */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

static json_t *row_get(struct metadata *m, const char *name)
{
    struct view v;
    return store_get(m->txn, TABLE_UPSTREAMS, view_str(name), &v)
               ? NULL
               : json_loadb((const char *)v.data, v.len, 0, NULL);
}

static int row_put(struct metadata *m, const char *name, json_t *row)
{
    char *text = json_dumps(row, JSON_COMPACT);
    if (!text)
        return -ENOMEM;
    store_put(m->txn, TABLE_UPSTREAMS, view_str(name), view_str(text));
    free(text);
    return store_txn_error(m->txn);
}

int upstream_names(struct metadata *m, char ***ret_names, size_t *ret_n)
{
    char **names = NULL;
    size_t n = 0;
    int rc = 0;
    struct store_walk w = store_walk_from(m->txn, TABLE_UPSTREAMS, (struct view){0}, (struct view){0});
    while (!rc && store_walk_next(&w)) {
        char **more = realloc(names, (n + 1) * sizeof *names);
        if (more)
            names = more;
        char *copy = more ? strndup((const char *)w.key.data, w.key.len) : NULL;
        if (copy)
            names[n++] = copy;
        else
            rc = -ENOMEM;
    }
    if (!rc)
        rc = store_txn_error(m->txn);
    if (rc) {
        while (n)
            free(names[--n]);
        free(names);
        return rc;
    }
    *ret_names = names;
    *ret_n = n;
    return 0;
}

json_t *upstream_config(struct metadata *m, const char *name)
{
    json_t *row = row_get(m, name);
    json_t *config = json_incref(json_object_get(row, "config"));
    json_decref(row);
    return config;
}

void upstream_note(
    struct metadata *m, const char *name, const struct source_set *set, int code, const char *text)
{
    json_t *row = row_get(m, name);
    char t[32];
    if (!row)
        return;
    if (set) {
        json_object_set_new(row, "last_ok", json_string(wall_text(m->wall, t)));
        json_object_set_new(row, "last_error", json_null());
        json_object_set_new(row, "version", json_string(set->version));
        json_object_set_new(row, "scope", json_string(set->scope));
        json_object_set_new(row, "signer", set->signer[0] ? json_string(set->signer) : json_null());
        json_object_set_new(row, "warning", set->warning[0] ? json_string(set->warning) : json_null());
        json_object_set_new(row, "bytes", json_integer((json_int_t)set->bytes_fetched));
        if (!set->unchanged)
            json_object_set_new(row, "records", json_integer((json_int_t)set->n));
    } else {
        json_object_set_new(row, "last_error", json_string(text));
        json_object_set_new(row, "last_error_code", json_string(err_word(code)));
        json_object_set_new(row, "last_error_at", json_string(wall_text(m->wall, t)));
    }
    (void)row_put(m, name, row); /* the error waits in the transaction */
    json_decref(row);
}

static const char *place_of(json_t *config)
{
    const char *uri = json_string_value(json_object_get(config, "uri"));
    return uri ? uri : json_string_value(json_object_get(config, "path"));
}

/* What runs have noted of an upstream of this name. */
static void forget(struct metadata *m, const char *name)
{
    static const char *const notes[] = {"cursor/any", "cursor/scheduled", "scope-of", "seen-date"};
    for (size_t i = 0; i < COUNT_OF(notes); i++)
        meta_del(m->txn, meta_of(notes[i], view_str(name)).s);
}

static int add_one(struct metadata *m, json_t *config, json_t *added)
{
    const char *name = json_string_value(json_object_get(config, "name"));
    const char *kind = json_string_value(json_object_get(config, "kind"));
    const struct adapter *a = kind ? adapter_find(kind) : NULL;
    struct view v;
    if (!name || !text_is_clean(view_str(name)) || !*name || strlen(name) > 100 || strchr(name, '/') ||
        name[0] == '.')
        return err_fail(ERR_USAGE, "an upstream needs a name without slashes, of at most 100 characters");
    if (!a)
        return err_fail(ERR_USAGE, "upstream %s: kind '%s' is not known; there are apt and directory", name,
            kind ? kind : "");
    if (store_get(m->txn, TABLE_UPSTREAMS, view_str(name), &v) == 0)
        return err_fail(ERR_EXISTS, "an upstream named %s is there already", name);
    int rc = a->check(config);
    if (rc)
        return err_wrap(rc, "upstream %s", name);
    forget(m, name); /* one that was removed in mid-run left some behind */
    json_t *row = json_pack("{s:O}", "config", config);
    rc = row ? row_put(m, name, row) : -ENOMEM;
    json_decref(row);
    if (!rc)
        json_array_append_new(added, json_pack("{s:s, s:s?, s:s?}", "name", name, "uri", place_of(config),
                                         "suite", json_string_value(json_object_get(config, "suite"))));
    return rc;
}

static bool asked_for(json_t *suites, json_t *config)
{
    const char *suite = json_string_value(json_object_get(config, "suite"));
    if (!suites || json_array_size(suites) == 0)
        return true;
    for (size_t i = 0; i < json_array_size(suites); i++)
        if (suite && json_equal(json_object_get(config, "suite"), json_array_get(suites, i)))
            return true;
    return false;
}

static int add_from_system(struct metadata *m, json_t *suites, json_t *added)
{
    json_t *list = NULL;
    int rc = apt_system_sources(m->opt.apt_dir[0] ? m->opt.apt_dir : "/etc/apt", &list);
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        if (asked_for(suites, json_array_get(list, i)))
            rc = add_one(m, json_array_get(list, i), added);
    if (list)
        json_decref(list);
    if (!rc && json_array_size(added) == 0)
        rc = err_fail(ERR_NOT_FOUND, "this machine's apt sources name no signed repository of %s",
            suites ? "these suites" : "any suite");
    return rc;
}

int upstream_add(struct metadata *m, json_t *args, json_t **ret_data)
{
    if (!m->central)
        return err_fail(ERR_NOT_CENTRAL,
            "only the central site %s takes a catalogue from upstreams; this is %s", m->top, m->site);
    json_t *added = json_array(), *list = NULL;
    int rc = added ? 0 : -ENOMEM;
    if (!rc && arg_flag(args, "from_system"))
        rc = add_from_system(m, json_object_get(args, "suites"), added);
    else if (!rc) {
        rc = source_split(args, &list);
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = add_one(m, json_array_get(list, i), added);
        json_decref(list);
    }
    if (rc) { /* all or nothing */
        for (size_t i = 0; i < json_array_size(added); i++)
            store_del(m->txn, TABLE_UPSTREAMS,
                view_str(json_string_value(json_object_get(json_array_get(added, i), "name"))));
        json_decref(added);
        return rc;
    }
    *ret_data = json_pack("{s:o}", "added", added);
    return 0;
}

int upstream_remove(struct metadata *m, json_t *args, json_t **ret_data)
{
    const char *name = arg_text(args, "name");
    json_t *row = name ? row_get(m, name) : NULL;
    if (!row)
        return err_fail(ERR_NOT_FOUND, "there is no upstream named %s", name ? name : "?");
    const char *scope = json_string_value(json_object_get(row, "scope"));
    struct scope *s = scope ? state_scope_find(m, scope) : NULL;
    if (!arg_flag(args, "dry_run")) {
        store_del(m->txn, TABLE_UPSTREAMS, view_str(name));
        forget(m, name);
    }
    *ret_data = json_pack("{s:s, s:s?, s:I}", "name", name, "scope", scope, "records",
        (json_int_t)(s ? s->applied.tree.count : 0));
    json_decref(row);
    return 0;
}

static void copy_field(json_t *to, json_t *from, const char *name)
{
    json_t *v = json_object_get(from, name);
    json_object_set_new(to, name, v ? json_incref(v) : json_null());
}

int upstream_list(struct metadata *m, json_t **ret_data)
{
    json_t *list = json_array();
    struct store_walk w = store_walk_from(m->txn, TABLE_UPSTREAMS, (struct view){0}, (struct view){0});
    while (store_walk_next(&w)) {
        json_t *row = json_loadb((const char *)w.value.data, w.value.len, 0, NULL);
        json_t *config = json_object_get(row, "config"), *out = json_object();
        static const char *const of_row[] = {"scope", "last_ok", "last_error", "last_error_at", "version",
            "records", "bytes", "signer", "warning"};
        json_object_set_new(out, "name", json_stringn((const char *)w.key.data, w.key.len));
        copy_field(out, config, "kind");
        const char *place = place_of(config);
        json_object_set_new(out, "uri", place ? json_string(place) : json_null());
        copy_field(out, config, "suite");
        json_object_set_new(out, "enabled", json_true());
        for (size_t i = 0; i < COUNT_OF(of_row); i++)
            copy_field(out, row, of_row[i]);
        json_array_append_new(list, out);
        json_decref(row);
    }
    *ret_data = json_pack("{s:o}", "upstreams", list);
    return store_txn_error(m->txn);
}

int upstream_test(struct metadata *m, struct peer caller, uint64_t command, json_t *args)
{
    const char *name = arg_text(args, "name");
    json_t *config = name ? upstream_config(m, name) : NULL;
    if (!config)
        return err_fail(ERR_NOT_FOUND, "there is no upstream named %s", name ? name : "?");
    if (m->test.job) {
        json_decref(config);
        return err_fail(ERR_BUSY, "upstream %s is being tested already", m->test.name);
    }
    json_t *job = json_pack("{s:s, s:o, s:s, s:I}", "name", name, "config", config, "version", "",
        "seen_date", (json_int_t)meta_get_u64(m->txn, meta_of("seen-date", view_str(name)).s));
    char *text = json_dumps(job, JSON_COMPACT);
    m->test.job = (unsigned)++m->next_request;
    m->test.command = command;
    m->test.caller = caller;
    m->test.started = m->now;
    snprintf(m->test.name, sizeof m->test.name, "%s", name);
    effects_job(m->fx, (unsigned)m->test.job, text ? blob_new(text, strlen(text)) : NULL);
    free(text);
    json_decref(job);
    return 0;
}

int upstream_on_test(struct metadata *m, const struct input *in)
{
    if (!m->test.job || in->timer != (unsigned)m->test.job)
        return ERR_NOT_FOUND;
    if (in->status > 0)
        return 0;
    struct source_set *set = in->result;
    char date[32], until[32];
    m->test.job = 0;
    if (in->status || !set) {
        int code = in->status ? in->status : ERR_UPSTREAM;
        command_fail(m, m->test.caller, m->test.command,
            err_fail(code, "%.*s", (int)in->body.len, in->body.len ? (const char *)in->body.data : ""));
        source_free(set);
        return 0;
    }
    json_t *data = json_pack("{s:s, s:b, s:s, s:s, s:s?, s:s?, s:s?, s:I, s:I, s:f}", "name", m->test.name,
        "ok", 1, "scope", set->scope, "version", set->version, "date",
        set->date.ns ? wall_text(set->date, date) : NULL, "valid_until",
        set->valid_until.ns ? wall_text(set->valid_until, until) : NULL, "signer",
        set->signer[0] ? set->signer : NULL, "records", (json_int_t)set->n, "bytes",
        (json_int_t)set->bytes_fetched, "seconds", (double)(m->now.ns - m->test.started.ns) / NS_PER_S);
    command_reply(m, m->test.caller, m->test.command, "upstream-test", data, 0);
    source_free(set);
    return 0;
}

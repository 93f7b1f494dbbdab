/* What operators ask about runs, the filter, the proof and the store. Every answer is of the applied
 * generation. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

static json_t *filter_json(struct metadata *m)
{
    json_t *f = m->filter.len ? json_loadb((const char *)m->filter.data, m->filter.len, 0, NULL) : NULL;
    if (!f)
        f = json_pack("{s:[], s:[], s:[]}", "products", "classifications", "architectures");
    json_object_set_new(f, "version", json_integer((json_int_t)m->filter_version));
    return f;
}

static int filter_set(struct metadata *m, json_t *args, json_t **ret_data, int *ret_exit)
{
    static const char *const fields[] = {"products", "classifications", "architectures"};
    if (!m->central)
        return err_fail(ERR_NOT_CENTRAL,
            "filters are set at the central site %s and hold for the whole tree; this is %s", m->top,
            m->site);
    const char *name;
    json_t *given;
    json_object_foreach(args, name, given)
    {
        bool known = strcmp(name, "dry_run") == 0;
        for (size_t i = 0; i < COUNT_OF(fields); i++)
            known = known || (strcmp(name, fields[i]) == 0 && json_is_array(given));
        if (!known)
            return err_fail(ERR_USAGE,
                "%.60s: not a list that filters; there are products, classifications, "
                "architectures",
                name);
    }
    json_t *old = filter_json(m), *f = json_object();
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        json_t *v = json_object_get(args, fields[i]);
        v = v && json_is_array(v) ? v : json_object_get(old, fields[i]);
        for (size_t k = 0; k < json_array_size(v); k++)
            if (!json_is_string(json_array_get(v, k))) {
                json_decref(old);
                json_decref(f);
                return err_fail(ERR_USAGE, "%s: a list of texts", fields[i]);
            }
        json_object_set(f, fields[i], v);
    }
    json_object_del(old, "version");
    bool changed = !json_equal(old, f);
    json_decref(old);
    if (changed && !arg_flag(args, "dry_run")) {
        char *text = json_dumps(f, JSON_COMPACT);
        buf_reset(&m->filter);
        buf_str(&m->filter, text ? text : "");
        free(text);
        m->filter_version++;
        meta_put(m->txn, "filter", buf_view(&m->filter));
        meta_put_u64(m->txn, "filter-version", m->filter_version);
    }
    json_object_set_new(f, "version", json_integer((json_int_t)m->filter_version));
    json_object_set_new(f, "changed", json_boolean(changed));
    *ret_exit = changed && arg_flag(args, "dry_run") ? 3 : 0;
    *ret_data = f;
    return m->filter.err;
}

static json_t *stored_run(struct metadata *m, uint64_t number)
{
    struct key8 k = key_u64(number);
    struct view v;
    return store_get(m->txn, TABLE_RUNS, KEY(k), &v) ? NULL
                                                     : json_loadb((const char *)v.data, v.len, 0, NULL);
}

static int sync_show(struct metadata *m, json_t *args, json_t **ret_data)
{
    const char *id = arg_text(args, "run");
    uint64_t number = id ? run_number(id) : m->run ? m->run->number : m->last_run;
    *ret_data = m->run && m->run->number == number ? run_json(m, m->run) : stored_run(m, number);
    return *ret_data ? 0
                     : err_fail(ERR_NOT_FOUND, "there is no run %s here; they are kept for %u runs",
                           id ? id : "yet", m->opt.runs_keep);
}

static int sync_list(struct metadata *m, json_t *args, json_t **ret_data)
{
    json_t *list = json_array();
    json_int_t limit = json_integer_value(json_object_get(args, "limit"));
    limit = limit <= 0 ? 50 : limit;
    for (uint64_t n = m->next_run;
         n && (json_int_t)json_array_size(list) < limit && n + m->opt.runs_keep > m->next_run; n--) {
        json_t *j = m->run && m->run->number == n ? run_json(m, m->run) : stored_run(m, n);
        const char *result = json_string_value(json_object_get(j, "result"));
        json_object_del(j, "hop");
        json_object_del(j, "phases");
        if (j && (!arg_flag(args, "failed") || (result && strcmp(result, "failed") == 0)))
            json_array_append(list, j);
        json_decref(j);
    }
    *ret_data = json_pack("{s:o}", "runs", list);
    return 0;
}

static json_t *when(struct metadata *m, const char *name)
{
    return json_time((struct wall){(int64_t)meta_get_u64(m->txn, name)});
}

static int sync_status(struct metadata *m, json_t **ret_data)
{
    json_t *j = m->run ? run_json(m, m->run) : m->last_run ? stored_run(m, m->last_run) : NULL;
    if (!j)
        j = json_pack("{s:n, s:n, s:n, s:n}", "run", "kind", "by", "phase");
    json_object_set_new(j, "active", json_boolean(m->run != NULL));
    json_object_set_new(j, "phase_number", m->run ? json_integer(m->run->phase) : json_null());
    json_object_set_new(j, "phases_total", json_integer(5));
    if (m->run) {
        double s = (double)(m->wall.ns - m->run->phase_started.ns) / NS_PER_S;
        double rate = s > 0 ? (double)m->run->bytes / s : 0;
        json_object_set_new(j, "items", json_integer((json_int_t)m->run->items));
        json_object_set_new(j, "items_total",
            m->run->items_total ? json_integer((json_int_t)m->run->items_total) : json_null());
        json_object_set_new(j, "bytes", json_integer((json_int_t)m->run->bytes));
        json_object_set_new(j, "bytes_total",
            m->run->bytes_total ? json_integer((json_int_t)m->run->bytes_total) : json_null());
        json_object_set_new(j, "rate", rate > 0 ? json_real(rate) : json_null());
        json_object_set_new(j, "left",
            rate > 0 && m->run->bytes_total > m->run->bytes
                ? json_real((double)(m->run->bytes_total - m->run->bytes) / rate)
                : json_null());
    }
    json_object_set_new(j, "queued", json_boolean(m->queued != NULL));
    json_object_set_new(j, "next_retry", when(m, "retry-at"));
    json_object_set_new(j, "next_scheduled",
        m->timers[TIMER_SCHEDULE].ns
            ? json_time((struct wall){m->wall.ns + m->timers[TIMER_SCHEDULE].ns - m->now.ns})
            : json_null());
    json_object_set_new(j, "state", json_string(state_word(m->state)));
    json_object_set_new(j, "cause", m->cause[0] ? json_string(m->cause) : json_null());
    json_object_set_new(
        j, "generation", m->applied ? json_integer((json_int_t)m->applied->generation) : json_null());
    json_object_set_new(
        j, "records", m->applied ? json_integer((json_int_t)m->applied->records) : json_null());
    json_object_set_new(j, "known_generation",
        m->known     ? json_integer((json_int_t)m->known->generation)
        : m->applied ? json_integer((json_int_t)m->applied->generation)
                     : json_null());
    json_object_set_new(j, "bytes_in", json_integer((json_int_t)m->delivered));
    json_object_set_new(j, "last_scheduled", when(m, "last-scheduled"));
    json_object_set_new(j, "last_any", when(m, "last-any"));
    *ret_data = j;
    return 0;
}

/* When the last generations came: signed by the centre, applied here, durable here. For the bench and for
 * metrics. */
static int sync_deliveries(struct metadata *m, json_t **ret_data)
{
    json_t *list = json_array();
    uint64_t from = m->n_deliveries > DELIVERIES ? m->n_deliveries - DELIVERIES : 0;
    for (uint64_t i = from; i < m->n_deliveries; i++) {
        const struct delivery *d = &m->deliveries[i % DELIVERIES];
        json_array_append_new(
            list, json_pack("[I, I, I, I]", (json_int_t)d->generation, (json_int_t)d->issued.ns,
                      (json_int_t)d->applied.ns, (json_int_t)d->committed.ns));
    }
    const struct hop_times *h = &m->hop;
    json_t *hop = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "generation",
        (json_int_t)h->generation, "signed_ns", (json_int_t)h->issued.ns, "requested_ns",
        (json_int_t)h->requested.ns, "first_byte_ns", (json_int_t)h->first_byte.ns, "last_byte_ns",
        (json_int_t)h->last_byte.ns, "verified_ns", (json_int_t)h->verified.ns, "committed_ns",
        (json_int_t)h->committed.ns, "bytes", (json_int_t)h->bytes);
    *ret_data = json_pack("{s:[s,s,s,s], s:o, s:o}", "columns", "generation", "signed_ns", "applied_ns",
        "durable_ns", "rows", list, "hop", hop);
    return 0;
}

/* `verify all`: what the sites reported (the node hands it in), beside what was just recomputed here. A site
 * that is not heard is neither equal nor different. */
static void compare_sites(
    const struct metadata *m, json_t *reports, const struct hash *root, bool ok, json_t *data, int *ret_exit)
{
    char hex[65];
    size_t i;
    json_t *report, *list = json_array();
    hex_encode(root->b, sizeof root->b, hex);
    json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:b, s:i}", "site", m->site, "generation",
                                    (json_int_t)m->applied->generation, "root", hex, "equal", ok, "seen", 0));
    json_array_foreach(reports, i, report)
    {
        const char *theirs = json_string_value(json_object_get(report, "root"));
        bool equal = ok && theirs && strcmp(theirs, hex) == 0;
        json_t *row = json_copy(report);
        json_object_set_new(row, "equal", theirs ? json_boolean(equal) : json_null());
        json_array_append_new(list, row);
        if (!equal)
            *ret_exit = 3;
    }
    json_object_set_new(data, "sites", list);
}

static int verify(struct metadata *m, json_t *args, json_t **ret_data, int *ret_exit)
{
    if (!m->applied)
        return err_fail(ERR_NOT_FOUND, "%s holds no generation yet", m->site);
    struct tree_report sum = {0};
    struct mono started = state_stopwatch(m);
    json_t *bad = json_array();
    AUTO_BUF list = {0};
    struct scope_entry *entries = calloc(m->applied->n_scopes + 1, sizeof *entries);
    struct hash root;
    bool mend = arg_flag(args, "mend");
    uint64_t deltas = 0;
    int rc = entries ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < m->applied->n_scopes; i++) {
        const struct scope_entry *e = &m->applied->scopes[i];
        struct tree_report r;
        AUTO_TREE t;
        state_tree(m, state_scope_find(m, e->name), &t);
        rc = tree_check(&t, &e->tree, true, mend, &r);
        if (rc)
            break;
        sum.pages += r.pages;
        sum.records += r.records;
        sum.bytes += r.bytes;
        sum.bad += r.bad;
        uint64_t bad_deltas = 0;
        if (arg_flag(args, "deep"))
            rc = delta_check(m->txn, &t, e, false, &deltas, &bad_deltas);
        if (rc)
            break;
        sum.bad += bad_deltas;
        if (bad_deltas)
            json_array_append_new(
                bad, json_pack("{s:s, s:I}", "scope", e->name, "deltas", (json_int_t)bad_deltas));
        entries[i] = *e;
        if (r.bad) {
            entries[i].tree.hash = (struct hash){0}; /* nothing that could be called its root */
            json_array_append_new(bad, json_pack("{s:s, s:I}", "scope", e->name, "pages", (json_int_t)r.bad));
        }
    }
    if (!rc) {
        head_pack_scopes(entries, m->applied->n_scopes, m->applied->recalls, m->applied->n_recalls,
            buf_view(&m->applied->revoked), &list);
        head_scopes_root(buf_view(&list), &root);
        bool ok = sum.bad == 0 && hash_eq(&root, &m->applied->root);
        *ret_exit = ok ? 0 : 3;
        m->verified_at = m->wall;
        status_touch(m);
        *ret_data = json_pack("{s:s, s:b, s:I, s:o, s:o, s:I, s:I, s:I, s:O, s:f}", "site", m->site, "ok", ok,
            "generation", (json_int_t)m->applied->generation, "root", json_hash(&m->applied->root),
            "recomputed", json_hash(&root), "pages", (json_int_t)sum.pages, "records",
            (json_int_t)sum.records, "bytes", (json_int_t)sum.bytes, "bad", bad, "seconds",
            (double)(state_stopwatch(m).ns - started.ns) / NS_PER_S);
        json_object_set_new(
            *ret_data, "deltas", arg_flag(args, "deep") ? json_integer((json_int_t)deltas) : json_null());
        if (arg_flag(args, "all"))
            compare_sites(m, json_object_get(args, "sites"), &root, ok, *ret_data, ret_exit);
    }
    free(entries);
    json_decref(bad);
    return rc;
}

static int store_status(struct metadata *m, json_t **ret_data)
{
    struct store_stat s;
    store_stat(m->store, &s);
    json_t *tables = json_object();
    for (unsigned i = 0; i < metadata_n_tables; i++)
        json_object_set_new(tables, metadata_tables[i], json_integer((json_int_t)s.entries[i]));
    *ret_data = json_pack("{s:[{s:s, s:I, s:I, s:o, s:i, s:I, s:f, s:I, s:I}]}", "stores", "store",
        "metadata", "used", (json_int_t)s.used_bytes, "limit", (json_int_t)s.limit_bytes, "tables", tables,
        "readers", (int)s.readers, "commits", (json_int_t)s.commits, "slowest_commit",
        (double)s.slowest_commit_ns / NS_PER_S, "pages_hashed_again", (json_int_t)m->rehashed,
        "pages_found_bad", (json_int_t)m->rehash_bad);
    return 0;
}

static int store_check(struct metadata *m, json_t *args, json_t **ret_data, int *ret_exit)
{
    json_t *findings = json_array(), *v = NULL;
    if (m->applied) {
        int rc = verify(m, args, &v, ret_exit);
        if (rc) {
            json_decref(findings);
            return rc;
        }
        size_t i;
        json_t *bad;
        json_array_foreach(json_object_get(v, "bad"), i, bad) json_array_append_new(findings,
            json_pack("{s:s, s:s, s:s, s:O}", "store", "metadata", "finding", "damaged pages", "where",
                json_string_value(json_object_get(bad, "scope")), "count", json_object_get(bad, "pages")));
        json_decref(v);
    }
    *ret_data = json_pack("{s:b, s:o}", "ok", *ret_exit == 0, "findings", findings);
    return 0;
}

/* What this site believes, and under which version the head was signed that it holds. */
static json_t *trust_show(struct metadata *m)
{
    char key[15], hierarchy[15];
    struct hash head;
    memcpy(head.b, m->trust.head_key, 32);
    uint64_t seen =
        m->fence && m->fence->trust_version > m->trust.version ? m->fence->trust_version : m->trust.version;
    return json_pack("{s:s, s:I, s:I, s:s, s:s, s:o, s:o, s:o}", "site", m->site, "version",
        (json_int_t)m->trust.version, "seen", (json_int_t)seen, "hierarchy",
        fingerprint_text(&m->trust.hierarchy, hierarchy), "head_key", fingerprint_text(&head, key),
        "head_version", m->applied ? json_integer((json_int_t)m->applied->trust_version) : json_null(),
        "generation", m->applied ? json_integer((json_int_t)m->applied->generation) : json_null(), "central",
        m->top[0] ? json_string(m->top) : json_null());
}

int query_command(struct metadata *m, const char *verb, json_t *args, json_t **ret_data, int *ret_exit)
{
    if (strcmp(verb, "catalogue.show") == 0)
        return catalogue_show(m, ret_data);
    if (strcmp(verb, "catalogue.scopes") == 0)
        return catalogue_scopes(m, ret_data);
    if (strcmp(verb, "catalogue.list") == 0 || strcmp(verb, "catalogue.search") == 0)
        return catalogue_list(m, args, false, ret_data);
    if (strcmp(verb, "catalogue.count") == 0)
        return catalogue_list(m, args, true, ret_data);
    if (strcmp(verb, "update.show") == 0)
        return update_show(m, args, ret_data);
    if (strcmp(verb, "recall.list") == 0)
        return recall_list(m, ret_data);
    if (strcmp(verb, "recall.show") == 0)
        return recall_show(m, view_str(arg_text(args, "id") ? arg_text(args, "id") : ""), ret_data);
    if (strcmp(verb, "filter.show") == 0) {
        *ret_data = filter_json(m);
        return 0;
    }
    if (strcmp(verb, "filter.set") == 0)
        return filter_set(m, args, ret_data, ret_exit);
    if (strcmp(verb, "sync.show") == 0)
        return sync_show(m, args, ret_data);
    if (strcmp(verb, "sync.list") == 0)
        return sync_list(m, args, ret_data);
    if (strcmp(verb, "sync.status") == 0)
        return sync_status(m, ret_data);
    if (strcmp(verb, "sync.deliveries") == 0)
        return sync_deliveries(m, ret_data);
    if (strcmp(verb, "trust.show") == 0) {
        *ret_data = trust_show(m);
        return 0;
    }
    if (strcmp(verb, "verify") == 0)
        return verify(m, args, ret_data, ret_exit);
    if (strcmp(verb, "store.stat") == 0)
        return store_status(m, ret_data);
    if (strcmp(verb, "store.check") == 0)
        return store_check(m, args, ret_data, ret_exit);
    return err_fail(ERR_USAGE, "the catalogue has no command %s", verb);
}

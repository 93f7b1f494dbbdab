/* What operators ask about the catalogue: listed, searched, counted, one update. Of the applied generation.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define LIST_LIMIT 1000
#define LIST_MOST 20000

static const char *record_state(const struct metadata *m, const struct record *r)
{
    if (r->flags & RECORD_TOMBSTONE)
        return "removed";
    return r->flags & RECORD_EXPIRED || recall_ahead_of(m, r->key) ? "expired" : "active";
}

int catalogue_show(struct metadata *m, json_t **ret_data)
{
    char epoch[33];
    if (!m->applied)
        return err_fail(ERR_NOT_FOUND, "%s holds no generation yet", m->site);
    const struct head *h = m->applied;
    uint64_t bytes = 0;
    for (size_t i = 0; i < h->n_scopes; i++)
        bytes += h->scopes[i].tree.bytes;
    *ret_data = json_pack("{s:I, s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "generation",
        (json_int_t)h->generation, "epoch", hex_encode(h->epoch.b, 16, epoch), "epoch_counter",
        (json_int_t)h->epoch_counter, "head", json_hash(&h->hash), "root", json_hash(&h->root), "issued",
        json_time(h->issued), "expires", json_time(h->expires), "scopes", (json_int_t)h->n_scopes, "records",
        (json_int_t)h->records, "active", (json_int_t)h->live, "bytes", (json_int_t)bytes);
    return 0;
}

static int count_flags(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    uint64_t *n = ctx;
    n[r->flags & RECORD_TOMBSTONE ? 2 : r->flags & RECORD_EXPIRED ? 1 : 0]++;
    return 0;
}

int catalogue_scopes(struct metadata *m, json_t **ret_data)
{
    json_t *list = json_array();
    for (size_t i = 0; m->applied && i < m->applied->n_scopes; i++) {
        const struct scope_entry *e = &m->applied->scopes[i];
        struct scope *s = state_scope_find(m, e->name);
        uint64_t n[3] = {0};
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = tree_each(&t, &e->tree, count_flags, n);
        if (rc) {
            json_decref(list);
            return err_wrap(rc, "%s", e->name);
        }
        json_array_append_new(list,
            json_pack("{s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "scope", e->name, "serial",
                (json_int_t)e->serial, "root", json_hash(&e->tree.hash), "records", (json_int_t)e->tree.count,
                "live", (json_int_t)n[0], "expired", (json_int_t)n[1], "tombstones", (json_int_t)n[2],
                "bytes", (json_int_t)e->tree.bytes, "delta_floor", (json_int_t)e->delta_floor, "delta_bytes",
                (json_int_t)e->delta_bytes, "tombstone_floor", (json_int_t)e->tombstone_floor));
    }
    *ret_data = json_pack("{s:o}", "scopes", list);
    return 0;
}

struct listing {
    struct metadata *m;
    struct arena arena;
    const char *scope, *text, *product, *classification, *architecture, *state, *by, *after;
    json_t *counts;
    struct found {
        char *id;
        json_t *row;
    } * found;
    size_t n, cap;
    uint64_t total;
    const char *scope_now;
};

static bool contains(const char *hay, const char *needle)
{
    return hay && strcasestr(hay, needle);
}

static bool listing_match(
    const struct listing *l, const char *id, const Sitetree__Update *u, const struct record *r)
{
    if (l->state ? strcmp(l->state, record_state(l->m, r)) != 0 : (r->flags & RECORD_TOMBSTONE) != 0)
        return false;
    if (l->product && strcmp(l->product, u->product) != 0)
        return false;
    if (l->classification && strcmp(l->classification, u->classification) != 0)
        return false;
    if (l->architecture && strcmp(l->architecture, u->architecture) != 0)
        return false;
    if (!l->text)
        return true;
    if (contains(id, l->text) || contains(u->title, l->text) || contains(u->description, l->text))
        return true;
    for (size_t i = 0; i < u->n_cves; i++)
        if (contains(u->cves[i], l->text))
            return true;
    for (size_t i = 0; i < u->n_articles; i++)
        if (contains(u->articles[i], l->text))
            return true;
    return false;
}

static int visit_list(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    struct listing *l = ctx;
    char id[RECORD_KEY_MAX + 1];
    int rc;
    memcpy(id, r->key.data, r->key.len);
    id[r->key.len] = 0;
    arena_reset(&l->arena);
    Sitetree__Update *u = MESSAGE_UNPACK(&l->arena, r->value, RECORD_VALUE_MAX, update, &rc);
    if (!u)
        return rc;
    if (!listing_match(l, id, u, r))
        return 0;
    l->total++;
    if (l->by) {
        const char *v = strcmp(l->by, "product") == 0          ? u->product
                        : strcmp(l->by, "classification") == 0 ? u->classification
                        : strcmp(l->by, "architecture") == 0   ? u->architecture
                        : strcmp(l->by, "state") == 0          ? record_state(l->m, r)
                                                               : l->scope_now;
        json_int_t n = json_integer_value(json_object_get(l->counts, v));
        json_object_set_new(l->counts, v, json_integer(n + 1));
        return 0;
    }
    if (l->after && strcmp(id, l->after) <= 0)
        return 0;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        struct found *list = realloc(l->found, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        l->found = list;
        l->cap = cap;
    }
    l->found[l->n].id = strdup(id);
    l->found[l->n++].row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "id", id, "title", u->title,
        "classification", u->classification, "product", u->product, "severity", u->severity, "state",
        record_state(l->m, r), "scope", l->scope_now);
    return 0;
}

static int found_order(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->id, ((const struct found *)b)->id);
}

static int list_all(struct listing *l)
{
    struct metadata *m = l->m;
    int rc = 0;
    for (size_t i = 0; !rc && m->applied && i < m->applied->n_scopes; i++) {
        const struct scope_entry *e = &m->applied->scopes[i];
        if (l->scope && strcmp(l->scope, e->name) != 0)
            continue;
        l->scope_now = e->name;
        AUTO_TREE t;
        state_tree(m, state_scope_find(m, e->name), &t);
        rc = err_wrap(tree_each(&t, &e->tree, visit_list, l), "%s", e->name);
    }
    return rc;
}

int catalogue_list(struct metadata *m, json_t *args, bool count, json_t **ret_data)
{
    struct listing l = {.m = m,
        .scope = arg_text(args, "scope"),
        .text = arg_text(args, "text"),
        .product = arg_text(args, "product"),
        .classification = arg_text(args, "classification"),
        .architecture = arg_text(args, "architecture"),
        .state = arg_text(args, "state"),
        .after = arg_text(args, "after")};
    json_int_t limit = json_integer_value(json_object_get(args, "limit"));
    limit = limit <= 0 ? LIST_LIMIT : limit > LIST_MOST ? LIST_MOST : limit;
    if (count) {
        l.by = arg_text(args, "by") ? arg_text(args, "by") : "scope";
        l.counts = json_object();
    }
    arena_init(&l.arena);
    int rc = list_all(&l);
    if (l.n)
        qsort(l.found, l.n, sizeof *l.found, found_order);
    json_t *updates = json_array();
    for (size_t i = 0; i < l.n && (json_int_t)i < limit; i++)
        json_array_append(updates, l.found[i].row);
    json_t *next = (json_int_t)l.n > limit ? json_string(l.found[limit - 1].id) : json_null();
    for (size_t i = 0; i < l.n; i++) {
        free(l.found[i].id);
        json_decref(l.found[i].row);
    }
    free(l.found);
    arena_done(&l.arena);
    if (!rc && count) {
        const char *value;
        json_t *n;
        json_object_foreach(l.counts, value, n)
            json_array_append_new(updates, json_pack("{s:s, s:O}", "value", value, "records", n));
        *ret_data = json_pack("{s:s, s:O, s:I}", "by", l.by, "counts", updates, "total", (json_int_t)l.total);
        json_decref(next);
    } else if (!rc) {
        *ret_data =
            json_pack("{s:O, s:I, s:o}", "updates", updates, "total", (json_int_t)l.total, "next", next);
    } else {
        json_decref(next);
    }
    json_decref(l.counts);
    json_decref(updates);
    return rc;
}

static json_t *texts(char **list, size_t n)
{
    json_t *j = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(j, json_string(list[i]));
    return j;
}

static json_t *update_json(const Sitetree__Update *u)
{
    json_t *files = json_array();
    char hex[65];
    for (size_t i = 0; i < u->n_files; i++) {
        const Sitetree__UpdateFile *f = u->files[i];
        json_array_append_new(
            files, json_pack("{s:s, s:I, s:s?, s:s}", "name", f->name, "size", (json_int_t)f->size, "sha256",
                       f->sha256.len == 32 ? hex_encode(f->sha256.data, 32, hex) : NULL, "url", f->url));
    }
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:s, "
                     "s:s, s:s, s:s, s:s, s:I}",
        "revision", (json_int_t)u->revision, "title", u->title, "description", u->description,
        "classification", u->classification, "product", u->product, "severity", u->severity, "articles",
        texts(u->articles, u->n_articles), "cves", texts(u->cves, u->n_cves), "publisher", u->publisher,
        "issued", json_time((struct wall){(int64_t)u->issued}), "supersedes",
        texts(u->supersedes, u->n_supersedes), "superseded_by", u->superseded_by, "package", u->package,
        "version", u->version, "architecture", u->architecture, "files", files, "section", u->section,
        "homepage", u->homepage, "source", u->source, "depends", u->depends, "priority", u->priority,
        "installed_size", (json_int_t)u->installed_size);
}

int update_show(struct metadata *m, json_t *args, json_t **ret_data)
{
    const char *id = arg_text(args, "id");
    if (!id || strlen(id) > RECORD_KEY_MAX || !*id)
        return err_fail(ERR_USAGE, "which update? ids look like deb/<name>/<version>/<architecture>");
    for (size_t i = 0; m->applied && i < m->applied->n_scopes; i++) {
        struct scope *s = state_scope_find(m, m->applied->scopes[i].name);
        struct record r;
        struct hash h;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = tree_get(&t, &s->applied.tree, view_str(id), &r);
        if (rc == ERR_NOT_FOUND)
            continue;
        if (rc)
            return err_wrap(rc, "%s", s->name);
        AUTO_ARENA a;
        arena_init(&a);
        Sitetree__Update *u = MESSAGE_UNPACK(&a, r.value, RECORD_VALUE_MAX, update, &rc);
        if (!u)
            return rc;
        record_hash(s->salt, r.bytes, &h);
        json_t *j = update_json(u);
        json_object_set_new(j, "id", json_string(id));
        json_object_set_new(j, "state", json_string(record_state(m, &r)));
        const struct recall *ahead = recall_ahead_of(m, r.key);
        json_object_set_new(j, "recalled", ahead ? json_integer((json_int_t)ahead->generation) : json_null());
        json_object_set_new(j, "scope", json_string(s->name));
        json_object_set_new(j, "serial", json_integer((json_int_t)r.serial));
        json_object_set_new(j, "hash", json_hash(&h));
        *ret_data = j;
        return 0;
    }
    return err_fail(ERR_NOT_FOUND, "there is no update %s in generation %" PRIu64, id,
        m->applied ? m->applied->generation : 0);
}

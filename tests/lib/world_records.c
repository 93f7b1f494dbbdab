#include "tests/lib/world_catalogue.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "proto/trust.pb-c.h"
#include "services/metadata/head.h"
#include "services/metadata/tree.h"
#include "tests/lib/world_catalogue_internal.h"
#include "tests/lib/world_internal.h"

/* What scenarios ask. */

struct find {
    const char *key;
    struct world_key found;
    unsigned *counts;
    struct world *w;
    unsigned matched;
    char *why;
    size_t why_len;
};

static enum world_record record_state(const struct record *r)
{
    if (r->flags & RECORD_TOMBSTONE)
        return WORLD_TOMBSTONE;
    return r->flags & RECORD_EXPIRED ? WORLD_EXPIRED : WORLD_LIVE;
}

static uint64_t revision_of(struct view value)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Update *u = MESSAGE_UNPACK(&a, value, 1u << 20, update, &rc);
    const char *at = u ? strrchr(u->title, ' ') : NULL;
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static int find_record(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    struct find *f = ctx;
    enum world_record state = record_state(r);
    if (f->counts)
        f->counts[state]++;
    if (f->key && view_eq(r->key, view_str(f->key)))
        f->found = (struct world_key){state, revision_of(r->value)};
    return 0;
}

static void look(struct world *w, const char *code, tree_visit_fn *visit, void *ctx)
{
    struct store_txn *t;
    struct head *h = NULL;
    if (store_begin(site_find(w, code)->worker.store, false, &t))
        return;
    int rc = catalogue_head(w, t, &h);
    if (rc == 0)
        rc = catalogue_each(w, t, h, visit, ctx);
    if (rc && rc != ERR_NOT_FOUND)
        world_break(w, "probe", "%s: %s", code, err_text(rc));
    head_free(h);
    store_abort(t);
}

struct world_key world_key(struct world *w, const char *code, const char *key)
{
    struct find f = {.key = key};
    look(w, code, find_record, &f);
    return f.found;
}

void world_count(struct world *w, const char *code, unsigned ret_counts[4])
{
    memset(ret_counts, 0, 4 * sizeof *ret_counts);
    struct find f = {.counts = ret_counts};
    look(w, code, find_record, &f);
}

static const struct upstream_item *offered(struct world *w, struct view key)
{
    struct upstreams *us = upstreams_of(w);
    for (size_t i = 0; i < us->n; i++)
        for (size_t k = 0; k < us->list[i].n; k++)
            if (view_eq(key, view_str(us->list[i].items[k].key)))
                return &us->list[i].items[k];
    return NULL;
}

static int match_record(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    struct find *f = ctx;
    if (record_state(r) != WORLD_LIVE)
        return 0;
    const struct upstream_item *it = offered(f->w, r->key);
    uint64_t revision = revision_of(r->value);
    if (it && it->revision == revision)
        f->matched++;
    else
        snprintf(f->why, f->why_len, "%.*s is live in revision %llu, the upstream %s %llu", (int)r->key.len,
            r->key.data, (unsigned long long)revision, it ? "offers" : "has it no more",
            it ? (unsigned long long)it->revision : 0);
    return 0;
}

bool world_equals_upstreams(struct world *w, const char *code, char *ret_why, size_t why_len)
{
    struct upstreams *us = upstreams_of(w);
    struct find f = {.w = w, .why = ret_why, .why_len = why_len};
    size_t items = 0;
    ret_why[0] = 0;
    look(w, code, match_record, &f);
    for (size_t i = 0; i < us->n; i++)
        items += us->list[i].n;
    if (!ret_why[0] && f.matched != items)
        snprintf(ret_why, why_len, "%s: %u of %zu items are live", code, f.matched, items);
    return ret_why[0] == 0;
}

/* The statement that makes the key of a forgery look right. */
static void pack_trust(
    struct world *w, enum world_trust kind, const struct sign_key *head_key, struct buf *out)
{
    struct sign_key root = w->root_key;
    uint8_t signature[64];
    AUTO_BUF payload = {0};
    if (kind == WORLD_TRUST_FOREIGN)
        sign_key_from_seed((const uint8_t *)"a root key that is only made up..", &root);
    Sitetree__Trust t = SITETREE__TRUST__INIT;
    t.hierarchy = pb_bytes(view_of(w->hierarchy.b, sizeof w->hierarchy.b));
    t.version = kind == WORLD_TRUST_OLD ? 1 : 1000;
    t.root_key = pb_bytes(view_of(root.public, sizeof root.public));
    t.head_key = pb_bytes(view_of(head_key->public, sizeof head_key->public));
    message_pack(&t.base, &payload);
    sign_detached(&root, "trust", buf_view(&payload), signature);
    signature[9] ^= kind == WORLD_TRUST_UNSIGNED;
    Sitetree__Signed m = SITETREE__SIGNED__INIT;
    m.payload = pb_bytes(buf_view(&payload));
    m.signature = pb_bytes(view_of(signature, sizeof signature));
    m.key = pb_bytes(view_of(root.public, sizeof root.public));
    message_pack(&m.base, out);
}

static int pack_forgery(struct world *w, struct head *h, const struct world_forgery *f, struct buf *ret_bytes)
{
    AUTO_BUF scopes = {0}, payload = {0}, packed = {0}, trust = {0};
    struct sign_key key = w->head_key;
    uint8_t signature[64];
    if (f->old_key)
        key = w->old_head_key;
    if (f->other_key)
        sign_key_from_seed((const uint8_t *)"a key that nobody ever trusted..", &key);
    head_pack_scopes(h->scopes, h->n_scopes, h->recalls, h->n_recalls, buf_view(&h->revoked), &scopes);
    head_scopes_root(buf_view(&scopes), &h->root);
    head_pack_payload(h, &w->hierarchy, &payload);
    sign_detached(&key, "head", buf_view(&payload), signature);
    if (f->strange)
        properties_signed(w, buf_view(&payload));
    signature[5] ^= f->bad_signature;
    Sitetree__Signed m = SITETREE__SIGNED__INIT;
    m.payload = pb_bytes(buf_view(&payload));
    m.signature = pb_bytes(view_of(signature, sizeof signature));
    m.key = pb_bytes(view_of(key.public, sizeof key.public));
    message_pack(&m.base, &packed);
    if (f->trust)
        pack_trust(w, f->trust, &key, &trust);
    return head_pack_bytes(buf_view(&packed), buf_view(&scopes), buf_view(&trust), ret_bytes);
}

struct blob *world_forge(struct world *w, const char *code, const struct world_forgery *f)
{
    struct store_txn *t;
    struct head *h = NULL;
    struct blob *b = NULL;
    AUTO_BUF bytes = {0};
    AUTO_ARENA a;
    arena_init(&a);
    if (store_begin(site_find(w, code)->worker.store, false, &t))
        return NULL;
    int rc = catalogue_head(w, t, &h);
    store_abort(t);
    if (rc)
        return NULL;
    h->previous = h->hash;
    h->previous.b[7] ^= f->other_previous;
    h->generation = (uint64_t)((int64_t)h->generation + f->generation);
    h->expires.ns += f->expires;
    if (h->issued.ns >= h->expires.ns)
        h->issued.ns = h->expires.ns - NS_PER_S;
    h->epoch_counter += f->counter;
    h->trust_version -= f->old_key && h->trust_version == w->trust_version;
    if (f->strange && h->n_scopes) {
        h->scopes[0].serial += 1000;
        memset(h->scopes[0].tree.hash.b, 0x5a, 32); /* the same for everybody */
    }
    if (f->other_epoch)
        chance_fill(&w->chance, h->epoch.b, sizeof h->epoch.b);
    rc = pack_forgery(w, h, f, &bytes);
    Sitetree__Hint hint = SITETREE__HINT__INIT;
    hint.head = rc ? NULL : MESSAGE_UNPACK(&a, buf_view(&bytes), 4u << 20, head_bytes, &rc);
    if (hint.head)
        b = frame_pack(FRAME_HINT, CLASS_HEAD, 0, NULL, &hint.base, false);
    head_free(h);
    return b;
}

unsigned world_stray_pages(struct world *w, const char *code)
{
    struct store *store = site_find(w, code)->worker.store;
    struct store_txn *t;
    struct head *h = NULL;
    struct store_stat stat;
    uint64_t reached = 0;
    if (store_begin(store, false, &t))
        return 0;
    int rc = catalogue_head(w, t, &h);
    for (size_t i = 0; !rc && i < h->n_scopes; i++) {
        const struct scope_entry *e = &h->scopes[i];
        struct tree_report report = {0};
        uint8_t salt[16];
        uint32_t id;
        scope_salt(e->name, salt);
        if (catalogue_scope_id(t, e->name, &id))
            continue;
        struct tree tree;
        tree_init(&tree, t, id, salt);
        rc = tree_check(&tree, &e->tree, false, false, &report);
        tree_done(&tree);
        reached += report.pages;
    }
    head_free(h);
    store_abort(t);
    store_stat(store, &stat);
    return rc ? 0 : (unsigned)(stat.entries[TABLE_PAGES] - reached);
}

unsigned world_lose_pages(struct world *w, const char *code, unsigned most)
{
    struct store_txn *t;
    unsigned n = 0;
    if (store_begin(site_find(w, code)->worker.store, true, &t))
        return 0;
    struct store_walk walk = store_walk_from(t, TABLE_PAGES, view_of("", 0), view_of("", 0));
    while (n < most && store_walk_next(&walk)) {
        struct stored_page page;
        struct page_key key;
        if (stored_page_parse(walk.value, &page) || page.kind != PAGE_LEAF)
            continue;
        memcpy(key.b, walk.key.data, sizeof key.b);
        store_del(t, TABLE_PAGES, KEY(key));
        n++;
    }
    return store_commit(t) ? 0 : n;
}

static void turn_last_bit(struct store_txn *t, unsigned table, struct view key, struct view value)
{
    AUTO_BUF k = {0}, v = {0};
    buf_append_view(&k, key);
    buf_append_view(&v, value);
    v.data[v.len - 1] ^= 1;
    store_put(t, table, buf_view(&k), buf_view(&v));
}

unsigned world_damage_pages(struct world *w, const char *code, unsigned most)
{
    struct store_txn *t;
    unsigned n = 0;
    if (store_begin(site_find(w, code)->worker.store, true, &t))
        return 0;
    struct store_walk walk = store_walk_from(t, TABLE_PAGES, view_of("", 0), view_of("", 0));
    while (n < most && store_walk_next(&walk)) {
        struct stored_page page;
        if (stored_page_parse(walk.value, &page) || page.kind != PAGE_LEAF)
            continue;
        turn_last_bit(t, TABLE_PAGES, walk.key, walk.value);
        n++;
    }
    return store_commit(t) ? 0 : n;
}

unsigned world_damage_deltas(struct world *w, const char *code)
{
    struct store_txn *t;
    struct view key, value;
    if (store_begin(site_find(w, code)->worker.store, true, &t))
        return 0;
    unsigned n = store_last(t, TABLE_DELTAS, (struct view){0}, &key, &value) == 0;
    if (n)
        turn_last_bit(t, TABLE_DELTAS, key, value);
    return store_commit(t) ? 0 : n;
}

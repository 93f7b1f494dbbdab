/* Pages, records, deltas and the trie that they are applied to. 'r': records one after the other. 'n': an
 * inner page. 'p': a stored page. 'v': a page from a parent, named by its own hash, so that what it holds is
 * looked at. 'd': a delta from a parent. 't': a delta whose records go onto a small tree: the tree is then
 * what the same set makes from nothing, and whole. 'z': a stored delta. */
#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "services/metadata/delta.h"
#include "services/metadata/metadata.h"
#include "tests/fuzz/target.h"

#define SCOPE 1u
#define BASE 90u /* records of the tree before the delta: an inner root with leaves below */

static uint8_t salt[16];

static void tree_cleanup_one(struct tree *t)
{
    tree_done(t);
}
#define LOCAL_TREE CLEANUP(tree_cleanup_one) struct tree

static void inside(struct view part, struct view whole)
{
    PROMISE(part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

static void records(struct view v)
{
    struct reader r = reader_of(v);
    struct record rec;
    while (r.rest.len && record_parse(&r, &rec) == 0) {
        AUTO_BUF again = {0};
        inside(rec.key, v);
        inside(rec.value, v);
        PROMISE(rec.key.len && rec.key.len <= RECORD_KEY_MAX && rec.value.len <= RECORD_VALUE_MAX);
        record_pack(&again, rec.key, rec.value, rec.serial, rec.flags);
        PROMISE(view_eq(buf_view(&again), rec.bytes)); /* one way only to write a record */
    }
}

static void inner(struct view v)
{
    struct inner n;
    AUTO_BUF again = {0};
    if (inner_parse(v, &n))
        return;
    PROMISE(inner_sum(&n).count > LEAF_MAX);
    inner_pack(&n, &again);
    PROMISE(view_eq(buf_view(&again), v));
}

static void stored(struct view v)
{
    struct stored_page p;
    struct view raw;
    AUTO_BUF scratch = {0};
    AUTO_BUF late = {0};
    if (stored_page_parse(v, &p))
        return;
    inside(p.data, v);
    PROMISE(p.n == 0 || (p.record_hashes >= v.data && p.record_hashes + 32u * p.n <= v.data + v.len));
    if (stored_page_raw(&p, &scratch, &raw) == 0)
        PROMISE(raw.len == p.raw_len);
    (void)page_pack_late(&p, &late);
}

/* As the place, the count and the kind say that the first bytes name. */
static void verify(struct view v)
{
    struct reader r = reader_of(v);
    struct place at = {.depth = read_u8(&r) % (PLACE_MAX + 1)};
    struct subtree want = {.count = read_be16(&r)};
    AUTO_BUF hashes = {0};
    if (r.bad)
        return;
    struct view raw = r.rest;
    if (!subtree_is_leaf(&want, at)) {
        inner_hash(salt, at, raw, &want.hash);
    } else {
        struct record rec;
        AUTO_BUF all = {0};
        while (r.rest.len && record_parse(&r, &rec) == 0) {
            struct hash h;
            record_hash(salt, rec.bytes, &h);
            buf_append(&all, h.b, 32);
        }
        leaf_hash(salt, at, (const void *)all.data, (uint32_t)(all.len / 32), &want.hash);
    }
    int rc = page_verify(salt, at, &want, raw, &hashes);
    PROMISE(rc == 0 || rc == ERR_MALFORMED || rc == ERR_ROOT);
    if (rc == 0 && subtree_is_leaf(&want, at))
        PROMISE(hashes.len == want.count * 32u);
    want.hash.b[5] ^= 1;
    PROMISE(page_verify(salt, at, &want, raw, &hashes) != 0);
}

static void delta(struct view v)
{
    struct delta d;
    struct changes c = {0};
    if (delta_parse(v, &d))
        return;
    inside(d.scope, v);
    if (delta_changes(&d, salt, &c) == 0) {
        PROMISE(c.n == (size_t)d.n_records + d.n_drops);
        for (size_t i = 0; i < c.n; i++)
            inside(c.list[i].key, v);
        PROMISE(change_sort(c.list, &c.n) == 0);
        for (size_t i = 1; i < c.n; i++)
            PROMISE(memcmp(c.list[i - 1].key_hash.b, c.list[i].key_hash.b, 32) < 0);
    }
    changes_done(&c);
}

static void base_changes(struct buf *bytes, struct changes *c)
{
    size_t at[BASE], len[BASE];
    for (uint8_t i = 0; i < BASE; i++) {
        uint8_t value[20];
        memset(value, i, sizeof value);
        at[i] = bytes->len;
        record_pack(bytes, view_of(&i, 1), view_of(value, i % sizeof value), 1, 0);
        len[i] = bytes->len - at[i];
    }
    PROMISE(bytes->err == 0);
    for (size_t i = 0; i < BASE; i++) {
        struct change one;
        struct reader r = reader_of(view_of(bytes->data + at[i], len[i]));
        struct record rec;
        PROMISE(record_parse(&r, &rec) == 0);
        change_init(&one, salt, rec.key, rec.bytes);
        PROMISE(changes_add(c, one) == 0);
    }
    PROMISE(change_sort(c->list, &c->n) == 0);
}

static int collect(void *ctx, const struct record *r, const struct hash *hash)
{
    struct buf *b = ctx;
    struct hash h;
    record_hash(salt, r->bytes, &h);
    PROMISE(hash_eq(&h, hash));
    buf_append_view(b, r->bytes);
    return 0;
}

/* The set of records in one tree, made again from nothing below another scope's number. */
static void same_from_nothing(struct store_txn *txn, struct view bytes, const struct subtree *want)
{
    LOCAL_TREE t;
    struct changes c = {0};
    struct subtree none = {0}, got = {0};
    struct reader r = reader_of(bytes);
    struct record rec;
    tree_init(&t, txn, SCOPE + 1, salt);
    while (r.rest.len) {
        struct change one;
        PROMISE(record_parse(&r, &rec) == 0);
        change_init(&one, salt, rec.key, rec.bytes);
        PROMISE(changes_add(&c, one) == 0);
    }
    size_t n = c.n;
    PROMISE(change_sort(c.list, &c.n) == 0 && n == c.n && n == want->count);
    PROMISE(tree_update(&t, &none, c.list, n, &got) == 0);
    PROMISE(got.count == want->count && got.bytes == want->bytes &&
            (got.count == 0 || hash_eq(&got.hash, &want->hash)));
    changes_done(&c);
}

static void apply(struct store_txn *txn, struct view v)
{
    LOCAL_TREE t;
    struct subtree none = {0}, before = {0}, after = {0};
    struct changes base = {0}, c = {0};
    struct tree_report report;
    struct delta d;
    AUTO_BUF bytes = {0};
    AUTO_BUF all = {0};
    tree_init(&t, txn, SCOPE, salt);
    base_changes(&bytes, &base);
    PROMISE(tree_update(&t, &none, base.list, base.n, &before) == 0 && before.count == BASE);
    if (delta_parse(v, &d) == 0 && delta_changes(&d, salt, &c) == 0) {
        PROMISE(change_sort(c.list, &c.n) == 0);
        PROMISE(tree_update(&t, &before, c.list, c.n, &after) == 0);
        if (after.count) {
            PROMISE(tree_check(&t, &after, true, false, &report) == 0 && report.bad == 0);
            PROMISE(report.records == after.count && report.bytes == after.bytes);
            PROMISE(tree_each(&t, &after, collect, &all) == 0 && all.err == 0);
        }
        same_from_nothing(txn, buf_view(&all), &after);
    }
    changes_done(&base);
    changes_done(&c);
}

static void on_a_tree(struct view v)
{
    static struct store *store;
    struct store_options opt = {.tables = metadata_tables, .n_tables = metadata_n_tables};
    struct store_txn *txn;
    if (!store)
        PROMISE(store_open_memory(&opt, &store) == 0);
    PROMISE(store_begin(store, true, &txn) == 0);
    apply(txn, v);
    PROMISE(store_txn_error(txn) == 0);
    store_abort(txn);
}

static void stored_delta(struct view v)
{
    struct store_options opt = {.tables = metadata_tables, .n_tables = metadata_n_tables};
    static struct store *store;
    struct store_txn *txn;
    struct stored_delta d;
    struct key12 k = key_delta(SCOPE, 7);
    if (!store)
        PROMISE(store_open_memory(&opt, &store) == 0);
    PROMISE(store_begin(store, true, &txn) == 0);
    store_put(txn, TABLE_DELTAS, KEY(k), v);
    int rc = delta_get(txn, SCOPE, 7, &d);
    PROMISE(rc == 0 || rc == ERR_CORRUPT);
    if (rc == 0)
        PROMISE(d.zstd.len == v.len - 68);
    store_abort(txn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0 || crypto_init())
        return 0;
    struct view v = view_of(data + 1, len - 1);
    switch (data[0]) {
    case 'r':
        records(v);
        break;
    case 'n':
        inner(v);
        break;
    case 'p':
        stored(v);
        break;
    case 'v':
        verify(v);
        break;
    case 'd':
        delta(v);
        break;
    case 't':
        on_a_tree(v);
        break;
    case 'z':
        stored_delta(v);
        break;
    default:
        break;
    }
    return 0;
}

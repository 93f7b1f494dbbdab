#include "services/metadata/delta.h"

#include <stdlib.h>

static int change_key_order(const void *a, const void *b)
{
    const struct change *const *x = a, *const *y = b;
    return view_cmp((*x)->key, (*y)->key);
}

/* Sorted by key, not by hash: neighbours in the alphabet look alike, which is worth a tenth of the bytes. */
void delta_pack(struct buf *out, const char *scope, uint64_t serial, const struct hash *previous_root,
    const struct hash *new_root, const struct hash *previous_delta, uint64_t tombstone_floor,
    const struct change *changes, size_t n)
{
    const struct change **order = malloc((n ? n : 1) * sizeof *order);
    uint32_t records = 0;
    if (!order) {
        out->err = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = &changes[i];
        records += changes[i].record.len != 0;
    }
    qsort(order, n, sizeof *order, change_key_order);
    buf_u8(out, 1);
    buf_be16(out, (uint16_t)strlen(scope));
    buf_str(out, scope);
    buf_be64(out, serial);
    buf_append(out, previous_root->b, 32);
    buf_append(out, new_root->b, 32);
    buf_append(out, previous_delta->b, 32);
    buf_be64(out, tombstone_floor);
    buf_be32(out, records);
    buf_be32(out, (uint32_t)(n - records));
    for (size_t i = 0; i < n; i++)
        buf_append_view(out, order[i]->record);
    for (size_t i = 0; i < n; i++)
        if (order[i]->record.len == 0) {
            buf_be16(out, (uint16_t)order[i]->key.len);
            buf_append_view(out, order[i]->key);
        }
    free(order);
}

int delta_parse(struct view raw, struct delta *ret_delta)
{
    struct reader r = reader_of(raw);
    struct delta d;
    uint8_t version = read_u8(&r);
    d.scope = read_bytes(&r, read_be16(&r));
    d.serial = read_be64(&r);
    struct view hashes = read_bytes(&r, 96);
    d.tombstone_floor = read_be64(&r);
    d.n_records = read_be32(&r);
    d.n_drops = read_be32(&r);
    if (r.bad || version != 1 || raw.len > DELTA_RAW_MAX)
        return err_fail(ERR_MALFORMED, "not a delta");
    memcpy(d.previous_root.b, hashes.data, 32);
    memcpy(d.new_root.b, hashes.data + 32, 32);
    memcpy(d.previous_delta.b, hashes.data + 64, 32);
    d.body = r;
    *ret_delta = d;
    return 0;
}

void delta_hash(const uint8_t salt[16], struct view raw, struct hash *ret_hash)
{
    hash_bytes("sitetree-delta", salt, raw, ret_hash);
}

int changes_add(struct changes *c, struct change one)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct change *list = realloc(c->list, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        c->list = list;
        c->cap = cap;
    }
    c->list[c->n++] = one;
    return 0;
}

void changes_done(struct changes *c)
{
    free(c->list);
    *c = (struct changes){0};
}

int delta_changes(const struct delta *d, const uint8_t salt[16], struct changes *into)
{
    struct reader r = d->body;
    struct change one;
    int rc = 0;
    for (uint32_t i = 0; !rc && i < d->n_records; i++) {
        struct record rec;
        rc = record_parse(&r, &rec);
        if (!rc && rec.serial != d->serial)
            rc = err_fail(ERR_MALFORMED, "delta holds a record of another serial");
        if (!rc) {
            change_init(&one, salt, rec.key, rec.bytes);
            rc = changes_add(into, one);
        }
    }
    for (uint32_t i = 0; !rc && i < d->n_drops; i++) {
        struct view key = read_bytes(&r, read_be16(&r));
        if (r.bad || key.len == 0 || key.len > RECORD_KEY_MAX)
            return err_fail(ERR_MALFORMED, "delta cut short");
        change_init(&one, salt, key, (struct view){0});
        rc = changes_add(into, one);
    }
    if (!rc && r.rest.len)
        rc = err_fail(ERR_MALFORMED, "delta with bytes behind its end");
    return rc;
}

void delta_put(struct store_txn *t, uint32_t scope, uint64_t serial, uint32_t raw_len,
    const struct hash *hash, const struct hash *previous, struct view zstd)
{
    struct key12 k = key_delta(scope, serial);
    uint8_t *out = store_put_reserve(t, TABLE_DELTAS, KEY(k), 68 + zstd.len);
    if (!out)
        return;
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(raw_len >> (24 - 8 * i));
    memcpy(out + 4, hash->b, 32);
    memcpy(out + 36, previous->b, 32);
    memcpy(out + 68, zstd.data, zstd.len);
}

int delta_get(struct store_txn *t, uint32_t scope, uint64_t serial, struct stored_delta *ret_delta)
{
    struct key12 k = key_delta(scope, serial);
    struct view v;
    int rc = store_get(t, TABLE_DELTAS, KEY(k), &v);
    if (rc)
        return rc;
    struct reader r = reader_of(v);
    struct stored_delta d;
    d.raw_len = read_be32(&r);
    struct view h = read_bytes(&r, 64);
    if (r.bad)
        return err_fail(ERR_CORRUPT, "stored delta is damaged");
    memcpy(d.hash.b, h.data, 32);
    memcpy(d.previous.b, h.data + 32, 32);
    d.zstd = r.rest;
    *ret_delta = d;
    return 0;
}

void delta_trim(struct store_txn *t, uint32_t scope, uint64_t floor)
{
    struct key4 prefix = key_scope(scope);
    struct store_walk w = store_walk_from(t, TABLE_DELTAS, KEY(prefix), KEY(prefix));
    while (store_walk_next(&w)) {
        uint64_t serial = key_delta_serial(w.key);
        if (serial > floor)
            break;
        struct key12 k = key_delta(scope, serial);
        store_del(t, TABLE_DELTAS, KEY(k));
    }
}

int delta_check(struct store_txn *t, const struct tree *tree, const struct scope_entry *e, bool mend,
    uint64_t *checked, uint64_t *bad)
{
    struct hash want = e->delta;
    AUTO_BUF raw = {0};
    for (uint64_t serial = e->serial; serial > e->delta_floor && !hash_is_zero(&want); serial--) {
        struct stored_delta d;
        struct hash got;
        int rc = delta_get(t, tree->scope, serial, &d);
        if (rc == ERR_NOT_FOUND)
            return 0; /* this site walked there */
        buf_reset(&raw);
        if (!rc)
            rc = d.raw_len > DELTA_RAW_MAX ? ERR_CORRUPT : zstd_unpack(d.zstd, d.raw_len, &raw);
        if (rc == -ENOMEM)
            return rc;
        if (!rc)
            delta_hash(tree->salt, buf_view(&raw), &got);
        ++*checked;
        if (rc || !hash_eq(&got, &want)) {
            ++*bad; /* what it names as the one before cannot be believed */
            if (mend)
                delta_trim(t, tree->scope, serial);
            return store_txn_error(t);
        }
        want = d.previous;
    }
    return 0;
}

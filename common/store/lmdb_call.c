#include "common/store/lmdb_impl.h"

/* From about 128 Ki dirty pages on, LMDB writes pages out early; views given before may then be gone. */
#define SPILL_BYTES ((uint64_t)64 << 20)

/* The table's own cursor; NULL and *ret_err otherwise. */
static MDB_cursor *cursor_at(struct lmdb_txn *t, unsigned table, int *ret_err)
{
    struct lmdb_store *s = of(t->base.store);
    MDB_cursor **c = &t->at[table];
    *ret_err = 0;
    if (!*c)
        *ret_err = s->absent[table] ? MDB_NOTFOUND : mdb_cursor_open(t->txn, s->dbi[table], c);
    else if (t->at_stale[table])
        *ret_err = mdb_cursor_renew(t->txn, *c);
    t->at_stale[table] = false;
    return *ret_err ? NULL : *c;
}

/* A cursor for this walk on its table: a free one, or the one that was used longest ago. */
static struct slot *slot_take(struct store_walk *w, int *ret_err)
{
    struct lmdb_txn *t = txn_of(w->txn);
    struct lmdb_store *s = of(t->base.store);
    struct slot *best = NULL;
    for (size_t i = 0; i < WALK_SLOTS; i++) {
        struct slot *x = &t->slots[i];
        if (x->cursor && x->table == w->table && (x->walk == 0 || x->walk == w->id)) {
            best = x;
            break;
        }
        if (!best || (x->cursor ? x->used : 0) < (best->cursor ? best->used : 0))
            best = x;
    }
    *ret_err = 0;
    if (s->absent[w->table]) {
        *ret_err = MDB_NOTFOUND;
        return NULL;
    }
    if (best->cursor && best->table != w->table) {
        mdb_cursor_close(best->cursor);
        best->cursor = NULL;
    }
    if (!best->cursor)
        *ret_err = mdb_cursor_open(t->txn, s->dbi[w->table], &best->cursor);
    else if (best->stale)
        *ret_err = mdb_cursor_renew(t->txn, best->cursor);
    if (*ret_err)
        return NULL;
    best->stale = false;
    best->table = w->table;
    best->walk = w->id;
    w->slot = (unsigned)(best - t->slots);
    return best;
}

int lmdb_walk(struct store_walk *w)
{
    struct lmdb_txn *t = txn_of(w->txn);
    struct lmdb_store *s = of(t->base.store);
    struct slot *x = &t->slots[w->slot];
    uint32_t writes = t->base.write ? s->writes[w->table] : 0;
    MDB_val key, value;
    int rc;
    if (x->walk == w->id && x->writes == writes && w->started && x->cursor) {
        rc = mdb_cursor_get(x->cursor, &key, &value, MDB_NEXT);
    } else {
        x = slot_take(w, &rc);
        key = val(view_of(w->last, w->last_len));
        if (x)
            rc = mdb_cursor_get(x->cursor, &key, &value, w->last_len ? MDB_SET_RANGE : MDB_FIRST);
        if (!rc && w->started && view_eq(view_val(&key), view_of(w->last, w->last_len)))
            rc = mdb_cursor_get(x->cursor, &key, &value, MDB_NEXT);
    }
    if (x) {
        x->used = ++t->tick;
        x->writes = writes;
        if (rc)
            x->walk = 0; /* at its end: free for others, and asked again it seeks */
    }
    if (rc)
        return lmdb_error(rc, "walk");
    if (t->base.write)
        s->lent |= UINT32_C(1) << w->table;
    w->key = view_val(&key);
    w->value = view_val(&value);
    return 0;
}

int lmdb_before(
    struct store_txn *base, unsigned table, struct view bound, struct view *ret_key, struct view *ret_value)
{
    struct lmdb_txn *t = txn_of(base);
    int rc;
    MDB_cursor *c = cursor_at(t, table, &rc);
    MDB_val key = val(bound), value;
    if (c && bound.len) {
        rc = mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
        rc = mdb_cursor_get(c, &key, &value, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    } else if (c) {
        rc = mdb_cursor_get(c, &key, &value, MDB_LAST);
    }
    if (rc)
        return lmdb_error(rc, "read");
    if (base->write)
        of(base->store)->lent |= UINT32_C(1) << table;
    *ret_key = view_val(&key);
    *ret_value = view_val(&value);
    return 0;
}

int lmdb_get(struct store_txn *base, unsigned table, struct view key, struct view *ret_value)
{
    struct lmdb_store *s = of(base->store);
    MDB_val k = val(key), v;
    if (s->absent[table])
        return ERR_NOT_FOUND;
    int rc = mdb_get(txn_of(base)->txn, s->dbi[table], &k, &v);
    if (rc)
        return rc == MDB_NOTFOUND ? ERR_NOT_FOUND : lmdb_error(rc, "read");
    if (base->write)
        s->lent |= UINT32_C(1) << table;
    *ret_value = view_val(&v);
    return 0;
}

/* Keys and values that were read here lie on the very pages that the write moves. */
static int keep_borrowed(struct lmdb_store *s, unsigned table, struct view *key, struct view *value)
{
    if (!s->lent || (!(s->lent >> table & 1) && s->written < SPILL_BYTES))
        return 0;
    memcpy(s->key_scratch, key->data, key->len);
    key->data = s->key_scratch;
    if (value && value->data && value->len) {
        buf_reset(&s->value_scratch);
        buf_append_view(&s->value_scratch, *value);
        if (s->value_scratch.err)
            return s->value_scratch.err;
        *value = buf_view(&s->value_scratch);
    }
    return 0;
}

static int find_top(MDB_cursor *c, struct top *top)
{
    MDB_val key, value;
    int rc = mdb_cursor_get(c, &key, &value, MDB_LAST);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    top->len = 0;
    if (!rc) {
        top->len = (uint16_t)key.mv_size;
        memcpy(top->key, key.mv_data, key.mv_size);
    }
    top->known = true;
    return 0;
}

int lmdb_put(struct store_txn *base, unsigned table, struct view key, struct view value, uint8_t **ret_place)
{
    struct lmdb_store *s = of(base->store);
    struct top *top = &s->top[table];
    int rc;
    MDB_cursor *c = cursor_at(txn_of(base), table, &rc);
    if (c && !top->known)
        rc = find_top(c, top);
    if (rc)
        return lmdb_error(rc, "write");
    bool append = view_cmp(key, view_of(top->key, top->len)) > 0;
    rc = lmdb_room_take(s, key.len, value.len, append);
    if (!rc)
        rc = keep_borrowed(s, table, &key, &value);
    if (rc)
        return rc;
    MDB_val k = val(key), v = val(value);
    rc = mdb_cursor_put(c, &k, &v, (append ? MDB_APPEND : 0) | (value.data ? 0 : MDB_RESERVE));
    if (rc)
        return lmdb_error(rc, "write");
    s->writes[table]++;
    s->lent = 0;
    s->written += key.len + value.len;
    if (append) {
        top->len = (uint16_t)key.len;
        memcpy(top->key, key.data, key.len);
    }
    if (ret_place)
        *ret_place = v.mv_data;
    return 0;
}

int lmdb_del(struct store_txn *base, unsigned table, struct view key)
{
    struct lmdb_store *s = of(base->store);
    int rc;
    MDB_cursor *c = cursor_at(txn_of(base), table, &rc);
    MDB_val k = val(key), v;
    if (c)
        rc = mdb_cursor_get(c, &k, &v, MDB_SET);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    size_t size = rc ? 0 : v.mv_size;
    if (!rc)
        rc = mdb_cursor_del(c, 0);
    if (rc)
        return lmdb_error(rc, "delete");
    s->writes[table]++;
    s->lent = 0;
    lmdb_room_regain(s, key.len, size);
    return 0;
}

/* CATCHUP: the deltas between what is applied and the target, fetched newest first, because only the newest
 * is named by the signed head and each names the one before it. Every checked delta is stored at once; they
 * are applied together when the chain reaches the applied root. Source: protocol.md 2, 4. */
#include <stdlib.h>

#include "services/metadata/core.h"

#define WALK_SHARE 0.4 /* a walk moves about this share of a scope's bytes */

/* Steps over the deltas that are here already. */
static int advance(struct metadata *m, struct scope *s)
{
    while (s->deltas_missing_to > s->applied.serial) {
        struct stored_delta d;
        int rc = delta_get(m->txn, s->id, s->deltas_missing_to, &d);
        if (rc == ERR_NOT_FOUND || (!rc && !hash_eq(&d.hash, &s->delta_expect)))
            return 0;
        if (rc)
            return rc;
        s->delta_expect = d.previous;
        s->deltas_missing_to--;
    }
    s->deltas_missing_to = 0;
    s->fetch = FETCH_READY;
    return 0;
}

int catchup_plan(struct metadata *m, struct scope *s, const struct scope_entry *to, bool *ret_possible)
{
    const struct scope_entry *have = &s->applied;
    *ret_possible = false;
    if (have->serial == 0 || have->serial >= to->serial || have->serial < to->delta_floor ||
        hash_is_zero(&to->delta) || !epoch_eq(&m->applied->epoch, &m->target->epoch))
        return 0;
    double gap = (double)(to->serial - have->serial), kept = (double)(to->serial - to->delta_floor);
    if (gap / kept * (double)to->delta_bytes > WALK_SHARE * (double)to->tree.bytes + 65536)
        return 0;
    s->fetch = FETCH_DELTAS;
    s->deltas_missing_to = to->serial;
    s->delta_expect = to->delta;
    *ret_possible = true;
    return advance(m, s);
}

int catchup_ask(struct metadata *m, struct scope *s)
{
    if (s->deltas_asked || s->deltas_missing_to == 0 || !m->parent_up)
        return 0;
    uint32_t room = request_room(m);
    if (room == 0)
        return 0;
    if (room > 768 * 1024)
        room = 768 * 1024;
    struct request *r = request_new(m, REQUEST_DELTAS, s, room);
    if (!r)
        return -ENOMEM;
    s->deltas_asked = true;
    Sitetree__DeltaGet get = SITETREE__DELTA_GET__INIT;
    get.scope = s->name;
    get.from = s->applied.serial;
    get.to = s->deltas_missing_to;
    get.max_bytes = room;
    ask_parent(
        m, CLASS_BULK, frame_pack(FRAME_DELTA_GET, CLASS_BULK, r->id, state_epoch(m), &get.base, false));
    return 0;
}

int catchup_take(struct metadata *m, struct scope *s, const Sitetree__DeltaBytes *d)
{
    AUTO_BUF raw = {0};
    struct hash h;
    struct delta delta;
    if (d->serial != s->deltas_missing_to || d->raw_length > DELTA_RAW_MAX || d->zstd.len > DELTA_WIRE_MAX)
        return err_fail(ERR_MALFORMED, "delta %llu of %s: not the one that was asked for",
            (unsigned long long)d->serial, s->name);
    int rc = zstd_unpack(pb_view(d->zstd), d->raw_length, &raw);
    if (rc)
        return rc;
    delta_hash(s->salt, buf_view(&raw), &h);
    if (!hash_eq(&h, &s->delta_expect))
        return err_fail(ERR_ROOT, "delta %llu of %s: not the one that the head names",
            (unsigned long long)d->serial, s->name);
    rc = delta_parse(buf_view(&raw), &delta);
    if (rc)
        return rc;
    if (delta.serial != d->serial || !view_eq(delta.scope, view_str(s->name)))
        return err_fail(ERR_MALFORMED, "delta of another scope or serial");
    delta_put(m->txn, s->id, d->serial, d->raw_length, &h, &delta.previous_delta, pb_view(d->zstd));
    s->delta_expect = delta.previous_delta;
    s->deltas_missing_to--;
    rc = store_txn_error(m->txn);
    return rc ? rc : advance(m, s);
}

int catchup_on_reply(struct metadata *m, struct request *r, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    struct scope *s = r->scope;
    Sitetree__DeltaReply *reply = FRAME_UNPACK(&a, f, delta_reply, &rc);
    m->hop.bytes += f->body.len;
    if (m->hop.first_byte.ns == 0)
        m->hop.first_byte = m->wall;
    m->hop.last_byte = m->wall;
    request_end(m, r, f->body.len);
    if (s->fetch != FETCH_DELTAS)
        return 0;
    size_t taken = 0;
    for (size_t i = 0; !rc && reply && i < reply->n_deltas && s->fetch == FETCH_DELTAS; i++) {
        if (reply->deltas[i]->serial > s->deltas_missing_to)
            continue; /* came by another way meanwhile */
        rc = catchup_take(m, s, reply->deltas[i]);
        taken += rc == 0;
    }
    if (store_txn_error(m->txn))
        return store_txn_error(m->txn);
    if (rc == -ENOMEM)
        return rc;
    if (rc)
        state_refusal(m, rc, "delta");
    const struct scope_entry *to = m->target ? head_scope(m->target, s->name) : NULL;
    if (to && (rc || reply->below_floor || (taken == 0 && s->fetch == FETCH_DELTAS)))
        return walk_start(m, s, to); /* whatever is wrong with the chain, the tree itself can be asked */
    return 0;
}

static int gather(struct metadata *m, struct scope *s, uint64_t to, struct buf *raws, struct changes *changes)
{
    int rc = 0;
    for (uint64_t serial = s->applied.serial + 1; !rc && serial <= to; serial++) {
        struct stored_delta stored;
        struct delta d;
        struct buf *raw = &raws[serial - s->applied.serial - 1];
        rc = delta_get(m->txn, s->id, serial, &stored);
        if (rc == ERR_NOT_FOUND)
            rc = err_fail(ERR_GAP, "delta %llu of %s is missing", (unsigned long long)serial, s->name);
        if (!rc)
            rc = zstd_unpack(stored.zstd, stored.raw_len, raw);
        if (!rc)
            rc = delta_parse(buf_view(raw), &d);
        if (!rc && serial == s->applied.serial + 1 && !hash_eq(&d.previous_root, &s->applied.tree.hash))
            rc = err_fail(ERR_ROOT, "delta %llu of %s starts at another root than the applied one",
                (unsigned long long)serial, s->name);
        if (!rc)
            rc = delta_changes(&d, s->salt, changes);
    }
    return rc;
}

int catchup_apply(struct metadata *m, struct scope *s, const struct scope_entry *to, struct buf *replaced)
{
    size_t n = (size_t)(to->serial - s->applied.serial);
    struct buf *raws = calloc(n, sizeof *raws);
    struct changes changes = {0};
    AUTO_TREE t;
    state_tree(m, s, &t);
    t.replaced = replaced;
    t.later = true;
    struct subtree now;
    int rc = raws ? gather(m, s, to->serial, raws, &changes) : -ENOMEM;
    if (!rc)
        rc = change_sort(changes.list, &changes.n);
    if (!rc)
        rc = tree_update(&t, &s->applied.tree, changes.list, changes.n, &now);
    if (!rc && (!hash_eq(&now.hash, &to->tree.hash) || now.count != to->tree.count))
        rc = err_fail(ERR_ROOT, "the deltas of %s do not reach the signed root", s->name);
    for (size_t i = 0; raws && i < n; i++)
        buf_done(&raws[i]);
    free(raws);
    changes_done(&changes);
    return rc;
}

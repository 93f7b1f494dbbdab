/* Single changes that operators ask for: publish, expire, remove, a new epoch. They wait for each other and
 * for runs, are published together where that is possible, and are answered when they are durable. */
#include <stdlib.h>

#include "services/metadata/draft.h"

void op_done(struct op *op)
{
    buf_done(&op->id);
    buf_done(&op->value);
}

int origin_op(struct metadata *m, struct op op)
{
    if (m->n_ops == m->cap_ops) {
        size_t cap = m->cap_ops ? m->cap_ops * 2 : 16;
        struct op *list = cap > 65536 ? NULL : realloc(m->ops, cap * sizeof *list);
        if (!list) {
            op_done(&op);
            return cap > 65536 ? err_fail(ERR_BUSY, "%zu changes wait to be published", m->n_ops) : -ENOMEM;
        }
        m->ops = list;
        m->cap_ops = cap;
    }
    m->ops[m->n_ops++] = op;
    return origin_ops(m);
}

int origin_epoch(struct metadata *m, struct peer caller, uint64_t command)
{
    struct op op = {.kind = OP_EPOCH, .command = command, .caller = caller};
    return origin_op(m, op);
}

/* The scope that holds an update; NULL: none. */
static struct scope *scope_of(struct metadata *m, struct view id, struct record *ret_record, struct buf *keep)
{
    for (size_t i = 0; m->applied && i < m->applied->n_scopes; i++) {
        struct scope *s = state_scope_find(m, m->applied->scopes[i].name);
        AUTO_TREE t;
        state_tree(m, s, &t);
        struct record r;
        if (tree_get(&t, &s->applied.tree, id, &r))
            continue;
        buf_reset(keep);
        buf_append_view(keep, r.value);
        *ret_record = r;
        ret_record->value = buf_view(keep);
        return s;
    }
    return NULL;
}

static int op_edit(struct metadata *m, struct op *op, struct edits *edits, struct buf *keep)
{
    if (op->kind == OP_EPOCH)
        return 0;
    struct record r = {0};
    struct scope *s = scope_of(m, buf_view(&op->id), &r, keep);
    struct edit one = {.key = buf_view(&op->id)};
    bool active = s && !(r.flags & (RECORD_EXPIRED | RECORD_TOMBSTONE));
    if (op->kind == OP_PUT) {
        meta_del(m->txn, meta_of("hold", one.key).s);
        one.value = buf_view(&op->value);
        *(s && !(r.flags & RECORD_TOMBSTONE) ? &edits->changed : &edits->added) += 1;
        edits->live += !active;
        return edits_add(edits, one);
    }
    if (!s || r.flags & RECORD_TOMBSTONE)
        return 0; /* gone meanwhile */
    memcpy(op->scope, s->name, sizeof op->scope);
    meta_put(m->txn, meta_of("hold", one.key).s, view_str(op->kind == OP_EXPIRE ? "expire" : "remove"));
    one.flags = op->kind == OP_EXPIRE ? RECORD_EXPIRED : RECORD_TOMBSTONE;
    one.value = op->kind == OP_EXPIRE ? buf_view(keep) : (struct view){0};
    *(op->kind == OP_EXPIRE ? &edits->expired : &edits->removed) += 1;
    edits->live -= active;
    return edits_add(edits, one);
}

void ops_drop(struct metadata *m, size_t n)
{
    if (n) /* there may be no list at all */
        memmove(m->ops, m->ops + n, (m->n_ops - n) * sizeof *m->ops);
    m->n_ops -= n;
}

int origin_ops(struct metadata *m)
{
    if (m->n_ops == 0 || m->draft ||
        (m->run && (m->run->phase == PHASE_VIEW || m->run->phase == PHASE_PUBLISH)))
        return 0;
    struct draft *d = draft_make(m);
    if (!d)
        return -ENOMEM;
    int rc = 0;
    size_t n = m->n_ops > 64 ? 64 : m->n_ops;
    for (size_t i = 0; !rc && i < n; i++) { /* one serial each: the order in which they were asked for */
        struct edits edits = {0};
        AUTO_BUF keep = {0};
        rc = op_edit(m, &m->ops[i], &edits, &keep);
        if (!rc && edits.n)
            rc = draft_edits(m, d, m->ops[i].scope, &edits);
        d->urgent = d->urgent || m->ops[i].kind == OP_EXPIRE;
        d->new_epoch = d->new_epoch || m->ops[i].kind == OP_EPOCH;
        edits_done(&edits);
    }
    d->ops = n;
    if (!rc)
        return draft_sign(m);
    draft_drop(m);
    for (size_t i = 0; i < n; i++) {
        command_fail(m, m->ops[i].caller, m->ops[i].command, rc);
        op_done(&m->ops[i]);
    }
    ops_drop(m, n);
    return rc == -ENOMEM || store_txn_error(m->txn) ? rc : 0;
}

void ops_answer(struct metadata *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct op *op = &m->ops[i];
        char epoch[33];
        json_t *id = op->kind == OP_EPOCH ? json_string(hex_encode(m->applied->epoch.b, 16, epoch))
                                          : json_stringn((const char *)op->id.data, op->id.len);
        static const char *const names[] = {"update-publish", "update-expire", "update-remove", "epoch-new"};
        json_t *data = op->kind == OP_PUT ? json_pack("{s:[o], s:I, s:n}", "ids", id, "generation",
                                                (json_int_t)m->applied->generation, "run")
                                          : json_pack("{s:o, s:I, s:n}", "id", id, "generation",
                                                (json_int_t)m->applied->generation, "run");
        command_reply(m, op->caller, op->command, names[op->kind], data, 0);
        op_done(op);
    }
    ops_drop(m, n);
}

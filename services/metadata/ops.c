/* Single changes that operators ask for: publish, expire, remove, a new epoch. They wait for each other and
 * for runs, are published together where that is possible, and are answered when they are durable. */
#include <stdlib.h>

#include "services/metadata/draft.h"

#define OPS_AT_ONCE 64u

void op_done(struct op *op)
{
    buf_done(&op->id);
    buf_done(&op->value);
}

int origin_push(struct metadata *m, struct op op)
{
    int rc = op.id.err || op.value.err ? -ENOMEM
             : op.kind == OP_EPOCH     ? fence_may_open(m)
             : fence_closed(m)         ? fence_error(m)
                                       : 0;
    if (rc) {
        op_done(&op);
        return rc;
    }
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
    size_t at = m->n_ops;
    if (op.kind == OP_RECALL) /* ahead of all that is not being signed already */
        for (at = m->draft ? m->draft->ops : 0; at < m->n_ops && m->ops[at].kind == OP_RECALL;)
            at++;
    memmove(&m->ops[at + 1], &m->ops[at], (m->n_ops - at) * sizeof *m->ops);
    m->ops[at] = op;
    m->n_ops++;
    return 0;
}

int origin_op(struct metadata *m, struct op op)
{
    int rc = origin_push(m, op);
    return rc ? rc : origin_ops(m);
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
        draft_unrecall(m->draft, one.key);
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

int ops_recall(struct metadata *m, struct draft *d, struct view id, bool *ret_done)
{
    bool found = false;
    *ret_done = false;
    if (recall_find(d->head, id))
        return 0;
    for (size_t i = 0; i < d->head->n_scopes; i++) {
        struct record r;
        struct edits edits = {0};
        AUTO_BUF keep = {0};
        AUTO_TREE t;
        state_tree(m, d->scope[i], &t);
        int rc = tree_get(&t, &d->head->scopes[i].tree, id, &r);
        if (rc && rc != ERR_NOT_FOUND)
            return err_wrap(rc, "%s", d->scope[i]->name);
        found = found || !rc;
        if (rc || r.flags & (RECORD_EXPIRED | RECORD_TOMBSTONE))
            continue;
        buf_append_view(&keep, r.value);
        edits.expired = 1;
        edits.live = -1;
        rc = keep.err ? keep.err
                      : edits_add(&edits, (struct edit){id, buf_view(&keep), RECORD_EXPIRED, false});
        if (!rc)
            rc = draft_edits(m, d, d->scope[i]->name, &edits);
        edits_done(&edits);
        if (rc)
            return rc;
    }
    if (found)
        draft_recall(d, id, m->wall);
    *ret_done = found;
    return 0;
}

static int op_recall(struct metadata *m, struct draft *d, struct op *op)
{
    bool done;
    int rc = ops_recall(m, d, buf_view(&op->id), &done);
    if (!rc && done) {
        meta_put(m->txn, meta_of("hold", buf_view(&op->id)).s, view_str("expire"));
        d->changes = true;
    }
    return rc;
}

/* What one command asked for. */
static int ops_into_draft(struct metadata *m, struct draft *d, struct op *ops, size_t n)
{
    if (ops->kind == OP_RECALL)
        return op_recall(m, d, ops);
    struct edits edits = {0};
    AUTO_BUF keep = {0}; /* of the last one: several are publications, which keep their own values */
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = op_edit(m, &ops[i], &edits, &keep);
    if (!rc && edits.n)
        rc = draft_edits(m, d, ops->scope, &edits);
    edits_done(&edits);
    d->new_epoch = d->new_epoch || ops->kind == OP_EPOCH;
    d->changes = true;
    return rc;
}

static void ops_drop(struct metadata *m, size_t n)
{
    if (n) /* there may be no list at all */
        memmove(m->ops, m->ops + n, (m->n_ops - n) * sizeof *m->ops);
    m->n_ops -= n;
}

/* A run that waits for an operator leaves the way free. */
static bool run_is_first(const struct metadata *m)
{
    return m->run && !m->run->guarded && (m->run->phase == PHASE_VIEW || m->run->phase == PHASE_PUBLISH);
}

void ops_fail(struct metadata *m, size_t n, int code)
{
    for (size_t i = 0; i < n; i++) {
        if (m->ops[i].command)
            command_fail(m, m->ops[i].caller, m->ops[i].command, code);
        op_done(&m->ops[i]);
    }
    ops_drop(m, n);
}

int origin_ops(struct metadata *m)
{
    if (m->n_ops == 0 || m->draft || run_is_first(m))
        return 0;
    struct draft *d = draft_make(m);
    if (!d)
        return -ENOMEM;
    bool recall = m->ops[0].kind == OP_RECALL;
    int rc = 0;
    size_t n = 0;
    /* A serial for each command: the order in which they came. What one command asked for becomes one
     * generation. Recalls go by themselves, so that their hint is small. */
    while (!rc && n < m->n_ops && n < OPS_AT_ONCE && (m->ops[n].kind == OP_RECALL) == recall) {
        size_t first = n;
        while (n < m->n_ops && !m->ops[n++].command)
            ;
        d->urgent = d->urgent || recall || m->ops[first].kind == OP_EXPIRE;
        rc = ops_into_draft(m, d, &m->ops[first], n - first);
    }
    d->ops = n;
    if (!rc && d->changes)
        return draft_sign(m);
    draft_drop(m);
    if (!rc) { /* recalled before: what there is to know is known */
        ops_answer(m, n);
        return origin_ops(m);
    }
    if (rc == -ENOMEM || store_txn_error(m->txn))
        return rc;
    ops_fail(m, n, rc);
    return 0;
}

static void recall_answer(struct metadata *m, struct op *op)
{
    json_t *data = NULL;
    int rc = recall_show(m, buf_view(&op->id), &data);
    if (rc)
        command_fail(m, op->caller, op->command, rc);
    else
        command_reply(m, op->caller, op->command, "recall", data, 0);
}

void ops_answer(struct metadata *m, size_t n)
{
    static const char *const names[] = {"update-publish", "update-expire", "update-remove", "epoch-open"};
    json_t *ids = json_array(); /* of the command so far */
    for (size_t i = 0; i < n; i++) {
        struct op *op = &m->ops[i];
        if (op->kind == OP_RECALL) {
            recall_answer(m, op);
            op_done(op);
            continue;
        }
        char epoch[33];
        json_t *id = op->kind == OP_EPOCH ? json_string(hex_encode(m->applied->epoch.b, 16, epoch))
                                          : json_stringn((const char *)op->id.data, op->id.len);
        json_int_t generation = (json_int_t)m->applied->generation;
        json_array_append(ids, id);
        if (op->command) {
            json_t *data = op->kind == OP_PUT
                               ? json_pack("{s:O, s:I, s:n}", "ids", ids, "generation", generation, "run")
                               : json_pack("{s:O, s:I, s:n}", "id", id, "generation", generation, "run");
            command_reply(m, op->caller, op->command, names[op->kind], data, 0);
            json_decref(ids);
            ids = json_array();
        }
        json_decref(id);
        op_done(op);
    }
    json_decref(ids);
    ops_drop(m, n);
}

/* What the next run would do: everything but signing and publishing, and then it is undone. */
#include <stdlib.h>

#include "services/metadata/draft.h"

/* What was written to find out is taken away again. */
static int undo_plan(struct metadata *m, struct draft *d)
{
    for (size_t i = 0; i < d->head->n_scopes; i++) {
        struct scope *s = d->scope[i];
        uint64_t deleted;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = tree_sweep(&t, s->applied.serial ? &s->applied.tree : NULL, &deleted);
        if (rc)
            return rc;
        state_scope_serial_put(m, s, s->applied.serial);
    }
    for (size_t i = 0; i < d->n_deltas; i++) {
        struct key12 k = key_delta(d->deltas[i].scope->id, d->deltas[i].serial);
        store_del(m->txn, TABLE_DELTAS, KEY(k));
    }
    meta_del(m->txn, "draft");
    return store_txn_error(m->txn);
}

/* Everything a run does but for signing and publishing, so the bytes are those that the links will carry. */
int origin_plan(struct metadata *m, struct run *run, json_t **ret_data, int *ret_exit)
{
    struct edits *edits = calloc(run->n_sets + 1, sizeof *edits);
    json_t *scopes = json_array();
    const char *lost = NULL;
    struct buf in_force = m->filter;
    char *filter = run->filter ? json_dumps(run->filter, JSON_COMPACT) : NULL;
    if (filter)
        m->filter = (struct buf){.data = (uint8_t *)filter, .len = strlen(filter)};
    int rc = edits ? origin_compare(m, run, edits, &lost) : -ENOMEM;
    m->filter = in_force;
    free(filter);
    struct draft *d = rc ? NULL : draft_make(m);
    uint64_t items = 0;
    if (!rc && !d)
        rc = -ENOMEM;
    if (d)
        d->cursors = json_object();
    for (size_t i = 0; !rc && i < run->n_sets; i++) {
        uint64_t before = d->bytes;
        rc = draft_edits(m, d, run->sets[i]->scope, &edits[i]);
        items += edits[i].n;
        json_array_append_new(
            scopes, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "scope", run->sets[i]->scope, "add",
                        (json_int_t)edits[i].added, "change", (json_int_t)edits[i].changed, "remove",
                        (json_int_t)edits[i].removed, "expire", (json_int_t)edits[i].expired, "items",
                        (json_int_t)edits[i].n, "bytes", (json_int_t)(d->bytes - before)));
    }
    if (!rc)
        *ret_data = json_pack("{s:O, s:I, s:I, s:b, s:s?}", "scopes", scopes, "items", (json_int_t)items,
            "bytes", (json_int_t)d->bytes, "guarded", lost != NULL, "guard", lost ? run->reason : NULL);
    *ret_exit = items ? 3 : 0;
    if (d && rc != -ENOMEM && !store_txn_error(m->txn)) {
        int undone = undo_plan(m, d);
        rc = rc ? rc : undone;
    }
    draft_drop(m);
    edits_free_all(edits, run->n_sets);
    json_decref(scopes);
    return rc;
}

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

#define FRAME_FILLED 65536u /* of the frames that carry pages or deltas */
#define PAGE_AROUND 24u     /* place, lengths */
#define DELTA_AROUND 24u    /* beside the scope's name */
#define SIGNED_AROUND 153u  /* signature, key, lengths of a head */

/* What each site takes in over its link: the head with its scope list, and the content in the frames that
 * will carry it (serve.c). Not in it: questions, acknowledgements, the request of the run. */
static uint64_t wire_bytes(struct metadata *m, const struct draft *d)
{
    AUTO_BUF head = {0};
    head_pack_scopes(d->head->scopes, d->head->n_scopes, d->head->recalls, d->head->n_recalls,
        buf_view(&m->revoked), &head);
    head_pack_payload(d->head, &m->trust.hierarchy, &head);
    uint64_t bytes = FRAME_HEADER_LEN + head.len + SIGNED_AROUND + d->bytes + d->pages * PAGE_AROUND;
    if (m->trust.version > 1)
        bytes += m->trust_statement.len;
    for (size_t i = 0; i < d->n_deltas; i++)
        bytes += DELTA_AROUND + strlen(d->deltas[i].scope->name);
    if (d->pages || !serve_fits_hint(d->n_deltas, d->bytes))
        bytes += (d->bytes / FRAME_FILLED + 1) * FRAME_HEADER_LEN;
    return bytes;
}

static json_t *scope_json(const char *scope, const struct edits *e, uint64_t bytes)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "scope", scope, "add", (json_int_t)e->added,
        "change", (json_int_t)e->changed, "remove", (json_int_t)e->removed, "expire", (json_int_t)e->expired,
        "items", (json_int_t)e->n, "bytes", (json_int_t)bytes);
}

int origin_plan_recall(struct metadata *m, const char *id, json_t **ret_data, int *ret_exit)
{
    if (m->draft)
        return err_fail(ERR_BUSY, "a generation is being signed; ask again");
    bool done;
    uint64_t items = 0;
    struct draft *d = draft_make(m);
    if (!d)
        return -ENOMEM;
    int rc = ops_recall(m, d, view_str(id), &done);
    json_t *scopes = json_array();
    for (size_t i = 0; !rc && i < d->n_deltas; i++, items++) {
        struct stored_delta delta;
        struct edits one = {.n = 1, .expired = 1};
        rc = delta_get(m->txn, d->deltas[i].scope->id, d->deltas[i].serial, &delta);
        if (!rc)
            json_array_append_new(scopes, scope_json(d->deltas[i].scope->name, &one, delta.zstd.len));
    }
    uint64_t bytes = done ? wire_bytes(m, d) : 0;
    if (!rc)
        *ret_data = json_pack("{s:O, s:I, s:I, s:b, s:n}", "scopes", scopes, "items", (json_int_t)items,
            "bytes", (json_int_t)bytes, "guarded", 0, "guard");
    *ret_exit = !rc && done ? 3 : 0;
    json_decref(scopes);
    if (rc != -ENOMEM && !store_txn_error(m->txn)) {
        int undone = undo_plan(m, d);
        rc = rc ? rc : undone;
    }
    draft_drop(m);
    return rc;
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
        json_array_append_new(scopes, scope_json(run->sets[i]->scope, &edits[i], d->bytes - before));
    }
    if (!rc)
        *ret_data = json_pack("{s:O, s:I, s:I, s:b, s:s?}", "scopes", scopes, "items", (json_int_t)items,
            "bytes", (json_int_t)(items ? wire_bytes(m, d) : 0), "guarded", lost != NULL, "guard",
            lost ? run->reason : NULL);
    *ret_exit = items ? 3 : 0;
    if (d && rc != -ENOMEM && !store_txn_error(m->txn)) {
        int undone = undo_plan(m, d);
        if (undone && !rc) {
            json_decref(*ret_data);
            *ret_data = NULL;
            rc = undone;
        }
    }
    draft_drop(m);
    edits_free_all(edits, run->n_sets);
    json_decref(scopes);
    return rc;
}

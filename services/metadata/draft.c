/* A draft: what the next generation will be, from edits to pages, deltas and the payload that the node signs.
 */
#include "services/metadata/draft.h"

#include <stdio.h>
#include <stdlib.h>

#define DELTA_RAW_STEP (160u * 1024u)
#define DELTA_LEVEL 9
#define DELTAS_PER_RUN 256u

void draft_drop(struct metadata *m)
{
    struct draft *d = m->draft;
    if (!d)
        return;
    for (size_t i = 0; d->head && d->replaced && i < d->head->n_scopes; i++)
        buf_done(&d->replaced[i]);
    free(d->replaced);
    free(d->scope);
    free(d->deltas);
    head_free(d->head);
    buf_done(&d->scopes);
    buf_done(&d->payload);
    json_decref(d->cursors);
    free(d);
    m->draft = NULL;
}

struct draft *draft_make(struct metadata *m)
{
    struct draft *d = calloc(1, sizeof *d);
    if (!d || !(d->head = calloc(1, sizeof *d->head)))
        goto fail;
    size_t n = m->applied ? m->applied->n_scopes : 0;
    d->head->scopes = calloc(n + 1, sizeof *d->head->scopes);
    d->scope = calloc(n + 1, sizeof *d->scope);
    d->replaced = calloc(n + 1, sizeof *d->replaced);
    d->head->recalls = calloc(RECALLS_MAX, sizeof *d->head->recalls);
    if (!d->head->scopes || !d->scope || !d->replaced || !d->head->recalls)
        goto fail;
    for (size_t i = 0; i < n; i++) {
        d->head->scopes[i] = m->applied->scopes[i];
        d->scope[i] = state_scope(m, m->applied->scopes[i].name);
    }
    d->head->n_scopes = n;
    if (m->applied && m->applied->n_recalls)
        memcpy(d->head->recalls, m->applied->recalls, m->applied->n_recalls * sizeof *d->head->recalls);
    d->head->n_recalls = m->applied ? m->applied->n_recalls : 0;
    m->draft = d;
    d->made = m->wall;
    meta_put_u64(m->txn, "draft", 1); /* its pages are swept at the next start if it is never published */
    return d;
fail:
    m->draft = d;
    draft_drop(m);
    return NULL;
}

/* The draft's row of a scope, made where it is missing. */
static int draft_row(struct metadata *m, struct draft *d, const char *name, size_t *ret_i)
{
    size_t i = 0;
    while (i < d->head->n_scopes && strcmp(d->head->scopes[i].name, name) < 0)
        i++;
    *ret_i = i;
    if (i < d->head->n_scopes && strcmp(d->head->scopes[i].name, name) == 0)
        return 0;
    size_t n = d->head->n_scopes;
    struct scope_entry *rows = realloc(d->head->scopes, (n + 1) * sizeof *rows);
    if (rows)
        d->head->scopes = rows;
    struct scope **scope = realloc(d->scope, (n + 1) * sizeof *scope);
    if (scope)
        d->scope = scope;
    struct buf *replaced = realloc(d->replaced, (n + 1) * sizeof *replaced);
    if (replaced)
        d->replaced = replaced;
    struct scope *s = state_scope(m, name);
    if (!rows || !scope || !replaced || !s)
        return -ENOMEM;
    memmove(rows + i + 1, rows + i, (n - i) * sizeof *rows);
    memmove(scope + i + 1, scope + i, (n - i) * sizeof *scope);
    memmove(replaced + i + 1, replaced + i, (n - i) * sizeof *replaced);
    rows[i] = s->applied;                                            /* an empty one */
    rows[i].serial = rows[i].delta_floor = state_scope_serial(m, s); /* serials are never given twice */
    scope[i] = s;
    replaced[i] = (struct buf){0};
    d->head->n_scopes++;
    return 0;
}

static int edit_order(const void *a, const void *b)
{
    return view_cmp(((const struct edit *)a)->key, ((const struct edit *)b)->key);
}

static int make_changes(const struct scope *s, const struct edit *edits, size_t n, uint64_t serial,
    struct buf *bytes, struct changes *out)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += RECORD_HEADER_LEN + edits[i].key.len + edits[i].value.len;
    buf_reserve(bytes, total); /* the views into it stay where they are */
    for (size_t i = 0; i < n && !bytes->err; i++) {
        const struct edit *e = &edits[i];
        struct change c;
        size_t at = bytes->len;
        if (e->key.len > RECORD_KEY_MAX || e->value.len > RECORD_VALUE_MAX)
            return err_fail(ERR_TOO_LARGE, "update %.*s: %zu bytes, at most %u", (int)e->key.len,
                (const char *)e->key.data, e->value.len, RECORD_VALUE_MAX);
        if (!e->drop)
            record_pack(bytes, e->key, e->value, serial, e->flags);
        struct view record = view_of(bytes->data + at, bytes->len - at);
        struct view key = e->drop ? e->key : view_of(record.data + RECORD_HEADER_LEN, e->key.len);
        change_init(&c, s->salt, key, record);
        int rc = changes_add(out, c);
        if (rc)
            return rc;
    }
    return bytes->err;
}

/* One serial of a scope: pages always, a delta when it is wanted. */
static int add_step(
    struct metadata *m, struct draft *d, size_t row, const struct edit *edits, size_t n, bool delta)
{
    struct scope *s = d->scope[row];
    struct scope_entry *e = &d->head->scopes[row];
    AUTO_BUF bytes = {0}, raw = {0}, packed = {0};
    struct changes changes = {0};
    struct subtree now;
    AUTO_TREE t;
    state_tree(m, s, &t);
    t.replaced = &d->replaced[row];
    int rc = make_changes(s, edits, n, e->serial + 1, &bytes, &changes);
    if (!rc)
        rc = change_sort(changes.list, &changes.n);
    if (!rc)
        rc = tree_update(&t, &e->tree, changes.list, changes.n, &now);
    if (!rc && delta) {
        struct hash h;
        delta_pack(&raw, s->name, e->serial + 1, &e->tree.hash, &now.hash, &e->delta, e->tombstone_floor,
            changes.list, changes.n);
        rc = raw.err ? raw.err : zstd_pack(buf_view(&raw), DELTA_LEVEL, &packed);
        if (!rc && packed.len > DELTA_WIRE_MAX)
            rc = err_fail(ERR_TOO_LARGE, "a change of %zu bytes, compressed", packed.len);
        if (!rc) {
            delta_hash(s->salt, buf_view(&raw), &h);
            delta_put(m->txn, s->id, e->serial + 1, (uint32_t)raw.len, &h, &e->delta, buf_view(&packed));
            e->delta = h;
            e->delta_bytes += packed.len;
            struct hint_delta *list = realloc(d->deltas, (d->n_deltas + 1) * sizeof *list);
            if (!list)
                rc = -ENOMEM;
            else {
                d->deltas = list;
                d->deltas[d->n_deltas++] = (struct hint_delta){s, e->serial + 1};
            }
        }
    }
    changes_done(&changes);
    rc = rc ? rc : d->replaced[row].err; /* else pages would stay that no head needs */
    if (rc)
        return rc;
    d->bytes += delta ? packed.len : t.bytes_written;
    d->pages += delta ? 0 : t.pages_written;
    e->serial++;
    e->tree = now;
    if (!delta) { /* who is behind this walks */
        e->delta_floor = e->serial;
        e->delta = (struct hash){0};
        e->delta_bytes = 0;
    }
    state_scope_serial_put(m, s, e->serial);
    return store_txn_error(m->txn);
}

static int trim_deltas(struct metadata *m, struct scope *s, struct scope_entry *e)
{
    while (e->delta_floor < e->serial &&
           (e->delta_bytes > m->opt.delta_keep_bytes || e->serial - e->delta_floor > m->opt.delta_keep)) {
        struct stored_delta d;
        int rc = delta_get(m->txn, s->id, e->delta_floor + 1, &d);
        if (rc && rc != ERR_NOT_FOUND)
            return rc;
        e->delta_bytes -= rc || d.zstd.len > e->delta_bytes ? 0 : d.zstd.len;
        e->delta_floor++;
    }
    return 0;
}

/* All edits of one scope. Large changes (and the first filling) go without deltas: a walk moves fewer bytes
 * then. */
int draft_edits(struct metadata *m, struct draft *d, const char *scope, struct edits *edits)
{
    size_t row;
    int rc = draft_row(m, d, scope, &row);
    if (rc || edits->n == 0)
        return rc;
    struct scope_entry *e = &d->head->scopes[row];
    bool deltas = e->tree.count && edits->bytes < e->tree.bytes / 2 + 65536 &&
                  edits->bytes / DELTA_RAW_STEP < DELTAS_PER_RUN;
    for (size_t i = 0; i < edits->n; i++)
        if (edits->list[i].drop)
            e->tombstone_floor = e->delta_floor;
    qsort(edits->list, edits->n, sizeof *edits->list, edit_order);
    for (size_t i = 0; !rc && i < edits->n;) {
        size_t j = i, bytes = 0;
        while (j < edits->n && (!deltas || j == i || bytes < DELTA_RAW_STEP)) {
            bytes += RECORD_HEADER_LEN + edits->list[j].key.len + edits->list[j].value.len;
            j++;
        }
        rc = add_step(m, d, row, edits->list + i, j - i, deltas);
        e = &d->head->scopes[row];
        i = j;
    }
    e->live = (uint64_t)((int64_t)e->live + edits->live);
    d->added += edits->added;
    d->changed += edits->changed;
    d->removed += edits->removed;
    d->expired += edits->expired;
    return rc ? rc : trim_deltas(m, d->scope[row], e);
}

void draft_recall(struct draft *d, struct view id, struct wall at)
{
    struct head *h = d->head;
    if (h->n_recalls == RECALLS_MAX)
        memmove(h->recalls, h->recalls + 1, --h->n_recalls * sizeof *h->recalls);
    struct recall *r = &h->recalls[h->n_recalls++];
    *r = (struct recall){.at = at, .id_len = (uint16_t)id.len};
    memcpy(r->id, id.data, id.len);
    if (d->n_new_recalls < RECALLS_MAX)
        d->n_new_recalls++;
}

void draft_unrecall(struct draft *d, struct view id)
{
    struct head *h = d->head;
    for (size_t i = 0; i < h->n_recalls; i++)
        if (recall_is(&h->recalls[i], id)) {
            d->n_new_recalls -= i >= h->n_recalls - d->n_new_recalls;
            memmove(&h->recalls[i], &h->recalls[i + 1], (--h->n_recalls - i) * sizeof *h->recalls);
            return;
        }
}

/* Random, and stored before its first use: a life that signs and dies must not begin another one. */
static void new_epoch(struct metadata *m, struct head *h)
{
    struct view v;
    if (meta_get(m->txn, "next-epoch", &v) == 0 && epoch_from_view(v, &h->epoch) == 0)
        return;
    m->random->fill(m->random->ctx, h->epoch.b, sizeof h->epoch.b);
    meta_put(m->txn, "next-epoch", view_of(h->epoch.b, sizeof h->epoch.b));
}

/* The payload, and its way to the node, which holds the head key. */
int draft_sign(struct metadata *m)
{
    struct draft *d = m->draft;
    struct head *h = d->head;
    /* Another head key begins another line: whatever a stolen key has counted up ends with it. */
    d->new_epoch = d->new_epoch || (m->applied && m->applied->trust_version != m->trust.version);
    bool same_epoch = m->applied && !d->new_epoch;
    if (same_epoch) {
        h->epoch = m->applied->epoch;
        h->previous = m->applied->hash;
    } else {
        new_epoch(m, h);
    }
    /* skips: what the node has signed in a life that this store does not remember; fence: what others hold */
    const struct head *last = m->applied, *fence = same_epoch ? NULL : m->fence;
    uint64_t counter = last ? last->epoch_counter : 0, generation = last ? last->generation : 0;
    if (fence && fence->epoch_counter > counter)
        counter = fence->epoch_counter;
    if (fence && fence->generation > generation)
        generation = fence->generation;
    h->epoch_counter = same_epoch ? counter : counter + 1 + (last ? m->sign_skips : 0);
    h->generation = generation + 1 + (same_epoch || !last ? m->sign_skips : 0);
    h->issued = m->wall;
    if (m->applied && h->issued.ns <= m->applied->issued.ns)
        h->issued.ns = m->applied->issued.ns + 1; /* a clock that was set back */
    h->expires.ns = h->issued.ns + m->opt.head_lifetime_ns;
    h->trust_version = m->trust.version;
    buf_reset(&d->scopes);
    buf_reset(&d->payload);
    for (size_t i = h->n_recalls - d->n_new_recalls; i < h->n_recalls; i++)
        h->recalls[i].generation = h->generation;
    head_pack_scopes(h->scopes, h->n_scopes, h->recalls, h->n_recalls, buf_view(&m->revoked), &d->scopes);
    head_scopes_root(buf_view(&d->scopes), &h->root);
    head_pack_payload(h, &m->trust.hierarchy, &d->payload);
    if (d->scopes.err || d->payload.err)
        return -ENOMEM;
    if (m->next_request == 0) /* a signature for a life before this one must not fit */
        m->next_request = state_random(m) >> 1;
    d->request = ++m->next_request;
    Sitetree__SignHead sign = SITETREE__SIGN_HEAD__INIT;
    sign.payload = pb_bytes(buf_view(&d->payload));
    struct blob *frame = frame_pack(
        FRAME_SIGN_HEAD, d->urgent ? CLASS_RECALL : CLASS_HEAD, d->request, NULL, &sign.base, false);
    /* The node stores what it signs while the draft is being stored here: after a crash in between a number
     * is skipped. An epoch, though, is stored here before its first use. */
    if (same_epoch)
        effects_send_early(m->fx, (struct peer){PEER_NODE, 0}, CLASS_HEAD, frame);
    else
        send_to(m, (struct peer){PEER_NODE, 0}, CLASS_HEAD, frame);
    return 0;
}

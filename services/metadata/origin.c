/* Generations, at the central site: changes become records, deltas and pages; the node signs the head; then
 * the head is applied here and published. One draft at a time. What was written for a draft that never came
 * is swept later. */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define DELTA_RAW_STEP (160u * 1024u)
#define DELTA_LEVEL 9
#define DELTAS_PER_RUN 256u

void op_done(struct op *op)
{
    buf_done(&op->id);
    buf_done(&op->value);
}

void origin_drop_draft(struct metadata *m)
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

static struct draft *draft_new(struct metadata *m)
{
    struct draft *d = calloc(1, sizeof *d);
    if (!d || !(d->head = calloc(1, sizeof *d->head)))
        goto fail;
    size_t n = m->applied ? m->applied->n_scopes : 0;
    d->head->scopes = calloc(n + 1, sizeof *d->head->scopes);
    d->scope = calloc(n + 1, sizeof *d->scope);
    d->replaced = calloc(n + 1, sizeof *d->replaced);
    if (!d->head->scopes || !d->scope || !d->replaced)
        goto fail;
    for (size_t i = 0; i < n; i++) {
        d->head->scopes[i] = m->applied->scopes[i];
        d->scope[i] = state_scope(m, m->applied->scopes[i].name);
    }
    d->head->n_scopes = n;
    m->draft = d;
    d->made = m->wall;
    meta_put_u64(m->txn, "draft", 1); /* its pages are swept at the next start if it is never published */
    return d;
fail:
    m->draft = d;
    origin_drop_draft(m);
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
    if (!rc) {
        changes.n = change_sort(changes.list, changes.n);
        rc = tree_update(&t, &e->tree, changes.list, changes.n, &now);
    }
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
    if (rc)
        return rc;
    d->bytes += delta ? packed.len : t.bytes_written;
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
static int add_edits(struct metadata *m, struct draft *d, const char *scope, struct edits *edits)
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
static int draft_sign(struct metadata *m)
{
    struct draft *d = m->draft;
    struct head *h = d->head;
    bool same_epoch = m->applied && !d->new_epoch;
    if (same_epoch) {
        h->epoch = m->applied->epoch;
        h->previous = m->applied->hash;
    } else {
        new_epoch(m, h);
    }
    /* skips: what the node has signed, or heard of from below, in a life that this store does not remember */
    h->epoch_counter = same_epoch   ? m->applied->epoch_counter
                       : m->applied ? m->applied->epoch_counter + 1 + m->sign_skips
                                    : 1;
    h->generation =
        (m->applied ? m->applied->generation : 0) + 1 + (same_epoch || !m->applied ? m->sign_skips : 0);
    h->issued = m->wall;
    if (m->applied && h->issued.ns <= m->applied->issued.ns)
        h->issued.ns = m->applied->issued.ns + 1; /* a clock that was set back */
    h->expires.ns = h->issued.ns + m->opt.head_lifetime_ns;
    h->trust_version = m->trust.version;
    buf_reset(&d->scopes);
    buf_reset(&d->payload);
    head_pack_scopes(h->scopes, h->n_scopes, &d->scopes);
    head_scopes_root(buf_view(&d->scopes), &h->root);
    head_pack_payload(h, &m->trust.hierarchy, &d->payload);
    if (d->scopes.err || d->payload.err)
        return -ENOMEM;
    d->request = ++m->next_request;
    Sitetree__SignHead sign = SITETREE__SIGN_HEAD__INIT;
    sign.payload = pb_bytes(buf_view(&d->payload));
    send_to(m, (struct peer){PEER_NODE, 0}, CLASS_HEAD,
        frame_pack(
            FRAME_SIGN_HEAD, d->urgent ? CLASS_RECALL : CLASS_HEAD, d->request, NULL, &sign.base, false));
    return 0;
}

/* Scopes whose upstream was removed leave with a FULL run; what was published by hand stays. */
static int drop_orphans(struct metadata *m, struct draft *d, bool *ret_changed)
{
    char **names;
    size_t n;
    int rc = upstream_names(m, &names, &n);
    if (rc)
        return rc;
    json_t *owners = json_object();
    for (size_t i = 0; i < n; i++) {
        struct view v;
        if (meta_get(m->txn, meta_of("scope-of", view_str(names[i])).s, &v) == 0 && v.len <= SCOPE_NAME_MAX) {
            char scope[SCOPE_NAME_MAX + 1] = {0};
            memcpy(scope, v.data, v.len);
            json_object_set_new(owners, scope, json_true());
        }
        free(names[i]);
    }
    free(names);
    for (size_t i = d->head->n_scopes; i-- > 0;) {
        struct meta_name owned = meta_of("owned", view_str(d->head->scopes[i].name));
        struct view v;
        if (meta_get(m->txn, owned.s, &v) || json_object_get(owners, d->head->scopes[i].name))
            continue;
        d->removed += d->head->scopes[i].tree.count;
        memmove(&d->head->scopes[i], &d->head->scopes[i + 1],
            (d->head->n_scopes - i - 1) * sizeof *d->head->scopes);
        memmove(&d->scope[i], &d->scope[i + 1], (d->head->n_scopes - i - 1) * sizeof *d->scope);
        buf_done(&d->replaced[i]);
        memmove(&d->replaced[i], &d->replaced[i + 1], (d->head->n_scopes - i - 1) * sizeof *d->replaced);
        d->head->n_scopes--;
        meta_del(m->txn, owned.s);
        *ret_changed = true;
    }
    json_decref(owners);
    return store_txn_error(m->txn);
}

static void own_scope(struct metadata *m, const char *upstream, const char *scope)
{
    meta_put(m->txn, meta_of("scope-of", view_str(upstream)).s, view_str(scope));
    meta_put(m->txn, meta_of("owned", view_str(scope)).s, view_str(upstream));
}

/* What a cursor says: the upstream's version and the filter it was compared under (F7). */
static json_t *cursor_json(struct metadata *m, const char *version)
{
    return json_pack("{s:s, s:I}", "version", version, "filter", (json_int_t)m->filter_version);
}

/* When which serial came, once an hour: tells how long an expired update has been there (view.c). */
static void serial_times_put(struct metadata *m, const struct draft *d)
{
    for (size_t i = 0; i < d->head->n_scopes; i++) {
        struct scope *s = d->scope[i];
        char prefix[64], name[96];
        struct view key, value;
        if (d->head->scopes[i].serial == s->applied.serial)
            continue;
        snprintf(prefix, sizeof prefix, "serial-time/%u/", s->id);
        int64_t at = m->wall.ns;
        if (store_last(m->txn, TABLE_META, view_str(prefix), &key, &value) == 0) {
            struct reader r = reader_of(value);
            int64_t last = (int64_t)read_be64(&r);
            if (at - last < 3600 * NS_PER_S) /* the row of this hour takes the newer serial */
                at = last;
        }
        AUTO_BUF b = {0};
        buf_be64(&b, (uint64_t)at);
        buf_be64(&b, d->head->scopes[i].serial);
        snprintf(name, sizeof name, "%s%016llx", prefix, (unsigned long long)at);
        meta_put(m->txn, name, buf_view(&b));
    }
}

static void cursors_put(struct metadata *m, json_t *cursors, bool full)
{
    const char *name;
    json_t *value;
    json_object_foreach(cursors, name, value)
    {
        char *text = json_dumps(value, JSON_COMPACT);
        if (text)
            meta_put(m->txn, meta_of("cursor/any", view_str(name)).s, view_str(text));
        if (text && full)
            meta_put(m->txn, meta_of("cursor/scheduled", view_str(name)).s, view_str(text));
        free(text);
    }
    meta_put_u64(m->txn, full ? "last-scheduled" : "last-manual", (uint64_t)m->wall.ns);
    meta_put_u64(m->txn, "last-any", (uint64_t)m->wall.ns);
}

static bool renewal_due(const struct metadata *m)
{
    return !m->applied || m->applied->trust_version != m->trust.version ||
           m->wall.ns - m->applied->issued.ns > m->opt.head_lifetime_ns / 4;
}

/* The edits of every set; *ret_lost: the scope that loses more than the guard lets pass, NULL: none. */
static int compare_sets(struct metadata *m, struct run *run, struct edits *edits, const char **ret_lost)
{
    *ret_lost = NULL;
    for (size_t i = 0; i < run->n_sets; i++) {
        struct source_set *set = run->sets[i];
        if (set->unchanged && !set->scope[0])
            continue;
        struct scope *s = state_scope(m, set->scope);
        int rc = !s                                    ? -ENOMEM
                 : !set->unchanged                     ? view_compare(m, s, set, run->kind, &edits[i])
                 : run->kind == RUN_FULL && !run->plan ? view_retire(m, s, &edits[i])
                                                       : 0;
        if (rc)
            return rc;
        uint64_t live = s->applied.live;
        if (m->opt.guard_percent && live && edits[i].lost * 100 > live * m->opt.guard_percent) {
            *ret_lost = set->scope;
            snprintf(run->reason, sizeof run->reason,
                "%s would lose %llu of %llu updates, more than %u %%: sitetree sync approve or reject",
                set->scope, (unsigned long long)edits[i].lost, (unsigned long long)live,
                m->opt.guard_percent);
        }
    }
    return 0;
}

static int fill_draft(
    struct metadata *m, struct draft *d, struct run *run, struct edits *edits, bool *ret_changed)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < run->n_sets; i++) {
        struct source_set *set = run->sets[i];
        *ret_changed = *ret_changed || edits[i].n;
        if (edits[i].n || !set->unchanged)
            rc = err_wrap(add_edits(m, d, set->scope, &edits[i]), "%s", set->scope);
        if (!set->unchanged)
            own_scope(m, run->set_names[i], set->scope);
        json_object_set_new(d->cursors, run->set_names[i], cursor_json(m, set->version));
        run_progress(m, set->n, 0);
    }
    if (!rc && d->full && !run->plan)
        rc = drop_orphans(m, d, ret_changed);
    return rc;
}

static void edits_free(struct edits *edits, size_t n)
{
    for (size_t i = 0; edits && i < n; i++)
        edits_done(&edits[i]);
    free(edits);
}

int origin_view(struct metadata *m, struct run *run)
{
    INVARIANT(!m->draft);
    struct edits *edits = calloc(run->n_sets + 1, sizeof *edits);
    const char *lost;
    int rc = edits ? compare_sets(m, run, edits, &lost) : -ENOMEM;
    if (!rc && lost && run->kind == RUN_FULL && !run->approved) {
        run->guarded = true;
        edits_free(edits, run->n_sets);
        return 0;
    }
    if (!rc && !run->code)
        run->reason[0] = 0;
    struct draft *d = rc ? NULL : draft_new(m);
    bool changed = false;
    if (d) {
        d->of_run = true;
        d->full = run->kind == RUN_FULL;
        d->cursors = json_object();
        rc = fill_draft(m, d, run, edits, &changed);
        run->added = d->added;
        run->changed = d->changed;
        run->removed = d->removed;
        run->expired = d->expired;
    } else if (!rc) {
        rc = -ENOMEM;
    }
    edits_free(edits, run->n_sets);
    bool new_scope = d && m->applied && d->head->n_scopes != m->applied->n_scopes;
    if (!rc && (changed || new_scope || renewal_due(m)))
        return draft_sign(m);
    if (!rc)
        cursors_put(m, d->cursors, d->full);
    origin_drop_draft(m);
    return rc;
}

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
    int rc = edits ? compare_sets(m, run, edits, &lost) : -ENOMEM;
    m->filter = in_force;
    free(filter);
    struct draft *d = rc ? NULL : draft_new(m);
    uint64_t items = 0;
    if (!rc && !d)
        rc = -ENOMEM;
    if (d)
        d->cursors = json_object();
    for (size_t i = 0; !rc && i < run->n_sets; i++) {
        uint64_t before = d->bytes;
        rc = add_edits(m, d, run->sets[i]->scope, &edits[i]);
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
    origin_drop_draft(m);
    edits_free(edits, run->n_sets);
    json_decref(scopes);
    return rc;
}

int origin_epoch(struct metadata *m, struct peer caller, uint64_t command)
{
    struct op op = {.kind = OP_EPOCH, .command = command, .caller = caller};
    return origin_op(m, op);
}

int origin_renew(struct metadata *m)
{
    if (!m->central || !m->have_info)
        return 0;
    if (m->applied)
        timer_set(m, TIMER_EXPIRY, m->opt.head_lifetime_ns / 4 + NS_PER_S);
    if (m->draft || !renewal_due(m))
        return 0;
    return draft_new(m) ? draft_sign(m) : -ENOMEM;
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

static void drop_ops(struct metadata *m, size_t n)
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
    struct draft *d = draft_new(m);
    if (!d)
        return -ENOMEM;
    int rc = 0;
    size_t n = m->n_ops > 64 ? 64 : m->n_ops;
    for (size_t i = 0; !rc && i < n; i++) { /* one serial each: the order in which they were asked for */
        struct edits edits = {0};
        AUTO_BUF keep = {0};
        rc = op_edit(m, &m->ops[i], &edits, &keep);
        if (!rc && edits.n)
            rc = add_edits(m, d, m->ops[i].scope, &edits);
        d->urgent = d->urgent || m->ops[i].kind == OP_EXPIRE;
        d->new_epoch = d->new_epoch || m->ops[i].kind == OP_EPOCH;
        edits_done(&edits);
    }
    d->ops = n;
    if (!rc)
        return draft_sign(m);
    origin_drop_draft(m);
    for (size_t i = 0; i < n; i++) {
        command_fail(m, m->ops[i].caller, m->ops[i].command, rc);
        op_done(&m->ops[i]);
    }
    drop_ops(m, n);
    return rc == -ENOMEM || store_txn_error(m->txn) ? rc : 0;
}

static void answer_ops(struct metadata *m, size_t n)
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
    drop_ops(m, n);
}

/* Pages that only the old generation had. One that a later step brought back stays. */
static int delete_replaced(struct metadata *m, struct draft *d, struct head *h)
{
    for (size_t i = 0; i < d->head->n_scopes; i++) {
        const struct scope_entry *e = head_scope(h, d->head->scopes[i].name);
        AUTO_TREE t;
        state_tree(m, d->scope[i], &t);
        for (size_t k = 0; k + PAGE_KEY_LEN <= d->replaced[i].len; k += PAGE_KEY_LEN) {
            struct view key = view_of(d->replaced[i].data + k, PAGE_KEY_LEN);
            uint32_t id;
            struct place p;
            struct hash hash;
            bool has = false;
            int rc = key_page_split(key, &id, &p, &hash);
            if (!rc)
                rc = tree_has(&t, &e->tree, p, &hash, &has);
            if (rc)
                return rc;
            if (!has)
                store_del(m->txn, TABLE_PAGES, key);
        }
        delta_trim(m->txn, d->scope[i]->id, e->delta_floor);
    }
    return store_txn_error(m->txn);
}

static int sweep_dropped(struct metadata *m, const struct head *h)
{
    for (size_t i = 0; i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        uint64_t deleted;
        if (!s->applied.serial || head_scope(h, s->name))
            continue;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = tree_sweep(&t, NULL, &deleted);
        if (rc)
            return rc;
        delta_trim(m->txn, s->id, UINT64_MAX);
    }
    return 0;
}

int origin_on_signed(struct metadata *m, const struct frame *f)
{
    struct draft *d = m->draft;
    if (!d || f->request != d->request)
        return 0;
    AUTO_BUF bytes = {0};
    struct head *h;
    int rc = head_pack_bytes(f->body, buf_view(&d->scopes),
        m->trust.version > 1 ? buf_view(&m->trust_statement) : (struct view){0}, &bytes);
    if (!rc)
        rc = head_parse(buf_view(&bytes), &m->trust, &h);
    if (rc) {
        origin_drop_draft(m);
        return run_failed(m, rc, "signing: %s", err_text(rc));
    }
    m->sign_skips = 0;
    rc = delete_replaced(m, d, h);
    if (!rc)
        rc = sweep_dropped(m, h);
    if (rc) {
        head_free(h);
        return rc;
    }
    if (d->cursors)
        cursors_put(m, d->cursors, d->full);
    serial_times_put(m, d);
    m->hop = (struct hop_times){
        .generation = h->generation, .requested = d->made, .verified = m->wall, .issued = h->issued};
    meta_del(m->txn, "next-epoch");
    state_apply(m, h);
    timer_set(m, TIMER_EXPIRY, m->opt.head_lifetime_ns / 4 + NS_PER_S);
    event_note(m, "head.published", NULL, 0, "generation %llu, %llu records in %zu scopes",
        (unsigned long long)h->generation, (unsigned long long)h->records, h->n_scopes);
    /* leaves after the commit: the origin is durable first */
    serve_publish(m, d->deltas, d->n_deltas, d->urgent);
    bool of_run = d->of_run;
    answer_ops(m, d->ops);
    origin_drop_draft(m);
    meta_del(m->txn, "draft");
    replica_rest(m);
    rc = of_run ? run_on_published(m) : run_go_on(m);
    return rc ? rc : origin_ops(m);
}

/* The node has signed this generation (or a later one) in a life that the store does not remember: take the
 * next. */
int origin_on_refused(struct metadata *m, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (!m->draft || f->request != m->draft->request)
        return 0;
    Sitetree__Refusal *no = FRAME_UNPACK(&a, f, refusal, &rc);
    if (no && (no->code == ERR_ROLLBACK || (no->code == ERR_EPOCH && m->draft->new_epoch)) &&
        m->sign_skips < 1000) {
        m->sign_skips++;
        return draft_sign(m);
    }
    bool of_run = m->draft->of_run;
    size_t ops = m->draft->ops;
    rc = err_fail(no ? no->code : ERR_MALFORMED, "the node does not sign: %s", no ? no->text : "?");
    for (size_t i = 0; i < ops; i++) {
        command_fail(m, m->ops[i].caller, m->ops[i].command, rc);
        op_done(&m->ops[i]);
    }
    drop_ops(m, ops);
    origin_drop_draft(m);
    if (of_run)
        return run_failed(m, rc, "%s", err_text(rc));
    return run_go_on(m);
}

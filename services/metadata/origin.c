/* Generations, at the central site: changes become records, deltas and pages; the node signs the head; then
 * the head is applied here and published. One draft at a time. What was written for a draft that never came
 * is swept later. */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/draft.h"

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

/* What a cursor says: the upstream's version, the filter it was compared under (F7), what was taken then. */
static json_t *cursor_json(struct metadata *m, const char *version, size_t taken)
{
    return json_pack("{s:s, s:I, s:I}", "version", version, "filter", (json_int_t)m->filter_version, "taken",
        (json_int_t)taken);
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
        struct meta_name scheduled = meta_of("cursor/scheduled", view_str(name));
        if (text)
            meta_put(m->txn, meta_of("cursor/any", view_str(name)).s, view_str(text));
        if (text && full)
            meta_put(m->txn, scheduled.s, view_str(text));
        /* What only a manual run has seen may leave again before the next full one: that the upstream is then
         * as it was says nothing of the catalogue, and everything is compared. */
        if (!full && json_integer_value(json_object_get(value, "taken")))
            meta_del(m->txn, scheduled.s);
        free(text);
    }
    meta_put_u64(m->txn, full ? "last-scheduled" : "last-manual", (uint64_t)m->wall.ns);
    meta_put_u64(m->txn, "last-any", (uint64_t)m->wall.ns);
}

bool origin_due(const struct metadata *m)
{
    return !m->applied || m->applied->trust_version != m->trust.version ||
           !view_eq(buf_view(&m->applied->revoked), buf_view(&m->revoked)) ||
           m->wall.ns - m->applied->issued.ns > m->opt.head_lifetime_ns / 4;
}

/* The edits of every set; *ret_lost: the scope that loses more than the guard lets pass, NULL: none. */
int origin_compare(struct metadata *m, struct run *run, struct edits *edits, const char **ret_lost)
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
            rc = err_wrap(draft_edits(m, d, set->scope, &edits[i]), "%s", set->scope);
        if (!set->unchanged)
            own_scope(m, run->set_names[i], set->scope);
        json_object_set_new(d->cursors, run->set_names[i], cursor_json(m, set->version, edits[i].n));
        run_progress(m, set->n, 0);
    }
    if (!rc && d->full && !run->plan)
        rc = drop_orphans(m, d, ret_changed);
    return rc;
}

void edits_free_all(struct edits *edits, size_t n)
{
    for (size_t i = 0; edits && i < n; i++)
        edits_done(&edits[i]);
    free(edits);
}

int origin_view(struct metadata *m, struct run *run)
{
    INVARIANT(!m->draft);
    if (fence_closed(m))
        return fence_error(m);
    struct edits *edits = calloc(run->n_sets + 1, sizeof *edits);
    const char *lost;
    int rc = edits ? origin_compare(m, run, edits, &lost) : -ENOMEM;
    if (!rc && lost && run->kind == RUN_FULL && !run->approved) {
        run->guarded = true;
        edits_free_all(edits, run->n_sets);
        return 0;
    }
    if (!rc && !run->code)
        run->reason[0] = 0;
    struct draft *d = rc ? NULL : draft_make(m);
    bool changed = false;
    if (d) {
        d->run = run->number;
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
    edits_free_all(edits, run->n_sets);
    bool new_scope = d && m->applied && d->head->n_scopes != m->applied->n_scopes;
    if (!rc && (changed || new_scope || origin_due(m)))
        return draft_sign(m);
    if (!rc)
        cursors_put(m, d->cursors, d->full);
    draft_drop(m);
    return rc;
}

int origin_renew(struct metadata *m)
{
    if (!m->central || !m->have_info)
        return 0;
    if (m->applied)
        timer_set(m, TIMER_EXPIRY, m->opt.head_lifetime_ns / 4 + NS_PER_S);
    bool rotated = m->applied && m->applied->trust_version != m->trust.version;
    if (m->draft || !origin_due(m) || (fence_closed(m) && !rotated))
        return 0;
    return draft_make(m) ? draft_sign(m) : -ENOMEM;
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

/* The run that made the draft still waits for it: it may have stalled meanwhile, and another one begun. */
static bool run_waits_for(const struct metadata *m, const struct draft *d)
{
    return d->run && m->run && m->run->number == d->run && m->run->phase == PHASE_PUBLISH;
}

/* The draft never becomes a generation; who waits for it is told. */
static int give_up(struct metadata *m, int rc)
{
    bool of_run = run_waits_for(m, m->draft);
    ops_fail(m, m->draft->ops, rc);
    draft_drop(m);
    return of_run ? run_failed(m, rc, "%s", err_text(rc)) : run_go_on(m);
}

int origin_on_signed(struct metadata *m, const struct frame *f)
{
    struct draft *d = m->draft;
    if (!d || f->request != d->request)
        return 0;
    if (fence_closed(m) && !d->new_epoch) /* something newer came up meanwhile */
        return give_up(m, fence_error(m));
    AUTO_BUF bytes = {0};
    struct head *h;
    int rc = head_pack_bytes(f->body, buf_view(&d->scopes),
        m->trust.version > 1 ? buf_view(&m->trust_statement) : (struct view){0}, &bytes);
    if (!rc)
        rc = head_parse(buf_view(&bytes), &m->trust, &h);
    if (rc)
        return rc == -ENOMEM ? rc : give_up(m, err_wrap(rc, "signing"));
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
    if (d->new_epoch)
        fence_open(m);
    state_apply(m, h);
    timer_set(m, TIMER_EXPIRY, m->opt.head_lifetime_ns / 4 + NS_PER_S);
    /* leaves after the commit: the origin is durable first; and before the event, for which the node commits
     */
    serve_publish(m, d->deltas, d->n_deltas, d->urgent);
    event_note(m, "head.published", NULL, 0, "generation %llu, %llu records in %zu scopes",
        (unsigned long long)h->generation, (unsigned long long)h->records, h->n_scopes);
    bool of_run = run_waits_for(m, d);
    ops_answer(m, d->ops);
    draft_drop(m);
    meta_del(m->txn, "draft");
    if (origin_due(m)) /* the list of revoked certificates has changed meanwhile */
        timer_set(m, TIMER_EXPIRY, 0);
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
        if (m->draft->new_epoch) /* it has a head already, or another counter: yet another epoch */
            meta_del(m->txn, "next-epoch");
        return draft_sign(m);
    }
    if (m->draft->head->trust_version != m->trust.version) /* another head key since it was asked for */
        return draft_sign(m);
    return give_up(
        m, err_fail(no ? no->code : ERR_MALFORMED, "the node does not sign: %s", no ? no->text : "?"));
}

/* A run below the central site: the parent asked, the generation is waited for, the root is verified (A24).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/run.h"

static int verify_root(struct metadata *m, bool *ret_good)
{
    *ret_good = true;
    for (size_t i = 0; i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        struct tree_report report;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = s->applied.serial ? tree_check(&t, &s->applied.tree, false, true, &report) : 0;
        if (rc)
            return rc;
        if (s->applied.serial && report.bad) {
            s->careful = m->boot_bad = true;
            *ret_good = false;
        }
    }
    m->verified_at = m->wall;
    return 0;
}

int run_on_applied(struct metadata *m)
{
    struct run *r = m->run;
    if (!r || m->central)
        return 0;
    run_progress(m, 1, 0);
    if (!m->applied || !epoch_eq(&m->applied->epoch, &r->target_epoch) ||
        m->applied->generation < r->target_generation)
        return 0;
    bool good;
    run_enter(m, PHASE_VIEW);
    event_note(m, "sync.site", r, 0,
        "generation %" PRIu64 " is here; its root is verified from the stored pages", m->applied->generation);
    int rc = verify_root(m, &good);
    if (rc)
        return rc;
    if (!good) {
        rc = run_failed(m, ERR_ROOT, "own pages do not give the signed root; they are fetched again");
        return rc ? rc : replica_plan(m);
    }
    return run_succeeded(m);
}

int run_wait(struct metadata *m)
{
    int rc = run_on_applied(m);
    if (!rc && m->run && m->parent_up)
        replica_poll(m); /* the push has mostly brought it already; else ask */
    return rc;
}

#define REQUESTS_KEPT 32u

/* A request is repeated until it was acknowledged, and a link may double it or bring it late: the last ones
 * of each parent are remembered, so that none is followed twice (P6). A high-water mark would do, if the
 * parent could be believed: one request of a huge number, and no honest one would be followed any more. */
static int is_new(
    struct metadata *m, const Sitetree__SyncRequest *q, const struct epoch *epoch, bool *ret_new)
{
    AUTO_BUF text = {0}, list = {0};
    struct meta_name name = meta_of("requests", view_str(m->parent));
    struct hash id;
    struct view known;
    buf_fmt(&text, "%s %" PRIu64 " ", q->run, (uint64_t)q->generation);
    buf_append(&text, epoch->b, sizeof epoch->b);
    hash_bytes("sitetree-request", NULL, buf_view(&text), &id);
    buf_append(&list, id.b, 8);
    *ret_new = true;
    if (meta_get(m->txn, name.s, &known) == 0) {
        for (size_t i = 0; i + 8 <= known.len; i += 8)
            *ret_new = *ret_new && memcmp(known.data + i, id.b, 8) != 0;
        buf_append(&list, known.data, known.len < 8 * REQUESTS_KEPT ? known.len : 8 * (REQUESTS_KEPT - 1));
    }
    if (*ret_new && !list.err)
        meta_put(m->txn, name.s, buf_view(&list));
    return text.err ? text.err : list.err;
}

int run_on_sync_request(struct metadata *m, const struct frame *f, bool ack)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SyncRequest *q = FRAME_UNPACK(&a, f, sync_request, &rc);
    struct epoch epoch;
    if (!q || epoch_from_view(pb_view(q->epoch), &epoch) || run_number(q->run) == 0 || m->central)
        return 0;
    if (ack) {
        Sitetree__SyncAck y = SITETREE__SYNC_ACK__INIT;
        y.run = q->run;
        send_to(m, (struct peer){PEER_PARENT, 0}, CLASS_HEAD, /* leaves after the commit */
            frame_pack(FRAME_SYNC_ACK, CLASS_HEAD, 0, state_epoch(m), &y.base, false));
    }
    bool follow;
    rc = is_new(m, q, &epoch, &follow);
    if (rc || !follow)
        return rc;
    if (m->run) { /* still on the way to an older request: one run answers both */
        m->run->target_epoch = epoch;
        m->run->target_generation = q->generation;
        snprintf(m->run->parent_run, sizeof m->run->parent_run, "%.31s", q->run);
        run_store(m, m->run);
        return run_wait(m);
    }
    char by[64];
    snprintf(by, sizeof by, "%.31s %.31s", m->parent, q->run);
    struct run *r = run_make(m, RUN_FULL, by); /* a child always runs FULL (A10) */
    if (!r)
        return -ENOMEM;
    event_note(m, "sync.requested", r, 0, "%.31s asks for generation %" PRIu64 " (%.31s)", m->parent,
        (uint64_t)q->generation, q->run);
    snprintf(r->origin, sizeof r->origin, "%.31s", q->origin_run);
    snprintf(r->parent_run, sizeof r->parent_run, "%.31s", q->run);
    r->target_epoch = epoch;
    r->target_generation = q->generation;
    r->deadline.ns = (int64_t)q->deadline;
    return run_begin(m, r);
}

int run_on_link_back(struct metadata *m)
{
    if (m->timers[TIMER_RETRY].ns == 0 || m->run || m->opt.retry_strict)
        return 0;
    return run_on_timer(m, TIMER_RETRY); /* a link that comes back is reason enough to try at once */
}

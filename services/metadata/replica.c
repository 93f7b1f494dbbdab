/* The child's states (protocol.md 4): boot, head check, what to fetch and how, activation, expiry. A site
 * shows only the applied head; everything on the way to the next one is pages and deltas beside it. */
#include <stdlib.h>

#include "services/metadata/core.h"

#define OVERTAKEN_NS (60 * NS_PER_S)
#define AGAIN_FIRST_NS NS_PER_S
#define AGAIN_MOST_NS (60 * NS_PER_S)
#define VOUCHED_NS                                                                                           \
    (30 * 60 * NS_PER_S) /* heartbeats come from the node: so long they stand in for its worker */

const char *replica_wait_word(enum wait_reason r)
{
    static const char *const words[] = {"link", "parent", "credit", "pause", "store"};
    return words[r];
}

void replica_wait(struct metadata *m)
{
    if (m->waiting_since.ns)
        m->hop.waited_ns[m->waiting_for] += m->now.ns - m->waiting_since.ns;
    m->waiting_since = m->target ? m->now : (struct mono){0};
    m->waiting_for = !m->parent_up                                           ? WAIT_LINK
                     : m->retarget                                           ? WAIT_PAUSE
                     : store_nearly_full(m->store) || replica_only_serves(m) ? WAIT_STORE
                     : m->n_requests && request_room(m) == 0                 ? WAIT_CREDIT
                                                                             : WAIT_PARENT;
}

static bool expired(const struct metadata *m)
{
    return m->applied && m->wall.ns >= m->applied->expires.ns;
}

bool replica_only_serves(const struct metadata *m)
{
    return m->refused_until.ns > m->now.ns;
}

void replica_rest(struct metadata *m)
{
    char t[32], fenced[256];
    if (replica_only_serves(m)) {
        state_set(m, m->applied ? STATE_LIVE : STATE_CONNECT, "store-full",
            "the store refused a write; tried again in a minute; see sitetree store stat");
        timer_set(m, TIMER_AGAIN, m->refused_until.ns - m->now.ns);
    } else if (m->boot_bad && m->central)
        state_set(m, STATE_LIVE, "corrupt",
            "own pages are damaged, and there is no parent to fetch them from: sitetree restore");
    else if (m->boot_bad)
        state_set(m, STATE_WALK, "repairing", "own pages are damaged: they are fetched again");
    else if (fence_closed(m))
        state_set(m, m->applied ? STATE_LIVE : STATE_BOOT, "epoch-fence", "%s", fence_text(m, fenced));
    else if (expired(m))
        state_set(m, STATE_STALE, "head-expired", "the head expired at %s; the catalogue is served on",
            wall_text(m->applied->expires, t));
    else if (m->central && m->run && m->run->guarded)
        state_set(m, STATE_LIVE, "mass-change-guard", "%s", m->run->reason);
    else if (m->central)
        state_set(m, m->applied ? STATE_LIVE : STATE_BOOT, "", "%s", "");
    else if (!m->parent_up)
        state_set(m, STATE_CONNECT, "parent-unreachable", "no link to the parent %s", m->parent);
    else if (!m->applied)
        state_set(m, STATE_HEADCHECK, "not-published-yet", "the parent %s has no generation yet", m->parent);
    else
        state_set(m, STATE_LIVE, "", "%s", "");
}

static struct request *ask_head(struct metadata *m)
{
    if (!m->parent_up || m->central || request_pending(m, REQUEST_HEAD, NULL))
        return NULL;
    struct request *r = request_new(m, REQUEST_HEAD, NULL, 0);
    if (!r)
        return NULL;
    Sitetree__HeadGet get = SITETREE__HEAD_GET__INIT;
    const struct head *newest = m->known ? m->known : m->applied;
    get.generation = newest ? newest->generation : 0;
    ask_parent(m, CLASS_HEAD,
        frame_pack(FRAME_HEAD_GET, CLASS_HEAD, r->id, newest ? &newest->epoch : NULL, &get.base, false));
    return r;
}

static bool in_doubt(const struct metadata *m)
{
    return expired(m) || !m->applied || m->head_failures;
}

static void poll_later(struct metadata *m)
{
    int64_t wait = m->opt.poll_interval_ns;
    timer_set(m, TIMER_POLL, state_jitter(m, in_doubt(m) ? wait / 5 : wait));
}

void replica_poll(struct metadata *m)
{
    m->timers[TIMER_POLL].ns = 0;
    (void)ask_head(m);
    poll_later(m);
}

/* A heartbeat told what the parent has applied. The same as here is what it would answer a poll: none is
 * needed. */
static void on_heartbeat(struct metadata *m, bool changed)
{
    bool same_epoch = m->applied && epoch_eq(&m->parent_epoch, &m->applied->epoch);
    bool lately = m->now.ns - m->parent_answered.ns < VOUCHED_NS;
    if (same_epoch && m->parent_generation == m->applied->generation && !m->known && !in_doubt(m) && lately)
        poll_later(m);
    else if (changed && (!same_epoch || m->parent_generation > m->applied->generation))
        (void)ask_head(m);
}

/* A wrong or missing page: no more of this target until the head was looked at again, after a growing pause.
 */
void replica_setback(struct metadata *m)
{
    if (m->retarget)
        return;
    m->retarget = true;
    int64_t wait = m->setbacks ? AGAIN_FIRST_NS << (m->setbacks < 6 ? m->setbacks - 1 : 6) : 0;
    m->setbacks++;
    state_failure(m, "%.100s", m->last_refusal[0] ? m->last_refusal : "pages that it no longer has");
    timer_set(m, TIMER_AGAIN, wait > AGAIN_MOST_NS ? AGAIN_MOST_NS : wait);
}

static int plan_scope(struct metadata *m, const struct scope_entry *to)
{
    struct scope *s = state_scope(m, to->name);
    if (!s)
        return -ENOMEM;
    s->deltas_missing_to = 0;
    s->deltas_asked = request_pending(m, REQUEST_DELTAS, s);
    s->fetch = FETCH_READY;
    if (hash_eq(&s->applied.tree.hash, &to->tree.hash) && !s->careful)
        return 0;
    bool possible = false;
    int rc = s->careful ? 0 : catchup_plan(m, s, to, &possible);
    return rc || possible ? rc : walk_start(m, s, to);
}

/* The newest head that is known; or the applied one, where own pages of it are damaged. */
int replica_plan(struct metadata *m)
{
    if (replica_only_serves(m))
        return 0;
    struct head *to = m->known;
    for (size_t i = 0; !to && i < m->n_scopes; i++)
        if (m->scopes[i]->careful && m->scopes[i]->applied.serial && !m->central)
            to = m->applied;
    state_target(m, to);
    m->retarget = m->replan = false;
    for (size_t i = 0; m->target && i < m->target->n_scopes; i++) {
        int rc = plan_scope(m, &m->target->scopes[i]);
        if (rc)
            return rc;
    }
    return 0;
}

static bool all_ready(struct metadata *m, bool *ret_walking)
{
    bool ready = true;
    for (size_t i = 0; i < m->target->n_scopes; i++) {
        struct scope *s = state_scope_find(m, m->target->scopes[i].name);
        if (s->fetch == FETCH_WALK) {
            *ret_walking = true;
            ready = ready && walk_finished(m, s);
        } else if (s->fetch == FETCH_DELTAS) {
            ready = false;
        }
    }
    return ready;
}

static int ask_more(struct metadata *m)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < m->target->n_scopes; i++) {
        struct scope *s = state_scope_find(m, m->target->scopes[i].name);
        if (s->fetch == FETCH_DELTAS)
            rc = catchup_ask(m, s);
        else if (s->fetch == FETCH_WALK) {
            rc = walk_step(m, s);
            if (rc == ERR_CORRUPT) { /* a staged page is damaged: look at everything */
                s->careful = true;
                rc = walk_start(m, s, &m->target->scopes[i]);
            }
        }
    }
    return rc;
}

static bool nearly_full(struct metadata *m)
{
    if (!store_nearly_full(m->store))
        return false;
    state_set(m, m->applied ? STATE_LIVE : STATE_CONNECT, "store-full",
        "the store or its disk is 85 %% full: nothing new is fetched; see sitetree store stat");
    timer_set(m, TIMER_AGAIN, AGAIN_MOST_NS);
    return true;
}

/* Two digits, and not for every few bytes: each other text is a report upward. */
static uint64_t rounded(uint64_t n)
{
    uint64_t step = 16384;
    while (n / step >= 100)
        step *= 10;
    return (n + step - 1) / step * step;
}

/* In steps, like the bytes. */
static int64_t time_left(uint64_t bytes, double rate)
{
    double s = (double)bytes / rate;
    double step = s < 10 ? 5 : s < 120 ? 10 : s < 7200 ? 60 : 3600;
    return s < 1e8 ? (int64_t)(s / step + 1) * (int64_t)step * NS_PER_S : INT64_MAX / 4;
}

static void tell_progress(struct metadata *m, bool walking)
{
    char time[24];
    uint64_t left = 0;
    for (size_t i = 0; walking && i < m->target->n_scopes; i++) {
        const struct scope *s = state_scope_find(m, m->target->scopes[i].name);
        left += s->fetch == FETCH_WALK ? walk_left(m, s) : 0;
    }
    left = rounded(left);
    unsigned long long generation = m->target->generation;
    if (!walking)
        state_set(m, STATE_CATCHUP, "catching-up", "fetching generation %llu from %s", generation, m->parent);
    else if (m->rate < 1)
        state_set(m, STATE_WALK, "below-delta-floor", "fetching generation %llu from %s, at most %llu KiB",
            generation, m->parent, (unsigned long long)left / 1024);
    else
        state_set(m, STATE_WALK, "below-delta-floor",
            "fetching generation %llu from %s, at most %llu KiB more, about %s", generation, m->parent,
            (unsigned long long)left / 1024, duration_text(time_left(left, m->rate), time));
}

/* Damage that was found after the plan was made: the scope is walked once more, page by page, before the
 * target is shown. */
static int mend_first(struct metadata *m, bool *ret_walking)
{
    *ret_walking = false;
    for (size_t i = 0; i < m->target->n_scopes; i++) {
        struct scope *s = state_scope_find(m, m->target->scopes[i].name);
        if (!s->careful || (s->fetch == FETCH_WALK && s->walk_careful))
            continue;
        int rc = walk_start(m, s, &m->target->scopes[i]);
        if (rc)
            return rc;
        *ret_walking = true;
    }
    return 0;
}

static bool pages_pending(const struct metadata *m)
{
    for (size_t i = 0; i < m->n_requests; i++)
        if (m->requests[i].kind == REQUEST_PAGES)
            return true;
    return false;
}

/* What the frame that brought the last piece looked like; NULL when it did not come as one hint. */
static int step(struct metadata *m, struct blob *hint)
{
    /* A new plan starts at the root again: it must not ask for what is on its way already (P7). */
    if (m->retarget && m->replan && !pages_pending(m)) {
        int rc = replica_plan(m);
        if (rc)
            return rc;
    }
    while (m->target) {
        bool walking = false;
        if (m->retarget || nearly_full(m))
            return 0;
        int rc = ask_more(m);
        if (rc)
            return rc;
        if (!all_ready(m, &walking)) {
            tell_progress(m, walking);
            return 0;
        }
        rc = mend_first(m, &walking);
        if (rc)
            return rc;
        if (walking)
            continue;
        struct hint_delta *deltas = NULL;
        bool repair = m->target == m->applied;
        size_t n = 0;
        rc = replica_activate(m, &deltas, &n);
        if (rc == 1)
            continue;
        if (rc)
            return rc;
        if (hint)
            effects_publish(m->fx, m->hint_topic, m->hint_lane, blob_ref(hint), true);
        else if (!repair)
            serve_publish(m, deltas, n, false);
        free(deltas);
        hint = NULL;
        m->setbacks = 0;
        poll_later(m);
        replica_rest(m);
        rc = run_on_applied(m);
        if (!rc)
            rc = replica_plan(m); /* a newer head may wait */
        if (rc)
            return rc;
    }
    return 0;
}

int replica_step(struct metadata *m)
{
    return step(m, NULL);
}

/* Takes h. Newer: remembered and fetched. */
static int consider(struct metadata *m, struct head *h, const char *from, bool *ret_new)
{
    const struct head *newest = m->known ? m->known : m->applied;
    *ret_new = false;
    int rc = head_follows(newest, h, m->wall);
    if (rc == ERR_EXISTS || (m->applied && hash_eq(&h->hash, &m->applied->hash))) {
        head_free(h);
        m->head_failures = m->bad_heads = 0;
        return 0;
    }
    if (rc) {
        if (rc == ERR_ROLLBACK)
            event_note(m, "replica.rollback-alarm", NULL, rc, "%s: %s; the data is kept", from, err_text(rc));
        state_refusal(m, rc, from);
        m->head_failures++;
        m->bad_heads++;
        state_failure(m, "%.100s", m->last_refusal);
        head_free(h);
        fence_offer(m); /* the parent may not know what is held here */
        return 0;
    }
    m->head_failures = m->bad_heads = 0;
    *ret_new = true;
    state_know(m, h);
    bool walking = false;
    if (m->target && m->target != m->known && !m->retarget)
        (void)all_ready(m, &walking);
    if (walking && m->target != m->applied && m->target->trust_version < h->trust_version) {
        /* What the withdrawn key has signed is not finished: a new plan, once what is on its way has come. */
        m->retarget = m->replan = true;
    }
    return walking ? 0 : replica_plan(m); /* a walk goes on to its own head first; its pages are not lost */
}

int replica_on_head(struct metadata *m, struct request *r, const struct frame *f)
{
    request_end(m, r, f->body.len);
    if (replica_only_serves(m))
        return 0;
    bool was_retarget = m->retarget, is_new = false;
    int rc = 0;
    if (f->body.len) {
        AUTO_BUF raw = {0};
        struct view body = f->body;
        struct head *h;
        if (f->flags & FRAME_ZSTD) {
            rc = zstd_unpack(f->body, f->raw_len, &raw);
            body = buf_view(&raw);
        }
        if (!rc)
            rc = head_parse(body, &m->trust, &h);
        if (rc == -ENOMEM)
            return rc;
        if (rc) {
            state_refusal(m, rc, "head");
            m->head_failures++;
            m->bad_heads++;
            state_failure(m, "%.100s", m->last_refusal);
            return 0;
        }
        rc = consider(m, h, "head", &is_new);
        if (rc)
            return rc;
    }
    m->replan = m->replan || (was_retarget && m->timers[TIMER_AGAIN].ns == 0);
    if (!m->target)
        replica_rest(m);
    rc = replica_step(m);
    if (!rc)
        recall_spread(m);
    return rc;
}

/* A hint that a recall went past on the way, or the recall itself where its class took another way. Any other
 * old one is an alarm. */
static bool overtaken(const struct metadata *m, const struct head *h)
{
    const struct head *newest = m->known ? m->known : m->applied;
    return newest && epoch_eq(&newest->epoch, &h->epoch) && h->generation < newest->generation &&
           newest->issued.ns - h->issued.ns < OVERTAKEN_NS && newest->n_recalls &&
           newest->recalls[newest->n_recalls - 1].generation >= h->generation;
}

/* frame NULL: it came on the pull lane, where only what is ahead is told. */
int replica_on_hint(struct metadata *m, const struct frame *f, struct blob *frame)
{
    if (m->central || replica_only_serves(m))
        return 0;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    AUTO_BUF bytes = {0};
    struct head *h = NULL;
    Sitetree__Hint *hint = FRAME_UNPACK(&a, f, hint, &rc);
    if (hint && !hint->head)
        rc = err_fail(ERR_MALFORMED, "hint without a head");
    if (!rc) {
        message_pack(&hint->head->base, &bytes); /* the signed bytes inside are untouched by this */
        rc = bytes.err ? bytes.err : head_parse(buf_view(&bytes), &m->trust, &h);
    }
    if (rc == -ENOMEM)
        return rc;
    if (rc) {
        state_refusal(m, rc, "hint");
        return 0;
    }
    m->parent_heard = m->now;
    if (hint->ahead)
        return recall_on_ahead(m, h);
    if (!frame) {
        head_free(h);
        return 0;
    }
    if (overtaken(m, h)) {
        head_free(h);
        return 0;
    }
    bool is_new, fresh = !m->target;
    rc = consider(m, h, "hint", &is_new);
    if (rc || !is_new)
        return rc;
    m->hop.first_byte = m->hop.last_byte = m->wall;
    m->hop.bytes += f->body.len;
    size_t taken = 0, came = hint->n_deltas;
    for (size_t i = 0; m->target == m->known && m->target && i < hint->n_deltas; i++)
        for (size_t j = 0; j < hint->n_deltas; j++) { /* newest first, whatever order they came in */
            const Sitetree__DeltaBytes *d = hint->deltas[j];
            struct scope *s = state_scope_find(m, d->scope);
            if (!s || s->fetch != FETCH_DELTAS || d->serial != s->deltas_missing_to)
                continue;
            rc = catchup_take(m, s, d);
            if (store_txn_error(m->txn))
                return store_txn_error(m->txn);
            if (rc == -ENOMEM)
                return rc;
            if (rc) {
                state_refusal(m, rc, "hint");
                hint->n_deltas = 0; /* the pull lane will bring them */
                break;
            }
            taken++;
        }
    rc = step(m, fresh && taken == came ? frame : NULL); /* as it came, where all of it was checked */
    if (!rc)
        recall_spread(m);
    return rc;
}

int replica_on_refusal(struct metadata *m, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Refusal *no = FRAME_UNPACK(&a, f, refusal, &rc);
    struct request *r = request_find(m, f->request);
    if (!r || !no)
        return 0;
    enum request_kind kind = r->kind;
    struct scope *s = r->scope;
    int code = no->code;
    for (size_t i = 0; kind == REQUEST_PAGES && i < r->expect.n; i++)
        if (wants_push(&s->frontier, r->expect.list[i]))
            return -ENOMEM;
    r->expect.n = 0;
    request_end(m, r, 0);
    if (kind == REQUEST_HEAD) {
        m->head_failures++;
        if (!m->target)
            replica_rest(m);
        return 0;
    }
    if (code != ERR_BUSY)
        state_refusal(m, err_fail(ERR_REFUSED, "%.200s: %.200s", no->word, no->text), m->parent);
    replica_setback(m);
    return 0;
}

/* After a setback, or when the store was full. */
int replica_on_again(struct metadata *m)
{
    m->timers[TIMER_AGAIN].ns = 0;
    if (replica_only_serves(m)) {
        replica_rest(m);
        return 0;
    }
    if (m->refused_until.ns) { /* what the start has left out */
        m->refused_until.ns = 0;
        int rc = run_start(m);
        if (!rc && m->central)
            rc = origin_renew(m);
        if (rc)
            return rc;
    }
    if (m->central) {
        replica_rest(m);
        return 0;
    }
    if (m->retarget) { /* look at the head first: what is missing was mostly replaced by something newer */
        replica_poll(m);
        return 0;
    }
    int rc = 0;
    if (!m->target) {
        replica_rest(m);
        replica_poll(m);
        rc = replica_plan(m);
    }
    return rc ? rc : replica_step(m);
}

int replica_on_link(struct metadata *m, const Sitetree__LinkState *l)
{
    struct epoch epoch = {0};
    bool was_up = m->parent_up;
    struct epoch epoch_before = m->parent_epoch;
    uint64_t generation_before = m->parent_generation;
    if (l->epoch.len == sizeof epoch.b)
        memcpy(epoch.b, l->epoch.data, sizeof epoch.b);
    bool changed = l->generation != m->parent_generation || !epoch_eq(&epoch, &m->parent_epoch);
    m->clock_measured = l->clock_measured;
    m->clock_offset_ns = l->clock_offset_ns;
    m->parent_generation = l->generation;
    m->parent_epoch = epoch;
    m->parent_up = l->up;
    if (l->site && l->site[0])
        snprintf(m->parent, sizeof m->parent, "%s", l->site);
    if (!l->up) {
        request_drop_all(m);
        replica_rest(m);
        return 0;
    }
    m->parent_heard = m->now;
    fence_on_parent(m, was_up, &epoch_before, generation_before);
    if (!was_up) { /* of the site that is there now nothing is known */
        m->late = m->bad_heads = m->setbacks = 0;
        m->failure_text[0] = 0;
        request_drop_all(m); /* answers of the old connection will not come */
        replica_poll(m);
        int rc = run_on_link_back(m);
        if (rc)
            return rc;
        if (!m->target) {
            rc = replica_plan(m);
            if (rc)
                return rc;
        }
    } else {
        on_heartbeat(m, changed);
    }
    if (!m->target)
        replica_rest(m);
    return replica_step(m);
}

int replica_on_expiry(struct metadata *m)
{
    m->timers[TIMER_EXPIRY].ns = 0;
    if (m->central)
        return origin_renew(m);
    if (m->applied && !expired(m)) {
        timer_set(m, TIMER_EXPIRY, m->applied->expires.ns - m->wall.ns);
        return 0;
    }
    if (m->applied)
        event_note(m, "replica.stale", NULL, ERR_EXPIRED,
            "the head of generation %llu has expired; it is served on",
            (unsigned long long)m->applied->generation);
    if (!m->target)
        replica_rest(m);
    replica_poll(m);
    return 0;
}

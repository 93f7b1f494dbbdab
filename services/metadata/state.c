/* What the core remembers: the applied and the newest known head, the scopes, its state word, and what it
 * tells the node about itself. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define STATUS_EVERY_NS (NS_PER_S / 4)
#define STATUS_NEWS_NS (20 * NS_PER_MS) /* another generation is told sooner: operators wait for it */

static const char *const state_words[] = {
    "boot", "connect", "headcheck", "catchup", "walk", "verify", "activate", "live", "stale", "orphan"};

const char *state_word(enum replica_state s)
{
    return state_words[s];
}

uint64_t state_random(struct metadata *m)
{
    uint64_t v;
    m->random->fill(m->random->ctx, &v, sizeof v);
    return v;
}

struct mono state_stopwatch(const struct metadata *m)
{
    return m->opt.stopwatch ? clock_mono(m->opt.stopwatch) : m->now;
}

int64_t state_jitter(struct metadata *m, int64_t ns)
{
    return ns - ns / 4 + (int64_t)(state_random(m) % (uint64_t)(ns / 2 + 1));
}

void timer_set(struct metadata *m, enum timer_id id, int64_t after_ns)
{
    struct mono at = {after_ns < 0 ? 0 : m->now.ns + after_ns};
    if (at.ns == 0 && m->timers[id].ns == 0)
        return;
    m->timers[id] = at;
    effects_timer(m->fx, id, at);
}

void ask_parent(struct metadata *m, enum lane_class lane, struct blob *frame)
{
    effects_send_early(m->fx, (struct peer){PEER_PARENT, 0}, lane, frame);
}

void send_to(struct metadata *m, struct peer to, enum lane_class lane, struct blob *frame)
{
    effects_send(m->fx, to, lane, frame);
}

const struct epoch *state_epoch(const struct metadata *m)
{
    return m->applied ? &m->applied->epoch : NULL;
}

struct scope *state_scope_find(struct metadata *m, const char *name)
{
    for (size_t i = 0; i < m->n_scopes; i++)
        if (strcmp(m->scopes[i]->name, name) == 0)
            return m->scopes[i];
    return NULL;
}

static struct scope *scope_add(struct metadata *m, const char *name, uint32_t id)
{
    struct scope **list = realloc(m->scopes, (m->n_scopes + 1) * sizeof *list);
    if (!list)
        return NULL;
    m->scopes = list;
    struct scope *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    snprintf(s->name, sizeof s->name, "%s", name);
    s->id = id;
    scope_salt(name, s->salt);
    memcpy(s->applied.name, s->name, sizeof s->name);
    empty_root(s->salt, &s->applied.tree.hash);
    m->scopes[m->n_scopes++] = s;
    return s;
}

static void scope_row_put(struct metadata *m, struct scope *s, uint64_t serial)
{
    uint8_t row[12];
    struct key12 k = key_delta(s->id, serial); /* the same layout: u32, u64 */
    memcpy(row, k.b, sizeof row);
    store_put(m->txn, TABLE_SCOPES, view_str(s->name), view_of(row, sizeof row));
}

struct scope *state_scope(struct metadata *m, const char *name)
{
    struct scope *s = state_scope_find(m, name);
    if (s)
        return s;
    uint32_t id = m->next_scope_id + 1;
    s = scope_add(m, name, id);
    if (s) {
        m->next_scope_id = id;
        scope_row_put(m, s, 0);
    }
    return s;
}

uint64_t state_scope_serial(struct metadata *m, struct scope *s)
{
    struct view v;
    return store_get(m->txn, TABLE_SCOPES, view_str(s->name), &v) == 0 && v.len == 12 ? key_delta_serial(v)
                                                                                      : 0;
}

void state_scope_serial_put(struct metadata *m, struct scope *s, uint64_t serial)
{
    scope_row_put(m, s, serial);
}

static void take_entries(struct metadata *m)
{
    for (size_t i = 0; i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        const struct scope_entry *e = head_scope(m->applied, s->name);
        if (e) {
            s->applied = *e;
        } else {
            s->applied = (struct scope_entry){0};
            memcpy(s->applied.name, s->name, sizeof s->name);
            empty_root(s->salt, &s->applied.tree.hash);
        }
    }
}

static int load_head(struct metadata *m, const char *name, struct head **ret_head)
{
    struct view v;
    int rc = meta_get(m->txn, name, &v);
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    return err_wrap(head_parse_stored(v, &m->trust, ret_head), "stored head");
}

/* The node's word, or what came with a head since: whichever is newer. */
static void load_trust(struct metadata *m)
{
    struct view v;
    if (meta_get(m->txn, "trust", &v))
        return;
    struct reader r = reader_of(v);
    uint64_t version = read_be64(&r);
    struct view key = read_bytes(&r, 32);
    if (r.bad || version <= m->trust.version)
        return;
    m->trust.version = version;
    memcpy(m->trust.head_key, key.data, 32);
}

int state_load(struct metadata *m)
{
    load_trust(m);
    struct store_walk w = store_walk_from(m->txn, TABLE_SCOPES, (struct view){0}, (struct view){0});
    while (store_walk_next(&w)) {
        char name[SCOPE_NAME_MAX + 1] = {0};
        struct reader r = reader_of(w.value);
        uint32_t id = read_be32(&r);
        if (w.key.len > SCOPE_NAME_MAX || r.bad)
            return err_fail(ERR_CORRUPT, "stored scope is damaged");
        memcpy(name, w.key.data, w.key.len);
        struct scope *s = state_scope_find(m, name);
        if (!s && !(s = scope_add(m, name, id)))
            return -ENOMEM;
        struct view any;
        s->staged = meta_get(m->txn, meta_of("staged", view_str(name)).s, &any) == 0;
        if (id > m->next_scope_id)
            m->next_scope_id = id;
    }
    int rc = store_txn_error(m->txn);
    if (!rc && !m->applied)
        rc = load_head(m, "head", &m->applied);
    if (!rc && !m->known)
        rc = load_head(m, "known", &m->known);
    if (!rc && !m->ahead)
        rc = load_head(m, "ahead", &m->ahead);
    if (rc)
        return rc;
    for (size_t i = 0; m->applied && i < m->applied->n_scopes; i++)
        if (!state_scope(m, m->applied->scopes[i].name))
            return -ENOMEM;
    if (m->applied && m->known && epoch_eq(&m->applied->epoch, &m->known->epoch) &&
        m->known->generation <= m->applied->generation) {
        head_free(m->known);
        m->known = NULL;
    }
    m->known_at.ns = (int64_t)meta_get_u64(m->txn, "known-at");
    m->recalled = meta_get_u64(m->txn, "recalled");
    m->recalled_at.ns = (int64_t)meta_get_u64(m->txn, "recalled-at");
    m->hop.generation = 0;
    take_entries(m);
    return 0;
}

void state_target(struct metadata *m, struct head *h)
{
    if (m->target && m->target != m->known && m->target != h && m->target != m->applied)
        head_free(m->target);
    m->target = h;
}

void state_trust(struct metadata *m, const struct head *h)
{
    if (h->trust.version <= m->trust.version || !h->trust_statement.len)
        return;
    AUTO_BUF row = {0};
    m->trust = h->trust;
    buf_be64(&row, h->trust.version);
    buf_append(&row, h->trust.head_key, 32);
    if (row.err) /* a row cut short would be no trust, and the withdrawn key good again in the next life */
        m->fx->err = row.err;
    meta_put(m->txn, "trust", buf_view(&row));
    event_note(m, "trust.changed", NULL, 0, "trust version %llu: heads are signed by another key from now on",
        (unsigned long long)h->trust.version);
}

void state_know(struct metadata *m, struct head *h)
{
    state_trust(m, h);
    if (m->ahead && !head_newer(m->ahead, h)) {
        head_free(m->ahead);
        m->ahead = NULL;
        meta_del(m->txn, "ahead");
    }
    if (m->known != m->target)
        head_free(m->known); /* else the target keeps it */
    m->known = h;
    meta_put(m->txn, "known", blob_view(h->bytes));
    if (m->known_at.ns == 0) {
        m->known_at = m->wall;
        meta_put_u64(m->txn, "known-at", (uint64_t)m->wall.ns);
    }
    m->hop = (struct hop_times){.generation = h->generation, .requested = m->wall, .issued = h->issued};
    recall_note(m);
    status_touch(m);
}

void state_apply(struct metadata *m, struct head *h)
{
    INVARIANT(
        !m->applied || !epoch_eq(&m->applied->epoch, &h->epoch) || h->generation > m->applied->generation);
    if (m->target == h)
        m->target = NULL;
    state_target(m, NULL);
    floor_step(m, h);
    head_free(m->applied);
    m->applied = h;
    meta_put(m->txn, "head", blob_view(h->bytes));
    meta_put_u64(m->txn, "applied-at", (uint64_t)m->wall.ns);
    if (m->known &&
        (m->known == h || (epoch_eq(&m->known->epoch, &h->epoch) && m->known->generation <= h->generation))) {
        if (m->known != h)
            head_free(m->known);
        m->known = NULL;
        m->known_at.ns = 0;
        meta_del(m->txn, "known");
        meta_del(m->txn, "known-at");
    }
    if (m->ahead && !head_newer(m->ahead, h)) {
        head_free(m->ahead);
        m->ahead = NULL;
        meta_del(m->txn, "ahead");
    }
    take_entries(m);
    recall_note(m);
    m->verified_at = m->wall;
    m->deliveries[m->n_deliveries % DELIVERIES] =
        (struct delivery){.generation = h->generation, .issued = h->issued, .applied = m->wall};
    m->n_deliveries++;
    m->committed_pending = true;
    int64_t left = h->expires.ns - m->wall.ns;
    timer_set(m, TIMER_EXPIRY, left > 0 ? left : 0);
    status_touch(m);
}

void state_set(struct metadata *m, enum replica_state s, const char *cause, const char *fmt, ...)
{
    char text[sizeof m->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (m->state == s && strcmp(m->cause, cause) == 0 && strcmp(m->text, text) == 0)
        return;
    if (m->state != s)
        m->state_since = m->wall;
    m->state = s;
    snprintf(m->cause, sizeof m->cause, "%s", cause);
    memcpy(m->text, text, sizeof text);
    status_touch(m);
}

void event_note(struct metadata *m, const char *name, const struct run *run, int code, const char *fmt, ...)
{
    char text[1024], id[32] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    static const char *const phases[] = {"", "SOURCE", "VIEW", "PUBLISH", "INTERNET", "REQUEST"};
    Sitetree__EventNote e = SITETREE__EVENT_NOTE__INIT;
    e.name = (char *)(uintptr_t)name;
    if (run) {
        run_id(run->number, id);
        e.phase = (char *)(uintptr_t)phases[run->phase];
    }
    e.run = id;
    e.code = code;
    e.text = text;
    e.at = (uint64_t)m->wall.ns;
    send_to(m, (struct peer){PEER_NODE, 0}, CLASS_HEAD,
        frame_pack(FRAME_EVENT_NOTE, CLASS_HEAD, 0, NULL, &e.base, false));
}

void state_failure(struct metadata *m, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->failure_text, sizeof m->failure_text, fmt, ap);
    va_end(ap);
    status_touch(m);
}

void state_refusal(struct metadata *m, int code, const char *what)
{
    m->refusals++;
    snprintf(m->last_refusal, sizeof m->last_refusal, "%s: %s: %s", what, err_word(code), err_text(code));
    event_note(m, "verify.refused", NULL, code, "%s: %s", what, err_text(code));
    status_touch(m);
}

void status_touch(struct metadata *m)
{
    m->status_dirty = true;
    bool news = m->applied && m->applied->generation != m->status_generation;
    int64_t every = news ? STATUS_NEWS_NS : STATUS_EVERY_NS;
    int64_t wait = m->status_sent.ns ? m->status_sent.ns + every - m->now.ns : 0;
    if (m->timers[TIMER_STATUS].ns == 0 || (news && m->timers[TIMER_STATUS].ns > m->now.ns + STATUS_NEWS_NS))
        timer_set(m, TIMER_STATUS, wait > 0 ? wait : 0);
}

/* What is known to be missing, as bytes on the wire: the walk that is under way, then the deltas behind it,
 * or what a walk would take. */
static uint64_t backlog(struct metadata *m)
{
    const struct head *to = m->known;
    double bytes = 0;
    for (size_t i = 0; to && i < to->n_scopes; i++) {
        const struct scope_entry *e = &to->scopes[i];
        const struct scope *s = state_scope_find(m, e->name);
        bool walks = m->target && s && s->fetch == FETCH_WALK;
        uint64_t have = s ? s->applied.serial : 0;
        const struct scope_entry *mid = walks ? head_scope(m->target, e->name) : NULL;
        if (walks)
            bytes += (double)walk_left(m, s);
        if (mid)
            have = mid->serial;
        if (have >= e->serial && have)
            continue;
        if (have >= e->delta_floor && have && e->serial > e->delta_floor)
            bytes +=
                (double)e->delta_bytes * (double)(e->serial - have) / (double)(e->serial - e->delta_floor);
        else if (!walks)
            bytes += (double)e->tree.bytes * 0.3; /* about what pages take, compressed */
    }
    return (uint64_t)bytes;
}

static void tell_room(struct metadata *m)
{
    bool nearly = store_nearly_full(m->store);
    if (nearly && !m->nearly_full)
        event_note(m, "store.nearly-full", NULL, ERR_MAP_FULL,
            "the store or its disk is 85 %% full: nothing new is taken in; what is here is served");
    m->nearly_full = nearly;
}

int status_send(struct metadata *m)
{
    m->timers[TIMER_STATUS].ns = 0;
    if (!m->status_dirty)
        return 0;
    tell_room(m);
    char run[32] = "";
    struct store_stat stat;
    store_stat(m->store, &stat);
    Sitetree__WorkerStatus s = SITETREE__WORKER_STATUS__INIT;
    s.state = (char *)(uintptr_t)state_word(m->state);
    s.cause = m->cause;
    s.text = m->text;
    if (m->applied) {
        s.epoch = pb_bytes(view_of(m->applied->epoch.b, 16));
        s.generation = m->applied->generation;
        s.head = pb_bytes(view_of(m->applied->hash.b, 32));
        s.root = pb_bytes(view_of(m->applied->root.b, 32));
        s.records = m->applied->records;
        s.head_issued = (uint64_t)m->applied->issued.ns;
        s.head_expires = (uint64_t)m->applied->expires.ns;
    }
    const struct head *newest = m->known ? m->known : m->applied;
    s.known_generation = newest ? newest->generation : 0;
    s.known_at = (uint64_t)m->known_at.ns;
    s.backlog_bytes = backlog(m);
    s.applied_at = meta_get_u64(m->txn, "applied-at");
    if (m->last_run)
        run_id(m->last_run, run);
    s.run = run;
    s.run_result = m->last_run_result;
    s.verified_at = (uint64_t)m->verified_at.ns;
    s.store_used = stat.used_bytes;
    s.store_limit = stat.limit_bytes;
    s.refusals = m->refusals;
    s.last_refusal = m->last_refusal;
    s.recalled = m->recalled;
    s.recalled_at = (uint64_t)m->recalled_at.ns;
    floor_look(m);
    s.floor_generation = m->floor.generation;
    s.floor_first_ns = m->floor.first_ns;
    s.floor_now_ns = m->floor.now_ns;
    s.parent = m->parent;
    s.parent_failures = m->late > m->bad_heads ? m->late : m->bad_heads;
    if (m->setbacks > s.parent_failures)
        s.parent_failures = m->setbacks;
    s.parent_failure = m->failure_text;
    if (newest)
        s.revoked = pb_bytes(buf_view(&newest->revoked));
    send_to(m, (struct peer){PEER_NODE, 0}, CLASS_HEAD,
        frame_pack(FRAME_WORKER_STATUS, CLASS_HEAD, 0, NULL, &s.base, false));
    m->status_dirty = false;
    m->status_sent = m->now;
    m->status_generation = s.generation;
    return 0;
}

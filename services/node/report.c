#include "services/node/core.h"

#include <stdlib.h>

#define OWN_MIN_NS NS_PER_S            /* own reports on change: at most one a second */
#define RELAY_MIN_NS (250 * NS_PER_MS) /* what came from below goes up together */
#define WORKER_STEADY_NS (10 * NS_PER_S)
#define RELAY_BYTES (160 * 1024) /* of one Reports frame, before compression */
#define REMOVALS_TOLD_NS (90 * 86400 * NS_PER_S)

void report_newest(struct step *s)
{
    struct node *n = s->n;
    uint64_t newest = n->self.last.generation;
    if (n->known_generation > newest)
        newest = n->known_generation;
    if (n->up.generation > newest)
        newest = n->up.generation;
    if (newest != n->newest) {
        n->newest = newest;
        n->newest_at = s->in->wall;
    }
}

void report_changed(struct step *s)
{
    struct node *n = s->n;
    n->report_due = true;
    int64_t at = n->report_sent.ns ? n->report_sent.ns + OWN_MIN_NS : s->in->now.ns;
    step_timer(s, TIMER_REPORT, (struct mono){at > s->in->now.ns ? at : s->in->now.ns + 1});
}

void report_relay_soon(struct step *s)
{
    struct node *n = s->n;
    if (n->up.state != UPLINK_LIVE)
        return;
    int64_t at = n->relay_sent.ns ? n->relay_sent.ns + RELAY_MIN_NS : 0;
    step_timer(s, TIMER_RELAY, (struct mono){at > s->in->now.ns ? at : s->in->now.ns + 1});
}

void report_relay_all(struct step *s)
{
    struct node *n = s->n;
    for (size_t i = 0; i < n->n_sites; i++) {
        struct site *site = n->sites[i];
        site->dirty = site->known && site->reported;
        site->chain_dirty =
            site->known || (site->removed.ns && s->in->wall.ns - site->removed.ns < REMOVALS_TOLD_NS);
    }
    if (n->n_sites)
        report_relay_soon(s);
    n->report_sent.ns = 0;
    report_changed(s);
}

int report_start(struct step *s)
{
    struct node *n = s->n;
    n->self.reported = true;
    n->self.joined = n->self.cert.issued;
    n->self.changed = n->self.heard = s->in->wall;
    COPY_TEXT(n->self.last.state, "boot");
    COPY_TEXT(n->self.last.software, SITETREE_VERSION);
    n->self.last.lag_ns = n->self.last.parent_heard_ns = -1;
    return heard_load(s);
}

/* Into the frame; what is longer than the field in a summary was cut there already. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static void own_summary(struct step *s)
{
    struct node *n = s->n;
    struct summary *m = &n->self.last;
    uint64_t clock = (uint64_t)s->in->wall.ns;
    m->serial = clock > n->report_serial ? clock : n->report_serial + 1;
    m->made = s->in->wall;
    m->offset_ns = n->up.measured ? n->up.offset_ns : 0;
    m->rtt_ns = n->up.measured ? n->up.rtt_ns : 0;
    m->parent_heard_ns = n->up.heard.ns ? s->in->now.ns - n->up.heard.ns : -1;
    COPY_TEXT(m->via, n->up.away && n->up.state == UPLINK_LIVE ? uplink_site(n) : "");
    m->bytes_in = n->up.bytes_in;
    m->bytes_out = n->up.bytes_out;
    m->refusals = n->refusals;
    m->children = 0;
    for (size_t i = 0; i < n->n_sites; i++)
        m->children += n->sites[i]->known && n->sites[i]->up == &n->self;
    m->worker_restarts = n->worker_starts ? n->worker_starts - 1 : 0;
    m->lag_ns = !n->worker_full ? -1 : n->known_at.ns == 0 ? 0 : s->in->wall.ns - n->known_at.ns;
    n->self.heard = s->in->wall;
}

static uint32_t heard_ms(int64_t ns)
{
    int64_t ms = ns / NS_PER_MS;
    return ns < 0 ? 0 : ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

static void own_pack(const struct node *n, struct buf *out)
{
    const struct summary *m = &n->self.last;
    Sitetree__SiteReport r = SITETREE__SITE_REPORT__INIT;
    r.hierarchy = pb_bytes(view_of(n->id.hierarchy.b, 32));
    r.site = text(n->opt.site.s);
    r.parent = text(n->self.cert.parent.s);
    r.tier = text(n->opt.tier);
    r.serial = m->serial;
    r.made = (uint64_t)m->made.ns;
    r.clock_offset_ns = m->offset_ns;
    r.epoch = pb_bytes(view_of(m->epoch.b, n->worker_full ? sizeof m->epoch.b : 0));
    r.generation = m->generation;
    r.head = pb_bytes(view_of(n->head.b, n->worker_full ? 32 : 0));
    r.root = pb_bytes(view_of(m->root.b, n->rooted ? 32 : 0));
    r.records = m->records;
    r.state = text(m->state);
    const char *cause;
    (void)site_class_of(n, &n->self, m->made, &cause); /* also what the worker cannot know */
    r.cause = text(cause);
    r.text = text(m->text);
    r.lag_ns = m->lag_ns < 0 ? 0 : (uint64_t)m->lag_ns;
    r.backlog_bytes = m->backlog;
    r.applied_at = (uint64_t)m->applied_at.ns;
    r.bytes_in = m->bytes_in;
    r.bytes_out = m->bytes_out;
    r.refusals = m->refusals;
    r.last_refusal = text(m->last_refusal);
    r.run = text(m->run);
    r.run_result = text(m->run_result);
    r.software = text(m->software);
    r.children = m->children;
    r.rtt_ns = (uint64_t)m->rtt_ns;
    r.parent_heard_ms = heard_ms(m->parent_heard_ns);
    r.verified_at = (uint64_t)m->verified_at.ns;
    r.recalled = m->recalled;
    r.recalled_at = (uint64_t)m->recalled_at.ns;
    r.store_used = m->store_used;
    r.store_limit = m->store_limit;
    r.worker_restarts = m->worker_restarts;
    r.via = text(m->via);
    message_pack(&r.base, out);
}

/* Made, signed and sent. The serial is stored first: a parent takes no older one, so it must not go back. */
static int own_send(struct step *s)
{
    struct node *n = s->n;
    own_summary(s);
    n->report_due = false;
    n->report_sent = s->in->now;
    step_timer(s, TIMER_REPORT, (struct mono){s->in->now.ns + n->opt.report_ns});
    if (n->up.state != UPLINK_LIVE)
        return 0;
    AUTO_BUF payload = {0};
    own_pack(n, &payload);
    if (payload.err)
        return payload.err;
    uint8_t signature[64];
    sign_detached(&n->keys.site, "report", buf_view(&payload), signature);
    Sitetree__Signed report = SITETREE__SIGNED__INIT, *list = &report;
    report.payload = pb_bytes(buf_view(&payload));
    report.signature = pb_bytes(view_of(signature, sizeof signature));
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    m.reports = &list;
    m.n_reports = 1;
    n->report_serial = n->self.last.serial;
    table_number_put(s->txn, "report", n->report_serial);
    uplink_send(
        s, CLASS_STATE, frame_pack(FRAME_REPORTS, CLASS_STATE, 0, &n->self.last.epoch, &m.base, true));
    return 0;
}

/* What goes up in one frame; all of it lives in the arena. */
struct load {
    Sitetree__Signed *reports[256], *removals[64];
    Sitetree__Chain *chains[256];
    Sitetree__Chain space[256];
    size_t n_reports, n_removals, n_chains, bytes;
};

static size_t signed_len(const Sitetree__Signed *m)
{
    return m->payload.len + m->signature.len + m->key.len + 12;
}

static int load_report(struct step *s, struct arena *a, struct site *site, struct load *l)
{
    Sitetree__StoredReport *m;
    struct key k = key_text(site->cert.code.s);
    int rc = table_get(s->txn, TABLE_REPORTS, &k, a, &sitetree__stored_report__descriptor, &m);
    site->dirty = false;
    if (rc == ERR_NOT_FOUND || (rc == 0 && !m->report))
        return 0;
    if (rc)
        return rc;
    l->reports[l->n_reports++] = m->report;
    l->bytes += signed_len(m->report);
    return 0;
}

static int stored_site(struct step *s, struct arena *a, const char *code, Sitetree__StoredSite **ret)
{
    struct key k = key_text(code);
    return table_get(s->txn, TABLE_SITES, &k, a, &sitetree__stored_site__descriptor, ret);
}

/* The certificates from below this site down to `site`, after this site's own chain. */
static int load_chain(
    struct step *s, struct arena *a, struct site *site, const Sitetree__Chain *own, struct load *l)
{
    const struct site *path[TRUST_DEPTH_MAX + 2];
    unsigned depth = 0;
    site->chain_dirty = false;
    for (const struct site *p = site; p && p != &s->n->self && depth < TRUST_DEPTH_MAX; p = p->up)
        path[depth++] = p;
    size_t total = own->n_certificates + depth;
    if (total > TRUST_DEPTH_MAX)
        return 0;
    Sitetree__Signed **list = a->allocator.alloc(a->allocator.allocator_data, total * sizeof *list);
    if (!list)
        return -ENOMEM;
    for (size_t i = 0; i < own->n_certificates; i++)
        list[i] = own->certificates[i];
    for (unsigned i = 0; i < depth; i++) {
        Sitetree__StoredSite *m;
        int rc = stored_site(s, a, path[depth - 1 - i]->cert.code.s, &m);
        if (rc)
            return rc;
        list[own->n_certificates + i] = m->certificate;
        l->bytes += signed_len(m->certificate);
    }
    Sitetree__Chain *c = &l->space[l->n_chains];
    *c = (Sitetree__Chain)SITETREE__CHAIN__INIT;
    c->trust = own->trust;
    c->certificates = list;
    c->n_certificates = total;
    l->chains[l->n_chains++] = c;
    l->bytes += signed_len(own->trust);
    return 0;
}

static int load_removal(struct step *s, struct arena *a, struct site *site, struct load *l)
{
    Sitetree__StoredSite *m;
    site->chain_dirty = false;
    int rc = stored_site(s, a, site->cert.code.s, &m);
    if (rc || !m->removal)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    l->removals[l->n_removals++] = m->removal;
    l->bytes += signed_len(m->removal);
    return 0;
}

static bool load_full(const struct load *l)
{
    return l->bytes >= RELAY_BYTES || l->n_reports == COUNT_OF(l->reports) ||
           l->n_chains == COUNT_OF(l->chains) || l->n_removals == COUNT_OF(l->removals);
}

static unsigned depth_of(const struct site *site)
{
    unsigned depth = 0;
    for (; site && depth <= TRUST_DEPTH_MAX; site = site->up)
        depth++;
    return depth;
}

/* Fills one frame; *ret_more says that something is left. Upper sites first: what is below is believed
 * through them. */
static int load_fill(struct step *s, struct arena *a, struct load *l, bool *ret_more)
{
    struct node *n = s->n;
    int rc = 0;
    Sitetree__Chain *own = MESSAGE_UNPACK(a, buf_view(&n->chain), TRUST_BYTES_MAX, chain, &rc);
    if (!own)
        return rc;
    bool deeper = true;
    for (unsigned depth = 2; deeper; depth++) {
        deeper = false;
        for (size_t i = 0; i < n->n_sites && !rc; i++) {
            struct site *site = n->sites[i];
            unsigned at = site->known ? depth_of(site) : 2;
            if (!site->dirty && !site->chain_dirty)
                continue;
            deeper = deeper || at > depth;
            if (at != depth)
                continue;
            if (load_full(l)) {
                *ret_more = true;
                return 0;
            }
            if (site->chain_dirty)
                rc = site->known ? load_chain(s, a, site, own, l) : load_removal(s, a, site, l);
            if (!rc && site->dirty && !load_full(l))
                rc = load_report(s, a, site, l);
            *ret_more = *ret_more || site->dirty;
        }
        if (rc)
            return rc;
    }
    return 0;
}

static int relay_up(struct step *s)
{
    struct node *n = s->n;
    if (n->up.state != UPLINK_LIVE)
        return 0;
    AUTO_ARENA a;
    arena_init(&a);
    a.cap = SIZE_MAX / 2;
    AUTO_FREE void *space = calloc(1, sizeof(struct load));
    struct load *l = space;
    if (!l)
        return -ENOMEM;
    bool more = false;
    int rc = load_fill(s, &a, l, &more);
    if (rc)
        return rc;
    n->relay_sent = s->in->now;
    if (more)
        report_relay_soon(s);
    if (l->bytes == 0)
        return 0;
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    m.reports = l->reports;
    m.n_reports = l->n_reports;
    m.chains = l->chains;
    m.n_chains = l->n_chains;
    m.removals = l->removals;
    m.n_removals = l->n_removals;
    uplink_send(
        s, CLASS_STATE, frame_pack(FRAME_REPORTS, CLASS_STATE, 0, &n->self.last.epoch, &m.base, true));
    return 0;
}

int report_on_timer(struct step *s, enum timer timer)
{
    return timer == TIMER_REPORT ? own_send(s) : relay_up(s);
}

void report_worker_steady(struct step *s)
{
    struct node *n = s->n;
    if (!n->worker_cause[0] || !n->worker_ready || s->in->wall.ns - n->worker_since.ns <= WORKER_STEADY_NS)
        return;
    n->worker_cause[0] = n->worker_text[0] = 0;
    report_changed(s);
}

static bool status_differs(const struct summary *a, const struct summary *b)
{
    return strcmp(a->state, b->state) != 0 || strcmp(a->cause, b->cause) != 0 ||
           strcmp(a->text, b->text) != 0 || strcmp(a->run, b->run) != 0 ||
           strcmp(a->run_result, b->run_result) != 0 || a->generation != b->generation ||
           a->records != b->records || a->recalled != b->recalled || a->backlog != b->backlog ||
           !epoch_eq(&a->epoch, &b->epoch) || !hash_eq(&a->root, &b->root) ||
           a->verified_at.ns != b->verified_at.ns;
}

int report_on_status(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__WorkerStatus *w = FRAME_UNPACK(&a, f, worker_status, &rc);
    if (!w)
        return 0;
    struct summary before = n->self.last, *m = &n->self.last;
    uint64_t known = n->known_generation;
    COPY_TEXT(m->state, w->state);
    COPY_TEXT(m->cause, w->cause);
    COPY_TEXT(m->text, w->text);
    COPY_TEXT(m->run, w->run);
    COPY_TEXT(m->run_result, w->run_result);
    COPY_TEXT(m->last_refusal, w->last_refusal);
    m->generation = w->generation;
    m->records = w->records;
    m->backlog = w->backlog_bytes;
    m->applied_at.ns = (int64_t)w->applied_at;
    m->verified_at.ns = (int64_t)w->verified_at;
    m->recalled = w->recalled;
    m->recalled_at.ns = (int64_t)w->recalled_at;
    m->store_used = w->store_used;
    m->store_limit = w->store_limit;
    m->epoch = (struct epoch){0};
    m->root = (struct hash){0};
    n->head = (struct hash){0};
    if (w->epoch.len == sizeof m->epoch.b)
        memcpy(m->epoch.b, w->epoch.data, sizeof m->epoch.b);
    if (w->head.len == 32)
        memcpy(n->head.b, w->head.data, 32);
    n->rooted = w->root.len == 32;
    if (n->rooted)
        memcpy(m->root.b, w->root.data, 32);
    n->floor.generation = w->floor_generation;
    n->floor.first_ns = w->floor_first_ns;
    n->floor.now_ns = w->floor_now_ns;
    n->floor.at = s->in->wall;
    n->known_generation = w->known_generation;
    n->known_at.ns = (int64_t)w->known_at;
    n->head_issued.ns = (int64_t)w->head_issued;
    n->head_expires.ns = (int64_t)w->head_expires;
    if (strcmp(before.state, m->state) != 0 || strcmp(before.cause, m->cause) != 0)
        n->self.changed = s->in->wall;
    if (w->generation || w->known_generation) {
        rc = revoked_on_status(s, pb_view(w->revoked));
        if (rc)
            return rc;
    }
    report_worker_steady(s);
    failover_on_status(s, w);
    bool first = !n->worker_full;
    n->worker_full = true;
    report_newest(s);
    if (first || known != n->known_generation || status_differs(&before, m))
        report_changed(s);
    return 0;
}

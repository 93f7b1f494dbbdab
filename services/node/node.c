#include "services/node/core.h"

#include <stdio.h>
#include <stdlib.h>

#include "services/node/revoked.h"

void node_options_default(struct node_options *o)
{
    *o = (struct node_options){.heartbeat_ns = 60 * NS_PER_S,
        .report_ns = 300 * NS_PER_S,
        .hello_timeout_ns = 10 * NS_PER_S,
        .orphan_ns = 300 * NS_PER_S,
        .child_window = 8u << 20};
    o->not_heard_ns = 3 * o->heartbeat_ns;
}

void copy_text(char *out, size_t size, const char *in)
{
    size_t n = 0;
    bool clean = text_is_clean(view_str(in));
    for (; in[n] && n + 1 < size; n++) {
        unsigned char c = (unsigned char)in[n];
        out[n] = (c < 0x20 && c != '\t') || c == 0x7f || (c >= 0x80 && !clean) ? '?' : (char)c;
    }
    while (clean && in[n] && n > 0 && ((unsigned char)in[n] & 0xc0) == 0x80)
        n--; /* not in the middle of a character */
    out[n] = 0;
}

#define METER_NS (10 * NS_PER_S)

void meter_add(struct meter *m, struct mono now, size_t bytes)
{
    if (now.ns - m->since.ns >= METER_NS) {
        m->rate = meter_rate(m, now);
        m->since = now;
        m->bytes = 0;
    }
    m->bytes += bytes;
}

uint64_t meter_rate(const struct meter *m, struct mono now)
{
    int64_t ns = now.ns - m->since.ns;
    if (m->since.ns == 0)
        return 0;
    if (ns < NS_PER_S && m->rate == 0)
        ns = NS_PER_S;
    return ns < METER_NS / 2 && m->rate ? m->rate : (uint64_t)((double)m->bytes * NS_PER_S / (double)ns);
}

uint64_t node_request(struct node *n)
{
    return ++n->next_request | NODE_REQUEST;
}

void step_timer(struct step *s, enum timer timer, struct mono at)
{
    if (s->n->timers[timer].ns == at.ns)
        return;
    s->n->timers[timer] = at;
    effects_timer(s->fx, timer, at);
}

/* The place of a code among the sites, or where it would be. */
static size_t site_place(const struct node *n, const char *code)
{
    size_t lo = 0, hi = n->n_sites;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(n->sites[mid]->cert.code.s, code) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct site *site_look(const struct node *n, const char *code)
{
    if (strcmp(code, n->self.cert.code.s) == 0)
        return (struct site *)(uintptr_t)&n->self;
    size_t i = site_place(n, code);
    return i < n->n_sites && strcmp(n->sites[i]->cert.code.s, code) == 0 ? n->sites[i] : NULL;
}

int site_add(struct node *n, const struct certificate *cert, struct site **ret_site)
{
    size_t i = site_place(n, cert->code.s);
    if (n->n_sites == n->cap_sites) {
        size_t cap = n->cap_sites ? n->cap_sites * 2 : 8;
        struct site **list = realloc(n->sites, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        n->sites = list;
        n->cap_sites = cap;
    }
    struct site *site = calloc(1, sizeof *site);
    if (!site)
        return -ENOMEM;
    site->cert = *cert;
    memmove(n->sites + i + 1, n->sites + i, (n->n_sites - i) * sizeof *n->sites);
    n->sites[i] = site;
    n->n_sites++;
    *ret_site = site;
    return 0;
}

static bool stands(const struct node *n, struct site *site, unsigned depth)
{
    if (site == &n->self)
        return true;
    if (site->removed.ns || depth > TRUST_DEPTH_MAX ||
        revoked_has(buf_view(&n->revoked), site->cert.sign_key, site->signer, site->cert.serial))
        return false;
    site->up = site_look(n, site->cert.parent.s);
    return site->up && memcmp(site->up->cert.sign_key, site->signer, 32) == 0 &&
           stands(n, site->up, depth + 1);
}

void sites_link(struct node *n)
{
    for (size_t i = 0; i < n->n_sites; i++)
        n->sites[i]->known = stands(n, n->sites[i], 0);
}

const struct site *site_above(const struct node *n, const struct site *site)
{
    const struct site *via = site->session       ? &n->self
                             : site->last.via[0] ? site_look(n, site->last.via)
                                                 : NULL;
    return via && site_is_below(site, via) ? via : site->up;
}

bool site_is_below(const struct site *site, const struct site *above)
{
    for (unsigned depth = 0; site && depth <= TRUST_DEPTH_MAX + 1; depth++, site = site->up)
        if (site == above)
            return true;
    return false;
}

void site_store(struct step *s, const struct site *site, const Sitetree__Signed *certificate,
    const Sitetree__Signed *removal, const char *invite)
{
    Sitetree__StoredSite m = SITETREE__STORED_SITE__INIT;
    m.certificate = (Sitetree__Signed *)(uintptr_t)certificate;
    m.removal = (Sitetree__Signed *)(uintptr_t)removal;
    m.number = site->number;
    m.joined = (uint64_t)site->joined.ns;
    m.removed = (uint64_t)site->removed.ns;
    if (invite)
        m.invite = (char *)(uintptr_t)invite;
    struct key k = key_text(site->cert.code.s);
    table_put(s->txn, TABLE_SITES, &k, &m.base);
}

/* The fields of a certificate that was checked before it was stored. */
static int certificate_read(
    const Sitetree__Signed *signed_bytes, struct certificate *ret, uint8_t ret_signer[32])
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SiteCertificate *m =
        MESSAGE_UNPACK(&a, pb_view(signed_bytes->payload), REPORT_BYTES_MAX, site_certificate, &rc);
    struct certificate c = {0};
    if (!m || site_code_parse(view_str(m->code), &c.code) ||
        site_code_parse(view_str(m->parent), &c.parent) || tier_parse(m->tier, &c.tier) ||
        m->sign_key.len != 32 || m->link_key.len != 32 || signed_bytes->key.len != 32)
        return err_fail(ERR_CORRUPT, "a stored certificate does not decode");
    memcpy(c.sign_key, m->sign_key.data, 32);
    memcpy(c.link_key, m->link_key.data, 32);
    memcpy(ret_signer, signed_bytes->key.data, 32);
    c.serial = m->serial;
    c.move = m->move;
    c.issued.ns = (int64_t)m->issued;
    *ret = c;
    return 0;
}

static int site_load(struct node *n, const Sitetree__StoredSite *m)
{
    struct certificate cert;
    uint8_t signer[32];
    struct site *site;
    int rc = m->certificate ? certificate_read(m->certificate, &cert, signer)
                            : err_fail(ERR_CORRUPT, "a stored site without certificate");
    if (!rc)
        rc = site_add(n, &cert, &site);
    if (rc)
        return rc;
    memcpy(site->signer, signer, 32);
    site->number = m->number;
    site->joined.ns = (int64_t)m->joined;
    site->removed.ns = (int64_t)m->removed;
    return 0;
}

static int sites_load(struct step *s)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct store_walk w = store_walk_from(s->txn, TABLE_SITES, view_of(NULL, 0), view_of(NULL, 0));
    while (store_walk_next(&w)) {
        Sitetree__StoredSite *m;
        int rc = table_read(w.value, &a, &sitetree__stored_site__descriptor, &m);
        if (!rc)
            rc = site_load(s->n, m);
        if (rc)
            return rc;
        arena_reset(&a);
    }
    sites_link(s->n);
    return store_txn_error(s->txn);
}

static void door_close(struct step *s, struct site *site)
{
    effects_access(s->fx, site->door, NULL);
    site->door_open = false;
    if (!site->session)
        return;
    session_send(s, site->session, CLASS_HEAD,
        frame_refusal(0, err_fail(ERR_REMOVED, "%s was removed from the tree at %s", site->cert.code.s,
                             s->n->opt.site.s)));
    session_end(s, site->session, "site-removed");
}

/* The serial in the user id keeps a connection that was made with an earlier key of the same site out. */
void sites_doors(struct step *s)
{
    bool closed = false;
    for (size_t i = 0; i < s->n->n_sites; i++) {
        struct site *site = s->n->sites[i];
        bool same = memcmp(site->door, site->cert.link_key, 32) == 0;
        if (site->door_open && (!site->known || !same)) {
            door_close(s, site);
            closed = true;
        }
        if (!site->known || (site->door_open && site->door_serial == site->cert.serial))
            continue;
        char user[SITE_CODE_MAX + 24];
        snprintf(user, sizeof user, "%s/%llu", site->cert.code.s, (unsigned long long)site->cert.serial);
        effects_access(s->fx, site->cert.link_key, user);
        memcpy(site->door, site->cert.link_key, 32);
        site->door_serial = site->cert.serial;
        site->door_open = true;
    }
    if (closed) /* a hint connection passed the door before */
        effects_drop_links(s->fx);
}

static int numbers_load(struct step *s)
{
    struct node *n = s->n;
    uint64_t number = 0;
    int rc = table_number_get(s->txn, "number", &number);
    if (!rc)
        rc = table_number_get(s->txn, "certificate", &n->certificate_serial);
    if (!rc)
        rc = table_number_get(s->txn, "report", &n->report_serial);
    if (!rc)
        rc = table_last_number(s->txn, TABLE_EVENTS, &n->event_serial);
    if (!rc)
        rc = table_last_number(s->txn, TABLE_REFUSALS, &n->refusal_serial);
    n->next_number = number ? (uint32_t)number : 1; /* 0 is the site itself */
    return rc;
}

static int on_start(struct step *s)
{
    INVARIANT(!s->n->started);
    s->n->started = true;
    s->n->worker_since = s->in->wall;
    int rc = chain_start(s);
    if (!rc)
        rc = numbers_load(s);
    if (!rc)
        rc = restored_start(s);
    if (!rc)
        rc = revoked_start(s);
    if (!rc)
        rc = sites_load(s);
    if (rc)
        return rc;
    sites_doors(s);
    rc = invite_start(s);
    if (!rc)
        rc = report_start(s);
    if (!rc)
        rc = uplink_start(s);
    if (rc)
        return rc;
    EVENT(s, "node.started", .text = SITETREE_VERSION);
    ring_start(s);
    step_timer(s, TIMER_SESSIONS, (struct mono){s->in->now.ns + s->n->opt.not_heard_ns / 3});
    return 0;
}

static int on_frame(struct step *s)
{
    const struct input *in = s->in;
    struct frame f;
    int rc = frame_parse(in->body, &f);
    switch (in->from.kind) {
    case PEER_CHILD:
        return session_on_frame(s, &f, rc);
    case PEER_PARENT:
        if (in->from.id == PROBE)
            return rc ? 0 : probe_on_frame(s, &f);
        if (uplink_is_late(s))
            return 0;
        if (rc) {
            char text[160];
            COPY_TEXT(text, err_text(rc));
            refusal_note(s, uplink_site(s->n), true, rc, text);
            if (rc == ERR_UNKNOWN_TYPE && f.request)
                uplink_send(s, CLASS_HEAD, frame_refusal(f.request, rc));
            return 0;
        }
        return relay_from_parent(s, &f);
    case PEER_CHILDREN:
        if (rc == 0 && f.type == FRAME_HINT && s->n->up.state != UPLINK_NONE) {
            s->n->up.bytes_in += in->body.len;
            meter_add(&s->n->up.in, in->now, in->body.len);
            relay_to_worker(s, in->from, in->topic);
        } else if (rc == 0 && f.type == FRAME_SYNC_REQUEST && s->n->up.state != UPLINK_NONE) {
            relay_to_worker(s, in->from, in->topic);
        }
        return 0;
    case PEER_WORKER:
        if (rc) { /* its next life may know better */
            char text[160];
            COPY_TEXT(text, err_text(rc));
            refusal_note(s, "", true, rc, text);
            return 0;
        }
        return relay_from_worker(s);
    case PEER_NONE:
    case PEER_NODE:
        break;
    }
    return 0;
}

static int on_link(struct step *s)
{
    switch (s->in->from.kind) {
    case PEER_PARENT:
        return s->in->from.id == PROBE ? probe_on_link(s) : uplink_on_link(s);
    case PEER_CHILD:
        return session_on_link(s);
    case PEER_WORKER:
        if (s->in->status)
            relay_worker_gone(s);
        return 0;
    case PEER_NONE:
    case PEER_CHILDREN:
    case PEER_NODE:
        break;
    }
    return 0;
}

static int on_timer(struct step *s)
{
    enum timer timer = (enum timer)s->in->timer;
    if (s->in->timer >= TIMER_COUNT)
        return 0;
    s->n->timers[timer] = (struct mono){0};
    switch (timer) {
    case TIMER_UPLINK:
        return uplink_on_timer(s);
    case TIMER_HEARTBEAT:
        return uplink_on_heartbeat(s);
    case TIMER_REPORT:
    case TIMER_RELAY:
        return report_on_timer(s, timer);
    case TIMER_RING:
        return ring_on_timer(s);
    case TIMER_SESSIONS:
        return session_on_timer(s);
    case TIMER_PROBE:
        return probe_on_timer(s);
    case TIMER_COUNT:
        break;
    }
    return 0;
}

int node_step(struct node *n, struct store_txn *txn, const struct input *in, struct effects *fx)
{
    struct step s = {n, txn, in, fx};
    int rc = 0;
    err_clear();
    switch (in->kind) {
    case INPUT_START:
        rc = on_start(&s);
        break;
    case INPUT_FRAME:
        rc = on_frame(&s);
        break;
    case INPUT_TIMER:
        rc = on_timer(&s);
        break;
    case INPUT_COMMAND:
        rc = command_on_input(&s);
        break;
    case INPUT_LINK:
        rc = on_link(&s);
        break;
    case INPUT_GONE:
        command_gone(n, in->command);
        break;
    case INPUT_JOB:
        break;
    }
    if (rc == 0)
        rc = store_txn_error(txn);
    return rc ? rc : fx->err;
}

/* The chain must lead from the hierarchy to this site and to the keys that it has. */
static int identity_check(const struct node_options *opt, const struct node_keys *keys, struct identity *ret)
{
    struct identity id;
    int rc = chain_verify_bytes(keys->chain, &opt->hierarchy, &id);
    if (rc)
        return err_wrap(rc, "the site's certificate chain");
    const struct certificate *c = identity_site(&id);
    if (strcmp(c->code.s, opt->site.s) != 0)
        return err_fail(ERR_KEY, "the certificate chain is of site %s, this is %s", c->code.s, opt->site.s);
    if (memcmp(c->sign_key, keys->site.public, 32) != 0 || memcmp(c->link_key, keys->link.public, 32) != 0)
        return err_fail(ERR_KEY, "the certificate chain names other keys than those of this site");
    if (id.depth == 0 && (!keys->has_head || memcmp(id.head_key, keys->head.public, 32) != 0))
        return err_fail(
            ERR_KEY, "the central site does not have the head key that its trust statement names");
    *ret = id;
    return 0;
}

int node_new(const struct node_options *opt, const struct node_keys *keys, struct store *store,
    const struct random_source *random, struct node **ret_node)
{
    struct identity id;
    int rc = identity_check(opt, keys, &id);
    if (rc)
        return rc;
    if ((id.depth == 0) != (opt->n_parents == 0) || opt->n_parents > NODE_PARENTS_MAX)
        return err_fail(ERR_CONFIG, "%s is %s and has %u parents to dial", opt->site.s,
            id.depth ? "not the central site" : "the central site", opt->n_parents);
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return -ENOMEM;
    n->opt = *opt;
    n->keys = *keys;
    n->id = id;
    n->store = store;
    n->random = random;
    n->self.cert = *identity_site(&id);
    n->self.known = true;
    snprintf(n->opt.tier, sizeof n->opt.tier, "%s", tier_word(n->self.cert.tier));
    random->fill(random->ctx, &n->next_request, sizeof n->next_request);
    n->next_request &= (NODE_REQUEST >> 1) - 1;
    buf_append_view(&n->chain, keys->chain);
    n->keys.chain = buf_view(&n->chain);
    if (n->chain.err) {
        node_free(n);
        return -ENOMEM;
    }
    *ret_node = n;
    return 0;
}

void node_free(struct node *n)
{
    if (!n)
        return;
    session_free_all(n);
    for (size_t i = 0; i < n->n_sites; i++)
        free(n->sites[i]);
    free(n->sites);
    free(n->pending);
    free(n->followers);
    free(n->follow_names);
    buf_done(&n->chain);
    buf_done(&n->fresh.chain);
    buf_done(&n->revoked);
    secret_wipe(&n->fresh.keys, sizeof n->fresh.keys);
    secret_wipe(&n->keys, sizeof n->keys);
    free(n);
}

void node_set_options(struct node *n, const struct node_options *opt)
{
    n->opt.heartbeat_ns = opt->heartbeat_ns;
    n->opt.report_ns = opt->report_ns;
    n->opt.not_heard_ns = opt->not_heard_ns;
    n->opt.hello_timeout_ns = opt->hello_timeout_ns;
    n->opt.orphan_ns = opt->orphan_ns;
    n->opt.down_rate = opt->down_rate;
    n->opt.up_rate = opt->up_rate;
    n->opt.child_window = opt->child_window;
    memcpy(n->opt.advertise, opt->advertise, sizeof n->opt.advertise);
    memcpy(n->opt.advertise_hints, opt->advertise_hints, sizeof n->opt.advertise_hints);
}

int node_set_trust(struct node *n, const struct node_keys *keys)
{
    struct identity id;
    struct buf chain = {0};
    int rc = identity_check(&n->opt, keys, &id);
    if (rc)
        return rc;
    if (id.trust_version < n->id.trust_version)
        return err_fail(ERR_KEY, "trust version %llu, this site has %llu already",
            (unsigned long long)id.trust_version, (unsigned long long)n->id.trust_version);
    buf_append_view(&chain, keys->chain);
    if (chain.err)
        return chain.err;
    buf_done(&n->fresh.chain);
    n->fresh.chain = chain;
    n->fresh.keys = *keys;
    n->fresh.keys.chain = buf_view(&n->fresh.chain);
    n->fresh.id = id;
    n->fresh.there = true;
    return 0;
}

void node_take_trust(struct node *n)
{
    if (!n->fresh.there)
        return;
    buf_done(&n->chain);
    n->chain = n->fresh.chain;
    n->keys = n->fresh.keys;
    n->id = n->fresh.id;
    secret_wipe(&n->fresh.keys, sizeof n->fresh.keys);
    n->fresh.chain = (struct buf){0};
    n->fresh.there = false;
}

void node_look(const struct node *n, struct node_view *ret_view)
{
    *ret_view = (struct node_view){.uplink = uplink_word(&n->up),
        .via = uplink_site(n),
        .orphan = n->up.orphan,
        .worker = n->worker_ready,
        .ready = n->worker_ready && n->worker_full,
        .sessions = (unsigned)n->n_sessions,
        .generation = n->self.last.generation};
    for (size_t i = 0; i < n->n_sites; i++)
        ret_view->sites += n->sites[i]->known;
}

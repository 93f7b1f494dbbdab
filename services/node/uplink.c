#include "services/node/core.h"

#include <stdio.h>

#define CLOCK_OFF_NS (60 * NS_PER_S)

const char *uplink_word(const struct uplink *u)
{
    switch (u->state) {
    case UPLINK_NONE:
        return "none";
    case UPLINK_WAIT:
        return "wait";
    case UPLINK_HELLO:
        return "hello";
    case UPLINK_LIVE:
        return "live";
    }
    return "none";
}

void uplink_send(struct step *s, enum lane_class lane, struct blob *frame)
{
    if (frame) {
        s->n->up.bytes_out += blob_view(frame).len;
        meter_add(&s->n->up.out, s->in->now, blob_view(frame).len);
    }
    effects_send(s->fx, (struct peer){PEER_PARENT, 0}, lane, frame);
}

void uplink_tell_worker(struct step *s)
{
    const struct uplink *u = &s->n->up;
    if (!s->n->worker_ready)
        return;
    Sitetree__LinkState m = SITETREE__LINK_STATE__INIT;
    m.parent = true;
    m.site = (char *)(uintptr_t)uplink_site(s->n);
    m.up = u->state == UPLINK_LIVE;
    m.epoch = pb_bytes(view_of(u->epoch.b, sizeof u->epoch.b));
    m.generation = u->generation;
    m.cause = (char *)(uintptr_t)(m.up ? "" : u->cause_word);
    m.rate = s->n->opt.up_rate;
    m.clock_measured = u->measured;
    m.clock_offset_ns = u->offset_ns;
    effects_worker(s->fx, WORKER_METADATA, (struct peer){PEER_NODE, 0}, (struct view){0},
        frame_pack(FRAME_LINK_STATE, CLASS_HEAD, 0, NULL, &m.base, false));
}

void uplink_hello(struct step *s)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    u->state = UPLINK_HELLO;
    u->asked = s->in->now;
    u->request = node_request(n);
    n->random->fill(n->random->ctx, &u->nonce, sizeof u->nonce);
    Sitetree__Hello m = SITETREE__HELLO__INIT;
    m.version_low = PROTOCOL_LOW;
    m.version_high = PROTOCOL_HIGH;
    m.site = n->opt.site.s;
    m.session = u->nonce;
    m.epoch = pb_bytes(view_of(n->self.last.epoch.b, n->worker_full ? sizeof(struct epoch) : 0));
    m.generation = n->self.last.generation;
    m.sent = (uint64_t)s->in->wall.ns;
    m.software = (char *)(uintptr_t)SITETREE_VERSION;
    uplink_send(
        s, CLASS_HEAD, frame_pack(FRAME_HELLO, CLASS_HEAD, u->request, &n->self.last.epoch, &m.base, false));
    step_timer(s, TIMER_UPLINK, (struct mono){failover_patience(s)});
}

int uplink_start(struct step *s)
{
    struct uplink *u = &s->n->up;
    if (s->n->id.depth == 0)
        return 0;
    int rc = places_start(s);
    if (rc)
        return rc;
    u->down_since = s->in->wall;
    copy_text(u->cause_word, sizeof u->cause_word, "parent-unreachable");
    copy_text(u->text, sizeof u->text, "not connected yet");
    u->heartbeat_ns = s->n->opt.heartbeat_ns;
    u->apart = s->in->now;
    failover_dial(s, 0);
    return 0;
}

static void clock_measure(struct step *s, uint64_t parent_clock)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    u->rtt_ns = s->in->now.ns - u->asked.ns;
    u->answered = u->asked;
    u->offset_ns = (int64_t)parent_clock + u->rtt_ns / 2 - s->in->wall.ns;
    u->measured = true;
    bool off = u->offset_ns > CLOCK_OFF_NS || u->offset_ns < -CLOCK_OFF_NS;
    if (off && !n->clock_off) {
        char text[96], d[24];
        snprintf(text, sizeof text, "%s %s the clock of %s",
            duration_text(u->offset_ns < 0 ? -u->offset_ns : u->offset_ns, d),
            u->offset_ns < 0 ? "ahead of" : "behind", uplink_site(n));
        EVENT(s, "parent.clock", .site = uplink_site(n), .text = text);
        report_changed(s);
    }
    n->clock_off = off;
}

int uplink_welcome_check(const struct node *n, const struct node_place *from, const Sitetree__Welcome *w)
{
    if (strcmp(w->site, from->code.s) != 0)
        return err_fail(
            ERR_KEY, "the site above says that it is '%.31s', expected %s", w->site, from->code.s);
    if (w->version < PROTOCOL_LOW || w->version > PROTOCOL_HIGH)
        return err_fail(ERR_VERSION, "%s chose protocol %u, this site speaks %d to %d", w->site, w->version,
            PROTOCOL_LOW, PROTOCOL_HIGH);
    if (w->n_path == 0 || w->n_path > TRUST_DEPTH_MAX || strcmp(w->path[w->n_path - 1], w->site) != 0)
        return err_fail(
            ERR_MALFORMED, "%s told a path of %zu sites that does not end with it", w->site, w->n_path);
    for (size_t i = 0; i < w->n_path; i++) {
        if (!site_code_valid(w->path[i]))
            return err_fail(ERR_MALFORMED, "%s told a path with a name that is none", w->site);
        if (strcmp(w->path[i], n->opt.site.s) == 0)
            return err_fail(ERR_LOOP, "the path of %s leads through this site", w->site);
    }
    if (w->epoch.len != 0 && w->epoch.len != sizeof(struct epoch))
        return err_fail(ERR_MALFORMED, "%s told an epoch of %zu bytes", w->site, w->epoch.len);
    return revoked_judge(n, w, NULL, NULL);
}

int uplink_behind(const struct node *n, const Sitetree__Welcome *w)
{
    if (n->worker_full && w->epoch.len &&
        memcmp(w->epoch.data, n->self.last.epoch.b, sizeof(struct epoch)) == 0 &&
        w->generation < n->self.last.generation)
        return err_fail(ERR_ROLLBACK, "%s is at generation %llu, this site at %llu", w->site,
            (unsigned long long)w->generation, (unsigned long long)n->self.last.generation);
    return 0;
}

static int on_welcome(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (u->state != UPLINK_HELLO || f->request != u->request)
        return 0; /* of an earlier hello */
    Sitetree__Welcome *w = FRAME_UNPACK(&a, f, welcome, &rc);
    if (w)
        rc = uplink_welcome_check(n, &n->places[u->place], w);
    if (!rc && n->n_places > 1 && u->failures == 0) /* where all are behind, the first one will do */
        rc = uplink_behind(n, w);
    if (!rc)
        rc = revoked_judge(n, w, u->above, &u->n_above);
    if (rc) {
        char why[256];
        COPY_TEXT(why, err_text(rc));
        failover_down(s, rc, why);
        return 0;
    }
    u->state = UPLINK_LIVE;
    u->since = s->in->wall;
    clock_measure(s, w->sent);
    u->asked = (struct mono){0};
    u->n_path = (unsigned)w->n_path;
    for (unsigned i = 0; i < u->n_path; i++)
        COPY_TEXT(u->path[i], w->path[i]);
    u->epoch = (struct epoch){0};
    if (w->epoch.len)
        memcpy(u->epoch.b, w->epoch.data, sizeof u->epoch.b);
    u->generation = w->generation;
    if (w->chain && u->place == 0) {
        rc = chain_adopt(s, w->chain);
        if (rc == -ENOMEM)
            return rc;
        if (rc) {
            char why[160];
            COPY_TEXT(why, err_text(rc));
            refusal_note(s, uplink_site(n), true, rc, why);
        }
    }
    places_adopt(s, u->place, w->above, w->n_above);
    int64_t wish = (int64_t)w->heartbeat_ms * NS_PER_MS;
    u->heartbeat_ns = wish < 100 * NS_PER_MS || wish > 3600 * NS_PER_S ? n->opt.heartbeat_ns : wish;
    uplink_tell_worker(s);
    failover_live(s);
    report_relay_all(s);
    step_timer(s, TIMER_HEARTBEAT, (struct mono){s->in->now.ns + u->heartbeat_ns});
    step_timer(s, TIMER_UPLINK, (struct mono){s->in->now.ns + n->opt.not_heard_ns});
    return 0;
}

static int on_answer(struct step *s, const struct frame *f)
{
    struct uplink *u = &s->n->up;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Heartbeat *h = FRAME_UNPACK(&a, f, heartbeat, &rc);
    if (!h || u->state != UPLINK_LIVE)
        return 0;
    if (f->request == u->request && u->asked.ns) {
        clock_measure(s, h->sent);
        u->asked = (struct mono){0};
    }
    u->generation = h->generation;
    u->epoch = f->epoch;
    uplink_tell_worker(s); /* also when it is the same: the worker need not ask then */
    return 0;
}

static int on_refusal(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Refusal *r = FRAME_UNPACK(&a, f, refusal, &rc);
    if (!r)
        return 0;
    char why[256];
    COPY_TEXT(why, r->text);
    if (f->request == 0 &&
        r->code == ERR_NOT_FOUND) { /* the parent has started again: it does not know us yet */
        if (u->state == UPLINK_LIVE) {
            u->state = UPLINK_WAIT;
            uplink_tell_worker(s);
            uplink_hello(s);
        }
        return 0;
    }
    if (f->request != 0 && f->request != u->request)
        return 0;
    refusal_note(s, uplink_site(n), false, r->code, why);
    if (f->request == 0 || u->state == UPLINK_HELLO)
        failover_down(s, r->code < 0 ? r->code : ERR_REFUSED, why);
    return 0;
}

int uplink_on_frame(struct step *s, const struct frame *f)
{
    struct uplink *u = &s->n->up;
    if (u->state == UPLINK_NONE)
        return 0;
    if (f->type == FRAME_WELCOME)
        return on_welcome(s, f);
    if (f->type == FRAME_HEARTBEAT)
        return on_answer(s, f);
    if (f->type == FRAME_REFUSAL)
        return on_refusal(s, f);
    if (f->type == FRAME_BYE) {
        failover_down(s, ERR_NETWORK, "the parent said goodbye");
        return 0;
    }
    char why[96];
    snprintf(why, sizeof why, "a parent does not send %s", frame_type_word(f->type));
    refusal_note(s, uplink_site(s->n), true, ERR_UNKNOWN_TYPE, why);
    if (f->request)
        uplink_send(s, CLASS_HEAD, frame_refusal(f->request, err_fail(ERR_UNKNOWN_TYPE, "%s", why)));
    return 0;
}

int uplink_on_link(struct step *s)
{
    struct uplink *u = &s->n->up;
    if (u->state == UPLINK_NONE || uplink_is_late(s))
        return 0;
    u->sockets = s->in->status == 0;
    if (u->sockets) {
        if (u->state == UPLINK_LIVE) { /* a new connection: the parent does not connect it with the old one */
            u->state = UPLINK_WAIT;
            uplink_tell_worker(s);
        }
        uplink_hello(s);
        return 0;
    }
    if (u->round_over)
        return 0; /* the pause goes on */
    char why[256] = "";
    snprintf(why, sizeof why, "%.*s", (int)(s->in->body.len < 255 ? s->in->body.len : 255),
        (const char *)s->in->body.data);
    failover_down(s, s->in->status, why[0] ? why : err_sentence(s->in->status));
    return 0;
}

int uplink_on_timer(struct step *s)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    char why[96], d[24];
    switch (u->state) {
    case UPLINK_NONE:
        break;
    case UPLINK_HELLO:
        if (u->sockets)
            snprintf(
                why, sizeof why, "no answer to the hello for %s", duration_text(n->opt.hello_timeout_ns, d));
        else
            snprintf(why, sizeof why, "no connection to %s", n->places[u->place].endpoint);
        failover_down(s, ERR_TIMEOUT, why);
        break;
    case UPLINK_WAIT:
        return failover_on_timer(s);
    case UPLINK_LIVE:
        if (s->in->now.ns - u->heard.ns < n->opt.not_heard_ns) {
            step_timer(s, TIMER_UPLINK, (struct mono){u->heard.ns + n->opt.not_heard_ns});
            break;
        }
        snprintf(why, sizeof why, "nothing heard for %s", duration_text(s->in->now.ns - u->heard.ns, d));
        u->sockets = false;
        failover_down(s, ERR_TIMEOUT, why);
        if (n->n_places == 1)
            failover_dial(s, 0);
        break;
    }
    return 0;
}

int uplink_on_heartbeat(struct step *s)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    if (u->state != UPLINK_LIVE)
        return 0;
    step_timer(s, TIMER_HEARTBEAT, (struct mono){s->in->now.ns + u->heartbeat_ns});
    if (u->asked.ns && s->in->now.ns - u->asked.ns < n->opt.not_heard_ns)
        return 0; /* the one before is still on its way over a slow link: its answer tells the round trip */
    u->request = node_request(n);
    u->asked = s->in->now;
    Sitetree__Heartbeat m = SITETREE__HEARTBEAT__INIT;
    m.generation = n->self.last.generation;
    uplink_send(s, CLASS_HEAD,
        frame_pack(FRAME_HEARTBEAT, CLASS_HEAD, u->request, &n->self.last.epoch, &m.base, false));
    return 0;
}

#include "services/node/core.h"

#include <stdio.h>

#include "proto/catalogue.pb-c.h"

#define ASKED_DEFAULT 65536 /* what a request that names no limit is counted as */
#define OFFER_PAUSE_NS NS_PER_S
#define ASKED_AGE_NS (60 * NS_PER_S)

/* Passes the frame of this step on, as it came. What is only passed on never waits for this node's own
 * commit: whoever sent it has stored what has to be stored, and nothing here depends on it. */
void relay_to_worker(struct step *s, struct peer via, struct view topic)
{
    struct blob *frame = s->in->frame ? blob_ref(s->in->frame) : blob_new(s->in->body.data, s->in->body.len);
    effects_worker(s->fx, WORKER_METADATA, via, topic, frame);
    if (frame && !s->fx->err)
        s->fx->list[s->fx->n - 1].early = true;
}

static struct blob *frame_of(const struct input *in)
{
    return in->frame ? blob_ref(in->frame) : blob_new(in->body.data, in->body.len);
}

/* How much an answer may bring. Nothing else of the request is looked at. */
static int asked_bytes(const struct frame *f, uint32_t *ret_bytes)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc = 0;
    uint32_t bytes = 0;
    if (f->type == FRAME_PAGE_GET) {
        Sitetree__PageGet *m = FRAME_UNPACK(&a, f, page_get, &rc);
        bytes = m ? m->max_bytes : 0;
    } else if (f->type == FRAME_DELTA_GET) {
        Sitetree__DeltaGet *m = FRAME_UNPACK(&a, f, delta_get, &rc);
        bytes = m ? m->max_bytes : 0;
    } else {
        bytes = 4096;
    }
    *ret_bytes = bytes == 0 ? ASKED_DEFAULT : bytes > FRAME_MAX ? FRAME_MAX : bytes;
    return rc;
}

static void asked_drop(struct session *c, unsigned i)
{
    c->asked_bytes -= c->asked[i].bytes;
    c->asked[i] = c->asked[--c->n_asked];
}

static void asked_done(struct session *c, uint64_t request)
{
    for (unsigned i = 0; i < c->n_asked; i++)
        if (c->asked[i].request == request) {
            asked_drop(c, i);
            return;
        }
}

/* What a child asked for and what waits for it already has a limit, whatever it asks (P11). */
static int credit_take(struct step *s, struct session *c, const struct frame *f)
{
    struct node *n = s->n;
    uint32_t bytes;
    int rc = asked_bytes(f, &bytes);
    if (rc)
        return rc;
    struct link_stats stats = {0};
    if (n->opt.link_stats)
        n->opt.link_stats(n->opt.link_stats_ctx, s->in->from, &stats);
    if (c->n_asked == SESSION_ASKED_MAX || c->asked_bytes + stats.queue_bytes + bytes > n->opt.child_window)
        for (unsigned i = c->n_asked; i-- > 0;) /* whoever answered these has been away */
            if (s->in->now.ns - c->asked[i].at.ns > ASKED_AGE_NS)
                asked_drop(c, i);
    if (c->n_asked == SESSION_ASKED_MAX || c->asked_bytes + stats.queue_bytes + bytes > n->opt.child_window)
        return err_fail(ERR_BUSY, "%llu bytes are asked for or waiting already, at most %u",
            (unsigned long long)(c->asked_bytes + stats.queue_bytes), n->opt.child_window);
    c->asked[c->n_asked].request = f->request;
    c->asked[c->n_asked].bytes = bytes;
    c->asked[c->n_asked].at = s->in->now;
    c->n_asked++;
    c->asked_bytes += bytes;
    return 0;
}

/* A child that holds more than this site offers its head: not more often than it can matter. Whatever else
 * comes is dropped without a word, since no question of the child waits for an answer. */
static bool offer_fits(struct step *s, struct session *c, const struct frame *f)
{
    if (f->request || (c->offered.ns && s->in->now.ns - c->offered.ns < OFFER_PAUSE_NS))
        return false;
    c->offered = s->in->now;
    return true;
}

int relay_from_child(struct step *s, struct session *c, const struct frame *f)
{
    int rc = 0;
    if (f->type == FRAME_HEAD) {
        if (offer_fits(s, c, f))
            relay_to_worker(s, s->in->from, (struct view){0});
        return 0;
    }
    if (f->request & NODE_REQUEST)
        rc = err_fail(ERR_MALFORMED, "a worker's request with a node's number");
    else if (f->type == FRAME_HEAD_GET || f->type == FRAME_DELTA_GET || f->type == FRAME_PAGE_GET)
        rc = f->request ? credit_take(s, c, f) : err_fail(ERR_MALFORMED, "a request without number");
    else if (f->type != FRAME_SYNC_ACK)
        rc = err_fail(ERR_UNKNOWN_TYPE, "a child does not send %s", frame_type_word(f->type));
    if (!rc && !s->n->worker_ready && !s->n->worker_seen)
        rc = err_fail(ERR_BUSY, "the catalogue of %s is not open yet", s->n->opt.site.s);
    if (rc) {
        if (rc != ERR_BUSY) {
            char text[160];
            COPY_TEXT(text, err_text(rc));
            refusal_note(s, c->site->cert.code.s, true, rc, text);
            rc = err_fail(rc, "%s", text);
        }
        session_send(s, c, CLASS_HEAD, frame_refusal(f->request, rc));
        return 0;
    }
    relay_to_worker(s, s->in->from, (struct view){0});
    return 0;
}

int relay_from_parent(struct step *s, const struct frame *f)
{
    struct uplink *u = &s->n->up;
    u->heard = s->in->now;
    u->heard_wall = s->in->wall;
    u->bytes_in += s->in->body.len;
    meter_add(&u->in, s->in->now, s->in->body.len);
    if (frame_type_is_catalogue(f->type) ||
        (f->type == FRAME_REFUSAL && f->request && !(f->request & NODE_REQUEST))) {
        if (u->state == UPLINK_LIVE)
            relay_to_worker(s, s->in->from, (struct view){0});
        return 0;
    }
    return uplink_on_frame(s, f);
}

static int to_child(struct step *s, const struct frame *f)
{
    struct session *c = session_look(s->n, s->in->via.id);
    if (!c)
        return 0; /* it has gone meanwhile, and the worker is told */
    if (f->request)
        asked_done(c, f->request);
    struct blob *frame = frame_of(s->in);
    c->bytes_out += s->in->body.len;
    meter_add(&c->out, s->in->now, s->in->body.len);
    effects_send_early(s->fx, s->in->via, s->in->lane, frame);
    return 0;
}

static int to_parent(struct step *s, const struct frame *f)
{
    struct uplink *u = &s->n->up;
    if (u->state == UPLINK_LIVE) {
        u->bytes_out += s->in->body.len;
        meter_add(&u->out, s->in->now, s->in->body.len);
        effects_send_early(s->fx, s->in->via, s->in->lane, frame_of(s->in));
    } else if (f->request && f->type != FRAME_REFUSAL) { /* so that it need not wait for its timeout */
        effects_worker(s->fx, WORKER_METADATA, s->in->via, (struct view){0},
            frame_refusal(f->request, err_fail(ERR_NETWORK, "there is no link to the parent")));
    }
    return 0;
}

static int to_children(struct step *s)
{
    char topic[200];
    struct view t = s->in->topic;
    if (t.len == 0 || t.len >= sizeof topic || memchr(t.data, 0, t.len))
        return 0;
    memcpy(topic, t.data, t.len);
    topic[t.len] = 0;
    effects_publish(s->fx, topic, s->in->lane, frame_of(s->in), true);
    return 0;
}

/* Who this site is, and which head key counts: after the worker's start, and at every change. */
void relay_site_info(struct step *s, uint64_t request)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (!n->worker_ready)
        return;
    Sitetree__SiteInfo m = SITETREE__SITE_INFO__INIT;
    m.hierarchy = pb_bytes(view_of(n->id.hierarchy.b, 32));
    m.site = n->opt.site.s;
    m.tier = n->opt.tier;
    m.parent = n->self.cert.parent.s;
    m.central = n->id.depth == 0;
    m.central_site = n->id.path[0].code.s;
    m.head_key = pb_bytes(view_of(n->id.head_key, 32));
    m.trust_version = n->id.trust_version;
    Sitetree__Chain *chain = MESSAGE_UNPACK(&a, buf_view(&n->chain), TRUST_BYTES_MAX, chain, &rc);
    m.trust = chain ? chain->trust : NULL;
    m.restored = n->restored;
    if (m.central)
        m.revoked = pb_bytes(buf_view(&n->revoked));
    effects_worker(s->fx, WORKER_METADATA, (struct peer){PEER_NODE, 0}, (struct view){0},
        frame_pack(FRAME_SITE_INFO, CLASS_HEAD, request, NULL, &m.base, false));
}

static int on_ready(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__WorkerReady *r = FRAME_UNPACK(&a, f, worker_ready, &rc);
    if (!r)
        return 0;
    if (r->code)
        command_worker_gone(s, r->code, r->text);
    n->worker_starts++;
    n->worker_ready = n->worker_seen = true;
    n->worker_since = s->in->wall;
    n->worker_pid = r->pid;
    COPY_TEXT(n->worker_software, r->software);
    relay_site_info(s, f->request);
    if (n->up.state == UPLINK_LIVE)
        uplink_tell_worker(s);
    for (size_t i = 0; i < n->n_sessions; i++)
        session_tell_worker(s, n->sessions[i], true, NULL);
    EVENT(s, "worker.up", .text = "metadata");
    report_changed(s);
    return 0;
}

static int on_note(struct step *s, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__EventNote *m = FRAME_UNPACK(&a, f, event_note, &rc);
    if (m && m->name[0]) {
        char name[40], run[64], phase[24], text[480];
        COPY_TEXT(name, m->name);
        COPY_TEXT(run, m->run);
        COPY_TEXT(phase, m->phase);
        COPY_TEXT(text, m->text);
        EVENT(s, name, .run = run, .phase = phase, .code = m->code, .text = text);
        if (strcmp(name, "worker.failed") == 0 && m->code) {
            COPY_TEXT(s->n->worker_cause, err_word(m->code));
            COPY_TEXT(s->n->worker_text, text);
        }
    }
    return 0;
}

static int to_node(struct step *s, const struct frame *f)
{
    switch ((enum frame_type)f->type) {
    case FRAME_WORKER_READY:
        return on_ready(s, f);
    case FRAME_SIGN_HEAD:
        return sign_on_frame(s, f);
    case FRAME_EVENT_NOTE:
        return on_note(s, f);
    case FRAME_WORKER_STATUS:
        return report_on_status(s, f);
    case FRAME_CONTROL_REPLY:
        return command_on_reply(s, f);
    case FRAME_HELLO:
    case FRAME_WELCOME:
    case FRAME_REFUSAL:
    case FRAME_HEARTBEAT:
    case FRAME_BYE:
    case FRAME_REPORTS:
    case FRAME_JOIN:
    case FRAME_JOINED:
    case FRAME_FRAGMENT:
    case FRAME_HEAD_GET:
    case FRAME_HEAD:
    case FRAME_HINT:
    case FRAME_DELTA_GET:
    case FRAME_DELTA_REPLY:
    case FRAME_PAGE_GET:
    case FRAME_PAGE_REPLY:
    case FRAME_SYNC_REQUEST:
    case FRAME_SYNC_ACK:
    case FRAME_SITE_INFO:
    case FRAME_LINK_STATE:
    case FRAME_SIGNED_HEAD:
    case FRAME_CONTROL:
        break;
    }
    return 0;
}

int relay_from_worker(struct step *s)
{
    struct frame f;
    int rc = frame_parse(s->in->body, &f);
    if (rc)
        return 0; /* noted by the caller */
    bool allowed = frame_type_is_catalogue(f.type) || f.type == FRAME_REFUSAL;
    switch (s->in->via.kind) {
    case PEER_CHILD:
        return allowed ? to_child(s, &f) : 0;
    case PEER_PARENT:
        return allowed ? to_parent(s, &f) : 0;
    case PEER_CHILDREN:
        return allowed ? to_children(s) : 0;
    case PEER_NODE:
    case PEER_NONE:
        return to_node(s, &f);
    case PEER_WORKER:
        break;
    }
    return 0;
}

void relay_worker_gone(struct step *s)
{
    struct node *n = s->n;
    command_worker_gone(s, 0, NULL);
    for (size_t i = 0; i < n->n_sessions; i++) {
        n->sessions[i]->n_asked = 0;
        n->sessions[i]->asked_bytes = 0;
    }
    if (!n->worker_ready)
        return;
    n->worker_ready = false;
    n->worker_since = s->in->wall;
    EVENT(s, "worker.down", .text = "metadata");
    report_changed(s);
}

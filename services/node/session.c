#include "services/node/core.h"

#include <stdio.h>
#include <stdlib.h>

static size_t session_place(const struct node *n, uint32_t id)
{
    size_t lo = 0, hi = n->n_sessions;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (n->sessions[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct session *session_look(const struct node *n, uint32_t id)
{
    size_t i = session_place(n, id);
    return i < n->n_sessions && n->sessions[i]->id == id ? n->sessions[i] : NULL;
}

static struct session *session_add(struct node *n, uint32_t id)
{
    if (n->n_sessions == n->cap_sessions) {
        size_t cap = n->cap_sessions ? n->cap_sessions * 2 : 8;
        struct session **list = realloc(n->sessions, cap * sizeof *list);
        if (!list)
            return NULL;
        n->sessions = list;
        n->cap_sessions = cap;
    }
    struct session *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    size_t i = session_place(n, id);
    memmove(n->sessions + i + 1, n->sessions + i, (n->n_sessions - i) * sizeof *n->sessions);
    n->sessions[i] = c;
    n->n_sessions++;
    c->id = id;
    return c;
}

void session_free_all(struct node *n)
{
    for (size_t i = 0; i < n->n_sessions; i++)
        free(n->sessions[i]);
    free(n->sessions);
}

void session_send(struct step *s, struct session *c, enum lane_class lane, struct blob *frame)
{
    if (frame) {
        c->bytes_out += blob_view(frame).len;
        meter_add(&c->out, s->in->now, blob_view(frame).len);
    }
    effects_send(s->fx, (struct peer){PEER_CHILD, c->id}, lane, frame);
}

void session_tell_worker(struct step *s, const struct session *c, bool up, const char *cause)
{
    if (!s->n->worker_ready)
        return;
    Sitetree__LinkState m = SITETREE__LINK_STATE__INIT;
    m.session = c->id;
    m.site = c->site->cert.code.s;
    m.up = up;
    m.epoch = pb_bytes(view_of(c->epoch.b, sizeof c->epoch.b));
    m.generation = c->generation;
    m.cause = (char *)(uintptr_t)(cause ? cause : "");
    m.rate = s->n->opt.down_rate;
    effects_worker(s->fx, WORKER_METADATA, (struct peer){PEER_NODE, 0}, (struct view){0},
        frame_pack(FRAME_LINK_STATE, CLASS_HEAD, 0, NULL, &m.base, false));
}

void session_end(struct step *s, struct session *c, const char *cause)
{
    struct node *n = s->n;
    session_tell_worker(s, c, false, cause);
    effects_close(s->fx, (struct peer){PEER_CHILD, c->id});
    if (c->site->session == c) {
        c->site->session = NULL;
        c->site->seen = c->heard_wall;
    }
    size_t i = session_place(n, c->id);
    memmove(n->sessions + i, n->sessions + i + 1, (n->n_sessions - i - 1) * sizeof *n->sessions);
    n->n_sessions--;
    free(c);
    report_changed(s);
}

/* To a connection that may have no session. request 0 speaks about the link itself. */
static void refuse(struct step *s, const char *site, uint64_t request, int code)
{
    char text[160];
    COPY_TEXT(text, err_text(code));
    refusal_note(s, site, true, code, text);
    effects_send(s->fx, s->in->from, CLASS_HEAD, frame_refusal(request, code));
}

/* The site that a connection's key belongs to now. ZAP was asked at the handshake only, and much may have
 * changed since: so every frame comes through here. */
static int site_of_user(const struct node *n, struct view user, struct site **ret_site)
{
    char text[64];
    if (user.len == 0 || user.len >= sizeof text)
        return err_fail(ERR_KEY, "a connection without a name");
    memcpy(text, user.data, user.len);
    text[user.len] = 0;
    char *slash = strchr(text, '/');
    if (slash)
        *slash++ = 0;
    struct site *site = site_look(n, text);
    if (!site || site == &n->self)
        return err_fail(ERR_KEY, "no site %.31s below %s", text, n->opt.site.s);
    if (site->removed.ns || !site->known)
        return err_fail(ERR_REMOVED, "%s was removed from the tree at %s", text, n->opt.site.s);
    if (slash && strtoull(slash, NULL, 10) != site->cert.serial)
        return err_fail(ERR_KEY, "this key of %s was replaced", text);
    *ret_site = site;
    return 0;
}

static int hello_check(const struct step *s, const Sitetree__Hello *h, const struct site *site)
{
    const struct node *n = s->n;
    if (strcmp(h->site, site->cert.code.s) != 0)
        return err_fail(ERR_KEY, "the key of %s says that it is '%.31s'", site->cert.code.s, h->site);
    if (h->version_low > PROTOCOL_HIGH || h->version_high < PROTOCOL_LOW)
        return err_fail(ERR_VERSION, "%s speaks protocol %u to %u, this site %d to %d", h->site,
            h->version_low, h->version_high, PROTOCOL_LOW, PROTOCOL_HIGH);
    if (h->epoch.len != 0 && h->epoch.len != sizeof(struct epoch))
        return err_fail(ERR_MALFORMED, "an epoch of %zu bytes", h->epoch.len);
    for (unsigned i = 0; i < n->up.n_path; i++)
        if (strcmp(n->up.path[i], h->site) == 0)
            return err_fail(ERR_LOOP, "%s is above this site", h->site);
    return 0;
}

static struct blob *welcome(struct step *s, const struct frame *f, const Sitetree__Hello *h)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    char *path[TRUST_DEPTH_MAX + 2];
    size_t depth = 0;
    if (n->up.n_path && n->up.n_path <= TRUST_DEPTH_MAX) {
        for (; depth < n->up.n_path; depth++)
            path[depth] = n->up.path[depth];
    } else { /* not connected yet: as certified */
        for (; depth < n->id.depth; depth++)
            path[depth] = n->id.path[depth].code.s;
    }
    path[depth++] = n->opt.site.s;
    Sitetree__Place places[NODE_PARENTS_MAX], *above[NODE_PARENTS_MAX];
    Sitetree__Welcome m = SITETREE__WELCOME__INIT;
    m.version = h->version_high < PROTOCOL_HIGH ? h->version_high : PROTOCOL_HIGH;
    m.site = n->opt.site.s;
    m.path = path;
    m.n_path = depth;
    m.epoch = pb_bytes(view_of(n->self.last.epoch.b, sizeof(struct epoch)));
    m.generation = n->self.last.generation;
    m.sent = (uint64_t)s->in->wall.ns;
    m.echo = h->sent;
    for (unsigned i = 0; i < n->n_places; i++) {
        places[i] = (Sitetree__Place)SITETREE__PLACE__INIT;
        place_fill(&places[i], &n->places[i]);
        above[i] = &places[i];
    }
    m.above = above;
    m.n_above = n->n_places;
    m.chain = MESSAGE_UNPACK(&a, buf_view(&n->chain), TRUST_BYTES_MAX, chain, &rc);
    m.heartbeat_ms = (uint32_t)(n->opt.heartbeat_ns / NS_PER_MS);
    m.software = (char *)(uintptr_t)SITETREE_VERSION;
    return frame_pack(FRAME_WELCOME, CLASS_HEAD, f->request, &n->self.last.epoch, &m.base, false);
}

static int on_hello(struct step *s, struct site *site, const struct frame *f)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Hello *h = FRAME_UNPACK(&a, f, hello, &rc);
    if (h)
        rc = hello_check(s, h, site);
    if (rc) {
        if (rc == ERR_LOOP || rc == ERR_VERSION)
            EVENT(s, "link.refused", .site = site->cert.code.s, .code = rc, .text = err_text(rc));
        refuse(s, site->cert.code.s, f->request, rc);
        return 0;
    }
    if (h->probe) {
        effects_send(s->fx, s->in->from, CLASS_HEAD, welcome(s, f, h));
        return 0;
    }
    struct session *c = session_look(n, s->in->from.id);
    if (c && c->site != site) { /* the driver mixed up its numbers: end that one */
        session_end(s, c, "refused-by-parent");
        c = NULL;
    }
    if (site->session && site->session != c) /* a newer connection of the same site replaces the older */
        session_end(s, site->session, "replaced");
    bool fresh = !c;
    if (fresh && !(c = session_add(n, s->in->from.id)))
        return -ENOMEM;
    bool again = fresh || c->nonce != h->session;
    c->site = site;
    site->session = c;
    c->nonce = h->session;
    c->heard = s->in->now;
    c->heard_wall = s->in->wall;
    c->generation = h->generation;
    c->epoch = (struct epoch){0};
    if (h->epoch.len)
        memcpy(c->epoch.b, h->epoch.data, sizeof c->epoch.b);
    COPY_TEXT(c->software, h->software);
    c->patience_ns =
        n->opt.not_heard_ns > 3 * n->opt.heartbeat_ns ? n->opt.not_heard_ns : 3 * n->opt.heartbeat_ns;
    session_send(s, c, CLASS_HEAD, welcome(s, f, h));
    restored_hear(s, c);
    if (!again)
        return 0;
    c->since = s->in->wall;
    c->n_asked = 0;
    c->asked_bytes = 0;
    session_tell_worker(s, c, true, NULL);
    EVENT(s, "link.up", .site = site->cert.code.s);
    report_changed(s);
    return 0;
}

static int on_heartbeat(struct step *s, struct session *c, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Heartbeat *h = FRAME_UNPACK(&a, f, heartbeat, &rc);
    if (!h) {
        refuse(s, c->site->cert.code.s, f->request, rc);
        return 0;
    }
    c->generation = h->generation;
    c->epoch = f->epoch;
    restored_hear(s, c);
    Sitetree__Heartbeat m = SITETREE__HEARTBEAT__INIT;
    m.sent = (uint64_t)s->in->wall.ns;
    m.generation = s->n->self.last.generation;
    session_send(s, c, CLASS_HEAD,
        frame_pack(FRAME_HEARTBEAT, CLASS_HEAD, f->request, &s->n->self.last.epoch, &m.base, false));
    if (c->generation != h->generation || !epoch_eq(&c->epoch, &f->epoch)) {
        c->generation = h->generation;
        c->epoch = f->epoch;
        session_tell_worker(s, c, true, NULL);
    }
    return 0;
}

static int on_bye(struct step *s, struct session *c)
{
    EVENT(s, "link.down", .site = c->site->cert.code.s);
    session_end(s, c, "bye");
    return 0;
}

static int on_session_frame(struct step *s, struct session *c, const struct frame *f, int parse_rc)
{
    c->heard = s->in->now;
    c->heard_wall = s->in->wall;
    c->bytes_in += s->in->body.len;
    meter_add(&c->in, s->in->now, s->in->body.len);
    if (parse_rc) { /* a frame of ours, of a type or a size that we do not take */
        refuse(s, c->site->cert.code.s, f->request, parse_rc);
        return 0;
    }
    if (frame_type_is_catalogue(f->type))
        return relay_from_child(s, c, f);
    switch ((enum frame_type)f->type) {
    case FRAME_HEARTBEAT:
        return on_heartbeat(s, c, f);
    case FRAME_REPORTS:
        return heard_on_reports(s, c, f);
    case FRAME_BYE:
        return on_bye(s, c);
    case FRAME_REFUSAL:
        if (!(f->request & NODE_REQUEST) && f->request)
            relay_to_worker(s, s->in->from, (struct view){0});
        return 0;
    case FRAME_HELLO: /* taken before */
    case FRAME_WELCOME:
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
    case FRAME_WORKER_READY:
    case FRAME_SITE_INFO:
    case FRAME_LINK_STATE:
    case FRAME_SIGN_HEAD:
    case FRAME_SIGNED_HEAD:
    case FRAME_EVENT_NOTE:
    case FRAME_WORKER_STATUS:
    case FRAME_CONTROL:
    case FRAME_CONTROL_REPLY:
        break;
    }
    refuse(s, c->site->cert.code.s, f->request,
        err_fail(ERR_UNKNOWN_TYPE, "a child does not send %s", frame_type_word(f->type)));
    return 0;
}

int session_on_frame(struct step *s, const struct frame *f, int parse_rc)
{
    struct node *n = s->n;
    struct view user = s->in->user;
    const struct frame nothing = {.version = FRAME_VERSION};
    if (parse_rc && parse_rc != ERR_UNKNOWN_TYPE)
        f = &nothing; /* of such a frame nothing is known */
    if (user.len > 7 && user.len < 60 && memcmp(user.data, "invite:", 7) == 0) {
        char id[64];
        snprintf(id, sizeof id, "%.*s", (int)(user.len - 7), (const char *)user.data + 7);
        if (parse_rc == 0 && f->type == FRAME_JOIN)
            return invite_on_join(s, f, id);
        effects_send(s->fx, s->in->from, CLASS_HEAD,
            frame_refusal(f->request, err_fail(ERR_REFUSED, "an invitation may only be used to join")));
        return 0;
    }
    struct site *site = NULL;
    char text[256];
    COPY_TEXT(text, err_text(parse_rc));
    int rc = site_of_user(n, user, &site);
    if (rc) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(user.len < 63 ? user.len : 63), (const char *)user.data);
        refuse(s, name, f->request, rc);
        effects_close(s->fx, s->in->from);
        return 0;
    }
    if (parse_rc == 0 && f->type == FRAME_HELLO)
        return on_hello(s, site, f);
    struct session *c = session_look(n, s->in->from.id);
    if (!c || c->site != site) {
        /* After a restart of this node a child goes on in what it takes for its session. No refusal to be
         * counted. */
        effects_send(s->fx, s->in->from, CLASS_HEAD,
            frame_refusal(0, err_fail(ERR_NOT_FOUND, "no session here: say hello")));
        return 0;
    }
    if (parse_rc)
        parse_rc = err_fail(parse_rc, "%s", text);
    return on_session_frame(s, c, f, parse_rc);
}

int session_on_link(struct step *s)
{
    struct session *c = session_look(s->n, s->in->from.id);
    if (c && s->in->status) {
        EVENT(s, "link.down", .site = c->site->cert.code.s, .code = s->in->status,
            .text = "the connection is gone");
        session_end(s, c, "parent-not-heard");
    }
    return 0;
}

int session_on_timer(struct step *s)
{
    struct node *n = s->n;
    for (size_t i = n->n_sessions; i-- > 0;) {
        struct session *c = n->sessions[i];
        int64_t patience = c->patience_ns > n->opt.not_heard_ns ? c->patience_ns : n->opt.not_heard_ns;
        if (s->in->now.ns - c->heard.ns < patience)
            continue;
        char text[96], ago[24];
        snprintf(text, sizeof text, "nothing for %s", duration_text(s->in->now.ns - c->heard.ns, ago));
        EVENT(s, "link.silent", .site = c->site->cert.code.s, .text = text);
        session_end(s, c, "not-heard");
    }
    report_worker_steady(s);
    step_timer(s, TIMER_SESSIONS, (struct mono){s->in->now.ns + n->opt.not_heard_ns / 3});
    return 0;
}

#include <stdio.h>

#include "services/node/core.h"

/* Which of the places is dialled, and when it is left for the next one (docs/protocol.md, any ancestor). A
 * place that refuses, loops, is silent or of no use is left at once; a connection that broke gets a moment,
 * for a parent that only starts again. After a round of all places comes a pause. Away from the parent a
 * second connection looks now and then whether it is well, and the link goes back as soon as it is. */

#define BACKOFF_MIN_NS (250 * NS_PER_MS)
#define BACKOFF_MAX_NS (30 * NS_PER_S)
#define REFUSED_MIN_NS                                                                                       \
    (5 * NS_PER_S)             /* a refusal that only an operator ends is not asked for again at once */
#define LOST_NS (3 * NS_PER_S) /* for a parent that only starts again */
#define CONNECT_AGAIN 4        /* failures in a row, then the sockets are made anew */
#define PROBE_MIN_NS (2 * NS_PER_S)
#define PROBE_MAX_NS (60 * NS_PER_S)
#define STEADY_NS (300 * NS_PER_S) /* a link to the parent that lived so long forgives what was before */
#define FAILURES_MOST 3            /* of the worker's questions, in a row */

/* The words of the closed list of causes (operators' manual). */
static const char *cause_of(int code)
{
    switch (code) {
    case ERR_KEY:
        return "key-not-trusted";
    case ERR_LOOP:
        return "path-loop";
    case ERR_VERSION:
        return "version-too-old";
    case ERR_REMOVED:
    case ERR_REFUSED:
    case ERR_BUSY:
        return "refused-by-parent";
    case ERR_CONFIG:
        return "name-not-resolved";
    case ERR_ROLLBACK:
        return "parent-itself-behind";
    default:
        return "parent-unreachable";
    }
}

static bool lasting(int code)
{
    return code == ERR_KEY || code == ERR_LOOP || code == ERR_VERSION || code == ERR_REMOVED ||
           code == ERR_REFUSED;
}

const char *uplink_site(const struct node *n)
{
    return n->n_places ? n->places[n->up.place].code.s : "";
}

bool uplink_is_late(const struct step *s)
{
    return s->in->command && s->in->command != s->n->up.number;
}

/* Half of it is chance, so that children do not come back all together. */
static int64_t spread(struct node *n, int64_t ns)
{
    uint32_t r;
    n->random->fill(n->random->ctx, &r, sizeof r);
    return ns / 2 + ns / 2 * (int64_t)(r >> 8) / (1 << 24);
}

/* Doubles with each failure. */
static int64_t backoff(struct node *n, int code)
{
    int64_t ns = BACKOFF_MIN_NS;
    for (unsigned i = 1; i < n->up.failures && ns < BACKOFF_MAX_NS; i++)
        ns *= 2;
    if (lasting(code) && ns < REFUSED_MIN_NS)
        ns = REFUSED_MIN_NS;
    return spread(n, ns > BACKOFF_MAX_NS ? BACKOFF_MAX_NS : ns);
}

static void say_goodbye(struct step *s, const char *why)
{
    Sitetree__Bye m = SITETREE__BYE__INIT;
    m.why = (char *)(uintptr_t)why;
    uplink_send(s, CLASS_HEAD, frame_pack(FRAME_BYE, CLASS_HEAD, 0, NULL, &m.base, false));
}

/* ---- the connection that looks ---- */

static void probe_close(struct step *s)
{
    if (s->n->probe.state == PROBE_HELLO)
        effects_disconnect(s->fx, (struct peer){PEER_PARENT, PROBE});
    s->n->probe.state = PROBE_NONE;
    step_timer(s, TIMER_PROBE, (struct mono){0});
}

static void probe_later(struct step *s)
{
    struct probe *p = &s->n->probe;
    probe_close(s);
    p->state = PROBE_WAIT;
    p->place = 0;
    p->delay_ns = p->delay_ns == 0                 ? PROBE_MIN_NS
                  : p->delay_ns * 2 < PROBE_MAX_NS ? p->delay_ns * 2
                                                   : PROBE_MAX_NS;
    step_timer(s, TIMER_PROBE, (struct mono){s->in->now.ns + spread(s->n, p->delay_ns)});
}

static void probe_dial(struct step *s)
{
    struct node *n = s->n;
    struct probe *p = &n->probe;
    p->state = PROBE_HELLO;
    p->number++;
    p->request = 0;
    effects_connect(s->fx, (struct peer){PEER_PARENT, PROBE}, p->number, place_blob(&n->places[p->place]));
    step_timer(s, TIMER_PROBE, (struct mono){s->in->now.ns + n->opt.hello_timeout_ns});
}

static void probe_failed(struct step *s)
{
    struct node *n = s->n;
    if (++n->probe.place < n->up.place)
        probe_dial(s);
    else
        probe_later(s);
}

static bool probe_is_late(const struct step *s)
{
    const struct probe *p = &s->n->probe;
    return p->state != PROBE_HELLO || (s->in->command && s->in->command != p->number);
}

int probe_on_link(struct step *s)
{
    struct node *n = s->n;
    if (probe_is_late(s))
        return 0;
    if (s->in->status) {
        probe_failed(s);
        return 0;
    }
    n->probe.request = node_request(n);
    Sitetree__Hello m = SITETREE__HELLO__INIT;
    m.version_low = PROTOCOL_LOW;
    m.version_high = PROTOCOL_HIGH;
    m.site = n->opt.site.s;
    m.sent = (uint64_t)s->in->wall.ns;
    m.software = (char *)(uintptr_t)SITETREE_VERSION;
    m.probe = true;
    effects_send(s->fx, (struct peer){PEER_PARENT, PROBE}, CLASS_HEAD,
        frame_pack(FRAME_HELLO, CLASS_HEAD, n->probe.request, NULL, &m.base, false));
    return 0;
}

/* It is well: goodbye to the one in its place, and over to it. */
static void go_back(struct step *s)
{
    struct node *n = s->n;
    unsigned place = n->probe.place;
    probe_later(s); /* should it prove of no use, the next look comes later */
    if (n->up.state == UPLINK_LIVE) {
        say_goodbye(s, "back to a nearer site");
        n->up.state = UPLINK_WAIT;
        n->up.apart = s->in->now;
        n->up.down_since = s->in->wall;
        uplink_tell_worker(s);
    }
    n->up.tried = 0;
    failover_dial(s, place);
}

int probe_on_frame(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (probe_is_late(s) || n->probe.request == 0 || f->request != n->probe.request)
        return 0;
    Sitetree__Welcome *w = f->type == FRAME_WELCOME ? FRAME_UNPACK(&a, f, welcome, &rc) : NULL;
    if (w && uplink_welcome_check(n, &n->places[n->probe.place], w) == 0 && uplink_behind(n, w) == 0)
        go_back(s);
    else
        probe_failed(s);
    return 0;
}

int probe_on_timer(struct step *s)
{
    if (s->n->probe.state == PROBE_WAIT)
        probe_dial(s);
    else if (s->n->probe.state == PROBE_HELLO)
        probe_failed(s);
    return 0;
}

/* ---- the link ---- */

static void orphan_check(struct step *s)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    char d[24], text[96];
    if (u->orphan || s->in->now.ns - u->apart.ns < n->opt.orphan_ns)
        return;
    u->orphan = true;
    snprintf(text, sizeof text, "no site above takes it in for %s", duration_text(n->opt.orphan_ns, d));
    EVENT(s, "parent.orphan", .site = n->self.cert.parent.s, .text = text);
    report_changed(s);
}

void failover_dial(struct step *s, unsigned place)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    u->place = place;
    u->number++;
    u->lost = u->live = (struct mono){0};
    u->sockets = u->round_over = false;
    effects_connect(s->fx, (struct peer){PEER_PARENT, 0}, u->number, place_blob(&n->places[place]));
    uplink_hello(s);
}

static void wait(struct step *s, int64_t until)
{
    s->n->up.state = UPLINK_WAIT;
    s->n->up.retry = (struct mono){until};
    step_timer(s, TIMER_UPLINK, s->n->up.retry);
}

static void next_place(struct step *s, int code)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    if (++u->tried < n->n_places) {
        failover_dial(s, (u->place + 1) % n->n_places);
        return;
    }
    u->tried = 0;
    u->failures++;
    u->round_over = true;
    orphan_check(s);
    wait(s, s->in->now.ns + backoff(n, code));
}

/* Keeps why the place failed; *ret_other: it did not do so, or not for this reason, before. The parent's
 * fault is what is shown: it is the one to mend. */
static void fault_note(struct step *s, int code, const char *why, bool *ret_other)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    unsigned p = u->place;
    const char *site = uplink_site(n);
    *ret_other = u->fault[p].code != code;
    u->fault[p].code = code;
    COPY_TEXT(u->fault[p].text, why);
    unsigned shown = u->fault[0].code ? 0 : p;
    u->cause = u->fault[shown].code;
    COPY_TEXT(u->cause_word, cause_of(u->cause));
    if (shown == p)
        COPY_TEXT(u->text, why);
    else
        snprintf(u->text, sizeof u->text, "%s; %s: %s", u->fault[shown].text, site, u->fault[p].text);
    if (!*ret_other)
        return;
    const char *name = code == ERR_LOOP ? "parent.loop" : lasting(code) ? "parent.refused" : "parent.down";
    EVENT(s, name, .site = site, .code = code, .text = u->fault[p].text);
}

static bool must_leave(const struct step *s, int code)
{
    const struct uplink *u = &s->n->up;
    if (s->n->n_places < 2)
        return false;
    bool patient = u->place == 0 || u->live.ns;
    return code != ERR_NETWORK || !patient || s->in->now.ns - u->lost.ns >= LOST_NS;
}

int64_t failover_patience(const struct step *s)
{
    const struct node *n = s->n;
    int64_t end = s->in->now.ns + n->opt.hello_timeout_ns;
    if (n->n_places < 2 || n->up.sockets || n->up.lost.ns == 0)
        return end;
    int64_t lost = n->up.lost.ns + LOST_NS;
    return lost < end ? lost : end;
}

void failover_down(struct step *s, int code, const char *why)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    bool was_live = u->state == UPLINK_LIVE, other;
    u->state = UPLINK_WAIT;
    u->asked = (struct mono){0};
    u->n_path = 0;
    step_timer(s, TIMER_HEARTBEAT, (struct mono){0});
    if (was_live) {
        u->fault[u->place].code = 0;
        if (u->place == 0 && s->in->now.ns - u->live.ns > STEADY_NS)
            n->probe.delay_ns = 0;
        u->down_since = s->in->wall;
        u->apart = s->in->now;
        u->tried = 0;
        probe_close(s);
    }
    fault_note(s, code, why, &other);
    if (was_live)
        uplink_tell_worker(s);
    if (u->lost.ns == 0)
        u->lost = s->in->now;
    if (must_leave(s, code)) {
        next_place(s, code);
    } else {
        u->failures++;
        int64_t until = s->in->now.ns + backoff(n, code), most = u->lost.ns + LOST_NS;
        orphan_check(s);
        wait(s, n->n_places > 1 && until > most ? most : until);
    }
    if (was_live || other)
        report_changed(s);
}

int failover_on_timer(struct step *s)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    if (u->round_over) {
        failover_dial(s, 0);
    } else if (n->n_places > 1 && s->in->now.ns - u->lost.ns >= LOST_NS) {
        next_place(s, ERR_NETWORK);
    } else if (n->n_places == 1 && u->failures && u->failures % CONNECT_AGAIN == 0) {
        failover_dial(s, 0);
    } else {
        uplink_hello(s);
    }
    return 0;
}

void failover_live(struct step *s)
{
    struct node *n = s->n;
    struct uplink *u = &n->up;
    char text[256];
    bool away = u->place > 0;
    u->failures = u->tried = 0;
    u->round_over = u->orphan = false;
    u->lost = (struct mono){0};
    u->live = s->in->now;
    u->fault[u->place].code = 0;
    u->cause = 0;
    u->cause_word[0] = u->text[0] = 0;
    EVENT(s, "parent.up", .site = uplink_site(n));
    if (away && !u->away) {
        u->away_since = s->in->wall;
        snprintf(text, sizeof text, "%s instead: %s", uplink_site(n), u->fault[0].text);
        EVENT(s, "parent.left", .site = n->self.cert.parent.s, .text = text);
    } else if (!away && u->away) {
        EVENT(s, "parent.back", .site = n->self.cert.parent.s);
    }
    u->away = away;
    if (away)
        probe_later(s);
    else
        probe_close(s);
}

void failover_on_status(struct step *s, const Sitetree__WorkerStatus *w)
{
    struct node *n = s->n;
    if (n->up.state != UPLINK_LIVE || n->n_places < 2 || w->parent_failures < FAILURES_MOST ||
        strcmp(w->parent, uplink_site(n)) != 0)
        return;
    char why[120];
    snprintf(why, sizeof why, "%u failures in a row: %.80s", w->parent_failures, w->parent_failure);
    say_goodbye(s, "of no use");
    failover_down(s, ERR_TIMEOUT, why);
}

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/world_internal.h"

/* A message waits in the queue of its class until the line is free (at once where the link has no rate), is
 * under way for the latency, and arrives in order within its lane and class unless a fault moves it. */

static bool hit(struct world *w, unsigned per_mille)
{
    return per_mille && chance_below(&w->chance, 1000) < per_mille;
}

struct world_link *link_nth(const struct world *w, unsigned i)
{
    struct world_link *l = i < w->n_sites ? w->sites[i]->up_link : w->sites[i - w->n_sites]->probe_link;
    return l && l->parent ? l : NULL;
}

static struct pair *pair_of(const struct world_link *l)
{
    struct world *w = l->w;
    for (unsigned i = 0; i < w->n_pairs; i++)
        if (w->pairs[i].child == l->child && w->pairs[i].parent == l->parent)
            return &w->pairs[i];
    return NULL;
}

static bool is_between(const struct world_link *l, enum world_between how)
{
    const struct pair *p = pair_of(l);
    return p && p->how == how;
}

static bool is_muted(const struct world_link *l)
{
    return l->muted || l->child->up_link->muted || is_between(l, WORLD_HOLE);
}

static bool is_cut(const struct world_link *l)
{
    return l->cut || l->child->up_link->cut || is_between(l, WORLD_CLOSED);
}

static const struct world_faults *faults_of(const struct world_link *l)
{
    const struct pair *p = pair_of(l);
    return p && p->how == WORLD_FAULTY ? &p->faults : &l->faults;
}

static void queue_push(struct lane_queue *q, struct event *e)
{
    if (q->first + q->n == q->cap && q->first) {
        memmove(q->list, q->list + q->first, q->n * sizeof(struct event *));
        q->first = 0;
    }
    if (q->n == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 16;
        q->list = must(realloc(q->list, q->cap * sizeof(struct event *)));
    }
    q->list[q->first + q->n++] = e;
}

static struct event *queue_pop(struct lane_queue *q)
{
    if (!q->n)
        return NULL;
    q->n--;
    return q->list[q->first++];
}

static void way_clear(struct world_way *way)
{
    for (unsigned c = 0; c < CLASS_COUNT; c++) {
        struct event *e;
        while ((e = queue_pop(&way->lanes[c])))
            event_free(e);
        way->lanes[c].first = 0;
    }
    way->queued_bytes = 0;
    way->busy = false;
    memset(way->last_arrival, 0, sizeof way->last_arrival);
}

void link_done(struct world_link *l)
{
    for (unsigned d = 0; d < 2; d++) {
        way_clear(&l->ways[d]);
        for (unsigned c = 0; c < CLASS_COUNT; c++)
            free(l->ways[d].lanes[c].list);
    }
    free(l);
}

static void depart(struct world_link *l, struct event *e)
{
    struct world *w = l->w;
    struct world_way *way = &l->ways[e->down];
    int64_t at = w->now + chance_between(&w->chance, w->opt.latency_min, w->opt.latency_max);
    if (hit(w, faults_of(l)->delay))
        at += chance_between(&w->chance, 0, faults_of(l)->delay_max);
    int64_t *last = &way->last_arrival[e->hint][e->lane];
    if (hit(w, faults_of(l)->reorder))
        at += chance_between(&w->chance, 0, faults_of(l)->delay_max); /* others may pass it */
    else if (at < *last)
        at = *last;
    else
        *last = at;
    e->at = at;
    event_push(w, e);
}

static void line_next(struct world_link *l, bool down)
{
    struct world_way *way = &l->ways[down];
    while (!way->busy) {
        struct event *e = NULL;
        for (unsigned c = 0; c < CLASS_COUNT && !e; c++)
            e = queue_pop(&way->lanes[c]);
        if (!e)
            return;
        size_t len = blob_view(e->frame).len;
        way->queued_bytes -= len;
        if (faults_of(l)->rate) {
            way->busy = true;
            struct event *sent = event_new(
                l->w, EVENT_SENT, l->w->now + (int64_t)((double)len * 1e9 / (double)faults_of(l)->rate));
            sent->link = l;
            sent->down = down;
            sent->connection = l->connection;
            event_push(l->w, sent);
        }
        depart(l, e);
    }
}

void link_send(
    struct world_link *l, bool down, bool hint, const char *topic, uint8_t lane, struct blob *frame)
{
    struct world *w = l->w;
    if (!l->connected || is_muted(l) || (hint && l->no_hints) || hit(w, faults_of(l)->drop)) {
        trace(
            w, down ? l->parent : l->child, "lost on the way %s %s", down ? "to" : "up from", l->child->code);
        return;
    }
    unsigned copies = hit(w, faults_of(l)->duplicate) ? 2 : 1;
    for (unsigned i = 0; i < copies; i++) {
        struct event *e = event_new(w, EVENT_ARRIVE, 0);
        e->link = l;
        e->down = down;
        e->hint = hint;
        e->lane = lane < CLASS_COUNT ? lane : CLASS_BULK;
        e->connection = l->connection;
        e->frame = blob_ref(frame);
        memcpy(e->topic, topic, strnlen(topic, sizeof e->topic - 1));
        l->ways[down].queued_bytes += blob_view(frame).len;
        queue_push(&l->ways[down].lanes[e->lane], e);
    }
    line_next(l, down);
}

/* The process that holds a site's sockets. */
static struct world_process *end_of(struct world_site *s)
{
    return s->has_node ? &s->node : &s->worker;
}

static struct event *tell_end(struct world_link *l, struct world_process *p, bool up, int64_t delay)
{
    struct event *e = event_new(l->w, EVENT_LINK, l->w->now + delay);
    e->link = l;
    e->proc = p;
    e->life = p->life;
    e->connection = l->connection;
    e->up = up;
    e->stamp = l->number;
    e->from =
        p->site == l->child ? (struct peer){PEER_PARENT, l->probe} : (struct peer){PEER_CHILD, l->session};
    event_push(l->w, e);
    return e;
}

void link_drop(struct world_link *l, const char *why, bool tell)
{
    if (!l->connected)
        return;
    trace(l->w, l->child, "link to %s down: %s", l->parent->code, why);
    l->connected = false;
    l->connection++;
    way_clear(&l->ways[0]);
    way_clear(&l->ways[1]);
    if (tell) {
        (void)tell_end(l, end_of(l->parent), false, DETECT_LATENCY);
        (void)tell_end(l, end_of(l->child), false, DETECT_LATENCY);
    }
}

void link_crashed(struct world_link *l, const struct world_site *dead)
{
    if (!l->connected || chance_below(&l->w->chance, 2))
        return;
    l->last_words = l->connection;
    l->last_words_down = dead == l->parent;
    l->last_words_until = l->w->now + DETECT_LATENCY;
}

static void connect_later(struct world_link *l, int64_t after)
{
    l->connecting = true;
    struct event *e = event_new(l->w, EVENT_CONNECT, l->w->now + after);
    e->link = l;
    e->connection = l->connection;
    event_push(l->w, e);
}

void link_update(struct world_link *l)
{
    struct world *w = l->w;
    bool can = l->parent && !is_cut(l) && l->parent->up && l->child->up && !l->parent->paused_until &&
               !l->child->paused_until;
    if (!can) {
        link_drop(l, is_cut(l) ? "cut" : "an end is away", true);
    } else if (!l->connected && !l->connecting && !is_muted(l)) {
        connect_later(
            l, CONNECT_LATENCY + chance_between(&w->chance, w->opt.latency_min, w->opt.latency_max));
    }
}

/* What the parent's ZAP table says of the child's key; NULL: refused. */
static const char *access_of(struct world_link *l)
{
    const uint8_t *key = l->child->node.type->link_key(&l->child->node);
    for (size_t i = 0; key && i < l->parent->n_access; i++)
        if (memcmp(l->parent->access[i].key, key, 32) == 0)
            return l->parent->access[i].user[0] ? l->parent->access[i].user : NULL;
    return NULL;
}

static void connect_now(struct world_link *l)
{
    struct world *w = l->w;
    l->connecting = false;
    if (!l->parent || is_cut(l) || is_muted(l) || !l->parent->up || !l->child->up ||
        l->parent->paused_until || l->child->paused_until)
        return;
    const char *user = "";
    if (l->parent->has_node && !(user = access_of(l))) {
        trace(w, l->child, "%s does not know its key", l->parent->code);
        tell_end(l, end_of(l->child), false, IPC_LATENCY)->refused = true;
        connect_later(l, 3 * NS_PER_S);
        return;
    }
    snprintf(l->user, sizeof l->user, "%s", user);
    l->connected = true;
    l->connection++;
    l->session = ++w->sessions;
    trace(w, l->child, "link to %s up, session %u", l->parent->code, l->session);
    (void)tell_end(l, end_of(l->parent), true, IPC_LATENCY);
    (void)tell_end(l, end_of(l->child), true, IPC_LATENCY);
}

struct world_link *link_of_session(struct world_site *parent, uint32_t session)
{
    struct world *w = parent->w;
    for (unsigned i = 0; i < 2 * w->n_sites; i++) {
        struct world_link *l = link_nth(w, i);
        if (l && l->parent == parent && l->connected && l->session == session)
            return l;
    }
    return NULL;
}

static void act(struct world_link *l, enum world_act a)
{
    switch (a) {
    case WORLD_CUT:
        world_cut(l->w, l->child->code);
        break;
    case WORLD_CRASH_CHILD:
        site_crash(l->child);
        break;
    case WORLD_CRASH_PARENT:
        site_crash(l->parent);
        break;
    case WORLD_LOSE:
        break;
    }
}

static void deliver(struct world_link *l, struct event *e)
{
    struct world_site *to = e->down ? l->child : l->parent;
    struct input in = {
        .kind = INPUT_FRAME, .frame = e->frame, .body = blob_view(e->frame), .topic = view_str(e->topic)};
    if (!e->down)
        in.from = (struct peer){PEER_CHILD, l->session};
    else
        in.from = (struct peer){e->hint ? PEER_CHILDREN : PEER_PARENT, l->probe};
    if (e->down && !e->hint && to->has_node)
        in.command = l->number;
    if (!e->down && to->has_node)
        in.user = view_str(l->user);
    process_give(end_of(to), &in);
}

static void arrive(struct world_link *l, struct event *e)
{
    struct world *w = l->w;
    bool late =
        e->connection == l->last_words && e->down == l->last_words_down && w->now < l->last_words_until;
    if (!late && (e->connection != l->connection || !l->connected || is_muted(l)))
        return;
    struct frame f;
    unsigned type = frame_parse(blob_view(e->frame), &f) == 0 ? f.type : 0;
    bool fire = l->hook.armed && l->hook.type == type && --l->hook.nth == 0;
    if (fire) {
        l->hook.armed = false;
        trace(w, l->child, "hook on %s", frame_type_word(type));
    }
    if (fire && l->hook.when != WORLD_AFTER) {
        act(l, l->hook.act);
        if (l->hook.when == WORLD_INSTEAD || (!late && (e->connection != l->connection || !l->connected)))
            return;
    }
    if (l->parent->hostile && !hostile_arrive(l, e))
        return;
    if (l->tamper) {
        struct blob *other = l->tamper(l->tamper_ctx, w, e->down, type, e->frame);
        if (!other) {
            trace(w, l->child, "%s taken away", frame_type_word(type));
            return;
        }
        blob_free(e->frame);
        e->frame = other;
    }
    deliver(l, e);
    if (fire && l->hook.when == WORLD_AFTER)
        act(l, l->hook.act);
}

static void tell_now(struct world_link *l, struct event *e)
{
    struct world_process *p = e->proc;
    if (!p->is_node && p->site != l->parent && p->site != l->child)
        return; /* the child has another parent since, and this one was told */
    if (!p->is_node) {
        if (p->core && !p->starting)
            shim_link(p, l, e->up, e->up ? "" : "link lost");
        return;
    }
    struct input in = {.kind = INPUT_LINK,
        .from = e->from,
        .status = e->up        ? 0
                  : e->refused ? ERR_KEY
                               : ERR_NETWORK};
    if (e->from.kind == PEER_CHILD)
        in.user = view_str(l->user);
    else
        in.command = e->stamp;
    process_give(p, &in);
}

void link_event(struct world_link *l, struct event *e)
{
    switch (e->kind) {
    case EVENT_SENT:
        if (e->connection == l->connection) {
            l->ways[e->down].busy = false;
            line_next(l, e->down);
        }
        break;
    case EVENT_ARRIVE:
        arrive(l, e);
        break;
    case EVENT_CONNECT:
        if (e->connection == l->connection)
            connect_now(l);
        break;
    case EVENT_LINK:
        if (e->proc->life == e->life && (!e->up || e->connection == l->connection))
            tell_now(l, e);
        break;
    case EVENT_SILENCE:
        if (is_muted(l) && e->connection == l->connection && l->connected)
            link_drop(l, "silent", true);
        break;
    default:
        break;
    }
}

/* What a node asks of its transport. */

void links_ask_again(struct world_site *parent)
{
    for (unsigned i = 0; i < parent->w->n_sites; i++) {
        struct world_link *l = parent->w->sites[i]->up_link;
        if (l && l->parent == parent) {
            link_drop(l, "bound again", true);
            link_update(l);
        }
    }
}

void link_close(struct world_site *parent, struct peer child)
{
    struct world_link *l = child.kind == PEER_CHILD ? link_of_session(parent, child.id) : NULL;
    if (l) {
        link_drop(l, "closed by the parent", true);
        link_update(l);
    }
}

void link_choose(struct world_site *child, const struct effect *e)
{
    char code[32];
    if (e->to.id && !child->probe_link) {
        child->probe_link = must(calloc(1, sizeof *child->probe_link));
        *child->probe_link = (struct world_link){.w = child->w, .child = child, .probe = true};
    }
    struct world_link *l = e->to.id ? child->probe_link : child->up_link;
    if (!l)
        return;
    link_drop(l, "connects again", true);
    bool named = e->frame && child->node.type->place(blob_view(e->frame), code);
    l->parent = named ? site_find(child->w, code) : NULL;
    l->number = e->command;
    l->connection++;
    l->connecting = false;
    link_update(l);
    if (l->parent && !l->parent->up && !is_cut(l) && !is_muted(l)) /* nobody listens there */
        (void)tell_end(l, end_of(child), false, DETECT_LATENCY);
}

static struct world_link *find_link(struct world *w, const char *child)
{
    struct world_link *l = site_find(w, child)->up_link;
    return must(l);
}

void world_cut(struct world *w, const char *child)
{
    struct world_link *l = find_link(w, child);
    l->cut = true;
    link_drop(l, "cut", true);
    if (l->child->probe_link)
        link_drop(l->child->probe_link, "cut", true);
}

void world_heal(struct world *w, const char *child)
{
    struct world_link *l = find_link(w, child), *child_probe = l->child->probe_link;
    l->cut = false;
    if (child_probe)
        link_drop(child_probe, "healed", true);
    if (l->muted) { /* what was sent into the hole stays lost; the transport makes a new session */
        l->muted = false;
        link_drop(l, "healed", true);
    }
    link_update(l);
    if (child_probe)
        link_update(child_probe);
}

static void silence_later(struct world_link *l)
{
    struct event *e = event_new(l->w, EVENT_SILENCE, l->w->now + SILENCE);
    e->link = l;
    e->connection = l->connection;
    event_push(l->w, e);
}

void world_between(struct world *w, const char *child, const char *parent, enum world_between how,
    const struct world_faults *f)
{
    struct world_site *c = site_find(w, child), *p = site_find(w, parent);
    unsigned k = 0;
    while (k < w->n_pairs && (w->pairs[k].child != c || w->pairs[k].parent != p))
        k++;
    if (k == COUNT_OF(w->pairs))
        abort();
    if (k == w->n_pairs)
        w->pairs[w->n_pairs++] = (struct pair){.child = c, .parent = p};
    bool was_hole = w->pairs[k].how == WORLD_HOLE;
    w->pairs[k].how = how;
    w->pairs[k].faults = f ? *f : (struct world_faults){0};
    trace(w, c, "between it and %s: %d", parent, (int)how);
    for (unsigned i = 0; i < 2 * w->n_sites; i++) {
        struct world_link *l = link_nth(w, i);
        if (!l || l->child != c || l->parent != p)
            continue;
        if (how == WORLD_HOLE)
            silence_later(l);
        else if (was_hole)
            link_drop(l, "healed", true);
        link_update(l);
    }
}

void world_move(struct world *w, const char *child, const char *parent)
{
    struct world_link *l = find_link(w, child);
    struct world_site *to = site_find(w, parent);
    if (l->parent == to || to == l->child)
        return;
    trace(w, l->child, "moves to %s", parent);
    if (!l->parent->has_node)
        shim_link(&l->parent->worker, l, false, "the child has left");
    link_drop(l, "moved", true);
    l->told[0] = false;
    l->parent = l->child->parent = to;
    link_update(l);
}

void world_partition(struct world *w, uint64_t sites)
{
    for (unsigned i = 0; i < w->n_sites; i++) {
        struct world_link *l = w->sites[i]->up_link;
        if (l && (sites >> l->parent->index & 1) != (sites >> l->child->index & 1))
            world_cut(w, l->child->code);
    }
}

void world_mute(struct world *w, const char *child)
{
    struct world_link *l = find_link(w, child);
    if (l->muted)
        return;
    trace(w, l->child, "mute");
    l->muted = true;
    silence_later(l);
}

void world_set_faults(struct world *w, const char *child, const struct world_faults *f)
{
    find_link(w, child)->faults = f ? *f : (struct world_faults){0};
}

void world_drop_hints(struct world *w, const char *child, bool on)
{
    find_link(w, child)->no_hints = on;
}

void world_on_frame(struct world *w, const char *child, unsigned frame_type, unsigned nth,
    enum world_when when, enum world_act a)
{
    find_link(w, child)->hook = (struct frame_hook){nth > 0, frame_type, nth, when, a};
}

void world_tamper(struct world *w, const char *child, world_tamper_fn fn, void *ctx)
{
    struct world_link *l = find_link(w, child);
    l->tamper = fn;
    l->tamper_ctx = ctx;
}

void world_inject(struct world *w, const char *child, const char *topic, struct blob *frame)
{
    struct world_link *l = find_link(w, child);
    struct event *e = event_new(w, EVENT_ARRIVE, w->now + IPC_LATENCY);
    e->link = l;
    e->down = true;
    e->hint = topic != NULL;
    e->connection = l->connection;
    e->frame = must(frame);
    if (topic)
        memcpy(e->topic, topic, strnlen(topic, sizeof e->topic - 1));
    event_push(w, e);
}

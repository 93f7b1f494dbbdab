#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/world_internal.h"

/* Performing a step: early sends, commit, sends, timers; a crash may fall between any two of them. */

static bool point(struct world_process *p)
{
    struct world_site *s = p->site;
    s->points++;
    if (s->crash_at == 0 || --s->crash_at > 0)
        return false;
    trace(s->w, s, "crash point");
    site_crash(s);
    return true;
}

static void set_timer(struct world_process *p, unsigned timer, struct mono at)
{
    struct world *w = p->w;
    if (timer >= MAX_TIMERS) {
        world_break(w, "P11", "%s: timer number %u", p->site->code, timer);
        return;
    }
    p->timers[timer].stamp++;
    p->timers[timer].set = at.ns != 0;
    if (at.ns == 0)
        return;
    int64_t when = at.ns - NS_PER_S + p->booted;
    struct event *e = event_new(w, EVENT_TIMER, when < w->now ? w->now : when);
    e->proc = p;
    e->life = p->life;
    e->timer = timer;
    e->stamp = p->timers[timer].stamp;
    event_push(w, e);
}

static void give_answer(struct world *w, struct world_site *s, const struct effect *e)
{
    struct view v = blob_view(e->frame);
    trace(w, s, "reply %llu%s", (unsigned long long)e->command, e->more ? " (more)" : "");
    trace_bytes(w, v);
    if (e->command != w->waiting_command || e->more)
        return;
    json_error_t err;
    json_decref(w->answer);
    w->answer = json_loadb((const char *)v.data, v.len, 0, &err);
    w->answered = true;
    if (!w->answer)
        world_break(w, "control", "%s answers with what is not JSON: %s", s->code, err.text);
}

static void send_to_children(struct world_site *s, const struct effect *e)
{
    struct world *w = s->w;
    for (unsigned i = 0; i < w->n_sites; i++) {
        struct world_link *l = w->sites[i]->up_link;
        if (l && l->parent == s && l->connected)
            link_send(l, true, true, e->topic, (uint8_t)e->lane, e->frame);
    }
}

static void count_up(struct world_site *s, const struct effect *e)
{
    struct frame f;
    if (frame_parse(blob_view(e->frame), &f) == 0 && f.type < COUNT_OF(s->counts.sent_up))
        s->counts.sent_up[f.type]++;
}

static void send_to_child(struct world_site *s, const struct effect *e)
{
    struct world_link *l = link_of_session(s, e->to.id);
    if (e->to.id == s->w->join_session && !s->w->join_answer)
        s->w->join_answer = blob_ref(e->frame);
    else if (l)
        link_send(l, true, false, "", (uint8_t)e->lane, e->frame);
}

static void send_on_links(struct world_process *p, const struct effect *e)
{
    struct world_site *s = p->site;
    struct world_link *up;
    if (s->lose_send && e->to.kind != PEER_NODE && --s->lose_send == 0) {
        trace(s->w, s, "the send is refused");
        return;
    }
    switch (e->to.kind) {
    case PEER_PARENT:
        up = e->to.id ? s->probe_link : s->up_link;
        if (up)
            link_send(up, false, false, "", (uint8_t)e->lane, e->frame);
        break;
    case PEER_CHILD:
        send_to_child(s, e);
        break;
    case PEER_CHILDREN:
        send_to_children(s, e);
        break;
    case PEER_NODE:
        shim_on_worker(p, e);
        break;
    case PEER_WORKER:
    case PEER_NONE:
        world_break(s->w, "seam", "%s sends to nobody", s->code);
        break;
    }
}

/* Between the node and the worker of a site. */
static void send_ipc(struct world_process *to, const struct effect *e, struct peer from, struct peer via)
{
    struct event *ev = event_new(to->w, EVENT_IPC, to->w->now + IPC_LATENCY);
    ev->proc = to;
    ev->life = to->life;
    ev->from = from;
    ev->via = via;
    ev->lane = (uint8_t)e->lane;
    ev->early = e->early;
    memcpy(ev->topic, e->topic, sizeof ev->topic);
    ev->frame = blob_ref(e->frame);
    event_push(to->w, ev);
}

static void send_frame(struct world_process *p, const struct effect *e)
{
    struct world_site *s = p->site;
    struct view v = blob_view(e->frame);
    struct frame f = {0};
    int rc = frame_parse(v, &f);
    trace(s->w, s, "%ssend %s %zu to %u/%u%s%s%s", p->is_node ? "node " : "",
        rc ? err_word(rc) : frame_type_word(f.type), v.len, (unsigned)e->to.kind, e->to.id,
        e->early ? " early" : "", e->topic[0] ? " " : "", e->topic);
    trace_bytes(s->w, v);
    if (rc) {
        world_break(s->w, "seam", "%s sends what is not a frame: %s", s->code, err_text(rc));
        return;
    }
    if (p->type->on_send)
        p->type->on_send(p, e);
    if (p->is_node) {
        if (e->to.kind == PEER_WORKER)
            send_ipc(&s->worker, e, e->via, (struct peer){0});
        else
            send_on_links(p, e);
        return;
    }
    shim_observe(p, &f);
    if (e->to.kind == PEER_PARENT)
        count_up(s, e);
    if (s->has_node)
        send_ipc(&s->node, e, (struct peer){PEER_WORKER, WORKER_METADATA}, e->to);
    else
        send_on_links(p, e);
}

static void set_access(struct world_site *s, const struct effect *e)
{
    struct view key = blob_view(e->frame);
    struct access *a = NULL;
    for (size_t i = 0; i < s->n_access && !a; i++)
        if (memcmp(s->access[i].key, key.data, 32) == 0)
            a = &s->access[i];
    if (!a) {
        s->access = must(realloc(s->access, (s->n_access + 1) * sizeof *s->access));
        a = &s->access[s->n_access++];
        memcpy(a->key, key.data, 32);
    }
    memcpy(a->user, e->topic, sizeof a->user);
    trace(s->w, s, "access for '%s'", a->user);
}

static void start_job(struct world_process *p, const struct effect *e)
{
    struct world *w = p->w;
    int64_t takes = p->type->job_time ? p->type->job_time(p, e->frame) : -1;
    trace(w, p->site, "job %u", e->timer);
    if (takes < 0)
        return; /* it hangs */
    struct event *ev = event_new(w, EVENT_JOB, w->now + takes);
    ev->proc = p;
    ev->life = p->life;
    ev->timer = e->timer;
    ev->frame = blob_ref(e->frame);
    event_push(w, ev);
}

static bool perform(struct world_process *p, const struct effect *e)
{
    switch (e->kind) {
    case EFFECT_SEND:
        send_frame(p, e);
        break;
    case EFFECT_TIMER:
        set_timer(p, e->timer, e->at);
        break;
    case EFFECT_REPLY:
        give_answer(p->w, p->site, e);
        break;
    case EFFECT_JOB:
        start_job(p, e);
        break;
    case EFFECT_ACCESS:
        set_access(p->site, e);
        break;
    case EFFECT_DROP_LINKS:
        links_ask_again(p->site);
        break;
    case EFFECT_CONNECT:
        link_choose(p->site, e);
        break;
    case EFFECT_CLOSE:
        link_close(p->site, e->to);
        break;
    case EFFECT_STOP:
        trace(p->w, p->site, "stop");
        break;
    }
    return point(p);
}

void process_end(struct world_process *p)
{
    if (p->core)
        p->type->free(p->core);
    p->core = NULL;
    p->starting = false;
    p->life++;
    p->died_of = 0;
    effects_reset(&p->fx);
    effects_done(&p->late);
    store_abort(p->txn);
    p->txn = NULL;
    memset(p->timers, 0, sizeof p->timers);
}

/* A full store only needs another life of the core. Else it doubles while the starts follow closely, to a
 * minute. */
static int64_t backoff(struct world_process *p)
{
    if (p->died_of == ERR_MAP_FULL && p->w->now - p->booted > 10 * NS_PER_S)
        return IPC_LATENCY;
    if (p->w->now - p->booted > 5 * 60 * NS_PER_S)
        p->short_lives = 0;
    else if (p->short_lives < 6)
        p->short_lives++;
    return WORKER_BACKOFF << (p->short_lives ? p->short_lives - 1 : 0);
}

static void start_again(struct world *w, void *ctx)
{
    (void)w;
    site_start(ctx);
}

/* As the driver does: undo, drop what was to be sent, start again from the store after a moment. */
static void step_failed(struct world_process *p, int rc)
{
    struct world_counts *c = &p->site->counts;
    c->step_errors++;
    c->last_error = rc;
    snprintf(c->last_error_text, sizeof c->last_error_text, "%s", err_text(rc));
    trace(p->w, p->site, "step failed: %s (%s)", err_word(rc), c->last_error_text);
    if (p->is_node) { /* takes its sockets and its worker with it */
        site_crash(p->site);
        world_at(p->w, p->w->now + WORKER_BACKOFF, start_again, p->site);
        return;
    }
    process_end(p);
    p->died_of = rc;
    store_crash(p->store);
    process_start(p, backoff(p));
}

static int run_step(struct world_process *p, const struct input *in)
{
    int rc = p->txn ? 0 : store_begin(p->store, true, &p->txn);
    if (rc)
        return rc;
    if (p->site->full)
        store_fail_after(p->store, 1, ERR_MAP_FULL);
    if (p->fail_alloc)
        p->w->opt.fail_memory(p->fail_alloc, false);
    rc = p->type->step(p->core, p->txn, in, &p->fx);
    if (p->fail_alloc) {
        if (p->w->opt.memory_failed()) {
            trace(p->w, p->site, "allocation %u failed", p->fail_alloc);
            p->fail_alloc = 0;
        }
        p->w->opt.fail_memory(0, false);
    }
    if (p->site->full)
        store_fail_after(p->store, 0, 0); /* where nothing was written the transaction commits */
    if (rc == 0)
        rc = p->fx.err;
    return rc ? rc : store_txn_error(p->txn);
}

/* The commit of one step or of several, then what may leave only after it. A crash on the way ends it. */
void process_flush(struct world_process *p)
{
    if (!p->txn)
        return;
    struct store_txn *txn = p->txn;
    struct effects fx = p->late;
    unsigned life = p->life;
    p->txn = NULL;
    p->late = (struct effects){0};
    int rc = store_commit(txn);
    if (rc) {
        step_failed(p, rc);
        effects_done(&fx);
        return;
    }
    check_committed(p);
    if (p->type->on_commit)
        p->type->on_commit(p);
    bool dead = point(p);
    for (unsigned pass = 0; pass < 2 && !dead; pass++)
        for (size_t i = 0; i < fx.n && !dead && p->life == life; i++)
            if ((fx.list[i].kind == EFFECT_TIMER) == (pass == 1))
                dead = perform(p, &fx.list[i]);
    effects_done(&fx);
}

/* Early sends leave now; the rest moves over to what waits for the commit. False: the process died of it. */
static bool sort_effects(struct world_process *p)
{
    struct effects fx = p->fx; /* the core may not change these any more */
    unsigned life = p->life;
    p->fx = (struct effects){0};
    for (size_t i = 0; i < fx.n && p->life == life; i++) {
        struct effect *e = &fx.list[i];
        if (e->kind == EFFECT_SEND && e->early) {
            perform(p, e);
            continue;
        }
        if (p->late.n == p->late.cap) {
            p->late.cap = p->late.cap ? p->late.cap * 2 : 16;
            p->late.list = must(realloc(p->late.list, p->late.cap * sizeof *p->late.list));
        }
        p->late.list[p->late.n++] = *e;
        e->frame = NULL;
    }
    effects_done(&fx);
    return p->life == life;
}

static void process_step(struct world_process *p, const struct input *given)
{
    struct world *w = p->w;
    struct input in = *given;
    in.now = (struct mono){w->now - p->booted + NS_PER_S};
    in.wall = (struct wall){WALL_START + w->now + p->site->skew};
    if (p->type->on_input)
        p->type->on_input(p, &in);
    int rc = run_step(p, &in);
    if (rc) {
        step_failed(p, rc);
        return;
    }
    if (point(p) || !sort_effects(p))
        return;
    if (chance_below(&w->chance, 1000) >= w->opt.group) {
        process_flush(p);
        return;
    }
    struct event *e = event_new(w, EVENT_FLUSH, w->now + chance_between(&w->chance, 0, GROUP_MOST));
    e->proc = p;
    e->life = p->life;
    event_push(w, e);
}

/* Gives an input to a process that is up; one that is paused gets nothing (the caller defers). */
void process_give(struct world_process *p, const struct input *in)
{
    if (!p->core || p->starting)
        return;
    struct world *w = p->w;
    struct frame f = {0};
    if (in->kind == INPUT_FRAME) {
        int rc = frame_parse(in->body, &f);
        trace(w, p->site, "%sget %s %zu from %u/%u", p->is_node ? "node " : "",
            rc ? err_word(rc) : frame_type_word(f.type), in->body.len, (unsigned)in->from.kind, in->from.id);
        trace_bytes(w, in->body);
        if (!p->is_node && (in->from.kind == PEER_PARENT || in->from.kind == PEER_CHILDREN)) {
            p->site->counts.frames++;
            p->site->counts.bytes += in->body.len;
            if (f.type < COUNT_OF(p->site->counts.by_type))
                p->site->counts.by_type[f.type]++;
            if (f.type == FRAME_HEAD || f.type == FRAME_HINT || f.type == FRAME_DELTA_REPLY ||
                f.type == FRAME_PAGE_REPLY)
                p->site->counts.catalogue_bytes += in->body.len;
        }
    } else {
        static const char *const words[] = {"start", "frame", "timer", "command", "job", "link", "gone"};
        trace(w, p->site, "%s%s %u", p->is_node ? "node " : "", words[in->kind], in->timer);
    }
    process_step(p, in);
}

/* Starting and ending. */

void process_start(struct world_process *p, int64_t delay)
{
    struct world *w = p->w;
    p->life++;
    p->starting = true;
    struct event *e = event_new(w, EVENT_START, w->now + delay);
    e->proc = p;
    e->life = p->life;
    event_push(w, e);
}

static void tell_node_of_worker(struct world_site *s, int status)
{
    struct input in = {.kind = INPUT_LINK, .from = {PEER_WORKER, WORKER_METADATA}, .status = status};
    process_give(&s->node, &in);
}

void process_born(struct world_process *p)
{
    struct world *w = p->w;
    p->booted = w->now;
    p->starts++;
    p->chance.state = chance_next(&w->chance);
    int rc = p->type->make(p, p->store, &p->random, p->config, &p->core);
    if (rc) {
        trace(w, p->site, "cannot start: %s", err_text(rc));
        p->core = NULL;
        process_start(p, WORKER_BACKOFF);
        return;
    }
    p->starting = false;
    unsigned life = p->life;
    process_give(p, &(struct input){.kind = INPUT_START});
    if (!p->core || p->life != life)
        return;
    if (!p->site->has_node)
        shim_hello(p);
    else if (!p->is_node)
        tell_node_of_worker(p->site, 0);
}

void site_update_links(struct world_site *s)
{
    struct world *w = s->w;
    for (unsigned i = 0; i < 2 * w->n_sites; i++) {
        struct world_link *l = link_nth(w, i);
        if (l && (l->parent == s || l->child == s))
            link_update(l);
    }
}

void site_start(struct world_site *s)
{
    if (s->up || (s->has_node && !s->node.type->may_start(&s->node)))
        return;
    s->up = true;
    trace(s->w, s, "starts");
    if (s->has_node)
        process_start(&s->node, IPC_LATENCY);
    process_start(&s->worker, 2 * IPC_LATENCY);
    site_update_links(s);
}

void site_crash(struct world_site *s)
{
    if (!s->up)
        return;
    trace(s->w, s, "crashes");
    s->up = false;
    s->crash_at = 0;
    s->paused_until = 0;
    process_end(&s->worker);
    store_crash(s->worker.store);
    if (s->has_node) {
        process_end(&s->node);
        store_crash(s->node.store);
        s->n_access = 0;
    }
    for (unsigned i = 0; i < 2 * s->w->n_sites; i++) {
        struct world_link *l = link_nth(s->w, i);
        if (l && (l->parent == s || l->child == s))
            link_crashed(l, s);
    }
    site_update_links(s);
}

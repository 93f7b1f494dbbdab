#include "tests/lib/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/world_internal.h"

#define STANDSTILL 100000u

struct world *process_world(struct world_process *p)
{
    return p->w;
}

const char *process_site(const struct world_process *p)
{
    return p->site->code;
}

const char *process_parent(const struct world_process *p)
{
    return p->site->parent ? p->site->parent->code : NULL;
}

bool process_shown(struct world_process *p, struct world_shown *ret_shown)
{
    if (p->has_shown)
        *ret_shown = p->shown;
    return p->has_shown;
}

struct world_counts *process_counts(struct world_process *p)
{
    return &p->site->counts;
}

struct world_site *site_find(struct world *w, const char *code)
{
    for (unsigned i = 0; i < w->n_sites; i++)
        if (strcmp(w->sites[i]->code, code) == 0)
            return w->sites[i];
    fprintf(stderr, "world: no site %s\n", code);
    abort();
}

/* The clock. */

static void process_event(struct event *e)
{
    struct world_process *p = e->proc;
    if (p->life != e->life)
        return;
    struct input in = {
        .timer = e->timer,
        .command = e->command,
        .from = e->from,
        .via = e->via,
        .lane = e->lane,
        .early = e->early,
        .topic = view_str(e->topic),
        .frame = e->frame,
    };
    switch (e->kind) {
    case EVENT_START:
        process_born(p);
        return;
    case EVENT_FLUSH:
        process_flush(p);
        return;
    case EVENT_IPC:
        in.kind = INPUT_FRAME;
        in.body = blob_view(e->frame);
        break;
    case EVENT_TIMER:
        if (!p->timers[e->timer].set || p->timers[e->timer].stamp != e->stamp)
            return;
        p->timers[e->timer].set = false;
        in.kind = INPUT_TIMER;
        break;
    case EVENT_COMMAND:
        in.kind = INPUT_COMMAND;
        in.body = blob_view(e->frame);
        break;
    case EVENT_JOB:
        in.kind = INPUT_JOB;
        in.status = p->type->job(p, e->frame, &in.result);
        in.frame = NULL;
        in.body = in.status ? view_str(err_text(in.status)) : view_of("", 0);
        break;
    default:
        return;
    }
    process_give(p, &in);
}

static bool deferred(struct world *w, struct event *e)
{
    if (!e->proc || !e->proc->site->paused_until || e->proc->life != e->life)
        return false;
    e->at = e->proc->site->paused_until;
    event_push(w, e);
    return true;
}

static void wake_up(struct world *w)
{
    for (unsigned i = 0; i < w->n_sites; i++) {
        struct world_site *s = w->sites[i];
        if (s->paused_until && s->paused_until <= w->now) {
            s->paused_until = 0;
            trace(w, s, "goes on");
            site_update_links(s);
        }
    }
}

static void dispatch(struct world *w, struct event *e)
{
    switch (e->kind) {
    case EVENT_SENT:
    case EVENT_ARRIVE:
    case EVENT_CONNECT:
    case EVENT_LINK:
    case EVENT_SILENCE:
        link_event(e->link, e);
        break;
    case EVENT_CALL:
        e->fn(w, e->ctx);
        break;
    case EVENT_START:
    case EVENT_FLUSH:
    case EVENT_IPC:
    case EVENT_TIMER:
    case EVENT_COMMAND:
    case EVENT_JOB:
        process_event(e);
        break;
    }
}

static bool step_before(struct world *w, int64_t limit)
{
    while (!w->broken && w->n_heap && w->heap[0]->at <= limit) {
        struct event *e = event_pop(w);
        if (e->at > w->now) {
            w->now = e->at;
            w->steps_at_now = 0;
        } else if (++w->steps_at_now > STANDSTILL) {
            world_break(w, "P12", "%u events and the clock stands still", STANDSTILL);
        }
        wake_up(w);
        if (deferred(w, e))
            continue;
        w->steps++;
        dispatch(w, e);
        event_free(e);
        check_links(w);
        return !w->broken;
    }
    return false;
}

bool world_step(struct world *w)
{
    return step_before(w, INT64_MAX);
}

bool world_run_until(struct world *w, bool (*done)(struct world *w, void *ctx), void *ctx, int64_t at_most_ns)
{
    int64_t limit = w->now + at_most_ns;
    while (!w->broken) {
        if (done && done(w, ctx))
            return true;
        if (!step_before(w, limit)) {
            if (!w->broken && w->now < limit)
                w->now = limit;
            return !w->broken && (!done || done(w, ctx));
        }
    }
    return false;
}

bool world_run_for(struct world *w, int64_t ns)
{
    return world_run_until(w, NULL, NULL, ns);
}

bool world_converged(struct world *w)
{
    const struct world_process *first = &w->sites[0]->worker;
    if (!first->has_shown)
        return false;
    for (unsigned i = 1; i < w->n_sites; i++) {
        const struct world_site *s = w->sites[i];
        if (s->up && !s->twin &&
            (!s->worker.has_shown || !hash_eq(&s->worker.shown.head, &first->shown.head)))
            return false;
    }
    return true;
}

static bool converged(struct world *w, void *ctx)
{
    (void)ctx;
    return world_converged(w);
}

bool world_converge(struct world *w, int64_t at_most_ns)
{
    return world_run_until(w, converged, NULL, at_most_ns);
}

void world_at(struct world *w, int64_t at, void (*fn)(struct world *w, void *ctx), void *ctx)
{
    struct event *e = event_new(w, EVENT_CALL, at);
    e->fn = fn;
    e->ctx = ctx;
    event_push(w, e);
}

int64_t world_now(const struct world *w)
{
    return w->now;
}

uint64_t world_steps(const struct world *w)
{
    return w->steps;
}

uint64_t world_random(struct world *w, uint64_t below)
{
    return chance_below(&w->chance, below);
}

/* Making and ending the world. */

static void process_init(
    struct world_process *p, struct world_site *s, const struct world_core *type, const void *config)
{
    p->w = s->w;
    p->site = s;
    p->type = type;
    p->config = config;
    p->random = (struct random_source){chance_fill, &p->chance};
    struct store_options so = {.tables = type->tables, .n_tables = *type->n_tables};
    if (store_open_memory(&so, &p->store)) {
        fprintf(stderr, "world: no store: %s\n", err_text(ERR_DISK));
        abort();
    }
}

void world_add_site(struct world *w, const char *code, const char *parent)
{
    struct world_site *s = must(calloc(1, sizeof *s));
    s->w = w;
    snprintf(s->code, sizeof s->code, "%s", code);
    s->index = w->n_sites;
    process_init(&s->worker, s, w->opt.core, w->opt.config);
    if (w->opt.node) {
        process_init(&s->node, s, w->opt.node, w->opt.node_config);
        s->node.is_node = s->has_node = true;
    }
    if (parent) {
        s->parent = site_find(w, parent);
        s->up_link = must(calloc(1, sizeof *s->up_link));
        s->up_link->w = w;
        s->up_link->parent = s->parent;
        s->up_link->child = s;
    }
    w->sites = must(realloc(w->sites, (w->n_sites + 1) * sizeof(struct world_site *)));
    w->sites[w->n_sites++] = s;
}

void world_start(struct world *w)
{
    for (unsigned i = 0; i < w->n_sites; i++)
        site_start(w->sites[i]);
}

unsigned world_n_sites(const struct world *w)
{
    return w->n_sites;
}

const char *world_site_code(const struct world *w, unsigned i)
{
    return w->sites[i]->code;
}

bool world_is_up(struct world *w, const char *code)
{
    return site_find(w, code)->up;
}

unsigned world_lives(struct world *w, const char *code)
{
    return site_find(w, code)->worker.starts;
}

const struct world_counts *world_counts(struct world *w, const char *code)
{
    return &site_find(w, code)->counts;
}

void world_reset_counts(struct world *w, const char *code)
{
    site_find(w, code)->counts = (struct world_counts){0};
}

struct world *world_new(const struct world_options *opt)
{
    if (crypto_init())
        abort();
    struct world *w = must(calloc(1, sizeof *w));
    w->opt = *opt;
    if (!w->opt.latency_max) {
        w->opt.latency_min = NS_PER_MS;
        w->opt.latency_max = 20 * NS_PER_MS;
    }
    if (!w->opt.queue_bound)
        w->opt.queue_bound = 16 << 20;
    if (!w->opt.shown_every)
        w->opt.shown_every = 500;
    w->chance.state = opt->seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    uint8_t seed[32];
    chance_fill(&w->chance, seed, sizeof seed);
    sign_key_from_seed(seed, &w->head_key);
    w->root_key = w->head_key;
    w->trust_version = 1;
    memcpy(w->first_head_key, w->head_key.public, sizeof w->first_head_key);
    hierarchy_id(w->root_key.public, &w->hierarchy);
    return w;
}

void world_free(struct world *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < w->n_sites; i++) {
        struct world_site *s = w->sites[i];
        process_end(&s->worker);
        effects_done(&s->worker.fx);
        store_close(s->worker.store);
        if (s->has_node) {
            process_end(&s->node);
            effects_done(&s->node.fx);
            store_close(s->node.store);
        }
        if (s->identity_free)
            s->identity_free(s->identity);
        hostile_free(s->hostile);
        free(s->access);
        free(s->fetched.slots);
        free(s->arriving);
        free(s->notes);
        blob_free(s->to_be_signed);
        if (s->up_link)
            link_done(s->up_link);
        if (s->probe_link)
            link_done(s->probe_link);
        free(s);
    }
    for (size_t i = 0; i < w->n_heap; i++)
        event_free(w->heap[i]);
    if (w->catalogue_free)
        w->catalogue_free(w->catalogue);
    json_decref(w->answer);
    blob_free(w->join_answer);
    buf_done(&w->trust);
    free(w->heads);
    free(w->heap);
    free(w->sites);
    free(w);
}

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/world_internal.h"

/* What a scenario does to processes and stores, and what it asks the sites. The verbs of links are in
 * world_link.c. */

void world_crash(struct world *w, const char *code)
{
    site_crash(site_find(w, code));
}

void world_restart(struct world *w, const char *code)
{
    site_start(site_find(w, code));
}

void world_kill_worker(struct world *w, const char *code)
{
    struct world_site *s = site_find(w, code);
    if (!s->up)
        return;
    trace(w, s, "worker killed");
    process_end(&s->worker);
    store_crash(s->worker.store);
    process_start(&s->worker, WORKER_BACKOFF);
}

void world_pause(struct world *w, const char *code, int64_t ns)
{
    struct world_site *s = site_find(w, code);
    if (!s->up || s->paused_until)
        return;
    trace(w, s, "paused");
    s->paused_until = w->now + ns;
    site_update_links(s);
}

void world_crash_at(struct world *w, const char *code, unsigned points)
{
    site_find(w, code)->crash_at = points;
}

bool world_crash_pending(struct world *w, const char *code)
{
    return site_find(w, code)->crash_at != 0;
}

unsigned world_points(struct world *w, const char *code)
{
    return site_find(w, code)->points;
}

void world_skew(struct world *w, const char *code, int64_t ns)
{
    site_find(w, code)->skew = ns;
}

void world_fail_write(struct world *w, const char *code, unsigned nth, int err)
{
    store_fail_after(site_find(w, code)->worker.store, nth, err);
}

void world_fail_node_write(struct world *w, const char *code, unsigned nth, int err)
{
    store_fail_after(site_find(w, code)->node.store, nth, err);
}

void world_fail_alloc(struct world *w, const char *code, unsigned nth)
{
    if (nth && !w->opt.fail_memory)
        abort();
    site_find(w, code)->worker.fail_alloc = nth;
}

void world_fail_node_alloc(struct world *w, const char *code, unsigned nth)
{
    if (nth && !w->opt.fail_memory)
        abort();
    site_find(w, code)->node.fail_alloc = nth;
}

void world_lose_send(struct world *w, const char *code, unsigned nth)
{
    site_find(w, code)->lose_send = nth;
}

void world_set_full(struct world *w, const char *code, bool full)
{
    struct world_site *s = site_find(w, code);
    trace(w, s, "store %s", full ? "is full" : "has space");
    s->full = full;
}

/* A store of that size with the same in it; NULL: it does not fit. */
static struct store *copy_of(struct world_process *p, uint64_t bytes)
{
    struct store_options o = {.tables = p->type->tables, .n_tables = *p->type->n_tables, .map_size = bytes};
    struct store *to;
    struct store_txn *read, *write;
    if (store_open_memory(&o, &to))
        abort();
    if (store_begin(p->store, false, &read) || store_begin(to, true, &write))
        abort();
    for (unsigned i = 0; i < o.n_tables; i++) {
        struct store_walk walk = store_walk_from(read, i, view_of("", 0), view_of("", 0));
        while (store_walk_next(&walk))
            store_put(write, i, walk.key, walk.value);
    }
    store_abort(read);
    if (store_commit(write) == 0)
        return to;
    store_close(to);
    return NULL;
}

void world_resize_store(struct world *w, const char *code, uint64_t bytes)
{
    struct world_site *s = site_find(w, code);
    if (s->up)
        abort();
    struct store *to = copy_of(&s->worker, bytes);
    if (!to) {
        world_break(w, "setup", "%s: what it holds does not fit %llu bytes", code, (unsigned long long)bytes);
        return;
    }
    store_close(s->worker.store);
    s->worker.store = to;
}

void world_twin(struct world *w, const char *code)
{
    struct world_site *first = w->sites[0];
    world_add_site(w, code, NULL);
    struct world_site *s = site_find(w, code);
    s->twin = true;
    store_close(s->worker.store);
    s->worker.store = must(copy_of(&first->worker, 0));
    s->signed_generation = first->signed_generation;
    s->signed_epoch = first->signed_epoch;
    s->signed_counter = first->signed_counter;
    s->signed_payload = first->signed_payload;
}

struct store *world_store(struct world *w, const char *code)
{
    return site_find(w, code)->worker.store;
}

static bool answered(struct world *w, void *ctx)
{
    (void)ctx;
    return w->answered;
}

static void give_command(struct world *w, const char *code, const char *command, json_t *args)
{
    struct world_site *s = site_find(w, code);
    json_t *j = must(json_pack("{s:s,s:o}", "command", command, "args", args ? args : json_object()));
    char *text = must(json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS));
    json_decref(j);
    struct event *e = event_new(w, EVENT_COMMAND, w->now + IPC_LATENCY);
    e->proc = s->has_node ? &s->node : &s->worker;
    e->life = e->proc->life;
    e->command = ++w->commands;
    e->from.kind = PEER_NODE;
    e->frame = must(blob_new(text, strlen(text)));
    trace(w, s, "command %s", text);
    free(text);
    event_push(w, e);
}

void world_tell(struct world *w, const char *code, const char *command, json_t *args)
{
    give_command(w, code, command, args);
}

json_t *world_call(struct world *w, const char *code, const char *command, json_t *args)
{
    give_command(w, code, command, args);
    w->waiting_command = w->commands;
    w->answered = false;
    (void)world_run_until(w, answered, NULL, 60 * NS_PER_S);
    json_t *j = w->answer;
    w->answer = NULL;
    w->waiting_command = 0;
    return j;
}

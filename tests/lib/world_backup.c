#include <stdlib.h>

#include "tests/lib/world_internal.h"

/* A site that wakes up with what it held some time ago: a backup, or the snapshot of a machine. */

struct world_backup {
    struct store *worker, *node;
    uint64_t signed_generation, signed_counter;
    struct epoch signed_epoch;
    struct hash signed_payload;
};

static struct store *copy_of(const struct world_process *p)
{
    struct store_options o = {.tables = p->type->tables, .n_tables = *p->type->n_tables};
    struct store *to;
    struct store_txn *read, *write;
    if (store_open_memory(&o, &to) || store_begin(p->store, false, &read) || store_begin(to, true, &write))
        abort();
    for (unsigned i = 0; i < o.n_tables; i++) {
        struct store_walk walk = store_walk_from(read, i, view_of("", 0), view_of("", 0));
        while (store_walk_next(&walk))
            store_put(write, i, walk.key, walk.value);
    }
    store_abort(read);
    if (store_commit(write))
        abort();
    return to;
}

struct world_backup *world_back_up(struct world *w, const char *code)
{
    struct world_site *s = site_find(w, code);
    struct world_backup *b = must(calloc(1, sizeof *b));
    b->worker = copy_of(&s->worker);
    b->node = s->has_node ? copy_of(&s->node) : NULL;
    b->signed_generation = s->signed_generation;
    b->signed_counter = s->signed_counter;
    b->signed_epoch = s->signed_epoch;
    b->signed_payload = s->signed_payload;
    return b;
}

void world_go_back(struct world *w, const char *code, struct world_backup *b)
{
    struct world_site *s = site_find(w, code);
    if (s->up)
        abort();
    trace(w, s, "wakes up with an old store");
    store_close(s->worker.store);
    s->worker.store = b->worker;
    s->worker.has_shown = false;
    s->times_back++;
    s->checked_counter = s->checked_trust = 0;
    if (b->node) {
        store_close(s->node.store);
        s->node.store = b->node;
    }
    s->signed_generation = b->signed_generation;
    s->signed_counter = b->signed_counter;
    s->signed_epoch = b->signed_epoch;
    s->signed_payload = b->signed_payload;
    free(b);
}

struct store *world_node_store(struct world *w, const char *code)
{
    return site_find(w, code)->node.store;
}

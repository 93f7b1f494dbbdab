#include <stdlib.h>

#include "tests/lib/world_internal.h"

/* The properties that hold after every step. What the first site shows is what it published under its own
 * signature; so it is noted once per head, and everybody else is compared with it. */

static int probe(struct world_process *p, bool deep, struct world_shown *ret_shown)
{
    struct store_txn *txn;
    int rc = store_begin(p->store, false, &txn);
    if (rc)
        return rc;
    rc = p->type->probe(p, txn, deep, ret_shown);
    store_abort(txn);
    return rc;
}

static struct seen_head *find_seen(struct world *w, const struct world_shown *s)
{
    for (size_t i = w->n_heads; i-- > 0;)
        if (w->heads[i].generation == s->generation && epoch_eq(&w->heads[i].epoch, &s->epoch))
            return &w->heads[i];
    return NULL;
}

static void note_head(struct world *w, const struct world_shown *s)
{
    if (w->n_heads == w->cap_heads) {
        w->cap_heads = w->cap_heads ? w->cap_heads * 2 : 64;
        w->heads = must(realloc(w->heads, w->cap_heads * sizeof *w->heads));
    }
    w->heads[w->n_heads++] = (struct seen_head){
        .epoch = s->epoch,
        .generation = s->generation,
        .head = s->head,
        .root = s->root,
        .content = s->content,
        .records = s->records,
    };
}

static void check_against_origin(struct world_process *p, const struct world_shown *s)
{
    struct world *w = p->w;
    const char *code = p->site->code;
    struct seen_head *seen = find_seen(w, s);
    if (!seen && !p->site->parent) {
        note_head(w, s);
        return;
    }
    if (!seen)
        world_break(w, "P1", "%s shows generation %llu, which the first site never showed", code,
            (unsigned long long)s->generation);
    else if (!hash_eq(&seen->head, &s->head))
        world_break(
            w, "P1", "%s shows another head of generation %llu", code, (unsigned long long)s->generation);
    else if (!hash_eq(&seen->root, &s->root))
        world_break(
            w, "P3", "%s has another root at generation %llu", code, (unsigned long long)s->generation);
    else if (!hash_eq(&seen->content, &s->content) || seen->records != s->records)
        world_break(w, "P3", "%s has other records at generation %llu (%llu, not %llu)", code,
            (unsigned long long)s->generation, (unsigned long long)s->records,
            (unsigned long long)seen->records);
}

void check_committed(struct world_process *p)
{
    struct world *w = p->w;
    if (!p->type->probe || p->site->twin)
        return;
    struct world_shown s = {0};
    int rc = probe(p, false, &s);
    if (rc == ERR_NOT_FOUND) {
        if (p->has_shown)
            world_break(w, "P2", "%s shows nothing any more", p->site->code);
        return;
    }
    if (rc) {
        world_break(w, "probe", "%s: %s", p->site->code, err_text(rc));
        return;
    }
    bool same = p->has_shown && epoch_eq(&s.epoch, &p->shown.epoch);
    if (same && s.generation < p->shown.generation) {
        world_break(w, "P2", "%s goes back from generation %llu to %llu", p->site->code,
            (unsigned long long)p->shown.generation, (unsigned long long)s.generation);
        return;
    }
    bool moved = !same || s.generation != p->shown.generation || !hash_eq(&s.head, &p->shown.head);
    if (moved || chance_below(&w->chance, w->opt.shown_every) == 0) {
        rc = probe(p, true, &s);
        if (rc) {
            world_break(w, "probe", "%s: %s", p->site->code, err_text(rc));
            return;
        }
        if (moved)
            trace(w, p->site, "shows generation %llu, %llu records", (unsigned long long)s.generation,
                (unsigned long long)s.records);
        check_against_origin(p, &s);
    }
    p->shown = s;
    p->has_shown = true;
}

bool world_seen(struct world *w, uint64_t generation, struct world_shown *ret_shown)
{
    for (size_t i = w->n_heads; i-- > 0;)
        if (w->heads[i].generation == generation) {
            const struct seen_head *h = &w->heads[i];
            *ret_shown =
                (struct world_shown){h->epoch, h->generation, h->head, h->root, h->content, h->records};
            return true;
        }
    return false;
}

struct world_shown world_shown(struct world *w, const char *code, bool deep)
{
    struct world_shown s = {0};
    int rc = probe(&site_find(w, code)->worker, deep, &s);
    if (rc && rc != ERR_NOT_FOUND)
        world_break(w, "probe", "%s: %s", code, err_text(rc));
    return s;
}

void check_links(struct world *w)
{
    for (unsigned i = 0; i < 2 * w->n_sites; i++) {
        struct world_link *l = link_nth(w, i);
        for (unsigned d = 0; l && d < 2; d++)
            if (l->ways[d].queued_bytes > w->opt.queue_bound)
                world_break(w, "P11", "%llu bytes wait %s %s", (unsigned long long)l->ways[d].queued_bytes,
                    d ? "for" : "from", l->child->code);
    }
}

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/world_internal.h"

void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "world: no memory\n");
        abort();
    }
    return p;
}

uint64_t chance_next(struct chance *c)
{
    uint64_t z = (c->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t chance_below(struct chance *c, uint64_t below)
{
    return below ? chance_next(c) % below : 0;
}

int64_t chance_between(struct chance *c, int64_t low, int64_t high)
{
    return high > low ? low + (int64_t)chance_below(c, (uint64_t)(high - low)) : low;
}

void chance_fill(void *chance, void *out, size_t len)
{
    uint8_t *o = out;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = chance_next(chance);
        memcpy(o + i, &v, len - i < 8 ? len - i : 8);
    }
}

uint64_t seen_hash(struct view a, struct view b)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ a.len;
    for (size_t i = 0; i < a.len + b.len; i++)
        h = (h ^ (i < a.len ? a.data[i] : b.data[i - a.len])) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    return h ? h : 1;
}

static bool seen_put(uint64_t *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i] && slots[i] != hash)
        i = (i + 1) & (cap - 1);
    bool fresh = slots[i] == 0;
    slots[i] = hash;
    return fresh;
}

bool seen_add(struct seen_set *s, uint64_t hash)
{
    if (s->n * 2 >= s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 256;
        uint64_t *slots = must(calloc(cap, sizeof *slots));
        for (size_t i = 0; i < s->cap; i++)
            if (s->slots[i])
                seen_put(slots, cap, s->slots[i]);
        free(s->slots);
        s->slots = slots;
        s->cap = cap;
    }
    bool fresh = seen_put(s->slots, s->cap, hash);
    s->n += fresh;
    return fresh;
}

bool seen_has(const struct seen_set *s, uint64_t hash)
{
    for (size_t i = hash & (s->cap - 1); s->cap && s->slots[i]; i = (i + 1) & (s->cap - 1))
        if (s->slots[i] == hash)
            return true;
    return false;
}

/* A heap by time, then by the order of making: that order is all that decides, so a seed replays exactly. */
static bool sooner(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

struct event *event_new(struct world *w, enum event_kind kind, int64_t at)
{
    struct event *e = must(calloc(1, sizeof *e));
    e->kind = kind;
    e->at = at;
    e->seq = ++w->seq;
    return e;
}

void event_push(struct world *w, struct event *e)
{
    if (w->n_heap == w->cap_heap) {
        w->cap_heap = w->cap_heap ? w->cap_heap * 2 : 256;
        w->heap = must(realloc(w->heap, w->cap_heap * sizeof(struct event *)));
    }
    size_t i = w->n_heap++;
    while (i > 0 && sooner(e, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
}

struct event *event_pop(struct world *w)
{
    if (w->n_heap == 0)
        return NULL;
    struct event *top = w->heap[0], *last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap)
            break;
        if (child + 1 < w->n_heap && sooner(w->heap[child + 1], w->heap[child]))
            child++;
        if (!sooner(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->n_heap)
        w->heap[i] = last;
    return top;
}

void event_free(struct event *e)
{
    if (!e)
        return;
    blob_free(e->frame);
    free(e);
}

void trace_bytes(struct world *w, struct view bytes)
{
    uint64_t h = w->trace_hash ^ (bytes.len * UINT64_C(0x9e3779b97f4a7c15));
    while (bytes.len >= 8) {
        uint64_t v;
        memcpy(&v, bytes.data, 8);
        h = (h ^ v) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
        bytes = view_of(bytes.data + 8, bytes.len - 8);
    }
    for (size_t i = 0; i < bytes.len; i++)
        h = (h ^ bytes.data[i]) * UINT64_C(0x100000001b3);
    w->trace_hash = h ^ (h >> 29);
}

static void put_line(struct world *w, const char *site, const char *text)
{
    char *line = w->trace[w->trace_n++ % TRACE_LINES];
    snprintf(line, sizeof w->trace[0], "%8llu %12.6f %-4s %s", (unsigned long long)w->steps,
        (double)w->now / (double)NS_PER_S, site, text);
    trace_bytes(w, view_str(line));
    if (w->opt.verbose)
        fprintf(stderr, "%s\n", line);
}

void trace(struct world *w, const struct world_site *s, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_line(w, s ? s->code : "-", text);
}

void world_note(struct world *w, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_line(w, "-", text);
}

void world_break(struct world *w, const char *property, const char *fmt, ...)
{
    if (w->broken)
        return; /* the first one is the one to look at */
    int n = snprintf(w->breach, sizeof w->breach, "%s: ", property);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(w->breach + n, sizeof w->breach - (size_t)n, fmt, ap);
    va_end(ap);
    w->broken = true;
    world_note(w, "BROKEN %s", w->breach);
}

const char *world_breach(const struct world *w)
{
    return w->broken ? w->breach : NULL;
}

void world_report(const struct world *w)
{
    fprintf(stderr, "world: seed %llu, step %llu, %.6f s\n", (unsigned long long)w->opt.seed,
        (unsigned long long)w->steps, (double)w->now / (double)NS_PER_S);
    uint64_t first = w->trace_n > TRACE_LINES ? w->trace_n - TRACE_LINES : 0;
    for (uint64_t i = first; i < w->trace_n; i++)
        fprintf(stderr, "  %s\n", w->trace[i % TRACE_LINES]);
    fprintf(stderr, "world: %s\n", w->broken ? w->breach : "no property is broken");
    fprintf(stderr, "world: trace %016llx\n", (unsigned long long)w->trace_hash);
    if (w->opt.replay)
        fprintf(stderr, "world: the same again: %s\n", w->opt.replay);
}

void world_verbose(struct world *w, bool on)
{
    w->opt.verbose = on;
}

uint64_t world_trace_hash(const struct world *w)
{
    return w->trace_hash;
}

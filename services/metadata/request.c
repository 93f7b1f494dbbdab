/* What was asked of the parent and not answered: numbers, deadlines, and the credit in bytes that keeps at
 * most two seconds of the measured rate in flight (protocol.md 3). The window opens as answers come, like a
 * slow start. */
#include <stdlib.h>

#include "services/metadata/core.h"

#define WINDOW_FIRST (16u * 1024u)
#define CHUNK_LEAST (4u * 1024u)
#define RATE_WINDOW_S 2.0

void wants_done(struct wants *w)
{
    free(w->list);
    *w = (struct wants){0};
}

int wants_push(struct wants *w, struct want one)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        struct want *list = realloc(w->list, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        w->list = list;
        w->cap = cap;
    }
    w->list[w->n++] = one;
    return 0;
}

static void next_deadline(struct metadata *m)
{
    int64_t first = 0;
    for (size_t i = 0; i < m->n_requests; i++)
        if (!first || m->requests[i].deadline.ns < first)
            first = m->requests[i].deadline.ns;
    if (first != m->timers[TIMER_REQUESTS].ns || (first && first < m->now.ns))
        timer_set(m, TIMER_REQUESTS, first ? (first > m->now.ns ? first - m->now.ns : 0) : -1);
}

struct request *request_new(struct metadata *m, enum request_kind kind, struct scope *s, uint32_t asked)
{
    if (m->n_requests == m->cap_requests) {
        size_t cap = m->cap_requests ? m->cap_requests * 2 : 16;
        struct request *list = realloc(m->requests, cap * sizeof *list);
        if (!list)
            return NULL;
        m->requests = list;
        m->cap_requests = cap;
    }
    struct request *r = &m->requests[m->n_requests++];
    *r = (struct request){.id = ++m->next_request,
        .kind = kind,
        .scope = s,
        .sent = m->now,
        .asked = asked,
        .deadline = {m->now.ns + m->opt.request_timeout_ns},
        .delivered_before = m->delivered};
    m->asked_bytes += asked;
    if (m->timers[TIMER_REQUESTS].ns == 0)
        timer_set(m, TIMER_REQUESTS, m->opt.request_timeout_ns);
    return r;
}

struct request *request_find(struct metadata *m, uint64_t id)
{
    for (size_t i = 0; id && i < m->n_requests; i++)
        if (m->requests[i].id == id)
            return &m->requests[i];
    return NULL;
}

bool request_pending(const struct metadata *m, enum request_kind kind, const struct scope *s)
{
    for (size_t i = 0; i < m->n_requests; i++)
        if (m->requests[i].kind == kind && m->requests[i].scope == s)
            return true;
    return false;
}

static void forget(struct metadata *m, struct request *r)
{
    m->asked_bytes -= r->asked;
    if (r->kind == REQUEST_DELTAS)
        r->scope->deltas_asked = false;
    wants_done(&r->expect);
    size_t i = (size_t)(r - m->requests);
    memmove(r, r + 1, (m->n_requests - i - 1) * sizeof *r);
    m->n_requests--;
    if (m->n_requests == 0)
        timer_set(m, TIMER_REQUESTS, -1);
}

void request_end(struct metadata *m, struct request *r, uint64_t bytes)
{
    m->delivered += bytes;
    m->parent_heard = m->parent_answered = m->now;
    if (m->late)
        status_touch(m);
    m->late = 0;
    double took = (double)(m->now.ns - r->sent.ns) / NS_PER_S;
    if (r->kind != REQUEST_HEAD && took > 0) {
        double rate = (double)(m->delivered - r->delivered_before) / took;
        m->rate = rate > m->rate ? rate : m->rate * 0.9 + rate * 0.1;
        m->window += bytes;
        double most = m->rate * RATE_WINDOW_S;
        if ((double)m->window > most)
            m->window = most > WINDOW_FIRST ? (uint64_t)most : WINDOW_FIRST;
        if (m->window > m->opt.window_bytes)
            m->window = m->opt.window_bytes;
    }
    forget(m, r);
}

static void give_back(struct metadata *m, struct request *r)
{
    /* memory for what was in the frontier before is there; on failure the walk starts again from the root */
    for (size_t i = 0; i < r->expect.n; i++)
        if (wants_push(&r->scope->frontier, r->expect.list[i]))
            m->retarget = true;
    r->expect.n = 0;
}

void request_drop_all(struct metadata *m)
{
    while (m->n_requests) {
        struct request *r = &m->requests[m->n_requests - 1];
        if (r->kind == REQUEST_PAGES)
            give_back(m, r);
        forget(m, r);
    }
    m->window = WINDOW_FIRST;
    m->rate = 0;
}

/* A request that is late while others are being answered waits on; one that is late in silence is asked
 * again. */
void request_on_timer(struct metadata *m)
{
    m->timers[TIMER_REQUESTS].ns = 0;
    bool alive = m->parent_heard.ns && m->now.ns - m->parent_heard.ns < m->opt.request_timeout_ns / 2;
    for (size_t i = m->n_requests; i-- > 0;) {
        struct request *r = &m->requests[i];
        if (r->deadline.ns > m->now.ns)
            continue;
        if (alive && m->now.ns - r->sent.ns < 6 * m->opt.request_timeout_ns) {
            r->deadline.ns = m->now.ns + m->opt.request_timeout_ns / 2;
            continue;
        }
        if (r->kind == REQUEST_PAGES)
            give_back(m, r);
        if (r->kind == REQUEST_HEAD)
            m->head_failures++;
        m->late++;
        char took[24];
        state_failure(m, "no answer for %s to a request for %s", duration_text(m->now.ns - r->sent.ns, took),
            r->kind == REQUEST_HEAD     ? "the head"
            : r->kind == REQUEST_DELTAS ? "deltas"
                                        : "pages");
        m->window = m->window / 2 > WINDOW_FIRST ? m->window / 2 : WINDOW_FIRST;
        forget(m, r);
    }
    next_deadline(m);
}

uint32_t request_room(const struct metadata *m)
{
    uint64_t window = m->window ? m->window : WINDOW_FIRST;
    return m->asked_bytes < window ? (uint32_t)(window - m->asked_bytes) : 0;
}

uint32_t request_chunk(const struct metadata *m)
{
    uint64_t chunk = (m->window ? m->window : WINDOW_FIRST) / 4;
    if (chunk > m->opt.chunk_bytes)
        chunk = m->opt.chunk_bytes;
    return chunk < CHUNK_LEAST ? CHUNK_LEAST : (uint32_t)chunk;
}

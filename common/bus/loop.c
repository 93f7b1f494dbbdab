#include "common/bus/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

_Static_assert(
    LOOP_IN == ZMQ_POLLIN && LOOP_OUT == ZMQ_POLLOUT && LOOP_ERR == ZMQ_POLLERR, "events are passed on");

struct loop_watch {
    struct loop *loop;
    void *socket;
    int fd, events;
    loop_fn *fn; /* NULL: deleted, to be freed after the turn */
    void *ctx;
};

struct post {
    struct post *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop {
    const struct clock *clock;
    struct mono now;
    struct loop_watch **watches;
    zmq_pollitem_t *items; /* items[i] belongs to watches[i], as of the last rebuild */
    size_t n, cap;
    bool changed;
    struct loop_timer **heap; /* from 1; the earliest first */
    size_t n_set, n_timers, heap_cap;
    int wake;
    pthread_mutex_t mutex; /* for the posts */
    struct post *first, **last;
    atomic_bool stop;
};

static void on_wake(void *ctx, int events);

int loop_new(const struct clock *clock, struct loop **ret_loop)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->clock = clock;
    l->now = clock_mono(clock);
    l->last = &l->first;
    pthread_mutex_init(&l->mutex, NULL);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct loop_watch *w;
    int rc = l->wake < 0 ? -errno : loop_add_fd(l, l->wake, LOOP_IN, on_wake, l, &w);
    if (rc) {
        loop_free(l);
        return rc;
    }
    *ret_loop = l;
    return 0;
}

static struct post *take_posts(struct loop *l)
{
    pthread_mutex_lock(&l->mutex);
    struct post *p = l->first;
    l->first = NULL;
    l->last = &l->first;
    pthread_mutex_unlock(&l->mutex);
    return p;
}

static void run_posts(struct loop *l)
{
    for (struct post *p = take_posts(l), *next; p; p = next) {
        next = p->next;
        p->fn(p->ctx);
        free(p);
    }
}

static void on_wake(void *ctx, int events)
{
    struct loop *l = ctx;
    uint64_t n;
    (void)events;
    while (read(l->wake, &n, sizeof n) < 0 && errno == EINTR)
        ;
    run_posts(l);
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    run_posts(l);
    for (size_t i = 0; i < l->n; i++)
        free(l->watches[i]);
    for (size_t i = 1; i <= l->n_set; i++)
        l->heap[i]->at.ns = 0;
    if (l->wake >= 0)
        close(l->wake);
    pthread_mutex_destroy(&l->mutex);
    free(l->watches);
    free(l->items);
    free(l->heap);
    free(l);
}

static void wake(struct loop *l)
{
    uint64_t one = 1;
    while (write(l->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    wake(l);
}

bool loop_stopping(const struct loop *l)
{
    return atomic_load(&l->stop);
}

int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct post *p = malloc(sizeof *p);
    if (!p)
        return -ENOMEM;
    *p = (struct post){NULL, fn, ctx};
    pthread_mutex_lock(&l->mutex);
    *l->last = p;
    l->last = &p->next;
    pthread_mutex_unlock(&l->mutex);
    wake(l);
    return 0;
}

struct mono loop_now(const struct loop *l)
{
    return l->now;
}

const struct clock *loop_clock(const struct loop *l)
{
    return l->clock;
}

/* Watches. */

static int grow_watches(struct loop *l)
{
    size_t cap = l->cap ? l->cap * 2 : 16;
    struct loop_watch **watches = realloc(l->watches, cap * sizeof(struct loop_watch *));
    if (!watches)
        return -ENOMEM;
    l->watches = watches;
    zmq_pollitem_t *items = realloc(l->items, cap * sizeof *items);
    if (!items)
        return -ENOMEM;
    l->items = items;
    l->cap = cap;
    return 0;
}

static int add_watch(struct loop *l, struct loop_watch *from, struct loop_watch **ret_watch)
{
    int rc = l->n == l->cap ? grow_watches(l) : 0;
    struct loop_watch *w = rc ? NULL : malloc(sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = *from;
    l->watches[l->n++] = w;
    l->changed = true;
    *ret_watch = w;
    return 0;
}

int loop_add_fd(struct loop *l, int fd, int events, loop_fn *fn, void *ctx, struct loop_watch **ret_watch)
{
    return add_watch(l, &(struct loop_watch){l, NULL, fd, events, fn, ctx}, ret_watch);
}

int loop_add_socket(
    struct loop *l, void *socket, int events, loop_fn *fn, void *ctx, struct loop_watch **ret_watch)
{
    return add_watch(l, &(struct loop_watch){l, socket, -1, events, fn, ctx}, ret_watch);
}

void loop_set_events(struct loop_watch *w, int events)
{
    if (w->events != events) {
        w->events = events;
        w->loop->changed = true;
    }
}

void loop_del(struct loop_watch *w)
{
    if (!w)
        return;
    w->fn = NULL;
    w->loop->changed = true;
}

/* Frees the deleted watches and writes the items anew. Only between turns: callbacks may delete at any time.
 */
static void rebuild(struct loop *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct loop_watch *w = l->watches[i];
        if (!w->fn) {
            free(w);
            continue;
        }
        l->watches[n] = w;
        l->items[n++] = (zmq_pollitem_t){w->socket, w->fd, (short)w->events, 0};
    }
    l->n = n;
    l->changed = false;
}

/* Timers: a binary heap with the place of each kept in it. */

static void heap_put(struct loop *l, size_t slot, struct loop_timer *t)
{
    l->heap[slot] = t;
    t->slot = slot;
}

static void heap_up(struct loop *l, size_t slot, struct loop_timer *t)
{
    for (; slot > 1 && l->heap[slot / 2]->at.ns > t->at.ns; slot /= 2)
        heap_put(l, slot, l->heap[slot / 2]);
    heap_put(l, slot, t);
}

static void heap_down(struct loop *l, size_t slot, struct loop_timer *t)
{
    for (size_t child; (child = slot * 2) <= l->n_set; slot = child) {
        if (child < l->n_set && l->heap[child + 1]->at.ns < l->heap[child]->at.ns)
            child++;
        if (l->heap[child]->at.ns >= t->at.ns)
            break;
        heap_put(l, slot, l->heap[child]);
    }
    heap_put(l, slot, t);
}

static void heap_remove(struct loop *l, struct loop_timer *t)
{
    size_t slot = t->slot;
    struct loop_timer *last = l->heap[l->n_set--];
    t->slot = 0;
    if (last == t)
        return;
    if (slot > 1 && l->heap[slot / 2]->at.ns > last->at.ns)
        heap_up(l, slot, last);
    else
        heap_down(l, slot, last);
}

int loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(void *ctx), void *ctx)
{
    if (l->n_timers + 2 > l->heap_cap) {
        size_t cap = l->heap_cap ? l->heap_cap * 2 : 32;
        struct loop_timer **heap = realloc(l->heap, cap * sizeof(struct loop_timer *));
        if (!heap)
            return -ENOMEM;
        l->heap = heap;
        l->heap_cap = cap;
    }
    l->n_timers++;
    *t = (struct loop_timer){.loop = l, .fn = fn, .ctx = ctx};
    return 0;
}

void loop_timer_set(struct loop_timer *t, struct mono at)
{
    struct loop *l = t->loop;
    if (t->slot)
        heap_remove(l, t);
    t->at = at;
    if (at.ns)
        heap_up(l, ++l->n_set, t);
}

void loop_timer_in(struct loop_timer *t, int64_t ns)
{
    int64_t at = clock_mono(t->loop->clock).ns + (ns > 0 ? ns : 0);
    loop_timer_set(t, (struct mono){at ? at : 1});
}

void loop_timer_done(struct loop_timer *t)
{
    if (!t->loop)
        return;
    loop_timer_set(t, (struct mono){0});
    t->loop->n_timers--;
    t->loop = NULL;
}

/* Those due at the turn's time. What they set for the past waits for the next turn, so a turn always ends:
 * the count is bounded by what was set when it began. */
static void run_timers(struct loop *l)
{
    for (size_t most = l->n_set; most && l->n_set && l->heap[1]->at.ns <= l->now.ns; most--) {
        struct loop_timer *t = l->heap[1];
        heap_remove(l, t);
        t->at.ns = 0;
        t->fn(t->ctx);
    }
}

static long wait_ms(struct loop *l, int64_t max_ns)
{
    int64_t ns = max_ns;
    if (l->n_set) {
        int64_t left = l->heap[1]->at.ns - clock_mono(l->clock).ns;
        left = left > 0 ? left : 0;
        ns = ns < 0 || left < ns ? left : ns;
    }
    if (ns < 0)
        return -1;
    int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > 3600000 ? 3600000 : (long)ms;
}

int loop_turn(struct loop *l, int64_t max_ns)
{
    if (l->changed)
        rebuild(l);
    size_t n = l->n;
    int found = zmq_poll(l->items, (int)n, wait_ms(l, max_ns));
    if (found < 0 && errno != EINTR)
        return err_fail(-errno, "loop: polling: %s", zmq_strerror(errno));
    l->now = clock_mono(l->clock);
    run_timers(l);
    /* Watches that are added meanwhile lie behind n; the arrays may move, the first n keep their places. */
    for (size_t i = 0; found > 0 && i < n; i++) {
        int events = l->items[i].revents;
        struct loop_watch *w = l->watches[i];
        if (events && w->fn)
            w->fn(w->ctx, events);
    }
    if (l->changed)
        rebuild(l);
    return 0;
}

int loop_run(struct loop *l)
{
    int rc = 0;
    while (!rc && !atomic_load(&l->stop))
        rc = loop_turn(l, -1);
    return rc;
}

#include <stdlib.h>

#include "services/node/driver.h"

#define LANES_MAX (16u << 20)         /* bytes that may wait for one link */
#define FULL_RETRY_NS (2 * NS_PER_MS) /* the sockets have no event for "takes messages again" */

static void pump(struct link *l);

static void on_timer(void *ctx)
{
    pump(ctx);
}

int link_init(struct link *l, struct driver *d, uint32_t session)
{
    *l = (struct link){.driver = d, .session = session, .lanes = lane_set_new(LANES_MAX), .last = CLASS_HEAD};
    if (!l->lanes)
        return -ENOMEM;
    lane_set_rate(l->lanes, loop_now(d->loop), session ? d->opt.down_rate : d->opt.up_rate);
    return loop_timer_init(d->loop, &l->timer, on_timer, l);
}

void link_done(struct link *l)
{
    loop_timer_done(&l->timer);
    lane_set_free(l->lanes);
    assembler_done(&l->in);
    blob_free(l->stuck);
    l->lanes = NULL;
    l->stuck = NULL;
}

static size_t place_of(const struct driver *d, uint32_t session)
{
    size_t lo = 0, hi = d->n_links;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (d->links[mid]->session < session)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct link *link_of(struct driver *d, uint32_t session, bool make)
{
    size_t i = place_of(d, session);
    if (i < d->n_links && d->links[i]->session == session)
        return d->links[i];
    if (!make)
        return NULL;
    if (d->n_links == d->cap_links) {
        size_t cap = d->cap_links ? d->cap_links * 2 : 8;
        struct link **list = realloc(d->links, cap * sizeof *list);
        if (!list)
            return NULL;
        d->links = list;
        d->cap_links = cap;
    }
    struct link *l = malloc(sizeof *l);
    if (!l)
        return NULL;
    if (link_init(l, d, session)) {
        link_done(l);
        free(l);
        return NULL;
    }
    memmove(d->links + i + 1, d->links + i, (d->n_links - i) * sizeof *d->links);
    d->links[i] = l;
    d->n_links++;
    return l;
}

void link_drop(struct driver *d, uint32_t session)
{
    size_t i = place_of(d, session);
    if (i == d->n_links || d->links[i]->session != session)
        return;
    link_done(d->links[i]);
    free(d->links[i]);
    memmove(d->links + i, d->links + i + 1, (d->n_links - i - 1) * sizeof *d->links);
    d->n_links--;
}

void link_drop_all(struct driver *d)
{
    while (d->n_links)
        link_drop(d, d->links[d->n_links - 1]->session);
    free(d->links);
    d->links = NULL;
    d->cap_links = 0;
}

static int hand_over(struct link *l, struct blob *frame)
{
    struct driver *d = l->driver;
    if (l->session)
        return d->server ? bus_server_send(d->server, l->session, frame) : ERR_NETWORK;
    return d->client ? bus_client_send(d->client, frame) : ERR_NETWORK;
}

static void link_lost(struct link *l)
{
    lane_clear(l->lanes);
    blob_free(l->stuck);
    l->stuck = NULL;
    if (!l->session)
        return; /* the client tells its state by itself */
    struct input in = {.kind = INPUT_LINK, .from = {PEER_CHILD, l->session}, .status = ERR_NETWORK};
    driver_input(l->driver, &in);
}

/* Gives the socket what rate and socket take now; the rest comes by the timer. */
static void pump(struct link *l)
{
    struct mono now = clock_mono(loop_clock(l->driver->loop)), at = {0};
    for (;;) {
        struct blob *frame = l->stuck;
        int rc = frame ? 0 : lane_next(l->lanes, now, &frame, &at);
        l->stuck = NULL;
        if (rc == -EAGAIN)
            loop_timer_set(&l->timer, at);
        if (rc == -ENOMEM)
            loop_timer_in(&l->timer, FULL_RETRY_NS);
        if (rc)
            return;
        rc = hand_over(l, frame);
        if (rc == -EAGAIN || rc == -ENOMEM) {
            l->stuck = frame;
            loop_timer_in(&l->timer, FULL_RETRY_NS);
            return;
        }
        blob_free(frame);
        if (rc == ERR_NETWORK) {
            link_lost(l);
            return;
        }
    }
}

void link_send(struct link *l, enum lane_class lane, struct blob *frame)
{
    l->last = lane;
    if (lane_push(l->lanes, loop_now(l->driver->loop), lane, frame))
        return; /* dropped and counted: whoever waits for it asks again */
    if (!l->stuck)
        pump(l);
}

struct blob *link_receive(struct link *l, struct blob *frame)
{
    struct view v = blob_view(frame);
    if (v.len < FRAME_HEADER_LEN || v.data[4] != 0 || v.data[5] != FRAME_FRAGMENT)
        return blob_ref(frame);
    struct blob *whole = NULL;
    if (assembler_push(&l->in, loop_now(l->driver->loop), v, &whole))
        return NULL; /* counted there; the request of it is asked again */
    return whole;
}

void link_rates(struct driver *d)
{
    struct mono now = loop_now(d->loop);
    if (d->up.lanes)
        lane_set_rate(d->up.lanes, now, d->opt.up_rate);
    for (size_t i = 0; i < d->n_links; i++)
        lane_set_rate(d->links[i]->lanes, now, d->opt.down_rate);
}

void links_stats(void *ctx, struct peer peer, struct link_stats *ret_stats)
{
    struct driver *d = ctx;
    const struct link *l = peer.kind == PEER_PARENT ? &d->up : link_of(d, peer.id, false);
    if (!l || !l->lanes)
        return;
    *ret_stats = (struct link_stats){.known = true,
        .queue_bytes = lane_queued_bytes(l->lanes),
        .lane = l->last,
        .rate_limit = lane_rate(l->lanes)};
    for (unsigned c = 0; c < CLASS_COUNT; c++) {
        struct lane_stats s;
        lane_stats(l->lanes, (enum lane_class)c, &s);
        ret_stats->queue += (uint32_t)s.queued;
        ret_stats->lost += s.dropped;
    }
}

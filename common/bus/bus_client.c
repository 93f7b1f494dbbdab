#include "common/bus/bus_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/bus/socket.h"

/* After a lost connection libzmq says in the same breath that it will try again; silence means that it gave
 * up. */
#define GRACE_NS (2 * NS_PER_S)
/* Handshakes that broke off without a word before the watchdog takes over: libzmq starts its own backoff anew
 * at every TCP connection, so it would knock several times a second at a door that never opens (a wrong
 * server key). */
#define BROKEN_MOST 3
#define GOODBYE_MS 200 /* for a last word to leave a socket that is closed */

struct lane {
    struct bus_client *client;
    enum bus_lane lane;
    void *socket;
    struct loop_watch *watch;
    struct monitor *monitor;
    struct loop_timer timer; /* opens, replaces, or looks for a sign of life: see on_timer */
    enum bus_client_state state;
    bool replace; /* the timer is for a new socket */
    unsigned broken, opened;
    int64_t backoff_ns;
    struct mono sign; /* last event of the monitor */
};

struct bus_client {
    struct bus *bus;
    struct loop *loop;
    struct bus_client_options o;
    struct bus_client_events ev;
    struct bus_place place;
    struct lane lanes[BUS_LANES];
    struct bus_client_stats stats;
};

const char *bus_client_state_word(enum bus_client_state state)
{
    static const char *const words[] = {"connecting", "up", "down", "retrying", "refused", "replaced"};
    return (unsigned)state < COUNT_OF(words) ? words[state] : "?";
}

void bus_client_options_default(struct bus_client_options *o)
{
    static const char *const topics[] = {"metadata/", "sync-request", NULL};
    *o = (struct bus_client_options){
        .random = &random_real,
        .topics = topics,
        .reconnect_min_ns = 250 * NS_PER_MS,
        .reconnect_max_ns = 30 * NS_PER_S,
        .connect_timeout_ns = 10 * NS_PER_S,
        .hint_heartbeat_ns = 300 * NS_PER_S,
        .pull_hwm = 256,
        .hint_hwm = 512,
    };
}

/* Evenly within [0, range). */
static int64_t draw(struct bus_client *c, int64_t range)
{
    uint64_t r;
    c->o.random->fill(c->o.random->ctx, &r, sizeof r);
    return range > 0 ? (int64_t)(r % (uint64_t)range) : 0;
}

static void set_state(struct lane *l, enum bus_client_state state, const char *why)
{
    l->state = state;
    if (l->client->ev.on_state)
        l->client->ev.on_state(l->client->ev.ctx, l->lane, state, why);
}

static int64_t dead_after(const struct bus_client *c)
{
    return c->o.dead_after_ns ? c->o.dead_after_ns : 2 * c->o.reconnect_max_ns;
}

/* A new socket after a backoff: doubled each time, from half to one and a half times. */
static void replace_later(struct lane *l)
{
    struct bus_client *c = l->client;
    int64_t base = l->backoff_ns ? l->backoff_ns : c->o.reconnect_min_ns;
    l->backoff_ns = base * 2 < c->o.reconnect_max_ns ? base * 2 : c->o.reconnect_max_ns;
    l->replace = true;
    loop_timer_in(&l->timer, base / 2 + draw(c, base));
}

static void expect_sign(struct lane *l, int64_t ns)
{
    l->sign = loop_now(l->client->loop);
    if (!l->replace)
        loop_timer_in(&l->timer, ns);
}

static void on_lost(struct lane *l)
{
    struct bus_client *c = l->client;
    if (l->state == BUS_UP) {
        c->stats.lost++;
        set_state(l, BUS_DOWN, "the connection was lost");
    }
    expect_sign(l, GRACE_NS);
}

static void on_broken(struct lane *l, unsigned value)
{
    struct bus_client *c = l->client;
    char why[96];
    c->stats.handshakes_failed++;
    snprintf(why, sizeof why, "the handshake broke off (%s): is it the right parent and key?",
        zmq_strerror((int)value));
    if (++l->broken < BROKEN_MOST) {
        set_state(l, BUS_RETRYING, why);
        expect_sign(l, GRACE_NS);
    } else {
        replace_later(l);
        set_state(l, BUS_REFUSED, why);
    }
}

static void on_refused(struct lane *l, const char *fmt, unsigned value)
{
    char why[96];
    l->client->stats.refused++;
    snprintf(why, sizeof why, fmt, value);
    replace_later(l);
    set_state(l, BUS_REFUSED, why);
}

static void on_connected(struct lane *l)
{
    l->client->stats.connected++;
    l->broken = 0;
    l->backoff_ns = 0;
    l->replace = false;
    loop_timer_set(&l->timer, (struct mono){0});
    set_state(l, BUS_UP, "");
}

static void on_monitor(void *ctx, unsigned event, unsigned value, const char *endpoint)
{
    struct lane *l = ctx;
    (void)endpoint;
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
    case ZMQ_EVENT_CONNECT_DELAYED:
        expect_sign(l, dead_after(l->client));
        break;
    case ZMQ_EVENT_CONNECT_RETRIED:
        l->client->stats.retried++;
        expect_sign(l, dead_after(l->client));
        if (l->state == BUS_CONNECTING)
            set_state(l, BUS_RETRYING, "nobody answers there");
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        on_connected(l);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        on_lost(l);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        on_broken(l, value);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        on_refused(l, "the parent does not admit this site's key (%u)", value);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        on_refused(l, "the other side speaks another protocol (%#x)", value);
        break;
    default:
        break;
    }
}

/* Receiving. */

static bool receive_message(struct bus_client *c, void *socket)
{
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    bool some = zmq_msg_recv(&msg, socket, ZMQ_DONTWAIT) >= 0;
    if (some && message_skip_rest(socket, &msg)) {
        c->stats.malformed++;
    } else if (some) {
        AUTO_BLOB *frame = message_take(&msg);
        if (frame) {
            c->stats.messages_in++;
            c->stats.bytes_in += blob_view(frame).len;
            c->ev.on_message(c->ev.ctx, frame);
        }
    }
    zmq_msg_close(&msg);
    return some;
}

static bool receive_hint(struct bus_client *c, void *socket)
{
    zmq_msg_t topic, msg;
    zmq_msg_init(&topic);
    zmq_msg_init(&msg);
    bool some = zmq_msg_recv(&topic, socket, ZMQ_DONTWAIT) >= 0;
    bool two = some && zmq_msg_more(&topic) && zmq_msg_recv(&msg, socket, ZMQ_DONTWAIT) >= 0;
    if (some && (!two || message_skip_rest(socket, &msg))) {
        c->stats.malformed++;
    } else if (some) {
        AUTO_BLOB *frame = message_take(&msg);
        if (frame) {
            c->stats.hints_in++;
            c->stats.hint_bytes_in += zmq_msg_size(&topic) + blob_view(frame).len;
            c->ev.on_hint(c->ev.ctx, view_of(zmq_msg_data(&topic), zmq_msg_size(&topic)), frame);
        }
    }
    zmq_msg_close(&topic);
    zmq_msg_close(&msg);
    return some;
}

static void on_readable(void *ctx, int events)
{
    struct lane *l = ctx;
    (void)events;
    for (int i = 0; i < LOOP_BURST; i++)
        if (!(l->lane == BUS_PULL ? receive_message : receive_hint)(l->client, l->socket))
            break;
}

/* Opening. */

static void close_lane(struct lane *l)
{
    monitor_close(l->monitor);
    loop_del(l->watch);
    socket_close(l->socket);
    l->monitor = NULL;
    l->watch = NULL;
    l->socket = NULL;
}

static int subscribe(struct lane *l)
{
    for (const char *const *t = l->client->o.topics; *t; t++)
        if (strlen(*t) > BUS_TOPIC_MAX || zmq_setsockopt(l->socket, ZMQ_SUBSCRIBE, *t, strlen(*t)))
            return err_fail(-errno, "subscribing to '%s'", *t);
    return 0;
}

static int open_lane(struct lane *l)
{
    struct bus_client *c = l->client;
    bool pull = l->lane == BUS_PULL;
    int64_t min_ms = c->o.reconnect_min_ns / NS_PER_MS;
    struct socket_options o = {.type = pull ? ZMQ_DEALER : ZMQ_SUB,
        .hwm = pull ? c->o.pull_hwm : c->o.hint_hwm,
        .send_buffer = c->o.send_buffer,
        .linger_ms = pull ? GOODBYE_MS : 0,
        .heartbeat_ns = pull ? c->o.pull_heartbeat_ns : c->o.hint_heartbeat_ns,
        .side = SOCKET_UPWARD,
        /* libzmq's own jitter is small against its doubled interval; an interval of its own keeps each child
           apart. */
        .reconnect_ms = (int)(min_ms + draw(c, min_ms)),
        .reconnect_max_ms = (int)(c->o.reconnect_max_ns / NS_PER_MS),
        .connect_timeout_ms = (int)(c->o.connect_timeout_ns / NS_PER_MS),
        .key = &c->o.key,
        .server_key = c->place.key,
        .immediate = pull};
    l->opened++;
    int rc = socket_open(c->bus, &o, &l->socket);
    if (!rc && !pull)
        rc = subscribe(l);
    if (!rc)
        rc = monitor_open(c->bus, c->loop, l->socket, on_monitor, l, &l->monitor);
    if (!rc)
        rc = loop_add_socket(c->loop, l->socket, LOOP_IN, on_readable, l, &l->watch);
    if (!rc)
        rc = socket_connect(l->socket, pull ? c->place.pull : c->place.hints);
    if (rc)
        close_lane(l);
    return rc;
}

static void on_timer(void *ctx)
{
    struct lane *l = ctx;
    struct bus_client *c = l->client;
    bool first = l->opened == 0, wanted = l->lane == BUS_PULL || c->place.hints[0];
    bool silent = !l->replace && !first;
    l->replace = false;
    close_lane(l);
    if (!wanted)
        return;
    int rc = open_lane(l);
    if (rc) {
        replace_later(l);
        set_state(l, BUS_RETRYING, err_text(rc));
        return;
    }
    expect_sign(l, dead_after(c));
    if (!first) {
        c->stats.replaced++;
        set_state(l, BUS_REPLACED, silent ? "the old socket had given up" : "");
    }
    set_state(l, BUS_CONNECTING, "");
}

static void start(struct lane *l, int64_t spread_ns)
{
    l->replace = true;
    l->broken = 0;
    l->backoff_ns = 0;
    loop_timer_in(&l->timer, draw(l->client, spread_ns));
}

static int check_place(const struct bus_place *p)
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    int rc = socket_address(p->pull, false, endpoint);
    return rc || !p->hints[0] ? rc : socket_address(p->hints, false, endpoint);
}

int bus_client_open(struct bus *b, struct loop *l, const struct bus_client_options *o,
    const struct bus_place *place, const struct bus_client_events *ev, struct bus_client **ret_client)
{
    int rc = check_place(place);
    struct bus_client *c = rc ? NULL : calloc(1, sizeof *c);
    if (!c)
        return rc ? rc : -ENOMEM;
    c->bus = b;
    c->loop = l;
    c->o = *o;
    c->ev = *ev;
    c->place = *place;
    for (unsigned i = 0; i < BUS_LANES && !rc; i++) {
        c->lanes[i].client = c;
        c->lanes[i].lane = (enum bus_lane)i;
        rc = loop_timer_init(l, &c->lanes[i].timer, on_timer, &c->lanes[i]);
    }
    if (rc) {
        bus_client_close(c);
        return rc;
    }
    for (unsigned i = 0; i < BUS_LANES; i++)
        start(&c->lanes[i], o->start_spread_ns);
    *ret_client = c;
    return 0;
}

void bus_client_close(struct bus_client *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < BUS_LANES; i++) {
        loop_timer_done(&c->lanes[i].timer);
        close_lane(&c->lanes[i]);
    }
    secret_wipe(&c->o.key, sizeof c->o.key);
    free(c);
}

int bus_client_move(struct bus_client *c, const struct bus_place *place)
{
    int rc = check_place(place);
    if (rc)
        return rc;
    c->place = *place;
    bus_client_restart(c);
    return 0;
}

void bus_client_restart(struct bus_client *c)
{
    for (unsigned i = 0; i < BUS_LANES; i++)
        start(&c->lanes[i], 0);
}

/* Sending. */

int bus_client_send(struct bus_client *c, struct blob *frame)
{
    struct lane *l = &c->lanes[BUS_PULL];
    size_t len = blob_view(frame).len;
    zmq_msg_t msg;
    if (len > BUS_MESSAGE_MAX)
        return err_fail(ERR_TOO_LARGE, "a frame of %zu bytes, the limit is %d", len, BUS_MESSAGE_MAX);
    if (l->state != BUS_UP || l->replace)
        return err_fail(ERR_NETWORK, "the parent at %s is not connected", c->place.pull);
    int rc = message_wrap(&msg, frame);
    if (rc)
        return rc;
    if (zmq_msg_send(&msg, l->socket, ZMQ_DONTWAIT) < 0) {
        rc = -errno;
        zmq_msg_close(&msg);
        c->stats.full += rc == -EAGAIN;
        return rc;
    }
    c->stats.messages_out++;
    c->stats.bytes_out += len;
    return 0;
}

bool bus_client_is_up(const struct bus_client *c, enum bus_lane lane)
{
    return c->lanes[lane].state == BUS_UP && !c->lanes[lane].replace;
}

void bus_client_stats(const struct bus_client *c, struct bus_client_stats *ret_stats)
{
    *ret_stats = c->stats;
}

#include "common/bus/bus_server.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/bus/session.h"
#include "common/bus/socket.h"

#define SWEEP_NS (60 * NS_PER_S)
#define REBIND_FIRST_NS (5 * NS_PER_MS)
#define REBIND_MOST_NS (1 * NS_PER_S)
#define REBIND_TROUBLE 20 /* tries after which an operator is told: about 10 s */

struct bus_server {
    struct bus *bus;
    struct loop *loop;
    struct bus_server_events ev;
    struct bus_server_options o; /* its strings are not used after opening */
    void *socket[BUS_LANES];
    struct loop_watch *watch[BUS_LANES];
    struct monitor *monitor[BUS_LANES];
    char endpoint[BUS_LANES][SOCKET_ENDPOINT_MAX]; /* with tcp:// */
    struct session_table *sessions;
    struct loop_timer sweep, rebind;
    int64_t rebind_ns;
    unsigned rebind_tries;
    struct bus_server_stats stats;
};

static const char *address(const char *endpoint)
{
    return endpoint[0] ? endpoint + strlen("tcp://") : endpoint;
}

void bus_server_options_default(struct bus_server_options *o)
{
    *o = (struct bus_server_options){
        .pull_hwm = 256,
        .hint_hwm = 512,
        .session_idle_ns = 1800 * NS_PER_S,
        .sessions_per_user = 8,
    };
}

/* Receiving. */

static void gone(struct bus_server *s, struct session *x)
{
    uint32_t number = x->number;
    session_remove(s->sessions, x);
    if (s->ev.on_gone)
        s->ev.on_gone(s->ev.ctx, number);
}

/* The session of a routing id. An id that now speaks for another user is another connection. */
static struct session *session_of(struct bus_server *s, struct view id, const char *user)
{
    struct session *x = session_find(s->sessions, id);
    if (x && strcmp(x->user, user) != 0) {
        gone(s, x);
        x = NULL;
    }
    if (!x) {
        struct session *old = session_surplus(s->sessions, user, s->o.sessions_per_user);
        if (old)
            gone(s, old);
        if (session_add(s->sessions, id, user, &x))
            return NULL;
    }
    x->heard = loop_now(s->loop);
    return x;
}

/* Takes the message when all is well with it. */
static void on_body(struct bus_server *s, struct view id, zmq_msg_t *body)
{
    const char *user = message_user(body);
    struct session *x = user ? session_of(s, id, user) : NULL;
    char name[BUS_USER_MAX + 1];
    if (!x) {
        s->stats.malformed++;
        return;
    }
    uint32_t number = x->number;
    memcpy(name, x->user, sizeof name);
    AUTO_BLOB *frame = message_take(body);
    if (!frame)
        return; /* as if lost: the child asks again */
    s->stats.messages_in++;
    s->stats.bytes_in += blob_view(frame).len;
    s->ev.on_message(s->ev.ctx, number, name, frame);
}

static bool receive(struct bus_server *s)
{
    void *socket = s->socket[BUS_PULL];
    zmq_msg_t id, body;
    zmq_msg_init(&id);
    zmq_msg_init(&body);
    bool some = zmq_msg_recv(&id, socket, ZMQ_DONTWAIT) >= 0;
    if (some && zmq_msg_more(&id) && zmq_msg_recv(&body, socket, ZMQ_DONTWAIT) >= 0) {
        if (message_skip_rest(socket, &body))
            s->stats.malformed++;
        else
            on_body(s, view_of(zmq_msg_data(&id), zmq_msg_size(&id)), &body);
    }
    zmq_msg_close(&id);
    zmq_msg_close(&body);
    return some;
}

static void on_pull(void *ctx, int events)
{
    struct bus_server *s = ctx;
    (void)events;
    for (int i = 0; i < LOOP_BURST && receive(s); i++)
        ;
}

/* Subscriptions come as messages: 1 or 0 and the topic. Unread ones would pile up. */
static void on_hint(void *ctx, int events)
{
    struct bus_server *s = ctx;
    (void)events;
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    for (int i = 0; i < LOOP_BURST && zmq_msg_recv(&msg, s->socket[BUS_HINT], ZMQ_DONTWAIT) >= 0; i++) {
        struct view v = view_of(zmq_msg_data(&msg), zmq_msg_size(&msg));
        const char *user = message_user(&msg);
        if (s->ev.on_subscribe && user && v.len && v.data[0] == 1)
            s->ev.on_subscribe(s->ev.ctx, user, view_of(v.data + 1, v.len - 1));
    }
    zmq_msg_close(&msg);
}

static void on_monitor(void *ctx, unsigned event, unsigned value, const char *endpoint)
{
    struct bus_server *s = ctx;
    char text[128];
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        s->stats.accepted++;
        break;
    case ZMQ_EVENT_ACCEPT_FAILED:
        s->stats.accept_failed++;
        snprintf(text, sizeof text, "cannot accept at %.60s: %.40s", endpoint, zmq_strerror((int)value));
        if (s->ev.on_trouble)
            s->ev.on_trouble(s->ev.ctx, -(int)value, text);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        s->stats.disconnected++;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        s->stats.handshakes++;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        s->stats.handshakes_failed++;
        break;
    default:
        break;
    }
}

static void on_sweep(void *ctx)
{
    struct bus_server *s = ctx;
    struct mono before = {loop_now(s->loop).ns - s->o.session_idle_ns};
    for (struct session *x; (x = session_stale(s->sessions, before));)
        gone(s, x);
    loop_timer_in(&s->sweep, SWEEP_NS);
}

/* Opening. */

static int open_socket(struct bus_server *s, enum bus_lane lane)
{
    bool pull = lane == BUS_PULL;
    struct socket_options o = {.type = pull ? ZMQ_ROUTER : ZMQ_XPUB,
        .hwm = pull ? s->o.pull_hwm : s->o.hint_hwm,
        .send_buffer = pull ? s->o.send_buffer : 0,
        .heartbeat_ns = pull ? s->o.pull_heartbeat_ns : s->o.hint_heartbeat_ns,
        .side = SOCKET_DOWNWARD,
        .key = &s->o.key,
        .zap_domain = pull ? SOCKET_ZAP_DOMAIN : SOCKET_ZAP_DOMAIN_HINT,
        .mandatory = pull,
        .verbose = !pull};
    return socket_open(s->bus, &o, &s->socket[lane]);
}

static void close_lane(struct bus_server *s, enum bus_lane lane)
{
    monitor_close(s->monitor[lane]);
    loop_del(s->watch[lane]);
    socket_close(s->socket[lane]);
    s->monitor[lane] = NULL;
    s->watch[lane] = NULL;
    s->socket[lane] = NULL;
}

static int bind_lane(struct bus_server *s, enum bus_lane lane, const char *host_port)
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    int rc = monitor_open(s->bus, s->loop, s->socket[lane], on_monitor, s, &s->monitor[lane]);
    if (!rc)
        rc = loop_add_socket(
            s->loop, s->socket[lane], LOOP_IN, lane == BUS_PULL ? on_pull : on_hint, s, &s->watch[lane]);
    if (!rc)
        rc = socket_bind(s->socket[lane], host_port, endpoint);
    if (!rc)
        memcpy(s->endpoint[lane], endpoint, sizeof endpoint);
    return rc;
}

static int open_lane(struct bus_server *s, enum bus_lane lane, const char *host_port)
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    int rc = socket_address(host_port, true, endpoint);
    if (!rc)
        rc = open_socket(s, lane);
    if (!rc)
        rc = bus_check_door(s->bus, s->socket[lane], &s->o.key);
    if (!rc)
        rc = bind_lane(s, lane, host_port);
    return err_wrap(rc, lane == BUS_PULL ? "pull lane" : "hint lane");
}

static void try_rebind(struct bus_server *s)
{
    int rc = s->socket[BUS_HINT] ? 0 : open_socket(s, BUS_HINT);
    if (!rc)
        rc = bind_lane(s, BUS_HINT, address(s->endpoint[BUS_HINT]));
    if (!rc) {
        s->stats.rebinds++;
        return;
    }
    close_lane(s, BUS_HINT);
    /* The old listener is closed by the I/O thread in its own time: the first try mostly comes too early. */
    if (++s->rebind_tries % REBIND_TROUBLE == 0 && s->ev.on_trouble)
        s->ev.on_trouble(s->ev.ctx, rc, err_text(rc));
    loop_timer_in(&s->rebind, s->rebind_ns);
    s->rebind_ns = s->rebind_ns * 2 < REBIND_MOST_NS ? s->rebind_ns * 2 : REBIND_MOST_NS;
}

static void on_rebind(void *ctx)
{
    struct bus_server *s = ctx;
    close_lane(s, BUS_HINT);
    try_rebind(s);
}

void bus_server_rebind_hints(struct bus_server *s)
{
    if (!s->endpoint[BUS_HINT][0])
        return;
    s->rebind_ns = REBIND_FIRST_NS;
    s->rebind_tries = 0;
    loop_timer_in(&s->rebind, 0);
}

int bus_server_open(struct bus *b, struct loop *l, const struct bus_server_options *o,
    const struct bus_server_events *ev, struct bus_server **ret_server)
{
    struct bus_server *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->bus = b;
    s->loop = l;
    s->o = *o;
    s->ev = *ev;
    int rc = session_table_new(&s->sessions);
    if (!rc)
        rc = loop_timer_init(l, &s->sweep, on_sweep, s);
    if (!rc)
        rc = loop_timer_init(l, &s->rebind, on_rebind, s);
    if (!rc)
        rc = open_lane(s, BUS_PULL, o->pull);
    if (!rc && o->hints)
        rc = open_lane(s, BUS_HINT, o->hints);
    if (rc) {
        bus_server_close(s);
        return rc;
    }
    loop_timer_in(&s->sweep, SWEEP_NS);
    *ret_server = s;
    return 0;
}

void bus_server_close(struct bus_server *s)
{
    if (!s)
        return;
    loop_timer_done(&s->sweep);
    loop_timer_done(&s->rebind);
    close_lane(s, BUS_PULL);
    close_lane(s, BUS_HINT);
    session_table_free(s->sessions);
    secret_wipe(&s->o.key, sizeof s->o.key);
    free(s);
}

const char *bus_server_endpoint(const struct bus_server *s, enum bus_lane lane)
{
    return address(s->endpoint[lane]);
}

uint16_t bus_server_port(const struct bus_server *s, enum bus_lane lane)
{
    const char *colon = strrchr(address(s->endpoint[lane]), ':');
    return colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
}

/* Sending. */

static int too_large(size_t len)
{
    return err_fail(ERR_TOO_LARGE, "a frame of %zu bytes, the limit is %d", len, BUS_MESSAGE_MAX);
}

int bus_server_send(struct bus_server *s, uint32_t session, struct blob *frame)
{
    size_t len = blob_view(frame).len;
    struct session *x = session_get(s->sessions, session);
    zmq_msg_t body;
    if (len > BUS_MESSAGE_MAX)
        return too_large(len);
    if (!x)
        return err_fail(ERR_NETWORK, "session %u is gone", session);
    int rc = message_wrap(&body, frame);
    if (rc)
        return rc;
    if (zmq_send(s->socket[BUS_PULL], x->id, x->id_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        int e = errno;
        zmq_msg_close(&body);
        if (e == EAGAIN) {
            s->stats.full++;
            return -EAGAIN;
        }
        s->stats.unreachable++;
        session_remove(s->sessions, x);
        return err_fail(ERR_NETWORK, "session %u: %s", session, zmq_strerror(e));
    }
    /* ROUTER chose the queue with the id; from there on nothing is refused. */
    if (zmq_msg_send(&body, s->socket[BUS_PULL], ZMQ_DONTWAIT) < 0) {
        int e = errno;
        zmq_msg_close(&body);
        return err_fail(-e, "session %u: %s", session, zmq_strerror(e));
    }
    s->stats.messages_out++;
    s->stats.bytes_out += len;
    return 0;
}

const char *bus_server_user(const struct bus_server *s, uint32_t session)
{
    struct session *x = session_get(s->sessions, session);
    return x ? x->user : NULL;
}

void bus_server_forget(struct bus_server *s, uint32_t session)
{
    struct session *x = session_get(s->sessions, session);
    if (x)
        session_remove(s->sessions, x);
}

int bus_server_publish(struct bus_server *s, const char *topic, struct blob *frame)
{
    size_t len = blob_view(frame).len, topic_len = strlen(topic);
    zmq_msg_t body;
    if (topic_len == 0 || topic_len > BUS_TOPIC_MAX)
        return err_fail(ERR_MALFORMED, "a topic has 1 to %d bytes", BUS_TOPIC_MAX);
    if (len > BUS_MESSAGE_MAX)
        return too_large(len);
    if (!s->socket[BUS_HINT] || !s->watch[BUS_HINT])
        return err_fail(ERR_NETWORK, "the hint lane is not open");
    int rc = message_wrap(&body, frame);
    if (rc)
        return rc;
    if (zmq_send(s->socket[BUS_HINT], topic, topic_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&body, s->socket[BUS_HINT], ZMQ_DONTWAIT) < 0) {
        int e = errno;
        zmq_msg_close(&body);
        return err_fail(-e, "hint %s: %s", topic, zmq_strerror(e));
    }
    s->stats.hints_out++;
    s->stats.hint_bytes_out += len + topic_len;
    return 0;
}

void bus_server_stats(const struct bus_server *s, struct bus_server_stats *ret_stats)
{
    *ret_stats = s->stats;
    ret_stats->sessions = session_count(s->sessions);
}

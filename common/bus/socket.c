#include "common/bus/socket.h"

#include <stdio.h>
#include <stdlib.h>

/* In the header of DRAFT builds only, but a stable 4.3.4 takes it; without it a missing ZAP handler lets
 * everybody in. */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

struct setter {
    void *socket;
    int rc;
};

static void set(struct setter *s, int option, const void *value, size_t len, const char *name)
{
    if (!s->rc && zmq_setsockopt(s->socket, option, value, len))
        s->rc = err_fail(-errno, "socket option %s: %s", name, zmq_strerror(errno));
}

static void set_int(struct setter *s, int option, int value, const char *name)
{
    set(s, option, &value, sizeof value, name);
}
#define SET_INT(s, option, value) set_int((s), (option), (value), #option)

static void set_curve(struct setter *s, const struct socket_options *o)
{
    if (o->server_key) {
        set(s, ZMQ_CURVE_SERVERKEY, o->server_key, 32, "ZMQ_CURVE_SERVERKEY");
        set(s, ZMQ_CURVE_PUBLICKEY, o->key->public, 32, "ZMQ_CURVE_PUBLICKEY");
    } else {
        SET_INT(s, ZMQ_CURVE_SERVER, 1);
        /* Enforcing means something only together with a domain that is not empty. */
        set(s, ZMQ_ZAP_DOMAIN, o->zap_domain, strlen(o->zap_domain), "ZMQ_ZAP_DOMAIN");
        SET_INT(s, ZMQ_ZAP_ENFORCE_DOMAIN, 1);
    }
    set(s, ZMQ_CURVE_SECRETKEY, o->key->secret, 32, "ZMQ_CURVE_SECRETKEY");
}

static void set_tcp(struct setter *s, const struct socket_options *o)
{
    SET_INT(s, ZMQ_IPV6, 1);
    SET_INT(s, ZMQ_HANDSHAKE_IVL, 10000);
    SET_INT(s, ZMQ_BACKLOG,
        1024); /* after a restart all children come at once; a full backlog costs each a second */
    /* Later than the heartbeats of the link, so that an idle link carries only those. */
    SET_INT(s, ZMQ_TCP_KEEPALIVE, 1);
    SET_INT(s, ZMQ_TCP_KEEPALIVE_IDLE, 300);
    SET_INT(s, ZMQ_TCP_KEEPALIVE_INTVL, 15);
    SET_INT(s, ZMQ_TCP_KEEPALIVE_CNT, 4);
    SET_INT(s, ZMQ_TCP_MAXRT, 60000);
    if (o->send_buffer)
        SET_INT(s, ZMQ_SNDBUF, o->send_buffer);
    if (o->heartbeat_ns) {
        int ms = (int)(o->heartbeat_ns / NS_PER_MS), timeout = ms / 2 > 10000 ? ms / 2 : 10000;
        SET_INT(s, ZMQ_HEARTBEAT_IVL, ms);
        SET_INT(s, ZMQ_HEARTBEAT_TIMEOUT, timeout);
        /* Tells the peer when to give up on us. libzmq 4.3.4 counts it there in milliseconds in 16 bits: a
         * longer time would come out as a short one and cut a link that is well. Without it the peer's own
         * heartbeat decides. */
        int ttl = ms * 2 + timeout;
        SET_INT(s, ZMQ_HEARTBEAT_TTL, ttl <= 65500 ? ttl : 0);
    }
    if (o->reconnect_ms)
        SET_INT(s, ZMQ_RECONNECT_IVL, o->reconnect_ms);
    if (o->reconnect_max_ms)
        SET_INT(s, ZMQ_RECONNECT_IVL_MAX, o->reconnect_max_ms);
    if (o->connect_timeout_ms)
        SET_INT(s, ZMQ_CONNECT_TIMEOUT, o->connect_timeout_ms);
}

int socket_open(struct bus *b, const struct socket_options *o, void **ret_socket)
{
    struct setter s = {zmq_socket(bus_context(b), o->type), 0};
    if (!s.socket)
        return err_fail(-errno, "socket: %s", zmq_strerror(errno));
    int64_t most = BUS_RECEIVE_MAX;
    uint64_t affinity = bus_io_threads(b) > 1 ? o->side : 0;
    SET_INT(&s, ZMQ_LINGER, o->linger_ms);
    SET_INT(&s, ZMQ_SNDHWM, o->hwm);
    SET_INT(&s, ZMQ_RCVHWM, o->hwm);
    set(&s, ZMQ_MAXMSGSIZE, &most, sizeof most, "ZMQ_MAXMSGSIZE");
    if (affinity)
        set(&s, ZMQ_AFFINITY, &affinity, sizeof affinity, "ZMQ_AFFINITY");
    set_tcp(&s, o);
    set_curve(&s, o);
    if (o->mandatory)
        SET_INT(&s, ZMQ_ROUTER_MANDATORY, 1);
    if (o->immediate)
        SET_INT(&s, ZMQ_IMMEDIATE, 1);
    if (o->verbose)
        SET_INT(&s, ZMQ_XPUB_VERBOSE, 1);
    if (s.rc) {
        socket_close(s.socket);
        return s.rc;
    }
    *ret_socket = s.socket;
    return 0;
}

void socket_close(void *socket)
{
    if (socket)
        zmq_close(socket);
}

int socket_address(const char *host_port, bool bind, char ret_endpoint[SOCKET_ENDPOINT_MAX])
{
    const char *colon = strrchr(host_port, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    size_t host = colon ? (size_t)(colon - host_port) : 0;
    if (!colon || end == colon + 1 || *end || port < (bind ? 0 : 1) || port > 65535 || (host == 0 && !bind))
        return err_fail(ERR_CONFIG, "'%.100s' is not host:port", host_port);
    if (host > 255 || strcspn(host_port, "/; ") < strlen(host_port))
        return err_fail(ERR_CONFIG, "'%.100s' is not a host name or address with a port", host_port);
    if (memchr(host_port, ':', host) && (host_port[0] != '[' || host_port[host - 1] != ']'))
        return err_fail(ERR_CONFIG, "'%.100s': an IPv6 address stands in brackets, [::1]:7710", host_port);
    if (host == 0)
        snprintf(ret_endpoint, SOCKET_ENDPOINT_MAX, "tcp://*:%ld", port);
    else
        snprintf(ret_endpoint, SOCKET_ENDPOINT_MAX, "tcp://%.*s:%ld", (int)host, host_port, port);
    return 0;
}

/* With IPv6 on, an IPv4 address comes back as tcp://[::ffff:127.0.0.1]:7710. */
static void write_v4_plainly(char *endpoint)
{
    static const char mapped[] = "tcp://[::ffff:";
    char *from = endpoint + sizeof mapped - 1, *close = strchr(endpoint, ']');
    if (!close || strncmp(endpoint, mapped, sizeof mapped - 1) != 0)
        return;
    char *to = endpoint + strlen("tcp://");
    size_t host = (size_t)(close - from);
    memmove(to, from, host);
    memmove(to + host, close + 1, strlen(close + 1) + 1);
}

int socket_bind(void *socket, const char *host_port, char ret_endpoint[SOCKET_ENDPOINT_MAX])
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    size_t len = SOCKET_ENDPOINT_MAX;
    int rc = socket_address(host_port, true, endpoint);
    if (rc)
        return rc;
    if (zmq_bind(socket, endpoint)) {
        int e = errno;
        rc = e == EADDRINUSE || e == ENOMEM || e == EMFILE ? -e : ERR_CONFIG;
        return err_fail(rc, "cannot listen on %s: %s", host_port, zmq_strerror(e));
    }
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, ret_endpoint, &len))
        return err_fail(-errno, "no endpoint of %s: %s", host_port, zmq_strerror(errno));
    write_v4_plainly(ret_endpoint);
    return 0;
}

int socket_connect(void *socket, const char *host_port)
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    int rc = socket_address(host_port, false, endpoint);
    if (rc)
        return rc;
    if (zmq_connect(socket, endpoint))
        return err_fail(ERR_CONFIG, "cannot connect to %s: %s", host_port, zmq_strerror(errno));
    return 0;
}

/* Messages. */

static void release_message(void *arg)
{
    zmq_msg_close(arg);
    free(arg);
}

struct blob *message_take(zmq_msg_t *msg)
{
    zmq_msg_t *own = malloc(sizeof *own);
    if (!own)
        return NULL;
    zmq_msg_init(own);
    zmq_msg_move(own, msg);
    return blob_wrap(zmq_msg_data(own), zmq_msg_size(own), release_message, own);
}

static void release_blob(void *data, void *blob)
{
    (void)data;
    blob_free(blob);
}

int message_wrap(zmq_msg_t *msg, struct blob *frame)
{
    struct view v = blob_view(frame);
    blob_ref(frame);
    /* libzmq wants it writable but does not write: a message with several receivers is shared by them. */
    if (zmq_msg_init_data(msg, (void *)(uintptr_t)v.data, v.len, release_blob, frame)) {
        blob_free(frame);
        return -ENOMEM;
    }
    return 0;
}

bool message_skip_rest(void *socket, zmq_msg_t *last)
{
    if (!zmq_msg_more(last))
        return false;
    zmq_msg_t part;
    zmq_msg_init(&part);
    bool more = true;
    while (more && zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) >= 0)
        more = zmq_msg_more(&part);
    zmq_msg_close(&part);
    return true;
}

const char *message_user(zmq_msg_t *last)
{
    const char *user = zmq_msg_gets(last, "User-Id");
    return user && *user ? user : NULL;
}

/* Monitors. */

struct monitor {
    void *socket, *reader;
    struct loop_watch *watch;
    monitor_fn *fn;
    void *ctx;
};

static const int watched = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_DELAYED | ZMQ_EVENT_CONNECT_RETRIED |
                           ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

int monitor_open_raw(struct bus *b, void *socket, void **ret_reader)
{
    char name[64];
    int none = 0;
    snprintf(name, sizeof name, "inproc://monitor-%u", bus_number(b));
    void *reader = zmq_socket(bus_context(b), ZMQ_PAIR);
    if (!reader)
        return err_fail(-errno, "monitor: %s", zmq_strerror(errno));
    /* No limit at the reader: a full monitor would stop the I/O thread. */
    if (zmq_setsockopt(reader, ZMQ_LINGER, &none, sizeof none) ||
        zmq_setsockopt(reader, ZMQ_RCVHWM, &none, sizeof none) || zmq_socket_monitor(socket, name, watched) ||
        zmq_connect(reader, name)) {
        int e = errno;
        zmq_socket_monitor(socket, NULL, 0);
        zmq_close(reader);
        return err_fail(-e, "monitor: %s", zmq_strerror(e));
    }
    *ret_reader = reader;
    return 0;
}

void monitor_close_raw(void *socket, void *reader)
{
    zmq_socket_monitor(socket, NULL, 0);
    zmq_close(reader);
}

/* One event: u16 number and u32 value (native order) in the first part, the endpoint in the second. 0 when
 * none waits. */
static unsigned read_event(void *reader, unsigned *ret_value, char endpoint[SOCKET_ENDPOINT_MAX])
{
    zmq_msg_t msg;
    uint16_t event = 0;
    uint32_t value = 0;
    zmq_msg_init(&msg);
    if (zmq_msg_recv(&msg, reader, ZMQ_DONTWAIT) == sizeof event + sizeof value) {
        memcpy(&event, zmq_msg_data(&msg), sizeof event);
        memcpy(&value, (uint8_t *)zmq_msg_data(&msg) + sizeof event, sizeof value);
        endpoint[0] = 0;
        if (zmq_msg_more(&msg) && zmq_msg_recv(&msg, reader, ZMQ_DONTWAIT) >= 0)
            snprintf(
                endpoint, SOCKET_ENDPOINT_MAX, "%.*s", (int)zmq_msg_size(&msg), (char *)zmq_msg_data(&msg));
        *ret_value = value;
    }
    zmq_msg_close(&msg);
    return event;
}

unsigned monitor_next(void *reader, int max_ms, unsigned *ret_value)
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    zmq_pollitem_t item = {reader, 0, ZMQ_POLLIN, 0};
    return zmq_poll(&item, 1, max_ms) > 0 ? read_event(reader, ret_value, endpoint) : 0;
}

static void on_event(void *ctx, int events)
{
    struct monitor *m = ctx;
    char endpoint[SOCKET_ENDPOINT_MAX];
    unsigned event, value;
    (void)events;
    for (int i = 0; i < 16 * LOOP_BURST && (event = read_event(m->reader, &value, endpoint)); i++)
        m->fn(m->ctx, event, value, endpoint);
}

int monitor_open(
    struct bus *b, struct loop *l, void *socket, monitor_fn *fn, void *ctx, struct monitor **ret_monitor)
{
    struct monitor *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    *m = (struct monitor){.socket = socket, .fn = fn, .ctx = ctx};
    int rc = monitor_open_raw(b, socket, &m->reader);
    if (!rc && (rc = loop_add_socket(l, m->reader, LOOP_IN, on_event, m, &m->watch)))
        monitor_close_raw(socket, m->reader);
    if (rc) {
        free(m);
        return rc;
    }
    *ret_monitor = m;
    return 0;
}

void monitor_close(struct monitor *m)
{
    if (!m)
        return;
    loop_del(m->watch);
    monitor_close_raw(m->socket, m->reader);
    free(m);
}

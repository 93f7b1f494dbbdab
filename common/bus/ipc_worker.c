#include <stdlib.h>

#include "common/bus/ipc.h"
#include "common/bus/ipc_queue.h"
#include "common/bus/socket.h"

#define IPC_HWM 1024
#define RETRY_NS (2 * NS_PER_MS)
#define CONNECT_NS (10 * NS_PER_S)
#define LINGER_MS 300 /* so that a last word reaches the node */

struct ipc_worker {
    struct loop *loop;
    struct ipc_worker_events ev;
    void *socket;
    struct loop_watch *watch;
    struct monitor *monitor;
    struct loop_timer retry, connect;
    struct ipc_queue queue;
};

static bool receive(struct ipc_worker *w)
{
    zmq_msg_t route;
    struct ipc_message m;
    zmq_msg_init(&route);
    bool some = ipc_receive_parts(w->socket, &route, &m);
    if (some) {
        AUTO_BLOB *frame = m.frame;
        w->ev.on_message(w->ev.ctx, &m);
    }
    zmq_msg_close(&route);
    return some;
}

static void on_readable(void *ctx, int events)
{
    (void)events;
    for (int i = 0; i < LOOP_BURST && receive(ctx); i++)
        ;
}

static void on_monitor(void *ctx, unsigned event, unsigned value, const char *endpoint)
{
    struct ipc_worker *w = ctx;
    (void)value;
    (void)endpoint;
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
        loop_timer_set(&w->connect, (struct mono){0});
    else if (event == ZMQ_EVENT_DISCONNECTED)
        w->ev.on_dead(w->ev.ctx, "the node went away");
}

static void on_not_there(void *ctx)
{
    struct ipc_worker *w = ctx;
    w->ev.on_dead(w->ev.ctx, "the node is not there");
}

static bool flush(struct ipc_worker *w)
{
    while (w->queue.first) {
        int rc = ipc_send_parts(w->socket, NULL, buf_view(&w->queue.first->route), w->queue.first->frame);
        if (rc)
            return false;
        ipc_queue_pop(&w->queue);
    }
    return true;
}

static void on_retry(void *ctx)
{
    struct ipc_worker *w = ctx;
    if (!flush(w))
        loop_timer_in(&w->retry, RETRY_NS);
}

int ipc_worker_send(struct ipc_worker *w, const struct ipc_message *m)
{
    if (m->topic.len > BUS_TOPIC_MAX || blob_view(m->frame).len > BUS_MESSAGE_MAX)
        return err_fail(ERR_TOO_LARGE, "ipc: a frame of %zu bytes, the limit is %d", blob_view(m->frame).len,
            BUS_MESSAGE_MAX);
    if (flush(w)) {
        AUTO_BUF route = {0};
        ipc_route_pack(m, &route);
        int rc = route.err ? route.err : ipc_send_parts(w->socket, NULL, buf_view(&route), m->frame);
        if (rc != -EAGAIN)
            return rc;
    }
    int rc = ipc_queue_push(&w->queue, m);
    if (!rc && !w->retry.at.ns)
        loop_timer_in(&w->retry, RETRY_NS);
    return rc;
}

size_t ipc_worker_waiting(const struct ipc_worker *w)
{
    return w->queue.bytes;
}

int ipc_worker_flush(struct ipc_worker *w, int64_t max_ns)
{
    int64_t end = clock_mono(loop_clock(w->loop)).ns + max_ns;
    while (!flush(w)) {
        int64_t left = end - clock_mono(loop_clock(w->loop)).ns;
        if (left <= 0)
            return err_fail(ERR_TIMEOUT, "ipc: %zu bytes did not leave", w->queue.bytes);
        zmq_pollitem_t item = {w->socket, 0, ZMQ_POLLOUT, 0};
        if (zmq_poll(&item, 1, (long)(left / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return err_fail(-errno, "ipc: %s", zmq_strerror(errno));
    }
    return 0;
}

int ipc_worker_open(struct bus *b, struct loop *l, const char *path, enum worker self,
    const struct ipc_worker_events *ev, struct ipc_worker **ret_worker)
{
    char endpoint[128];
    int rc = ipc_endpoint(path, endpoint);
    struct ipc_worker *w = rc ? NULL : calloc(1, sizeof *w);
    if (!w)
        return rc ? rc : -ENOMEM;
    w->loop = l;
    w->ev = *ev;
    ipc_queue_init(&w->queue);
    struct socket_options o = {.type = ZMQ_DEALER,
        .hwm = IPC_HWM,
        .routing_id = worker_name(self),
        .immediate = true,
        .linger_ms = LINGER_MS};
    rc = loop_timer_init(l, &w->retry, on_retry, w);
    if (!rc)
        rc = loop_timer_init(l, &w->connect, on_not_there, w);
    if (!rc)
        rc = socket_open(b, &o, &w->socket);
    if (!rc)
        rc = monitor_open(b, l, w->socket, on_monitor, w, &w->monitor);
    if (!rc)
        rc = loop_add_socket(l, w->socket, LOOP_IN, on_readable, w, &w->watch);
    if (!rc && zmq_connect(w->socket, endpoint))
        rc = err_fail(ERR_CONFIG, "cannot connect to %s: %s", path, zmq_strerror(errno));
    if (rc) {
        ipc_worker_close(w);
        return rc;
    }
    loop_timer_in(&w->connect, CONNECT_NS);
    *ret_worker = w;
    return 0;
}

void ipc_worker_close(struct ipc_worker *w)
{
    if (!w)
        return;
    loop_timer_done(&w->retry);
    loop_timer_done(&w->connect);
    monitor_close(w->monitor);
    loop_del(w->watch);
    socket_close(w->socket);
    ipc_queue_clear(&w->queue);
    free(w);
}

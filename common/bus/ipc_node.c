#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bus/ipc.h"
#include "common/bus/ipc_queue.h"
#include "common/bus/socket.h"

/* Frames that wait in the library for one worker. In bytes the credit of the links bounds them, and
 * IPC_QUEUE_BYTES what does not fit. */
#define IPC_HWM 1024
/* ROUTER has no event for "this peer takes messages again". */
#define RETRY_NS (2 * NS_PER_MS)

struct ipc_node {
    struct loop *loop;
    struct ipc_node_events ev;
    void *socket;
    struct loop_watch *watch;
    struct loop_timer retry;
    struct ipc_queue queue[WORKER_COUNT];
};

static bool receive(struct ipc_node *n)
{
    zmq_msg_t id, route;
    struct ipc_message m;
    enum worker from;
    zmq_msg_init(&id);
    zmq_msg_init(&route);
    bool some = zmq_msg_recv(&id, n->socket, ZMQ_DONTWAIT) >= 0;
    if (some && zmq_msg_more(&id) && ipc_receive_parts(n->socket, &route, &m)) {
        AUTO_BLOB *frame = m.frame;
        if (worker_from_name(view_of(zmq_msg_data(&id), zmq_msg_size(&id)), &from) == 0)
            n->ev.on_message(n->ev.ctx, from, &m);
    }
    zmq_msg_close(&id);
    zmq_msg_close(&route);
    return some;
}

static void on_readable(void *ctx, int events)
{
    (void)events;
    for (int i = 0; i < LOOP_BURST && receive(ctx); i++)
        ;
}

/* The folder is the access control: whoever may connect is taken for a worker. */
static int check_folder(const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    snprintf(folder, sizeof folder, "%s", path);
    const char *dir = dirname(folder);
    if (stat(dir, &st))
        return err_fail(ERR_CONFIG, "%s: %s", dir, strerrordesc_np(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
        return err_fail(ERR_CONFIG, "%s must be a folder of this user with mode 0700 (it has %04o, owner %u)",
            dir, (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
    return 0;
}

/* Sends what waits for a worker, as far as it goes. */
static void flush(struct ipc_node *n, enum worker w)
{
    struct ipc_queue *q = &n->queue[w];
    while (q->first) {
        int rc = ipc_send_parts(n->socket, worker_name(w), buf_view(&q->first->route), q->first->frame);
        if (rc == -EAGAIN || rc == -ENOMEM)
            return;
        if (rc) {
            ipc_queue_clear(q);
            return;
        }
        ipc_queue_pop(q);
    }
}

static void on_retry(void *ctx)
{
    struct ipc_node *n = ctx;
    bool more = false;
    for (unsigned w = 0; w < WORKER_COUNT; w++) {
        flush(n, (enum worker)w);
        more |= n->queue[w].first != NULL;
    }
    if (more)
        loop_timer_in(&n->retry, RETRY_NS);
}

int ipc_node_send(struct ipc_node *n, enum worker to, const struct ipc_message *m)
{
    struct ipc_queue *q = &n->queue[to];
    if (m->topic.len > BUS_TOPIC_MAX || blob_view(m->frame).len > BUS_MESSAGE_MAX)
        return err_fail(ERR_TOO_LARGE, "ipc: a frame of %zu bytes, the limit is %d", blob_view(m->frame).len,
            BUS_MESSAGE_MAX);
    if (!q->first) {
        AUTO_BUF route = {0};
        ipc_route_pack(m, &route);
        int rc =
            route.err ? route.err : ipc_send_parts(n->socket, worker_name(to), buf_view(&route), m->frame);
        if (rc == ERR_NETWORK)
            return err_fail(rc, "the %s worker is not there", worker_name(to));
        if (rc != -EAGAIN)
            return rc;
    }
    int rc = ipc_queue_push(q, m);
    if (!rc && !n->retry.at.ns)
        loop_timer_in(&n->retry, RETRY_NS);
    return rc;
}

void ipc_node_reset(struct ipc_node *n, enum worker w)
{
    ipc_queue_clear(&n->queue[w]);
}

int ipc_node_open(struct bus *b, struct loop *l, const char *path, const struct ipc_node_events *ev,
    struct ipc_node **ret_node)
{
    char endpoint[128];
    int rc = ipc_endpoint(path, endpoint);
    if (!rc)
        rc = check_folder(path);
    struct ipc_node *n = rc ? NULL : calloc(1, sizeof *n);
    if (!n)
        return rc ? rc : -ENOMEM;
    n->loop = l;
    n->ev = *ev;
    for (unsigned w = 0; w < WORKER_COUNT; w++)
        ipc_queue_init(&n->queue[w]);
    /* A worker that was started again may come before its old connection is seen to be gone. */
    struct socket_options o = {.type = ZMQ_ROUTER, .hwm = IPC_HWM, .mandatory = true, .handover = true};
    rc = loop_timer_init(l, &n->retry, on_retry, n);
    if (!rc)
        rc = socket_open(b, &o, &n->socket);
    if (!rc && zmq_bind(n->socket, endpoint))
        rc = err_fail(ERR_CONFIG, "cannot bind %s: %s", path, zmq_strerror(errno));
    if (!rc)
        rc = loop_add_socket(l, n->socket, LOOP_IN, on_readable, n, &n->watch);
    if (rc) {
        ipc_node_close(n);
        return rc;
    }
    *ret_node = n;
    return 0;
}

void ipc_node_close(struct ipc_node *n)
{
    if (!n)
        return;
    loop_timer_done(&n->retry);
    loop_del(n->watch);
    socket_close(n->socket);
    for (unsigned w = 0; w < WORKER_COUNT; w++)
        ipc_queue_clear(&n->queue[w]);
    free(n);
}

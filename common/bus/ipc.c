#include "common/bus/ipc.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "common/bus/ipc_queue.h"
#include "common/bus/socket.h"

static const char *const names[WORKER_COUNT] = {"metadata", "state", "policy"};

const char *worker_name(enum worker w)
{
    return (unsigned)w < WORKER_COUNT ? names[w] : "?";
}

int worker_from_name(struct view name, enum worker *ret_worker)
{
    for (unsigned i = 0; i < WORKER_COUNT; i++)
        if (view_eq(name, view_str(names[i]))) {
            *ret_worker = (enum worker)i;
            return 0;
        }
    return ERR_NOT_FOUND;
}

enum { ROUTE_VERSION = 1, ROUTE_EARLY = 1 };

void ipc_route_pack(const struct ipc_message *m, struct buf *out)
{
    buf_reserve(out, IPC_ROUTE_LEN + m->topic.len);
    buf_u8(out, ROUTE_VERSION);
    buf_u8(out, (uint8_t)m->peer.kind);
    buf_u8(out, (uint8_t)m->lane);
    buf_u8(out, m->early ? ROUTE_EARLY : 0);
    buf_be32(out, m->peer.id);
    buf_be16(out, (uint16_t)m->topic.len);
    buf_be16(out, 0);
    buf_append_view(out, m->topic);
}

int ipc_route_parse(struct view bytes, struct ipc_message *ret_message)
{
    struct reader r = reader_of(bytes);
    unsigned version = read_u8(&r), kind = read_u8(&r), lane = read_u8(&r), flags = read_u8(&r);
    uint32_t id = read_be32(&r);
    size_t topic_len = read_be16(&r);
    unsigned zero = read_be16(&r);
    if (r.bad || version != ROUTE_VERSION || kind > PEER_NODE || lane >= CLASS_COUNT ||
        flags & ~(unsigned)ROUTE_EARLY || zero || topic_len > BUS_TOPIC_MAX || r.rest.len != topic_len)
        return err_fail(ERR_MALFORMED, "not a route of version %d (%zu bytes)", ROUTE_VERSION, bytes.len);
    *ret_message = (struct ipc_message){.peer = {(enum peer_kind)kind, id},
        .lane = (enum lane_class)lane,
        .early = flags & ROUTE_EARLY,
        .topic = r.rest};
    return 0;
}

/* What waits. */

void ipc_queue_init(struct ipc_queue *q)
{
    *q = (struct ipc_queue){.last = &q->first};
}

void ipc_queue_pop(struct ipc_queue *q)
{
    struct ipc_parked *p = q->first;
    q->first = p->next;
    if (!q->first)
        q->last = &q->first;
    q->bytes -= p->route.len + blob_view(p->frame).len + sizeof *p;
    buf_done(&p->route);
    blob_free(p->frame);
    free(p);
}

void ipc_queue_clear(struct ipc_queue *q)
{
    while (q->first)
        ipc_queue_pop(q);
}

int ipc_queue_push(struct ipc_queue *q, const struct ipc_message *m)
{
    size_t bytes = IPC_ROUTE_LEN + m->topic.len + blob_view(m->frame).len + sizeof(struct ipc_parked);
    if (q->bytes + bytes > IPC_QUEUE_BYTES)
        return err_fail(ERR_BUSY, "ipc: %zu bytes wait already", q->bytes);
    struct ipc_parked *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    ipc_route_pack(m, &p->route);
    if (p->route.err) {
        buf_done(&p->route);
        free(p);
        return -ENOMEM;
    }
    p->frame = blob_ref(m->frame);
    q->bytes += bytes;
    *q->last = p;
    q->last = &p->next;
    return 0;
}

/* On the socket. */

int ipc_send_parts(void *socket, const char *to, struct view route, struct blob *frame)
{
    zmq_msg_t msg;
    int rc = message_wrap(&msg, frame);
    if (rc)
        return rc;
    if ((to && zmq_send(socket, to, strlen(to), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) ||
        zmq_send(socket, route.data, route.len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&msg, socket, ZMQ_DONTWAIT) < 0) {
        rc = errno == EHOSTUNREACH ? ERR_NETWORK : -errno;
        zmq_msg_close(&msg);
    }
    return rc;
}

bool ipc_receive_parts(void *socket, void *route_msg, struct ipc_message *ret_message)
{
    zmq_msg_t *route = route_msg, body;
    zmq_msg_init(&body);
    struct blob *frame = NULL;
    if (zmq_msg_recv(route, socket, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(route) &&
        zmq_msg_recv(&body, socket, ZMQ_DONTWAIT) >= 0 && !message_skip_rest(socket, &body) &&
        ipc_route_parse(view_of(zmq_msg_data(route), zmq_msg_size(route)), ret_message) == 0)
        frame = message_take(&body);
    zmq_msg_close(&body);
    if (frame)
        ret_message->frame = frame;
    return frame != NULL;
}

int ipc_endpoint(const char *path, char ret_endpoint[128])
{
    struct sockaddr_un a;
    if (path[0] != '/' || strlen(path) >= sizeof a.sun_path)
        return err_fail(ERR_CONFIG, "'%s': a local socket needs an absolute path of at most %zu bytes", path,
            sizeof a.sun_path - 1);
    snprintf(ret_endpoint, 128, "ipc://%s", path);
    return 0;
}

#include "common/bus/ipc_stream.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define LENGTHS 8u
#define READ_BYTES (64u * 1024u)
#define READS_MOST 8u /* of one turn */
#define IN_KEEP (256u * 1024u)

struct ipc_parked {
    struct ipc_parked *next;
    struct buf head; /* lengths and route */
    struct blob *frame;
    size_t sent; /* of head and frame together */
};

static void pop(struct ipc_stream *s)
{
    struct ipc_parked *p = s->first;
    s->first = p->next;
    if (!s->first)
        s->last = &s->first;
    s->bytes -= p->head.len + blob_view(p->frame).len + sizeof *p;
    buf_done(&p->head);
    blob_free(p->frame);
    free(p);
}

/* Consumes head. */
static int push(struct ipc_stream *s, struct buf *head, struct blob *frame, size_t sent)
{
    struct ipc_parked *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->head = *head;
    *head = (struct buf){0};
    p->frame = blob_ref(frame);
    p->sent = sent;
    s->bytes += p->head.len + blob_view(frame).len + sizeof *p;
    *s->last = p;
    s->last = &p->next;
    return 0;
}

/* Bytes that the kernel took; 0: none now, or never again (then broken is set). */
static size_t put(struct ipc_stream *s, struct view head, struct view frame, size_t sent)
{
    struct iovec parts[2];
    size_t n = 0;
    if (sent < head.len)
        parts[n++] = (struct iovec){(void *)(uintptr_t)(head.data + sent), head.len - sent};
    size_t from = sent > head.len ? sent - head.len : 0;
    if (from < frame.len)
        parts[n++] = (struct iovec){(void *)(uintptr_t)(frame.data + from), frame.len - from};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = n};
    ssize_t put;
    do
        put = sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (put < 0 && errno == EINTR);
    if (put < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
        ipc_stream_break(s);
    return put > 0 ? (size_t)put : 0;
}

static void want_out(struct ipc_stream *s)
{
    if (s->watch)
        loop_set_events(s->watch, s->first ? LOOP_IN | LOOP_OUT : LOOP_IN);
}

bool ipc_stream_flush(struct ipc_stream *s)
{
    while (s->first && s->fd >= 0 && !s->broken) {
        struct ipc_parked *p = s->first;
        size_t n = put(s, buf_view(&p->head), blob_view(p->frame), p->sent);
        if (n == 0)
            break;
        p->sent += n;
        if (p->sent == p->head.len + blob_view(p->frame).len)
            pop(s);
    }
    want_out(s);
    return s->first == NULL;
}

int ipc_stream_send(struct ipc_stream *s, struct view route, struct blob *frame)
{
    size_t len = blob_view(frame).len, sent = 0;
    AUTO_BUF head = {0};
    if (s->broken)
        return ERR_NETWORK;
    buf_reserve(&head, LENGTHS + route.len);
    buf_be32(&head, (uint32_t)route.len);
    buf_be32(&head, (uint32_t)len);
    buf_append_view(&head, route);
    if (head.err)
        return head.err;
    if (!s->first && s->fd >= 0) {
        sent = put(s, buf_view(&head), blob_view(frame), 0);
        if (sent == head.len + len)
            return 0;
        if (s->broken)
            return ERR_NETWORK;
    }
    if (!sent && s->bytes + head.len + len + sizeof(struct ipc_parked) > IPC_QUEUE_BYTES)
        return err_fail(ERR_BUSY, "ipc: %zu bytes wait already", s->bytes);
    int rc = push(s, &head, frame, sent);
    if (rc && sent) /* half a record has left: nothing can follow it */
        ipc_stream_break(s);
    want_out(s);
    return rc;
}

void ipc_stream_break(struct ipc_stream *s)
{
    s->broken = true;
    while (s->first)
        pop(s);
}

/* Receiving. */

static bool give_records(struct ipc_stream *s)
{
    size_t at = 0;
    bool fine = true;
    while (fine && s->in.len - at >= LENGTHS) {
        struct reader r = reader_of(view_of(s->in.data + at, LENGTHS));
        size_t route = read_be32(&r), frame = read_be32(&r);
        if (route > IPC_ROUTE_LEN + BUS_TOPIC_MAX || frame > BUS_MESSAGE_MAX) {
            fine = false;
            break;
        }
        if (s->in.len - at < LENGTHS + route + frame) {
            buf_reserve(&s->in, LENGTHS + route + frame);
            fine = s->in.err == 0;
            break;
        }
        const uint8_t *p = s->in.data + at + LENGTHS;
        fine = s->ev.on_record(s->ev.ctx, view_of(p, route), view_of(p + route, frame));
        at += LENGTHS + route + frame;
    }
    if (at) {
        memmove(s->in.data, s->in.data + at, s->in.len - at);
        s->in.len -= at;
    }
    if (s->in.len == 0 && s->in.cap > IN_KEEP)
        buf_done(&s->in);
    return fine;
}

/* False: the other side is gone, or speaks something else. */
static bool read_some(struct ipc_stream *s)
{
    for (unsigned i = 0; i < READS_MOST; i++) {
        buf_reserve(&s->in, READ_BYTES);
        if (s->in.err)
            return false;
        size_t room = s->in.cap - s->in.len;
        ssize_t n = recv(s->fd, s->in.data + s->in.len, room, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n <= 0)
            return false;
        s->in.len += (size_t)n;
        if (!give_records(s))
            return false;
        if ((size_t)n < room)
            return true;
    }
    return true;
}

static void on_ready(void *ctx, int events)
{
    struct ipc_stream *s = ctx;
    if (events & LOOP_OUT)
        (void)ipc_stream_flush(s);
    if ((events & (LOOP_IN | LOOP_ERR)) && !read_some(s))
        s->ev.on_closed(s->ev.ctx);
}

void ipc_stream_init(struct ipc_stream *s, struct loop *l, const struct ipc_stream_events *ev)
{
    *s = (struct ipc_stream){.loop = l, .ev = *ev, .fd = -1};
    s->last = &s->first;
}

int ipc_stream_start(struct ipc_stream *s, int fd)
{
    s->fd = fd;
    int rc = loop_add_fd(s->loop, fd, LOOP_IN, on_ready, s, &s->watch);
    if (!rc)
        (void)ipc_stream_flush(s);
    return rc;
}

void ipc_stream_done(struct ipc_stream *s)
{
    if (!s->last)
        return; /* was never initialised */
    loop_del(s->watch);
    if (s->fd >= 0)
        close(s->fd);
    ipc_stream_break(s);
    buf_done(&s->in);
    s->watch = NULL;
    s->fd = -1;
}

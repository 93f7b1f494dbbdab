#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/bus/ipc.h"
#include "common/bus/ipc_stream.h"

#define RETRY_NS (20 * NS_PER_MS)
#define CONNECT_NS (10 * NS_PER_S)

struct ipc_worker {
    struct loop *loop;
    struct ipc_worker_events ev;
    struct ipc_stream stream;
    struct sockaddr_un address;
    struct loop_timer retry; /* until the node is there */
    struct mono give_up;
};

static bool on_record(void *ctx, struct view route, struct view bytes)
{
    struct ipc_worker *w = ctx;
    struct ipc_message m;
    if (ipc_route_parse(route, &m))
        return false;
    AUTO_BLOB *frame = blob_new(bytes.data, bytes.len);
    m.frame = frame;
    if (frame)
        w->ev.on_message(w->ev.ctx, &m);
    return true;
}

static void on_closed(void *ctx)
{
    struct ipc_worker *w = ctx;
    ipc_stream_done(&w->stream);
    w->ev.on_dead(w->ev.ctx, "the node went away");
}

/* 1: it is not there yet. */
static int try_connect(struct ipc_worker *w)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&w->address, sizeof w->address) == 0)
        return ipc_stream_start(&w->stream, fd);
    int e = errno;
    close(fd);
    return e == ENOENT || e == ECONNREFUSED || e == EAGAIN || e == EINTR
               ? 1
               : err_fail(ERR_CONFIG, "cannot connect to %s: %s", w->address.sun_path, strerrordesc_np(e));
}

static void on_retry(void *ctx)
{
    struct ipc_worker *w = ctx;
    int rc = try_connect(w);
    if (rc == 1 && clock_mono(loop_clock(w->loop)).ns < w->give_up.ns)
        loop_timer_in(&w->retry, RETRY_NS);
    else if (rc)
        w->ev.on_dead(w->ev.ctx, "the node is not there");
}

int ipc_worker_send(struct ipc_worker *w, const struct ipc_message *m)
{
    if (m->topic.len > BUS_TOPIC_MAX || blob_view(m->frame).len > BUS_MESSAGE_MAX)
        return err_fail(ERR_TOO_LARGE, "ipc: a frame of %zu bytes, the limit is %d", blob_view(m->frame).len,
            BUS_MESSAGE_MAX);
    AUTO_BUF route = {0};
    ipc_route_pack(m, &route);
    return route.err ? route.err : ipc_stream_send(&w->stream, buf_view(&route), m->frame);
}

size_t ipc_worker_waiting(const struct ipc_worker *w)
{
    return w->stream.bytes;
}

int ipc_worker_flush(struct ipc_worker *w, int64_t max_ns)
{
    int64_t end = clock_mono(loop_clock(w->loop)).ns + max_ns;
    while (!ipc_stream_flush(&w->stream)) {
        int64_t left = end - clock_mono(loop_clock(w->loop)).ns;
        if (left <= 0 || w->stream.fd < 0)
            return err_fail(ERR_TIMEOUT, "ipc: %zu bytes did not leave", w->stream.bytes);
        struct pollfd item = {w->stream.fd, POLLOUT, 0};
        if (poll(&item, 1, (int)(left / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return err_fail(-errno, "ipc: %s", strerrordesc_np(errno));
    }
    return 0;
}

/* The first record: who this is. */
static int say_name(struct ipc_worker *w, enum worker self)
{
    const char *name = worker_name(self);
    AUTO_BLOB *frame = blob_new(name, strlen(name));
    return frame ? ipc_stream_send(&w->stream, (struct view){0}, frame) : -ENOMEM;
}

int ipc_worker_open(struct loop *l, const char *path, enum worker self, const struct ipc_worker_events *ev,
    struct ipc_worker **ret_worker)
{
    struct sockaddr_un a;
    int rc = ipc_address(path, &a);
    struct ipc_worker *w = rc ? NULL : calloc(1, sizeof *w);
    if (!w)
        return rc ? rc : -ENOMEM;
    struct ipc_stream_events stream = {on_record, on_closed, w};
    w->loop = l;
    w->ev = *ev;
    w->address = a;
    w->give_up = (struct mono){clock_mono(loop_clock(l)).ns + CONNECT_NS};
    ipc_stream_init(&w->stream, l, &stream);
    rc = loop_timer_init(l, &w->retry, on_retry, w);
    if (!rc)
        rc = say_name(w, self);
    if (!rc)
        rc = try_connect(w);
    if (rc == 1) {
        loop_timer_in(&w->retry, RETRY_NS);
        rc = 0;
    }
    if (rc) {
        ipc_worker_close(w);
        return rc;
    }
    *ret_worker = w;
    return 0;
}

void ipc_worker_close(struct ipc_worker *w)
{
    if (!w)
        return;
    loop_timer_done(&w->retry);
    ipc_stream_done(&w->stream);
    free(w);
}

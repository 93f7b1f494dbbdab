/* Inside common/bus only: one connection between node and worker. A record is two lengths (be32: route,
 * frame), the route and the frame; a worker's first record has no route and names the worker. What the kernel
 * does not take waits here, in order and with a limit in bytes; it leaves when the socket is writable again.
 * Ownership: a stream owns its descriptor, what came in and what waits. Threading: the loop's thread. */
#pragma once
#include "common/bus/ipc.h"
#include "common/bus/loop.h"

struct ipc_stream_events {
    /* One record; all of it is borrowed. False: it is none, the stream closes. */
    bool (*on_record)(void *ctx, struct view route, struct view frame);
    void (*on_closed)(void *ctx); /* the last call: the stream may be freed in it */
    void *ctx;
};
struct ipc_parked;
struct ipc_stream {
    struct loop *loop;
    struct ipc_stream_events ev;
    int fd; /* -1: not connected yet, or closed */
    struct loop_watch *watch;
    bool broken; /* nothing can be sent any more; what came in is still read */
    struct buf in;
    struct ipc_parked *first, **last;
    size_t bytes; /* that wait */
};

void ipc_stream_init(struct ipc_stream *s, struct loop *l, const struct ipc_stream_events *ev);
/* Takes the descriptor, also on error. -ENOMEM. */
int ipc_stream_start(struct ipc_stream *s, int fd) MUST_CHECK;
void ipc_stream_done(struct ipc_stream *s);
/* Sends, or queues. ERR_BUSY over IPC_QUEUE_BYTES; ERR_NETWORK: broken; -ENOMEM. */
int ipc_stream_send(struct ipc_stream *s, struct view route, struct blob *frame) MUST_CHECK;
bool ipc_stream_flush(struct ipc_stream *s); /* true: nothing waits any more */
/* Drops what waits, and sends nothing more. */
void ipc_stream_break(struct ipc_stream *s);

/* ERR_CONFIG: not absolute, or longer than a socket address takes. */
struct sockaddr_un;
int ipc_address(const char *path, struct sockaddr_un *ret_address) MUST_CHECK;

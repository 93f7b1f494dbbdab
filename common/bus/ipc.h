/* Node and workers of one site, over a local stream socket: the node listens in a folder of mode 0700, each
 * worker connects and says its name. A message is a route (12 bytes and the topic, see ipc_route_pack) and
 * the frame as it is. Not ZeroMQ: its I/O threads on either side would cost two more wake-ups for each
 * message, which a hint pays four times at every site. Ownership: frames in callbacks are borrowed, frames to
 * send too. Threading: the loop's thread of either process. */
#pragma once
#include "common/bus/bus.h"
#include "common/bus/step.h"

/* What goes with a frame. To the node: where it shall go, to the worker: where it came from; PEER_NODE is the
 * node itself. Hints (PEER_CHILDREN) carry a topic. */
struct ipc_message {
    struct peer peer;
    enum lane_class lane;
    bool early;        /* EFFECT_SEND's early; passed on for the statistics */
    struct view topic; /* borrowed; empty when none */
    struct blob *frame;
};

/* Route: version 1, peer kind, lane, flags (1: early), be32 peer id, be16 length of the topic, be16 zero,
 * topic. */
#define IPC_ROUTE_LEN 12
void ipc_route_pack(const struct ipc_message *m, struct buf *out);
/* Fills all but frame; the topic is borrowed from bytes. ERR_MALFORMED. */
int ipc_route_parse(struct view bytes, struct ipc_message *ret_message) MUST_CHECK;

const char *worker_name(enum worker w); /* "metadata"; "?" beyond the enum */
int worker_from_name(struct view name, enum worker *ret_worker) MUST_CHECK; /* ERR_NOT_FOUND */

struct ipc_node;
struct ipc_node_events {
    void (*on_message)(void *ctx, enum worker from, const struct ipc_message *m);
    void *ctx;
};
/* path: RUN/node.ipc. ERR_CONFIG: the folder is not ours alone (0700), the path is too long for a socket (107
 * bytes), or it cannot be bound. */
int ipc_node_open(struct loop *l, const char *path, const struct ipc_node_events *ev,
    struct ipc_node **ret_node) MUST_CHECK;
void ipc_node_close(struct ipc_node *n); /* not from its callbacks; takes NULL */
/* Queues here what the kernel does not take now. ERR_NETWORK: this worker is not there (nothing is queued:
 * it asks again when it comes); ERR_BUSY: IPC_QUEUE_BYTES wait already; -ENOMEM. */
int ipc_node_send(struct ipc_node *n, enum worker to, const struct ipc_message *m) MUST_CHECK;
/* The worker died: drops what waits for it. */
void ipc_node_reset(struct ipc_node *n, enum worker w);

#define IPC_QUEUE_BYTES (64u * 1024 * 1024)

struct ipc_worker;
struct ipc_worker_events {
    void (*on_message)(void *ctx, const struct ipc_message *m);
    /* The node went away, or was not there within 10 s: the worker ends. */
    void (*on_dead)(void *ctx, const char *why);
    void *ctx;
};
int ipc_worker_open(struct loop *l, const char *path, enum worker self, const struct ipc_worker_events *ev,
    struct ipc_worker **ret_worker) MUST_CHECK;
void ipc_worker_close(struct ipc_worker *w);
int ipc_worker_send(
    struct ipc_worker *w, const struct ipc_message *m) MUST_CHECK; /* ERR_BUSY, ERR_NETWORK, -ENOMEM */
size_t ipc_worker_waiting(const struct ipc_worker *w);             /* bytes queued here */
/* Waits until all that was sent is with the kernel and at most max_ns: before a clean end. ERR_TIMEOUT. */
int ipc_worker_flush(struct ipc_worker *w, int64_t max_ns) MUST_CHECK;

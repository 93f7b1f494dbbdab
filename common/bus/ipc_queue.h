/* Inside common/bus only: messages that the library did not take yet, in order, with a limit in bytes.
 * Ownership: a queue owns its copies of the routes and a reference to each frame. Threading: one thread. */
#pragma once
#include "common/bus/ipc.h"

struct ipc_parked {
    struct ipc_parked *next;
    struct buf route;
    struct blob *frame;
};
struct ipc_queue {
    struct ipc_parked *first, **last;
    size_t bytes;
};
void ipc_queue_init(struct ipc_queue *q);
void ipc_queue_clear(struct ipc_queue *q);
/* Takes a reference of its own. ERR_BUSY over IPC_QUEUE_BYTES; -ENOMEM. */
int ipc_queue_push(struct ipc_queue *q, const struct ipc_message *m) MUST_CHECK;
void ipc_queue_pop(struct ipc_queue *q); /* drops the first */

/* Sends [to] [route] [frame]; to is NULL for a DEALER. -EAGAIN, ERR_NETWORK (EHOSTUNREACH), -ENOMEM, -errno.
 */
int ipc_send_parts(void *socket, const char *to, struct view route, struct blob *frame) MUST_CHECK;
/* Receives the route and the frame (the parts behind a ROUTER's id). True when a whole message came;
 * ret_frame is the caller's then, and topic is borrowed from route, which the caller closes in any case. */
bool ipc_receive_parts(void *socket, void *route_msg, struct ipc_message *ret_message);
/* ERR_CONFIG: longer than a socket address takes. */
int ipc_endpoint(const char *path, char ret_endpoint[128]) MUST_CHECK;

/* What stands before a frame on the ipc between a node and its workers: to whom a worker's frame goes, or
 * from whom a frame came that the node passes on. Each message on that ipc has two parts: the route, then the
 * frame. Ownership: the topic is borrowed. Threading: none shared. */
#pragma once
#include "common/bus/step.h"

#define ROUTE_MAX 256
struct route {
    struct peer
        peer; /* worker to node: the destination; node to worker: the source. PEER_NODE: the node itself */
    enum lane_class lane;
    bool early;
    struct view topic; /* PEER_CHILDREN only; may be empty */
};

void route_encode(const struct route *r, struct buf *out);
int route_decode(struct view bytes, struct route *ret_route) MUST_CHECK; /* ERR_MALFORMED */

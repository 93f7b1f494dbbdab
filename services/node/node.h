/* The node's core: links, sessions, sites, invitations, reports, events. It passes the frames of the catalogue between
 * the links and its workers and never looks into them. Pure logic: one input, effects (common/bus/step.h).
 * Inputs: INPUT_FRAME from PEER_PARENT (pull lane), PEER_CHILDREN with a topic (a hint from the parent), PEER_CHILD
 * (id: the session number that the driver made for a connection; user in `user`), PEER_WORKER. */
#pragma once
#include "common/bus/step.h"
#include "common/crypto/crypto.h"
#include "common/store/store.h"

struct node;

struct node_options {
    struct site_code site;
    char tier[16];
    struct hash hierarchy;
    int64_t heartbeat_ns;         /* default 60 s */
    int64_t report_ns;            /* at most this often without a change; default 5 min */
    int64_t not_heard_ns;         /* a child is not-heard after this; default 3 heartbeats */
    int64_t hello_timeout_ns;     /* default 10 s */
    uint64_t down_rate, up_rate;  /* bytes/s for each link, 0 unlimited */
    char advertise[256];          /* host:port of the pull lane, for tokens and grandchildren */
    char advertise_hints[256];
};

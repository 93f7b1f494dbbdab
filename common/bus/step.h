/* How the logic of every daemon meets the world. A core takes one input (stamped with both times) and gives
 * effects; it holds no socket, no clock, no random source. The driver (io.c, or the simulator) performs the
 * effects in this order: early sends, the store's commit, sends, timers. A crash after any of them replays to
 * the same place. Ownership: an input is borrowed for the step; a blob given to an effect is taken.
 * Threading: one thread per core. */
#pragma once
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/id.h"

/* The order in which a link serves what waits (protocol.md, lanes). */
enum lane_class { CLASS_RECALL, CLASS_HEAD, CLASS_STATE, CLASS_BULK, CLASS_COUNT };

enum peer_kind {
    PEER_NONE,
    PEER_PARENT,   /* the pull lane upward; from a core's view always "the parent of now". The node only: id 1
                      is the connection that looks whether another site above is well */
    PEER_CHILD,    /* the pull lane downward; id is the session number that the node gave */
    PEER_CHILDREN, /* the hint lane: to all children (a topic goes with it); as a source: a hint from the
                      parent */
    PEER_WORKER,   /* id is an enum worker; only the node uses it */
    PEER_NODE,     /* only workers use it */
};
struct peer {
    enum peer_kind kind;
    uint32_t id;
};
enum worker { WORKER_METADATA, WORKER_STATE, WORKER_POLICY, WORKER_COUNT };

enum input_kind {
    INPUT_START,   /* once, before all others; the store holds what the last life left */
    INPUT_FRAME,   /* frame from `from`; topic is set for hints */
    INPUT_TIMER,   /* timer is due */
    INPUT_COMMAND, /* an operator's request: command id, JSON text in body */
    INPUT_JOB,     /* a job ended: job id in timer, result in status, text in body */
    INPUT_LINK, /* the node only: the connection to `from` came up (status 0) or is gone (status: why); from
                   is PEER_PARENT, PEER_CHILD or PEER_WORKER */
    INPUT_GONE, /* whoever waits for replies to `command` has gone away */
};
struct input {
    enum input_kind kind;
    struct mono now;
    struct wall wall;
    struct peer from;
    struct view topic;
    struct view user; /* the node, from PEER_CHILD: the user id that ZAP gave the connection's key */
    struct peer via; /* the node, from PEER_WORKER: where the worker sent it; PEER_NODE: to the node itself */
    enum lane_class lane; /* with via: the class that the worker asked for */
    bool early;           /* with via: may leave before a commit */
    struct view body;     /* a whole frame (common/wire/frame.h), or JSON text */
    struct blob *frame;   /* the same bytes as body where the driver has them as a blob; may be NULL */
    unsigned timer;       /* INPUT_TIMER and INPUT_JOB */
    uint64_t command; /* INPUT_COMMAND: goes into the reply; from PEER_PARENT: the number of the connection,
                         as in EFFECT_CONNECT (0: not known) */
    int status;       /* INPUT_JOB: 0 or an enum err */
    void *result;     /* INPUT_JOB: what the job made; the core takes it (its type goes with the job) */
};

enum effect_kind {
    EFFECT_SEND,
    EFFECT_TIMER,
    EFFECT_REPLY,
    EFFECT_JOB,
    EFFECT_DROP_LINKS,
    EFFECT_STOP,
    EFFECT_ACCESS,  /* the node: from now on the 32-byte link key in frame has the user id in topic; empty:
                       none */
    EFFECT_CONNECT, /* the node: make the connections of `to` (PEER_PARENT) anew, to the Place in frame (none:
                       only end them), and number what comes over them with command; id 1 has a pull lane only
                     */
    EFFECT_CLOSE,   /* the node: forget the connection `to` (a child's session) and what waits for it */
};
struct effect {
    enum effect_kind kind;
    struct peer to;
    struct peer via; /* to a worker: whom the worker sees as the sender (its input's `from`) */
    enum lane_class lane;
    bool early;         /* may leave before the commit (only what the origin made durable already) */
    char topic[200];    /* PEER_CHILDREN (to or via) only; libzmq 4.3.4 loses topics of 246 to 255 bytes */
    struct blob *frame; /* SEND: the frame; REPLY: JSON text; JOB: its argument */
    unsigned timer;     /* TIMER, JOB: the core's own number */
    struct mono at;     /* TIMER: when; 0 stops it */
    uint64_t command;   /* REPLY */
    bool more;          /* REPLY: further replies to the same command follow */
};
struct effects {
    struct effect *list;
    size_t n, cap;
    int err; /* -ENOMEM once an effect could not be queued; the driver then aborts the step */
};

void effects_done(struct effects *fx); /* frees the frames that were not taken */
void effects_reset(struct effects *fx);
/* All take the blob, also on error, and a NULL blob sets err. */
void effects_send(struct effects *fx, struct peer to, enum lane_class lane, struct blob *frame);
void effects_send_early(struct effects *fx, struct peer to, enum lane_class lane, struct blob *frame);
void effects_publish(
    struct effects *fx, const char *topic, enum lane_class lane, struct blob *frame, bool early);
/* To a worker, as if it came from `via`; topic may be empty. */
void effects_worker(
    struct effects *fx, enum worker worker, struct peer via, struct view topic, struct blob *frame);
void effects_access(struct effects *fx, const uint8_t link_key[32], const char *user);
void effects_connect(struct effects *fx, struct peer to, uint64_t number, struct blob *place);
void effects_disconnect(struct effects *fx, struct peer to);
void effects_close(struct effects *fx, struct peer peer);
void effects_timer(struct effects *fx, unsigned timer, struct mono at);
void effects_reply(struct effects *fx, uint64_t command, bool more, struct blob *json);
void effects_job(struct effects *fx, unsigned job, struct blob *argument);
void effects_drop_links(struct effects *fx); /* the node: rebind the hint lane, so that ZAP is asked again */
void effects_stop(struct effects *fx);

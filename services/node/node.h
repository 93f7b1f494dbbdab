/* The node's core: links, sessions, sites, invitations, reports, events. It passes the frames of the
 * catalogue between the links and its workers and never looks into them. Pure logic: one input, effects
 * (common/bus/step.h). Reading order: tables.c, trust.c, token.c, join.c; then what comes in: session.c,
 * uplink.c, failover.c, place.c, chain.c, relay.c, invite.c, heard.c, sign.c, command.c; what is told:
 * report.c, class.c, events.c, tree.c, explain.c; and node.c (dispatch). Threading: one thread per node.
 *
 * Inputs: INPUT_FRAME from PEER_PARENT (pull lane), PEER_CHILDREN with a topic (a hint from the parent),
 * PEER_CHILD (id: the session number that the driver made for a connection, never given twice; user: what ZAP
 * said about its key: a site code, or "invite:<id>"), PEER_WORKER (via, lane, early: what the worker asked
 * for). INPUT_LINK tells what the transport saw. EFFECT_ACCESS fills the driver's ZAP table; at INPUT_START
 * it comes before the first frame. */
#pragma once
#include "common/bus/step.h"
#include "common/crypto/crypto.h"
#include "common/store/store.h"

struct node;

#define PROBE 1 /* id of PEER_PARENT: the connection that looks whether a nearer site above is well again */

#define NODE_PARENTS_MAX 4
/* Where a site is reached. */
struct node_place {
    char endpoint[256]; /* host:port of the pull lane */
    char hints[256];    /* host:port of the hint lane */
    uint8_t link_key[32];
    struct site_code code;
};

/* What only the driver knows about a link; all zero where nobody knows. */
struct link_stats {
    bool known;
    uint64_t queue_bytes, lost;
    uint32_t queue;       /* frames */
    enum lane_class lane; /* of what was sent last */
    uint64_t rate_limit;  /* bytes/s towards the peer, 0 unlimited */
};

struct node_options {
    struct site_code site;
    char tier[16];
    struct hash hierarchy;
    int64_t heartbeat_ns;        /* default 60 s */
    int64_t report_ns;           /* at most this often without a change; default 5 min */
    int64_t not_heard_ns;        /* a neighbour is not heard after this; default 3 heartbeats */
    int64_t hello_timeout_ns;    /* default 10 s */
    int64_t orphan_ns;           /* without a site above for this long: an orphan; default 5 min */
    uint64_t down_rate, up_rate; /* bytes/s for each link, 0 unlimited */
    uint32_t child_window; /* bytes that one child may have asked for and not been sent; default 8 MiB */
    char advertise[256];   /* host:port of the pull lane, for tokens and grandchildren */
    char advertise_hints[256];
    struct node_place parents[NODE_PARENTS_MAX]; /* none at the central site */
    unsigned n_parents;
    unsigned pid;                                                                  /* for ping */
    void (*link_stats)(void *ctx, struct peer peer, struct link_stats *ret_stats); /* may be NULL */
    void *link_stats_ctx;
};
/* The times of all of the above; the rest zero. */
void node_options_default(struct node_options *o);

/* Keys of the site. The hierarchy's root key is never here. */
struct node_keys {
    struct sign_key site;
    struct link_key link;
    struct sign_key head; /* central site only */
    bool has_head;
    struct view chain; /* bytes of its Chain (DIR/site.chain); borrowed for node_new only */
};

/* The tables of its store, in order; for store_open_*. */
extern const char *const node_tables[];
extern const unsigned node_n_tables;

/* The core borrows store (for statistics only) and random for its life. ERR_SIGNATURE, ERR_KEY, ERR_MALFORMED
 * when the chain does not lead from opt->hierarchy to these keys. */
int node_new(const struct node_options *opt, const struct node_keys *keys, struct store *store,
    const struct random_source *random, struct node **ret_node) MUST_CHECK;
void node_free(struct node *n); /* takes NULL */
/* One step. txn is a write transaction of its store that the driver commits afterwards, before the late
 * sends; several steps may share one. On an error (disk, map full, no memory) the driver aborts the
 * transaction, drops the effects and starts the core again from the store (node_free, node_new, INPUT_START).
 */
int node_step(struct node *n, struct store_txn *txn, const struct input *in, struct effects *fx) MUST_CHECK;
/* Central site: another head key, as the trust statement of a newer chain names it. Keys and chain are
 * copied; they count from the command trust.reload on, which comes next and tells the worker in the same
 * step. ERR_SIGNATURE, ERR_KEY, ERR_MALFORMED: nothing is changed. */
int node_set_trust(struct node *n, const struct node_keys *keys) MUST_CHECK;
/* Reload: times, rates and advertised addresses are taken over, the site and its keys stay. */
void node_set_options(struct node *n, const struct node_options *opt);

/* What a test or the simulator wants to see; borrowed until the next step. */
struct node_view {
    const char *uplink; /* none, wait, hello, live, refused */
    const char *via;    /* the site that it is, or is being, connected to; "" at the central site */
    bool orphan;
    bool worker; /* there */
    bool ready;  /* it is, and has told its state */
    unsigned sites, sessions;
    uint64_t generation;
};
void node_look(const struct node *n, struct node_view *ret_view);

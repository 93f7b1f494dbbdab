/* Nodes in one process without sockets: their effects are handed from one to the other, under one clock that
 * the test moves. For the unit tests of the node; the world (tests/lib) is for more. */
#pragma once
#include <jansson.h>

#include "services/node/core.h"
#include "services/node/join.h"

#define PUMP_NODES 6
#define PUMP_DOORS 32

struct pump_frame {
    struct peer to, via;
    enum lane_class lane;
    struct blob *frame;
    char topic[200];
};
struct pump_node {
    struct node *node;
    struct store *store;
    struct node_options opt;
    struct node_keys keys;
    struct buf chain;
    int parent;       /* index, -1: none */
    uint32_t session; /* number of its connection at the parent */
    int probe;        /* the same of its second connection upward; -1: none */
    uint32_t probe_session;
    bool cut; /* frames from and to the parent are lost */
    struct mono timers[TIMER_COUNT];
    struct {
        uint8_t key[32];
        char user[64];
    } doors[PUMP_DOORS];
    unsigned n_doors, drops, closes, connects;
    bool stopped;
    struct pump_frame to_worker[64]; /* the last ones */
    unsigned n_to_worker;
    struct pump_frame published[16];
    unsigned n_published;
    json_t *reply; /* the last one */
    unsigned n_replies;
    uint64_t bytes_up, frames_up;
};
struct pump {
    struct pump_node nodes[PUMP_NODES];
    unsigned n;
    struct mono now;
    struct wall wall;
    uint32_t next_session;
    uint64_t seed;
    struct random_source random;
    struct {
        int from, to;   /* to: whom it reaches */
        struct peer as; /* as whom the sender appears there */
        struct blob *frame;
    } queue[1024];
    size_t n_queue;
    struct blob *stray; /* the last frame that went to a session that no node has */
    struct sign_key root;
    struct hash hierarchy;
    int fail_code; /* of the last step; 0 */
};

void pump_init(struct pump *p); /* node 0: the central site CEN */
void pump_done(struct pump *p);
/* Invites and joins a site with real tokens and frames; -1 and err_text() when that fails. */
int pump_join(struct pump *p, int parent, const char *code, const char *tier);
void pump_restart(struct pump *p, int i); /* from its store, as after kill -9 */
/* One input, and all that follows from it at this moment. */
int pump_input(struct pump *p, int i, struct input *in);
void pump_settle(struct pump *p);
void pump_run(struct pump *p, int64_t ns); /* lets time pass */
/* A frame to node i as from a connection with this user. Consumes the frame. */
int pump_frame(struct pump *p, int i, uint32_t session, const char *user, struct blob *frame);
int pump_worker(struct pump *p, int i, struct peer via, const char *topic, struct blob *frame); /* consumes */
/* The answer is owned by the pump until the next one. */
json_t *pump_command(struct pump *p, int i, const char *json_format, ...) PRINTF_LIKE(3, 4);
/* Makes node i look like a live replica of this generation. */
void pump_status(struct pump *p, int i, uint64_t generation, const char *state, const char *cause);
/* The same; more may set further fields. */
void pump_told(struct pump *p, int i, uint64_t generation, const char *state, const char *cause,
    void (*more)(Sitetree__WorkerStatus *m));
void pump_ready(struct pump *p, int i); /* its worker is there */
/* What the transport of node i tells of its connection upward (PROBE: the second one); number 0: of the one
 * of now. */
void pump_link(struct pump *p, int i, uint32_t which, int status, uint64_t number);
/* Whether an event of this name is in the log of node i. */
bool pump_event(struct pump *p, int i, const char *name);
const char *pump_user(struct pump *p, int i, const uint8_t key[32]); /* NULL: the door is closed */
/* A Reports frame with one report of node i, changed by edit (may be NULL), signed with its key or another
 * one. */
struct blob *pump_report(
    struct pump *p, int i, void (*edit)(Sitetree__SiteReport *r), const struct sign_key *key);
/* The refusal in a frame, or 0. */
int refusal_code(struct blob *frame);

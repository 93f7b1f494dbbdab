/* Shared by the files of the world; tests include world.h. */
#pragma once
#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "tests/lib/world.h"

#define IPC_LATENCY (NS_PER_MS / 20)
#define DETECT_LATENCY (30 * NS_PER_MS) /* until both ends know that a link was cut */
#define CONNECT_LATENCY (50 * NS_PER_MS)
#define SILENCE (180 * NS_PER_S)    /* until a muted link counts as down */
#define GROUP_MOST (10 * NS_PER_MS) /* that steps wait for a commit together */
#define WORKER_BACKOFF NS_PER_S
#define WALL_START (INT64_C(1795000000) * NS_PER_S)
#define TRACE_LINES 50
#define MAX_TIMERS 128

/* chance: splitmix64, one stream each */
struct chance {
    uint64_t state;
};
uint64_t chance_next(struct chance *c);
uint64_t chance_below(struct chance *c, uint64_t below);
int64_t chance_between(struct chance *c, int64_t low, int64_t high);
void chance_fill(void *chance, void *out, size_t len); /* for struct random_source */

/* A set of 64-bit hashes, for "was this seen before". */
struct seen_set {
    uint64_t *slots;
    size_t n, cap;
};
bool seen_add(struct seen_set *s, uint64_t hash); /* false: it was there */
bool seen_has(const struct seen_set *s, uint64_t hash);
uint64_t seen_hash(struct view a, struct view b);

enum event_kind {
    EVENT_START,   /* proc */
    EVENT_IPC,     /* proc: frame from `from` */
    EVENT_TIMER,   /* proc: number, stamp */
    EVENT_COMMAND, /* proc: frame is the JSON text */
    EVENT_FLUSH,   /* proc: the commit of several steps is due */
    EVENT_JOB,     /* proc: number, frame is the argument */
    EVENT_SENT,    /* link, down: the line is free again */
    EVENT_ARRIVE,  /* link, down, connection: frame */
    EVENT_CONNECT, /* link */
    EVENT_LINK,    /* link: one end (proc) learns of its state */
    EVENT_SILENCE, /* link: muted for long, both ends give up */
    EVENT_CALL,    /* fn, ctx */
};
struct event {
    enum event_kind kind;
    int64_t at;
    uint64_t seq;
    struct world_process *proc;
    unsigned life;
    struct world_link *link;
    unsigned connection;
    bool down, hint, up, refused;
    bool forged; /* by a hostile relay: it is not attacked once more */
    uint8_t lane;
    char topic[200];
    struct peer from, via;
    bool early;
    struct blob *frame;
    unsigned timer;
    uint64_t stamp, command;
    void (*fn)(struct world *w, void *ctx);
    void *ctx;
};

struct world_process {
    struct world *w;
    struct world_site *site;
    const struct world_core *type;
    bool is_node;
    void *core;
    struct store *store;
    const void *config;
    unsigned life; /* grows at each start and each death */
    unsigned starts, short_lives;
    unsigned fail_alloc; /* this allocation of a step fails, in the next step that makes so many */
    int died_of;         /* of the step that failed last; 0 after anything else */
    int64_t booted;
    struct chance chance;
    struct random_source random;
    struct effects fx, late; /* late: what leaves after the commit */
    struct store_txn *txn;   /* of steps that wait for a commit together */
    bool starting;
    struct {
        uint64_t stamp;
        bool set;
    } timers[MAX_TIMERS];
    struct world_shown shown; /* last seen committed */
    bool has_shown;
};

struct world_site {
    struct world *w;
    char code[32];
    unsigned index;
    struct world_site *parent;
    struct world_link *up_link;    /* to the parent; NULL for the first site */
    struct world_link *probe_link; /* of a node: its second connection upward, mostly to nobody */
    bool up;
    int64_t paused_until;
    int64_t skew;
    struct world_process worker, node;
    bool has_node;
    unsigned crash_at, points;
    unsigned lose_send; /* the nth from now */
    bool full;
    struct world_counts counts;
    struct access { /* the node's ZAP table */
        uint8_t key[32];
        char user[200];
    } * access;
    size_t n_access;
    /* world_catalogue.c: pages asked for and fetched */
    struct seen_set fetched;
    struct asked_page_request {
        uint64_t request;
        char scope[128];
    } asked[64];
    unsigned n_asked;
    struct arriving_page {
        uint64_t hash;
        uint8_t key[64];
        size_t key_len;
    } * arriving;
    size_t n_arriving;
    unsigned times_back; /* world_go_back: it may do again what it does not remember */
    bool twin;           /* a second centre with the keys of the first: nobody checks it */
    bool lied_to;        /* its parent made requests up */
    struct heard_request {
        char run[32];
        uint8_t id[8];
    } heard[64];
    unsigned n_heard;
    struct hash checked_head; /* world_properties.c */
    uint64_t checked_counter, checked_trust;
    struct hostile *hostile; /* world_hostile.c; NULL: never */
    void *identity;          /* world_full.c */
    void (*identity_free)(void *identity);
    uint64_t signed_generation; /* what the world signed in the node's place */
    struct epoch signed_epoch;
    uint64_t signed_counter;
    struct hash signed_payload;
    bool signs_late;           /* its node keeps what it is to sign: */
    struct blob *to_be_signed; /* the last of it */
    struct world_event *notes;
    size_t n_notes;
    struct world_status status;
};

struct lane_queue {
    struct event **list; /* EVENT_ARRIVE that wait for the line */
    size_t n, cap, first;
};
struct world_way { /* one direction */
    struct lane_queue lanes[CLASS_COUNT];
    bool busy;
    uint64_t queued_bytes;
    int64_t last_arrival[2][CLASS_COUNT]; /* keeps order within a lane: [hint][class] */
};
struct frame_hook {
    bool armed;
    unsigned type, nth;
    enum world_when when;
    enum world_act act;
};
struct world_link {
    struct world *w;
    struct world_site *parent, *child;
    bool cut, muted, no_hints, probe;
    uint64_t number; /* that the node gave this connection */
    bool connected;  /* messages flow under `connection` */
    bool connecting;
    unsigned connection; /* grows at each change */
    unsigned
        last_words; /* connection whose messages from a crashed end still arrive: they were in its kernel */
    bool last_words_down;
    int64_t last_words_until;
    uint32_t session; /* the parent's number for the child */
    char user[200];   /* what the parent's ZAP table says of the child's key */
    bool told[2];     /* [0] the parent's, [1] the child's worker believes that the link is up */
    uint32_t told_session[2];
    struct world_faults faults;
    struct world_way ways[2]; /* [down] */
    struct frame_hook hook;
    world_tamper_fn tamper;
    void *tamper_ctx;
};

/* What is between two sites, whichever connection it is. */
struct pair {
    struct world_site *child, *parent;
    enum world_between how;
    struct world_faults faults;
};

struct world {
    struct world_options opt;
    struct chance chance;
    int64_t now;
    uint64_t seq, steps, steps_at_now;
    struct event **heap;
    size_t n_heap, cap_heap;
    struct world_site **sites;
    unsigned n_sites;
    uint32_t sessions;
    struct pair pairs[8];
    unsigned n_pairs;
    char trace[TRACE_LINES][256];
    uint64_t trace_n, trace_hash;
    char breach[512];
    bool broken;
    /* keys the world signs with in the node's place */
    struct hash hierarchy;
    struct sign_key head_key, root_key;
    struct sign_key old_head_key; /* of before the last world_rotate */
    uint8_t first_head_key[32];
    uint64_t trust_version;
    struct buf trust;          /* the statement of the root key, from version 2 on */
    unsigned attacks_made[16]; /* world_hostile.c, by enum world_attack */
    /* a command that waits for its answer */
    uint64_t commands, waiting_command;
    json_t *answer;
    bool answered;
    uint32_t join_session; /* a site that joins: the answer to it is kept */
    struct blob *join_answer;
    /* what the first site has shown, by head: every other site must show the same */
    struct seen_head *heads;
    size_t n_heads, cap_heads;
    void *catalogue; /* world_catalogue.c */
    void (*catalogue_free)(void *catalogue);
};

/* world_queue.c */
struct event *event_new(struct world *w, enum event_kind kind, int64_t at);
void event_push(struct world *w, struct event *e); /* takes it */
struct event *event_pop(struct world *w);          /* NULL: nothing left */
void event_free(struct event *e);
void trace(struct world *w, const struct world_site *s, const char *fmt, ...) PRINTF_LIKE(3, 4);
void trace_bytes(struct world *w, struct view bytes); /* into the hash only */
void *must(void *p);                                  /* aborts on NULL */

/* world_link.c */
void link_send(
    struct world_link *l, bool down, bool hint, const char *topic, uint8_t lane, struct blob *frame);
void link_crashed(struct world_link *l, const struct world_site *dead); /* before link_update */
void link_update(struct world_link *l); /* connects or drops after a change of its ends */
void link_drop(struct world_link *l, const char *why, bool tell);
void link_event(struct world_link *l, struct event *e);
void link_done(struct world_link *l);
void links_ask_again(struct world_site *parent);
void link_close(struct world_site *parent, struct peer child);
void link_choose(struct world_site *child, const struct effect *e);
struct world_link *link_nth(const struct world *w, unsigned i); /* 0 to 2 x sites - 1; NULL: not there */
struct world_link *link_of_session(struct world_site *parent, uint32_t session);

/* world_hostile.c: false: the frame does not arrive; else e->frame may be another one now */
bool hostile_arrive(struct world_link *l, struct event *e);
void hostile_free(struct hostile *h);

/* world.c */
struct world_site *site_find(struct world *w, const char *code); /* aborts on an unknown code */

/* world_step.c */
void process_flush(struct world_process *p);
void process_give(struct world_process *p, const struct input *in);
void site_crash(struct world_site *s);
void site_start(struct world_site *s);
void site_update_links(struct world_site *s);
void process_born(struct world_process *p);
void process_start(struct world_process *p, int64_t delay);
void process_end(struct world_process *p);

/* world_shim.c: the node's part where there is no node */
void shim_on_worker(struct world_process *p, const struct effect *e);
void shim_site_info(struct world_process *p);
void shim_hello(struct world_process *p); /* after a start: who we are, and the links */
void shim_link(struct world_process *p, struct world_link *l, bool up, const char *cause);
void shim_observe(
    struct world_process *p, const struct frame *f); /* events and status, with and without node */
void shim_give_frame(struct world_process *p, struct blob *frame);

/* world_check.c */
struct seen_head {
    struct epoch epoch;
    uint64_t generation;
    struct hash head, root, content;
    uint64_t records;
};
void check_committed(struct world_process *p); /* after each commit of a worker */
void check_links(struct world *w);

/* The world: a tree of sites in one process, the real logic on memory stores, one virtual clock, one seed. It
 * takes one event at a time (delivery, timer, command, job result, start), performs the effects in the order
 * of common/bus/step.h, and checks the properties of protocol.md section 1 after each step. Ownership: the
 * world owns everything that it hands out; pointers live as long as it. Threading: one thread per world.
 *
 *     struct world *w = world_new(&opt);              world_add_site(w, "CEN", NULL); world_add_site(w,
 * "P01", "CEN"); world_start(w);  world_run_for(w, 10 * NS_PER_S);  ...  WORLD_OK(w);  world_free(w);
 *
 * A broken property stops the world: every run function returns false from then on and world_breach tells
 * which one. Reading order: world_queue.c (clock, chance, trace), world_link.c, world.c (steps),
 * world_check.c, then what knows the catalogue: world_catalogue.c, world_upstream.c. */
#pragma once
#include <jansson.h>

#include "common/bus/step.h"
#include "common/crypto/crypto.h"
#include "common/store/store.h"

struct world;
struct world_site;
struct world_process;

/* What a site shows: read from its committed store. */
struct world_shown {
    struct epoch epoch;
    uint64_t generation; /* 0: nothing applied yet */
    struct hash head, root;
    struct hash content; /* over all records; only where deep was asked for */
    uint64_t records;
};

/* A kind of logic that the world can drive. */
struct world_core {
    const char *name;
    const char *const *tables;
    const unsigned *n_tables;
    /* random is the process's own stream; config is world_options.config */
    int (*make)(struct world_process *p, struct store *store, const struct random_source *random,
        const void *config, void **ret_core);
    void (*free)(void *core);
    int (*step)(void *core, struct store_txn *txn, const struct input *in, struct effects *fx);
    /* Reads what the store of the process shows; NULL for a process that shows nothing. */
    int (*probe)(struct world_process *p, struct store_txn *txn, bool deep, struct world_shown *ret_shown);
    /* Looks at every frame that a process is about to send (late: after its commit), and at every one given
     * to it; may call world_break. NULL allowed. */
    void (*on_send)(struct world_process *p, const struct effect *e);
    void (*on_input)(struct world_process *p, const struct input *in);
    void (*on_commit)(struct world_process *p); /* after each commit, before the late sends; NULL allowed */
    /* A node only: the public link key of its site, whether it has joined (and may start), and the code of
     * the site that a packed Place names (false: none). */
    const uint8_t *(*link_key)(struct world_process *p);
    bool (*may_start)(struct world_process *p);
    bool (*place)(struct view place, char ret_code[32]);
    /* A job that the core asked for: how long it takes (ns; negative: it hangs), and at its end what it made.
     */
    int64_t (*job_time)(struct world_process *p, const struct blob *argument);
    int (*job)(struct world_process *p, const struct blob *argument, void **ret_result);
};

struct world_options {
    uint64_t seed;
    const struct world_core *core; /* of the catalogue worker */
    const struct world_core
        *node;          /* NULL: the links and the node's answers are made by the world itself (fast) */
    const void *config; /* for core->make, borrowed */
    const void *node_config;
    int64_t latency_min, latency_max; /* ns; default 1 to 20 ms */
    unsigned group; /* per mille of the steps that wait for a commit together with later ones; default 0 */
    uint64_t queue_bound; /* bytes that may wait on one direction of a link (P11); default 16 MiB */
    unsigned shown_every; /* a deep check of one site by chance every n steps; default 500 */
    bool verbose;         /* every trace line to stderr */
    const char *replay; /* the command that does the same again, for world_report; borrowed; NULL: unknown */
    /* tests/lib/failing_memory.h, where the test is linked with it; for world_fail_alloc */
    void (*fail_memory)(size_t n, bool all);
    bool (*memory_failed)(void);
};

struct world *world_new(const struct world_options *opt); /* aborts when there is no memory: it is a test */
void world_free(struct world *w);
uint64_t world_random(struct world *w, uint64_t below); /* 0 <= result < below, from the seed */

/* Tree. The first site has no parent. Sites are named by code in all calls. */
void world_add_site(struct world *w, const char *code, const char *parent);
void world_start(struct world *w); /* starts every site that is not up */
unsigned world_n_sites(const struct world *w);
const char *world_site_code(const struct world *w, unsigned i);
bool world_is_up(struct world *w, const char *code);
unsigned world_lives(struct world *w, const char *code); /* starts of its catalogue worker so far */

/* Time: ns since the world began. All stop early at a breach and return false then. */
int64_t world_now(const struct world *w);
uint64_t world_steps(const struct world *w);
bool world_step(struct world *w);                /* one event; false also when nothing is left to come */
bool world_run_for(struct world *w, int64_t ns); /* until that much time has passed */
bool world_run_until(
    struct world *w, bool (*done)(struct world *w, void *ctx), void *ctx, int64_t at_most_ns);
/* Until every site that is up shows the head of the first one; false (without a breach) when the time ran
 * out. */
bool world_converge(struct world *w, int64_t at_most_ns);
bool world_converged(struct world *w);
void world_at(struct world *w, int64_t at, void (*fn)(struct world *w, void *ctx), void *ctx);

/* Links: each belongs to its child. The pull lane and the hint lane go up and down together. */
void world_cut(struct world *w, const char *child);  /* what was under way is lost; both ends are told */
void world_heal(struct world *w, const char *child); /* ends cut and mute; a new session begins */
void world_mute(
    struct world *w, const char *child); /* a black hole: nothing arrives, nobody is told for 3 minutes */
struct world_faults {
    unsigned drop, duplicate, reorder, delay; /* per mille of the messages */
    int64_t delay_max;                        /* ns, for reorder and delay */
    uint64_t rate;                            /* bytes/s each way; 0: no limit */
};
void world_set_faults(struct world *w, const char *child, const struct world_faults *f); /* NULL: none */
/* Between two sites, whichever connections they have, of nodes that have several places to dial. */
enum world_between { WORLD_OPEN, WORLD_CLOSED, WORLD_HOLE, WORLD_FAULTY };
void world_between(struct world *w, const char *child, const char *parent, enum world_between how,
    const struct world_faults *f);                                  /* f: of WORLD_FAULTY */
void world_drop_hints(struct world *w, const char *child, bool on); /* the hint lane loses everything */

/* The site follows another parent from now on, as if its operator had said so. */
void world_move(struct world *w, const char *child, const char *parent);
/* Cuts every link between these sites (bits by the order in which they were added) and the others. */
void world_partition(struct world *w, uint64_t sites);
/* A second centre by mistake: another first site with the same keys and a copy of what the first one had in
 * its store at this moment. It signs on its own; nobody checks it. Not where there are nodes. */
void world_twin(struct world *w, const char *code);

/* Processes. */
void world_crash(struct world *w, const char *code);   /* kill -9: what was not committed is gone */
void world_restart(struct world *w, const char *code); /* starts it when it is down */
void world_kill_worker(
    struct world *w, const char *code); /* only the catalogue worker; it is started again by itself */
void world_pause(
    struct world *w, const char *code, int64_t ns); /* stopped with its memory intact; links die meanwhile */
/* A point is a place between two effects of a step: before the early sends, after each one, before the
 * commit, after it, after each late send and timer. The n-th point from now (1: the next) crashes the whole
 * site. 0 switches it off. */
void world_crash_at(struct world *w, const char *code, unsigned points);
bool world_crash_pending(struct world *w, const char *code);    /* the point was not reached yet */
unsigned world_points(struct world *w, const char *code);       /* points passed so far */
void world_skew(struct world *w, const char *code, int64_t ns); /* its wall clock runs ahead by this much */

/* The first site gets another head key, vouched for by the root key under the next trust version. */
void world_rotate(struct world *w);
/* Once: in the next step of the worker (or of the node) that makes so many allocations, the nth fails. 0:
 * none. */
void world_fail_alloc(struct world *w, const char *code, unsigned nth);
void world_fail_node_alloc(struct world *w, const char *code, unsigned nth);
/* Once: the nth frame from now that the site gives to a link is lost, as one that a full queue refused. */
void world_lose_send(struct world *w, const char *code, unsigned nth);

/* Stores. */
void world_fail_write(
    struct world *w, const char *code, unsigned nth, int err); /* once: the nth write from now */
void world_fail_node_write(
    struct world *w, const char *code, unsigned nth, int err); /* where there is a node */
void world_set_full(
    struct world *w, const char *code, bool full); /* every write fails with ERR_MAP_FULL until false */
/* The site must be down: its store goes on in one of this size (0: no limit), as after a change of the
 * configuration. */
void world_resize_store(struct world *w, const char *code, uint64_t bytes);
struct store *world_store(struct world *w, const char *code);
struct store *world_node_store(struct world *w, const char *code); /* NULL without nodes */
/* What a site holds and remembers now; later, while it is down, it goes back to that (which takes it). */
struct world_backup *world_back_up(struct world *w, const char *code);
void world_go_back(struct world *w, const char *code, struct world_backup *b);

/* On a message of a type on a child's link (either way): before it arrives, after it was handled, or instead
 * of it. The n-th from now; once. */
enum world_when { WORLD_BEFORE, WORLD_AFTER, WORLD_INSTEAD };
enum world_act { WORLD_CUT, WORLD_CRASH_CHILD, WORLD_CRASH_PARENT, WORLD_LOSE };
void world_on_frame(struct world *w, const char *child, unsigned frame_type, unsigned nth,
    enum world_when when, enum world_act act);
/* Sees every frame that arrives over a child's link and may give other bytes in its place (a new blob) or
 * NULL for none; frame is borrowed. down: from the parent to the child. */
typedef struct blob *(*world_tamper_fn)(
    void *ctx, struct world *w, bool down, unsigned type, struct blob *frame);
void world_tamper(struct world *w, const char *child, world_tamper_fn fn, void *ctx);
/* A frame that nobody sent, as if from the parent (topic NULL: pull lane, else hint lane). Takes the blob. */
void world_inject(struct world *w, const char *child, const char *topic, struct blob *frame);

/* Operator. Sends {"command","args"} and runs the world until the last answer is there; NULL on a breach or
 * after a minute without one. The caller owns the result (the last answer; data of earlier ones is not kept).
 */
json_t *world_call(struct world *w, const char *code, const char *command, json_t *args);
/* The same without waiting: the answer is dropped. */
void world_tell(struct world *w, const char *code, const char *command, json_t *args);

/* What happened. */
struct world_shown world_shown(struct world *w, const char *code, bool deep);
/* What the first site showed at its nth generation of the newest epoch; false: it never did. */
bool world_seen(struct world *w, uint64_t generation, struct world_shown *ret_shown);
struct world_counts {
    uint64_t frames, bytes;      /* given to this site's worker from its parent, both lanes */
    uint64_t catalogue_bytes;    /* of those: heads, hints, deltas, pages */
    uint64_t by_type[80];        /* of those, by frame type */
    uint64_t sent_up[80];        /* sent by it to its parent, by type */
    uint64_t pages, pages_twice; /* pages that arrived; of those, such as it had committed before (P7) */
    uint64_t page_bytes, page_bytes_twice;
    uint64_t step_errors; /* steps that failed and were undone */
    int last_error;
    char last_error_text[200];
};
const struct world_counts *world_counts(struct world *w, const char *code);
void world_reset_counts(struct world *w, const char *code);
/* Events that the site's worker noted (FRAME_EVENT_NOTE), all lives together. */
struct world_event {
    int64_t at; /* ns since the world began */
    char name[48], run[48], phase[32];
    int code;
    char text[160];
};
/* The node of the site keeps what it is asked to sign, and does it when this ends (a node that was frozen).
 */
void world_sign_late(struct world *w, const char *code, bool on);
unsigned world_n_events(struct world *w, const char *code, const char *name); /* name NULL: all */
/* The nth (0: first) of this name; NULL: there are fewer. Borrowed until the next step. */
const struct world_event *world_event(struct world *w, const char *code, const char *name, unsigned nth);
/* The last FRAME_WORKER_STATUS of the site, in part. */
struct world_status {
    char state[24], cause[32], text[160], last_refusal[64], run_result[32];
    uint64_t generation, known_generation, refusals, backlog_bytes;
    uint64_t floor_generation, floor_first_ns, floor_now_ns;
};
struct world_status world_status(struct world *w, const char *code);
const struct sign_key *world_head_key(const struct world *w);
const struct hash *world_hierarchy(const struct world *w);
uint64_t world_trace_hash(const struct world *w); /* over every line of the trace so far */
void world_verbose(struct world *w, bool on);
const char *world_breach(const struct world *w); /* NULL: none */
void world_report(const struct world *w);        /* seed, step, last lines of the trace, breach: to stderr */
void world_note(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3); /* a line in the trace */

/* For cores and scenarios that find a property broken: "P5", and what was seen. */
void world_break(struct world *w, const char *property, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A process as its core sees it. */
struct world *process_world(struct world_process *p);
const char *process_site(const struct world_process *p);
const char *process_parent(const struct world_process *p);                  /* NULL for the first site */
bool process_shown(struct world_process *p, struct world_shown *ret_shown); /* committed; false: none yet */
struct world_counts *process_counts(struct world_process *p);

#define WORLD_OK(w)                                                                                          \
    do {                                                                                                     \
        if (world_breach(w)) {                                                                               \
            world_report(w);                                                                                 \
            fail_msg("%s", world_breach(w));                                                                 \
        }                                                                                                    \
    } while (0)
#define WORLD_TRUE(w, cond)                                                                                  \
    do {                                                                                                     \
        WORLD_OK(w);                                                                                         \
        if (!(cond)) {                                                                                       \
            world_report(w);                                                                                 \
            fail_msg("%s", #cond);                                                                           \
        }                                                                                                    \
    } while (0)

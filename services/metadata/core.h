/* The inside of the metadata core, shared by its files; nobody else includes it. One struct, and by file the
 * functions that the others call. All of it runs within metadata_step: `m->in` and `m->fx` and `m->txn`
 * belong to the step. */
#pragma once
#include <jansson.h>

#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "proto/worker.pb-c.h"
#include "services/metadata/delta.h"
#include "services/metadata/metadata.h"
#include "services/metadata/source.h"

enum timer_id {
    TIMER_POLL,        /* ask the parent for its head */
    TIMER_REQUESTS,    /* a request's time is over */
    TIMER_EXPIRY,      /* the applied head expires; the origin renews it before */
    TIMER_SCHEDULE,    /* central: the next FULL run */
    TIMER_RETRY,       /* the next try after a failed run */
    TIMER_STALL,       /* a run without progress; deadline of a child's run */
    TIMER_REQUEST_OUT, /* sync requests not acknowledged yet */
    TIMER_STATUS,      /* tell the node (at most four times a second) */
    TIMER_REHASH,
    TIMER_AGAIN, /* a wrong or missing page: ask again after a while */
    TIMER_COUNT
};

/* The child's states (protocol.md 4), as they are shown. */
enum replica_state {
    STATE_BOOT,
    STATE_CONNECT,
    STATE_HEADCHECK,
    STATE_CATCHUP,
    STATE_WALK,
    STATE_VERIFY,
    STATE_ACTIVATE,
    STATE_LIVE,
    STATE_STALE,
    STATE_ORPHAN,
};

/* A page that is wanted, with what the signed tree says of it and what this site has applied at the same
 * place. */
struct want {
    struct place place;
    struct subtree is, base; /* base.count 0: nothing there */
    bool whole;              /* with everything below */
};
struct wants { /* a stack */
    struct want *list;
    size_t n, cap;
};

struct scope {
    char name[SCOPE_NAME_MAX + 1];
    uint32_t id;
    uint8_t salt[16];
    struct scope_entry applied; /* serial 0 and an empty tree where nothing is applied */
    /* towards the target head */
    enum { FETCH_NONE, FETCH_DELTAS, FETCH_WALK, FETCH_READY } fetch;
    struct wants frontier;
    uint64_t deltas_missing_to; /* the newest delta still missing; 0: none */
    struct hash delta_expect;   /* what its hash must be */
    bool deltas_asked;
    bool staged;         /* pages were fetched that no applied head may reach: kept in the store too */
    uint64_t floor_from; /* of floor.c: the serial at the oldest generation that can still catch up */
    bool floor_seen;
    bool walk_careful; /* it was so when the walk began: the walk looks at every page */
    bool careful;      /* own pages are not to be trusted: look at each, never fetch whole subtrees */
};

enum request_kind { REQUEST_HEAD, REQUEST_DELTAS, REQUEST_PAGES };
struct request {
    uint64_t id;
    enum request_kind kind;
    struct scope *scope;
    struct mono sent, deadline;
    uint64_t delivered_before; /* bytes that had come when it was sent: gives the rate */
    uint32_t asked;            /* bytes it may bring */
    struct wants expect;       /* REQUEST_PAGES: in the order they will come, last first */
};

struct child {
    uint32_t session;
    char site[SITE_CODE_MAX + 1];
    uint64_t acked_run, asked_run; /* numbers of this site's runs */
};

/* What a site waits for while it is behind. */
enum wait_reason {
    WAIT_LINK,   /* no connection to the parent */
    WAIT_PARENT, /* asked, not answered yet, and more could be asked */
    WAIT_CREDIT, /* as much is asked for as may be on the way */
    WAIT_PAUSE,  /* after a wrong or missing page */
    WAIT_STORE,  /* the store is nearly full */
    WAIT_COUNT
};

/* When the pieces of the newest generation came (operators.md: stored from the beginning). */
struct hop_times {
    uint64_t generation;
    struct wall requested, first_byte, last_byte, verified, committed, issued;
    int64_t waited_ns[WAIT_COUNT];
    uint64_t bytes;
};
#define DELIVERIES 1024u
struct delivery {
    uint64_t generation;
    struct wall issued, applied, committed;
};

enum run_kind { RUN_FULL, RUN_DELTA_NEW };
enum run_phase { PHASE_NONE, PHASE_SOURCE, PHASE_VIEW, PHASE_PUBLISH, PHASE_INTERNET, PHASE_REQUEST };
struct run {
    uint64_t number, retry_of, policy;
    enum run_kind kind;
    enum run_phase phase;
    char by[64];     /* schedule, operator, retry of r-..., P01 r-... */
    char origin[32]; /* id of the run at the central site */
    char parent_run[32];
    struct wall started, ended, phase_started;
    struct mono progress_at, phase_mono;
    uint64_t items, items_total, bytes, bytes_total;
    uint64_t items_done, bytes_done; /* of the upstreams that are through */
    uint64_t added, changed, removed, expired;
    uint64_t generation_before, generation_after, target_generation;
    struct epoch target_epoch;
    struct wall deadline;
    int code;
    char reason[512];
    const char *result; /* succeeded failed cancelled, NULL while it runs */
    bool waits;         /* for a draft of another cause */
    bool guarded;       /* takes so much away that an operator has to agree */
    bool approved;
    bool plan;          /* tells what it would do, and does nothing */
    struct peer caller; /* who asked for the plan */
    uint64_t command;
    json_t *filter; /* of the plan; NULL: the one in force */
    json_t *phases; /* [{phase, started, seconds, items, bytes}] */
    bool succeeded; /* 6702 was raised */
    /* central: the upstreams still to do, and what they gave */
    char **todo;
    size_t n_todo, next_todo;
    struct source_set **sets;
    size_t n_sets;
    char **set_names;
};

struct hint_delta {
    struct scope *scope;
    uint64_t serial;
};

/* What the next generation will be, between its making and its signature (central). */
struct draft {
    struct wall made;
    struct head *head; /* payload fields and scopes; no bytes yet */
    struct buf scopes, payload;
    struct buf *replaced; /* by scope of head->scopes: pages that go when it is published */
    struct scope **scope; /* the same order */
    struct hint_delta *deltas;
    size_t n_deltas;
    uint64_t request; /* number of the FRAME_SIGN_HEAD */
    bool renew_only;
    bool full;       /* of the run: which cursors move with it (A8) */
    json_t *cursors; /* upstream -> cursor, stored in the transaction of the generation; NULL without a run */
    uint64_t added, changed, removed, expired;
    size_t n_new_recalls; /* the last ones of head->recalls: they get its generation */
    size_t ops;           /* how many of m->ops are in it */
    uint64_t run;         /* number of the run that made it; 0: none */
    bool urgent, new_epoch, changes;
    uint64_t bytes, pages; /* that the pages and deltas will take on a link, and how many pages */
};

/* A change that an operator asked for one by one (update publish, expire, remove). Answered when it is
 * published. */
enum op_kind { OP_PUT, OP_EXPIRE, OP_REMOVE, OP_EPOCH, OP_RECALL };
struct op {
    enum op_kind kind;
    char scope[SCOPE_NAME_MAX + 1];
    struct buf id, value;
    uint64_t command;
    struct peer caller;
};

struct metadata {
    struct metadata_options opt;
    int ended_code; /* why the core's last life in this process ended; 0: it is the first */
    char ended_why[256];
    struct store *store;
    const struct random_source *random;
    /* of the step */
    struct store_txn *txn;
    struct effects *fx;
    struct mono now;
    struct wall wall;

    /* from the node */
    bool have_info, central;
    struct head_trust trust;
    struct buf revoked;         /* central: goes into every head */
    struct buf trust_statement; /* central: goes with every head from version 2 on */
    char site[SITE_CODE_MAX + 1], tier[16], parent[SITE_CODE_MAX + 1], top[SITE_CODE_MAX + 1];

    enum replica_state state;
    char cause[48], text[256];
    struct wall state_since;
    bool boot_checked, boot_bad;
    struct head *applied;
    struct head *known;  /* the newest verified one; NULL when applied is */
    struct head *target; /* what is being fetched: known, or an older one (owned then) while a walk goes on */
    struct wall known_at;
    struct head *ahead; /* newer than both: only its recalls count (recall.c); NULL: none */
    uint64_t recalled;  /* newest generation whose recalls are in force, and since when */
    struct wall recalled_at;
    uint64_t recall_spread; /* the newest one that the children were told of ahead of its content */
    struct scope **scopes;
    size_t n_scopes;
    uint32_t next_scope_id;

    bool parent_up;
    uint64_t parent_generation;
    struct epoch parent_epoch;
    struct mono parent_heard, parent_answered; /* answered: a question of this worker */
    unsigned head_failures;
    struct head *fence;   /* central: the newest head of below that this store does not lead to; NULL */
    struct head *witness; /* below: one that came from below, newer than what is known here; NULL */
    bool restored;        /* central: from a backup, and not every child was heard since */
    bool offer_due;
    struct mono offered; /* when the parent was told last what is held here */
    unsigned late,
        bad_heads; /* in a row, of this parent: requests without an answer, heads that did not stand */
    char failure_text[120]; /* the last of these, or setback */

    struct request *requests;
    size_t n_requests, cap_requests;
    uint64_t next_request;
    uint64_t delivered; /* bytes of answers so far */
    uint64_t window, asked_bytes;
    double rate;                      /* bytes/s, the best of late */
    double walked_raw, walked_packed; /* what pages were, and what they took on the wire */
    bool retarget;                    /* the parent no longer has pages of the target, or sent wrong ones */
    bool replan;               /* the head was looked at since: a new plan, once what is under way has come */
    unsigned setbacks;         /* of those, in a row */
    struct mono refused_until; /* the store took no more: until then this site only serves */

    struct hop_times hop;
    struct mono waiting_since;
    enum wait_reason waiting_for;
    int64_t clock_offset_ns; /* the parent's clock minus ours */
    bool clock_measured;
    struct delivery deliveries[DELIVERIES];
    uint64_t n_deliveries;
    bool committed_pending;
    enum lane_class hint_lane;
    char hint_topic[200]; /* of the hint being worked on: it is relayed under the same */

    struct child *children;
    size_t n_children, cap_children;

    struct run *run;    /* active, or NULL */
    struct run *queued; /* one more run after this one */
    uint64_t next_run, last_run;
    char last_run_result[16];
    uint64_t out_run; /* the run whose request the children get; 0: none */
    struct draft *draft;
    struct op *ops;
    size_t n_ops, cap_ops;
    uint64_t sign_skips;
    uint64_t job;      /* number of the job under way; 0: none */
    struct buf filter; /* JSON */
    uint64_t filter_version;
    struct { /* `upstream test` under way */
        uint64_t job, command;
        struct peer caller;
        char name[128];
        struct mono started;
    } test;

    uint64_t refusals, divergences, unknown_types;
    char last_refusal[256];
    struct wall verified_at;
    bool status_dirty, nearly_full; /* as told */
    struct mono status_sent;
    uint64_t status_generation; /* that was told last */
    struct {
        uint32_t scope_index;
        struct buf key;
    } rehash;
    struct {                 /* floor.c, at the last look */
        uint64_t generation; /* the oldest one from which deltas lead to what is applied */
        uint64_t first_ns,
            now_ns; /* until one at that generation, or at the applied one, falls below; 0: unknown */
        struct mono at;
    } floor;
    uint64_t rehashed, rehash_bad;
    struct mono timers[TIMER_COUNT]; /* as asked for; 0: not running */
};

/* state.c */
int state_load(struct metadata *m) MUST_CHECK;
struct scope *state_scope(struct metadata *m, const char *name); /* makes it; NULL on no memory */
struct scope *state_scope_find(struct metadata *m, const char *name);
uint64_t state_scope_serial(struct metadata *m, struct scope *s); /* the highest ever given */
void state_scope_serial_put(struct metadata *m, struct scope *s, uint64_t serial);
void state_trust(
    struct metadata *m, const struct head *h); /* a head that was believed brought a newer trust */
void state_apply(
    struct metadata *m, struct head *h); /* takes h: it is the applied head now, in store and memory */
void state_target(struct metadata *m, struct head *h); /* h: known, or NULL */
void state_know(struct metadata *m, struct head *h);   /* takes h: the newest verified head */
void state_set(struct metadata *m, enum replica_state s, const char *cause, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
const char *state_word(enum replica_state s);
/* The parent was of no use: the node is told, and may choose another site above. */
void state_failure(struct metadata *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
void state_refusal(
    struct metadata *m, int code, const char *what); /* counts, keeps the text, notes an event */
void event_note(struct metadata *m, const char *name, const struct run *run, int code, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
void status_touch(struct metadata *m);
int status_send(struct metadata *m) MUST_CHECK;
uint64_t state_random(struct metadata *m);
struct mono state_stopwatch(
    const struct metadata *m); /* the time within the step, where the driver lends a clock */
int64_t state_jitter(struct metadata *m, int64_t ns);                   /* 3/4 to 5/4 of it */
void timer_set(struct metadata *m, enum timer_id id, int64_t after_ns); /* < 0: stops it */
/* A question to the parent tells nothing that is not durable: it need not wait for the commit. */
void ask_parent(struct metadata *m, enum lane_class lane, struct blob *frame);
void send_to(struct metadata *m, struct peer to, enum lane_class lane, struct blob *frame);
const struct epoch *state_epoch(const struct metadata *m); /* applied, or NULL */
static inline void state_tree(struct metadata *m, const struct scope *s, struct tree *t)
{
    tree_init(t, m->txn, s->id, s->salt);
}
#define AUTO_TREE CLEANUP(tree_cleanup) struct tree

/* request.c: what was asked of the parent */
struct request *request_new(struct metadata *m, enum request_kind kind, struct scope *s, uint32_t asked);
struct request *request_find(struct metadata *m, uint64_t id);
void request_end(struct metadata *m, struct request *r, uint64_t bytes); /* bytes came: the window follows */
void request_drop_all(struct metadata *m); /* the link is gone: wants go back to their frontiers */
void request_on_timer(struct metadata *m);
uint32_t request_room(const struct metadata *m); /* bytes that may be asked for now */
uint32_t request_chunk(const struct metadata *m);
bool request_pending(const struct metadata *m, enum request_kind kind, const struct scope *s);
void wants_done(struct wants *w);
int wants_push(struct wants *w, struct want one) MUST_CHECK;

/* replica.c */
int replica_on_link(struct metadata *m, const Sitetree__LinkState *l) MUST_CHECK;
int replica_on_head(struct metadata *m, struct request *r, const struct frame *f) MUST_CHECK;
int replica_on_hint(struct metadata *m, const struct frame *f, struct blob *frame) MUST_CHECK;
int replica_on_refusal(struct metadata *m, const struct frame *f) MUST_CHECK;
int replica_on_again(struct metadata *m) MUST_CHECK;
int replica_boot(struct metadata *m) MUST_CHECK;
int replica_plan(struct metadata *m) MUST_CHECK; /* what the target still needs, and asks for it */
int replica_step(struct metadata *m) MUST_CHECK; /* goes on fetching, or activates */
bool replica_only_serves(const struct metadata *m);
/* activate.c: 0, or 1 where a scope had to fall back and the target is not complete yet. */
int replica_activate(struct metadata *m, struct hint_delta **ret_deltas, size_t *ret_n) MUST_CHECK;
void replica_rest(struct metadata *m); /* the state when there is nothing to do */
void replica_setback(struct metadata *m);
void replica_wait(struct metadata *m); /* accounts the time since the last step, by reason */
const char *replica_wait_word(enum wait_reason r);
void replica_poll(struct metadata *m);
int replica_on_expiry(struct metadata *m) MUST_CHECK;
/* Own pages are read and hashed; bad ones are deleted and fetched again (dry: only counted). */
int replica_repair(struct metadata *m, bool dry, json_t **ret_data, int *ret_exit) MUST_CHECK;
int replica_rehash(struct metadata *m) MUST_CHECK;
/* catchup.c */
int catchup_plan(
    struct metadata *m, struct scope *s, const struct scope_entry *to, bool *ret_possible) MUST_CHECK;
int catchup_ask(struct metadata *m, struct scope *s) MUST_CHECK;
int catchup_on_reply(struct metadata *m, struct request *r, const struct frame *f) MUST_CHECK;
/* The delta that is missing next: checked against the chain and stored. */
int catchup_take(struct metadata *m, struct scope *s, const Sitetree__DeltaBytes *d) MUST_CHECK;
/* New pages are written; the replaced ones are named, for when the root is right. ERR_ROOT, ERR_CORRUPT:
 * walk. */
int catchup_apply(
    struct metadata *m, struct scope *s, const struct scope_entry *to, struct buf *replaced) MUST_CHECK;
/* fence.c: signed heads from below */
void fence_offer(struct metadata *m); /* to the parent, that it holds less than this site */
void fence_on_parent(struct metadata *m, bool was_up, const struct epoch *before, uint64_t generation_before);
int fence_on_offer(struct metadata *m, const struct frame *f) MUST_CHECK;
bool fence_closed(const struct metadata *m); /* nothing is to be published */
const char *fence_text(const struct metadata *m, char out[256]);
int fence_error(const struct metadata *m) MUST_CHECK;    /* ERR_FENCED */
int fence_may_open(const struct metadata *m) MUST_CHECK; /* whether the head key can still open an epoch */
int fence_load(struct metadata *m) MUST_CHECK;
void fence_open(struct metadata *m);
void fence_on_trust(struct metadata *m);
/* walk.c */
int walk_start(struct metadata *m, struct scope *s, const struct scope_entry *to) MUST_CHECK;
int walk_step(struct metadata *m, struct scope *s) MUST_CHECK; /* asks for more while there is room */
uint64_t walk_left(const struct metadata *m, const struct scope *s);
bool walk_finished(const struct metadata *m, const struct scope *s);
int walk_on_reply(struct metadata *m, struct request *r, const struct frame *f) MUST_CHECK;
/* serve.c */
int serve_head(struct metadata *m, struct peer child, const struct frame *f) MUST_CHECK;
int serve_deltas(struct metadata *m, struct peer child, const struct frame *f) MUST_CHECK;
int serve_pages(struct metadata *m, struct peer child, const struct frame *f) MUST_CHECK;
bool serve_fits_hint(size_t n_deltas, uint64_t bytes);                    /* of the deltas, compressed */
void serve_topic(const struct head *h, const char *scope, char out[200]); /* scope NULL: its first */
void serve_refuse(struct metadata *m, struct peer to, uint64_t request, int code);
/* Publishes the applied head, with these deltas where they are small enough. */
void serve_publish(struct metadata *m, const struct hint_delta *deltas, size_t n, bool urgent);
/* recall.c */
bool recall_is(const struct recall *r, struct view id);
const struct recall *recall_find(const struct head *h, struct view id); /* NULL: not in it */
/* The recall of a newer head than the applied one that makes the update expired already; NULL: none. */
const struct recall *recall_ahead_of(const struct metadata *m, struct view id);
void recall_note(struct metadata *m);                 /* after another head became known or applied */
void recall_spread(struct metadata *m);               /* tells the children what is not applied here yet */
void recall_tell(struct metadata *m, struct peer to); /* the same to one child */
/* Takes h, from a parent that has not applied it. */
int recall_on_ahead(struct metadata *m, struct head *h) MUST_CHECK;
int recall_list(struct metadata *m, json_t **ret_data) MUST_CHECK;
int recall_show(struct metadata *m, struct view id, json_t **ret_data) MUST_CHECK;
/* floor.c */
void floor_step(struct metadata *m, const struct head *next); /* before it is applied */
void floor_look(struct metadata *m);                          /* brings m->floor up to date */
/* view.c: what a source set changes in a scope */
struct edits {
    struct edit *list; /* not hashed, no serial yet */
    size_t n, cap;
    struct buf *bufs; /* values made here */
    size_t n_bufs;
    uint64_t added, changed, removed, expired, bytes;
    uint64_t lost; /* active ones that go: the upstream no longer has them, or the filter leaves them out */
    int64_t live;  /* by how much the number of active records changes */
};
struct edit {
    struct view key, value;
    uint8_t flags;
    bool drop;
};
int edits_add(struct edits *e, struct edit one) MUST_CHECK;
void edits_done(struct edits *e);
/* FULL: everything; DELTA_NEW: only what is not there yet (A6, A7). borrows: the edits refer to the set's
 * bytes. */
int view_compare(struct metadata *m, struct scope *s, const struct source_set *set, enum run_kind kind,
    struct edits *into) MUST_CHECK;
/* Of an upstream that has not changed: only the expired updates whose time is over. */
int view_retire(struct metadata *m, struct scope *s, struct edits *into) MUST_CHECK;
bool filter_match(json_t *filter, const struct source_item *item);
/* origin.c, ops.c, plan.c: generations. One draft at a time (draft.h): made, signed by the node, published.
 */
int origin_view(
    struct metadata *m, struct run *run) MUST_CHECK; /* makes m->draft, or leaves it NULL: nothing changed */
int origin_plan(struct metadata *m, struct run *run, json_t **ret_data, int *ret_exit) MUST_CHECK;
int origin_plan_recall(struct metadata *m, const char *id, json_t **ret_data, int *ret_exit) MUST_CHECK;
int origin_epoch(struct metadata *m, struct peer caller,
    uint64_t command) MUST_CHECK;                /* the same catalogue in a new epoch */
int origin_renew(struct metadata *m) MUST_CHECK; /* the same catalogue under a fresh head */
int origin_on_signed(struct metadata *m, const struct frame *f) MUST_CHECK;
int origin_on_refused(struct metadata *m, const struct frame *f) MUST_CHECK;
void draft_drop(struct metadata *m);
int origin_op(struct metadata *m, struct op op) MUST_CHECK;   /* takes op */
int origin_push(struct metadata *m, struct op op) MUST_CHECK; /* the same, begun by the next origin_ops */
int origin_ops(struct metadata *m) MUST_CHECK; /* makes a draft of what waits, when none is under way */
void op_done(struct op *op);
/* run.c */
int run_load(struct metadata *m) MUST_CHECK;
int run_request(struct metadata *m, enum run_kind kind, const char *by, bool *ret_queued,
    uint64_t *ret_number) MUST_CHECK;
int run_on_job(struct metadata *m, const struct input *in) MUST_CHECK;
int run_on_published(struct metadata *m) MUST_CHECK;
int run_go_on(struct metadata *m) MUST_CHECK; /* a draft that stood in the way is gone */
int run_start(
    struct metadata *m) MUST_CHECK; /* the site is known: what was under way, scheduled or to be retried */
int run_failed(struct metadata *m, int code, const char *fmt, ...) MUST_CHECK PRINTF_LIKE(3, 4);
int run_on_timer(struct metadata *m, enum timer_id id) MUST_CHECK;
int run_on_sync_request(struct metadata *m, const struct frame *f, bool ack) MUST_CHECK;
int run_on_ack(struct metadata *m, struct peer child, const struct frame *f) MUST_CHECK;
int run_on_child(struct metadata *m, const Sitetree__LinkState *l) MUST_CHECK;
int run_on_applied(struct metadata *m) MUST_CHECK; /* the child's run may have reached its generation */
int run_on_link_back(struct metadata *m) MUST_CHECK;
int run_decide(struct metadata *m, uint64_t number, bool approve) MUST_CHECK; /* of a guarded run */
int run_plan(struct metadata *m, struct peer caller, uint64_t command, json_t *args) MUST_CHECK;
int run_cancel(struct metadata *m, uint64_t number) MUST_CHECK;
void run_progress(struct metadata *m, uint64_t items, uint64_t bytes);
json_t *run_json(struct metadata *m, const struct run *r);
const char *run_id(uint64_t number, char out[32]);
uint64_t run_number(const char *id);
void run_free(struct run *r);
/* upstream_table.c */
int upstream_add(struct metadata *m, json_t *args, json_t **ret_data) MUST_CHECK;
int upstream_remove(struct metadata *m, json_t *args, json_t **ret_data) MUST_CHECK;
int upstream_list(struct metadata *m, json_t **ret_data) MUST_CHECK;
int upstream_test(struct metadata *m, struct peer caller, uint64_t command, json_t *args) MUST_CHECK;
int upstream_on_test(
    struct metadata *m, const struct input *in) MUST_CHECK; /* ERR_NOT_FOUND: not a test's job */
int upstream_names(struct metadata *m, char ***ret_names, size_t *ret_n) MUST_CHECK;
json_t *upstream_config(struct metadata *m, const char *name); /* new reference, or NULL */
void upstream_note(
    struct metadata *m, const char *name, const struct source_set *set, int code, const char *text);
/* listing.c */
int catalogue_show(struct metadata *m, json_t **ret_data) MUST_CHECK;
int catalogue_scopes(struct metadata *m, json_t **ret_data) MUST_CHECK;
int catalogue_list(struct metadata *m, json_t *args, bool count, json_t **ret_data) MUST_CHECK;
int update_show(struct metadata *m, json_t *args, json_t **ret_data) MUST_CHECK;
/* command.c, query.c: args may be NULL; *ret_exit stays 0 where all is fine */
json_t *json_time(struct wall t); /* null for 0 */
json_t *json_hash(const struct hash *h);
const char *arg_text(json_t *args, const char *name); /* NULL: not given */
bool arg_flag(json_t *args, const char *name);
int command_run(struct metadata *m, struct peer caller, uint64_t command, struct view text) MUST_CHECK;
void command_reply(
    struct metadata *m, struct peer caller, uint64_t command, const char *schema, json_t *data, int exit);
void command_fail(struct metadata *m, struct peer caller, uint64_t command, int code);
int query_command(
    struct metadata *m, const char *verb, json_t *args, json_t **ret_data, int *ret_exit) MUST_CHECK;

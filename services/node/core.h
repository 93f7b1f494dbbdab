/* What the files of the node's core share: the node, the sites it knows, the sessions of its children, and
 * the functions of each file. Ownership: everything here belongs to the node. Threading: that of the node. */
#pragma once
#include <jansson.h>

#include "proto/link.pb-c.h"
#include "proto/worker.pb-c.h"
#include "services/node/events.h"
#include "services/node/node.h"
#include "services/node/tables.h"
#include "services/node/token.h"
#include "services/node/trust.h"

#define EVENTS_KEEP 10000
#define REFUSALS_KEEP 1000
#define RING_NS (300 * NS_PER_S)
#define RINGS_KEEP (7 * 288) /* a week */
#define REPORT_BYTES_MAX 4096
#define NODE_REQUEST (UINT64_C(1) << 63) /* set in the requests of nodes, clear in those of workers */

enum timer {
    TIMER_UPLINK,
    TIMER_HEARTBEAT,
    TIMER_REPORT,
    TIMER_RELAY,
    TIMER_SESSIONS,
    TIMER_RING,
    TIMER_PROBE,
    TIMER_COUNT
};

/* What a site said about itself last. Texts are cut to size. */
struct summary {
    uint64_t serial, generation, records, backlog, bytes_in, bytes_out, refusals, store_used, store_limit;
    struct epoch epoch;
    struct hash root;
    struct wall made, applied_at, verified_at;
    uint64_t recalled; /* newest generation whose recalls are in force there, and since when */
    struct wall recalled_at;
    int64_t lag_ns, offset_ns, rtt_ns;
    int64_t parent_heard_ns; /* how long before `made` it heard its parent; -1 unknown */
    uint32_t children, worker_restarts;
    char state[16], cause[32], text[160], run[40], run_result[16], software[24], last_refusal[96],
        via[SITE_CODE_MAX + 1];
};

/* Bytes a second over the last window of about ten seconds. */
struct meter {
    struct mono since;
    uint64_t bytes, rate;
};
void meter_add(struct meter *m, struct mono now, size_t bytes);
uint64_t meter_rate(const struct meter *m, struct mono now);

struct session;
/* A site at or below this one. */
struct site {
    struct certificate cert;
    uint8_t signer[32]; /* sign key of the parent that certified it */
    uint32_t number;
    struct wall joined, removed; /* removed: kept for the answers to come */
    bool known;                  /* its whole chain up to this site stands; see sites_link */
    bool reported, dirty;        /* dirty: its report is to be passed upward */
    bool chain_dirty;            /* its certificate or removal is to be passed upward */
    struct wall heard, changed;  /* of the report: when it came; since when it is in this state */
    struct summary last;
    struct site *up;         /* parent; NULL for the node's own site */
    const struct site *by;   /* whose session brought the report; NULL: not known */
    struct session *session; /* while it is connected here */
    bool vouched;            /* direct child of a restored centre: it was heard, and holds nothing newer */
    struct wall seen;        /* last frame of the session before */
    uint8_t door[32];        /* the link key that is let in for it */
    uint64_t door_serial;    /* and of which certificate */
    bool door_open;
};

#define SESSION_ASKED_MAX 128
struct session {
    uint32_t id;
    struct site *site;
    uint64_t nonce;
    struct mono heard;
    struct wall since, heard_wall;
    struct epoch epoch;
    uint64_t generation, bytes_in, bytes_out;
    struct meter in, out;
    int64_t patience_ns; /* silent for longer than this: not heard */
    struct {
        uint64_t request;
        uint32_t bytes;
        struct mono at;
    } asked[SESSION_ASKED_MAX];
    unsigned n_asked;
    uint64_t asked_bytes;
    char software[24];
    struct mono offered; /* when it told last what it holds */
};

enum uplink_state { UPLINK_NONE, UPLINK_WAIT, UPLINK_HELLO, UPLINK_LIVE };
struct uplink {
    enum uplink_state state;
    unsigned place, failures;
    unsigned tried;  /* places that failed since the link was live, or since the last round of all of them */
    bool round_over; /* all of them: the next try begins at the parent again */
    uint64_t number; /* of the connection: what is still told of an earlier one comes late */
    struct mono lost, apart, live; /* lost: since when this place fails; apart: since when none is live */
    bool away, orphan; /* away: live at another site above than the parent, or was before it was lost */
    struct wall away_since;
    struct {
        int code; /* enum err; 0: none since it was live there */
        char text[120];
    } fault[NODE_PARENTS_MAX];
    uint64_t nonce, request;  /* of the hello or heartbeat that is on its way */
    struct mono asked, heard; /* asked: when that left; 0: none is on its way */
    struct mono answered;     /* when the newest request left that was answered: the parent heard us then */
    struct mono retry;        /* WAIT: when the next hello leaves */
    struct wall heard_wall, since, down_since;
    bool sockets; /* the transport says that it is connected */
    int cause;    /* enum err of the last failure; 0 while live */
    char cause_word[32], text[256];
    char path[TRUST_DEPTH_MAX + 1][SITE_CODE_MAX + 1]; /* from the central site to the parent */
    unsigned n_path;
    struct certificate above[TRUST_DEPTH_MAX + 1]; /* the parent's chain, as it showed it last */
    unsigned n_above;
    struct epoch epoch;
    uint64_t generation;
    int64_t offset_ns, rtt_ns;
    bool measured;
    int64_t heartbeat_ns; /* as the parent wants it */
    uint64_t bytes_in, bytes_out;
    struct meter in, out;
};
/* Away from the parent: whether it, or a site between, is well again. */
struct probe {
    enum { PROBE_NONE, PROBE_WAIT, PROBE_HELLO } state;
    unsigned place;
    uint64_t number, request;
    int64_t delay_ns; /* before the next look; doubles */
};

struct pending { /* a command that the worker answers */
    uint64_t command;
    /* what this site knows beside, put to the answer (answer.c) */
    enum addition { ADD_NONE, ADD_SITES, ADD_STORE, ADD_RECALL, ADD_RECALLS, ADD_PLAN } add;
    char site[SITE_CODE_MAX + 1]; /* ADD_SITES: only this one; "": all */
};

struct node {
    struct node_options opt;
    struct node_keys keys;
    struct buf chain;
    struct hash file_chain; /* of the chain in the folder, which chain may have replaced */
    struct identity id;
    struct { /* from node_set_trust on until the command trust.reload */
        bool there;
        struct node_keys keys;
        struct buf chain;
        struct identity id;
    } fresh;
    struct store *store;
    const struct random_source *random;

    struct site self;
    struct site **sites; /* known and removed, ascending by code */
    size_t n_sites, cap_sites;
    struct session **sessions; /* ascending by id */
    size_t n_sessions, cap_sessions;
    struct uplink up;
    struct probe probe;
    struct node_place places[NODE_PARENTS_MAX]; /* parent first, then upward */
    unsigned n_places;
    uint64_t next_request;

    bool worker_ready, worker_seen, worker_full; /* full: its status is known */
    struct wall worker_since;                    /* up or down since */
    uint32_t worker_starts;
    uint32_t worker_pid;
    char worker_software[24];
    char worker_cause[32], worker_text[160]; /* why it ended last, where it could still say so */
    struct wall head_issued, head_expires;
    struct { /* of the deltas that this site keeps for its children; as the worker tells it */
        uint64_t generation, first_ns, now_ns;
        struct wall at;
    } floor;
    uint64_t known_generation;
    struct wall known_at;  /* since when a newer one than ours is known */
    struct wall newest_at; /* since when the newest generation of the tree is known here */
    uint64_t newest;
    struct hash head;
    bool rooted; /* a root is known */
    uint64_t refusals;
    struct mono refusal_stored;
    unsigned refusal_burst;

    struct pending *pending;
    size_t n_pending, cap_pending;
    uint64_t *followers; /* commands of `events` that go on */
    char (*follow_names)[40];
    size_t n_followers, cap_followers;

    uint64_t event_serial, refusal_serial, report_serial, certificate_serial, invite_count;
    uint32_t next_number;
    bool report_due; /* the own report has changed since it was sent */
    struct mono report_sent, relay_sent, timers[TIMER_COUNT];
    bool clock_off, stopping, started;
    struct buf revoked; /* certificates that were taken back (revoked.h) */
    bool restored;      /* central: from a backup, and not released yet */
};

/* What the functions of a step hand to each other. */
struct step {
    struct node *n;
    struct store_txn *txn;
    const struct input *in;
    struct effects *fx;
};

/* node.c */
void node_take_trust(struct node *n); /* what node_set_trust brought */
void step_timer(
    struct step *s, enum timer timer, struct mono at); /* only when it is another time than before */
uint64_t node_request(struct node *n);
struct site *site_look(const struct node *n, const char *code); /* also the own one; NULL */
int site_add(struct node *n, const struct certificate *cert, struct site **ret_site) MUST_CHECK;
void sites_link(struct node *n);  /* finds parents anew, and which sites belong to the tree */
void sites_doors(struct step *s); /* after sites_link: lets in whoever belongs to it now, and nobody else */
const struct site *site_above(const struct node *n, const struct site *site); /* whom it is connected to */
bool site_is_below(const struct site *site, const struct site *above);        /* or the same */
void site_store(struct step *s, const struct site *site, const Sitetree__Signed *certificate,
    const Sitetree__Signed *removal, const char *invite);
void copy_text(char *out, size_t size, const char *in); /* cut to size, control characters replaced */
#define COPY_TEXT(out, in) copy_text((out), sizeof(out), (in))

/* invite.c */
int invite_start(struct step *s) MUST_CHECK; /* opens the door for the invitations that are kept */
int invite_on_join(struct step *s, const struct frame *f, const char *id) MUST_CHECK;
int invite_command(struct step *s, const char *verb, json_t *args) MUST_CHECK;
int site_remove(struct step *s, struct site *site) MUST_CHECK;

/* uplink.c */
int uplink_start(struct step *s) MUST_CHECK;
int uplink_on_frame(
    struct step *s, const struct frame *f) MUST_CHECK; /* hello, heartbeat, refusal and so on */
int uplink_on_link(struct step *s) MUST_CHECK;
int uplink_on_timer(struct step *s) MUST_CHECK;
int uplink_on_heartbeat(struct step *s) MUST_CHECK;
void uplink_send(struct step *s, enum lane_class lane, struct blob *frame);
void uplink_tell_worker(struct step *s);
void uplink_hello(struct step *s);
int uplink_welcome_check(
    const struct node *n, const struct node_place *from, const Sitetree__Welcome *w) MUST_CHECK;
/* What this site has, it cannot get there: ERR_ROLLBACK. */
int uplink_behind(const struct node *n, const Sitetree__Welcome *w) MUST_CHECK;
bool uplink_is_late(const struct step *s); /* this input belongs to a connection that was given up */
const char *uplink_word(const struct uplink *u);
const char *uplink_site(const struct node *n); /* the code of the place dialled; "" at the central site */

/* failover.c */
void failover_down(struct step *s, int code, const char *why); /* the link, or the try for one, is over */
void failover_dial(struct step *s, unsigned place);
void failover_live(struct step *s);               /* after a welcome */
int failover_on_timer(struct step *s) MUST_CHECK; /* while the uplink waits */
int64_t failover_patience(const struct step *s);  /* until when a hello may wait for a connection (mono) */
void failover_on_status(
    struct step *s, const Sitetree__WorkerStatus *w); /* the worker's judgement of the link */
int probe_on_frame(struct step *s, const struct frame *f) MUST_CHECK;
int probe_on_link(struct step *s) MUST_CHECK;
int probe_on_timer(struct step *s) MUST_CHECK;

/* chain.c */
int chain_start(struct step *s) MUST_CHECK;
/* The parent's chain of today leads to this site too. ERR_SIGNATURE, ERR_KEY, ERR_ROLLBACK: not believed. */
int chain_adopt(struct step *s, const Sitetree__Chain *of_parent) MUST_CHECK;

/* place.c */
int places_start(struct step *s) MUST_CHECK;
/* What the site at places[from] tells of the ones above it. */
void places_adopt(struct step *s, unsigned from, Sitetree__Place *const *told, size_t n_told);

/* session.c */
int session_on_frame(struct step *s, const struct frame *f, int parse_rc) MUST_CHECK;
int session_on_link(struct step *s) MUST_CHECK;
int session_on_timer(struct step *s) MUST_CHECK;
void session_tell_worker(struct step *s, const struct session *c, bool up, const char *cause);
void session_end(struct step *s, struct session *c, const char *cause);
struct session *session_look(const struct node *n, uint32_t id);
void session_send(struct step *s, struct session *c, enum lane_class lane, struct blob *frame);
void session_free_all(struct node *n);

/* relay.c */
int relay_from_child(struct step *s, struct session *c, const struct frame *f) MUST_CHECK;
int relay_from_worker(struct step *s) MUST_CHECK;
int relay_from_parent(struct step *s, const struct frame *f) MUST_CHECK;
void relay_to_worker(struct step *s, struct peer via, struct view topic);
void relay_site_info(struct step *s, uint64_t request);
void relay_worker_gone(struct step *s);

/* report.c */
int report_start(struct step *s) MUST_CHECK;
void report_changed(struct step *s);
void report_relay_all(struct step *s);                            /* after a welcome */
int report_on_timer(struct step *s, enum timer timer) MUST_CHECK; /* TIMER_REPORT, TIMER_RELAY */
int report_on_status(struct step *s, const struct frame *f) MUST_CHECK;
void report_relay_soon(struct step *s);
void report_worker_steady(struct step *s); /* forgets why the last worker ended, once this one lives */
void report_newest(struct step *s);        /* looks whether a newer generation is known */

/* heard.c */
int heard_load(struct step *s) MUST_CHECK; /* what was heard in an earlier life */
int heard_on_reports(struct step *s, struct session *c, const struct frame *f) MUST_CHECK;

/* class.c */
void ring_start(struct step *s);
int ring_on_timer(struct step *s) MUST_CHECK;
enum site_class {
    SITE_LIVE,
    SITE_WORKING,
    SITE_BEHIND,
    SITE_BROKEN,
    SITE_NOT_HEARD,
    SITE_HELD,
    SITE_CLASSES
};
const char *site_class_word(enum site_class c);
enum site_class site_class_of(
    const struct node *n, const struct site *site, struct wall now, const char **ret_cause);
int64_t site_lag(const struct node *n, const struct site *site, struct wall now); /* -1 unknown */
bool site_heard(const struct node *n, const struct site *site, struct wall now);

/* events.c */
struct event {
    const char *name, *site, *run, *phase, *text; /* NULL: none */
    int code;
};
void event_write(struct step *s, const struct event *e);
#define EVENT(s, ...) event_write((s), &(struct event){__VA_ARGS__})
void refusal_note(struct step *s, const char *site, bool by_us, int code, const char *text);
int events_command(struct step *s, json_t *args) MUST_CHECK;
void events_unfollow(struct node *n, uint64_t command);

/* sign.c */
int sign_on_frame(struct step *s, const struct frame *f) MUST_CHECK;

/* answer.c */
enum addition answer_addition(const char *command, json_t *args);
/* The worker's answer with what only the node knows; NULL: it goes on as it is. */
struct blob *answer_with(struct step *s, const struct pending *asked, struct view text);

/* revoked.c */
int revoked_start(struct step *s) MUST_CHECK;
void revoked_add(struct step *s, const struct site *site);
int revoked_on_status(struct step *s, struct view list) MUST_CHECK; /* what the newest head says */
/* Whether a site above still belongs to the tree, and this one: ERR_KEY, ERR_REMOVED, ERR_SIGNATURE,
 * ERR_MALFORMED. ret_path (may be NULL, else TRUST_DEPTH_MAX + 1 of them): from the central site to it. */
int revoked_judge(const struct node *n, const Sitetree__Welcome *w, struct certificate *ret_path,
    unsigned *ret_count) MUST_CHECK;

/* restored.c */
int restored_start(struct step *s) MUST_CHECK;
void restored_end(struct step *s, const char *why);
void restored_hear(struct step *s, const struct session *c); /* after each word of a child about itself */

/* command.c */
int command_on_input(struct step *s) MUST_CHECK;
int command_on_reply(struct step *s, const struct frame *f) MUST_CHECK;
void command_worker_gone(struct step *s, int code, const char *why); /* code 0: its process has ended */
void command_gone(struct node *n, uint64_t command);
void reply_data(struct step *s, uint64_t command, const char *schema, json_t *data, int exit_code, bool more);
void reply_error(struct step *s, uint64_t command, int code); /* with err_text() */
json_t *json_wall(struct wall t);                             /* null for 0 */
json_t *json_seconds(int64_t ns);                             /* null for negative */
json_t *json_hex(const void *data, size_t len);
json_t *json_safe(const char *s);                      /* any bytes: what is not clean UTF-8 becomes '?' */
json_t *json_text_or_null(const char *s);              /* the same; null for NULL and "" */
const char *args_text(json_t *args, const char *name); /* NULL when absent or no text */

/* tree.c */
int tree_command(struct step *s, const char *command, json_t *args) MUST_CHECK; /* status, tree, links */
json_t *site_json(const struct node *n, const struct site *site, struct wall now);
/* Sites of the tree below and with `top`, depth first, codes ascending; the caller frees the list. */
int sites_in_order(
    const struct node *n, const struct site *top, const struct site ***ret_list, size_t *ret_n) MUST_CHECK;

/* explain.c */
int explain_command(struct step *s, json_t *args) MUST_CHECK;

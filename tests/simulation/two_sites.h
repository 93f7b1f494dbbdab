/* A central site and one below it: the real metadata cores on whatever stores the test opens, frames handed
 * from one to the other, under one clock that the test moves; heads are signed as a node does. Every commit
 * is a state that is noted with what the store then holds. For tests of the store; the world (tests/lib) is
 * for more. Failures are cmocka's. */
#pragma once
#include <jansson.h>

#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "services/metadata/metadata.h"
#include "tests/lib/disk_log.h"

#define SITE_TIMERS 32
#define SITE_STATES_MAX 4000

struct state { /* what the store holds after a commit */
    struct hash rows;
    uint64_t generation;
};
struct site {
    bool central;
    struct metadata *m;
    struct store *store;
    struct mono timers[SITE_TIMERS];
    json_t *reply;
    uint64_t seed;
    struct random_source random;
    /* recording, where log is set */
    struct disk_log *log;
    struct state *states; /* SITE_STATES_MAX */
    int n_states;
};
struct two_sites {
    struct mono now;
    struct wall wall;
    struct site *central, *below; /* the test's */
};
extern struct two_sites world;

void sites_init(void);
void sites_settle(void); /* until no frame is under way */
void sites_forget(void); /* drops them instead */
void sites_pass(int64_t ns);
/* The core's start on what the store holds, up to where it serves; the code of the step that failed. */
int site_boot(struct site *s);
void site_link(struct site *s, bool parent); /* its link comes up */
void site_end(struct site *s);               /* closes its store too */
/* An operator's command; the answer is the site's until the next one. */
json_t *site_ask(struct site *s, const char *text);
/* Notes what its store holds now as its next state. */
void site_note_state(struct site *s);
int sites_hash_rows(struct store *store, struct hash *ret_hash);
uint64_t sites_generation(struct store *store); /* applied there; 0: none */

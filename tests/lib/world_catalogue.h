/* The catalogue in the world: the metadata worker's core as a struct world_core, the fake upstreams that it
 * fetches, and what scenarios want to know of its records. Ownership and threading: as world.h.
 *
 * An upstream of the world is a set of items under names of its own; items come, change and leave, and a name
 * that left is never used again (so that a key that comes back is a broken P8). */
#pragma once
#include "services/metadata/metadata.h"
#include "tests/lib/world.h"

extern const struct world_core world_metadata;

/* A world of metadata cores: opt->config is a struct metadata_options, or NULL for the defaults. */
struct world *world_catalogue_new(const struct world_options *opt);

/* Deleted keys may come back from here on (filters are widened again): P8 looks away at the first site. */
void world_may_return(struct world *w);

/* Makes the upstream with n items and tells the first site of it (upstream.add, answered before this
 * returns). */
void world_upstream_add(struct world *w, const char *name, unsigned n);
/* Items by chance: some come, some change, some leave. */
void world_upstream_churn(struct world *w, const char *name, unsigned come, unsigned change, unsigned leave);
/* One item; product and classification for filters, NULL: "product" and "security". */
void world_upstream_put(
    struct world *w, const char *name, const char *key, const char *product, const char *classification);
void world_upstream_leave(struct world *w, const char *name, const char *key);
/* The key of one of its items by chance; false: it has none. */
bool world_upstream_any(struct world *w, const char *name, char *ret_key, size_t key_len);
void world_upstream_fail(struct world *w, const char *name, int err); /* every fetch fails; 0: no more */
void world_upstream_hang(struct world *w, const char *name, bool on); /* a fetch never ends */
void world_upstream_slow(struct world *w, const char *name, int64_t ns);
unsigned world_upstream_fetches(struct world *w, const char *name);
unsigned world_upstream_items(struct world *w, const char *name);

/* What the committed store of a site says of a key: */
enum world_record { WORLD_ABSENT, WORLD_LIVE, WORLD_EXPIRED, WORLD_TOMBSTONE };
struct world_key {
    enum world_record state;
    uint64_t revision; /* of the upstream's item that the value was made from */
};
struct world_key world_key(struct world *w, const char *code, const char *key);
/* How many records of each state the site holds. */
void world_count(struct world *w, const char *code, unsigned ret_counts[4]);
/* True when the live records of the site are exactly the items of all upstreams, each in its newest revision.
 */
bool world_equals_upstreams(struct world *w, const char *code, char *ret_why, size_t why_len);
/* The head that a site has applied, altered and signed again with the real key, as a hint without deltas. */
struct world_forgery {
    int64_t generation;  /* added to that of the applied head; 0: the same */
    bool other_epoch;    /* a random epoch with the counter of the applied head */
    int64_t expires;     /* ns added to the expiry */
    uint64_t counter;    /* added to the epoch counter */
    bool strange;        /* a scope has a root that no pages lead to */
    bool old_key;        /* signed by the head key of before the last world_rotate, under its version */
    bool bad_signature;  /* one bit of it is turned */
    bool other_key;      /* signed by a key that nobody trusts */
    bool other_previous; /* it does not follow the applied head */
    enum world_trust {
        WORLD_TRUST_NONE,
        WORLD_TRUST_OLD,     /* version 1 with the root key's signature; it names that key */
        WORLD_TRUST_FOREIGN, /* a later version by another root key; it names that key */
        WORLD_TRUST_UNSIGNED /* a later version with a wrong signature */
    } trust;                 /* the statement that comes along */
};
struct blob *world_forge(
    struct world *w, const char *code, const struct world_forgery *f); /* the caller owns it */
/* Pages in the committed store that the applied head does not reach. */
unsigned world_stray_pages(struct world *w, const char *code);
/* Turns a bit in the last byte of leaf pages in the committed store; returns how many. */
unsigned world_damage_pages(struct world *w, const char *code, unsigned most);
/* The same with the newest delta of each scope. */
unsigned world_damage_deltas(struct world *w, const char *code);
/* Takes leaf pages out of the committed store behind the core's back; returns how many. */
unsigned world_lose_pages(struct world *w, const char *code, unsigned most);

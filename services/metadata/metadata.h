/* The metadata worker's core: the catalogue of one site. It takes it from upstreams (central site) or from
 * the parent (every other site), keeps it as content-addressed pages under one signed head, and serves it to
 * the children. Pure logic: one input, effects (common/bus/step.h). Reading order: tables.c, page.c, tree.c,
 * head.c, delta.c, then draft.c, origin.c and run.c (central), replica.c, catchup.c, walk.c and activate.c
 * (child), serve.c (parent), recall.c, floor.c, command.c (operator), metadata.c (dispatch). */
#pragma once
#include "common/bus/step.h"
#include "common/store/store.h"

struct metadata;

struct metadata_options {
    int64_t poll_interval_ns;  /* asks the parent for its head, with jitter; default 300 s */
    int64_t retry_interval_ns; /* after a failed run (A22); default 60 min */
    bool retry_strict;   /* a link that comes back does not hurry a retry (the profile of the old product) */
    int64_t stall_ns;    /* a run without progress for this long fails; default 15 min */
    int64_t schedule_ns; /* FULL runs at the central site; 0: none; default 24 h */
    int64_t head_lifetime_ns;   /* expires = issued + this; default 7 days */
    int64_t request_timeout_ns; /* of one request on the pull lane; default 20 s */
    uint32_t window_bytes;      /* most that is asked for and not answered; default 4 MiB */
    uint32_t chunk_bytes;       /* of one answer; default 64 KiB */
    uint64_t delta_keep_bytes;  /* per scope, compressed; default 4 MiB */
    uint32_t delta_keep;        /* per scope, number; default 1000 */
    int64_t rehash_ns;          /* every page is hashed again within this time; default 7 days; 0: never */
    bool internet;              /* an internet catalogue is configured (A26) */
    uint32_t runs_keep;         /* default 1000 */
    bool store_refused;      /* the life before ended with ERR_MAP_FULL: nothing new is taken for a minute */
    uint32_t guard_percent;  /* a FULL run that takes away more of a scope waits for approval; default 20; 0:
                                never */
    int64_t expired_keep_ns; /* expired updates stay this long, then they are removed; default 90 days; 0: for
                                ever */
    char apt_dir[256];       /* default /etc/apt: where upstream add --from-system looks */
    const struct clock *stopwatch; /* only to tell how long work within a step took; NULL: it is told as 0 */
};
void metadata_options_default(struct metadata_options *o);

/* The tables of its store, in order; for store_open_*. */
extern const char *const metadata_tables[];
extern const unsigned metadata_n_tables;

/* The core borrows store (for statistics only) and random for its life. */
int metadata_new(const struct metadata_options *opt, struct store *store, const struct random_source *random,
    struct metadata **ret_m) MUST_CHECK;
void metadata_free(struct metadata *m);
/* One step. txn is a write transaction of its store that the driver commits afterwards, before the late
 * sends; the driver may put several steps into one transaction. On an error (disk, map full, no memory) the
 * driver aborts the transaction, drops the effects and starts the core again from the store (metadata_free,
 * metadata_new, INPUT_START with the error as status and its text as body), with store_refused after
 * ERR_MAP_FULL. */
int metadata_step(
    struct metadata *m, struct store_txn *txn, const struct input *in, struct effects *fx) MUST_CHECK;
void metadata_set_options(struct metadata *m, const struct metadata_options *opt); /* reload */

/* The driver tells when the transaction of the last steps is durable: closes the times of what was applied in
 * it. */
void metadata_on_commit(struct metadata *m, struct wall at);

/* Jobs the core asks for with EFFECT_JOB: fetch an upstream. The argument is JSON
 * {"name","config","version","seen_date"}; the driver answers with INPUT_JOB, timer = the job number, status
 * 0 and result = struct source_set * (taken), or status < 0 and the error's text as body. In between, status
 * 1 and JSON {"phase","items","bytes","bytes_total"} as body tells of progress. The argument {"cancel":true}
 * asks to give the job up; it is answered all the same. */

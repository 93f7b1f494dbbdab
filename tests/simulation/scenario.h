/* What the scenarios share: a small tree with one upstream, and the acts they are made of. Each function that
 * fails ends the test with the world's report. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/wire/frame.h"
#include "tests/lib/world_catalogue.h"

#define MINUTE (60 * NS_PER_S)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* The options of a scenario: those of the product, but for a background that stays quiet. */
struct metadata_options scenario_options(void);
/* CEN -> P01 -> B11, CEN -> P02; upstream "up" with so many items; nothing is synced yet. opt is borrowed. */
struct world *scenario_tree(uint64_t seed, const struct metadata_options *opt, unsigned items);
/* The same, synced and converged. */
struct world *scenario_synced(uint64_t seed, const struct metadata_options *opt, unsigned items);
/* sync.now at the central site; returns the answer's data (owned by the caller). */
json_t *scenario_now(struct world *w, bool full);
/* Runs until one more run of the site has ended; true when it succeeded. */
bool scenario_run_ends(struct world *w, const char *code, int64_t at_most);
/* sync.now, until it has ended; must succeed. */
void scenario_sync(struct world *w, bool full);
/* sync.show of the nth last run (0: the newest) of a site; owned by the caller. */
json_t *scenario_run(struct world *w, const char *code, unsigned nth);
const char *scenario_text(json_t *j, const char *field); /* "" when absent */
void scenario_converge(struct world *w, int64_t at_most);
/* Every site that is up holds the head of the first, and that is what the upstreams offer. */
void scenario_equal(struct world *w);
/* verify with deep at a site: must be ok. */
void scenario_verify(struct world *w, const char *code);
/* Asks a site what it shows (when it answers at all): each answer belongs to one signed generation as a whole
 * (P1). */
void scenario_ask(struct world *w, const char *code);

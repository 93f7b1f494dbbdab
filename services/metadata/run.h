/* What the files of the sync runs share: run.c (any site), run_central.c (upstreams, view), run_below.c (a
 * run that the parent asked for), run_children.c (asking the children). */
#pragma once
#include "services/metadata/core.h"

const char *run_phase_word(enum run_phase phase);                             /* "SOURCE"; "" for none */
const char *run_kind_word(enum run_kind kind);                                /* "FULL", "DELTA_NEW" */
struct run *run_make(struct metadata *m, enum run_kind kind, const char *by); /* NULL on no memory */
/* Makes it the active run. */
int run_begin(struct metadata *m, struct run *r) MUST_CHECK;
void run_enter(struct metadata *m, enum run_phase phase);
void run_store(struct metadata *m, const struct run *r);
/* Of the active run: 6702 and what follows it; its end, and the start of what is queued. */
int run_succeeded(struct metadata *m) MUST_CHECK;
int run_end(struct metadata *m, const char *result) MUST_CHECK;
bool run_full_waits(struct metadata *m); /* the run to be retried is a full one */
int run_next_source(struct metadata *m) MUST_CHECK;
int run_view(struct metadata *m) MUST_CHECK;
int run_wait(struct metadata *m) MUST_CHECK; /* below: for the generation that was asked for */
/* Sends the children the request of the active run, and again until each has acknowledged it. */
int children_ask(struct metadata *m) MUST_CHECK;
void children_ask_again(struct metadata *m);
void policy_revise(struct metadata *m, struct run *r);

/* Drafts, for the files that make generations: origin.c (runs, renewal, publication), ops.c (single changes),
 * plan.c. One draft at a time: m->draft. What was written for one that never came is swept later. */
#pragma once
#include "services/metadata/core.h"

struct draft *draft_make(struct metadata *m); /* from what is applied; NULL on no memory */
void draft_drop(struct metadata *m);          /* takes none */
/* All edits of one scope: pages, and deltas where they are worth their bytes. The edits are reordered. */
int draft_edits(struct metadata *m, struct draft *d, const char *scope, struct edits *edits) MUST_CHECK;
/* The update goes to the recalls of the head (the oldest may fall off), or is taken from them. */
void draft_recall(struct draft *d, struct view id, struct wall at);
void draft_unrecall(struct draft *d, struct view id);
int draft_sign(struct metadata *m) MUST_CHECK; /* asks the node */

bool origin_due(const struct metadata *m); /* the head is to be signed anew */
/* The edits of every set of a run; *ret_lost: the scope that loses more than the guard lets pass, NULL: none.
 */
int origin_compare(
    struct metadata *m, struct run *run, struct edits *edits, const char **ret_lost) MUST_CHECK;
void edits_free_all(struct edits *edits, size_t n);
/* ops.c: expires the update in every scope that has it, and puts it to the recalls of the head. *ret_done
 * false: it is nowhere, or among them already. */
int ops_recall(struct metadata *m, struct draft *d, struct view id, bool *ret_done) MUST_CHECK;
/* The first n changes are published, or given up. */
void ops_answer(struct metadata *m, size_t n);
void ops_fail(struct metadata *m, size_t n, int code);

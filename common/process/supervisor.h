/* Child programs: start, restart with backoff, stop. A child dies with its parent (PR_SET_PDEATHSIG).
 * Ownership: the supervisor owns its children; names and arguments are copied. Threading: the loop's thread,
 * which must be the one that lives as long as the process. */
#pragma once
#include <sys/types.h>

#include "common/bus/loop.h"

struct supervisor;
struct child;

enum child_state { CHILD_STOPPED, CHILD_RUNNING, CHILD_WAITING /* for its restart */, CHILD_STOPPING };
const char *child_state_word(enum child_state state);

struct child_events {
    void (*on_started)(void *ctx, struct child *c);
    /* It ended or could not be started; why is "exit 1", "killed by SIGSEGV (core dumped)", "cannot start /x:
     * No such file or directory". restart_ns: when the next start comes, -1 when none does. */
    void (*on_ended)(void *ctx, struct child *c, const char *why, int64_t restart_ns);
    void *ctx;
};

struct child_options {
    const char *name;        /* for people */
    const char *const *argv; /* argv[0] is the path of the program (no search), NULL at the end */
    int64_t backoff_min_ns, backoff_max_ns; /* 0: 250 ms, 30 s; doubling */
    int64_t good_life_ns;                   /* a life this long sets the backoff back; 0: 60 s */
    bool once;                              /* never started again */
    struct child_events events;             /* callbacks may be NULL */
};

/* The loop is borrowed. -ENOMEM. */
int supervisor_new(struct loop *l, struct supervisor **ret_s) MUST_CHECK;
void supervisor_free(struct supervisor *s); /* kills (SIGKILL) and reaps what still runs; takes NULL */
/* Call on PROCESS_CHILD: takes the exits of its own children, and no others. */
void supervisor_reap(struct supervisor *s);
/* Starts it; a failing start counts as a life of no length and is tried again. -ENOMEM only. */
int supervisor_add(struct supervisor *s, const struct child_options *o, struct child **ret_child) MUST_CHECK;
/* All: SIGTERM now, SIGKILL after grace_ns; on_done (may be NULL) when none is left, also when none was. */
void supervisor_stop(struct supervisor *s, int64_t grace_ns, void (*on_done)(void *ctx), void *ctx);

void child_stop(struct child *c, int64_t grace_ns);    /* stays down until child_start */
void child_start(struct child *c);                     /* at once, also in the middle of a backoff */
void child_restart(struct child *c, int64_t grace_ns); /* stop, then start at once */

struct child_info {
    const char *name;
    enum child_state state;
    pid_t pid;         /* 0 when not running */
    unsigned restarts; /* since it was added */
    struct mono since; /* start of this life, or end of the last */
    char why[128];     /* the last exit; empty before the first */
};
void child_info_get(const struct child *c, struct child_info *ret_info); /* name is borrowed */

/* The event loop of every daemon: zmq_poll over sockets and file descriptors, and timers. Work per turn is
 * bounded, so nothing starves: a callback takes at most LOOP_BURST messages and returns; what is left comes
 * in the next turn. Ownership: watches belong to the loop until loop_del; timers are the caller's storage.
 * Threading: everything belongs to the thread that runs the loop, except loop_post and loop_stop, which any
 * thread may call. */
#pragma once
#include <stdbool.h>

#include "common/base/clock.h"

struct loop;
struct loop_watch;

/* Most messages that one callback takes from its socket before it returns. */
#define LOOP_BURST 64

enum {
    LOOP_IN = 1,
    LOOP_OUT = 2,
    LOOP_ERR = 4
}; /* ERR (also: the other end closed) comes unasked, for fds only */

/* The clock is borrowed for the life of the loop. -ENOMEM, -errno. */
int loop_new(const struct clock *clock, struct loop **ret_loop) MUST_CHECK;
/* Frees the loop and every watch that is left; closes no socket and no fd. Takes NULL. */
void loop_free(struct loop *l);

/* Turns until loop_stop. -errno when polling itself fails (a socket was closed with its watch still there).
 */
int loop_run(struct loop *l) MUST_CHECK;
/* One turn: waits at most max_ns (negative: for ever) for something to do, then does it once. For tests and
 * start-up. */
int loop_turn(struct loop *l, int64_t max_ns) MUST_CHECK;
/* loop_run returns after the present turn. Any thread; it is not for signal handlers. */
void loop_stop(struct loop *l);
bool loop_stopping(const struct loop *l);
/* The time of the present turn (one reading per turn), and the clock for those who need it finer. */
struct mono loop_now(const struct loop *l);
const struct clock *loop_clock(const struct loop *l);

/* Watches a file descriptor or a ZeroMQ socket for LOOP_IN and LOOP_OUT (level-triggered). The callback may
 * add and delete watches, its own too. -ENOMEM. */
typedef void loop_fn(void *ctx, int events);
int loop_add_fd(
    struct loop *l, int fd, int events, loop_fn *fn, void *ctx, struct loop_watch **ret_watch) MUST_CHECK;
int loop_add_socket(struct loop *l, void *socket, int events, loop_fn *fn, void *ctx,
    struct loop_watch **ret_watch) MUST_CHECK;
void loop_set_events(struct loop_watch *w, int events);
/* At once: the callback is not called again, not even for what this turn's poll found. Takes NULL. Call it
 * before the socket or fd is closed. */
void loop_del(struct loop_watch *w);

/* A timer; the caller keeps it where it lives until loop_timer_done. Setting and stopping never fail and cost
 * O(log n). */
struct loop_timer {
    struct loop *loop;
    void (*fn)(void *ctx);
    void *ctx;
    struct mono at; /* 0: stopped */
    size_t slot;    /* of the loop's heap, from 1 */
};
int loop_timer_init(
    struct loop *l, struct loop_timer *t, void (*fn)(void *ctx), void *ctx) MUST_CHECK; /* -ENOMEM */
/* Due at `at`, to the millisecond (never early); 0 stops it. A timer fires once; a time that has passed fires
 * in the next turn. */
void loop_timer_set(struct loop_timer *t, struct mono at);
void loop_timer_in(struct loop_timer *t, int64_t ns); /* from now on; never 0 */
void loop_timer_done(struct loop_timer *t);           /* takes one that was never initialised (all zero) */

/* Any thread: fn(ctx) is called by the loop's thread in its next turn, in order of posting. -ENOMEM. What is
 * still posted when the loop is freed is called then. */
int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx) MUST_CHECK;

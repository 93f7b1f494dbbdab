#include "common/bus/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A clock that stands still until it is told: timers are tested without waiting. */
static int64_t fake_now;
static struct mono fake_mono(void *ctx)
{
    (void)ctx;
    return (struct mono){fake_now};
}
static struct wall fake_wall(void *ctx)
{
    (void)ctx;
    return (struct wall){fake_now};
}
static const struct clock fake_clock = {fake_mono, fake_wall, NULL};

static struct loop *loop;

static int setup(void **state)
{
    (void)state;
    fake_now = NS_PER_S;
    return loop_new(&fake_clock, &loop);
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void turn(void)
{
    assert_int_equal(loop_turn(loop, 0), 0);
}

/* Timers. */

static int fired[1000], n_fired;
static void fire(void *ctx)
{
    fired[n_fired++ % 1000] = (int)(intptr_t)ctx;
}

static void timers_fire_once_in_order_and_never_early(void **state)
{
    (void)state;
    struct loop_timer t[3];
    n_fired = 0;
    for (intptr_t i = 0; i < 3; i++)
        assert_int_equal(loop_timer_init(loop, &t[i], fire, (void *)i), 0);
    loop_timer_in(&t[0], 30);
    loop_timer_in(&t[1], 10);
    loop_timer_in(&t[2], 20);
    turn();
    assert_int_equal(n_fired, 0);
    fake_now += 9;
    turn();
    assert_int_equal(n_fired, 0);
    fake_now += 11;
    turn();
    assert_int_equal(n_fired, 2);
    assert_int_equal(fired[0], 1);
    assert_int_equal(fired[1], 2);
    assert_int_equal(t[1].at.ns, 0);
    loop_timer_set(&t[0], (struct mono){0});
    fake_now += NS_PER_S;
    turn();
    assert_int_equal(n_fired, 2);
    for (int i = 0; i < 3; i++)
        loop_timer_done(&t[i]);
}

static void again(void *ctx)
{
    n_fired++;
    loop_timer_in(ctx, 0);
}

static void a_timer_that_is_always_due_starves_nobody(void **state)
{
    (void)state;
    struct loop_timer t;
    n_fired = 0;
    assert_int_equal(loop_timer_init(loop, &t, again, &t), 0);
    loop_timer_in(&t, 0);
    turn();
    assert_int_equal(n_fired, 1);
    turn();
    assert_int_equal(n_fired, 2);
    loop_timer_done(&t);
    loop_timer_done(&(struct loop_timer){0}); /* never initialised */
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t last_at;
static struct loop_timer *many;
static void check_order(void *ctx)
{
    int64_t at = *(int64_t *)ctx;
    assert_true(at >= last_at && at <= fake_now);
    last_at = at;
    n_fired++;
}

/* A thousand timers, set, moved and stopped at random, against a sorted list. */
static void many_timers_keep_their_order(void **state)
{
    (void)state;
    enum { N = 1000 };
    static int64_t at[N], sorted[N];
    unsigned seed = 7, n = 0;
    many = calloc(N, sizeof *many);
    for (int i = 0; i < N; i++)
        assert_int_equal(loop_timer_init(loop, &many[i], check_order, &at[i]), 0);
    for (int round = 0; round < 5 * N; round++) {
        int i = rand_r(&seed) % N;
        at[i] = rand_r(&seed) % 4 == 0 ? 0 : fake_now + 1 + rand_r(&seed) % 5000;
        loop_timer_set(&many[i], (struct mono){at[i]});
    }
    for (int i = 0; i < N; i++)
        if (at[i])
            sorted[n++] = at[i];
    qsort(sorted, n, sizeof *sorted, by_time);
    n_fired = 0;
    last_at = 0;
    for (unsigned k = 0; k < n; k += 100) {
        fake_now = sorted[k];
        turn();
        assert_true((unsigned)n_fired > k);
    }
    fake_now += 10000;
    turn();
    assert_int_equal(n_fired, n);
    for (int i = 0; i < N; i++)
        loop_timer_done(&many[i]);
    free(many);
}

/* Descriptors. */

static struct pipe {
    int fd[2];
    struct loop_watch *watch;
    int reads, last_events;
    struct loop_watch *victim; /* deleted in the callback */
} pipes[2];

static void on_pipe(void *ctx, int events)
{
    struct pipe *p = ctx;
    char c;
    p->last_events = events;
    if (events & LOOP_IN && read(p->fd[0], &c, 1) == 1)
        p->reads++;
    loop_del(p->victim);
    p->victim = NULL;
}

static void open_pipes(void)
{
    for (int i = 0; i < 2; i++) {
        pipes[i] = (struct pipe){0};
        assert_int_equal(pipe(pipes[i].fd), 0);
        assert_int_equal(loop_add_fd(loop, pipes[i].fd[0], LOOP_IN, on_pipe, &pipes[i], &pipes[i].watch), 0);
    }
}

static void close_pipes(void)
{
    for (int i = 0; i < 2; i++) {
        close(pipes[i].fd[0]);
        close(pipes[i].fd[1]);
    }
}

static void descriptors_are_watched_level_triggered(void **state)
{
    (void)state;
    open_pipes();
    assert_int_equal(write(pipes[0].fd[1], "ab", 2), 2);
    turn();
    assert_int_equal(pipes[0].reads, 1);
    turn();
    assert_int_equal(pipes[0].reads, 2);
    turn();
    assert_int_equal(pipes[0].reads, 2);
    loop_set_events(pipes[0].watch, 0);
    assert_int_equal(write(pipes[0].fd[1], "c", 1), 1);
    turn();
    assert_int_equal(pipes[0].reads, 2);
    loop_set_events(pipes[0].watch, LOOP_IN);
    turn();
    assert_int_equal(pipes[0].reads, 3);
    close(pipes[1].fd[1]);
    pipes[1].fd[1] = -1;
    turn();
    assert_true(pipes[1].last_events & LOOP_ERR);
    loop_del(pipes[1].watch);
    close_pipes();
}

static void a_watch_may_be_deleted_in_any_callback(void **state)
{
    (void)state;
    open_pipes();
    pipes[0].victim = pipes[1].watch; /* found by the same poll, and yet not called */
    assert_int_equal(write(pipes[0].fd[1], "a", 1), 1);
    assert_int_equal(write(pipes[1].fd[1], "b", 1), 1);
    turn();
    assert_int_equal(pipes[0].reads, 1);
    assert_int_equal(pipes[1].reads, 0);
    pipes[0].victim = pipes[0].watch; /* its own */
    assert_int_equal(write(pipes[0].fd[1], "cc", 2), 2);
    turn();
    turn();
    assert_int_equal(pipes[0].reads, 2);
    loop_del(NULL);
    close_pipes();
}

/* Other threads. */

static pthread_t posted_in;
static void on_post(void *ctx)
{
    posted_in = pthread_self();
    fire(ctx);
    if ((intptr_t)ctx == 3)
        loop_stop(loop);
}

static void *post_three(void *arg)
{
    (void)arg;
    for (intptr_t i = 1; i <= 3; i++)
        assert_int_equal(loop_post(loop, on_post, (void *)i), 0);
    return NULL;
}

static void other_threads_wake_the_loop(void **state)
{
    (void)state;
    pthread_t thread;
    n_fired = 0;
    assert_int_equal(pthread_create(&thread, NULL, post_three, NULL), 0);
    assert_false(loop_stopping(loop));
    assert_int_equal(loop_run(loop), 0); /* no timer: only the posts end it */
    pthread_join(thread, NULL);
    assert_int_equal(n_fired, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fired[i], i + 1);
    assert_true(pthread_equal(posted_in, pthread_self()));
    assert_true(loop_stopping(loop));
}

static void what_is_posted_last_is_not_lost(void **state)
{
    (void)state;
    struct loop *own;
    n_fired = 0;
    assert_int_equal(loop_new(&fake_clock, &own), 0);
    assert_int_equal(loop_post(own, fire, NULL), 0);
    loop_free(own);
    assert_int_equal(n_fired, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(timers_fire_once_in_order_and_never_early),
        T(a_timer_that_is_always_due_starves_nobody),
        T(many_timers_keep_their_order),
        T(descriptors_are_watched_level_triggered),
        T(a_watch_may_be_deleted_in_any_callback),
        T(other_threads_wake_the_loop),
        T(what_is_posted_last_is_not_lost),
    };
    return cmocka_run_group_tests_name("unit bus loop", tests, NULL, NULL);
}

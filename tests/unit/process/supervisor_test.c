/* With real children: /bin/sh. */
#include "common/process/supervisor.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/process/process.h"

static struct loop *loop;
static struct supervisor *supervisor;
static int signals;
static struct loop_watch *watch;

static struct seen {
    unsigned started, ended, done;
    char why[128];
    int64_t waits[8];
} seen;

#define wait_until(condition)                                                                                \
    do {                                                                                                     \
        int64_t end_ = clock_mono(&clock_real).ns + 15 * NS_PER_S;                                           \
        while (!(condition)) {                                                                               \
            if (clock_mono(&clock_real).ns > end_)                                                           \
                fail_msg("waited in vain for: %s (last: %s)", #condition, seen.why);                         \
            assert_int_equal(loop_turn(loop, 50 * NS_PER_MS), 0);                                            \
        }                                                                                                    \
    } while (0)

static void on_signal(void *ctx, int events)
{
    (void)ctx;
    (void)events;
    for (enum process_signal s; (s = process_signal_next(signals)) != PROCESS_NONE;)
        if (s == PROCESS_CHILD)
            supervisor_reap(supervisor);
}

static void on_started(void *ctx, struct child *c)
{
    (void)ctx;
    (void)c;
    seen.started++;
}

static void on_ended(void *ctx, struct child *c, const char *why, int64_t restart_ns)
{
    (void)ctx;
    (void)c;
    snprintf(seen.why, sizeof seen.why, "%s", why);
    if (seen.ended < 8)
        seen.waits[seen.ended] = restart_ns;
    seen.ended++;
}

static void on_done(void *ctx)
{
    (void)ctx;
    seen.done++;
}

static int setup(void **state)
{
    (void)state;
    seen = (struct seen){0};
    return loop_new(&clock_real, &loop) || supervisor_new(loop, &supervisor) ||
           process_signals_open(&signals) || loop_add_fd(loop, signals, LOOP_IN, on_signal, NULL, &watch);
}

static int teardown(void **state)
{
    (void)state;
    supervisor_free(supervisor);
    loop_free(loop);
    close(signals);
    return 0;
}

/* A shell that runs script; fast backoff. */
static struct child *add(const char *script, bool once)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct child_options o = {.name = "shell",
        .argv = argv,
        .backoff_min_ns = 10 * NS_PER_MS,
        .backoff_max_ns = 35 * NS_PER_MS,
        .once = once,
        .events = {on_started, on_ended, NULL}};
    struct child *c;
    assert_int_equal(supervisor_add(supervisor, &o, &c), 0);
    return c;
}

static struct child_info info(struct child *c)
{
    struct child_info i;
    child_info_get(c, &i);
    return i;
}

static void a_child_that_ends_is_started_again_with_backoff(void **state)
{
    (void)state;
    struct child *c = add("exit 3", false);
    wait_until(seen.ended >= 4);
    assert_string_equal(seen.why, "exit 3");
    assert_int_equal(seen.waits[0], 10 * NS_PER_MS);
    assert_int_equal(seen.waits[1], 20 * NS_PER_MS);
    assert_int_equal(seen.waits[2], 35 * NS_PER_MS);
    assert_int_equal(seen.waits[3], 35 * NS_PER_MS);
    assert_int_equal(info(c).restarts, 3);
    assert_int_equal(info(c).state, CHILD_WAITING);
    assert_string_equal(info(c).why, "exit 3");
    child_stop(c, NS_PER_S);
    assert_int_equal(info(c).state, CHILD_STOPPED);
}

static void a_good_life_sets_the_backoff_back(void **state)
{
    (void)state;
    const char *argv[] = {"/bin/sh", "-c", "exit 0", NULL};
    struct child_options o = {.name = "good",
        .argv = argv,
        .backoff_min_ns = 10 * NS_PER_MS,
        .good_life_ns = 1, /* any life is good */
        .events = {on_started, on_ended, NULL}};
    struct child *c;
    assert_int_equal(supervisor_add(supervisor, &o, &c), 0);
    wait_until(seen.ended >= 3);
    assert_int_equal(seen.waits[2], 10 * NS_PER_MS);
}

static void the_exit_is_told_in_words(void **state)
{
    (void)state;
    add("kill -SEGV $$", true);
    wait_until(seen.ended == 1);
    assert_non_null(strstr(seen.why, "killed by SIGSEGV"));
    assert_int_equal(seen.waits[0], -1);
    const char *argv[] = {"/nowhere/program", NULL};
    struct child_options o = {
        .name = "none", .argv = argv, .once = true, .events = {on_started, on_ended, NULL}};
    struct child *c;
    assert_int_equal(supervisor_add(supervisor, &o, &c), 0);
    assert_int_equal(seen.ended, 2);
    assert_string_equal(seen.why, "cannot start /nowhere/program: No such file or directory");
    assert_int_equal(seen.started, 1);
    assert_int_equal(info(c).pid, 0);
}

static void a_child_that_cannot_start_is_tried_again(void **state)
{
    (void)state;
    const char *argv[] = {"/nowhere/program", NULL};
    struct child_options o = {
        .name = "none", .argv = argv, .backoff_min_ns = NS_PER_MS, .events = {on_started, on_ended, NULL}};
    struct child *c;
    assert_int_equal(supervisor_add(supervisor, &o, &c), 0);
    wait_until(seen.ended >= 3);
    assert_int_equal(seen.started, 0);
    assert_true(info(c).restarts >= 2);
}

static void stopping_asks_first(void **state)
{
    (void)state;
    struct child *c = add("trap 'exit 7' TERM; while :; do sleep 0.01; done", false);
    assert_int_equal(info(c).state, CHILD_RUNNING);
    /* The trap may not be there yet when the signal comes: both ends are an answer to SIGTERM. */
    supervisor_stop(supervisor, 10 * NS_PER_S, on_done, NULL);
    wait_until(seen.done == 1);
    assert_true(strcmp(seen.why, "exit 7") == 0 || strcmp(seen.why, "killed by SIGTERM") == 0);
    assert_int_equal(seen.waits[0], -1);
    assert_int_equal(info(c).state, CHILD_STOPPED);
    supervisor_stop(supervisor, NS_PER_S, on_done, NULL); /* none left: at once */
    assert_int_equal(seen.done, 2);
}

static void what_does_not_stop_is_killed(void **state)
{
    (void)state;
    int ready[2];
    char script[96];
    assert_int_equal(pipe(ready), 0);
    snprintf(script, sizeof script, "trap '' TERM; echo >&%d; while :; do sleep 0.01; done", ready[1]);
    struct child *c = add(script, false);
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    child_stop(c, 20 * NS_PER_MS);
    assert_int_equal(info(c).state, CHILD_STOPPING);
    wait_until(seen.ended == 1);
    assert_string_equal(seen.why, "killed by SIGKILL");
    close(ready[0]);
    close(ready[1]);
}

static void a_restart_starts_at_once(void **state)
{
    (void)state;
    struct child *c = add("exec sleep 60", false);
    pid_t before = info(c).pid;
    child_restart(c, 10 * NS_PER_S);
    wait_until(seen.started == 2);
    assert_int_equal(seen.waits[0], 0);
    assert_int_equal(info(c).state, CHILD_RUNNING);
    assert_int_not_equal(info(c).pid, before);
}

static void a_child_gets_a_clean_start(void **state)
{
    (void)state;
    /* No blocked signals, nothing on its standard input, SIGPIPE as it was. */
    signal(SIGPIPE, SIG_IGN);
    add("test \"$(cat)\" = '' || exit 1; grep -q '^SigBlk:[[:space:]]*0*$' /proc/self/status || exit 2; "
        "grep -q '^SigIgn:[[:space:]]*0*$' /proc/self/status || exit 3; exit 0",
        true);
    wait_until(seen.ended == 1);
    assert_string_equal(seen.why, "exit 0");
    signal(SIGPIPE, SIG_DFL);
}

/* The middle process supervises a shell that holds a pipe open; when the middle one is killed, the pipe must
 * end. */
static void a_child_dies_with_its_parent(void **state)
{
    (void)state;
    int alive[2];
    assert_int_equal(pipe(alive), 0);
    pid_t middle = fork();
    if (middle == 0) {
        char script[64];
        close(alive[0]);
        snprintf(script, sizeof script, "echo >&%d; exec sleep 60", alive[1]);
        add(script, false);
        close(alive[1]);
        for (;;)
            pause();
    }
    char byte;
    close(alive[1]);
    assert_int_equal(read(alive[0], &byte, 1), 1);
    kill(middle, SIGKILL);
    waitpid(middle, NULL, 0);
    assert_int_equal(read(alive[0], &byte, 1), 0);
    close(alive[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_child_that_ends_is_started_again_with_backoff, setup, teardown),
        cmocka_unit_test_setup_teardown(a_good_life_sets_the_backoff_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_exit_is_told_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(a_child_that_cannot_start_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(stopping_asks_first, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_stop_is_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_starts_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_child_gets_a_clean_start, setup, teardown),
        cmocka_unit_test_setup_teardown(a_child_dies_with_its_parent, setup, teardown),
    };
    return cmocka_run_group_tests_name("unit process supervisor", tests, NULL, NULL);
}

#include "common/process/process.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/sitetree-process-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* Limits and the environment last as long as the process, so each test runs in a child; it gives the number
 * of the check that failed, 0 for none. */
static int in_child(int (*fn)(void))
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int started(void)
{
    struct rlimit r;
    int fd = dup(1);
    if (fd < 3 || process_start(512))
        return 1;
    if (umask(0) != 077)
        return 2;
    if (getrlimit(RLIMIT_CORE, &r) || r.rlim_cur != 0 || r.rlim_max != 0)
        return 3;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 4;
    if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || fcntl(1, F_GETFD) & FD_CLOEXEC)
        return 5;
    if (signal(SIGPIPE, SIG_DFL) != SIG_IGN)
        return 6;
    return 0;
}

static void start_sets_limits_and_privileges(void **state)
{
    (void)state;
    assert_int_equal(in_child(started), 0);
}

static int raised(void)
{
    struct rlimit r = {64, 256};
    if (setrlimit(RLIMIT_NOFILE, &r))
        return 1;
    if (process_raise_nofile(32) != 64)
        return 2;
    if (process_raise_nofile(200) != 200 || getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur != 200)
        return 3;
    /* Beyond the hard limit: what can be had. Only who has the capability lifts it; the answer is true in any
     * case. */
    unsigned most = process_raise_nofile(1000);
    if (most != 256 && most != 1000)
        return 4;
    return getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur == most ? 0 : 5;
}

static void the_limit_of_open_files_is_raised(void **state)
{
    (void)state;
    assert_int_equal(in_child(raised), 0);
}

static int signalled(void)
{
    int fd;
    if (process_signals_open(&fd) || process_signal_next(fd) != PROCESS_NONE)
        return 1;
    raise(SIGHUP);
    if (process_signal_next(fd) != PROCESS_RELOAD)
        return 2;
    raise(SIGTERM);
    if (process_signal_next(fd) != PROCESS_STOP)
        return 3;
    raise(SIGINT);
    if (process_signal_next(fd) != PROCESS_STOP)
        return 4;
    raise(SIGCHLD);
    if (process_signal_next(fd) != PROCESS_CHILD || process_signal_next(fd) != PROCESS_NONE)
        return 5;
    return fcntl(fd, F_GETFD) & FD_CLOEXEC ? 0 : 6;
}

static void signals_come_through_the_descriptor(void **state)
{
    (void)state;
    assert_int_equal(in_child(signalled), 0);
}

static int notify_over(const char *name, bool abstract)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char got[64] = "";
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    memcpy(a.sun_path, name, strlen(name));
    if (abstract)
        a.sun_path[0] = 0;
    if (fd < 0 ||
        bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))))
        return 1;
    setenv("NOTIFY_SOCKET", name, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    unsetenv("WATCHDOG_PID");
    if (process_notify("READY=1") != 0 || recv(fd, got, sizeof got, MSG_DONTWAIT) >= 0)
        return 2; /* not before the start */
    if (process_start(64) || process_notify("READY=1\nSTATUS=ok"))
        return 3;
    if (recv(fd, got, sizeof got - 1, MSG_DONTWAIT) != 17 || strcmp(got, "READY=1\nSTATUS=ok") != 0)
        return 4;
    if (getenv("NOTIFY_SOCKET") || getenv("WATCHDOG_USEC"))
        return 5;
    if (process_watchdog_ns() != 1500000000)
        return 6;
    close(fd);
    return abstract || process_notify("STOPPING=1") < 0 ? 0
                                                        : 7; /* nobody listens any more: told, not fatal */
}

static int notify_path(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/notify", folder);
    int rc = notify_over(path, false);
    unlink(path);
    return rc;
}

static int notify_abstract(void)
{
    char name[64];
    snprintf(name, sizeof name, "@sitetree-test-%ld", (long)getpid());
    return notify_over(name, true);
}

static int other_watchdog(void)
{
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    unsetenv("NOTIFY_SOCKET");
    if (process_start(64))
        return 1;
    return process_watchdog_ns() == 0 && process_notify("READY=1") == 0 ? 0 : 2;
}

static void the_service_manager_is_told(void **state)
{
    (void)state;
    assert_int_equal(in_child(notify_path), 0);
    assert_int_equal(in_child(notify_abstract), 0);
    assert_int_equal(in_child(other_watchdog), 0);
}

static char lock_path[64];

static int lock_again(void)
{
    char want[32];
    snprintf(want, sizeof want, "process %ld:", (long)getppid());
    if (process_lock(lock_path) != ERR_EXISTS)
        return 1;
    return strstr(err_text(ERR_EXISTS), want) ? 0 : 2;
}

static int lock_free(void)
{
    return process_lock(lock_path) == 0 ? 0 : 1;
}

static void a_second_process_is_kept_out(void **state)
{
    (void)state;
    snprintf(lock_path, sizeof lock_path, "%s/lock", folder);
    assert_int_equal(in_child(lock_free), 0); /* ended: the lock is free again */
    assert_int_equal(process_lock(lock_path), 0);
    assert_int_equal(in_child(lock_again), 0);
    unlink(lock_path);
    assert_int_equal(process_lock("/nowhere/at/all"), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_sets_limits_and_privileges),
        cmocka_unit_test(the_limit_of_open_files_is_raised),
        cmocka_unit_test(signals_come_through_the_descriptor),
        cmocka_unit_test(the_service_manager_is_told),
        cmocka_unit_test(a_second_process_is_kept_out),
    };
    return cmocka_run_group_tests_name("unit process process", tests, setup, teardown);
}

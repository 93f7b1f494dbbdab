#include "common/process/process.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Of the kernel's close_range(2), since 5.11. */
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static struct {
    char socket[sizeof((struct sockaddr_un *)0)->sun_path + 1]; /* empty: no service manager */
    int64_t watchdog_ns;
} manager;

unsigned process_raise_nofile(unsigned want)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return 0;
    if (r.rlim_cur < want) {
        struct rlimit more = {want, r.rlim_max > want ? r.rlim_max : want};
        if (setrlimit(RLIMIT_NOFILE, &more)) {
            more = (struct rlimit){r.rlim_max < want ? r.rlim_max : want, r.rlim_max};
            (void)setrlimit(RLIMIT_NOFILE, &more);
        }
        if (getrlimit(RLIMIT_NOFILE, &r))
            return 0;
    }
    return r.rlim_cur > UINT_MAX ? UINT_MAX : (unsigned)r.rlim_cur;
}

/* Takes the service manager's variables out of the environment, so that no child answers in our name. */
static void take_manager(void)
{
    const char *socket = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"),
               *pid = getenv("WATCHDOG_PID");
    if (socket && (socket[0] == '/' || socket[0] == '@') && strlen(socket) < sizeof manager.socket)
        snprintf(manager.socket, sizeof manager.socket, "%s", socket);
    if (usec && (!pid || strtoll(pid, NULL, 10) == getpid())) {
        long long us = strtoll(usec, NULL, 10);
        if (us > 0 && us < INT64_MAX / 1000)
            manager.watchdog_ns = us * 1000 / 2;
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

/* An old kernel has no close_range, or none with this flag: then one by one, up to what may be open. */
static void close_at_exec(void)
{
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    long most = sysconf(_SC_OPEN_MAX);
    for (int fd = 3; fd < (most > 0 && most < 65536 ? most : 65536); fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int process_start(unsigned nofile)
{
    umask(077);
    close_at_exec();
    process_raise_nofile(nofile);
    take_manager();
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return err_fail(-errno, "start: SIGPIPE");
    if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}))
        return err_fail(-errno, "start: no core dumps");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_fail(-errno, "start: no new privileges");
    return 0;
}

int process_signals_open(int *ret_fd)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return err_fail(-errno, "blocking signals");
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_fail(-errno, "signalfd");
    *ret_fd = fd;
    return 0;
}

enum process_signal process_signal_next(int fd)
{
    struct signalfd_siginfo info;
    ssize_t n;
    do
        n = read(fd, &info, sizeof info);
    while (n < 0 && errno == EINTR);
    if (n != sizeof info)
        return PROCESS_NONE;
    return info.ssi_signo == SIGCHLD  ? PROCESS_CHILD
           : info.ssi_signo == SIGHUP ? PROCESS_RELOAD
                                      : PROCESS_STOP;
}

int process_notify(const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(manager.socket);
    if (!len)
        return 0;
    memcpy(to.sun_path, manager.socket, len);
    if (to.sun_path[0] == '@')
        to.sun_path[0] = 0; /* the abstract name space */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    int rc = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to, size) < 0
                 ? -errno
                 : 0;
    close(fd);
    return rc;
}

int64_t process_watchdog_ns(void)
{
    return manager.watchdog_ns;
}

int process_lock(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_fail(-errno, "lock %s: %s", path, strerrordesc_np(errno));
    char pid[24] = "";
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        int rc = errno == EWOULDBLOCK ? ERR_EXISTS : -errno;
        ssize_t n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? n : 0] = 0;
        pid[strcspn(pid, "\n")] = 0;
        close(fd);
        return err_fail(rc, "%s is held by process %s: it runs already", path, pid[0] ? pid : "?");
    }
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || write(fd, pid, (size_t)len) != len) {
        int rc = -errno;
        close(fd);
        return err_fail(rc, "lock %s: %s", path, strerrordesc_np(-rc));
    }
    return 0; /* fd stays open: the lock ends with the process */
}

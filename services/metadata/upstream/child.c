#include "services/metadata/upstream/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t now_ns(void)
{
    return clock_mono(&clock_real).ns;
}

/* The environment with LC_ALL=C, as an array that borrows the strings. */
static char **plain_environ(void)
{
    size_t n = 0;
    while (environ[n])
        n++;
    char **env = calloc(n + 2, sizeof *env);
    if (!env)
        return NULL;
    size_t k = 0;
    static char locale[] = "LC_ALL=C";
    env[k++] = locale;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "LC_ALL=", 7) != 0 && strncmp(environ[i], "LANGUAGE=", 9) != 0)
            env[k++] = environ[i];
    return env;
}

static int start(const char *const argv[], int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    AUTO_FREE char **env = plain_environ();
    if (!env)
        return -ENOMEM;
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&attr);
    int rc = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&fa, out, 1);
    rc = rc ? rc : posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    rc = rc ? rc : posix_spawnattr_setsigmask(&attr, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(&attr, &all);
    rc = rc ? rc : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = rc ? rc : posix_spawnp(ret_pid, argv[0], &fa, &attr, (char *const *)(uintptr_t)argv, env);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    if (rc == ENOENT)
        return err_fail(ERR_NOT_FOUND, "%s: not installed", argv[0]);
    return rc ? err_fail(-rc, "%s: %s", argv[0], strerror(rc)) : 0;
}

static bool cancelled(atomic_bool *cancel)
{
    return cancel && atomic_load(cancel);
}

static int collect(int fd, size_t max, int64_t deadline, atomic_bool *cancel, struct buf *out)
{
    char piece[4096];
    for (;;) {
        if (cancelled(cancel))
            return ERR_CANCELLED;
        if (now_ns() > deadline)
            return ERR_TIMEOUT;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) <= 0)
            continue;
        ssize_t n = read(fd, piece, sizeof piece);
        if (n == 0)
            return out->err;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && out->len < max)
            buf_append(out, piece, (size_t)n < max - out->len ? (size_t)n : max - out->len);
    }
}

/* Its output is closed, so it is about to end; kill means at once. */
static int reap(pid_t pid, bool at_once, int64_t deadline, int *ret_status)
{
    int status;
    if (at_once)
        kill(pid, SIGKILL);
    for (;;) {
        pid_t got = waitpid(pid, &status, at_once ? 0 : WNOHANG);
        if (got == pid)
            break;
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0 && now_ns() > deadline) {
            kill(pid, SIGKILL);
            at_once = true;
        } else if (got == 0) {
            poll(NULL, 0, 2);
        }
    }
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return 0;
}

int child_run(const char *const argv[], size_t max, int64_t timeout_ns, atomic_bool *cancel,
    struct buf *ret_output, int *ret_status)
{
    int fd[2];
    pid_t pid;
    int64_t deadline = now_ns() + timeout_ns;
    buf_reset(ret_output);
    if (pipe2(fd, O_CLOEXEC) < 0)
        return -errno;
    int rc = start(argv, fd[1], &pid);
    close(fd[1]);
    if (!rc) {
        rc = collect(fd[0], max, deadline, cancel, ret_output);
        int status = 0, gone = reap(pid, rc != 0, deadline, &status);
        if (rc)
            rc = err_fail(rc, "%s: %s", argv[0], err_sentence(rc));
        else if (gone)
            rc = err_fail(gone, "%s: its end was not seen: %s", argv[0], err_sentence(gone));
        else
            *ret_status = status;
    }
    close(fd[0]);
    return rc;
}

#include "tools/sitetree/start.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 50
#define DEFAULT_DIR "/var/lib/sitetree"

static struct {
    uid_t uid;
    gid_t gid;
} owner; /* nftw carries no context */

static bool answers(struct cli *c)
{
    struct control *control = NULL;
    json_t *reply = NULL;
    int exit_code;
    bool ready = false;
    if (control_open(cli_socket(c), 2 * NS_PER_S, &control) == 0 &&
        ask_once(control, "ping", NULL, &reply, &exit_code) == 0)
        ready = json_is_true(view_at(reply, "data.ready"));
    json_decref(reply);
    control_close(control);
    return ready;
}

/* The unit is for the default folder only. */
static bool unit_is_there(struct cli *c)
{
    static const char *const units[] = {"/etc/systemd/system/sitetreed.service",
        "/lib/systemd/system/sitetreed.service", "/usr/lib/systemd/system/sitetreed.service"};
    if (geteuid() != 0 || strcmp(cli_dir(c), DEFAULT_DIR) != 0 || access("/run/systemd/system", F_OK) != 0)
        return false;
    for (size_t i = 0; i < COUNT_OF(units); i++)
        if (access(units[i], F_OK) == 0)
            return true;
    return false;
}

static int give(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return lchown(path, owner.uid, owner.gid) != 0 ? errno : 0;
}

/* The unit has a user of its own, and what root has just made must be that user's. */
static int give_to_user(const char *dir)
{
    const struct passwd *user = getpwnam("sitetree");
    if (!user)
        return 0;
    owner.uid = user->pw_uid;
    owner.gid = user->pw_gid;
    int rc = nftw(dir, give, 16, FTW_PHYS);
    return rc > 0 ? err_fail(-rc, "%s: cannot be given to the user sitetree: %s", dir, strerrordesc_np(rc))
           : rc   ? -errno
                  : 0;
}

static int start_unit(const char *dir)
{
    int rc = give_to_user(dir);
    if (rc)
        return rc;
    pid_t pid;
    int status;
    char *const argv[] = {(char *)"systemctl", (char *)"enable", (char *)"--now", (char *)"--quiet",
        (char *)"sitetreed.service", NULL};
    rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (rc)
        return err_fail(-rc, "systemctl: %s", strerrordesc_np(rc));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return status == 0 ? 0 : err_fail(ERR_NOT_RUNNING, "systemctl could not start sitetreed.service");
}

/* Beside this program, where both are installed or built; else by PATH. */
static void find_program(char *out, size_t size)
{
    static const char *const places[] = {"sitetreed", "../sbin/sitetreed", "../../services/node/sitetreed"};
    char self[3000];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? (self[n] = 0, strrchr(self, '/')) : NULL;
    for (size_t i = 0; slash && i < COUNT_OF(places); i++) {
        snprintf(out, size, "%.*s/%s", (int)(slash - self), self, places[i]);
        if (access(out, X_OK) == 0)
            return;
    }
    snprintf(out, size, "sitetreed");
}

static int spawn_daemon(struct cli *c, const char *log, pid_t *ret_pid)
{
    char program[3072];
    find_program(program, sizeof program);
    char *argv[] = {(char *)"sitetreed", (char *)"--dir", (char *)cli_dir(c), NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    /* A session of its own: Ctrl-C at this terminal is not for it. */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    int rc = posix_spawnp(ret_pid, program, &files, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return rc ? err_fail(-rc, "%s: %s", program, strerrordesc_np(rc)) : 0;
}

static void last_line(const char *path, char *out, size_t size)
{
    char tail[1200];
    FILE *f = fopen(path, "r");
    out[0] = 0;
    if (!f)
        return;
    if (fseek(f, -(long)(sizeof tail - 1), SEEK_END) != 0)
        rewind(f);
    tail[fread(tail, 1, sizeof tail - 1, f)] = 0;
    fclose(f);
    /* The last line may be the command that helps; what went wrong stands before it. */
    char *line;
    do {
        char *end = tail + strlen(tail);
        while (end > tail && end[-1] == '\n')
            *--end = 0;
        line = strrchr(tail, '\n');
    } while (line && strncmp(line + 1, "try: ", 5) == 0 && (*line = 0, true));
    snprintf(out, size, "%s", line ? line + 1 : tail);
}

static int wait_ready(struct cli *c, pid_t pid, const char *log, int64_t until)
{
    char line[600];
    for (;;) {
        int status = 0;
        if (answers(c))
            return 0;
        if (pid && waitpid(pid, &status, WNOHANG) == pid) {
            last_line(log, line, sizeof line);
            return err_fail(ERR_NOT_RUNNING, "sitetreed ended with %s %d at once: %s",
                WIFEXITED(status) ? "exit code" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                line[0] ? line : "its log is empty");
        }
        if (clock_mono(&clock_real).ns >= until)
            return err_fail(
                ERR_TIMEOUT, "sitetreed is started but not ready; its log is %s", pid ? log : "the journal");
        poll(NULL, 0, POLL_MS);
    }
}

int start_give(struct cli *c)
{
    return unit_is_there(c) ? give_to_user(cli_dir(c)) : 0;
}

const char *start_how(struct cli *c)
{
    static char text[4200];
    snprintf(text, sizeof text, unit_is_there(c) ? "systemctl enable --now sitetreed" : "sitetreed --dir %s",
        cli_dir(c));
    return text;
}

int start_daemon(struct cli *c, int64_t timeout_ns, const char **ret_how)
{
    static char how[40];
    char log[4200];
    pid_t pid = 0;
    int64_t until = clock_mono(&clock_real).ns + timeout_ns;
    int rc;
    snprintf(log, sizeof log, "%s/log", cli_dir(c));
    *ret_how = how;
    if (answers(c)) {
        snprintf(how, sizeof how, "was running");
        return 0;
    }
    if (unit_is_there(c)) {
        snprintf(how, sizeof how, "by systemd");
        rc = start_unit(cli_dir(c));
    } else {
        rc = spawn_daemon(c, log, &pid);
        snprintf(how, sizeof how, "process %d", (int)pid);
    }
    return rc ? rc : wait_ready(c, pid, log, until);
}

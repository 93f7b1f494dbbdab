#include "tools/sitetree/demo_site.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/control/client.h"
#include "common/crypto/crypto.h"

#define FIRST_PORT 14000u
#define PORTS 6000u /* up to 19999: below the ephemeral ports, and beside those of the tests */
#define STOP_NS (10 * NS_PER_S)
#define OUTPUT_MAX (8u << 20)

static volatile sig_atomic_t stopped;
static sigset_t while_waiting;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

void demo_signals_init(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction act = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigset_t block;
    sigemptyset(&block);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        sigaddset(&block, numbers[i]);
        sigaction(numbers[i], &act, NULL);
    }
    sigaction(SIGPIPE, &ignore, NULL);
    sigprocmask(SIG_BLOCK, &block, &while_waiting); /* they come while demo_pause waits, nowhere else */
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        sigdelset(&while_waiting, numbers[i]);
}

bool demo_pause(int64_t ns)
{
    struct timespec t = {ns / NS_PER_S, ns % NS_PER_S};
    if (!stopped)
        ppoll(NULL, 0, &t, &while_waiting);
    return stopped;
}

/* --- which sites, which programs
 * ---------------------------------------------------------------------------------- */

static void plan(struct demo_tree *t, size_t n)
{
    size_t primaries = (size_t)floor(sqrt((double)(n - 1)));
    bool wide = primaries > 9 || (n - 1 - primaries + primaries - 1) / primaries > 9;
    t->n = n;
    t->sites[0] = (struct demo_site){.code = "CEN", .tier = "central", .parent = -1};
    for (size_t i = 1; i < n; i++) {
        struct demo_site *s = &t->sites[i];
        size_t branch = i - 1 - primaries;
        if (i <= primaries) {
            *s = (struct demo_site){.tier = "primary", .parent = 0, .depth = 1};
            snprintf(s->code, sizeof s->code, "P%02zu", i);
            continue;
        }
        *s = (struct demo_site){.tier = "branch", .depth = 2};
        /* as many to each primary, in order: B11 B12 B21 B22 */
        size_t branches = n - 1 - primaries, below = branch * primaries / branches;
        size_t first = (below * branches + primaries - 1) / primaries;
        s->parent = 1 + (int)below;
        snprintf(s->code, sizeof s->code, wide ? "B%02zu-%03zu" : "B%zu%zu", below + 1, branch - first + 1);
    }
}

static int find_program(const char *folder, const char *const candidates[], size_t n, char out[4096])
{
    for (size_t i = 0; i < n; i++) {
        char path[8192];
        snprintf(path, sizeof path, "%s/%s", folder, candidates[i]);
        char *real = access(path, X_OK) == 0 ? realpath(path, NULL) : NULL;
        if (real) {
            snprintf(out, 4096, "%s", real);
            free(real);
            return 0;
        }
    }
    return ERR_NOT_FOUND;
}

static int find_programs(struct demo_tree *t)
{
    static const char *const daemons[] = {
        "../../services/node/sitetreed", "sitetreed", "../sbin/sitetreed", "../lib/sitetree/sitetreed"};
    static const char *const samples[] = {"../../../tests/lib/sample-repo", "../share/sitetree/sample-repo"};
    char folder[4096];
    ssize_t len = readlink("/proc/self/exe", t->self, sizeof t->self - 1);
    if (len <= 0)
        return err_fail(-errno, "/proc/self/exe: %s", strerror(errno));
    t->self[len] = 0;
    snprintf(folder, sizeof folder, "%s", t->self);
    *strrchr(folder, '/') = 0;
    if (find_program(folder, daemons, COUNT_OF(daemons), t->daemon))
        return err_fail(ERR_NOT_FOUND, "sitetreed is not beside %s", t->self);
    if (find_program(folder, samples, COUNT_OF(samples), t->sample))
        t->sample[0] = 0;
    return 0;
}

static int make_folder(struct demo_tree *t, const char *dir)
{
    if (!dir) {
        const char *base = getenv("TMPDIR");
        snprintf(t->dir, sizeof t->dir, "%.4000s/sitetree-demo-XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(t->dir))
            return err_fail(-errno, "%s: %s", t->dir, strerror(errno));
        t->made_dir = true;
        return 0;
    }
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_fail(-errno, "%s: %s", dir, strerror(errno));
    if (!realpath(dir, t->dir))
        return err_fail(-errno, "%s: %s", dir, strerror(errno));
    DIR *d = opendir(t->dir);
    if (!d)
        return err_fail(-errno, "%s: %s", dir, strerror(errno));
    bool empty = true;
    for (struct dirent *e; (e = readdir(d));)
        empty &= strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    return empty ? 0 : err_fail(ERR_EXISTS, "%s is not empty", dir);
}

int demo_tree_init(struct demo_tree *t, size_t n, const char *dir)
{
    *t = (struct demo_tree){0};
    if (n < 2 || n > DEMO_SITES_MAX)
        return err_fail(ERR_USAGE, "a demo has 2 to %d sites", DEMO_SITES_MAX);
    plan(t, n);
    int rc = find_programs(t);
    return rc ? rc : make_folder(t, dir);
}

const char *demo_site_path(
    const struct demo_tree *t, const struct demo_site *s, const char *file, char out[4200])
{
    snprintf(out, 4200, "%.4000s/%s%s%s", t->dir, s->code, *file ? "/" : "", file);
    return out;
}

/* --- ports and configuration
 * -------------------------------------------------------------------------------------- */

static int take_port(unsigned *next, int *ret_fd, unsigned *ret_port)
{
    for (unsigned tries = 0; tries < PORTS; tries++) {
        unsigned port = FIRST_PORT + (*next)++ % PORTS;
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return err_fail(-errno, "socket: %s", strerror(errno));
        if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            *ret_fd = fd; /* held until all are chosen */
            *ret_port = port;
            return 0;
        }
        close(fd);
    }
    return err_fail(
        -EADDRINUSE, "no free port on loopback from %u to %u", FIRST_PORT, FIRST_PORT + PORTS - 1);
}

static int write_config(const struct demo_tree *t, const struct demo_site *s)
{
    AUTO_BUF b = {0};
    char path[4200];
    if (mkdir(demo_site_path(t, s, "", path), 0700) < 0)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    buf_fmt(&b, "# one site of a demo\nlisten = \"127.0.0.1:%u\"\nlisten_hints = \"127.0.0.1:%u\"\n", s->port,
        s->hint_port);
    buf_fmt(&b, "advertise = \"127.0.0.1:%u\"\nadvertise_hints = \"127.0.0.1:%u\"\n", s->port, s->hint_port);
    /* quick timers: somebody is watching */
    buf_str(&b, "heartbeat = 1s\nreport_interval = 1s\npoll_interval = 5s\nschedule = 0\nmap_size = 4GiB\n");
    return b.err ? b.err : file_write_whole(demo_site_path(t, s, "sitetree.conf", path), buf_view(&b), 0600);
}

int demo_tree_prepare(struct demo_tree *t)
{
    int fds[2 * DEMO_SITES_MAX], rc = 0;
    size_t n = 0;
    unsigned next = 0;
    random_real.fill(random_real.ctx, &next, sizeof next);
    for (size_t i = 0; i < t->n && !rc; i++) {
        rc = take_port(&next, &fds[n], &t->sites[i].port);
        n += !rc;
        if (!rc)
            rc = take_port(&next, &fds[n], &t->sites[i].hint_port);
        n += !rc;
    }
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    for (size_t i = 0; i < t->n && !rc; i++)
        rc = write_config(t, &t->sites[i]);
    return rc;
}

/* --- processes
 * ---------------------------------------------------------------------------------------------------- */

/* In the child: signals as they were, and the end of this process is its end. */
static void become_child(pid_t parent)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    sigset_t none;
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        signal(numbers[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
}

static int child_new(const char *const argv[], int in, int out, int err, pid_t *ret_pid)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_fail(-errno, "fork: %s", strerror(errno));
    if (pid == 0) {
        become_child(parent);
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
            _exit(126);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    *ret_pid = pid;
    return 0;
}

static void read_all(int fd, pid_t pid, struct buf *out)
{
    bool told = false;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = ppoll(&p, 1, NULL, &while_waiting);
        if (n < 0 && errno == EINTR) {
            if (stopped && !told)
                kill(pid, SIGTERM);
            told = stopped;
            continue;
        }
        buf_reserve(out, 4096);
        ssize_t got =
            out->err || out->len > OUTPUT_MAX ? 0 : read(fd, out->data + out->len, out->cap - out->len);
        if (got <= 0)
            return;
        out->len += (size_t)got;
    }
}

static int run(const char *const argv[], struct buf *ret_output, int *ret_status)
{
    int pipes[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid;
    if (null < 0)
        return err_fail(-errno, "/dev/null: %s", strerror(errno));
    if (pipe2(pipes, O_CLOEXEC) < 0) {
        close(null);
        return err_fail(-errno, "pipe: %s", strerror(errno));
    }
    int rc = child_new(argv, null, pipes[1], pipes[1], &pid);
    close(pipes[1]);
    close(null);
    if (!rc) {
        read_all(pipes[0], pid, ret_output);
        while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
            ;
        buf_u8(ret_output, 0);
        rc = ret_output->err;
        ret_output->len -= !rc;
    }
    close(pipes[0]);
    return rc;
}

int demo_program(const char *const argv[], struct buf *ret_output)
{
    int status = 0, rc = run(argv, ret_output, &status);
    if (rc || status == 0)
        return rc;
    if (stopped)
        return ERR_CANCELLED;
    char *text = (char *)ret_output->data, *end = text + strlen(text);
    while (end > text && end[-1] == '\n')
        *--end = 0;
    const char *line = strrchr(text, '\n');
    return err_fail(ERR_UPSTREAM, "%s: %s", argv[0], line ? line + 1 : text);
}

int demo_command(
    const struct demo_tree *t, const struct demo_site *s, const char *const words[], json_t **ret_data)
{
    const char *argv[32] = {t->self, "--dir"};
    char dir[4200];
    size_t n = 2;
    argv[n++] = demo_site_path(t, s, "", dir);
    AUTO_BUF shown = {0}, out = {0};
    for (size_t i = 0; words[i] && n < COUNT_OF(argv) - 2; i++) {
        argv[n++] = words[i];
        buf_fmt(&shown, " %.200s", words[i]);
    }
    argv[n++] = "--json";
    buf_u8(&shown, 0);
    int status = 0, rc = run(argv, &out, &status);
    if (rc || shown.err)
        return rc ? rc : shown.err;
    if (stopped)
        return ERR_CANCELLED;
    /* warnings may stand before the answer */
    const char *object = strstr((const char *)out.data, "{\"");
    json_t *answer = object ? json_loads(object, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    const char *message = json_string_value(json_object_get(answer, "message"));
    const char *code = json_string_value(json_object_get(answer, "code"));
    if (status != 0)
        rc = err_fail(code ? err_from_word(code) : ERR_INTERNAL, "%s: sitetree%s: %s", s->code,
            (const char *)shown.data, message ? message : (const char *)out.data);
    else if (ret_data)
        *ret_data = json_incref(json_object_get(answer, "data"));
    json_decref(answer);
    return rc;
}

int demo_site_start(struct demo_tree *t, struct demo_site *s)
{
    char path[4200], dir[4200];
    const char *const argv[] = {t->daemon, "--dir", demo_site_path(t, s, "", dir), NULL};
    int log = open(demo_site_path(t, s, "log", path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int rc = log < 0 || null < 0 ? err_fail(-errno, "%s: %s", path, strerror(errno))
                                 : child_new(argv, null, log, log, &s->pid);
    if (log >= 0)
        close(log);
    if (null >= 0)
        close(null);
    return rc;
}

static int say_how_it_ended(const struct demo_tree *t, const struct demo_site *s)
{
    AUTO_BUF log = {0};
    char path[4200];
    const char *tail = "";
    demo_site_path(t, s, "log", path);
    if (file_read_whole(path, 64u << 20, &log) == 0 && log.len) {
        size_t from = log.len;
        for (int lines = 0; from > 0 && log.len - from < 700 && (lines += log.data[from - 1] == '\n') < 5;)
            from--;
        buf_u8(&log, 0);
        tail = log.err ? "" : (const char *)log.data + from;
    }
    const char *how = WIFSIGNALED(s->exit_status) ? "by signal" : "with exit code";
    int number = WIFSIGNALED(s->exit_status) ? WTERMSIG(s->exit_status) : WEXITSTATUS(s->exit_status);
    return err_fail(
        ERR_INTERNAL, "%s: sitetreed ended %s %d; the end of its log:\n%s", s->code, how, number, tail);
}

int demo_tree_check(struct demo_tree *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct demo_site *s = &t->sites[i];
        if (s->pid > 0 && waitpid(s->pid, &s->exit_status, WNOHANG) == s->pid) {
            s->pid = 0;
            s->ended = true;
        }
        if (s->ended && !stopped)
            return say_how_it_ended(t, s);
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static bool wait_all(struct demo_tree *t, int64_t ns)
{
    int64_t until = clock_mono(&clock_real).ns + ns;
    for (;;) {
        bool any = false;
        for (size_t i = 0; i < t->n; i++) {
            struct demo_site *s = &t->sites[i];
            if (s->pid > 0 && waitpid(s->pid, &s->exit_status, WNOHANG) != 0)
                s->pid = 0;
            any |= s->pid > 0;
        }
        if (!any || clock_mono(&clock_real).ns > until)
            return !any;
        poll(NULL, 0, 10);
    }
}

void demo_tree_done(struct demo_tree *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->sites[i].pid > 0)
            kill(t->sites[i].pid, SIGTERM);
    if (!wait_all(t, STOP_NS)) {
        for (size_t i = 0; i < t->n; i++)
            if (t->sites[i].pid > 0)
                kill(-t->sites[i].pid, SIGKILL); /* its workers are in its group */
        wait_all(t, STOP_NS);
    }
    for (size_t i = 0; i < t->n; i++) {
        json_decref(t->sites[i].seen);
        json_decref(t->sites[i].run);
        t->sites[i].seen = t->sites[i].run = NULL;
    }
    if (t->made_dir)
        nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    t->made_dir = false;
}

/* --- the control socket
 * ------------------------------------------------------------------------------------------- */

static int keep_reply(void *ctx, json_t *reply)
{
    json_t **last = ctx;
    json_decref(*last);
    *last = json_incref(reply);
    return 0;
}

int demo_control(const struct demo_tree *t, const struct demo_site *s, const char *command, json_t *args,
    int64_t timeout_ns, json_t **ret_data)
{
    struct control *c = NULL;
    json_t *reply = NULL;
    char path[4200];
    int code = 0, rc = control_open(demo_site_path(t, s, "run/control.sock", path), timeout_ns, &c);
    if (!rc)
        rc = control_call(c, command, args, keep_reply, &reply, &code);
    control_close(c);
    const char *word = json_string_value(json_object_get(reply, "code"));
    json_t *data = json_object_get(reply, "data");
    if (!rc && word) {
        const char *message = json_string_value(json_object_get(reply, "message"));
        rc = err_fail(err_from_word(word), "%s: %s", s->code, message ? message : word);
    } else if (!rc && !data) {
        rc = err_fail(ERR_MALFORMED, "%s: an answer without data", s->code);
    } else if (!rc) {
        *ret_data = json_incref(data);
    }
    json_decref(reply);
    return rc;
}

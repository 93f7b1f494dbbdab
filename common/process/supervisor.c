#include "common/process/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MIN_NS (250 * NS_PER_MS)
#define BACKOFF_MAX_NS (30 * NS_PER_S)
#define GOOD_LIFE_NS (60 * NS_PER_S)

struct child {
    struct supervisor *supervisor;
    struct child *next;
    char *name, **argv;
    struct child_options o; /* its strings are not used after adding */
    enum child_state state;
    bool again; /* when it ends: start at once */
    pid_t pid;
    unsigned restarts, starts;
    int64_t backoff_ns;
    struct mono since;
    char why[128];
    struct loop_timer timer; /* WAITING: the start; STOPPING: SIGKILL */
};

struct supervisor {
    struct loop *loop;
    struct child *children, **last;
    void (*on_done)(void *ctx); /* of supervisor_stop */
    void *done_ctx;
};

static void start(struct child *c);

const char *child_state_word(enum child_state state)
{
    static const char *const words[] = {"stopped", "running", "waiting", "stopping"};
    return (unsigned)state < sizeof words / sizeof *words ? words[state] : "?";
}

/* In the child, between fork and exec: only what is safe there. */
static void become(struct child *c, pid_t parent, int report)
{
    sigset_t none;
    int null, e;
    sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)signal(sig, SIG_DFL);
    /* The parent may have died before prctl: then nobody would tell. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
        (null = open("/dev/null", O_RDONLY)) >= 0 && dup2(null, 0) == 0 &&
        sigprocmask(SIG_SETMASK, &none, NULL) == 0)
        execv(c->argv[0], c->argv);
    e = errno;
    while (write(report, &e, sizeof e) < 0 && errno == EINTR)
        ;
    _exit(127);
}

/* 0 and a running child, or the errno of what failed (also the exec). */
static int spawn(struct child *c)
{
    int report[2], e = 0;
    pid_t parent = getpid();
    if (pipe2(report, O_CLOEXEC))
        return errno;
    pid_t pid = fork();
    if (pid == 0)
        become(c, parent, report[1]);
    e = pid < 0 ? errno : 0;
    close(report[1]);
    ssize_t n = 0;
    if (!e)
        do
            n = read(report[0], &e, sizeof e); /* ends when exec closes the other end */
        while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (!e)
        c->pid = pid;
    return e;
}

static bool any_left(const struct supervisor *s)
{
    for (const struct child *c = s->children; c; c = c->next)
        if (c->state == CHILD_STOPPING || c->state == CHILD_RUNNING)
            return true;
    return false;
}

static void tell_done(struct supervisor *s)
{
    void (*fn)(void *ctx) = s->on_done;
    if (fn && !any_left(s)) {
        s->on_done = NULL;
        fn(s->done_ctx);
    }
}

/* A life is over (or never began, after an error in starting): what comes next. */
static void ended(struct child *c)
{
    struct mono now = clock_mono(loop_clock(c->supervisor->loop));
    bool stopping = c->state == CHILD_STOPPING, good = now.ns - c->since.ns >= c->o.good_life_ns;
    int64_t wait = -1;
    c->pid = 0;
    if (good)
        c->backoff_ns = 0;
    c->since = now;
    c->state = CHILD_STOPPED;
    loop_timer_set(&c->timer, (struct mono){0});
    if (c->again) {
        wait = 0;
    } else if (!stopping && !c->o.once) {
        wait = c->backoff_ns ? c->backoff_ns : c->o.backoff_min_ns;
        c->backoff_ns = wait * 2 < c->o.backoff_max_ns ? wait * 2 : c->o.backoff_max_ns;
    }
    if (wait >= 0) {
        c->again = false;
        c->state = CHILD_WAITING;
        loop_timer_in(&c->timer, wait);
    }
    if (c->o.events.on_ended)
        c->o.events.on_ended(c->o.events.ctx, c, c->why, wait);
    tell_done(c->supervisor);
}

static void describe(struct child *c, int status)
{
    if (WIFSIGNALED(status))
        snprintf(c->why, sizeof c->why, "killed by SIG%s%s", sigabbrev_np(WTERMSIG(status)),
            WCOREDUMP(status) ? " (core dumped)" : "");
    else
        snprintf(c->why, sizeof c->why, "exit %d", WEXITSTATUS(status));
}

static void on_timer(void *ctx)
{
    struct child *c = ctx;
    if (c->state == CHILD_STOPPING)
        kill(c->pid, SIGKILL);
    else if (c->state == CHILD_WAITING)
        start(c);
}

static void start(struct child *c)
{
    c->since = clock_mono(loop_clock(c->supervisor->loop));
    c->restarts += c->starts++ > 0;
    int e = spawn(c);
    if (e) {
        snprintf(c->why, sizeof c->why, "cannot start %.80s: %s", c->argv[0], strerrordesc_np(e));
        c->state = CHILD_RUNNING;
        ended(c);
        return;
    }
    c->state = CHILD_RUNNING;
    if (c->o.events.on_started)
        c->o.events.on_started(c->o.events.ctx, c);
}

void supervisor_reap(struct supervisor *s)
{
    for (struct child *c = s->children; c; c = c->next) {
        int status;
        pid_t pid = c->pid ? waitpid(c->pid, &status, WNOHANG) : 0;
        if (pid > 0) {
            describe(c, status);
            ended(c);
        } else if (pid < 0 && errno == ECHILD) {
            snprintf(c->why, sizeof c->why, "gone without a word");
            ended(c);
        }
    }
}

/* Adding and removing. */

static void child_free(struct child *c)
{
    loop_timer_done(&c->timer);
    if (c->pid) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    for (char **a = c->argv; a && *a; a++)
        free(*a);
    free(c->argv);
    free(c->name);
    free(c);
}

static bool copy_words(struct child *c, const struct child_options *o)
{
    size_t n = 0;
    while (o->argv[n])
        n++;
    c->name = strdup(o->name);
    c->argv = calloc(n + 1, sizeof(char *));
    for (size_t i = 0; c->argv && i < n; i++)
        if (!(c->argv[i] = strdup(o->argv[i])))
            return false;
    return c->name && c->argv;
}

int supervisor_new(struct loop *l, struct supervisor **ret_s)
{
    struct supervisor *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->loop = l;
    s->last = &s->children;
    *ret_s = s;
    return 0;
}

void supervisor_free(struct supervisor *s)
{
    if (!s)
        return;
    for (struct child *c = s->children, *next; c; c = next) {
        next = c->next;
        child_free(c);
    }
    free(s);
}

int supervisor_add(struct supervisor *s, const struct child_options *o, struct child **ret_child)
{
    struct child *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->supervisor = s;
    c->o = *o;
    c->o.backoff_min_ns = o->backoff_min_ns ? o->backoff_min_ns : BACKOFF_MIN_NS;
    c->o.backoff_max_ns = o->backoff_max_ns ? o->backoff_max_ns : BACKOFF_MAX_NS;
    c->o.good_life_ns = o->good_life_ns ? o->good_life_ns : GOOD_LIFE_NS;
    if (!copy_words(c, o) || loop_timer_init(s->loop, &c->timer, on_timer, c)) {
        child_free(c);
        return -ENOMEM;
    }
    *s->last = c;
    s->last = &c->next;
    *ret_child = c;
    start(c);
    return 0;
}

/* Stopping. */

void child_stop(struct child *c, int64_t grace_ns)
{
    c->again = false;
    if (c->state == CHILD_WAITING) {
        loop_timer_set(&c->timer, (struct mono){0});
        c->state = CHILD_STOPPED;
    } else if (c->state == CHILD_RUNNING) {
        c->state = CHILD_STOPPING;
        kill(c->pid, SIGTERM);
        loop_timer_in(&c->timer, grace_ns);
    }
}

void child_start(struct child *c)
{
    if (c->state == CHILD_STOPPING)
        c->again = true;
    else if (c->state != CHILD_RUNNING)
        start(c);
}

void child_restart(struct child *c, int64_t grace_ns)
{
    child_stop(c, grace_ns);
    child_start(c);
}

void supervisor_stop(struct supervisor *s, int64_t grace_ns, void (*on_done)(void *ctx), void *ctx)
{
    s->on_done = on_done;
    s->done_ctx = ctx;
    for (struct child *c = s->children; c; c = c->next)
        child_stop(c, grace_ns);
    tell_done(s);
}

void child_info_get(const struct child *c, struct child_info *ret_info)
{
    *ret_info = (struct child_info){c->name, c->state, c->pid, c->restarts, c->since, ""};
    memcpy(ret_info->why, c->why, sizeof ret_info->why);
}

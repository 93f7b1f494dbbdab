#include "services/metadata/job.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PROGRESS_NS (250 * NS_PER_MS)

struct job {
    struct jobs *owner;
    struct job *next;
    unsigned id;
    pthread_t thread;
    json_t *argument;
    char dir[4096];
    atomic_bool cancel;
    /* told by the thread, read by the loop */
    pthread_mutex_t lock;
    char phase[32];
    uint64_t items, bytes, bytes_total;
    struct mono told;
    bool posted, done;
    int status;
    char text[1024];
    struct source_set *result;
};
struct jobs {
    struct loop *loop;
    char dir[3800];
    struct job_events events;
    struct job *list;
};

int jobs_new(struct loop *l, const char *dir, const struct job_events *ev, struct jobs **ret_jobs)
{
    struct jobs *j = calloc(1, sizeof *j);
    if (!j)
        return -ENOMEM;
    j->loop = l;
    j->events = *ev;
    snprintf(j->dir, sizeof j->dir, "%s/upstream", dir);
    if (mkdir(j->dir, 0700) < 0 && errno != EEXIST) {
        int rc = err_fail(-errno, "%s: %s", j->dir, strerror(errno));
        free(j);
        return rc;
    }
    *ret_jobs = j;
    return 0;
}

static void job_free(struct job *job)
{
    struct job **at = &job->owner->list;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    pthread_join(job->thread, NULL);
    pthread_mutex_destroy(&job->lock);
    json_decref(job->argument);
    source_free(job->result);
    free(job);
}

/* In the loop's thread: what the job has told since the last time. */
static void on_told(void *ctx)
{
    struct job *job = ctx;
    struct jobs *owner = job->owner;
    char text[256];
    pthread_mutex_lock(&job->lock);
    job->posted = false;
    bool done = job->done;
    snprintf(text, sizeof text, "{\"phase\":\"%s\",\"items\":%llu,\"bytes\":%llu,\"bytes_total\":%llu}",
        job->phase, (unsigned long long)job->items, (unsigned long long)job->bytes,
        (unsigned long long)job->bytes_total);
    pthread_mutex_unlock(&job->lock);
    if (!done) {
        owner->events.on_job(owner->events.ctx, job->id, 1, text, NULL);
        return;
    }
    struct source_set *result = job->result;
    job->result = NULL;
    owner->events.on_job(owner->events.ctx, job->id, job->status, job->text, result);
    job_free(job);
}

static void tell(struct job *job, bool done)
{
    pthread_mutex_lock(&job->lock);
    job->done = done;
    bool post = !job->posted;
    if (post)
        job->posted = true;
    pthread_mutex_unlock(&job->lock);
    if (post && loop_post(job->owner->loop, on_told, job)) { /* no memory: the next progress posts again */
        pthread_mutex_lock(&job->lock);
        job->posted = false;
        pthread_mutex_unlock(&job->lock);
    }
}

static void on_progress(void *ctx, const char *phase, uint64_t items, uint64_t bytes, uint64_t bytes_total)
{
    struct job *job = ctx;
    struct mono now = clock_mono(&clock_real);
    pthread_mutex_lock(&job->lock);
    snprintf(job->phase, sizeof job->phase, "%s", phase);
    job->items = items;
    job->bytes = bytes;
    job->bytes_total = bytes_total;
    bool due = now.ns - job->told.ns >= PROGRESS_NS;
    if (due)
        job->told = now;
    pthread_mutex_unlock(&job->lock);
    if (due)
        tell(job, false);
}

static void *run(void *ctx)
{
    struct job *job = ctx;
    json_t *config = json_object_get(job->argument, "config");
    const char *kind = json_string_value(json_object_get(config, "kind"));
    const struct adapter *a = kind ? adapter_find(kind) : NULL;
    struct source_request r = {.name = json_string_value(json_object_get(job->argument, "name")),
        .config = config,
        .cache_dir = job->dir,
        .version = json_string_value(json_object_get(job->argument, "version")),
        .seen_date = {json_integer_value(json_object_get(job->argument, "seen_date"))},
        .now = clock_wall(&clock_real),
        .cancel = &job->cancel,
        .progress = on_progress,
        .ctx = job};
    int rc = a && r.name && r.version ? a->fetch(&r, &job->result)
                                      : err_fail(ERR_UPSTREAM, "upstream %s: no adapter of kind '%s'",
                                            r.name ? r.name : "?", kind ? kind : "");
    job->status = rc;
    if (rc)
        snprintf(job->text, sizeof job->text, "%s", err_text(rc));
    tell(job, true);
    return NULL;
}

static void fail(struct jobs *j, unsigned id, int code)
{
    j->events.on_job(j->events.ctx, id, code, err_text(code), NULL);
}

void jobs_start(struct jobs *j, unsigned id, struct view argument)
{
    json_t *arg = json_loadb((const char *)argument.data, argument.len, 0, NULL);
    if (json_is_true(json_object_get(arg, "cancel"))) {
        for (struct job *job = j->list; job; job = job->next)
            if (job->id == id)
                atomic_store(&job->cancel, true);
        json_decref(arg);
        return;
    }
    const char *name = json_string_value(json_object_get(arg, "name"));
    struct job *job = calloc(1, sizeof *job);
    if (!job || !name) {
        free(job);
        json_decref(arg);
        fail(j, id, job ? err_fail(ERR_INTERNAL, "a job without a name") : -ENOMEM);
        return;
    }
    job->owner = j;
    job->id = id;
    job->argument = arg;
    pthread_mutex_init(&job->lock, NULL);
    snprintf(job->dir, sizeof job->dir, "%s/%s", j->dir, name);
    if ((mkdir(job->dir, 0700) < 0 && errno != EEXIST) || pthread_create(&job->thread, NULL, run, job) != 0) {
        int rc = err_fail(ERR_UPSTREAM, "upstream %s: %s: %s", name, job->dir, strerror(errno));
        pthread_mutex_destroy(&job->lock);
        json_decref(arg);
        free(job);
        fail(j, id, rc);
        return;
    }
    job->next = j->list;
    j->list = job;
}

void jobs_free(struct jobs *j)
{
    if (!j)
        return;
    for (struct job *job = j->list; job; job = job->next)
        atomic_store(&job->cancel, true);
    while (j->list)
        job_free(j->list);
    free(j);
}

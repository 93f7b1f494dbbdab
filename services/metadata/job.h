/* One upstream fetch in a thread of its own. Ownership: a job belongs to its jobs list until its result is
 * taken. Threading: the callbacks run in the loop's thread. */
#pragma once
#include "common/bus/loop.h"
#include "services/metadata/source.h"

struct jobs;
struct job_events {
    /* text: of the error (status < 0), or JSON of the progress (status 1). result is handed over. */
    void (*on_job)(void *ctx, unsigned id, int status, const char *text, struct source_set *result);
    void *ctx;
};
int jobs_new(struct loop *l, const char *dir, const struct job_events *ev, struct jobs **ret_jobs) MUST_CHECK;
/* Cancels what runs and waits for it; takes NULL. */
void jobs_free(struct jobs *j);
/* argument: as in metadata.h. A failure to start is reported like one of the job. */
void jobs_start(struct jobs *j, unsigned id, struct view argument);

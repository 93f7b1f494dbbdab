/* The driver of the metadata core in its own process: store, ipc to the node, timers, upstream jobs in
 * threads. Several inputs share one transaction; early sends leave at once, all else after the commit.
 * Threading: the loop's thread, and one thread per job, which touches nothing but its job. */
#pragma once
#include "common/config/config.h"
#include "services/metadata/metadata.h"

struct io_options {
    const char *dir; /* of the site */
    const char *run_dir;
    const char *config_path; /* NULL: defaults */
};
/* Runs until SIGTERM or until the node is gone. 0, or the error that ended it. */
int io_run(const struct io_options *o) MUST_CHECK;
void io_metadata_options(const struct config *c, struct metadata_options *ret_options);

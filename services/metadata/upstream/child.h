/* Runs a program of the system without a shell and collects what it prints. Ownership: argv is borrowed.
 * Threading: safe; the caller's thread waits. */
#pragma once
#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

/* Runs argv[0] (found by PATH) with LC_ALL=C and no input; standard output goes into ret_output (at most max
 * bytes; what comes after is dropped), standard error nowhere. ret_status is its exit code, or 128 + signal.
 * ERR_NOT_FOUND: there is no such program; ERR_TIMEOUT and ERR_CANCELLED after killing it; -errno. cancel may
 * be NULL. */
int child_run(const char *const argv[], size_t max, int64_t timeout_ns, atomic_bool *cancel,
    struct buf *ret_output, int *ret_status) MUST_CHECK;

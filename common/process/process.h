/* What every daemon does at its start: limits, privileges, signals as a file descriptor, and telling the
 * service manager (sd_notify's protocol: a datagram to NOTIFY_SOCKET). Ownership: the process itself.
 * Threading: the main thread, before any other thread is there (the signal mask is inherited). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* umask 077, no core dumps, no new privileges, SIGPIPE ignored, inherited descriptors from 3 on closed at
 * exec, RLIMIT_NOFILE raised (process_raise_nofile), the service manager's variables taken out of the
 * environment. nofile: 2 x peers + 1000 is right; it is not an error when the hard limit is lower, see the
 * result. -errno. */
int process_start(unsigned nofile) MUST_CHECK;
/* Raises the soft limit of open files toward want (at most the hard limit, which root may lift); returns what
 * holds. */
unsigned process_raise_nofile(unsigned want);

enum process_signal { PROCESS_NONE, PROCESS_STOP, PROCESS_RELOAD, PROCESS_CHILD };
/* Blocks SIGTERM, SIGINT, SIGHUP and SIGCHLD and gives a signalfd for them (non-blocking, close-on-exec).
 * -errno. */
int process_signals_open(int *ret_fd) MUST_CHECK;
/* The next one that waits, or PROCESS_NONE. */
enum process_signal process_signal_next(int fd);

/* To the service manager; nothing happens where there is none. state: "READY=1", "STOPPING=1", "WATCHDOG=1",
 * "STATUS=..."; several are separated by newlines. -errno; callers may ignore it. */
int process_notify(const char *state);
/* How often WATCHDOG=1 is due: half of what the service manager waits; 0 where it does not watch us. */
int64_t process_watchdog_ns(void);

/* The lock of a daemon's run folder: ERR_EXISTS with the other's pid when one runs already. Held until the
 * process ends. */
int process_lock(const char *path) MUST_CHECK;

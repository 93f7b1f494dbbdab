/* The command line's end of the control socket: a call sends one request and takes its answers, one after the
 * other. Ownership: the connection is the caller's; a reply is borrowed for its callback. Threading: one
 * thread each. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

struct control;

/* timeout_ns: for the connection, and for each silence while an answer is awaited; 0 waits without end.
 * ERR_NOT_RUNNING (nobody listens), -EACCES, ERR_REFUSED (the daemon of another user), ERR_TIMEOUT. */
int control_open(const char *path, int64_t timeout_ns, struct control **ret_control) MUST_CHECK;
void control_close(struct control *c); /* takes NULL */
void control_set_timeout(struct control *c, int64_t timeout_ns);

/* A reply of the daemon, the whole object. Non-zero ends the call (the connection is then closed to further
 * calls). */
typedef int control_on_reply(void *ctx, json_t *reply);

/* args: an object, borrowed, or NULL. ret_exit: the exit code that the last answer names (1 where it names
 * none). 0 when the last answer came, whatever it says; what on_reply returned when that is not 0;
 * ERR_TIMEOUT, ERR_NOT_RUNNING (it ended meanwhile), ERR_MALFORMED, ERR_TOO_LARGE. */
int control_call(struct control *c, const char *command, json_t *args, control_on_reply *on_reply, void *ctx,
    int *ret_exit) MUST_CHECK;

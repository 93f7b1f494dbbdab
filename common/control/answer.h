/* What goes over the control socket: requests taken apart, answers put together (docs/control.md). For the
 * daemons. Ownership: as said at each function. Threading: none shared. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

struct control_request {
    json_t *json; /* the owner of the two below */
    const char *command;
    json_t *args; /* an object; an empty one where none were sent */
};
/* ERR_MALFORMED with the reason. */
int control_request_parse(struct view text, struct control_request *ret_request) MUST_CHECK;
void control_request_done(struct control_request *r);

/* {"schema":"sitetree.NAME/1","as_of":...,"data":...,"exit":...,"more":...}. name: "status", "sync-now".
 * Takes data, also on failure; NULL on no memory or NULL data. */
struct blob *control_answer(const char *name, struct wall as_of, json_t *data, int exit_code, bool more);
/* A sitetree.error/1 of an error code with its err_text(); hint NULL: that of the code. Exit is 2 for
 * ERR_USAGE, 4 for ERR_TIMEOUT, 1 otherwise. NULL on no memory. */
struct blob *control_error(int code, const char *hint);
/* The exit code of the command line for an error code. */
int control_exit_of(int code);

/* The event log of a site. Names, legacy codes and levels come from a data file (deploy/data/events.txt,
 * built in), never from the code. Ownership: rows borrow from the text. Source: requirements A20, A21, F1,
 * F3. */
#pragma once
#include "common/base/buf.h"

struct event_row {
    struct view name, level, sentence;
    unsigned legacy; /* 0: none */
};

extern const struct view events_builtin;

/* Finds a name in a text of rows; ERR_NOT_FOUND, or ERR_CONFIG with the line when a row is off. */
int event_find(struct view text, const char *name, struct event_row *ret_row) MUST_CHECK;
/* Reads the row that begins at *offset, skips comments, moves *offset on; ERR_NOT_FOUND at the end. */
int event_next(struct view text, size_t *offset, struct event_row *ret_row) MUST_CHECK;

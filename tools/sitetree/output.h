/* Where answers, errors and progress go: text or JSON, a terminal or a pipe. stdout carries the answer and
 * nothing else. Threading: one thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

enum color { COLOR_NONE, COLOR_GREEN, COLOR_YELLOW, COLOR_RED, COLOR_BLUE, COLOR_DIM, COLOR_BOLD };

struct output {
    FILE *out, *err;
    bool json, color, local;
    bool err_terminal;       /* progress is rewritten in place */
    size_t width;            /* 0: no limit */
    struct wall as_of;       /* of the answer that is shown */
    const char *command;     /* "sync now", for errors */
    const char *dir;         /* what --dir gave, or NULL: the commands in hints carry it on */
    struct mono progress_at; /* of the last plain line of progress */
    bool progress_open;      /* a rewritten line stands on the terminal */
};

/* choice: auto, always, never, or NULL. Reads NO_COLOR, TERM and COLUMNS. */
void output_init(struct output *o, bool json, bool local, const char *choice);
/* Begins and ends a colour; nothing where there is none. */
const char *output_color(const struct output *o, enum color c);
const char *output_plain(const struct output *o);
enum color output_class_color(const char *class_name);

void output_text(struct output *o, struct view text);
/* {"schema","as_of","data"} of a reply of the daemon on one line. */
void output_reply(struct output *o, json_t *reply);
/* The same for what no daemon was asked for. Takes data. */
void output_data(struct output *o, const char *schema, json_t *data);

/* An error as text on stderr ("sitetree COMMAND: message" and "try: hint"), or as JSON on stdout. */
void output_error(struct output *o, const char *code, const char *message, const char *hint);
/* The same for an error of ours, with its err_text and hint; hint NULL takes that of the code. Returns the
 * exit code. */
int output_fail(struct output *o, int code, const char *hint);

/* Progress on stderr: in place on a terminal, else a line every 5 s (always: at once). Nothing with a NULL
 * text but the end of the line in place. */
void output_progress(struct output *o, const char *text, bool always);
/* A remark on stderr. */
void output_note(struct output *o, const char *fmt, ...) PRINTF_LIKE(2, 3);

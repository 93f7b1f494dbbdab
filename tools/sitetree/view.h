/* How an answer becomes text: sections of records, tables and lines, whose fields name the JSON paths that
 * they show. The same tables are the mapping from text columns to JSON that the man pages print and the tests
 * check. */
#pragma once
#include <jansson.h>

#include "tools/sitetree/output.h"

enum format {
    FORMAT_TEXT,
    FORMAT_COUNT,   /* 66,481 */
    FORMAT_NUMBER,  /* 66481: generations, serials, identifiers */
    FORMAT_BYTES,   /* 13 MiB */
    FORMAT_RATE,    /* 13 MiB/s; 0 is "no limit" where FIELD_LIMIT */
    FORMAT_SECONDS, /* 0.4 s, 2 h 04; of a time: how long ago */
    FORMAT_TIME,    /* of day when it is today, else with the date */
    FORMAT_HASH,    /* the first 8 digits */
    FORMAT_YES,     /* yes, no */
    FORMAT_LIST,    /* words with commas between them */
    FORMAT_PAIRS,   /* an object: name value, name value */
    FORMAT_SIGNED,  /* seconds with their sign: +0.3 s */
    FORMAT_FLOOR,   /* seconds ahead: in 3 d; 0: below */
};

enum field_flag {
    FIELD_KEEP = 1,  /* leaves last when the terminal is narrow */
    FIELD_CLASS = 2, /* coloured as a class of sites */
    FIELD_MAYBE = 4, /* an absent value is left out of a record, and is "-" in a table: it does not exist,
                        rather than being unknown */
    FIELD_LIMIT = 8, /* 0 is "no limit" */
    FIELD_ALL = 32,  /* an empty list is "all" */
    FIELD_TREE = 16, /* indented by the number at "depth" */
};

struct field {
    const char *title, *path;
    enum format format;
    unsigned flags;
};

enum section_kind {
    SECTION_END,
    SECTION_RECORD, /* one field a line: title, value; path is the object, "" the whole */
    SECTION_TABLE,  /* a list of objects: one a line under a line of titles */
    SECTION_LINES,  /* a list of texts, the title before the first */
};
struct section {
    enum section_kind kind;
    const char *path, *title;
    const struct field *fields; /* until title is NULL */
    const char *empty;          /* what a table without rows says; NULL: the section is left out */
};

/* Views that sections cannot say draw themselves; their fields are listed in sections all the same. */
typedef void view_draw(struct output *o, const json_t *data);
struct screen {
    const struct section *sections;
    view_draw *draw;
};

/* The value at a path of names with dots, "" for the whole; NULL when it is absent or null. */
const json_t *view_at(const json_t *from, const char *path);
/* Appends the value as text: "?" where it is unknown. */
void view_value(struct output *o, const struct field *f, const json_t *row, struct buf *out);
void view_draw_sections(struct output *o, const struct section *sections, const json_t *data);
void view_show(struct output *o, const struct screen *v, const json_t *data);
/* One section that is a table; rows that are null in `rows` are left out. more: the titles were shown before.
 */
void view_table(struct output *o, const struct section *s, const json_t *rows, bool more);

/* Small forms that the drawn views share. */
void view_count(int64_t n, struct buf *out);
void view_bytes(double n, struct buf *out);
void view_seconds(const json_t *v, struct buf *out); /* "?" for what is no number */
void view_time(const struct output *o, const char *rfc3339, struct buf *out);
/* Seconds from a time in the answer to its as_of; -1 unknown. */
double view_age(const struct output *o, const char *rfc3339);

/* The configuration of a site: one file of `key = value` lines, read by libconfuse and checked against the
 * table in schema.h; a key that is unknown, repeated or out of range is refused with file and line.
 * Ownership: texts are borrowed from the configuration. Threading: one parse at a time in a process (the
 * scanner of libconfuse has global state); a configuration does not change once it is made. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/config/schema.h"

enum config_type {
    CONFIG_TYPE_TEXT,
    CONFIG_TYPE_PATH,     /* absolute */
    CONFIG_TYPE_ENDPOINT, /* host:port, [v6]:port or :port */
    CONFIG_TYPE_DURATION, /* 250ms 30s 15m 24h 7d, or a number of seconds */
    CONFIG_TYPE_BYTES,    /* 512 64KiB 4MiB 1GiB, 64kB 4MB 1GB */
    CONFIG_TYPE_RATE,     /* the same with /s or without */
    CONFIG_TYPE_NUMBER,
    CONFIG_TYPE_FLAG, /* yes no true false on off */
    CONFIG_TYPE_LOG_FORMAT,
    CONFIG_TYPE_LOG_LEVEL,
};

enum config_key {
#define CONFIG_ENUM(key, name, type, def, least, most, reload, text) key,
    CONFIG_TABLE(CONFIG_ENUM)
#undef CONFIG_ENUM
        CONFIG_COUNT
};

/* One row of the table, for help and man pages. */
struct config_row {
    const char *name;
    enum config_type type;
    const char *def, *least, *most; /* texts; def is empty where it is derived */
    bool reload;                    /* takes effect by `reload`; otherwise at the next start */
    const char *sentence;
};
extern const struct config_row config_rows[CONFIG_COUNT];

struct config;

/* Reads a file; NULL gives the defaults. ERR_CONFIG with "file:line: what", errno values when it cannot be
 * read. */
int config_load(const char *path, struct config **ret_config) MUST_CHECK;
/* The same from a text; name stands for the file in messages. */
int config_parse_text(const char *text, const char *name, struct config **ret_config) MUST_CHECK;
void config_free(struct config *c); /* takes NULL */

/* Values. The type must be that of the row. A derived key that was not set gives "" (not_heard_after: already
 * three heartbeats). Choices (log_format, log_level) are texts. */
const char *config_text(const struct config *c, enum config_key key);
int64_t config_duration_ns(const struct config *c, enum config_key key);
uint64_t config_bytes(const struct config *c, enum config_key key); /* also rates: bytes a second */
uint64_t config_number(const struct config *c, enum config_key key);
bool config_flag(const struct config *c, enum config_key key);
bool config_is_set(const struct config *c, enum config_key key);

/* Appends the configuration as text that parses back to the same one; derived keys that were not set stay
 * comments. */
void config_print(const struct config *c, struct buf *out);
/* Appends the value of one key as it would be written in the file. */
void config_print_value(const struct config *c, enum config_key key, struct buf *out);
/* Appends the shipped example: every key as a comment with its sentence, its limits and its default. */
void config_example(struct buf *out);

/* The keys whose values differ, in table order; ret_keys has room for CONFIG_COUNT. Returns how many. */
size_t config_changed(
    const struct config *before, const struct config *after, enum config_key ret_keys[CONFIG_COUNT]);

/* The words that a type takes, for messages and man pages: "text json", "host:port"; never NULL. */
const char *config_type_text(enum config_type type);
/* "64KiB", "4MB", "512" to bytes; ERR_MALFORMED. */
int bytes_parse(const char *text, uint64_t *ret_bytes) MUST_CHECK;

static inline void config_cleanup(struct config **c)
{
    config_free(*c);
}
#define AUTO_CONFIG CLEANUP(config_cleanup) struct config

/* Fixed-size identifiers: 256-bit hashes, 128-bit epochs, site codes, and their text forms. */
#pragma once
#include "common/base/buf.h"

struct hash {
    uint8_t b[32];
};
struct epoch {
    uint8_t b[16]; /* random, made by the origin and stored before its first use */
};

static inline bool hash_eq(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}
static inline bool hash_is_zero(const struct hash *h)
{
    static const struct hash zero;
    return hash_eq(h, &zero);
}
static inline bool epoch_eq(const struct epoch *a, const struct epoch *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}
/* Copies 32 bytes out of a view; ERR_MALFORMED when the length is another. */
int hash_from_view(struct view v, struct hash *ret_hash) MUST_CHECK;
int epoch_from_view(struct view v, struct epoch *ret_epoch) MUST_CHECK;

/* A site code: 1 to 31 of A-Z a-z 0-9 - _ . and it starts with a letter or digit. Case is kept and matters.
 */
#define SITE_CODE_MAX 31
struct site_code {
    char s[SITE_CODE_MAX + 1];
};
bool site_code_valid(const char *s);
int site_code_parse(struct view v, struct site_code *ret_code) MUST_CHECK; /* ERR_MALFORMED */

/* Hex: out needs 2 * len + 1 bytes. */
char *hex_encode(const void *data, size_t len, char *out);
int hex_decode(
    const char *text, void *out, size_t len) MUST_CHECK; /* exactly len bytes, else ERR_MALFORMED */
/* The short form people compare: the first 6 bytes as "4f2a-91c0-77be"; out needs 15 bytes. */
char *fingerprint_text(const struct hash *h, char out[15]);
/* The first 4 hex digits, as in "root 9c1e"; out needs 9 bytes (8 digits are written). */
char *hash_short(const struct hash *h, char out[9]);
/* True when the bytes are valid UTF-8 without NUL and other control characters (tab and newline pass). */
bool text_is_clean(struct view v);
/* Puts a question mark in place of every byte that keeps s from being clean; returns s. */
char *text_make_clean(char *s);

/* A Release file of an apt repository: what it is of, until when it holds, and the digests of its indexes.
 * Ownership: everything borrows from the text, which must be the signed text. Threading: none shared. */
#pragma once
#include "common/base/buf.h"
#include "common/base/clock.h"

#define RELEASE_MAX ((size_t)16 * 1024 * 1024)

struct release {
    struct view origin, label, suite, codename, version, architectures, components;
    struct wall date, valid_until; /* valid_until 0: none */
    bool by_hash;
    struct view sha256; /* the lines of the list */
};
struct release_entry {
    uint64_t size;
    uint8_t sha256[32];
};
/* ERR_MALFORMED names what is wrong: bytes, no Date, a bad date, no SHA256 list, a field twice. */
int release_parse(struct view text, struct release *ret_release) MUST_CHECK;
/* The digest of path (main/binary-amd64/Packages.xz). ERR_NOT_FOUND without a text; ERR_MALFORMED. */
int release_find(const struct release *r, const char *path, struct release_entry *ret_entry) MUST_CHECK;
/* True when word stands in a list of words; the part behind the last slash counts too (updates/main is main).
 */
bool release_lists(struct view list, const char *word);
/* "Sat, 11 Jul 2026 10:16:37 UTC" (RFC 5322 with UTC, GMT, Z or +0000). ERR_MALFORMED. */
int release_date_parse(struct view v, struct wall *ret_time) MUST_CHECK;

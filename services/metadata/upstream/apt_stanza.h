/* Reads the paragraphs of apt's indexes (Debian policy 5.1): fields of a stanza, and the one stanza of a
 * binary package that becomes an update. Every limit and every fault has a text of its own. Ownership:
 * results borrow from the input, folded text from the caller's buffer. Threading: none shared. */
#pragma once
#include "common/base/buf.h"

#define STANZA_MAX ((size_t)1024 * 1024)
#define STANZA_LINE_MAX ((size_t)256 * 1024)
#define STANZA_FIELDS_MAX 256

struct field {
    struct view name;
    struct view value; /* of the first line, without blanks around it */
    struct view
        more; /* the continuation lines as they are, each beginning with a blank or tab; mostly empty */
};
/* Takes the next field off *rest. ERR_NOT_FOUND at the end (*rest is empty), ERR_MALFORMED for a line without
 * a colon, a continuation without a field, an empty name. */
int field_next(struct view *rest, struct field *ret_field) MUST_CHECK;
bool field_is(const struct field *f, const char *name); /* in any case */
/* Value and continuation lines on one line with single blanks between, appended to out. */
void field_unfold(const struct field *f, struct buf *out);

/* Takes the next word off a line; empty at its end. */
struct view word_next(struct view *rest);

/* Takes the next stanza off *rest, with its final newline. last: nothing follows *rest. ERR_NOT_FOUND: no
 * whole stanza is there (with last: the end); ERR_TOO_LARGE: longer than STANZA_MAX. Blank lines between
 * stanzas are skipped. */
int stanza_next(struct view *rest, bool last, struct view *ret_stanza) MUST_CHECK;
/* Lines and stanza within the limits, UTF-8, and no control character. ERR_MALFORMED or ERR_TOO_LARGE. */
int stanza_check(struct view stanza) MUST_CHECK;

/* Decimal digits, at most 15. ERR_MALFORMED without a text. */
int number_parse(struct view v, uint64_t *ret_number) MUST_CHECK;
/* 64 hex digits of either case. ERR_MALFORMED without a text. */
int sha256_parse(struct view v, uint8_t ret_digest[32]) MUST_CHECK;

struct package {
    struct view name, version, architecture, description, section, priority, homepage, source, depends,
        urgency, filename, sha256_text;
    uint64_t size, installed_kib;
    uint8_t sha256[32];
    bool has_size;
};
/* One package of a Packages index; fold is reset and holds folded text. ERR_MALFORMED names the field at
 * fault: Package, Version and Architecture must be there; Filename needs Size and SHA256; no field of ours
 * comes twice. */
int package_parse(struct view stanza, struct buf *fold, struct package *ret_package) MUST_CHECK;

/* The inside of a source_set, for the adapters that pack records straight into it: space is reserved, written
 * and then pushed, with no copy. Ownership: the set owns the space. Threading: one thread per set. */
#pragma once
#include "services/metadata/source.h"

#define SOURCE_KEY_MAX 255
#define SOURCE_VALUE_MAX ((size_t)256 * 1024)
#define SOURCE_ITEMS_MAX 4000000

/* At least len bytes that stay where they are for the life of the set; given up again by the next reserve
 * without a push. NULL on no memory. */
uint8_t *source_reserve(struct source_set *s, size_t len);
/* Appends an item whose key and value lie in the last reserved space, used bytes of which are kept. The
 * strings are interned already. ERR_TOO_LARGE over SOURCE_ITEMS_MAX, -ENOMEM. */
int source_push(struct source_set *s, const struct source_item *item, size_t used) MUST_CHECK;
/* One copy per distinct text, for the life of the set; NULL on no memory. */
const char *source_intern(struct source_set *s, const char *text);

/* An index file in the cache: its digest is checked first, then it is read as a stream, decompressed on the
 * way within limits. Ownership: the caller's file. Threading: none shared. */
#pragma once
#include <stdatomic.h>

#include "common/base/buf.h"

enum index_format { INDEX_XZ, INDEX_GZ, INDEX_PLAIN };
#define INDEX_OUTPUT_MAX (UINT64_C(4) * 1024 * 1024 * 1024)
#define INDEX_XZ_MEMORY (UINT64_C(128) * 1024 * 1024)

struct index_sink {
    /* Takes what it can use from the front of data and says how much; last: nothing follows. Not 0: stop with
     * that. */
    int (*on_data)(void *ctx, struct view data, bool last, size_t *ret_used);
    void *ctx;
    size_t carry_max; /* most that on_data may leave over */
    atomic_bool *cancel;
};

/* ERR_NOT_FOUND: no such file; ERR_CORRUPT: another size or digest (without a text). */
int index_check(const char *file, uint64_t size, const uint8_t sha256[32], atomic_bool *cancel) MUST_CHECK;
/* Reads the whole file into the sink. output_size: what it must become, exactly; NULL: at most
 * INDEX_OUTPUT_MAX. ERR_UPSTREAM for damaged or bomb-like compression, ERR_CANCELLED, and what the sink says.
 */
int index_read(const char *file, enum index_format format, const uint64_t *output_size,
    const struct index_sink *sink) MUST_CHECK;

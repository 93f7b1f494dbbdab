/* Views (borrowed bytes), growing buffers, and shared immutable blobs. A buffer remembers its first failure,
 * so a row of appends needs one check at the end. Threading: blobs may be released from any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/err.h"

struct view {
    const uint8_t *data;
    size_t len;
};

static inline struct view view_of(const void *data, size_t len)
{
    return (struct view){(const uint8_t *)data, len};
}
static inline struct view view_str(const char *s)
{
    return view_of(s, strlen(s));
}
/* Bytewise order, shorter first on a tie. */
int view_cmp(struct view a, struct view b);
static inline bool view_eq(struct view a, struct view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct buf {
    uint8_t *data;
    size_t len, cap;
    int err; /* 0, or -ENOMEM once an append failed; later appends do nothing */
};

void buf_done(struct buf *b);  /* frees, and leaves an empty buffer */
void buf_reset(struct buf *b); /* len 0, memory kept */
void buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_view(struct buf *b, struct view v);
void buf_str(struct buf *b, const char *s);
void buf_fmt(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_u8(struct buf *b, uint8_t v);
void buf_be16(struct buf *b, uint16_t v);
void buf_be32(struct buf *b, uint32_t v);
void buf_be64(struct buf *b, uint64_t v);
static inline struct view buf_view(const struct buf *b)
{
    return view_of(b->data, b->len);
}

/* Reading: a cursor over a view that remembers the first underrun; results after it are zero. */
struct reader {
    struct view rest;
    bool bad;
};
static inline struct reader reader_of(struct view v)
{
    return (struct reader){v, false};
}
uint8_t read_u8(struct reader *r);
uint16_t read_be16(struct reader *r);
uint32_t read_be32(struct reader *r);
uint64_t read_be64(struct reader *r);
struct view read_bytes(struct reader *r, size_t len); /* borrows from the view */

/* An immutable counted byte string: frames are handed from queue to queue without a copy. */
struct blob;
struct blob *blob_new(const void *data, size_t len); /* copies; NULL on no memory */
struct blob *blob_take(struct buf *b);               /* consumes the buffer; NULL on its error */
/* Bytes that live elsewhere: release(arg) is called when the last owner frees the blob, in whichever thread
 * that is, and at once when there is no memory (then NULL). */
struct blob *blob_wrap(const void *data, size_t len, void (*release)(void *arg), void *arg);
struct blob *blob_ref(struct blob *b);       /* returns b with one more owner */
void blob_free(struct blob *b);              /* takes NULL */
struct view blob_view(const struct blob *b); /* until the last owner frees it */

/* unused: clang does not count the cleanup as a use */
#define CLEANUP(fn) __attribute__((cleanup(fn), unused))
static inline void buf_cleanup(struct buf *b)
{
    buf_done(b);
}
static inline void blob_cleanup(struct blob **b)
{
    blob_free(*b);
}
void free_cleanup(void *p); /* for CLEANUP on a pointer variable */
#define AUTO_BUF CLEANUP(buf_cleanup) struct buf
#define AUTO_BLOB CLEANUP(blob_cleanup) struct blob
#define AUTO_FREE CLEANUP(free_cleanup)
#define COUNT_OF(a) (sizeof(a) / sizeof *(a))

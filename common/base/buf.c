#include "common/base/buf.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

int view_cmp(struct view a, struct view b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.data, b.data, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

void buf_done(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->err = 0;
}

void buf_reserve(struct buf *b, size_t more)
{
    if (b->err || more <= b->cap - b->len)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->len < more) {
        if (cap > SIZE_MAX / 2) {
            b->err = -ENOMEM;
            return;
        }
        cap *= 2;
    }
    uint8_t *data = realloc(b->data, cap);
    if (!data) {
        b->err = -ENOMEM;
        return;
    }
    b->data = data;
    b->cap = cap;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    buf_reserve(b, len);
    if (b->err || len == 0)
        return;
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void buf_append_view(struct buf *b, struct view v)
{
    buf_append(b, v.data, v.len);
}

void buf_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->err = -EINVAL;
    } else {
        buf_reserve(b, (size_t)n + 1);
        if (!b->err) {
            vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
}

void buf_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, 1);
}

void buf_be16(struct buf *b, uint16_t v)
{
    uint8_t x[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    buf_append(b, x, sizeof x);
}

void buf_be32(struct buf *b, uint32_t v)
{
    uint8_t x[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_append(b, x, sizeof x);
}

void buf_be64(struct buf *b, uint64_t v)
{
    buf_be32(b, (uint32_t)(v >> 32));
    buf_be32(b, (uint32_t)v);
}

struct view read_bytes(struct reader *r, size_t len)
{
    if (r->bad || len > r->rest.len) {
        r->bad = true;
        return (struct view){0};
    }
    struct view v = view_of(r->rest.data, len);
    r->rest = view_of(r->rest.data + len, r->rest.len - len);
    return v;
}

static uint64_t read_be(struct reader *r, size_t len)
{
    struct view v = read_bytes(r, len);
    uint64_t x = 0;
    for (size_t i = 0; i < v.len; i++)
        x = x << 8 | v.data[i];
    return x;
}

uint8_t read_u8(struct reader *r)
{
    return (uint8_t)read_be(r, 1);
}
uint16_t read_be16(struct reader *r)
{
    return (uint16_t)read_be(r, 2);
}
uint32_t read_be32(struct reader *r)
{
    return (uint32_t)read_be(r, 4);
}
uint64_t read_be64(struct reader *r)
{
    return read_be(r, 8);
}

struct blob {
    atomic_uint owners;
    size_t len;
    const uint8_t *data;        /* behind the struct, or elsewhere */
    void (*release)(void *arg); /* NULL: the bytes are behind the struct */
    void *arg;
};

struct blob *blob_new(const void *data, size_t len)
{
    struct blob *b = malloc(sizeof *b + len);
    if (!b)
        return NULL;
    uint8_t *copy = (uint8_t *)(b + 1);
    *b = (struct blob){.len = len, .data = copy};
    atomic_init(&b->owners, 1);
    if (len)
        memcpy(copy, data, len);
    return b;
}

struct blob *blob_wrap(const void *data, size_t len, void (*release)(void *arg), void *arg)
{
    struct blob *b = malloc(sizeof *b);
    if (!b) {
        release(arg);
        return NULL;
    }
    *b = (struct blob){.len = len, .data = data, .release = release, .arg = arg};
    atomic_init(&b->owners, 1);
    return b;
}

struct blob *blob_take(struct buf *from)
{
    struct blob *b = from->err ? NULL : blob_wrap(from->data, from->len, free, from->data);
    if (b || !from->err)
        *from = (struct buf){0};
    buf_done(from);
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    atomic_fetch_add(&b->owners, 1);
    return b;
}

void blob_free(struct blob *b)
{
    if (!b || atomic_fetch_sub(&b->owners, 1) != 1)
        return;
    if (b->release)
        b->release(b->arg);
    free(b);
}

struct view blob_view(const struct blob *b)
{
    return view_of(b->data, b->len);
}

void free_cleanup(void *p)
{
    free(*(void **)p);
}

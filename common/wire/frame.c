#include "common/wire/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#include "proto/link.pb-c.h"

#define MAGIC 0x5354 /* "ST" */

struct type_row {
    unsigned type;
    uint32_t wire, raw;
    const char *word;
};

static const struct type_row types[] = {
#define FRAME_ROW(name, number, wire, raw, message) {number, wire, raw, #message},
    FRAME_TABLE(FRAME_ROW)
#undef FRAME_ROW
};

static const struct type_row *find(unsigned type)
{
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}

const char *frame_type_word(unsigned type)
{
    const struct type_row *t = find(type);
    return t ? t->word : "unknown";
}

bool frame_type_is_catalogue(unsigned type)
{
    return type >= 20 && type < 40;
}

int frame_parse(struct view bytes, struct frame *ret_frame)
{
    struct reader r = reader_of(bytes);
    struct frame f = {0};
    uint16_t magic = read_be16(&r);
    f.version = read_u8(&r);
    f.lane = read_u8(&r);
    f.type = read_be16(&r);
    f.flags = read_be16(&r);
    f.request = read_be64(&r);
    f.raw_len = read_be32(&r);
    uint32_t body_len = read_be32(&r);
    struct view epoch = read_bytes(&r, sizeof f.epoch.b);
    if (r.bad || magic != MAGIC)
        return err_fail(ERR_MALFORMED, "not a frame");
    if (f.version != FRAME_VERSION)
        return err_fail(ERR_VERSION, "frame of version %u, this program speaks %u", f.version, FRAME_VERSION);
    if (body_len != r.rest.len)
        return err_fail(ERR_MALFORMED, "frame body of %zu bytes, %u announced", r.rest.len, body_len);
    memcpy(f.epoch.b, epoch.data, sizeof f.epoch.b);
    f.body = r.rest;
    const struct type_row *t = find(f.type);
    if (!t) {
        *ret_frame = f;
        return err_fail(ERR_UNKNOWN_TYPE, "frame of unknown type %u", f.type);
    }
    if (body_len > t->wire || f.raw_len > t->raw)
        return err_fail(ERR_TOO_LARGE, "%s of %u bytes (%u uncompressed), at most %u (%u)", t->word, body_len,
            f.raw_len, t->wire, t->raw);
    if ((f.flags & ~FRAME_ZSTD) || (!(f.flags & FRAME_ZSTD) && f.raw_len != body_len))
        return err_fail(ERR_MALFORMED, "%s with unknown flags or a wrong length", t->word);
    *ret_frame = f;
    return 0;
}

static void put_header(struct buf *b, unsigned type, uint8_t lane, unsigned flags, uint64_t request,
    const struct epoch *epoch, uint32_t raw_len, uint32_t body_len)
{
    static const struct epoch none;
    buf_be16(b, MAGIC);
    buf_u8(b, FRAME_VERSION);
    buf_u8(b, lane);
    buf_be16(b, (uint16_t)type);
    buf_be16(b, (uint16_t)flags);
    buf_be64(b, request);
    buf_be32(b, raw_len);
    buf_be32(b, body_len);
    buf_append(b, epoch ? epoch->b : none.b, sizeof none.b);
}

struct blob *frame_wrap(enum frame_type type, uint8_t lane, uint64_t request, const struct epoch *epoch,
    struct view body, bool compress)
{
    const struct type_row *t = find(type);
    INVARIANT(t != NULL);
    if (body.len > t->raw) {
        (void)err_fail(ERR_TOO_LARGE, "%s of %zu bytes, at most %u", t->word, body.len, t->raw);
        return NULL;
    }
    struct buf b = {0};
    buf_reserve(&b, FRAME_HEADER_LEN + body.len);
    if (compress && body.len >= 256) {
        struct buf z = {0};
        if (zstd_pack(body, 3, &z) == 0 && z.len < body.len && z.len <= t->wire) {
            put_header(&b, type, lane, FRAME_ZSTD, request, epoch, (uint32_t)body.len, (uint32_t)z.len);
            buf_append_view(&b, buf_view(&z));
            buf_done(&z);
            return blob_take(&b);
        }
        buf_done(&z);
    }
    if (body.len > t->wire) {
        (void)err_fail(ERR_TOO_LARGE, "%s of %zu bytes, at most %u", t->word, body.len, t->wire);
        buf_done(&b);
        return NULL;
    }
    put_header(&b, type, lane, 0, request, epoch, (uint32_t)body.len, (uint32_t)body.len);
    buf_append_view(&b, body);
    return blob_take(&b);
}

struct blob *frame_pack(enum frame_type type, uint8_t lane, uint64_t request, const struct epoch *epoch,
    const ProtobufCMessage *message, bool compress)
{
    const struct type_row *t = find(type);
    INVARIANT(t != NULL);
    size_t len = protobuf_c_message_get_packed_size(message);
    if (!compress && len <= t->wire) { /* the common way: packed in place, once */
        struct buf b = {0};
        buf_reserve(&b, FRAME_HEADER_LEN + len);
        put_header(&b, type, lane, 0, request, epoch, (uint32_t)len, (uint32_t)len);
        if (b.err)
            return NULL;
        protobuf_c_message_pack(message, b.data + b.len);
        b.len += len;
        return blob_take(&b);
    }
    AUTO_BUF body = {0};
    message_pack(message, &body);
    return body.err ? NULL : frame_wrap(type, lane, request, epoch, buf_view(&body), compress);
}

struct blob *frame_refusal(uint64_t request, int code)
{
    char text[512];
    snprintf(text, sizeof text, "%s", err_text(code));
    Sitetree__Refusal m = SITETREE__REFUSAL__INIT;
    m.code = code;
    m.word = (char *)(uintptr_t)err_word(code);
    m.text = text;
    return frame_pack(FRAME_REFUSAL, 1, request, NULL, &m.base, false);
}

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(16) uint8_t data[];
};

static void *arena_alloc(void *ctx, size_t size)
{
    struct arena *a = ctx;
    if (size > a->cap)
        return NULL;
    size = (size + 15) & ~(size_t)15;
    if (a->used > a->cap || size > a->cap - a->used)
        return NULL;
    struct arena_chunk *c = a->chunks;
    if (!c || c->size - c->used < size) {
        size_t want = size > 16384 ? size : 16384;
        c = calloc(1, sizeof *c + want);
        if (!c)
            return NULL;
        c->size = want;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = c->data + c->used;
    c->used += size;
    a->used += size;
    return p;
}

static void arena_ignore(void *ctx, void *p)
{
    (void)ctx;
    (void)p;
}

void arena_init(struct arena *a)
{
    *a = (struct arena){.allocator = {arena_alloc, arena_ignore, a}};
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = a->chunks;
    while (keep && keep->next) {
        struct arena_chunk *next = keep->next;
        free(keep);
        keep = next;
    }
    if (keep && keep->size > 65536) {
        free(keep);
        keep = NULL;
    }
    if (keep) {
        memset(keep->data, 0, keep->used);
        keep->used = 0;
    }
    a->chunks = keep;
    a->used = 0;
}

void arena_done(struct arena *a)
{
    arena_reset(a);
    free(a->chunks);
    a->chunks = NULL;
}

static bool varint_read(struct reader *r, uint64_t *ret_value)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t c = read_u8(r);
        v |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80)) {
            *ret_value = v;
            return !r->bad;
        }
    }
    return false;
}

static bool strings_whole(struct view bytes, const ProtobufCMessageDescriptor *d, unsigned depth);

static bool field_whole(struct view v, uint64_t number, const ProtobufCMessageDescriptor *d, unsigned depth)
{
    const ProtobufCFieldDescriptor *f =
        number > UINT32_MAX ? NULL : protobuf_c_message_descriptor_get_field(d, (unsigned)number);
    if (!f || v.len == 0)
        return true;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return !memchr(v.data, 0, v.len);
    return f->type != PROTOBUF_C_TYPE_MESSAGE || strings_whole(v, f->descriptor, depth - 1);
}

/* False when a string field holds a NUL: legal in protobuf, but the decoded C string would end there, and two
 * different names would become one. depth ends what the schema (no recursive messages) ends anyway. */
static bool strings_whole(struct view bytes, const ProtobufCMessageDescriptor *d, unsigned depth)
{
    struct reader r = reader_of(bytes);
    uint64_t tag, n;
    while (r.rest.len && !r.bad && depth) {
        if (!varint_read(&r, &tag))
            return false;
        switch (tag & 7) {
        case 0:
            if (!varint_read(&r, &n))
                return false;
            break;
        case 1:
            read_bytes(&r, 8);
            break;
        case 2:
            if (!varint_read(&r, &n) || n > r.rest.len || !field_whole(read_bytes(&r, n), tag >> 3, d, depth))
                return false;
            break;
        case 5:
            read_bytes(&r, 4);
            break;
        default:
            return false;
        }
    }
    return !r.bad && depth;
}

static void *unpack_capped(
    struct arena *a, struct view bytes, const ProtobufCMessageDescriptor *d, int *ret_err)
{
    if (!strings_whole(bytes, d, 8)) {
        *ret_err = err_fail(ERR_MALFORMED, "%s of %zu bytes does not decode", d->short_name, bytes.len);
        return NULL;
    }
    a->allocator = (ProtobufCAllocator){arena_alloc, arena_ignore, a}; /* the arena may have been moved */
    a->cap = a->used + bytes.len * 8 + 65536;
    void *m = protobuf_c_message_unpack(d, &a->allocator, bytes.len, bytes.data);
    *ret_err = m ? 0 : err_fail(ERR_MALFORMED, "%s of %zu bytes does not decode", d->short_name, bytes.len);
    return m;
}

void *message_unpack(
    struct arena *a, struct view bytes, size_t limit, const ProtobufCMessageDescriptor *d, int *ret_err)
{
    if (bytes.len > limit) {
        *ret_err = err_fail(ERR_TOO_LARGE, "%s of %zu bytes, at most %zu", d->short_name, bytes.len, limit);
        return NULL;
    }
    return unpack_capped(a, bytes, d, ret_err);
}

void *frame_unpack(struct arena *a, const struct frame *f, const ProtobufCMessageDescriptor *d, int *ret_err)
{
    if (!(f->flags & FRAME_ZSTD))
        return unpack_capped(a, f->body, d, ret_err);
    AUTO_BUF raw = {0}; /* decoding copies */
    *ret_err = zstd_unpack(f->body, f->raw_len, &raw);
    return *ret_err ? NULL : unpack_capped(a, buf_view(&raw), d, ret_err);
}

void message_pack(const ProtobufCMessage *m, struct buf *out)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    buf_reserve(out, len);
    if (out->err || len == 0)
        return;
    protobuf_c_message_pack(m, out->data + out->len);
    out->len += len;
}

static __thread ZSTD_CCtx *compressor;
static __thread ZSTD_DCtx *decompressor;

int zstd_pack(struct view src, int level, struct buf *out)
{
    if (!compressor && !(compressor = ZSTD_createCCtx()))
        return -ENOMEM;
    size_t bound = ZSTD_compressBound(src.len);
    buf_reserve(out, bound);
    if (out->err)
        return out->err;
    size_t n = ZSTD_compressCCtx(compressor, out->data + out->len, bound, src.data, src.len, level);
    if (ZSTD_isError(n))
        return err_fail(ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
    out->len += n;
    return 0;
}

int zstd_unpack(struct view src, size_t raw_len, struct buf *out)
{
    if (!decompressor && !(decompressor = ZSTD_createDCtx()))
        return -ENOMEM;
    if (ZSTD_getFrameContentSize(src.data, src.len) != raw_len ||
        ZSTD_findFrameCompressedSize(src.data, src.len) != src.len)
        return err_fail(
            ERR_MALFORMED, "compressed data is not one frame of the announced %zu bytes", raw_len);
    buf_reserve(out, raw_len ? raw_len : 1);
    if (out->err)
        return out->err;
    size_t n = ZSTD_decompressDCtx(decompressor, out->data + out->len, raw_len, src.data, src.len);
    if (ZSTD_isError(n) || n != raw_len)
        return err_fail(ERR_MALFORMED, "compressed data is damaged");
    out->len += n;
    return 0;
}

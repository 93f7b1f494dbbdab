#include "services/metadata/page.h"

#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "common/wire/frame.h"

#define INNER_CHILD_LEN 44u
#define STORED_HEADER_LEN 7u
#define KIND_COMPRESSED 0x80u
#define PAGE_LEVEL 3

int record_parse(struct reader *r, struct record *ret_record)
{
    const uint8_t *start = r->rest.data;
    uint32_t value_len = read_be32(r);
    uint16_t key_len = read_be16(r);
    uint8_t flags = read_u8(r);
    uint64_t serial = read_be64(r);
    if (r->bad || key_len == 0 || key_len > RECORD_KEY_MAX || value_len > RECORD_VALUE_MAX || flags > 3)
        return err_fail(ERR_MALFORMED, "not a record");
    struct view key = read_bytes(r, key_len), value = read_bytes(r, value_len);
    if (r->bad)
        return err_fail(ERR_MALFORMED, "record cut short");
    *ret_record =
        (struct record){key, value, serial, flags, view_of(start, RECORD_HEADER_LEN + key_len + value_len)};
    return 0;
}

void record_pack(struct buf *out, struct view key, struct view value, uint64_t serial, uint8_t flags)
{
    buf_reserve(out, RECORD_HEADER_LEN + key.len + value.len);
    buf_be32(out, (uint32_t)value.len);
    buf_be16(out, (uint16_t)key.len);
    buf_u8(out, flags);
    buf_be64(out, serial);
    buf_append_view(out, key);
    buf_append_view(out, value);
}

void record_hash(const uint8_t salt[16], struct view bytes, struct hash *ret_hash)
{
    hash_bytes("sitetree-record", salt, bytes, ret_hash);
}

void key_hash(struct view key, struct hash *ret_hash)
{
    hash_bytes("sitetree-key", NULL, key, ret_hash);
}

void scope_salt(const char *scope, uint8_t ret_salt[16])
{
    struct hash h;
    hash_bytes("sitetree-scope", NULL, view_str(scope), &h);
    memcpy(ret_salt, h.b, 16);
}

int inner_parse(struct view raw, struct inner *ret_inner)
{
    struct reader r = reader_of(raw);
    uint16_t bitmap = read_be16(&r);
    struct inner n = {0};
    uint64_t total = 0;
    for (unsigned i = 0; i < 16; i++) {
        if (!(bitmap & 1u << i))
            continue;
        struct view h = read_bytes(&r, 32);
        if (r.bad)
            break;
        memcpy(n.child[i].hash.b, h.data, 32);
        n.child[i].count = read_be32(&r);
        n.child[i].bytes = read_be64(&r);
        total += n.child[i].count;
        if (n.child[i].count == 0)
            r.bad = true;
    }
    if (r.bad || r.rest.len || total <= LEAF_MAX || total > UINT32_MAX)
        return err_fail(ERR_MALFORMED, "not an inner page");
    *ret_inner = n;
    return 0;
}

void inner_pack(const struct inner *n, struct buf *out)
{
    uint16_t bitmap = 0;
    for (unsigned i = 0; i < 16; i++)
        if (n->child[i].count)
            bitmap |= (uint16_t)(1u << i);
    buf_reserve(out, 2 + 16 * INNER_CHILD_LEN);
    buf_be16(out, bitmap);
    for (unsigned i = 0; i < 16; i++)
        if (n->child[i].count) {
            buf_append(out, n->child[i].hash.b, 32);
            buf_be32(out, n->child[i].count);
            buf_be64(out, n->child[i].bytes);
        }
}

struct subtree inner_sum(const struct inner *n)
{
    struct subtree s = {0};
    for (unsigned i = 0; i < 16; i++) {
        s.count += n->child[i].count;
        s.bytes += n->child[i].bytes;
    }
    return s;
}

static void place_padded(struct place p, uint8_t out[9])
{
    out[0] = p.depth;
    memcpy(out + 1, p.path, 8);
}

void inner_hash(const uint8_t salt[16], struct place p, struct view raw, struct hash *ret_hash)
{
    struct hash_state s;
    uint8_t at[9];
    place_padded(p, at);
    hash_start(&s, "sitetree-node", salt);
    hash_more(&s, at, sizeof at);
    hash_more(&s, raw.data, raw.len);
    hash_end(&s, ret_hash);
}

void leaf_hash(
    const uint8_t salt[16], struct place p, const struct hash *records, uint32_t n, struct hash *ret_hash)
{
    struct hash_state s;
    uint8_t at[13];
    place_padded(p, at);
    for (int i = 0; i < 4; i++)
        at[9 + i] = (uint8_t)(n >> (24 - 8 * i));
    hash_start(&s, "sitetree-leaf", salt);
    hash_more(&s, at, sizeof at);
    hash_more(&s, records, (size_t)n * 32);
    hash_end(&s, ret_hash);
}

void empty_root(const uint8_t salt[16], struct hash *ret_hash)
{
    leaf_hash(salt, (struct place){0}, NULL, 0, ret_hash);
}

int stored_page_parse(struct view v, struct stored_page *ret_page)
{
    struct reader r = reader_of(v);
    uint8_t kind = read_u8(&r);
    struct stored_page p = {.kind = kind & 0x7f, .compressed = kind & KIND_COMPRESSED};
    p.raw_len = read_be32(&r);
    p.n = read_be16(&r);
    p.record_hashes = read_bytes(&r, (size_t)p.n * 32).data;
    p.data = r.rest;
    if (r.bad || (p.kind != PAGE_INNER && p.kind != PAGE_LEAF) || p.raw_len > PAGE_RAW_MAX ||
        (!p.compressed && p.data.len != p.raw_len))
        return err_fail(ERR_CORRUPT, "stored page is damaged");
    *ret_page = p;
    return 0;
}

int stored_page_raw(const struct stored_page *p, struct buf *scratch, struct view *ret_raw)
{
    if (!p->compressed) {
        *ret_raw = p->data;
        return 0;
    }
    buf_reset(scratch);
    int rc = zstd_unpack(p->data, p->raw_len, scratch);
    if (rc)
        return rc == -ENOMEM ? rc : err_fail(ERR_CORRUPT, "stored page is damaged");
    *ret_raw = buf_view(scratch);
    return 0;
}

static int verify_leaf(
    const uint8_t salt[16], struct place p, const struct subtree *want, struct view raw, struct buf *hashes)
{
    struct reader r = reader_of(raw);
    struct view before = {0};
    uint32_t n = 0;
    size_t first = hashes->len;
    while (r.rest.len) {
        struct record rec;
        int rc = record_parse(&r, &rec);
        if (rc)
            return rc;
        if (n && view_cmp(before, rec.key) >= 0)
            return err_fail(ERR_MALFORMED, "leaf page out of order");
        before = rec.key;
        struct hash h;
        record_hash(salt, rec.bytes, &h);
        buf_append(hashes, h.b, 32);
        n++;
    }
    if (hashes->err)
        return hashes->err;
    struct hash h;
    leaf_hash(salt, p, n ? (const void *)(hashes->data + first) : NULL, n, &h);
    if (!hash_eq(&h, &want->hash) || n != want->count)
        return err_fail(ERR_ROOT, "leaf page is another than the signed one");
    return 0;
}

int page_verify(
    const uint8_t salt[16], struct place p, const struct subtree *want, struct view raw, struct buf *hashes)
{
    if (subtree_is_leaf(want, p))
        return verify_leaf(salt, p, want, raw, hashes);
    struct hash h;
    struct inner n;
    inner_hash(salt, p, raw, &h);
    if (!hash_eq(&h, &want->hash))
        return err_fail(ERR_ROOT, "inner page is another than the signed one");
    return inner_parse(raw, &n);
}

#define PACK_LEAST 128u

bool page_pack_late(const struct stored_page *p, struct buf *out)
{
    if (p->compressed || p->kind != PAGE_LEAF || p->raw_len < PACK_LEAST)
        return false;
    size_t before = out->len;
    return zstd_pack(p->data, PAGE_LEVEL, out) == 0 && out->len - before < p->raw_len;
}

size_t page_put(struct store_txn *t, uint32_t scope, struct place p, const struct hash *hash,
    enum page_kind kind, struct view raw, const struct view *data, struct view record_hashes, bool later)
{
    static __thread struct buf packed; /* kept between calls: one page after the other is compressed */
    struct view body = data ? *data : raw;
    bool compressed = data && data->data != raw.data;
    if (!data && !later && kind == PAGE_LEAF && raw.len >= PACK_LEAST) {
        buf_reset(&packed);
        if (zstd_pack(raw, PAGE_LEVEL, &packed) == 0 && packed.len < raw.len) {
            body = buf_view(&packed);
            compressed = true;
        }
    }
    struct page_key k = key_page(scope, p, hash);
    uint8_t *out =
        store_put_reserve(t, TABLE_PAGES, KEY(k), STORED_HEADER_LEN + record_hashes.len + body.len);
    if (!out)
        return body.len;
    uint16_t n = (uint16_t)(record_hashes.len / 32);
    out[0] = (uint8_t)(kind | (compressed ? KIND_COMPRESSED : 0));
    for (int i = 0; i < 4; i++)
        out[1 + i] = (uint8_t)(raw.len >> (24 - 8 * i));
    out[5] = (uint8_t)(n >> 8);
    out[6] = (uint8_t)n;
    if (record_hashes.len)
        memcpy(out + STORED_HEADER_LEN, record_hashes.data, record_hashes.len);
    memcpy(out + STORED_HEADER_LEN + record_hashes.len, body.data, body.len);
    return body.len;
}

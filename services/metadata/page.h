/* Records and pages: the content-addressed pieces of a scope's trie. A page is named by (scope, place, hash),
 * so a page that is there is right, a generation is just a root hash, and what was fetched for a generation
 * that never came is no harm. Source: protocol.md 2; docs/protocol.md, "Pages".
 *
 * record:  u32 value length, u16 key length, u8 flags, u64 serial, key, value
 * leaf:    the records, ascending by key; at most 64 of them, or any number at depth 16
 * inner:   u16 bitmap of the children, then for each: hash (32), u32 records, u64 bytes; always more than 64
 * records hash of a record: BLAKE2b-256 "sitetree-record", salted with the scope, over the record's bytes
 * hash of a leaf:   "sitetree-leaf" over place (9 bytes, padded), u32 count, the record hashes
 * hash of an inner: "sitetree-node" over place (9 bytes, padded), the inner's bytes */
#pragma once
#include "services/metadata/tables.h"

#define LEAF_MAX 64u
#define RECORD_HEADER_LEN 15u
#define RECORD_KEY_MAX 400u
#define RECORD_VALUE_MAX (128u * 1024u)
#define RECORD_EXPIRED 1u
#define RECORD_TOMBSTONE 2u
/* A whole page must travel in one frame. */
#define PAGE_STORED_MAX (960u * 1024u)
#define PAGE_RAW_MAX (8u * 1024u * 1024u)

struct record {
    struct view key, value;
    uint64_t serial;
    uint8_t flags;
    struct view bytes; /* all of it */
};
/* Splits one record off the front. ERR_MALFORMED. */
int record_parse(struct reader *r, struct record *ret_record) MUST_CHECK;
void record_pack(struct buf *out, struct view key, struct view value, uint64_t serial, uint8_t flags);
void record_hash(const uint8_t salt[16], struct view bytes, struct hash *ret_hash);
void key_hash(struct view key, struct hash *ret_hash);
void scope_salt(const char *scope, uint8_t ret_salt[16]);

/* What an inner page, or the head, says of a subtree. count 0: nothing there. */
struct subtree {
    struct hash hash;
    uint32_t count;
    uint64_t bytes; /* of its records */
};
static inline bool subtree_is_leaf(const struct subtree *s, struct place p)
{
    return s->count <= LEAF_MAX || p.depth == PLACE_MAX;
}
struct inner {
    struct subtree child[16];
};
int inner_parse(
    struct view raw, struct inner *ret_inner) MUST_CHECK; /* ERR_MALFORMED, also when not canonical */
void inner_pack(const struct inner *n, struct buf *out);
void inner_hash(const uint8_t salt[16], struct place p, struct view raw, struct hash *ret_hash);
struct subtree inner_sum(const struct inner *n); /* count and bytes; hash zero */
void leaf_hash(
    const uint8_t salt[16], struct place p, const struct hash *records, uint32_t n, struct hash *ret_hash);
/* The root of an empty scope. */
void empty_root(const uint8_t salt[16], struct hash *ret_hash);

/* A stored page: u8 kind, u32 raw length, u16 n, n record hashes (leaf), then the data, one zstd frame unless
 * raw. */
enum page_kind { PAGE_INNER = 1, PAGE_LEAF = 2 };
struct stored_page {
    enum page_kind kind;
    uint32_t raw_len;
    bool compressed;
    uint16_t n;
    const uint8_t *record_hashes; /* n * 32 bytes */
    struct view data;             /* as it travels */
};
int stored_page_parse(struct view v, struct stored_page *ret_page) MUST_CHECK; /* ERR_CORRUPT */
/* The raw bytes: borrowed from the page, or decompressed into scratch. */
int stored_page_raw(const struct stored_page *p, struct buf *scratch, struct view *ret_raw) MUST_CHECK;

/* Hashes a page that came from somewhere and compares: 0 when it is (place, hash) of this scope, with the
 * record hashes of a leaf appended to hashes. ERR_ROOT when it is another, ERR_MALFORMED when it is none. */
int page_verify(const uint8_t salt[16], struct place p, const struct subtree *want, struct view raw,
    struct buf *hashes) MUST_CHECK;
/* Stores a page. data: as it came, compressed or the same as raw; NULL: raw is compressed here, or with later
 * set stored as it is, to be compressed when it is first served (most pages that a delta changes never are).
 */
size_t page_put(struct store_txn *t, uint32_t scope, struct place p, const struct hash *hash,
    enum page_kind kind, struct view raw, const struct view *data, struct view record_hashes, bool later);
/* The compressed bytes of a leaf that is stored raw, appended to out; false: it stays as it is. */
bool page_pack_late(const struct stored_page *p, struct buf *out);

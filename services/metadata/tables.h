/* This worker's tables: the only place that builds or splits a key. Keys are fixed binary tuples, big-endian.
 */
#pragma once
#include "common/base/id.h"
#include "common/store/store.h"

enum metadata_table {
    TABLE_META,      /* name -> value: head, known, filter, cursors, counters */
    TABLE_SCOPES,    /* scope name -> u32 id, u64 highest serial ever given */
    TABLE_PAGES,     /* scope id, path, depth, hash -> stored page (page.h) */
    TABLE_DELTAS,    /* scope id, serial -> stored delta (delta.h) */
    TABLE_RUNS,      /* run number -> JSON */
    TABLE_UPSTREAMS, /* name -> JSON */
    TABLE_COUNT
};

/* A place in the trie: depth nibbles of the key's hash. Depth 16 is the deepest: 64 bits. */
#define PLACE_MAX 16
struct place {
    uint8_t path[8]; /* 4 bits a level, high nibble first, rest zero */
    uint8_t depth;
};
struct place place_child(struct place p, unsigned nibble);
unsigned place_nibble(const uint8_t *key_hash, unsigned depth);
/* Depth byte and (depth + 1) / 2 path bytes, as on the wire. out needs 9 bytes; returns the length. */
size_t place_pack(struct place p, uint8_t out[9]);
int place_unpack(struct view v, struct place *ret_place) MUST_CHECK; /* ERR_MALFORMED */
static inline bool place_eq(struct place a, struct place b)
{
    return a.depth == b.depth && memcmp(a.path, b.path, sizeof a.path) == 0;
}

#define PAGE_KEY_LEN 45
struct page_key {
    uint8_t b[PAGE_KEY_LEN];
};
struct page_key key_page(uint32_t scope, struct place place, const struct hash *hash);
int key_page_split(
    struct view key, uint32_t *ret_scope, struct place *ret_place, struct hash *ret_hash) MUST_CHECK;
struct key12 {
    uint8_t b[12];
};
struct key12 key_delta(uint32_t scope, uint64_t serial);
uint64_t key_delta_serial(struct view key);
struct key8 {
    uint8_t b[8];
};
struct key8 key_u64(uint64_t n);
uint64_t key_u64_split(struct view key);
struct key4 {
    uint8_t b[4];
};
struct key4 key_scope(uint32_t scope);
#define KEY(k) view_of((k).b, sizeof(k).b)

/* Small values of TABLE_META. */
uint64_t meta_get_u64(struct store_txn *t, const char *name); /* 0 when absent */
void meta_put_u64(struct store_txn *t, const char *name, uint64_t v);
int meta_get(struct store_txn *t, const char *name, struct view *ret_value) MUST_CHECK;
void meta_put(struct store_txn *t, const char *name, struct view value);
void meta_del(struct store_txn *t, const char *name);
/* The name of a value that belongs to a thing: "cursor/any" of "bookworm". A name that is too long is cut,
 * with its checksum at the end. */
struct meta_name {
    char s[512];
};
struct meta_name meta_of(const char *what, struct view thing);

/* Deltas: one step of one scope, made and compressed once by the origin and relayed as it is. A delta names
 * the one before it by hash, and the head names the newest, so a chain is checked from the head downward
 * before anything of it is used. Source: protocol.md 2, 7 (3).
 *
 * raw: u8 1, u16 name length, name, u64 serial, previous root (32), new root (32), previous delta (32),
 *      u64 tombstone floor, u32 records, u32 drops, the records (page.h) ascending by key,
 *      the drops (u16 length, key): tombstones below the floor that go without a trace */
#pragma once
#include "services/metadata/head.h"
#include "services/metadata/tree.h"

#define DELTA_RAW_MAX (4u * 1024u * 1024u)
#define DELTA_WIRE_MAX (900u * 1024u)

struct delta {
    struct view scope;
    uint64_t serial, tombstone_floor;
    struct hash previous_root, new_root, previous_delta;
    uint32_t n_records, n_drops;
    struct reader body; /* at the first record */
};
void delta_pack(struct buf *out, const char *scope, uint64_t serial, const struct hash *previous_root,
    const struct hash *new_root, const struct hash *previous_delta, uint64_t tombstone_floor,
    const struct change *changes, size_t n);
int delta_parse(struct view raw, struct delta *ret_delta) MUST_CHECK; /* ERR_MALFORMED */
void delta_hash(const uint8_t salt[16], struct view raw, struct hash *ret_hash);
/* Appends the changes; they borrow from the delta's raw bytes. */
struct changes {
    struct change *list;
    size_t n, cap;
};
int changes_add(struct changes *c, struct change one) MUST_CHECK;
void changes_done(struct changes *c);
int delta_changes(const struct delta *d, const uint8_t salt[16], struct changes *into) MUST_CHECK;

/* Stored form in TABLE_DELTAS: u32 raw length, its hash (32), the hash of the one before (32), zstd bytes. */
struct stored_delta {
    uint32_t raw_len;
    struct hash hash, previous;
    struct view zstd;
};
void delta_put(struct store_txn *t, uint32_t scope, uint64_t serial, uint32_t raw_len,
    const struct hash *hash, const struct hash *previous, struct view zstd);
int delta_get(
    struct store_txn *t, uint32_t scope, uint64_t serial, struct stored_delta *ret_delta) MUST_CHECK;
/* Hashes the stored deltas of a scope again, from the newest one that its entry names down to the last one of
 * the chain that is stored; adds to the counts. mend: a bad one is deleted, with those before it, so that
 * children that need it walk. */
int delta_check(struct store_txn *t, const struct tree *tree, const struct scope_entry *e, bool mend,
    uint64_t *checked, uint64_t *bad) MUST_CHECK;
/* Deletes what is at or below floor. */
void delta_trim(struct store_txn *t, uint32_t scope, uint64_t floor);

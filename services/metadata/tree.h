/* A scope's trie inside one transaction: look up, update, walk in key-hash order, check, sweep. The shape
 * depends only on the set of records: a subtree is a leaf page iff it holds at most 64 records (or lies at
 * depth 16). Ownership: a tree borrows its transaction; views given out die with the next call. Source:
 * protocol.md 2. */
#pragma once
#include "services/metadata/page.h"

struct tree {
    struct store_txn *txn;
    uint32_t scope;
    const uint8_t *salt;
    /* Where the keys of replaced pages go (PAGE_KEY_LEN each); NULL: they are deleted at once. The origin
     * collects them, because it still serves the old generation until the new one is signed. */
    struct buf *replaced;
    bool later; /* leaves are compressed when they are first served (page_put) */
    uint64_t pages_written, pages_replaced;
    uint64_t bytes_written; /* of the pages, as they travel */
    struct buf *pool;       /* decompressed pages of the operation under way */
    size_t pool_n, pool_cap;
    struct buf hashes, raw;
};
void tree_init(struct tree *t, struct store_txn *txn, uint32_t scope, const uint8_t salt[16]);
void tree_done(struct tree *t);
static inline void tree_cleanup(struct tree *t)
{
    tree_done(t);
}

/* One changed key. record empty: the key goes without a trace (a tombstone below the floor). */
struct change {
    struct hash key_hash, record_hash;
    struct view key, record; /* borrowed; key lies within record unless that is empty */
};
/* Fills in the hashes. */
void change_init(struct change *c, const uint8_t salt[16], struct view key, struct view record);
/* Sorts by key hash; of equal keys the last one stays; n becomes how many are left. */
int change_sort(struct change *changes, size_t *n) MUST_CHECK;

/* Applies changes (sorted by change_sort) to the tree `old` (count 0: empty). ERR_CORRUPT when a page is
 * missing or damaged; then the transaction must be aborted or the tree walked again. */
int tree_update(struct tree *t, const struct subtree *old, const struct change *changes, size_t n,
    struct subtree *ret_new) MUST_CHECK;
/* ERR_NOT_FOUND when there is no such key; a tombstone is found. */
int tree_get(
    struct tree *t, const struct subtree *root, struct view key, struct record *ret_record) MUST_CHECK;
/* Calls back for each record; a non-zero result ends the walk and is returned. */
typedef int tree_visit_fn(void *ctx, const struct record *r, const struct hash *hash);
int tree_each(struct tree *t, const struct subtree *root, tree_visit_fn *visit, void *ctx) MUST_CHECK;

#define BAD_LISTED 16u
struct tree_report {
    uint64_t pages, records, bytes;
    uint64_t bad;                    /* pages missing or with other bytes than their name says */
    uint64_t bad_records, bad_bytes; /* in the leaves among them; as the pages above say */
    uint64_t bad_inner;              /* inner pages among them: what is below is not looked at */
    struct place where[BAD_LISTED];  /* the first ones */
};
/* Recomputes every hash below root from the stored bytes (deep), or from inner pages and the leaves' record
 * hashes. 0 even when pages are bad: the report tells. With mend set, bad pages are deleted, so that a walk
 * fetches them. */
int tree_check(struct tree *t, const struct subtree *root, bool deep, bool mend,
    struct tree_report *ret_report) MUST_CHECK;
/* Deletes all pages of the scope that root does not reach (root NULL: all). */
int tree_sweep(struct tree *t, const struct subtree *root, uint64_t *ret_deleted) MUST_CHECK;
/* True when (place, hash) is part of the tree under root. */
int tree_has(struct tree *t, const struct subtree *root, struct place at, const struct hash *hash,
    bool *ret_has) MUST_CHECK;
/* The inner page at a place. ERR_NOT_FOUND when it is not stored. */
int tree_inner(struct tree *t, struct place p, const struct hash *hash, struct inner *ret_inner) MUST_CHECK;
bool tree_has_page(struct tree *t, struct place p, const struct hash *hash);
/* A stored page of either kind; ERR_NOT_FOUND. */
int tree_page(
    struct tree *t, struct place p, const struct hash *hash, struct stored_page *ret_page) MUST_CHECK;
/* tree_inner below a root that should be whole: what is missing is damage (ERR_CORRUPT). */
int tree_inner_whole(
    struct tree *t, struct place p, const struct hash *hash, struct inner *ret_inner) MUST_CHECK;

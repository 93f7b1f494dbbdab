/* What the two implementations of a store owe to store.c, which holds everything that is the same for both:
 * limits of keys, the error of a transaction, counted faults, walks over a prefix. Only common/store includes
 * this. Ownership and threading as in store.h. */
#pragma once
#include "common/store/store.h"

#define STORE_TABLES_MAX 32
#define STORE_KEY_MAX 511
#define STORE_VALUE_MAX ((size_t)256 * 1024 * 1024)

struct store_ops {
    void (*close)(struct store *s); /* no transaction is open any more */
    /* Fills in nothing but its own part; store.c links the transaction. */
    int (*begin)(struct store *s, bool write, struct store_txn **ret_txn);
    int (*commit)(struct store_txn *t); /* ends and frees t in any case */
    void (*abort)(struct store_txn *t);
    int (*get)(struct store_txn *t, unsigned table, struct view key, struct view *ret_value);
    /* Makes the entry; copies value.len bytes when value.data is set, and tells the place when ret_place is.
     */
    int (*put)(struct store_txn *t, unsigned table, struct view key, struct view value, uint8_t **ret_place);
    int (*del)(struct store_txn *t, unsigned table, struct view key);
    /* The first entry >= w->last (before the start) or > w->last, into w->key and w->value; ERR_NOT_FOUND. */
    int (*walk)(struct store_walk *w);
    /* The greatest entry with a key < bound; of the table, where bound is empty. ERR_NOT_FOUND. */
    int (*before)(
        struct store_txn *t, unsigned table, struct view bound, struct view *ret_key, struct view *ret_value);
    /* Limit 0: none. Use below exact_from may be told too high (it costs time to count what is free). */
    void (*usage)(struct store *s, uint64_t exact_from, uint64_t *ret_used, uint64_t *ret_limit);
    void (*stat)(struct store *s, struct store_stat *ret_stat); /* entries, readers */
    int (*copy)(struct store *s, const char *dir);
};

struct store {
    const struct store_ops *ops;
    const char *const *tables;
    unsigned n_tables;
    bool read_only;
    int failed;          /* ERR_DISK once the disk refused a write: no further write transaction begins */
    unsigned fail_calls; /* store_fail_after */
    int fail_code;
    struct store_txn *txns; /* all that are open */
    struct store_txn *writer;
    uint64_t commits, last_commit_ns, slowest_commit_ns;
};

struct store_txn {
    struct store *store;
    struct store_txn *next, **link; /* in store->txns */
    bool write;
    int err;
};

/* 15/16 of the limit is for new entries; the last part is kept for the pages that a deletion itself needs. */
static inline uint64_t store_put_limit(uint64_t limit)
{
    return limit - limit / 16;
}

/* folder.c: the folder of a store. Makes it, checks that it is ours and no link, takes the lock that keeps a
 * second opener out (of this process too) and holds it as long as *ret_lock_fd is open. ERR_BUSY names the
 * process. */
int folder_open(const char *dir, bool read_only, int *ret_lock_fd) MUST_CHECK;
/* Before LMDB opens name by its path: absent, or a plain file of ours, made 0600. *ret_there. */
int folder_check_file(const char *dir, const char *name, bool *ret_there) MUST_CHECK;
/* A store that is being made has a file "unfinished" beside it, durable before the store's own file is there
 * and durably gone before anything is committed to it: what a crash leaves of its first pages is no store
 * yet. folder_clear takes that away (and does nothing to a finished one). */
int folder_clear(const char *dir) MUST_CHECK;
int folder_begin(const char *dir) MUST_CHECK;
int folder_finish(const char *dir) MUST_CHECK;
/* Makes the names in dir, and dir's own name, durable. */
int folder_sync(const char *dir) MUST_CHECK;

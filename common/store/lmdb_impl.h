/* The parts of the store on LMDB 0.9: lmdb.c (environment, transactions), lmdb_call.c (cursors, reads,
 * writes), lmdb_room.c (how full). Only these include <lmdb.h>. Ownership and threading as in store.h.
 *
 * Cursors. Every table that is written or asked for its last key has one cursor per transaction (at[]); walks
 * share a few more (slots), because a walk is a plain value that nobody closes. A walk whose slot was taken
 * by another, or whose table was written meanwhile, seeks again from its last key.
 *
 * Append. A key above the table's last one goes in with MDB_APPEND: no search, and full pages
 * (docs/store.md). */
#pragma once
#include <lmdb.h>

#include "common/store/impl.h"

#define WALK_SLOTS 8

struct slot {
    MDB_cursor *cursor;
    unsigned table;
    bool stale;      /* a reader's cursor from its transaction before: to be renewed */
    uint32_t writes; /* of the table, when the cursor was placed */
    uint64_t walk;   /* whose it is */
    uint64_t used;   /* for the choice of the one to give away */
};

struct top { /* an upper bound of the keys of a table */
    bool known;
    uint16_t len;
    uint8_t key[STORE_KEY_MAX];
};

struct lmdb_txn {
    struct store_txn base;
    MDB_txn *txn;
    MDB_cursor *at[STORE_TABLES_MAX];
    bool at_stale[STORE_TABLES_MAX];
    struct slot slots[WALK_SLOTS];
    uint64_t tick;
    struct lmdb_txn *next_spare;
};

struct lmdb_store {
    struct store base;
    MDB_env *env;
    MDB_dbi dbi[STORE_TABLES_MAX];
    bool absent[STORE_TABLES_MAX]; /* only when opened for reading: as good as empty */
    int lock_fd;
    unsigned fork_count; /* of the process, when this was opened */
    uint64_t limit;      /* of the map */
    uint64_t bound;      /* the same, or less where the disk has less room */
    unsigned page;
    time_t last_reader_check;
    struct lmdb_txn *spare;
    unsigned n_spare;
    /* room for new entries: counted at times, and carried on in between */
    int64_t room, room_counted;
    bool recount;
    unsigned since_count;
    /* the one write transaction */
    struct lmdb_txn write_txn;
    uint32_t writes[STORE_TABLES_MAX];
    uint32_t lent; /* tables from which views are out since the last write */
    int64_t spent, regained;
    uint64_t written;
    struct top top[STORE_TABLES_MAX];
    uint8_t key_scratch[STORE_KEY_MAX];
    struct buf value_scratch;
};

static inline struct lmdb_store *of(struct store *s)
{
    return (struct lmdb_store *)s;
}
static inline struct lmdb_txn *txn_of(struct store_txn *t)
{
    return (struct lmdb_txn *)t;
}
static inline MDB_val val(struct view v)
{
    return (MDB_val){.mv_size = v.len, .mv_data = (void *)(uintptr_t)v.data};
}
static inline struct view view_val(const MDB_val *v)
{
    return view_of(v->mv_data, v->mv_size);
}

/* 0, ERR_NOT_FOUND, or the code and a text. */
int lmdb_error(int rc, const char *what);

/* lmdb_call.c */
int lmdb_get(struct store_txn *t, unsigned table, struct view key, struct view *ret_value);
int lmdb_put(struct store_txn *t, unsigned table, struct view key, struct view value, uint8_t **ret_place);
int lmdb_del(struct store_txn *t, unsigned table, struct view key);
int lmdb_walk(struct store_walk *w);
int lmdb_before(
    struct store_txn *t, unsigned table, struct view bound, struct view *ret_key, struct view *ret_value);

/* lmdb_room.c: at the begin of a write transaction; before an entry (ERR_MAP_FULL); after its commit. */
void lmdb_room_find(struct lmdb_store *s);
int lmdb_room_take(struct lmdb_store *s, size_t key_len, size_t value_len, bool append);
void lmdb_room_regain(struct lmdb_store *s, size_t key_len, size_t value_len);
void lmdb_usage(struct store *s, uint64_t exact_from, uint64_t *ret_used, uint64_t *ret_limit);

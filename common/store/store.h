/* The store interface: ordered tables of byte keys and values with one writer and snapshot readers. Two
 * implementations (LMDB; memory) pass one contract test; a wrapper makes the n-th call fail or crash.
 * Ownership: a transaction dies with commit or abort; views read from it are valid until then, and in a write
 * transaction until the next write. Threading: a store and its transactions belong to one thread.
 *
 * A transaction carries its own error: after the first failure every call does nothing, and commit returns
 * it. So a row of ten writes needs one check. Rules behind it: no DUPSORT, keys 1 to 511 bytes, no
 * transaction is held across a wait (docs/store.md). */
#pragma once
#include "common/base/buf.h"

struct store;
struct store_txn;

struct store_options {
    const char *const
        *tables;       /* names, in the order of the caller's enum; borrowed for the life of the store */
    unsigned n_tables; /* at most 32 */
    size_t map_size;   /* bytes of address space (sparse file); 0 means 64 GiB (memory store: no limit) */
    bool read_only;
    bool no_sync; /* only for data that is thrown away with the process (benches of the logic, tests) */
};

/* Opens or makes the store in folder dir (made 0700, files 0600, no symbolic links, no network file system).
 * A folder has one opener at a time, also within a process: ERR_BUSY names it. ERR_CORRUPT, ERR_DISK,
 * ERR_MAP_FULL, -errno. */
int store_open_lmdb(const char *dir, const struct store_options *opt, struct store **ret_store) MUST_CHECK;
/* A store in memory: dies with store_close; what was not committed is lost, as after a crash. */
int store_open_memory(const struct store_options *opt, struct store **ret_store) MUST_CHECK;
void store_close(struct store *s); /* takes NULL; an open transaction is aborted */

/* A reader sees what was committed when it began, in both implementations, also beside a writer. ERR_BUSY
 * when a write transaction is open already. ERR_DISK for a write once the disk has refused one (the process
 * has to start again: an fsync is never tried twice); readers go on. */
int store_begin(struct store *s, bool write, struct store_txn **ret_txn) MUST_CHECK;
/* Durable when it returns 0 (fdatasync done). On any error nothing of the transaction is there; both free it.
 * ERR_MAP_FULL, ERR_DISK (ENOSPC and EIO alike), or the first error of the calls before. */
int store_commit(struct store_txn *t) MUST_CHECK;
void store_abort(struct store_txn *t);          /* takes NULL */
int store_txn_error(const struct store_txn *t); /* the pending error, or 0 */

/* ERR_NOT_FOUND is expected absence: it does not stop the transaction. */
int store_get(struct store_txn *t, unsigned table, struct view key, struct view *ret_value) MUST_CHECK;
/* Writes: no result to check; the error waits in the transaction. Deleting what is absent is fine. Keys and
 * values may be views read from this transaction. From 15/16 of the map on, entries are refused with
 * ERR_MAP_FULL, except as many bytes as the same transaction has deleted before. Ascending keys are the fast
 * way (docs/store.md). */
void store_put(struct store_txn *t, unsigned table, struct view key, struct view value);
void store_del(struct store_txn *t, unsigned table, struct view key);
/* Makes an entry of len bytes and returns the place to write it to, before the next call on t; NULL after an
 * error. */
uint8_t *store_put_reserve(struct store_txn *t, unsigned table, struct view key, size_t len);

/* Ordered reading. A walk survives writes to the same table: it seeks again from the last key it gave.
 *     struct store_walk w = store_walk_from(t, TABLE, first, prefix);
 *     while (store_walk_next(&w)) use(w.key, w.value);
 *     (an error ends the walk and waits in the transaction) */
struct store_walk {
    struct view key, value; /* borrowed, as from store_get */
    struct store_txn *txn;
    unsigned table;
    struct view prefix; /* borrowed from the caller: only keys with this prefix are given; may be empty */
    uint8_t last[512];  /* where it stands: the last key given, or where it begins */
    size_t last_len;
    bool started;  /* the next key is > last, not >= last */
    unsigned slot; /* the implementation's cursor, as long as it still belongs to this id */
    uint64_t id;
};
/* Starts at the first key >= first (bytewise) that has the prefix. first may be empty: then at the prefix. */
struct store_walk store_walk_from(struct store_txn *t, unsigned table, struct view first, struct view prefix);
bool store_walk_next(struct store_walk *w);
/* The last (greatest) key with this prefix; ERR_NOT_FOUND. */
int store_last(struct store_txn *t, unsigned table, struct view prefix, struct view *ret_key,
    struct view *ret_value) MUST_CHECK;

struct store_stat {
    uint64_t used_bytes,
        limit_bytes;      /* of the map, without free pages; memory store: bytes of keys and values */
    uint64_t entries[32]; /* by table */
    uint32_t readers;
    uint64_t commits, last_commit_ns, slowest_commit_ns;
};
void store_stat(struct store *s, struct store_stat *ret_stat);
/* True when 85 % of the map is used: new work is refused, deletes go on. */
bool store_nearly_full(struct store *s);
/* A consistent copy into dir while the store is in use (dir must not exist: ERR_EXISTS). ERR_BUSY beside an
 * open write transaction. After a failure dir is gone again. */
int store_copy(struct store *s, const char *dir) MUST_CHECK;
/* The same for a backup: into STORE_COPY_FOLDER/name of a site's folder, and every entry of the copy is read
 * once. opt: as the store was opened. */
#define STORE_COPY_FOLDER "backup.new"
struct store_copied {
    uint64_t entries, bytes; /* of keys and values */
};
int store_copy_beside(struct store *s, const struct store_options *opt, const char *dir, const char *name,
    struct store_copied *ret) MUST_CHECK;

/* For tests: makes calls fail. Counts down at each write call (put, put_reserve, del, commit); at zero that
 * call fails with code, once. 0 switches it off. ERR_DISK has its real consequence: no further write
 * transaction begins until the store is opened again (memory store: until store_crash). */
void store_fail_after(struct store *s, unsigned calls, int code);
/* Memory store only: forgets everything since the last commit and refuses open transactions, as kill -9 does;
 * they are still freed by their owner, or by store_close. The store can be used again at once. */
void store_crash(struct store *s);

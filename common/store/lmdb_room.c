#include <sys/statvfs.h>

#include "common/store/lmdb_impl.h"

/* Near the end of the map free pages decide. They are counted for each write transaction while the list of
 * them is short (that takes some microseconds), else after so many commits. */
#define SHORT_LIST 512
#define RECOUNT_COMMITS 64

/* Pages that are free inside the file, as of the last commit; *ret_records of the list. The first word of
 * each record is its count. */
static uint64_t count_free(struct lmdb_store *s, size_t *ret_records)
{
    MDB_txn *txn;
    MDB_cursor *c;
    MDB_val key, value;
    uint64_t n = 0;
    *ret_records = 0;
    if (mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn) != 0)
        return 0;
    if (mdb_cursor_open(txn, 0, &c) == 0) {
        while (mdb_cursor_get(c, &key, &value, MDB_NEXT) == 0) {
            size_t count;
            memcpy(&count, value.mv_data, sizeof count);
            n += count;
            ++*ret_records;
        }
        mdb_cursor_close(c);
    }
    mdb_txn_abort(txn);
    return n;
}

static uint64_t file_bytes(struct lmdb_store *s)
{
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    return ((uint64_t)info.me_last_pgno + 1) * s->page;
}

/* How large the file can become: the map, or what the disk has left. So a disk that fills up is seen before a
 * write fails, after which only a new process may go on. */
static uint64_t bound_of(struct lmdb_store *s, uint64_t file)
{
    struct statvfs disk;
    mdb_filehandle_t fd;
    if (mdb_env_get_fd(s->env, &fd) != 0 || fstatvfs(fd, &disk) < 0)
        return s->limit;
    uint64_t end = file + (uint64_t)disk.f_bavail * disk.f_frsize;
    return end < s->limit ? end : s->limit;
}

void lmdb_room_find(struct lmdb_store *s)
{
    uint64_t file = file_bytes(s);
    size_t records;
    s->bound = bound_of(s, file);
    if (file < s->bound / 4 * 3) { /* far from the end: free pages do not matter */
        s->room = (int64_t)(store_put_limit(s->bound) - file);
        s->recount = true;
        return;
    }
    if (!s->recount && s->room >= s->room_counted / 2 && ++s->since_count < RECOUNT_COMMITS)
        return;
    s->room = (int64_t)store_put_limit(s->bound) - (int64_t)(file - count_free(s, &records) * s->page);
    s->room_counted = s->room;
    s->recount = records <= SHORT_LIST;
    s->since_count = 0;
}

/* What an entry may take of the map: on pages half full, or on pages of its own. */
static int64_t cost_of(struct lmdb_store *s, size_t key_len, size_t value_len, bool append)
{
    size_t node = 10 + key_len + value_len;
    if (node > s->page / 2 - 10)
        return (int64_t)((value_len + 16 + s->page - 1) / s->page * s->page + 2 * (18 + key_len));
    return (int64_t)(append ? node : 2 * node);
}

int lmdb_room_take(struct lmdb_store *s, size_t key_len, size_t value_len, bool append)
{
    int64_t cost = cost_of(s, key_len, value_len, append);
    if (s->spent + cost > s->room) {
        if (cost > s->regained) {
            s->recount = true;
            return s->bound < s->limit
                       ? err_fail(ERR_MAP_FULL, "store: the disk is full (it has room for %llu MiB in all)",
                             (unsigned long long)(s->bound >> 20))
                       : err_fail(
                             ERR_MAP_FULL, "store: full (%llu MiB)", (unsigned long long)(s->limit >> 20));
        }
        s->regained -= cost;
    }
    s->spent += cost;
    return 0;
}

void lmdb_room_regain(struct lmdb_store *s, size_t key_len, size_t value_len)
{
    int64_t most = (int64_t)(s->limit / 32); /* half of what is kept for deletions */
    s->regained += (int64_t)(key_len + value_len);
    if (s->regained > most)
        s->regained = most;
    s->recount = true;
}

void lmdb_usage(struct store *base, uint64_t exact_from, uint64_t *ret_used, uint64_t *ret_limit)
{
    struct lmdb_store *s = of(base);
    uint64_t file = file_bytes(s);
    size_t records;
    *ret_limit = bound_of(s, file);
    *ret_used = file < exact_from ? file : file - count_free(s, &records) * s->page;
}

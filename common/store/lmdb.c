#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/store/lmdb_impl.h"

#define MAP_DEFAULT ((size_t)64 << 30)
#define MAP_MIN ((size_t)64 << 10)
#define MAX_READERS 1024
#define READER_CHECK_S 30
#define SPARE_READERS 4
#define SCRATCH_KEEP ((size_t)1 << 20)

static unsigned forks;
static void on_fork(void)
{
    forks++;
}
static void watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, on_fork);
}

int lmdb_error(int rc, const char *what)
{
    switch (rc) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return ERR_NOT_FOUND;
    case MDB_MAP_FULL:
        return err_fail(ERR_MAP_FULL, "store: %s: the store is full", what);
    case MDB_TXN_FULL:
        return err_fail(ERR_TOO_LARGE, "store: %s: transaction too large", what);
    case MDB_READERS_FULL:
        return err_fail(ERR_BUSY, "store: %s: too many readers", what);
    case MDB_BAD_VALSIZE:
        return err_fail(ERR_TOO_LARGE, "store: %s: key or value too large", what);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return err_fail(ERR_CORRUPT, "store: %s: %s", what, mdb_strerror(rc));
    case MDB_PANIC: /* a meta page could not be written */
    case EIO:       /* what LMDB makes of a short write, which is what a full disk gives */
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EROFS:
        return err_fail(ERR_DISK, "store: %s: %s", what, mdb_strerror(rc));
    default:
        return err_fail(rc > 0 ? -rc : ERR_INTERNAL, "store: %s: %s", what, mdb_strerror(rc));
    }
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void check_readers(struct lmdb_store *s)
{
    time_t now = (time_t)(clock_ns(CLOCK_MONOTONIC_COARSE) / 1000000000u);
    int dead;
    if (now - s->last_reader_check < READER_CHECK_S)
        return;
    s->last_reader_check = now;
    (void)mdb_reader_check(s->env, &dead); /* a slot that stays costs space, nothing else */
}

/* Another program may have made the map larger: then ours follows, which needs that nothing is open here. */
static int begin_lmdb(struct lmdb_store *s, unsigned flags, MDB_txn **ret_txn)
{
    int rc = mdb_txn_begin(s->env, NULL, flags, ret_txn);
    if (rc == MDB_MAP_RESIZED && !s->base.txns) {
        rc = mdb_env_set_mapsize(s->env, 0);
        if (!rc) {
            MDB_envinfo info;
            mdb_env_info(s->env, &info);
            s->limit = info.me_mapsize;
            rc = mdb_txn_begin(s->env, NULL, flags, ret_txn);
        }
    }
    return rc == MDB_MAP_RESIZED ? EBUSY : rc;
}

static void reader_free(struct lmdb_txn *t)
{
    for (size_t i = 0; i < STORE_TABLES_MAX; i++)
        if (t->at[i])
            mdb_cursor_close(t->at[i]);
    for (size_t i = 0; i < WALK_SLOTS; i++)
        if (t->slots[i].cursor)
            mdb_cursor_close(t->slots[i].cursor);
    mdb_txn_abort(t->txn);
    free(t);
}

static int begin_read(struct lmdb_store *s, struct store_txn **ret_txn)
{
    struct lmdb_txn *t = s->spare;
    int rc = 0;
    if (t) {
        s->spare = t->next_spare;
        s->n_spare--;
        rc = mdb_txn_renew(t->txn);
        if (!rc) {
            *ret_txn = &t->base;
            return 0;
        }
        reader_free(t);
    }
    t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    rc = begin_lmdb(s, MDB_RDONLY, &t->txn);
    if (rc) {
        free(t);
        return lmdb_error(rc, "begin");
    }
    *ret_txn = &t->base;
    return 0;
}

static int begin_write(struct lmdb_store *s, struct store_txn **ret_txn)
{
    struct lmdb_txn *t = &s->write_txn;
    memset(t, 0, sizeof *t);
    check_readers(s);
    int rc = begin_lmdb(s, 0, &t->txn);
    if (rc)
        return lmdb_error(rc, "begin");
    lmdb_room_find(s);
    s->lent = 0;
    s->spent = s->regained = 0;
    s->written = 0;
    for (unsigned i = 0; i < s->base.n_tables; i++)
        s->top[i].known = false;
    *ret_txn = &t->base;
    return 0;
}

static int lmdb_begin(struct store *base, bool write, struct store_txn **ret_txn)
{
    struct lmdb_store *s = of(base);
    if (s->fork_count != forks)
        return err_fail(ERR_INTERNAL, "store: used in a child of the process that opened it");
    return write ? begin_write(s, ret_txn) : begin_read(s, ret_txn);
}

static void end_write(struct lmdb_store *s)
{
    if (s->value_scratch.cap > SCRATCH_KEEP)
        buf_done(&s->value_scratch);
}

static void lmdb_abort(struct store_txn *base)
{
    struct lmdb_txn *t = txn_of(base);
    struct lmdb_store *s = of(base->store);
    if (base->write) {
        mdb_txn_abort(t->txn); /* closes the cursors */
        end_write(s);
        return;
    }
    if (s->n_spare >= SPARE_READERS) {
        reader_free(t);
        return;
    }
    mdb_txn_reset(t->txn); /* gives the snapshot up, keeps the reader's slot */
    for (size_t i = 0; i < STORE_TABLES_MAX; i++)
        t->at_stale[i] = t->at[i] != NULL;
    for (size_t i = 0; i < WALK_SLOTS; i++) {
        t->slots[i].stale = true;
        t->slots[i].walk = 0;
    }
    t->next_spare = s->spare;
    s->spare = t;
    s->n_spare++;
}

static int lmdb_commit(struct store_txn *base) /* of a write transaction */
{
    struct lmdb_store *s = of(base->store);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    int rc = mdb_txn_commit(txn_of(base)->txn);
    uint64_t took = clock_ns(CLOCK_MONOTONIC) - start;
    end_write(s);
    if (rc) {
        if (rc == MDB_MAP_FULL)
            s->recount = true;
        rc = lmdb_error(rc, "commit");
        /* Whatever it was, the state of the file is now known to the disk alone. */
        return rc == ERR_MAP_FULL || rc == -ENOMEM || rc == ERR_TOO_LARGE || rc == ERR_CORRUPT ? rc
                                                                                               : ERR_DISK;
    }
    s->room -= s->spent;
    s->base.last_commit_ns = took;
    if (took > s->base.slowest_commit_ns)
        s->base.slowest_commit_ns = took;
    return 0;
}

static int count_reader(const char *line, void *ctx)
{
    size_t n = strlen(line);
    /* "pid thread txnid", or "-" for a slot without a snapshot; the first line is a heading */
    if (n >= 2 && line[n - 2] != '-' && line[n - 2] != 'd' && strstr(line, "(no ") == NULL)
        ++*(uint32_t *)ctx;
    return 0;
}

static void lmdb_stat(struct store *base, struct store_stat *ret_stat)
{
    struct lmdb_store *s = of(base);
    (void)mdb_reader_list(s->env, count_reader, &ret_stat->readers);
    struct store_txn *t;
    if (store_begin(base, false, &t) != 0)
        return;
    for (unsigned i = 0; i < base->n_tables; i++) {
        MDB_stat st;
        if (!s->absent[i] && mdb_stat(txn_of(t)->txn, s->dbi[i], &st) == 0)
            ret_stat->entries[i] = st.ms_entries;
    }
    store_abort(t);
}

static int lmdb_copy(struct store *base, const char *dir)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/data.mdb", dir) >= sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_fail(-errno, "store: copy to %s: %s", path, strerror(errno));
    int rc = mdb_env_copyfd2(of(base)->env, fd, MDB_CP_COMPACT);
    if (rc ==
        MDB_INCOMPATIBLE) { /* pages were lost by a crash of long ago: then with all pages, as they are */
        rc = lseek(fd, 0, SEEK_SET) == 0 && ftruncate(fd, 0) == 0 ? 0 : errno;
        if (!rc)
            rc = mdb_env_copyfd2(of(base)->env, fd, 0);
    }
    if (!rc && fsync(fd) != 0)
        rc = errno;
    if (close(fd) != 0 && !rc)
        rc = errno;
    rc = lmdb_error(rc, "copy");
    return rc ? rc : folder_sync(dir);
}

static void lmdb_close(struct store *base)
{
    struct lmdb_store *s = of(base);
    while (s->spare) {
        struct lmdb_txn *t = s->spare;
        s->spare = t->next_spare;
        reader_free(t);
    }
    if (s->env)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    buf_done(&s->value_scratch);
    free(s);
}

static const struct store_ops lmdb_ops = {
    .close = lmdb_close,
    .begin = lmdb_begin,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .get = lmdb_get,
    .put = lmdb_put,
    .del = lmdb_del,
    .walk = lmdb_walk,
    .before = lmdb_before,
    .usage = lmdb_usage,
    .stat = lmdb_stat,
    .copy = lmdb_copy,
};

/* Opens the tables; the second time with create, when some are not there yet. */
static int open_tables(struct lmdb_store *s, bool create)
{
    MDB_txn *txn;
    bool missing = false;
    int rc = mdb_txn_begin(s->env, NULL, create ? 0 : MDB_RDONLY, &txn);
    for (unsigned i = 0; !rc && i < s->base.n_tables; i++) {
        rc = mdb_dbi_open(txn, s->base.tables[i], create ? MDB_CREATE : 0, &s->dbi[i]);
        s->absent[i] = rc == MDB_NOTFOUND;
        if (s->absent[i]) {
            missing = true;
            rc = 0;
        }
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    return !rc && missing && !create && !s->base.read_only ? open_tables(s, true) : rc;
}

/* A file that was cut short would be SIGBUS where its pages are missing. Made long again (with a hole, which
 * LMDB itself leaves at times), it is a damaged store that says so. */
static int mend_length(struct lmdb_store *s, const char *dir)
{
    char path[4096];
    struct stat st;
    MDB_envinfo info;
    MDB_stat env;
    mdb_env_info(s->env, &info);
    mdb_env_stat(s->env, &env);
    off_t want = (off_t)(info.me_last_pgno + 1) * (off_t)env.ms_psize;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    if (stat(path, &st) != 0)
        return errno;
    if (st.st_size >= want || truncate(path, want) == 0)
        return 0;
    return s->base.read_only ? MDB_CORRUPTED : errno;
}

static int open_env(struct lmdb_store *s, const char *dir, const struct store_options *opt)
{
    size_t map = opt->map_size ? opt->map_size : MAP_DEFAULT;
    map = ((map < MAP_MIN ? MAP_MIN : map) + 4095) & ~(size_t)4095;
    /* No thread-local readers: one thread has a reader beside a writer. Pages are zeroed before use (no
     * MDB_NOMEMINIT), so that no memory of the process leaks into the file. Never MDB_WRITEMAP: a full disk
     * would be SIGBUS. */
    unsigned flags = MDB_NOTLS | (opt->read_only ? MDB_RDONLY : 0) | (opt->no_sync ? MDB_NOSYNC : 0);
    int rc = mdb_env_create(&s->env);
    if (!rc)
        rc = mdb_env_set_maxdbs(s->env, opt->n_tables);
    if (!rc)
        rc = mdb_env_set_maxreaders(s->env, MAX_READERS);
    if (!rc)
        rc = mdb_env_set_mapsize(s->env, map);
    if (!rc)
        rc = mdb_env_open(s->env, dir, flags, 0600);
    if (!rc)
        rc = mend_length(s, dir);
    if (!rc)
        rc = open_tables(s, false);
    if (rc)
        return rc;
    MDB_envinfo info;
    MDB_stat st;
    int dead;
    mdb_env_info(s->env, &info);
    mdb_env_stat(s->env, &st);
    s->limit = info.me_mapsize;
    s->page = st.ms_psize;
    s->recount = true;
    return opt->read_only ? 0 : mdb_reader_check(s->env, &dead);
}

int store_open_lmdb(const char *dir, const struct store_options *opt, struct store **ret_store)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    INVARIANT(opt->n_tables <= STORE_TABLES_MAX);
    pthread_once(&once, watch_forks);
    struct lmdb_store *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->base.ops = &lmdb_ops;
    s->base.tables = opt->tables;
    s->base.n_tables = opt->n_tables;
    s->base.read_only = opt->read_only;
    s->fork_count = forks;
    s->lock_fd = -1;
    bool data = false, lock = false;
    int rc = folder_open(dir, opt->read_only, &s->lock_fd);
    if (!rc && !opt->read_only)
        rc = folder_clear(dir);
    if (!rc)
        rc = folder_check_file(dir, "data.mdb", &data);
    if (!rc)
        rc = folder_check_file(dir, "lock.mdb", &lock);
    bool new = !data && !opt->read_only && !opt->no_sync;
    if (!rc && new)
        rc = folder_begin(dir);
    if (!rc) {
        rc = open_env(s, dir, opt);
        if (rc) {
            rc = lmdb_error(rc, "open");
            rc = err_wrap(rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc, "%s", dir);
        }
    }
    if (!rc && new)
        rc = folder_finish(dir);
    if (rc) {
        lmdb_close(&s->base);
        return rc;
    }
    *ret_store = &s->base;
    return 0;
}

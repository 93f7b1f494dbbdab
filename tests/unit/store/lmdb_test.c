/* What only the store on LMDB has: files and their modes, one opener, killed processes, full disks, and that
 * it agrees with the store in memory on any row of calls. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/store/store.h"

static const char *const names[] = {"one", "two", "three"};
static const struct store_options plain = {.tables = names, .n_tables = 3, .map_size = 64 << 20};
static const struct view none;
static char dir[64], other[80];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/store-lmdb-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(other, sizeof other, "%s/store", dir);
    return 0;
}

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", other, name);
    return path;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const files[] = {"data.mdb", "lock.mdb", "owner"};
    for (size_t i = 0; i < COUNT_OF(files); i++)
        unlink(path_of(files[i]));
    unlink(other);
    rmdir(other);
    rmdir(dir);
    return 0;
}

static struct store *open_store(const struct store_options *opt)
{
    struct store *s;
    assert_int_equal(store_open_lmdb(other, opt, &s), 0);
    return s;
}

static int put1(struct store *s, const char *key, const void *value, size_t len)
{
    struct store_txn *t;
    int rc = store_begin(s, true, &t);
    if (rc)
        return rc;
    store_put(t, 0, view_str(key), view_of(value, len));
    return store_commit(t);
}

static void expect(struct store *s, const char *key, const char *value)
{
    struct store_txn *t;
    struct view v;
    assert_int_equal(store_begin(s, false, &t), 0);
    int rc = store_get(t, 0, view_str(key), &v);
    assert_int_equal(rc, value ? 0 : ERR_NOT_FOUND);
    if (value)
        assert_true(view_eq(v, view_str(value)));
    store_abort(t);
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 0777;
}

static void test_modes(void **state)
{
    (void)state;
    mode_t before = umask(0);
    store_close(open_store(&plain));
    assert_int_equal(mode_of(other), 0700);
    assert_int_equal(mode_of(path_of("data.mdb")), 0600);
    assert_int_equal(mode_of(path_of("lock.mdb")), 0600);
    assert_int_equal(mode_of(path_of("owner")), 0600);
    assert_int_equal(chmod(other, 0755) | chmod(path_of("data.mdb"), 0644), 0);
    store_close(open_store(&plain));
    assert_int_equal(mode_of(other), 0700);
    assert_int_equal(mode_of(path_of("data.mdb")), 0600);
    umask(before);
}

static void test_strange_places(void **state)
{
    (void)state;
    struct store *s;
    assert_int_equal(symlink("/tmp", other), 0);
    assert_true(store_open_lmdb(other, &plain, &s) < 0);
    assert_non_null(strstr(err_text(-ENOTDIR), "symbolic links are not followed"));
    assert_int_equal(unlink(other), 0);
    store_close(open_store(&plain));
    char target[200];
    snprintf(target, sizeof target, "%s/elsewhere", dir);
    assert_int_equal(rename(path_of("data.mdb"), target), 0);
    assert_int_equal(symlink(target, path_of("data.mdb")), 0);
    assert_int_equal(store_open_lmdb(other, &plain, &s), -EPERM);
    assert_int_equal(unlink(path_of("data.mdb")), 0);
    assert_int_equal(unlink(target), 0);
    int fd = open(path_of("data.mdb"), O_WRONLY | O_CREAT, 0600);
    char garbage[8192];
    memset(garbage, 0x5a, sizeof garbage);
    assert_int_equal(write(fd, garbage, sizeof garbage), sizeof garbage);
    close(fd);
    assert_int_equal(store_open_lmdb(other, &plain, &s), ERR_CORRUPT);
    assert_int_equal(store_open_lmdb("/nowhere/at/all", &plain, &s), -ENOENT);
}

/* Runs fn in a child that may open the store, and returns how the child ended. */
static int in_child(int (*fn)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int child_finds_it_busy(void)
{
    struct store *s;
    char want[64];
    snprintf(want, sizeof want, "in use by process %d", (int)getppid());
    int rc = store_open_lmdb(other, &plain, &s);
    return rc == ERR_BUSY && strstr(err_text(rc), want) ? 0 : 1;
}

static void test_one_opener(void **state)
{
    (void)state;
    struct store *s = open_store(&plain), *second;
    struct store_options reader = plain;
    reader.read_only = true;
    assert_int_equal(store_open_lmdb(other, &plain, &second), ERR_BUSY);
    assert_non_null(strstr(err_text(ERR_BUSY), "opened already in this process"));
    assert_int_equal(store_open_lmdb(other, &reader, &second), ERR_BUSY);
    assert_int_equal(put1(s, "a", "1", 1), 0); /* the attempt did no harm */
    assert_int_equal(in_child(child_finds_it_busy), 0);
    store_close(s);
    s = open_store(&plain);
    expect(s, "a", "1");
    store_close(s);
}

static struct store *inherited;
static int child_uses_it(void)
{
    struct store_txn *t;
    return store_begin(inherited, true, &t) == ERR_INTERNAL &&
                   store_begin(inherited, false, &t) == ERR_INTERNAL
               ? 0
               : 1;
}

static void test_not_after_fork(void **state)
{
    (void)state;
    inherited = open_store(&plain);
    assert_int_equal(in_child(child_uses_it), 0);
    assert_int_equal(put1(inherited, "a", "1", 1), 0);
    store_close(inherited);
}

static int child_dies_writing(void)
{
    struct store *s;
    struct store_txn *t, *reader;
    if (store_open_lmdb(other, &plain, &s) || put1(s, "kept", "yes", 3) || store_begin(s, false, &reader) ||
        store_begin(s, true, &t))
        return 1;
    for (int i = 0; i < 5000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%08d", i);
        store_put(t, 0, view_str(key), view_str("never committed"));
    }
    store_put(t, 0, view_str("kept"), view_str("no"));
    raise(SIGKILL);
    return 2;
}

static void test_killed_writer(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        int status = in_child(child_dies_writing);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct store *s = open_store(&plain);
        struct store_stat st;
        store_stat(s, &st);
        assert_int_equal(st.readers, 0); /* the dead one's slot is free again */
        assert_int_equal(st.entries[0], i ? 2 : 1);
        expect(s, "kept", "yes");
        assert_int_equal(put1(s, "more", "yes", 3), 0);
        store_close(s);
    }
}

/* The disk takes no more: the commit fails whole, writing is over for this process, reading is not. */
static int child_fills_the_disk(void)
{
    struct store *s;
    struct store_txn *t;
    struct rlimit limit = {1 << 20, 1 << 20};
    static uint8_t value[3000];
    struct view v;
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 1;
    if (store_open_lmdb(other, &plain, &s))
        return 2;
    int rc = 0, n = 0;
    while (!rc && n < 2000) {
        char key[16];
        snprintf(key, sizeof key, "%08d", n);
        rc = put1(s, key, value, sizeof value);
        n += !rc;
    }
    if (rc != ERR_DISK || n < 100 || n > 300)
        return 3;
    if (store_begin(s, true, &t) != ERR_DISK)
        return 4;
    struct store_stat st;
    store_stat(s, &st);
    if (st.entries[0] != (uint64_t)n || store_begin(s, false, &t) ||
        store_get(t, 0, view_str("00000000"), &v))
        return 5;
    store_close(s);                         /* the reader is still open */
    if (store_open_lmdb(other, &plain, &s)) /* as after a restart: it may delete */
        return 6;
    for (int i = 0; i < n; i++) {
        char key[16];
        snprintf(key, sizeof key, "%08d", i);
        if (store_begin(s, true, &t))
            return 7;
        store_del(t, 0, view_str(key));
        if (store_commit(t)) {
            /* not even that, at the very edge: nothing is lost by it */
            store_close(s);
            return i == 0 ? 0 : 8;
        }
    }
    store_close(s);
    return 0;
}

static void test_full_disk(void **state)
{
    (void)state;
    assert_int_equal(in_child(child_fills_the_disk), 0);
    struct store *s = open_store(&plain);
    assert_int_equal(put1(s, "after", "yes", 3), 0); /* there is room again */
    expect(s, "after", "yes");
    store_close(s);
}

/* A data file that was cut short is an error, at open or when its pages are asked for, and no crash. */
static int child_reads_what_was_cut(void)
{
    struct store *s;
    struct store_txn *t;
    struct view v;
    int rc = store_open_lmdb(other, &plain, &s);
    if (rc)
        return rc == ERR_CORRUPT ? 0 : 1;
    int corrupt = 0;
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%08d", i);
        if (store_begin(s, false, &t))
            return 2;
        rc = store_get(t, 0, view_str(key), &v);
        if (rc && rc != ERR_NOT_FOUND && rc != ERR_CORRUPT)
            return 3;
        corrupt += rc == ERR_CORRUPT;
        store_abort(t);
    }
    store_close(s);
    return corrupt ? 0 : 4;
}

static void test_cut_file(void **state)
{
    (void)state;
    static const off_t lengths[] = {8192, 12288, 40000, 200000};
    struct store_options opt = plain;
    opt.no_sync = true;
    for (size_t k = 0; k < COUNT_OF(lengths); k++) {
        struct store *s = open_store(&opt);
        uint8_t value[300] = {1};
        for (int i = 0; i < 1000; i++) {
            char key[16];
            snprintf(key, sizeof key, "%08d", i);
            assert_int_equal(put1(s, key, value, sizeof value), 0);
        }
        store_close(s);
        assert_int_equal(truncate(path_of("data.mdb"), lengths[k]), 0);
        assert_int_equal(in_child(child_reads_what_was_cut), 0);
        assert_int_equal(unlink(path_of("data.mdb")), 0);
    }
}

/* What a crash leaves of a store that was being made is no store: it is made again, and a finished one is
 * not. */
static void test_unfinished_store(void **state)
{
    (void)state;
    struct store *s = open_store(&plain);
    assert_int_equal(access(path_of("unfinished"), F_OK), -1);
    assert_int_equal(put1(s, "a", "1", 1), 0);
    store_close(s);
    s = open_store(&plain);
    expect(s, "a", "1");
    store_close(s);
    int fd = open(path_of("unfinished"), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(truncate(path_of("data.mdb"), 100), 0);
    s = open_store(&plain);
    expect(s, "a", NULL);
    assert_int_equal(access(path_of("unfinished"), F_OK), -1);
    assert_int_equal(put1(s, "a", "2", 1), 0);
    store_close(s);
    s = open_store(&plain);
    expect(s, "a", "2");
    store_close(s);
}

static void test_larger_map_at_reopen(void **state)
{
    (void)state;
    struct store_options opt = plain;
    static uint8_t value[100000];
    opt.map_size = 1 << 20;
    struct store *s = open_store(&opt);
    int rc = 0, n = 0;
    char key[16];
    while (!rc && n < 100) {
        snprintf(key, sizeof key, "%08d", n);
        rc = put1(s, key, value, sizeof value);
        n += !rc;
    }
    assert_int_equal(rc, ERR_MAP_FULL);
    assert_in_range(n, 5, 10);
    assert_int_equal(put1(s, key, value, sizeof value), ERR_MAP_FULL); /* not for good: no ERR_DISK */
    store_close(s);
    opt.map_size = 16 << 20;
    s = open_store(&opt);
    assert_int_equal(put1(s, key, value, sizeof value), 0);
    store_close(s);
    opt.map_size = 64 << 10; /* never smaller than what is in it */
    s = open_store(&opt);
    expect(s, "absent", NULL);
    store_close(s);
}

static void test_more_tables_later(void **state)
{
    (void)state;
    struct store_options opt = plain;
    opt.n_tables = 1;
    struct store *s = open_store(&opt);
    assert_int_equal(put1(s, "a", "1", 1), 0);
    store_close(s);
    opt.n_tables = 3;
    opt.read_only = true;
    s = open_store(&opt);
    struct store_txn *t;
    struct view v;
    expect(s, "a", "1");
    assert_int_equal(store_begin(s, false, &t), 0);
    assert_int_equal(store_get(t, 2, view_str("a"), &v), ERR_NOT_FOUND); /* as good as empty */
    assert_int_equal(store_last(t, 2, none, &v, &v), ERR_NOT_FOUND);
    struct store_walk w = store_walk_from(t, 2, none, none);
    assert_false(store_walk_next(&w));
    assert_int_equal(store_txn_error(t), 0);
    store_close(s);
    opt.read_only = false;
    s = open_store(&opt);
    assert_int_equal(store_begin(s, true, &t), 0);
    store_put(t, 2, view_str("a"), view_str("3"));
    assert_int_equal(store_commit(t), 0);
    store_close(s);
}

/* Ascending keys fill their pages; that is what makes the difference on disk and in time. */
static void test_ascending_keys_fill_pages(void **state)
{
    (void)state;
    struct store_options opt = plain;
    opt.no_sync = true;
    struct store *s = open_store(&opt);
    struct store_txn *t;
    struct store_stat st;
    char key[16];
    uint8_t value[400] = {0};
    for (int n = 0; n < 10000;) {
        assert_int_equal(store_begin(s, true, &t), 0);
        for (int end = n + 1000; n < end; n++) {
            snprintf(key, sizeof key, "%08d", n);
            store_put(t, 1, view_str(key), view_of(value, sizeof value));
        }
        assert_int_equal(store_commit(t), 0);
    }
    store_stat(s, &st);
    assert_in_range(st.used_bytes, 4000000, 4000000 * 14 / 10);
    store_close(s);
}

static uint32_t random_state;
static uint32_t draw(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 4) * below >> 28);
}

static void expect_same(struct store_txn *a, struct store_txn *b)
{
    for (unsigned table = 0; table < 3; table++) {
        struct store_walk x = store_walk_from(a, table, none, none),
                          y = store_walk_from(b, table, none, none);
        for (;;) {
            bool more = store_walk_next(&x);
            assert_int_equal(more, store_walk_next(&y));
            if (!more)
                break;
            assert_true(view_eq(x.key, y.key));
            assert_true(view_eq(x.value, y.value));
        }
    }
}

/* One call on both; all inputs are drawn before. */
static void same_call(struct store_txn *a, struct store_txn *b, struct store_walk *x, struct store_walk *y)
{
    static uint8_t value[9000];
    uint8_t key[40];
    unsigned table = draw(3);
    size_t key_len = draw(4) ? 2 : 1 + draw(sizeof key);
    memset(key, 'k', sizeof key);
    key[0] = (uint8_t)draw(64);
    key[key_len > 1 ? 1 : 0] = (uint8_t)draw(64);
    struct view k = view_of(key, key_len), va, vb, ka, kb;
    size_t len = draw(16) ? draw(300) : draw(sizeof value);
    memset(value, (int)draw(256), len);
    switch (draw(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        store_put(a, table, k, view_of(value, len));
        store_put(b, table, k, view_of(value, len));
        break;
    case 4:
    case 5:
        store_del(a, table, k);
        store_del(b, table, k);
        break;
    case 6: {
        int rc = store_get(a, table, k, &va);
        assert_int_equal(rc, store_get(b, table, k, &vb));
        if (!rc) {
            assert_true(view_eq(va, vb));
            key[0] ^= 1; /* what was read, written elsewhere in the table */
            store_put(a, table, k, va);
            store_put(b, table, k, vb);
        }
        break;
    }
    case 7: {
        struct view prefix = view_of(key, draw(3));
        int rc = store_last(a, table, prefix, &ka, &va);
        assert_int_equal(rc, store_last(b, table, prefix, &kb, &vb));
        if (!rc)
            assert_true(view_eq(ka, kb) && view_eq(va, vb));
        break;
    }
    case 8: {
        bool more = store_walk_next(x);
        assert_int_equal(more, store_walk_next(y));
        if (more) {
            assert_true(view_eq(x->key, y->key) && view_eq(x->value, y->value));
            if (draw(2)) {
                store_del(a, x->table, x->key);
                store_del(b, y->table, y->key);
            } else if (draw(2)) { /* a longer value under the key that it stands on */
                store_put(a, x->table, x->key, view_of(value, len));
                store_put(b, y->table, y->key, view_of(value, len));
            }
            break;
        }
        *x = store_walk_from(a, table, none, none);
        *y = store_walk_from(b, table, none, none);
        break;
    }
    case 9: { /* above all that is there */
        uint8_t top[3] = {0xf0, (uint8_t)draw(200), (uint8_t)draw(200)};
        store_put(a, table, view_of(top, 3), view_of(value, len));
        store_put(b, table, view_of(top, 3), view_of(value, len));
        break;
    }
    }
}

static void test_agrees_with_memory(void **state)
{
    (void)state;
    struct store_options opt = plain;
    opt.no_sync = true;
    struct store *s = open_store(&opt), *m;
    opt.map_size = 0;
    assert_int_equal(store_open_memory(&opt, &m), 0);
    for (uint32_t round = 0; round < 300; round++) {
        random_state = round * 7919u + 1;
        struct store_txn *a, *b;
        assert_int_equal(store_begin(s, true, &a), 0);
        assert_int_equal(store_begin(m, true, &b), 0);
        unsigned table = draw(3);
        struct store_walk x = store_walk_from(a, table, none, none),
                          y = store_walk_from(b, table, none, none);
        for (uint32_t n = draw(400); n > 0; n--)
            same_call(a, b, &x, &y);
        if (round % 10 == 0)
            expect_same(a, b);
        if (draw(4)) {
            assert_int_equal(store_commit(a), 0);
            assert_int_equal(store_commit(b), 0);
        } else {
            store_abort(a);
            store_abort(b);
        }
        assert_int_equal(store_begin(s, false, &a), 0);
        assert_int_equal(store_begin(m, false, &b), 0);
        expect_same(a, b);
        store_abort(a);
        store_abort(b);
    }
    struct store_stat st, mt;
    store_stat(s, &st);
    store_stat(m, &mt);
    assert_memory_equal(st.entries, mt.entries, sizeof st.entries);
    assert_int_equal(st.commits, mt.commits);
    store_close(s);
    store_close(m);
}

#define ONE(test)                                                                                            \
    {                                                                                                        \
#test, test, setup, teardown, NULL                                                                   \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(test_modes),
        ONE(test_strange_places),
        ONE(test_one_opener),
        ONE(test_not_after_fork),
        ONE(test_killed_writer),
        ONE(test_full_disk),
        ONE(test_cut_file),
        ONE(test_unfinished_store),
        ONE(test_larger_map_at_reopen),
        ONE(test_more_tables_later),
        ONE(test_ascending_keys_fill_pages),
        ONE(test_agrees_with_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What every store does: each test runs on LMDB and on memory. A test gets an open, empty store; reopen()
 * closes it and opens it again, as a restart does (the memory store, which cannot, is handed back as after a
 * crash). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/store/store.h"

enum { T_ONE, T_TWO, T_COUNT };
static const char *const names[] = {"one", "two"};

struct world {
    bool lmdb;
    char dir[64];
    struct store_options opt;
    struct store *s;
};

static struct view str(const char *s)
{
    return view_str(s);
}
static const struct view none;

static void open_store(struct world *w)
{
    assert_int_equal(
        w->lmdb ? store_open_lmdb(w->dir, &w->opt, &w->s) : store_open_memory(&w->opt, &w->s), 0);
}

static void reopen(struct world *w)
{
    if (!w->lmdb) {
        store_crash(w->s);
        return;
    }
    store_close(w->s);
    open_store(w);
}

static int setup(void **state, bool lmdb)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w)
        return -1;
    w->lmdb = lmdb;
    snprintf(w->dir, sizeof w->dir, "/tmp/store-contract-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    w->opt =
        (struct store_options){.tables = names, .n_tables = T_COUNT, .map_size = 64 << 20, .no_sync = true};
    open_store(w);
    *state = w;
    return 0;
}
static int setup_lmdb(void **state)
{
    return setup(state, true);
}
static int setup_memory(void **state)
{
    return setup(state, false);
}

static void remove_dir(const char *dir)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "owner"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static int teardown(void **state)
{
    struct world *w = *state;
    store_close(w->s);
    remove_dir(w->dir);
    free(w);
    return 0;
}

static struct store_txn *begin(struct world *w, bool write)
{
    struct store_txn *t;
    assert_int_equal(store_begin(w->s, write, &t), 0);
    return t;
}

static void put1(struct world *w, unsigned table, const char *key, const char *value)
{
    struct store_txn *t = begin(w, true);
    store_put(t, table, str(key), str(value));
    assert_int_equal(store_commit(t), 0);
}

static void expect(struct store_txn *t, unsigned table, const char *key, const char *value)
{
    struct view v;
    int rc = store_get(t, table, str(key), &v);
    if (!value) {
        assert_int_equal(rc, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(v.len, strlen(value));
    assert_memory_equal(v.data, value, v.len);
}

static void expect_now(struct world *w, unsigned table, const char *key, const char *value)
{
    struct store_txn *t = begin(w, false);
    expect(t, table, key, value);
    store_abort(t);
}

/* The keys of a walk, joined by blanks. */
static void expect_walk(
    struct store_txn *t, unsigned table, const char *first, const char *prefix, const char *keys)
{
    AUTO_BUF b = {0};
    struct store_walk w = store_walk_from(t, table, str(first), str(prefix));
    while (store_walk_next(&w)) {
        if (b.len)
            buf_u8(&b, ' ');
        buf_append_view(&b, w.key);
    }
    buf_u8(&b, 0);
    assert_string_equal((char *)b.data, keys);
    assert_false(store_walk_next(&w)); /* asked again at its end, it stays there */
}

static void test_put_get_del(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w, true);
    store_put(t, T_ONE, str("b"), str("2"));
    store_put(t, T_ONE, str("a"), str("1"));
    store_put(t, T_ONE, str("c"), none);
    store_put(t, T_TWO, str("a"), str("other"));
    store_del(t, T_ONE, str("absent"));
    expect(t, T_ONE, "a", "1");
    expect(t, T_ONE, "c", "");
    expect(t, T_ONE, "d", NULL);
    assert_int_equal(store_txn_error(t), 0); /* absence is no error */
    assert_int_equal(store_commit(t), 0);
    t = begin(w, true);
    expect(t, T_ONE, "b", "2");
    store_put(t, T_ONE, str("b"), str("longer than before"));
    expect(t, T_ONE, "b", "longer than before");
    store_del(t, T_ONE, str("a"));
    expect(t, T_ONE, "a", NULL);
    expect(t, T_TWO, "a", "other");
    assert_int_equal(store_commit(t), 0);
    t = begin(w, false);
    expect_walk(t, T_ONE, "", "", "b c");
    expect_walk(t, T_TWO, "", "", "a");
    assert_int_equal(store_commit(t), 0);
}

static void test_reopen_keeps_what_was_committed(void **state)
{
    struct world *w = *state;
    put1(w, T_ONE, "kept", "yes");
    struct store_txn *t = begin(w, true);
    store_put(t, T_ONE, str("lost"), str("yes"));
    store_del(t, T_ONE, str("kept"));
    reopen(w); /* with the transaction open */
    expect_now(w, T_ONE, "kept", "yes");
    expect_now(w, T_ONE, "lost", NULL);
    put1(w, T_ONE, "more", "yes");
    expect_now(w, T_ONE, "more", "yes");
}

static void test_abort(void **state)
{
    struct world *w = *state;
    put1(w, T_ONE, "a", "1");
    struct store_txn *t = begin(w, true);
    store_put(t, T_ONE, str("a"), str("2"));
    store_put(t, T_ONE, str("b"), str("2"));
    store_put(t, T_TWO, str("b"), str("2"));
    store_abort(t);
    store_abort(NULL);
    expect_now(w, T_ONE, "a", "1");
    expect_now(w, T_ONE, "b", NULL);
    expect_now(w, T_TWO, "b", NULL);
}

static void test_one_writer_many_readers(void **state)
{
    struct world *w = *state;
    put1(w, T_ONE, "a", "1");
    struct store_txn *before = begin(w, false), *t = begin(w, true), *second;
    assert_int_equal(store_begin(w->s, true, &second), ERR_BUSY);
    store_put(t, T_ONE, str("a"), str("2"));
    struct store_txn *beside = begin(w, false);
    expect(beside, T_ONE, "a", "1"); /* not what is not committed */
    assert_int_equal(store_commit(t), 0);
    struct store_txn *after = begin(w, false);
    expect(before, T_ONE, "a", "1"); /* its snapshot stays */
    expect(beside, T_ONE, "a", "1");
    expect(after, T_ONE, "a", "2");
    store_abort(before);
    store_abort(beside);
    assert_int_equal(store_commit(after), 0);
}

static void test_walk_ranges(void **state)
{
    struct world *w = *state;
    static const char *const keys[] = {
        "a", "ab", "abc", "abd", "ac", "b", "ba", "\xff", "\xff\xff", "\xff\xffz"};
    struct store_txn *t = begin(w, true);
    for (size_t i = COUNT_OF(keys); i-- > 0;)
        store_put(t, T_ONE, str(keys[i]), str("x"));
    expect_walk(t, T_ONE, "", "", "a ab abc abd ac b ba \xff \xff\xff \xff\xffz");
    assert_int_equal(store_commit(t), 0);
    t = begin(w, false);
    expect_walk(t, T_ONE, "abd", "", "abd ac b ba \xff \xff\xff \xff\xffz");
    expect_walk(t, T_ONE, "", "ab", "ab abc abd");
    expect_walk(t, T_ONE, "abca", "ab", "abd");
    expect_walk(t, T_ONE, "a", "b", "b ba"); /* first before the prefix */
    expect_walk(t, T_ONE, "c", "b", "");     /* and behind it */
    expect_walk(t, T_ONE, "", "\xff\xff", "\xff\xff \xff\xffz");
    expect_walk(t, T_ONE, "", "zz", "");
    expect_walk(t, T_TWO, "", "", ""); /* an empty table */
    uint8_t longer[600];
    memset(longer, 'a', sizeof longer);
    struct store_walk walk = store_walk_from(t, T_ONE, view_of(longer, sizeof longer), none);
    assert_true(store_walk_next(&walk)); /* no key is that long; the next one is given */
    assert_true(view_eq(walk.key, str("ab")));
    store_abort(t);
}

static void test_last(void **state)
{
    struct world *w = *state;
    static const char *const keys[] = {"a1", "a2", "b", "\xfe", "\xff\xff", "\xff\xff\x01"};
    struct store_txn *t = begin(w, true);
    struct view k, v;
    assert_int_equal(store_last(t, T_ONE, none, &k, &v), ERR_NOT_FOUND);
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        store_put(t, T_ONE, str(keys[i]), str(keys[i]));
    static const char *const asked[][2] = {{"", "\xff\xff\x01"}, {"a", "a2"}, {"a1", "a1"}, {"b", "b"},
        {"\xff", "\xff\xff\x01"}, {"\xff\xff", "\xff\xff\x01"}, {"\xfe", "\xfe"}, {"c", NULL}, {"a0", NULL},
        {"0", NULL}, {"\xff\xff\x02", NULL}};
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        int rc = store_last(t, T_ONE, str(asked[i][0]), &k, &v);
        assert_int_equal(rc, asked[i][1] ? 0 : ERR_NOT_FOUND);
        if (!rc) {
            assert_true(view_eq(k, str(asked[i][1])));
            assert_true(view_eq(v, k));
        }
    }
    assert_int_equal(store_commit(t), 0);
}

static void test_walk_survives_writes(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w, true);
    char key[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%04d", i);
        store_put(t, T_ONE, str(key), str("value"));
    }
    assert_int_equal(store_commit(t), 0);
    t = begin(w, true);
    int seen = 0;
    struct store_walk walk = store_walk_from(t, T_ONE, none, none);
    while (store_walk_next(&walk)) {
        int n = atoi(memcpy(key, walk.key.data, 4));
        assert_int_equal(n, seen++);
        if (n % 3 == 0) {
            store_del(t, T_ONE, walk.key); /* the key that it stands on */
        } else if (n % 3 == 1) {
            store_put(t, T_ONE, walk.key, str("a value that is so much longer that the page is split"));
        } else {
            key[4] = 'x'; /* one behind the key: it has to be seen */
            store_put(t, T_ONE, view_of(key, 5), none);
            assert_true(store_walk_next(&walk));
            assert_int_equal(walk.key.len, 5);
        }
    }
    assert_int_equal(seen, 1000);
    assert_int_equal(store_commit(t), 0);
    struct store_stat st;
    store_stat(w->s, &st);
    assert_int_equal(st.entries[T_ONE], 666 + 333);
    t = begin(w, true); /* clears a table while walking over it */
    walk = store_walk_from(t, T_ONE, none, none);
    while (store_walk_next(&walk))
        store_del(t, T_ONE, walk.key);
    assert_int_equal(store_commit(t), 0);
    store_stat(w->s, &st);
    assert_int_equal(st.entries[T_ONE], 0);
}

static void test_many_walks_at_once(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w, true);
    char key[16];
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "%02d", i);
        store_put(t, T_ONE, str(key), str(key));
    }
    assert_int_equal(store_commit(t), 0);
    for (int write = 0; write < 2; write++) {
        t = begin(w, write);
        struct store_walk walks[20];
        for (int i = 0; i < 20; i++)
            walks[i] = store_walk_from(t, T_ONE, none, none);
        for (int n = 0; n < 50; n++)
            for (int i = 0; i < 20; i++) {
                assert_true(store_walk_next(&walks[i]));
                snprintf(key, sizeof key, "%02d", n);
                assert_true(view_eq(walks[i].key, str(key)));
                assert_true(view_eq(walks[i].value, str(key)));
            }
        for (int i = 0; i < 20; i++)
            assert_false(store_walk_next(&walks[i]));
        store_abort(t);
    }
}

static void test_sticky_error(void **state)
{
    struct world *w = *state;
    put1(w, T_ONE, "a", "1");
    struct store_txn *t = begin(w, true);
    struct view v;
    store_put(t, T_ONE, str("b"), str("2"));
    store_put(t, T_ONE, none, str("an empty key"));
    assert_int_equal(store_txn_error(t), ERR_TOO_LARGE);
    store_put(t, T_ONE, str("c"), str("3"));
    store_del(t, T_ONE, str("a"));
    assert_null(store_put_reserve(t, T_ONE, str("d"), 8));
    assert_int_equal(store_get(t, T_ONE, str("a"), &v), ERR_TOO_LARGE);
    struct store_walk walk = store_walk_from(t, T_ONE, none, none);
    assert_false(store_walk_next(&walk));
    assert_int_equal(store_commit(t), ERR_TOO_LARGE);
    expect_now(w, T_ONE, "a", "1");
    expect_now(w, T_ONE, "b", NULL);
    expect_now(w, T_ONE, "c", NULL);
}

static void test_key_limits(void **state)
{
    struct world *w = *state;
    uint8_t key[512];
    memset(key, 'k', sizeof key);
    struct store_txn *t = begin(w, true);
    struct view v;
    store_put(t, T_ONE, view_of(key, 511), str("longest"));
    store_put(t, T_ONE, view_of("\0", 1), str("shortest"));
    assert_int_equal(store_get(t, T_ONE, view_of(key, 511), &v), 0);
    assert_int_equal(store_get(t, T_ONE, view_of("\0", 1), &v), 0);
    assert_int_equal(store_get(t, T_ONE, view_of(key, 512), &v), ERR_NOT_FOUND);
    assert_int_equal(store_get(t, T_ONE, none, &v), ERR_NOT_FOUND);
    store_del(t, T_ONE, view_of(key, 512));
    store_del(t, T_ONE, none);
    assert_int_equal(store_commit(t), 0);
    t = begin(w, true);
    store_put(t, T_ONE, view_of(key, 512), str("too long"));
    assert_int_equal(store_commit(t), ERR_TOO_LARGE);
}

static void test_large_values(void **state)
{
    struct world *w = *state;
    static const size_t sizes[] = {0, 1, 2000, 2037, 2038, 4080, 4096, 65536, 1000000};
    uint8_t *data = malloc(1000000);
    assert_non_null(data);
    for (size_t i = 0; i < 1000000; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 8));
    struct store_txn *t = begin(w, true);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t key = (uint8_t)i;
        store_put(t, T_ONE, view_of(&key, 1), view_of(data, sizes[i]));
        uint8_t *place = store_put_reserve(t, T_TWO, view_of(&key, 1), sizes[i]);
        assert_non_null(place);
        memcpy(place, data, sizes[i]);
    }
    assert_int_equal(store_commit(t), 0);
    reopen(w);
    t = begin(w, true);
    for (unsigned table = 0; table < T_COUNT; table++)
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            uint8_t key = (uint8_t)i;
            struct view v;
            assert_int_equal(store_get(t, table, view_of(&key, 1), &v), 0);
            assert_true(view_eq(v, view_of(data, sizes[i])));
            key = (uint8_t)(100 + i); /* what was read here may be written here */
            store_put(t, table, view_of(&key, 1), v);
            assert_int_equal(store_get(t, table, view_of(&key, 1), &v), 0);
            assert_true(view_eq(v, view_of(data, sizes[i])));
        }
    assert_int_equal(store_commit(t), 0);
    free(data);
}

/* A full store is readable, says so, takes no new entries, and deletes. */
static void test_full(void **state)
{
    struct world *w = *state;
    store_close(w->s);
    remove_dir(w->dir);
    w->opt.map_size = 4 << 20;
    open_store(w);
    assert_false(store_nearly_full(w->s));
    uint8_t value[700] = {1};
    char key[16];
    int n = 0, rc = 0;
    bool warned = false;
    while (!rc && n < 100000) {
        warned = warned || store_nearly_full(w->s);
        struct store_txn *t = begin(w, true);
        for (int i = 0; i < 10; i++) {
            /* anywhere in the order, so that pages are half full */
            snprintf(key, sizeof key, "%08x", (unsigned)(n + i) * 2654435761u);
            store_put(t, T_ONE, str(key), view_of(value, sizeof value));
        }
        rc = store_commit(t);
        n += rc ? 0 : 10;
    }
    assert_int_equal(rc, ERR_MAP_FULL);
    assert_in_range(n, 2000, 5600);
    assert_true(warned);
    assert_true(store_nearly_full(w->s));
    reopen(w);
    struct store_stat st;
    store_stat(w->s, &st);
    assert_int_equal(st.entries[T_ONE], n);
    struct store_txn *t = begin(w, true); /* what is regained may be written in the same transaction */
    snprintf(key, sizeof key, "%08x", 0u);
    store_del(t, T_ONE, str(key));
    store_put(t, T_TWO, str("note"), str("deleted one"));
    assert_int_equal(store_commit(t), 0);
    for (int i = 1; i < n;) { /* a deletion needs pages too, until its commit: some at a time */
        t = begin(w, true);
        for (int end = i + 8; i < n && i < end; i++) {
            snprintf(key, sizeof key, "%08x", (unsigned)i * 2654435761u);
            store_del(t, T_ONE, str(key));
        }
        assert_int_equal(store_commit(t), 0);
    }
    assert_false(store_nearly_full(w->s));
    for (int i = 0; i < 100; i++)
        put1(w, T_ONE, "again", "room for new entries");
    store_stat(w->s, &st);
    assert_int_equal(st.entries[T_ONE], 1);
}

static void script(struct store_txn *t)
{
    store_put(t, T_ONE, str("a"), str("new"));
    store_put(t, T_ONE, str("b"), str("new"));
    store_del(t, T_ONE, str("old"));
    uint8_t *place = store_put_reserve(t, T_TWO, str("c"), 3);
    if (place)
        memcpy(place, "new", 3);
    store_del(t, T_TWO, str("old"));
}

/* The n-th write or the commit fails, for every n: all or nothing. */
static void test_fail_after(void **state)
{
    struct world *w = *state;
    static const int codes[] = {ERR_MAP_FULL, ERR_DISK, -ENOMEM};
    for (size_t c = 0; c < COUNT_OF(codes); c++)
        for (unsigned n = 1; n <= 7; n++) {
            put1(w, T_ONE, "a", "before");
            put1(w, T_ONE, "old", "before");
            put1(w, T_TWO, "old", "before");
            struct store_txn *t = begin(w, true);
            store_del(t, T_ONE, str("b"));
            store_del(t, T_TWO, str("c"));
            assert_int_equal(store_commit(t), 0);
            store_fail_after(w->s, n, codes[c]);
            t = begin(w, true);
            script(t);
            int rc = store_commit(t);
            assert_int_equal(rc, n <= 6 ? codes[c] : 0);
            store_fail_after(w->s, 0, 0);
            expect_now(w, T_ONE, "a", rc ? "before" : "new");
            expect_now(w, T_ONE, "b", rc ? NULL : "new");
            expect_now(w, T_ONE, "old", rc ? "before" : NULL);
            expect_now(w, T_TWO, "c", rc ? NULL : "new");
            expect_now(w, T_TWO, "old", rc ? "before" : NULL);
            if (rc == ERR_DISK) { /* the process has to start again */
                assert_int_equal(store_begin(w->s, true, &t), ERR_DISK);
                reopen(w);
            }
        }
}

static void test_stat(void **state)
{
    struct world *w = *state;
    struct store_stat a, b;
    store_stat(w->s, &a);
    put1(w, T_ONE, "a", "1");
    put1(w, T_TWO, "a", "1");
    put1(w, T_TWO, "b", "1");
    struct store_txn *r1 = begin(w, false), *r2 = begin(w, false);
    store_stat(w->s, &b);
    assert_int_equal(b.readers, 2);
    store_abort(r1);
    store_abort(r2);
    assert_int_equal(b.commits - a.commits, 3);
    assert_int_equal(b.entries[T_ONE], 1);
    assert_int_equal(b.entries[T_TWO], 2);
    assert_int_equal(b.limit_bytes, 64 << 20);
    assert_true(b.used_bytes > a.used_bytes);
    store_stat(w->s, &b);
    assert_int_equal(b.readers, 0);
}

static void test_copy(void **state)
{
    struct world *w = *state;
    char dir[80];
    snprintf(dir, sizeof dir, "%s-copy", w->dir);
    put1(w, T_ONE, "a", "1");
    struct store_txn *t = begin(w, true);
    assert_int_equal(store_copy(w->s, dir), ERR_BUSY);
    store_abort(t);
    assert_int_equal(store_copy(w->s, w->dir), ERR_EXISTS);
    t = begin(w, false);
    assert_int_equal(store_copy(w->s, dir), 0);
    store_abort(t);
    put1(w, T_ONE, "a", "2");
    struct store *copy;
    assert_int_equal(store_open_lmdb(dir, &w->opt, &copy), 0);
    assert_int_equal(store_begin(copy, false, &t), 0);
    expect(t, T_ONE, "a", "1");
    store_close(copy); /* with t open */
    remove_dir(dir);
}

static void test_read_only(void **state)
{
    struct world *w = *state;
    put1(w, T_ONE, "a", "1");
    if (!w->lmdb)
        store_close(w->s);
    w->opt.read_only = true;
    if (!w->lmdb)
        open_store(w);
    else
        reopen(w);
    struct store_txn *t;
    assert_int_equal(store_begin(w->s, true, &t), -EROFS);
    expect_now(w, T_ONE, "a", w->lmdb ? "1" : NULL);
}

#define BOTH(test)                                                                                           \
    {#test " (lmdb)", test, setup_lmdb, teardown, NULL},                                                     \
    {                                                                                                        \
#test " (memory)", test, setup_memory, teardown, NULL                                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_put_get_del),
        BOTH(test_reopen_keeps_what_was_committed),
        BOTH(test_abort),
        BOTH(test_one_writer_many_readers),
        BOTH(test_walk_ranges),
        BOTH(test_last),
        BOTH(test_walk_survives_writes),
        BOTH(test_many_walks_at_once),
        BOTH(test_sticky_error),
        BOTH(test_key_limits),
        BOTH(test_large_values),
        BOTH(test_full),
        BOTH(test_fail_after),
        BOTH(test_stat),
        BOTH(test_copy),
        BOTH(test_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

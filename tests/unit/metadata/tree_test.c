/* The trie: its shape depends on the set alone, updates equal rebuilding, nothing is left behind, damage is
 * found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "services/metadata/metadata.h"
#include "services/metadata/tree.h"

#define KEYS 700u

static uint64_t seed;

static uint32_t chance(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed % below);
}

struct world {
    struct store *store;
    struct store_txn *txn;
    uint8_t salt[16];
    struct subtree root;
    char *value[KEYS]; /* what must be there; NULL: nothing */
};

static int setup(void **state)
{
    static const struct store_options none = {0};
    struct store_options o = none;
    struct world *w = calloc(1, sizeof *w);
    o.tables = metadata_tables;
    o.n_tables = metadata_n_tables;
    assert_int_equal(store_open_memory(&o, &w->store), 0);
    assert_int_equal(store_begin(w->store, true, &w->txn), 0);
    scope_salt("test/scope", w->salt);
    empty_root(w->salt, &w->root.hash);
    seed = 88172645463325252u;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    store_abort(w->txn);
    store_close(w->store);
    for (unsigned i = 0; i < KEYS; i++)
        free(w->value[i]);
    free(w);
    return 0;
}

static void key_of(unsigned i, char out[32])
{
    snprintf(out, 32, "deb/pkg%u/1.0/amd64", i);
}

struct batch {
    struct change change[KEYS];
    struct buf bytes[KEYS];
    char key[KEYS][32];
    size_t n;
};

static void batch_put(struct world *w, struct batch *b, unsigned i, const char *value)
{
    key_of(i, b->key[b->n]);
    struct view key = view_str(b->key[b->n]);
    free(w->value[i]);
    w->value[i] = value ? strdup(value) : NULL;
    if (value)
        record_pack(&b->bytes[b->n], key, view_str(value), 7, 0);
    change_init(&b->change[b->n], w->salt, key, buf_view(&b->bytes[b->n]));
    b->n++;
}

static void batch_apply(struct world *w, struct batch *b)
{
    struct tree t;
    tree_init(&t, w->txn, 1, w->salt);
    assert_int_equal(change_sort(b->change, &b->n), 0);
    assert_int_equal(tree_update(&t, &w->root, b->change, b->n, &w->root), 0);
    tree_done(&t);
    for (size_t i = 0; i < KEYS; i++)
        buf_done(&b->bytes[i]);
    memset(b, 0, sizeof *b);
}

/* The same set from nothing, under another scope number. */
static struct subtree rebuilt(struct world *w, uint64_t *ret_pages)
{
    struct batch *b = calloc(1, sizeof *b);
    struct subtree root = {0};
    struct tree t;
    struct key4 two = key_scope(2);
    struct store_walk walk = store_walk_from(w->txn, TABLE_PAGES, KEY(two), KEY(two));
    while (store_walk_next(&walk)) {
        uint8_t key[PAGE_KEY_LEN];
        memcpy(key, walk.key.data, sizeof key);
        store_del(w->txn, TABLE_PAGES, view_of(key, sizeof key));
    }
    for (unsigned i = 0; i < KEYS; i++)
        if (w->value[i]) {
            char *v = strdup(w->value[i]);
            batch_put(w, b, i, v);
            free(v);
        }
    tree_init(&t, w->txn, 2, w->salt);
    assert_int_equal(change_sort(b->change, &b->n), 0);
    assert_int_equal(tree_update(&t, &root, b->change, b->n, &root), 0);
    *ret_pages = t.pages_written;
    tree_done(&t);
    for (size_t i = 0; i < KEYS; i++)
        buf_done(&b->bytes[i]);
    free(b);
    return root;
}

static uint64_t pages_stored(struct world *w, uint32_t scope)
{
    uint64_t n = 0;
    struct key4 k = key_scope(scope);
    struct store_walk walk = store_walk_from(w->txn, TABLE_PAGES, KEY(k), KEY(k));
    while (store_walk_next(&walk))
        n++;
    return n;
}

static void check_same(struct world *w)
{
    uint64_t pages;
    struct subtree fresh = rebuilt(w, &pages);
    assert_true(hash_eq(&fresh.hash, &w->root.hash));
    assert_int_equal(fresh.count, w->root.count);
    assert_int_equal(fresh.bytes, w->root.bytes);
    assert_int_equal(pages_stored(w, 1), pages); /* nothing of older trees is left */
    struct tree t;
    struct tree_report r;
    tree_init(&t, w->txn, 1, w->salt);
    assert_int_equal(tree_check(&t, &w->root, true, false, &r), 0);
    assert_int_equal(r.bad, 0);
    assert_int_equal(r.records, w->root.count);
    for (unsigned i = 0; i < KEYS; i += 7) {
        struct record rec;
        char key[32];
        key_of(i, key);
        int rc = tree_get(&t, &w->root, view_str(key), &rec);
        assert_int_equal(rc, w->value[i] ? 0 : ERR_NOT_FOUND);
        if (!rc)
            assert_true(view_eq(rec.value, view_str(w->value[i])));
    }
    tree_done(&t);
}

static void test_history_does_not_matter(void **state)
{
    struct world *w = *state;
    struct batch *b = calloc(1, sizeof *b);
    for (unsigned round = 0; round < 60; round++) {
        /* up and down again, so that leaves split and collapse */
        unsigned n = 1 + chance(round % 10 == 9 ? KEYS - 1 : 60);
        bool shrink = round % 20 > 12;
        for (unsigned k = 0; k < n; k++) {
            unsigned i = chance(KEYS);
            char value[80];
            bool dup = false;
            for (size_t j = 0; j < b->n; j++) {
                char key[32];
                key_of(i, key);
                dup = dup || strcmp(b->key[j], key) == 0;
            }
            if (dup)
                continue;
            snprintf(value, sizeof value, "value %u of round %u %0*u", i, round, (int)chance(40) + 1, 5u);
            batch_put(w, b, i, shrink && chance(4) ? NULL : value);
        }
        batch_apply(w, b);
        check_same(w);
    }
    for (unsigned i = 0; i < KEYS; i++)
        batch_put(w, b, i, NULL);
    batch_apply(w, b);
    struct hash empty;
    empty_root(w->salt, &empty);
    assert_int_equal(w->root.count, 0);
    assert_true(hash_eq(&w->root.hash, &empty));
    assert_int_equal(pages_stored(w, 1), 0);
    free(b);
}

static void test_same_record_changes_nothing(void **state)
{
    struct world *w = *state;
    struct batch *b = calloc(1, sizeof *b);
    for (unsigned i = 0; i < 300; i++)
        batch_put(w, b, i, "x");
    batch_apply(w, b);
    struct subtree before = w->root;
    batch_put(w, b, 17, "x");
    batch_apply(w, b);
    assert_true(hash_eq(&before.hash, &w->root.hash));
    check_same(w); /* the page that kept its name is still there */
    free(b);
}

static void test_damage_is_found_and_mended(void **state)
{
    struct world *w = *state;
    struct batch *b = calloc(1, sizeof *b);
    struct tree_report r;
    for (unsigned i = 0; i < KEYS; i++)
        batch_put(w, b, i, "some value that is long enough to be worth its place in a page");
    batch_apply(w, b);
    struct key4 one = key_scope(1);
    struct store_walk walk = store_walk_from(w->txn, TABLE_PAGES, KEY(one), KEY(one));
    unsigned n = 0;
    uint8_t key[PAGE_KEY_LEN];
    struct buf value = {0};
    while (store_walk_next(&walk) && n++ < 5) {
        memcpy(key, walk.key.data, sizeof key);
        buf_reset(&value);
        buf_append_view(&value, walk.value);
    }
    struct tree t;
    tree_init(&t, w->txn, 1, w->salt);
    for (size_t at = 0; at < value.len; at += 1 + value.len / 97) {
        value.data[at] ^= 0x07; /* (a zstd header has bits that mean nothing; these do) */
        store_put(w->txn, TABLE_PAGES, view_of(key, sizeof key), buf_view(&value));
        assert_int_equal(tree_check(&t, &w->root, true, false, &r), 0);
        assert_true(r.bad >= 1);
        value.data[at] ^= 0x07; /* (a zstd header has bits that mean nothing; these do) */
    }
    assert_int_equal(tree_check(&t, &w->root, true, true, &r), 0);
    struct view gone;
    assert_int_equal(store_get(w->txn, TABLE_PAGES, view_of(key, sizeof key), &gone), ERR_NOT_FOUND);
    batch_put(w, b, 3, "y");
    int bad = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        struct record rec;
        char k[32];
        key_of(i, k);
        int rc = tree_get(&t, &w->root, view_str(k), &rec);
        assert_true(rc == 0 || rc == ERR_CORRUPT);
        bad += rc != 0;
    }
    assert_true(bad > 0 && bad <= 64);
    tree_done(&t);
    buf_done(&value);
    for (size_t i = 0; i < KEYS; i++)
        buf_done(&b->bytes[i]);
    free(b);
}

static void test_sweep_keeps_what_is_reached(void **state)
{
    struct world *w = *state;
    struct batch *b = calloc(1, sizeof *b);
    struct tree t;
    struct buf replaced = {0};
    uint64_t deleted, pages;
    for (unsigned i = 0; i < KEYS; i++)
        batch_put(w, b, i, "first");
    batch_apply(w, b);
    tree_init(&t, w->txn, 1, w->salt);
    t.replaced = &replaced; /* the old pages stay */
    struct subtree old = w->root;
    for (unsigned i = 0; i < KEYS; i += 5)
        batch_put(w, b, i, "second");
    assert_int_equal(change_sort(b->change, &b->n), 0);
    assert_int_equal(tree_update(&t, &w->root, b->change, b->n, &w->root), 0);
    for (size_t i = 0; i < KEYS; i++)
        buf_done(&b->bytes[i]);
    struct tree_report r;
    assert_int_equal(tree_check(&t, &old, true, false, &r), 0);
    assert_int_equal(r.bad, 0);
    assert_int_equal(tree_sweep(&t, &w->root, &deleted), 0);
    assert_int_equal(deleted, replaced.len / PAGE_KEY_LEN);
    (void)rebuilt(w, &pages);
    assert_int_equal(pages_stored(w, 1), pages);
    assert_int_equal(tree_sweep(&t, NULL, &deleted), 0);
    assert_int_equal(pages_stored(w, 1), 0);
    tree_done(&t);
    buf_done(&replaced);
    free(b);
}

/* The same records are another page at another place, and in another scope. */
static void test_place_and_scope_are_in_the_hash(void **state)
{
    (void)state;
    uint8_t salt[2][16];
    struct hash record, leaf[3], inner[3];
    struct place deep = place_child((struct place){0}, 3), deeper = place_child(deep, 7);
    scope_salt("test/one", salt[0]);
    scope_salt("test/two", salt[1]);
    assert_memory_not_equal(salt[0], salt[1], 16);
    hash_bytes("test", NULL, view_str("a record"), &record);
    leaf_hash(salt[0], deep, &record, 1, &leaf[0]);
    leaf_hash(salt[0], deeper, &record, 1, &leaf[1]);
    leaf_hash(salt[1], deep, &record, 1, &leaf[2]);
    inner_hash(salt[0], deep, view_str("an inner page"), &inner[0]);
    inner_hash(salt[0], deeper, view_str("an inner page"), &inner[1]);
    inner_hash(salt[1], deep, view_str("an inner page"), &inner[2]);
    for (unsigned i = 1; i < 3; i++) {
        assert_false(hash_eq(&leaf[0], &leaf[i]));
        assert_false(hash_eq(&inner[0], &inner[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_and_scope_are_in_the_hash),
        cmocka_unit_test_setup_teardown(test_history_does_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_record_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_found_and_mended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep_keeps_what_is_reached, setup, teardown),
    };
    return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

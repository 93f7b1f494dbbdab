/* VIEW: what each kind of run takes over, supersedence, filters, an operator's word (requirements A6, A7,
 * A11, F7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

struct fixture {
    struct metadata m;
    struct scope *s;
    struct source_set *set;
    struct edits e;
    uint64_t serial;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct store_options o = {.tables = metadata_tables, .n_tables = metadata_n_tables};
    assert_int_equal(store_open_memory(&o, &f->m.store), 0);
    assert_int_equal(store_begin(f->m.store, true, &f->m.txn), 0);
    f->s = state_scope(&f->m, "debian/x");
    f->set = source_new();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    edits_done(&f->e);
    source_free(f->set);
    store_abort(f->m.txn);
    store_close(f->m.store);
    buf_done(&f->m.filter);
    free(f->m.scopes);
    free(f->s);
    free(f);
    return 0;
}

static void offer(struct fixture *f, const char *package, const char *version, const char *title)
{
    char key[64];
    struct buf value = {0};
    Sitetree__Update u = SITETREE__UPDATE__INIT;
    snprintf(key, sizeof key, "deb/%s/%s/amd64", package, version);
    u.title = (char *)(uintptr_t)title;
    message_pack(&u.base, &value);
    assert_int_equal(source_add(f->set, view_str(key), buf_view(&value), "debian-12", "security", "amd64",
                         view_str(package), view_str(version)),
        0);
    buf_done(&value);
}

static void compare(struct fixture *f, enum run_kind kind)
{
    edits_done(&f->e);
    source_sort(f->set);
    assert_int_equal(view_compare(&f->m, f->s, f->set, kind, &f->e), 0);
}

/* The edits become the catalogue, and the upstream begins a new offer. */
static void take(struct fixture *f)
{
    struct change *changes = calloc(f->e.n + 1, sizeof *changes);
    struct buf *bytes = calloc(f->e.n + 1, sizeof *bytes);
    struct tree t;
    f->serial++;
    for (size_t i = 0; i < f->e.n; i++) {
        const struct edit *e = &f->e.list[i];
        if (!e->drop)
            record_pack(&bytes[i], e->key, e->value, f->serial, e->flags);
        change_init(&changes[i], f->s->salt, e->key, buf_view(&bytes[i]));
    }
    tree_init(&t, f->m.txn, f->s->id, f->s->salt);
    size_t n = f->e.n;
    assert_int_equal(change_sort(changes, &n), 0);
    assert_int_equal(tree_update(&t, &f->s->applied.tree, changes, n, &f->s->applied.tree), 0);
    tree_done(&t);
    for (size_t i = 0; i < f->e.n; i++)
        buf_done(&bytes[i]);
    free(bytes);
    free(changes);
    f->s->applied.serial = f->serial;
    edits_done(&f->e);
    source_free(f->set);
    f->set = source_new();
}

static const struct edit *edit_of(struct fixture *f, const char *key)
{
    for (size_t i = 0; i < f->e.n; i++)
        if (view_eq(f->e.list[i].key, view_str(key)))
            return &f->e.list[i];
    return NULL;
}

static void test_full_takes_everything(void **state)
{
    struct fixture *f = *state;
    offer(f, "a", "1", "first");
    offer(f, "b", "1", "first");
    offer(f, "c", "1", "first");
    compare(f, RUN_FULL);
    assert_int_equal(f->e.added, 3);
    assert_int_equal(f->e.live, 3);
    take(f);
    offer(f, "a", "1", "first");
    offer(f, "b", "1", "changed");
    offer(f, "d", "1", "new");
    compare(f, RUN_FULL);
    assert_int_equal(f->e.n, 3);
    assert_int_equal(f->e.changed, 1);
    assert_int_equal(f->e.expired, 1);
    assert_int_equal(f->e.added, 1);
    assert_int_equal(f->e.live, 0);
    assert_int_equal(edit_of(f, "deb/c/1/amd64")->flags, RECORD_EXPIRED);
    assert_null(edit_of(f, "deb/a/1/amd64"));
    take(f);
    offer(f, "a", "1", "first");
    offer(f, "b", "1", "changed");
    offer(f, "c", "1", "first"); /* it comes back */
    offer(f, "d", "1", "new");
    compare(f, RUN_FULL);
    assert_int_equal(f->e.n, 1);
    assert_int_equal(edit_of(f, "deb/c/1/amd64")->flags, 0);
}

static void test_delta_new_takes_only_what_is_new(void **state)
{
    struct fixture *f = *state;
    offer(f, "a", "1", "first");
    offer(f, "b", "1", "first");
    compare(f, RUN_DELTA_NEW);
    take(f);
    offer(f, "a", "1", "changed");
    offer(f, "c", "1", "new"); /* and b is gone */
    compare(f, RUN_DELTA_NEW);
    assert_int_equal(f->e.n, 1);
    assert_non_null(edit_of(f, "deb/c/1/amd64"));
    take(f);
    offer(f, "a", "1", "changed");
    offer(f, "c", "1", "new");
    compare(f, RUN_FULL); /* loses nothing that the manual run left out */
    assert_int_equal(f->e.n, 2);
    assert_int_equal(f->e.changed, 1);
    assert_int_equal(f->e.expired, 1);
}

static Sitetree__Update *update_of(struct arena *a, const struct edit *e)
{
    int rc;
    Sitetree__Update *u = MESSAGE_UNPACK(a, e->value, RECORD_VALUE_MAX, update, &rc);
    assert_non_null(u);
    return u;
}

static void test_supersedence(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA a;
    arena_init(&a);
    offer(f, "pkg", "1.9", "old");
    offer(f, "pkg-doc", "1.9", "another package");
    compare(f, RUN_FULL);
    take(f);
    offer(f, "pkg", "1.10", "new");
    offer(f, "pkg-doc", "1.9", "another package");
    compare(f, RUN_FULL);
    assert_int_equal(f->e.n, 2);
    const struct edit *newer = edit_of(f, "deb/pkg/1.10/amd64"), *older = edit_of(f, "deb/pkg/1.9/amd64");
    assert_int_equal(older->flags, RECORD_EXPIRED);
    assert_string_equal(update_of(&a, older)->superseded_by, "deb/pkg/1.10/amd64");
    assert_int_equal(update_of(&a, newer)->n_supersedes, 1);
    assert_string_equal(update_of(&a, newer)->supersedes[0], "deb/pkg/1.9/amd64");
    take(f);
    offer(f, "pkg", "1.10", "new");
    offer(f, "pkg-doc", "1.9", "another package");
    compare(f, RUN_FULL); /* what was appended is no change of the upstream's */
    assert_int_equal(f->e.n, 0);
}

static void test_an_older_version_supersedes_nothing(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA a;
    arena_init(&a);
    offer(f, "pkg", "2", "too new");
    compare(f, RUN_FULL);
    take(f);
    offer(f, "pkg", "1", "went back");
    compare(f, RUN_FULL);
    assert_int_equal(update_of(&a, edit_of(f, "deb/pkg/1/amd64"))->n_supersedes, 0);
    assert_string_equal(update_of(&a, edit_of(f, "deb/pkg/2/amd64"))->superseded_by, "");
}

static void test_filter(void **state)
{
    struct fixture *f = *state;
    offer(f, "a", "1", "t");
    buf_str(&f->m.filter, "{\"classifications\":[\"updates\"]}");
    compare(f, RUN_FULL);
    assert_int_equal(f->e.n, 0);
    buf_reset(&f->m.filter);
    buf_str(&f->m.filter, "{\"classifications\":[\"updates\",\"security\"],\"architectures\":[\"amd64\"]}");
    compare(f, RUN_FULL); /* widened: filled in, though the upstream did not change */
    assert_int_equal(f->e.added, 1);
    take(f);
    offer(f, "a", "1", "t");
    buf_reset(&f->m.filter);
    buf_str(&f->m.filter, "{\"products\":[\"debian-13\"]}");
    compare(f, RUN_DELTA_NEW);
    assert_int_equal(f->e.n, 0);
    compare(f, RUN_FULL); /* narrowed: removed */
    assert_int_equal(f->e.removed, 1);
    assert_int_equal(f->e.list[0].flags, RECORD_TOMBSTONE);
}

static void test_tombstones(void **state)
{
    struct fixture *f = *state;
    offer(f, "a", "1", "t");
    compare(f, RUN_FULL);
    take(f);
    offer(f, "a", "1", "t");
    buf_str(&f->m.filter, "{\"products\":[\"other\"]}");
    compare(f, RUN_FULL);
    take(f); /* serial 2: a tombstone */
    offer(f, "b", "1", "t");
    compare(f, RUN_FULL);
    assert_null(edit_of(f, "deb/a/1/amd64")); /* above the floor it stays */
    f->s->applied.delta_floor = 2;
    compare(f, RUN_FULL);
    assert_true(edit_of(f, "deb/a/1/amd64")->drop);
    compare(f, RUN_DELTA_NEW);
    assert_int_equal(f->e.n, 0);
}

static void test_an_operators_word_stands(void **state)
{
    struct fixture *f = *state;
    offer(f, "a", "1", "t");
    compare(f, RUN_FULL);
    f->e.list[0].flags = RECORD_EXPIRED; /* as update expire leaves it */
    take(f);
    offer(f, "a", "1", "t");
    compare(f, RUN_FULL);
    assert_int_equal(f->e.n, 1); /* without it the upstream's offer brings it back */
    meta_put(f->m.txn, meta_of("hold", view_str("deb/a/1/amd64")).s, view_str("expire"));
    compare(f, RUN_FULL);
    assert_int_equal(f->e.n, 0);
}

static void test_a_local_update_that_goes_is_removed(void **state)
{
    struct fixture *f = *state;
    struct scope *local = state_scope(&f->m, "local/acme");
    struct buf value = {0};
    buf_u8(&value, 0x12), buf_u8(&value, 1), buf_u8(&value, 't');
    assert_int_equal(source_add(f->set, view_str("local/acme/x"), buf_view(&value), "p", "updates", "all",
                         (struct view){0}, (struct view){0}),
        0);
    buf_done(&value);
    struct scope *debian = f->s;
    f->s = local;
    compare(f, RUN_FULL);
    take(f);
    compare(f, RUN_FULL);
    assert_int_equal(f->e.removed, 1);
    assert_int_equal(f->e.list[0].flags, RECORD_TOMBSTONE);
    f->s = debian;
    free(local);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_full_takes_everything),
        T(test_delta_new_takes_only_what_is_new),
        T(test_supersedence),
        T(test_an_older_version_supersedes_nothing),
        T(test_filter),
        T(test_tombstones),
        T(test_an_operators_word_stands),
        T(test_a_local_update_that_goes_is_removed),
    };
    return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

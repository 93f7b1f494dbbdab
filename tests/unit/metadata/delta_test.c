/* Deltas and stored pages: what is cut, altered or of another kind is refused without reading past its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "services/metadata/delta.h"

static uint8_t salt[16];

static void make(struct buf *out, uint64_t serial)
{
    struct buf records[3] = {{0}};
    struct change changes[4];
    static const char *const keys[] = {"deb/b/1/amd64", "deb/a/1/amd64", "deb/c/1/amd64"};
    struct hash from = {{1}}, to = {{2}}, before = {{3}};
    for (size_t i = 0; i < 3; i++) {
        record_pack(&records[i], view_str(keys[i]), view_str("value"), serial, i == 2 ? RECORD_EXPIRED : 0);
        change_init(&changes[i], salt, view_str(keys[i]), buf_view(&records[i]));
    }
    change_init(&changes[3], salt, view_str("deb/gone/1/all"), (struct view){0});
    delta_pack(out, "debian/x", serial, &from, &to, &before, 4, changes, 4);
    for (size_t i = 0; i < 3; i++)
        buf_done(&records[i]);
}

static int read_all(struct view raw, size_t *ret_n)
{
    struct delta d;
    struct changes c = {0};
    int rc = delta_parse(raw, &d);
    if (!rc)
        rc = delta_changes(&d, salt, &c);
    *ret_n = c.n;
    changes_done(&c);
    return rc;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct buf b = {0};
    struct delta d;
    struct changes c = {0};
    make(&b, 9);
    assert_int_equal(delta_parse(buf_view(&b), &d), 0);
    assert_int_equal(d.serial, 9);
    assert_int_equal(d.tombstone_floor, 4);
    assert_int_equal(d.previous_root.b[0], 1);
    assert_int_equal(d.new_root.b[0], 2);
    assert_int_equal(d.previous_delta.b[0], 3);
    assert_true(view_eq(d.scope, view_str("debian/x")));
    assert_int_equal(delta_changes(&d, salt, &c), 0);
    assert_int_equal(c.n, 4);
    assert_true(view_eq(c.list[0].key, view_str("deb/a/1/amd64"))); /* by key */
    assert_int_equal(c.list[3].record.len, 0);
    changes_done(&c);
    buf_done(&b);
}

static void test_cut_short(void **state)
{
    (void)state;
    struct buf b = {0};
    size_t n;
    make(&b, 9);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *copy = malloc(len ? len : 1); /* so that a sanitizer sees the end */
        memcpy(copy, b.data, len);
        assert_int_equal(read_all(view_of(copy, len), &n), ERR_MALFORMED);
        free(copy);
    }
    buf_u8(&b, 0);
    assert_int_equal(read_all(buf_view(&b), &n), ERR_MALFORMED); /* and one byte too many */
    buf_done(&b);
}

static void test_record_of_another_serial(void **state)
{
    (void)state;
    struct buf b = {0};
    size_t n;
    make(&b, 9);
    b.data[1 + 2 + strlen("debian/x") + 7] = 10; /* the serial of the delta */
    assert_int_equal(read_all(buf_view(&b), &n), ERR_MALFORMED);
    buf_done(&b);
}

static void test_page_garbage(void **state)
{
    (void)state;
    struct buf page = {0}, hashes = {0}, swapped = {0};
    struct subtree want = {.count = 2};
    struct hash h[2];
    size_t first;
    record_pack(&page, view_str("a"), view_str("1"), 1, 0);
    first = page.len;
    record_pack(&page, view_str("b"), view_str("2"), 1, 0);
    record_hash(salt, view_of(page.data, first), &h[0]);
    record_hash(salt, view_of(page.data + first, page.len - first), &h[1]);
    struct place root = {0}, below = place_child(root, 3);
    leaf_hash(salt, root, h, 2, &want.hash);
    assert_int_equal(page_verify(salt, root, &want, buf_view(&page), &hashes), 0);
    assert_int_equal(hashes.len, 64);
    assert_int_equal(page_verify(salt, below, &want, buf_view(&page), &hashes), ERR_ROOT); /* another place */
    for (size_t i = 0; i < page.len; i++) {
        page.data[i] ^= 1;
        assert_int_not_equal(page_verify(salt, root, &want, buf_view(&page), &hashes), 0);
        page.data[i] ^= 1;
    }
    for (size_t n = 0; n < page.len; n++)
        assert_int_not_equal(page_verify(salt, root, &want, view_of(page.data, n), &hashes), 0);
    buf_append(&swapped, page.data + first, page.len - first);
    buf_append(&swapped, page.data, first);
    assert_int_equal(page_verify(salt, root, &want, buf_view(&swapped), &hashes), ERR_MALFORMED);
    buf_done(&page);
    buf_done(&hashes);
    buf_done(&swapped);
}

static void test_inner_garbage(void **state)
{
    (void)state;
    struct inner n = {0}, back;
    struct buf raw = {0};
    for (unsigned i = 0; i < 16; i += 3)
        n.child[i] = (struct subtree){.hash = {{(uint8_t)(i + 1)}}, .count = 40 + i, .bytes = 1000 * i};
    inner_pack(&n, &raw);
    assert_int_equal(inner_parse(buf_view(&raw), &back), 0);
    assert_memory_equal(&n, &back, sizeof n);
    for (size_t len = 0; len < raw.len; len++)
        assert_int_equal(inner_parse(view_of(raw.data, len), &back), ERR_MALFORMED);
    raw.data[0] ^= 0x40; /* a child that is not there */
    assert_int_equal(inner_parse(buf_view(&raw), &back), ERR_MALFORMED);
    buf_done(&raw);
    struct inner small = {.child[1] = {.hash = {{1}}, .count = LEAF_MAX}};
    inner_pack(&small, &raw);
    assert_int_equal(inner_parse(buf_view(&raw), &back), ERR_MALFORMED); /* so few must be a leaf */
    buf_done(&raw);
}

static void test_places(void **state)
{
    (void)state;
    struct place p = {0}, back;
    uint8_t packed[9];
    for (unsigned depth = 0; depth <= PLACE_MAX; depth++) {
        size_t n = place_pack(p, packed);
        assert_int_equal(place_unpack(view_of(packed, n), &back), 0);
        assert_true(place_eq(p, back));
        assert_int_not_equal(place_unpack(view_of(packed, n - 1), &back), 0);
        if (depth % 2) {
            packed[n - 1] |= 1; /* a nibble beyond the depth */
            assert_int_equal(place_unpack(view_of(packed, n), &back), ERR_MALFORMED);
        }
        if (depth < PLACE_MAX)
            p = place_child(p, (depth * 7 + 3) % 16);
    }
    packed[0] = PLACE_MAX + 1;
    assert_int_equal(place_unpack(view_of(packed, 9), &back), ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_record_of_another_serial),
        cmocka_unit_test(test_page_garbage),
        cmocka_unit_test(test_inner_garbage),
        cmocka_unit_test(test_places),
    };
    scope_salt("debian/x", salt);
    return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

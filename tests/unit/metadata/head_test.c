/* Heads: every altered byte is refused; the rules of what may follow what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "services/metadata/head.h"

static struct sign_key key, other;
static struct hash hierarchy;
static struct head_trust trust; /* version 0 */

static struct view statement; /* that goes with the heads made here */

static void make(struct head *h, const struct sign_key *by, struct buf *out)
{
    struct buf scopes = {0}, payload = {0}, packed = {0};
    uint8_t sig[64];
    head_pack_scopes(h->scopes, h->n_scopes, h->recalls, h->n_recalls, buf_view(&h->revoked), &scopes);
    head_scopes_root(buf_view(&scopes), &h->root);
    head_pack_payload(h, &hierarchy, &payload);
    assert_in_range(payload.len, 100, 300);
    sign_detached(by, "head", buf_view(&payload), sig);
    Sitetree__Signed s = SITETREE__SIGNED__INIT;
    s.payload = pb_bytes(buf_view(&payload));
    s.signature = pb_bytes(view_of(sig, 64));
    s.key = pb_bytes(view_of(by->public, 32));
    message_pack(&s.base, &packed);
    assert_int_equal(head_pack_bytes(buf_view(&packed), buf_view(&scopes), statement, out), 0);
    buf_done(&scopes);
    buf_done(&payload);
    buf_done(&packed);
}

static struct head *head_of(uint64_t generation, const struct head *before, const struct sign_key *by)
{
    static struct scope_entry scopes[2];
    struct head h = {.generation = generation,
        .epoch_counter = 1,
        .issued = {1000 * NS_PER_S + (int64_t)generation},
        .expires = {2000 * NS_PER_S},
        .scopes = scopes,
        .n_scopes = 2};
    snprintf(scopes[0].name, sizeof scopes[0].name, "debian/a");
    snprintf(scopes[1].name, sizeof scopes[1].name, "debian/b");
    scopes[0].serial = generation;
    memset(h.epoch.b, 7, sizeof h.epoch.b);
    if (before)
        h.previous = before->hash;
    struct buf bytes = {0};
    struct head *parsed;
    make(&h, by, &bytes);
    int rc = head_parse(buf_view(&bytes), &trust, &parsed);
    buf_done(&bytes);
    return rc ? NULL : parsed;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct head *h = head_of(5, NULL, &key);
    assert_non_null(h);
    assert_int_equal(h->generation, 5);
    assert_int_equal(h->n_scopes, 2);
    assert_int_equal(head_scope(h, "debian/a")->serial, 5);
    assert_null(head_scope(h, "debian/c"));
    head_free(h);
}

static void test_every_byte_counts(void **state)
{
    (void)state;
    struct head *h = head_of(5, NULL, &key);
    struct buf b = {0};
    struct head *bad;
    buf_append_view(&b, blob_view(h->bytes));
    for (size_t i = 0; i < b.len; i++)
        for (unsigned bit = 0; bit < 8; bit += 3) {
            b.data[i] ^= (uint8_t)(1u << bit);
            int rc = head_parse(buf_view(&b), &trust, &bad);
            if (rc == 0) { /* a bit of the framing that means the same: the content must be equal */
                assert_true(hash_eq(&bad->hash, &h->hash) && hash_eq(&bad->root, &h->root));
                head_free(bad);
            }
            b.data[i] ^= (uint8_t)(1u << bit);
        }
    for (size_t n = 0; n < b.len; n++)
        assert_int_not_equal(head_parse(view_of(b.data, n), &trust, &bad), 0);
    buf_done(&b);
    head_free(h);
}

static void test_other_keys(void **state)
{
    (void)state;
    assert_null(head_of(5, NULL, &other));
    struct head *h = head_of(5, NULL, &key), *bad;
    struct head_trust elsewhere = trust, another = trust;
    elsewhere.hierarchy.b[0] ^= 1;
    memcpy(another.head_key, other.public, 32);
    assert_int_equal(head_parse(blob_view(h->bytes), &elsewhere, &bad), ERR_KEY);
    assert_int_equal(head_parse(blob_view(h->bytes), &another, &bad), ERR_KEY);
    head_free(h);
}

static void test_scopes_out_of_order(void **state)
{
    (void)state;
    struct scope_entry scopes[2] = {0};
    struct head h = {.generation = 1,
                    .epoch_counter = 1,
                    .issued = {NS_PER_S},
                    .expires = {2 * NS_PER_S},
                    .scopes = scopes,
                    .n_scopes = 2},
                *bad;
    static const char *const pairs[][2] = {
        {"b", "a"}, {"a", "a"}, {"a", "x y"}, {"", "a"}, {"a", "\xc3\xa4"}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct buf b = {0};
        snprintf(scopes[0].name, sizeof scopes[0].name, "%s", pairs[i][0]);
        snprintf(scopes[1].name, sizeof scopes[1].name, "%s", pairs[i][1]);
        make(&h, &key, &b);
        assert_int_equal(head_parse(buf_view(&b), &trust, &bad), ERR_MALFORMED);
        buf_done(&b);
    }
}

static void test_follows(void **state)
{
    (void)state;
    struct wall now = {1500 * NS_PER_S}, late = {2500 * NS_PER_S};
    struct head *a = head_of(5, NULL, &key), *b = head_of(6, a, &key), *fork = head_of(6, NULL, &key),
                *jump = head_of(9, fork, &key), *again = head_of(5, b, &key);
    assert_int_equal(head_follows(NULL, a, now), 0);
    assert_int_equal(head_follows(a, b, now), 0);
    assert_int_equal(head_follows(a, a, now), ERR_EXISTS);
    assert_int_equal(head_follows(b, a, now), ERR_ROLLBACK);
    assert_int_equal(head_follows(a, fork, now), ERR_SIGNATURE); /* the next one, but of another past */
    assert_int_equal(head_follows(b, fork, now), ERR_SIGNATURE); /* two heads of one generation */
    assert_int_equal(head_follows(a, again, now), ERR_SIGNATURE);
    assert_int_equal(head_follows(a, jump, now), 0);
    assert_int_equal(head_follows(a, b, late), ERR_EXPIRED);
    struct head *stranger = head_of(1, NULL, &key);
    stranger->epoch.b[0] = 99;
    assert_int_equal(head_follows(b, stranger, now), ERR_EPOCH);
    stranger->epoch_counter = 2;
    assert_int_equal(head_follows(b, stranger, now), 0); /* a new epoch may begin anywhere */
    head_free(a);
    head_free(b);
    head_free(fork);
    head_free(jump);
    head_free(again);
    head_free(stranger);
}

/* Version 1 names `other` as the head key. */
static void make_trust(const struct sign_key *root, struct buf *out)
{
    struct buf payload = {0};
    uint8_t sig[64];
    Sitetree__Trust t = SITETREE__TRUST__INIT;
    t.hierarchy = pb_bytes(view_of(hierarchy.b, 32));
    t.version = 1;
    t.root_key = pb_bytes(view_of(key.public, 32));
    t.head_key = pb_bytes(view_of(other.public, 32));
    message_pack(&t.base, &payload);
    sign_detached(root, "trust", buf_view(&payload), sig);
    Sitetree__Signed s = SITETREE__SIGNED__INIT;
    s.payload = pb_bytes(buf_view(&payload));
    s.signature = pb_bytes(view_of(sig, 64));
    s.key = pb_bytes(view_of(root->public, 32));
    message_pack(&s.base, out);
    buf_done(&payload);
}

static void test_a_newer_trust_comes_with_the_head(void **state)
{
    (void)state;
    struct buf good = {0}, forged = {0}, b = {0};
    struct scope_entry none[1];
    struct head h = {.generation = 7,
                    .epoch_counter = 1,
                    .trust_version = 1,
                    .issued = {NS_PER_S},
                    .expires = {2 * NS_PER_S},
                    .scopes = none},
                *got;
    make_trust(&key, &good);
    make_trust(&other, &forged);
    make(&h, &other, &b);
    assert_int_equal(head_parse(buf_view(&b), &trust, &got), ERR_KEY); /* nobody has vouched for that key */
    buf_done(&b);
    statement = buf_view(&forged);
    make(&h, &other, &b);
    assert_int_equal(head_parse(buf_view(&b), &trust, &got), ERR_KEY);
    buf_done(&b);
    statement = buf_view(&good);
    make(&h, &other, &b);
    assert_int_equal(head_parse(buf_view(&b), &trust, &got), 0);
    struct head_trust now = got->trust;
    assert_int_equal(now.version, 1);
    assert_memory_equal(now.head_key, other.public, 32);
    head_free(got);
    buf_done(&b);
    statement = (struct view){0};
    h.trust_version = 0;
    h.generation = 8;
    make(&h, &key, &b); /* the old key signs on */
    assert_int_equal(head_parse(buf_view(&b), &now, &got), ERR_KEY);
    assert_int_equal(head_parse_stored(buf_view(&b), &now, &got), 0); /* but what is held stays readable */
    head_free(got);
    buf_done(&b);
    make(&h, &other, &b); /* the new key under the old version */
    assert_int_equal(head_parse(buf_view(&b), &now, &got), ERR_KEY);
    buf_done(&b);
    buf_done(&good);
    buf_done(&forged);
}

static void test_revoked_certificates_have_a_bound(void **state)
{
    (void)state;
    struct head h = {.generation = 7, .epoch_counter = 1, .issued = {100}, .expires = {200}}, *got;
    h.epoch.b[0] = 1;
    for (unsigned i = 0; i < 2; i++) {
        struct buf b = {0};
        h.revoked.len = 0;
        while (h.revoked.len < REVOKED_BYTES_MAX + i)
            buf_u8(&h.revoked, 7);
        make(&h, &key, &b);
        int rc = head_parse(buf_view(&b), &trust, &got);
        assert_int_equal(rc, i ? ERR_TOO_LARGE : 0);
        if (!rc) {
            assert_true(view_eq(buf_view(&got->revoked), buf_view(&h.revoked)));
            head_free(got);
        }
        buf_done(&b);
    }
    buf_done(&h.revoked);
}

static void test_a_newer_trust_ends_a_counted_up_epoch(void **state)
{
    (void)state;
    struct head held = {.generation = 1ull << 60, .epoch_counter = 1ull << 60, .trust_version = 1},
                next = {.generation = 9, .epoch_counter = 3, .trust_version = 1, .expires = {INT64_MAX}};
    next.epoch.b[0] = 1;
    assert_int_equal(head_follows(&held, &next, (struct wall){NS_PER_S}), ERR_EPOCH);
    next.trust_version = 2;
    assert_int_equal(head_follows(&held, &next, (struct wall){NS_PER_S}), 0);
}

static int with_recalls(struct recall *list, size_t n, struct head **ret_head)
{
    struct scope_entry none[1];
    struct head h = {.generation = 7,
        .issued = {NS_PER_S},
        .expires = {2 * NS_PER_S},
        .scopes = none,
        .recalls = list,
        .n_recalls = n};
    struct buf b = {0};
    make(&h, &key, &b);
    int rc = head_parse(buf_view(&b), &trust, ret_head);
    buf_done(&b);
    return rc;
}

static void test_recalls(void **state)
{
    (void)state;
    struct recall list[RECALLS_MAX] = {0};
    struct head *h;
    for (size_t i = 0; i < RECALLS_MAX; i++)
        list[i] = (struct recall){
            .generation = 1 + i / 8, .at = {(int64_t)i}, .id_len = 3, .id = {'a', 0, (uint8_t)i}};
    assert_int_equal(with_recalls(list, RECALLS_MAX, &h), 0);
    assert_int_equal(h->n_recalls, RECALLS_MAX);
    assert_memory_equal(&h->recalls[9], &list[9], sizeof list[9]);
    head_free(h);
    list[31].generation = 8; /* of a generation that is still to come */
    assert_int_equal(with_recalls(list, RECALLS_MAX, &h), ERR_MALFORMED);
    list[31].generation = 0;
    assert_int_equal(with_recalls(list, RECALLS_MAX, &h), ERR_MALFORMED);
    list[31].generation = 3; /* before the one in front of it */
    assert_int_equal(with_recalls(list, RECALLS_MAX, &h), ERR_MALFORMED);
    list[31].generation = 4;
    list[31].id_len = 0;
    assert_int_equal(with_recalls(list, RECALLS_MAX, &h), ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_scopes_out_of_order),
        cmocka_unit_test(test_follows),
        cmocka_unit_test(test_a_newer_trust_comes_with_the_head),
        cmocka_unit_test(test_revoked_certificates_have_a_bound),
        cmocka_unit_test(test_a_newer_trust_ends_a_counted_up_epoch),
        cmocka_unit_test(test_recalls),
    };
    if (crypto_init())
        return 1;
    sign_key_new(&key);
    sign_key_new(&other);
    hierarchy_id(key.public, &hierarchy); /* in this test the first head key is the root key too */
    trust.hierarchy = hierarchy;
    memcpy(trust.head_key, key.public, 32);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

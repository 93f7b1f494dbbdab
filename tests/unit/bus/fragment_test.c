/* What was cut comes together as it was; what is hostile is refused, and costs little memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bus/fragment.h"

#define MOST (FRAME_MAX + FRAME_HEADER_LEN)
static const struct mono now = {1000 * NS_PER_S};

static struct blob *frame_of(size_t len, uint8_t seed)
{
    AUTO_BUF body = {0};
    for (size_t i = FRAME_HEADER_LEN; i < len; i++)
        buf_u8(&body, (uint8_t)(i * 31 + (i >> 8) + seed));
    struct blob *b = frame_wrap(FRAME_HEAD, CLASS_BULK, 7, NULL, buf_view(&body), false);
    assert_non_null(b);
    return b;
}

/* One hand-made fragment. */
static int feed(struct assembler *a, struct mono t, unsigned lane, uint32_t stream, uint32_t total,
    uint32_t offset, const void *data, size_t len, struct blob **ret_frame)
{
    AUTO_BUF body = {0};
    buf_be32(&body, stream);
    buf_be32(&body, total);
    buf_be32(&body, offset);
    buf_append(&body, data, len);
    AUTO_BLOB *f = frame_wrap(FRAME_FRAGMENT, (uint8_t)lane, 0, NULL, buf_view(&body), false);
    assert_non_null(f);
    return assembler_push(a, t, blob_view(f), ret_frame);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const size_t sizes[] = {1025, 2000, 65537, 131072, 700000, MOST};
    static const uint64_t rates[] = {100, 20000, 0};
    for (size_t r = 0; r < COUNT_OF(rates); r++) {
        struct lane_set *s = lane_set_new(64 << 20);
        struct assembler a = {0};
        struct mono t = now, at;
        struct blob *sent[COUNT_OF(sizes)], *b, *whole;
        lane_set_rate(s, t, rates[r]);
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            sent[i] = frame_of(sizes[i], (uint8_t)i);
            assert_int_equal(lane_push(s, t, (enum lane_class)(i % CLASS_COUNT), blob_ref(sent[i])), 0);
        }
        size_t found = 0;
        int rc;
        while ((rc = lane_next(s, t, &b, &at)) != ERR_NOT_FOUND) {
            if (rc == -EAGAIN) {
                t = at;
                continue;
            }
            assert_int_equal(rc, 0);
            struct frame f;
            assert_int_equal(frame_parse(blob_view(b), &f), 0);
            assert_true(blob_view(b).len <= lane_chunk(s));
            if (f.type != FRAME_FRAGMENT) {
                whole = blob_ref(b);
            } else {
                assert_int_equal(assembler_push(&a, t, blob_view(b), &whole), 0);
            }
            blob_free(b);
            for (size_t i = 0; whole && i < COUNT_OF(sizes); i++)
                found += view_eq(blob_view(whole), blob_view(sent[i]));
            blob_free(whole);
        }
        assert_int_equal(found, COUNT_OF(sizes));
        assert_int_equal(assembler_bytes(&a), 0);
        assert_int_equal(a.refused + a.abandoned, 0);
        for (size_t i = 0; i < COUNT_OF(sizes); i++)
            blob_free(sent[i]);
        assembler_done(&a);
        lane_set_free(s);
    }
}

static void test_hostile(void **state)
{
    (void)state;
    struct assembler a = {0};
    struct blob *b = NULL;
    uint8_t data[1000] = {0};
    /* an overlap, a gap, another total: the stream is gone */
    static const uint32_t wrong[][2] = {{900, 5000}, {1100, 5000}, {0, 5000}, {1000, 4999}};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(feed(&a, now, 3, 1, 5000, 0, data, 1000, &b), 0);
        assert_null(b);
        assert_int_equal(feed(&a, now, 3, 1, wrong[i][1], wrong[i][0], data, 1000, &b), ERR_MALFORMED);
        assert_int_equal(assembler_bytes(&a), 0);
        assert_int_equal(feed(&a, now, 3, 1, 5000, 1000, data, 1000, &b), ERR_GAP);
    }
    assert_int_equal(feed(&a, now, 3, 1, 999, 0, data, 1000, &b), ERR_MALFORMED); /* beyond the total */
    assert_int_equal(feed(&a, now, 3, 1, 5000, 4999, data, 1000, &b), ERR_MALFORMED);
    assert_int_equal(feed(&a, now, 3, 1, 5000, 0xffffffff, data, 1000, &b), ERR_MALFORMED);
    assert_int_equal(feed(&a, now, 3, 1, 0, 0, data, 1000, &b), ERR_MALFORMED);
    assert_int_equal(feed(&a, now, 3, 1, 5000, 0, data, 0, &b), ERR_MALFORMED);    /* nothing in it */
    assert_int_equal(feed(&a, now, 4, 1, 5000, 0, data, 1000, &b), ERR_MALFORMED); /* no such class */
    assert_int_equal(feed(&a, now, 3, 1, MOST + 1, 0, data, 1000, &b), ERR_TOO_LARGE);
    assert_int_equal(feed(&a, now, 3, 1, 0xffffffff, 0, data, 1000, &b), ERR_TOO_LARGE);
    AUTO_BLOB *other = frame_of(100, 0);
    assert_int_equal(assembler_push(&a, now, blob_view(other), &b), ERR_MALFORMED); /* not a fragment */
    AUTO_BLOB *tiny = frame_wrap(FRAME_FRAGMENT, 3, 0, NULL, view_of(data, 11), false);
    assert_int_equal(
        assembler_push(&a, now, blob_view(tiny), &b), ERR_MALFORMED); /* no room for its header */
    assert_int_equal(assembler_bytes(&a), 0);
    assert_int_equal(a.finished, 0);
    assert_true(a.refused > 10);
    assembler_done(&a);
}

static void test_no_fragments_in_fragments(void **state)
{
    (void)state;
    struct assembler a = {0};
    struct blob *b = NULL;
    AUTO_BLOB *inner = frame_of(3000, 0);
    AUTO_BLOB *piece = fragment_make(CLASS_BULK, 1, blob_view(inner), 0, 2000);
    struct view v = blob_view(piece);
    assert_int_equal(feed(&a, now, 3, 9, (uint32_t)v.len, 0, v.data, 1000, &b), 0);
    assert_int_equal(
        feed(&a, now, 3, 9, (uint32_t)v.len, 1000, v.data + 1000, v.len - 1000, &b), ERR_MALFORMED);
    assert_int_equal(assembler_bytes(&a), 0);
    assembler_done(&a);
}

/* Streams without end, each announcing the most: memory follows what came, one stream per class. */
static void test_bounded_memory(void **state)
{
    (void)state;
    struct assembler a = {0};
    struct blob *b = NULL;
    static uint8_t data[60000];
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(feed(&a, now, i % CLASS_COUNT, i, MOST, 0, data, 1 + i % 100, &b), 0);
        assert_true(assembler_bytes(&a) <= CLASS_COUNT * 100);
    }
    assert_int_equal(a.abandoned, 10000 - CLASS_COUNT);
    for (unsigned lane = 0; lane < CLASS_COUNT; lane++)
        for (uint32_t offset = 0; offset + sizeof data < MOST; offset += sizeof data) {
            assert_int_equal(feed(&a, now, lane, 77777, MOST, offset, data, sizeof data, &b), 0);
            assert_true(assembler_bytes(&a) <= (size_t)CLASS_COUNT * MOST);
        }
    assembler_done(&a);
    assert_int_equal(assembler_bytes(&a), 0);
}

static void test_replaced_and_timed_out(void **state)
{
    (void)state;
    struct assembler a = {0};
    struct blob *b = NULL;
    struct mono later = {now.ns + ASSEMBLER_IDLE_NS + 1};
    AUTO_BLOB *frame = frame_of(2000, 3);
    struct view v = blob_view(frame);
    assert_int_equal(feed(&a, now, 2, 1, 2000, 0, v.data, 500, &b), 0);
    assert_int_equal(feed(&a, now, 2, 2, 2000, 0, v.data, 1500, &b), 0); /* the sender began anew */
    assert_int_equal(feed(&a, now, 2, 1, 2000, 500, v.data + 500, 1500, &b), ERR_GAP);
    assert_int_equal(feed(&a, now, 2, 2, 2000, 1500, v.data + 1500, 500, &b), 0);
    assert_non_null(b);
    assert_true(view_eq(blob_view(b), v));
    blob_free(b);
    assert_int_equal(feed(&a, now, 2, 3, 2000, 0, v.data, 500, &b), 0);
    assert_int_equal(feed(&a, later, 2, 3, 2000, 500, v.data + 500, 1500, &b), ERR_GAP); /* too late */
    assert_int_equal(feed(&a, later, 0, 4, 2000, 0, v.data, 500, &b), 0);
    assembler_expire(&a, later);
    assert_true(assembler_bytes(&a) > 0);
    later.ns += ASSEMBLER_IDLE_NS + 1;
    assembler_expire(&a, later);
    assert_int_equal(assembler_bytes(&a), 0);
    assert_int_equal(a.finished, 1);
    assert_int_equal(a.abandoned, 3);
    assembler_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_no_fragments_in_fragments),
        cmocka_unit_test(test_bounded_memory),
        cmocka_unit_test(test_replaced_and_timed_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The egress scheduler in virtual time: who goes first, what each gets, how fast, and how much may wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bus/lane.h"
#include "common/wire/frame.h"

#define MIB ((size_t)1 << 20)

static struct mono at_ms(int64_t ms)
{
    return (struct mono){1000 * NS_PER_S + ms * NS_PER_MS};
}

/* A frame of len bytes in all; its lane says what it is. */
static struct blob *frame_of(enum lane_class lane, size_t len)
{
    AUTO_BUF body = {0};
    assert_true(len >= FRAME_HEADER_LEN);
    for (size_t i = FRAME_HEADER_LEN; i < len; i++)
        buf_u8(&body, (uint8_t)(i * 7 + lane));
    struct blob *b = frame_wrap(FRAME_HEAD, (uint8_t)lane, 0, NULL, buf_view(&body), false);
    assert_non_null(b);
    return b;
}

static void push(struct lane_set *s, struct mono now, enum lane_class lane, size_t len)
{
    assert_int_equal(lane_push(s, now, lane, frame_of(lane, len)), 0);
}

/* Takes the next piece at once; its class, or -1 when nothing waits. *ret_len of the piece. */
static int take(struct lane_set *s, struct mono *now, size_t *ret_len)
{
    struct blob *b;
    struct mono at;
    int rc = lane_next(s, *now, &b, &at);
    if (rc == -EAGAIN) {
        assert_true(at.ns > now->ns);
        *now = at;
        rc = lane_next(s, *now, &b, &at);
    }
    if (rc == ERR_NOT_FOUND)
        return -1;
    assert_int_equal(rc, 0);
    struct frame f;
    assert_int_equal(frame_parse(blob_view(b), &f), 0);
    if (ret_len)
        *ret_len = blob_view(b).len;
    blob_free(b);
    return f.lane;
}

static void test_order(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(MIB);
    struct mono now = at_ms(0);
    struct blob *b = NULL;
    struct mono at;
    assert_int_equal(lane_next(s, now, &b, &at), ERR_NOT_FOUND);
    static const enum lane_class pushed[] = {
        CLASS_BULK, CLASS_STATE, CLASS_HEAD, CLASS_BULK, CLASS_RECALL, CLASS_HEAD};
    static const int taken[] = {
        CLASS_RECALL, CLASS_HEAD, CLASS_HEAD, CLASS_STATE, CLASS_BULK, CLASS_BULK, -1};
    for (size_t i = 0; i < COUNT_OF(pushed); i++)
        push(s, now, pushed[i], 100);
    assert_int_equal(lane_queued_bytes(s), 600);
    for (size_t i = 0; i < COUNT_OF(taken); i++)
        assert_int_equal(take(s, &now, NULL), taken[i]);
    assert_int_equal(lane_queued_bytes(s), 0);
    lane_set_free(s);
    lane_set_free(NULL);
}

static void test_fifo_within_a_class(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(MIB);
    struct mono now = at_ms(0);
    size_t len;
    for (size_t i = 0; i < 100; i++) /* more than the first ring holds, around its end */
        push(s, now, CLASS_STATE, 100 + i);
    for (size_t i = 0; i < 60; i++) {
        take(s, &now, &len);
        assert_int_equal(len, 100 + i);
        push(s, now, CLASS_STATE, 200 + i);
    }
    for (size_t i = 60; i < 160; i++) {
        take(s, &now, &len);
        assert_int_equal(len, 100 + i);
    }
    assert_int_equal(take(s, &now, &len), -1);
    lane_set_free(s);
}

/* Everybody always has something: each of the lower three gets its sixteenth, in small frames and in cut
 * ones. */
static void test_shares(void **state)
{
    (void)state;
    static const size_t sizes[] = {200, 5000, 300000};
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        struct lane_set *s = lane_set_new(64 * MIB);
        struct mono now = at_ms(0);
        uint64_t got[CLASS_COUNT] = {0}, total = 0;
        lane_set_rate(s, now, 100000);
        while (total < 8 * MIB) {
            for (int c = 0; c < CLASS_COUNT; c++) {
                struct lane_stats st;
                lane_stats(s, (enum lane_class)c, &st);
                if (st.queued < 2)
                    push(s, now, (enum lane_class)c, sizes[k]);
            }
            size_t len;
            int c = take(s, &now, &len);
            got[c] += len;
            total += len;
        }
        for (int c = CLASS_HEAD; c < CLASS_COUNT; c++)
            assert_in_range(got[c] * 1000 / total, 55, 63); /* 1/16 of what the others send is 1/17 of all */
        assert_in_range(got[CLASS_RECALL] * 1000 / total, 800, 840);
        lane_set_free(s);
    }
}

static void test_two_classes_share(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(64 * MIB);
    struct mono now = at_ms(0);
    uint64_t got[CLASS_COUNT] = {0};
    for (int i = 0; i < 10000; i++) {
        push(s, now, CLASS_HEAD, 500);
        push(s, now, CLASS_BULK, 500);
        got[take(s, &now, NULL)]++;
    }
    assert_in_range(got[CLASS_BULK], 550, 630);
    lane_set_free(s);
}

static void test_rate(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1000, 8000, 125000, 10000000};
    for (size_t k = 0; k < COUNT_OF(rates); k++) {
        struct lane_set *s = lane_set_new(64 * MIB);
        struct mono start = at_ms(0), now = start;
        lane_set_rate(s, now, rates[k]);
        assert_int_equal(lane_rate(s), rates[k]);
        uint64_t total = 0;
        size_t len;
        int64_t seconds = rates[k] > 1000000 ? 5 : 60, end = start.ns + seconds * NS_PER_S;
        for (;;) {
            if (lane_queued_bytes(s) < MIB)
                push(s, now, CLASS_BULK, 1000000);
            take(s, &now, &len);
            if (now.ns >= end)
                break;
            total += len;
            now.ns += 700000; /* the caller is always 0.7 ms late */
        }
        uint64_t right = rates[k] * (uint64_t)seconds;
        assert_in_range(total, right * 98 / 100, right * 102 / 100);
        lane_set_free(s);
    }
}

static void test_no_burst_after_a_pause(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(MIB);
    struct mono now = at_ms(0), at;
    lane_set_rate(s, now, 100000);
    push(s, now, CLASS_STATE, 1000);
    take(s, &now, NULL);
    now = at_ms(3600 * 1000);
    uint64_t at_once = 0;
    struct blob *b;
    for (int i = 0; i < 100; i++)
        push(s, now, CLASS_STATE, 1000);
    while (lane_next(s, now, &b, &at) == 0) {
        at_once += blob_view(b).len;
        blob_free(b);
    }
    assert_in_range(at_once, 1000, 6000); /* 50 ms of the rate, and one frame */
    lane_set_free(s);
}

static void test_rate_changes_in_flight(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(4 * MIB);
    struct mono now = at_ms(0), at = {0};
    struct blob *b;
    lane_set_rate(s, now, 1000);
    assert_int_equal(lane_chunk(s), LANE_CHUNK_MIN);
    push(s, now, CLASS_BULK, 500000);
    take(s, &now, NULL);
    assert_int_equal(lane_next(s, now, &b, &at), -EAGAIN);
    assert_in_range(at.ns - now.ns, 900 * NS_PER_MS, 1100 * NS_PER_MS);
    lane_set_rate(s, now, 10000); /* what is owed takes a tenth of the time */
    assert_int_equal(lane_next(s, now, &b, &at), -EAGAIN);
    assert_in_range(at.ns - now.ns, 90 * NS_PER_MS, 110 * NS_PER_MS);
    assert_int_equal(lane_chunk(s), 2500);
    lane_set_rate(s, now, 0);
    assert_int_equal(lane_chunk(s), LANE_CHUNK_MAX);
    assert_int_equal(lane_next(s, now, &b, &at), 0);
    blob_free(b);
    lane_set_rate(s, now, 1000000000);
    assert_int_equal(lane_chunk(s), LANE_CHUNK_MAX);
    lane_set_free(s);
}

/* 8 kbit/s and 2 MB of bulk: a head that comes at any time has left one piece later. */
static void test_head_passes_bulk_on_a_slow_link(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(4 * MIB);
    struct mono now = at_ms(0), at;
    struct blob *b;
    lane_set_rate(s, now, 1000);
    for (int i = 0; i < 2; i++)
        push(s, now, CLASS_BULK, 1000000);
    int64_t chunk_ns = (int64_t)lane_chunk(s) * NS_PER_S / 1000;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(take(s, &now, NULL), CLASS_BULK);
        assert_int_equal(lane_next(s, now, &b, &at), -EAGAIN);
        now.ns += (at.ns - now.ns) * i / 200; /* at any time while the link carries that piece */
        struct mono pushed = now;
        push(s, now, CLASS_HEAD, 400);
        assert_int_equal(take(s, &now, NULL), CLASS_HEAD);
        assert_true(now.ns - pushed.ns <= chunk_ns);
    }
    struct lane_stats st;
    lane_stats(s, CLASS_HEAD, &st);
    assert_int_equal(st.frames, 200);
    assert_true(st.longest_ns > 0 && st.longest_ns <= chunk_ns);
    assert_true(st.waited_ns <= 200 * chunk_ns);
    lane_set_free(s);
}

static void test_limits(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(80000);
    struct mono now = at_ms(0);
    struct lane_stats st;
    static const enum lane_class order[] = {CLASS_BULK, CLASS_STATE, CLASS_HEAD, CLASS_RECALL};
    static const size_t most[] = {50000, 60000, 70000, 80000};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        int rc = 0;
        uint64_t n = 0;
        while (rc == 0) {
            rc = lane_push(s, now, order[i], frame_of(order[i], 436)); /* 500 with what is counted on top */
            n += rc == 0;
        }
        assert_int_equal(rc, ERR_BUSY);
        lane_stats(s, order[i], &st);
        assert_int_equal(st.dropped, 1);
        assert_int_equal(st.queued, n);
        assert_in_range(lane_queued_bytes(s), most[i] / 500 * 436 - 500, most[i] / 500 * 436);
    }
    assert_int_equal(lane_push(s, now, CLASS_RECALL, NULL), -ENOMEM);
    lane_clear(s);
    assert_int_equal(lane_queued_bytes(s), 0);
    assert_int_equal(take(s, &now, NULL), -1);
    lane_stats(s, CLASS_BULK, &st);
    assert_int_equal(st.queued, 0);
    assert_int_equal(st.dropped, 101);
    push(s, now, CLASS_BULK, 900000); /* larger than the limit: alone it may */
    assert_int_equal(lane_push(s, now, CLASS_BULK, frame_of(CLASS_BULK, 100)), ERR_BUSY);
    push(s, now, CLASS_HEAD, 100);
    lane_set_free(s);
}

static void test_stats(void **state)
{
    (void)state;
    struct lane_set *s = lane_set_new(4 * MIB);
    struct mono now = at_ms(0);
    struct lane_stats st;
    size_t len, total = 0;
    push(s, now, CLASS_BULK, 200000);
    now = at_ms(40);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(take(s, &now, &len), CLASS_BULK);
        total += len;
    }
    lane_stats(s, CLASS_BULK, &st);
    assert_int_equal(st.frames, 0); /* not whole yet */
    assert_int_equal(st.fragments, 3);
    assert_int_equal(st.queued, 1);
    assert_int_equal(st.queued_bytes, lane_queued_bytes(s));
    take(s, &now, &len);
    total += len;
    lane_stats(s, CLASS_BULK, &st);
    assert_int_equal(st.frames, 1);
    assert_int_equal(st.fragments, 4);
    assert_int_equal(st.bytes, total);
    assert_int_equal(total, 200000 + 4 * 52);
    assert_int_equal(st.waited_ns, 40 * NS_PER_MS);
    assert_int_equal(st.longest_ns, 40 * NS_PER_MS);
    assert_int_equal(st.queued, 0);
    lane_set_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_fifo_within_a_class),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_two_classes_share),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_no_burst_after_a_pause),
        cmocka_unit_test(test_rate_changes_in_flight),
        cmocka_unit_test(test_head_passes_bulk_on_a_slow_link),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_stats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

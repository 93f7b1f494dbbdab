#include "common/bus/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_round_trip(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    struct route in = {{PEER_CHILDREN, 0x01020304}, CLASS_STATE, true, view_str("metadata/local")}, out;
    route_encode(&in, &b);
    assert_int_equal(0, route_decode(buf_view(&b), &out));
    assert_int_equal(PEER_CHILDREN, out.peer.kind);
    assert_int_equal(0x01020304, out.peer.id);
    assert_int_equal(CLASS_STATE, out.lane);
    assert_true(out.early);
    assert_true(view_eq(view_str("metadata/local"), out.topic));
}

static void test_garbage(void **state)
{
    (void)state;
    struct route out;
    const uint8_t short_one[] = {1, 0, 0, 0, 0, 0}, bad_kind[] = {9, 0, 0, 0, 0, 0, 0},
                  bad_lane[] = {1, 7, 0, 0, 0, 0, 0}, bad_early[] = {1, 0, 2, 0, 0, 0, 0};
    assert_int_equal(ERR_MALFORMED, route_decode(view_of(short_one, sizeof short_one), &out));
    assert_int_equal(ERR_MALFORMED, route_decode(view_of(bad_kind, sizeof bad_kind), &out));
    assert_int_equal(ERR_MALFORMED, route_decode(view_of(bad_lane, sizeof bad_lane), &out));
    assert_int_equal(ERR_MALFORMED, route_decode(view_of(bad_early, sizeof bad_early), &out));
    uint8_t long_one[ROUTE_MAX + 1] = {1};
    assert_int_equal(ERR_MALFORMED, route_decode(view_of(long_one, sizeof long_one), &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_garbage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

static void test_wall(void **state)
{
    (void)state;
    char out[32];
    struct wall t = {0};
    assert_string_equal(wall_text((struct wall){0}, out), "?");
    assert_string_equal(
        wall_text((struct wall){1795152620 * NS_PER_S + 999999999}, out), "2026-11-20T05:30:20Z");
    assert_int_equal(wall_parse("2026-11-20T05:30:20Z", &t), 0);
    assert_true(t.ns == 1795152620 * NS_PER_S);
    assert_int_equal(wall_parse("2024-02-29T23:59:59Z", &t), 0);
    assert_string_equal(wall_text(t, out), "2024-02-29T23:59:59Z");
    static const char *const bad[] = {"", "?", "now", "2026-11-20", "2026-11-20T05:30:20",
        "2026-11-20 05:30:20Z", "2026-11-20T05:30:20+01:00", "2026-11-20T05:30:20Zx", " 2026-11-20T05:30:20Z",
        "2026-1-2T05:30:20Z", "2026-02-31T00:00:00Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-11-20T24:00:00Z", "2026-11-20T05:30:60Z", "9999-01-01T00:00:00Z", "1600-01-01T00:00:00Z",
        "-2026-11-20T05:30:20Z"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        t.ns = 1;
        assert_int_equal(wall_parse(bad[i], &t), ERR_MALFORMED);
        assert_true(t.ns == 1);
    }
}

static void test_duration_text(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {{-1, "?"}, {0, "0.0 s"}, {400 * NS_PER_MS, "0.4 s"}, {41 * NS_PER_S, "41 s"},
        {119 * NS_PER_S, "119 s"}, {720 * NS_PER_S, "12 min"}, {7440 * NS_PER_S, "2 h 04"},
        {(6 * 86400 + 23 * 3600) * NS_PER_S, "6 d 23 h"}, {INT64_MAX, "106751 d 23 h"}};
    char out[24];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(duration_text(cases[i].ns, out), cases[i].text);
}

static void test_duration_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"0", 0}, {"30", 30 * NS_PER_S}, {"250ms", 250 * NS_PER_MS}, {"30s", 30 * NS_PER_S},
        {"15m", 900 * NS_PER_S}, {"15min", 900 * NS_PER_S}, {"24h", 86400 * NS_PER_S},
        {"7d", 604800 * NS_PER_S}};
    static const char *const bad[] = {"", "s", "-1s", "+1s", " 1s", "1 s", "1.5s", "1w", "1sm", "0x10s",
        "99999999999999999999s", "9223372036854775807s", "106752d"};
    int64_t ns = 5;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_int_equal(duration_parse(good[i].text, &ns), 0);
        assert_true(ns == good[i].ns);
    }
    ns = 5;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(duration_parse(bad[i], &ns), ERR_MALFORMED);
    assert_true(ns == 5);
}

static void test_real_clock(void **state)
{
    (void)state;
    struct mono a = clock_mono(&clock_real), b = clock_mono(&clock_real);
    assert_true(a.ns > 0 && b.ns >= a.ns);
    assert_true(clock_wall(&clock_real).ns > 1700000000 * NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wall),
        cmocka_unit_test(test_duration_text),
        cmocka_unit_test(test_duration_parse),
        cmocka_unit_test(test_real_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

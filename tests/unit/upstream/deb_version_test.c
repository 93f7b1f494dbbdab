#include "tests/unit/upstream/fixture.h"

#include <stdio.h>
#include <stdlib.h>

static int sign(int x)
{
    return (x > 0) - (x < 0);
}

static int cmp(const char *a, const char *b)
{
    return sign(deb_version_cmp(view_str(a), view_str(b)));
}

/* Policy 5.6.12 and what follows from it. */
static void orders_by_the_table(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int want;
    } rows[] = {
        {"1.0", "1.0", 0},
        {"1.0", "1.1", -1},
        {"1.9", "1.10", -1},
        {"1.0-1", "1.0-2", -1},
        {"1.0-9", "1.0-10", -1},
        {"0:1.0", "1.0", 0},
        {"1:0.1", "9.9", 1},
        {"1:1", "2:0", -1},
        {"00:1", "0:1", 0},
        {"1.0", "1.0-0", 0},
        {"1.0", "1.0-0.1", -1},
        {"1.0-1", "1.0-1+b1", -1},
        {"1.0~rc1", "1.0", -1},
        {"1.0~rc1", "1.0~rc2", -1},
        {"1.0~~", "1.0~", -1},
        {"1.0~~a", "1.0~", -1},
        {"1.0~", "1.0", -1},
        {"1.0-1~bpo12+1", "1.0-1", -1},
        {"1.0-1~deb12u1", "1.0-1", -1},
        {"1.0-1+deb12u1", "1.0-1", 1},
        {"1.0a", "1.0", 1},
        {"1.0a", "1.0b", -1},
        {"1.0a", "1.0+", -1},
        {"1.0Z", "1.0a", -1},
        {"1.0.", "1.0+", 1},
        {"1.0-", "1.0", 0},
        {"2.0-1-1", "2.0-1-2", -1},
        {"2.0-1-1", "2.0-2-1", -1},
        {"1.001", "1.1", 0},
        {"1.0000000000000000000000001", "1.1", 0},
        {"99999999999999999999999999999999", "100000000000000000000000000000000", -1},
        {"1.2.3", "1.2", 1},
        {"", "", 0},
        {"", "0", 0},
        {"", "1", -1},
        {"", "~", 1},
        {"a", "1", 1},
        {"7.88.1-10+deb12u15", "7.88.1-10+deb12u5", 1},
        {"1:2.36~git20230101-1", "1:2.36-1", -1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (cmp(rows[i].a, rows[i].b) != rows[i].want || cmp(rows[i].b, rows[i].a) != -rows[i].want)
            fail_msg("%s <=> %s is not %d", rows[i].a, rows[i].b, rows[i].want);
    }
}

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint32_t next(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

/* A version that dpkg takes: an upstream part beginning with a digit, sometimes an epoch and a revision. */
static void make(char out[64])
{
    static const char *const pieces[] = {"0", "1", "2", "10", "007", "9", ".", ".", "+", "~", "~~", "a", "b",
        "rc", "Z", "git", "deb12u", "-0."};
    char body[40] = "";
    for (uint32_t i = next(5); i > 0; i--)
        strcat(body, pieces[next(COUNT_OF(pieces))]);
    static const char *const epochs[] = {"", "", "", "0:", "1:", "2:"};
    static const char *const revisions[] = {"", "", "-1", "-2", "-1+b1", "-1~bpo1", "-10"};
    snprintf(out, 64, "%s%u%s%s", epochs[next(6)], next(3), body, revisions[next(7)]);
}

#define PAIRS 400

/* One shell for all pairs: each line of its output is the relation that dpkg finds. */
static void orders_as_dpkg_does(void **state)
{
    (void)state;
    static char a[PAIRS][64], b[PAIRS][64];
    char name[] = "/tmp/deb-version-XXXXXX", command[128], line[16];
    if (!has_program("dpkg"))
        skip();
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    FILE *pairs = fdopen(fd, "w");
    for (size_t i = 0; i < PAIRS; i++) {
        make(a[i]);
        make(b[i]);
        fprintf(pairs, "%s %s\n", a[i], b[i]);
    }
    fclose(pairs);
    snprintf(command, sizeof command,
        "while read a b; do for op in lt eq gt; do dpkg --compare-versions $a $op $b && echo $op; done; done "
        "<%s",
        name);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_non_null(fgets(line, sizeof line, p));
        int want = line[0] == 'l' ? -1 : line[0] == 'g';
        if (cmp(a[i], b[i]) != want)
            fail_msg("%s <=> %s: dpkg says %d", a[i], b[i], want);
    }
    pclose(p);
    remove(name);
}

/* Whatever the bytes are: equal to itself, and the other way round. */
static void any_bytes_have_an_order(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint8_t x[12], y[12];
        for (size_t k = 0; k < 12; k++) {
            x[k] = (uint8_t) "0019:-~.+ab\0\xff"[next(13)];
            y[k] = (uint8_t) "0019:-~.+ab\0\xff"[next(13)];
        }
        struct view a = view_of(x, next(13)), b = view_of(y, next(13));
        assert_int_equal(deb_version_cmp(a, a), 0);
        assert_int_equal(sign(deb_version_cmp(a, b)), -sign(deb_version_cmp(b, a)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_by_the_table),
        cmocka_unit_test(orders_as_dpkg_does),
        cmocka_unit_test(any_bytes_have_an_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

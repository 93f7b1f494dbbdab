#include "common/base/word.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/err.h"

static void distances(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {{"", "", 0}, {"", "abc", 3}, {"sync", "sync", 0}, {"snyc", "sync", 1}, {"tre", "tree", 1},
        {"statsu", "status", 1}, {"invite", "invites", 1}, {"kitten", "sitting", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(word_distance(cases[i].a, cases[i].b), cases[i].distance);
        assert_int_equal(word_distance(cases[i].b, cases[i].a), cases[i].distance);
    }
    char longer[100];
    memset(longer, 'a', 99);
    longer[99] = 0;
    assert_int_equal(word_distance(longer, "a"), 64);
}

static void nearest(void **state)
{
    (void)state;
    static const char *const words[] = {"site", NULL, "sync", "status", "tree", "upstream"};
    assert_string_equal(word_nearest("snyc", words, 6), "sync");
    assert_string_equal(word_nearest("upst", words, 6), "upstream");
    assert_string_equal(word_nearest("stats", words, 6), "status");
    assert_null(word_nearest("qqqqq", words, 6));
    assert_null(word_nearest("x", words, 0));
}

static void err_text_may_be_an_argument_of_its_successor(void **state)
{
    (void)state;
    int rc = err_fail(ERR_TOKEN, "first");
    rc = err_fail(ERR_CONFIG, "second: %s", err_text(rc));
    assert_string_equal(err_text(rc), "second: first");
    rc = err_wrap(rc, "third (%s)", err_text(rc));
    assert_string_equal(err_text(rc), "third (second: first): second: first");
    char longer[2000];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(strlen(err_text(err_wrap(rc, "%s", longer))), 1023);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances),
        cmocka_unit_test(nearest),
        cmocka_unit_test(err_text_may_be_an_argument_of_its_successor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

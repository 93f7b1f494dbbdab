#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/id.h"

struct row {
    int code;
    const char *word, *sentence, *hint;
};
static const struct row rows[] = {
#define ROW(name, number, word, text, hint) {number, word, text, hint},
    ERR_TABLE(ROW)
#undef ROW
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *r = &rows[i];
        assert_int_equal(r->code, -1000 - (int)i); /* numbers never change: a new row goes to the end */
        assert_string_equal(err_word(r->code), r->word);
        assert_string_equal(err_sentence(r->code), r->sentence);
        assert_int_equal(err_from_word(r->word), r->code);
        assert_true(strlen(r->word) > 0 && strspn(r->word, "abcdefghijklmnopqrstuvwxyz-") == strlen(r->word));
        assert_true(strlen(r->sentence) > 0 && r->sentence[strlen(r->sentence) - 1] != '.');
        assert_int_equal(strncmp(err_hint(r->code), "sitetree", 8), 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(rows[j].word, r->word);
    }
}

static void test_errno_passes_through(void **state)
{
    (void)state;
    assert_string_equal(err_word(-ENOENT), "ENOENT");
    assert_string_equal(err_sentence(-ENOENT), "No such file or directory");
    assert_string_equal(err_hint(-ENOENT), "sitetree status");
    assert_string_equal(err_word(0), "ok");
    assert_string_equal(err_sentence(0), "done");
    assert_string_equal(err_word(-999999), "unknown");
    assert_string_equal(err_sentence(-999999), "unknown error");
    assert_int_equal(err_from_word("nonsense"), ERR_INTERNAL);
}

static void test_text_grows_on_its_way_up(void **state)
{
    (void)state;
    int rc = err_fail(ERR_MAP_FULL, "map full (%d MiB)", 64);
    assert_int_equal(rc, ERR_MAP_FULL);
    rc = err_wrap(rc, "applying delta %d of %s", 41, "debian/main");
    rc = err_wrap(rc, "catalogue");
    assert_int_equal(rc, ERR_MAP_FULL);
    assert_string_equal(err_text(rc), "catalogue: applying delta 41 of debian/main: map full (64 MiB)");
    assert_string_equal(err_text(ERR_GAP), "a step of the chain is missing"); /* another code has no text */
    assert_int_equal(err_wrap(0, "nothing"), 0);
    assert_string_equal(err_text(rc), "catalogue: applying delta 41 of debian/main: map full (64 MiB)");
    err_clear();
    assert_string_equal(err_text(rc), "the store is full");
    assert_int_equal(err_wrap(ERR_GAP, "pull"), ERR_GAP);
    assert_string_equal(err_text(ERR_GAP), "pull: a step of the chain is missing");
    assert_string_equal(err_text(0), "done");
}

static void test_text_may_quote_itself(void **state)
{
    (void)state;
    int rc = err_fail(ERR_TOKEN, "altered");
    rc = err_fail(ERR_REFUSED, "parent says: %s", err_text(rc));
    assert_string_equal(err_text(rc), "parent says: altered");
    rc = err_wrap(rc, "%s", err_text(rc));
    assert_string_equal(err_text(rc), "parent says: altered: parent says: altered");
}

static void test_text_has_an_end_and_is_clean(void **state)
{
    (void)state;
    char big[3000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    int rc = err_fail(ERR_MALFORMED, "%s", big);
    assert_int_equal(strlen(err_text(rc)), 1023);
    rc = err_wrap(rc, "%.1000s", big);
    assert_true(strlen(err_text(rc)) <= 1023);
    rc = err_wrap(rc, "%s", big); /* no room is left for what was before */
    assert_int_equal(strlen(err_text(rc)), 1023);
    rc = err_fail(ERR_MALFORMED, "'%s' from \x1b[31m\xff", "\xc3\xa9\a");
    assert_string_equal(err_text(rc), "'\xc3\xa9?' from ?[31m?");
    memset(big, 'x', 1022);
    memcpy(big + 1022, "\xc3\xa9", 3); /* is cut in the middle */
    rc = err_fail(ERR_MALFORMED, "%s", big);
    assert_true(text_is_clean(view_str(err_text(rc))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_errno_passes_through),
        cmocka_unit_test(test_text_grows_on_its_way_up),
        cmocka_unit_test(test_text_may_quote_itself),
        cmocka_unit_test(test_text_has_an_end_and_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

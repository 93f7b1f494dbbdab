#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "common/base/id.h"

#define CLEAN(literal) text_is_clean(view_of(literal, sizeof literal - 1))

static void test_clean_text(void **state)
{
    (void)state;
    assert_true(CLEAN(""));
    assert_true(CLEAN("plain, with\ttab and\nline"));
    assert_true(CLEAN("\xc2\xa0\xdf\xbf"));                     /* U+00A0, U+07FF */
    assert_true(CLEAN("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80")); /* U+0800, U+D7FF, U+E000 */
    assert_true(CLEAN("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));     /* U+10000, U+10FFFF */
    assert_false(CLEAN("KB977203\0x"));
    assert_false(CLEAN("\0"));
    assert_false(CLEAN("\r"));
    assert_false(CLEAN("\x1b[31m"));
    assert_false(CLEAN("\x7f"));
    assert_false(CLEAN("\xc2\x9b")); /* U+009B: a terminal takes it for escape and bracket */
    assert_false(CLEAN("\x80"));
    assert_false(CLEAN("\xff"));
    assert_false(CLEAN("\xc0\x80"));         /* overlong NUL */
    assert_false(CLEAN("\xe0\x80\xaf"));     /* overlong slash */
    assert_false(CLEAN("\xf0\x82\x82\xac")); /* overlong euro sign */
    assert_false(CLEAN("\xed\xa0\x80"));     /* surrogate */
    assert_false(CLEAN("\xf4\x90\x80\x80")); /* beyond U+10FFFF */
    assert_false(CLEAN("\xf8\x88\x80\x80\x80"));
    assert_false(CLEAN("a\xc3"));
    assert_false(CLEAN("a\xe2\x82"));
    assert_false(CLEAN("a\xf0\x9f\x98"));
    assert_false(CLEAN("\xc3("));
    assert_true(text_is_clean((struct view){0}));
}

static void test_make_clean(void **state)
{
    (void)state;
    char a[] = "ok \xc3\xa9\n";
    assert_string_equal(text_make_clean(a), "ok \xc3\xa9\n");
    char b[] = "\x1b]0;x\a\xff\xe2\x82";
    assert_string_equal(text_make_clean(b), "?]0;x????");
    char c[] = "";
    assert_string_equal(text_make_clean(c), "");
    unsigned seed = 7;
    for (int round = 0; round < 2000; round++) {
        char s[65];
        for (size_t i = 0; i < sizeof s - 1; i++)
            s[i] = (char)(rand_r(&seed) % 255 + 1);
        s[sizeof s - 1] = 0;
        text_make_clean(s);
        assert_int_equal(strlen(s), sizeof s - 1);
        assert_true(text_is_clean(view_str(s)));
    }
}

static void test_site_codes(void **state)
{
    (void)state;
    static const char *const good[] = {
        "CEN", "P01", "b-1107", "a", "0", "a.b_c-d", "abcdefghijklmnopqrstuvwxyz01234"};
    static const char *const bad[] = {
        "", "-a", ".a", "_", "a b", "a/b", "a>b", "\xc3\xa9", "a\n", "abcdefghijklmnopqrstuvwxyz012345"};
    struct site_code c = {"before"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_true(site_code_valid(good[i]));
        assert_int_equal(site_code_parse(view_str(good[i]), &c), 0);
        assert_string_equal(c.s, good[i]);
    }
    strcpy(c.s, "before");
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(site_code_valid(bad[i]));
        assert_int_equal(site_code_parse(view_str(bad[i]), &c), ERR_MALFORMED);
    }
    assert_int_equal(site_code_parse(view_of("P01\0", 4), &c), ERR_MALFORMED);
    assert_int_equal(site_code_parse(view_of("P0\0001", 4), &c), ERR_MALFORMED);
    assert_int_equal(site_code_parse((struct view){0}, &c), ERR_MALFORMED);
    assert_string_equal(c.s, "before");
}

static void test_hex(void **state)
{
    (void)state;
    uint8_t out[3] = {9, 9, 9};
    char text[7];
    assert_string_equal(hex_encode("\x00\x7f\xff", 3, text), "007fff");
    assert_int_equal(hex_decode("007fFF", out, 3), 0);
    assert_memory_equal(out, "\x00\x7f\xff", 3);
    static const char *const bad[] = {"", "00", "0011223", "00112233", "0011g2", "0011 2", "00112\xff"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(hex_decode(bad[i], out, 3), ERR_MALFORMED);
    assert_memory_equal(out, "\x00\x7f\xff", 3); /* set on success only */
    assert_int_equal(hex_decode("", out, 0), 0);
}

static void test_fixed_sizes(void **state)
{
    (void)state;
    struct hash h, zero = {0};
    struct epoch e;
    char text[15], eight[9];
    uint8_t bytes[33];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(0x10 + i);
    assert_int_equal(hash_from_view(view_of(bytes, 32), &h), 0);
    assert_int_equal(hash_from_view(view_of(bytes, 33), &h), ERR_MALFORMED);
    assert_string_equal(err_text(ERR_MALFORMED), "hash of 33 bytes, not 32");
    assert_int_equal(hash_from_view((struct view){0}, &h), ERR_MALFORMED);
    assert_int_equal(epoch_from_view(view_of(bytes, 16), &e), 0);
    assert_int_equal(epoch_from_view(view_of(bytes, 15), &e), ERR_MALFORMED);
    assert_memory_equal(e.b, bytes, 16);
    assert_true(hash_is_zero(&zero));
    assert_false(hash_is_zero(&h));
    assert_true(epoch_eq(&e, &e));
    assert_string_equal(fingerprint_text(&h, text), "1011-1213-1415");
    assert_string_equal(hash_short(&h, eight), "10111213");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_text),
        cmocka_unit_test(test_make_clean),
        cmocka_unit_test(test_site_codes),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_fixed_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

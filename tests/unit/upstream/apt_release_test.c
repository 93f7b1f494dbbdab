#include "tests/unit/upstream/fixture.h"

#include "services/metadata/upstream/apt_release.h"

#include <stdio.h>

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define DATE "Date: Sat, 11 Jul 2026 10:16:37 UTC\n"
#define LIST                                                                                                 \
    "SHA256:\n " DIGEST "  1484322 main/binary-amd64/Packages\n " DIGEST " 7 "                               \
    "main/binary-amd64/Packages.xz\n"
static const char good[] =
    "Origin: Debian\nLabel: Debian\nSuite: oldstable\nVersion: 12.15\nCodename: bookworm\n" DATE
    "Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nArchitectures: all amd64 arm64\n"
    "Components: updates/main contrib\nMD5Sum:\n 0ed6d4c8891eb86358b94bb35d9e4da4 7 main/x\n" LIST;

static void reads_it(void **state)
{
    (void)state;
    struct release r;
    struct release_entry e;
    char text[32];
    assert_int_equal(release_parse(view_str(good), &r), 0);
    assert_true(view_eq(r.origin, view_str("Debian")) && view_eq(r.suite, view_str("oldstable")));
    assert_true(view_eq(r.codename, view_str("bookworm")) && view_eq(r.version, view_str("12.15")));
    assert_string_equal(wall_text(r.date, text), "2026-07-11T10:16:37Z");
    assert_string_equal(wall_text(r.valid_until, text), "2026-07-18T10:16:37Z");
    assert_true(r.by_hash);
    assert_true(release_lists(r.components, "main") && release_lists(r.components, "updates/main"));
    assert_true(release_lists(r.components, "contrib") && !release_lists(r.components, "mai"));
    assert_false(release_lists(r.components, "updates"));
    assert_true(release_lists(r.architectures, "amd64") && !release_lists(r.architectures, "amd"));
    assert_int_equal(release_find(&r, "main/binary-amd64/Packages", &e), 0);
    assert_int_equal(e.size, 1484322);
    assert_int_equal(e.sha256[1], 0x11);
    assert_int_equal(release_find(&r, "main/binary-amd64/Packages.xz", &e), 0);
    assert_int_equal(e.size, 7);
    assert_int_equal(release_find(&r, "main/binary-amd64/Packages.gz", &e), ERR_NOT_FOUND);
    assert_int_equal(release_find(&r, "main/x", &e), ERR_NOT_FOUND); /* MD5 does not count */
}

static void names_each_fault(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "no Date"},
        {"Origin: x\n" LIST, "no Date"},
        {"Date: yesterday\n" LIST, "Date: 'yesterday' is not a date like Sat, 11 Jul 2026 10:16:37 UTC"},
        {DATE "Valid-Until: 2026-01-01\n" LIST,
            "Valid-Until: '2026-01-01' is not a date like Sat, 11 Jul 2026 10:16:37 UTC"},
        {DATE, "no SHA256 list (older digests are not accepted)"},
        {DATE "MD5Sum:\n 0ed6d4c8891eb86358b94bb35d9e4da4 7 main/x\n",
            "no SHA256 list (older digests are not accepted)"},
        {DATE LIST LIST, "the field SHA256 twice"},
        {"Suite: a\nSuite: b\n" DATE LIST, "the field Suite twice"},
        {DATE LIST "\nSuite: evil\n", "more than one paragraph"},
        {DATE "Suite: a\x01\n" LIST, "NUL bytes, control characters or text that is not UTF-8"},
        {"hello\n" DATE LIST, "a line without a field name and colon: 'hello'"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct release r;
        assert_int_equal(release_parse(view_str(rows[i].text), &r), ERR_MALFORMED);
        assert_string_equal(err_text(ERR_MALFORMED), rows[i].why);
    }
    struct release r;
    struct release_entry e;
    assert_int_equal(release_parse(view_str("\n\n" DATE LIST "\n\n"), &r), 0);
    assert_int_equal(
        release_parse(view_str(DATE "SHA256:\n zz 1 a\n " DIGEST " x b\n " DIGEST "\n c\n"), &r), 0);
    assert_int_equal(release_find(&r, "a", &e), ERR_MALFORMED);
    assert_string_equal(err_text(ERR_MALFORMED), "the SHA256 line of a is not valid");
    assert_int_equal(release_find(&r, "b", &e), ERR_MALFORMED);
    assert_int_equal(release_find(&r, "c", &e), ERR_NOT_FOUND);
}

static void reads_dates(void **state)
{
    (void)state;
    static const char *const same[] = {"Thu, 01 Jan 1970 00:00:01 UTC", "Thu, 01 Jan 1970 00:00:01 GMT",
        "Thu,  1 Jan 1970 00:00:01 +0000", "Thu, 1 Jan 1970 00:00:01 Z"};
    static const char *const bad[] = {"", "Thu, 01 Jan 1970 00:00:01", "Thu, 01 Jan 1970 00:00:01 CET",
        "Thu, 32 Jan 1970 00:00:01 UTC", "Thu, 01 Foo 1970 00:00:01 UTC", "Thu, 01 Jan 1970 25:00:01 UTC",
        "Thu, 01 Jan 1970 00:00:01 UTC and more", "Thu, 01 Jan 0026 00:00:01 UTC",
        "Thu, 01 Jan 9999 00:00:01 UTC",
        "Thu, 01 Jan 1970 00:00:01 UTC and a lot more text than fits into it"};
    struct wall t = {7};
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        assert_int_equal(release_date_parse(view_str(same[i]), &t), 0);
        assert_int_equal(t.ns, NS_PER_S);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(release_date_parse(view_str(bad[i]), &t), ERR_MALFORMED);
    assert_int_equal(release_date_parse(view_of("Thu,\0 01 Jan", 12), &t), ERR_MALFORMED);
}

/* Every shortened and every one-byte-changed form is taken or refused, and finding in it is safe. */
static void survives_mutation(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof good - 1; at++)
        for (unsigned how = 0; how < 6; how++) {
            uint8_t text[sizeof good];
            struct release r;
            struct release_entry e;
            memcpy(text, good, sizeof good);
            text[at] = (uint8_t) "\n :\0\xffz"[how];
            struct view v = view_of(text, how == 0 ? at : sizeof good - 1);
            if (release_parse(v, &r) == 0) {
                int rc = release_find(&r, "main/binary-amd64/Packages.xz", &e);
                assert_true(rc == 0 || rc == ERR_NOT_FOUND || rc == ERR_MALFORMED);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_it), cmocka_unit_test(names_each_fault),
        cmocka_unit_test(reads_dates), cmocka_unit_test(survives_mutation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

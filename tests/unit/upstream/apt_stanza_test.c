#include "tests/unit/upstream/fixture.h"

#include "services/metadata/upstream/apt_stanza.h"

#include <stdio.h>
#include <stdlib.h>

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
static const char good[] =
    "Package: hello\nVersion:2.10-3 \nArchitecture: amd64\nInstalled-Size: 280\nMaintainer: J\xc3\xb6rg "
    "<j@example.org>\n"
    "Depends: libc6 (>= 2.36),\n some (= 1),\n\tother\nDescription: says hello\n and more\n .\n and "
    "more\nHomepage: https://example.org\n"
    "Tag: a::b,\n c::d\nSection: misc\npriority: optional\nSource: hello-src (1.0)\nUrgency: high\n"
    "Filename: pool/main/h/hello/hello_2.10-3_amd64.deb\nSize: 53000\nSHA256: " DIGEST "\n";

static bool text_is(struct view v, const char *want)
{
    return view_eq(v, view_str(want));
}

static void reads_a_package(void **state)
{
    (void)state;
    struct package p;
    AUTO_BUF fold = {0};
    assert_int_equal(stanza_check(view_str(good)), 0);
    assert_int_equal(package_parse(view_str(good), &fold, &p), 0);
    assert_true(text_is(p.name, "hello") && text_is(p.version, "2.10-3") && text_is(p.architecture, "amd64"));
    assert_true(text_is(p.depends, "libc6 (>= 2.36), some (= 1), other"));
    assert_true(text_is(p.description, "says hello") && text_is(p.homepage, "https://example.org"));
    assert_true(text_is(p.section, "misc") && text_is(p.priority, "optional") &&
                text_is(p.source, "hello-src (1.0)"));
    assert_true(text_is(p.urgency, "high"));
    assert_int_equal(p.installed_kib, 280);
    assert_int_equal(p.size, 53000);
    assert_int_equal(p.sha256[1], 0x11);
    assert_int_equal(p.sha256[31], 0xff);
    /* without a file */
    assert_int_equal(package_parse(view_str("Package: a\nVersion: 1\nArchitecture: all"), &fold, &p), 0);
    assert_int_equal(p.filename.len, 0);
}

static void names_each_fault(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"Version: 1\nArchitecture: all\n", "no Package"},
        {"Package: a\nArchitecture: all\n", "no Version"},
        {"Package: a\nVersion:\nArchitecture: all\n", "no Version"},
        {"Package: a\nVersion: 1\n", "no Architecture"},
        {"Package: a b\nVersion: 1\nArchitecture: all\n", "Package is not valid: 'a b'"},
        {"Package: a\nVersion: 1/2\nArchitecture: all\n", "Version is not valid: '1/2'"},
        {"Package: a\nVersion: 1\nArchitecture: a_b\n", "Architecture is not valid: 'a_b'"},
        {"Package: a\nPackage: b\n", "the field Package twice"},
        {"Package: a\npackage: b\n", "the field package twice"},
        {"Package: a\nsome words\n", "a line without a field name and colon: 'some words'"},
        {": a\n", "a line without a field name and colon: ': a'"},
        {" b\nPackage: a\n", "a continuation line without a field"},
        {"Package: a\nVersion: 1\nArchitecture: all\nSize: -1\n", "Size is not valid: '-1'"},
        {"Package: a\nVersion: 1\nArchitecture: all\nSize: 9999999999999999\n",
            "Size is not valid: '9999999999999999'"},
        {"Package: a\nVersion: 1\nArchitecture: all\nInstalled-Size: x\n",
            "Installed-Size is not valid: 'x'"},
        {"Package: a\nVersion: 1\nArchitecture: all\nFilename: x\n", "Filename without Size"},
        {"Package: a\nVersion: 1\nArchitecture: all\nFilename: x\nSize: 1\n", "Filename without SHA256"},
        {"Package: a\nVersion: 1\nArchitecture: all\nFilename: /x\nSize: 1\n", "Filename is not valid: '/x'"},
        {"Package: a\nVersion: 1\nArchitecture: all\nFilename: ../x\nSize: 1\n",
            "Filename is not valid: '../x'"},
        {"Package: a\nVersion: 1\nArchitecture: all\nFilename: x/..\nSize: 1\n",
            "Filename is not valid: 'x/..'"},
        {"Package: a\nVersion: 1\nArchitecture: all\nFilename: x\nSize: 1\nSHA256: 12\n",
            "SHA256 is not valid: '12'"},
    };
    AUTO_BUF fold = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct package p;
        assert_int_equal(package_parse(view_str(rows[i].text), &fold, &p), ERR_MALFORMED);
        assert_string_equal(err_text(ERR_MALFORMED), rows[i].why);
    }
}

static void checks_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *why;
    } rows[] = {
        {"a\0b", 3, "a NUL byte"},
        {"a\rb", 3, "a control character (0x0d)"},
        {"a\x7f", 2, "a control character (0x7f)"},
        {"\xff", 1, "text that is not UTF-8"},
        {"\xc3", 1, "text that is not UTF-8"},
        {"\xed\xa0\x80", 3, "text that is not UTF-8"},
        {"\xc0\x80", 2, "text that is not UTF-8"},
    };
    uint8_t text[300];
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (size_t at = 0; at < 200; at++) { /* wherever it stands */
            memset(text, 'x', sizeof text);
            memcpy(text + at, rows[i].text, rows[i].len);
            assert_int_equal(stanza_check(view_of(text, 200 + rows[i].len)), ERR_MALFORMED);
            assert_string_equal(err_text(ERR_MALFORMED), rows[i].why);
        }
    assert_int_equal(stanza_check(view_str("tab\there\nand \xe2\x82\xac\n")), 0);
    assert_int_equal(stanza_check((struct view){0}), 0);
}

static void holds_its_limits(void **state)
{
    (void)state;
    uint8_t *big = malloc(STANZA_MAX + 16);
    AUTO_BUF fold = {0};
    struct view stanza, rest;
    struct package p;
    memset(big, 'x', STANZA_MAX + 16);
    assert_int_equal(stanza_check(view_of(big, STANZA_LINE_MAX)), 0);
    assert_int_equal(stanza_check(view_of(big, STANZA_LINE_MAX + 1)), ERR_TOO_LARGE);
    assert_int_equal(stanza_check(view_of(big, STANZA_MAX + 1)), ERR_TOO_LARGE);
    rest = view_of(big, STANZA_MAX + 16); /* no end in sight */
    assert_int_equal(stanza_next(&rest, false, &stanza), ERR_TOO_LARGE);
    rest = view_of(big, STANZA_MAX);
    assert_int_equal(stanza_next(&rest, false, &stanza), ERR_NOT_FOUND);
    assert_int_equal(rest.len, STANZA_MAX);
    assert_int_equal(stanza_next(&rest, true, &stanza), 0);
    memcpy(big + STANZA_MAX, "\n\n", 2);
    rest = view_of(big, STANZA_MAX + 16);
    assert_int_equal(stanza_next(&rest, false, &stanza), ERR_TOO_LARGE);
    free(big);
    AUTO_BUF many = {0};
    buf_str(&many, "Package: a\nVersion: 1\nArchitecture: all\n");
    for (int i = 3; i < STANZA_FIELDS_MAX; i++)
        buf_fmt(&many, "X-%d: y\n", i);
    assert_int_equal(package_parse(buf_view(&many), &fold, &p), 0);
    buf_str(&many, "X-more: y\n");
    assert_int_equal(package_parse(buf_view(&many), &fold, &p), ERR_TOO_LARGE);
}

static void splits_wherever_it_is_cut(void **state)
{
    (void)state;
    static const char text[] = "\n\na: 1\nb: 2\n\nc: 3\n\n\n\nd: 4\n e\n";
    static const char *const want[] = {"a: 1\nb: 2\n", "c: 3\n", "d: 4\n e\n"};
    for (size_t cut = 0; cut < sizeof text; cut++) {
        size_t n = 0, from = 0;
        const size_t ends[] = {cut, sizeof text - 1};
        for (size_t k = 0; k < 2; k++) {
            struct view rest = view_of(text + from, ends[k] > from ? ends[k] - from : 0), stanza;
            int rc;
            while ((rc = stanza_next(&rest, k == 1, &stanza)) == 0) {
                assert_true(n < 3);
                assert_true(text_is(stanza, want[n++]));
            }
            assert_int_equal(rc, ERR_NOT_FOUND);
            from = (size_t)(rest.data - (const uint8_t *)text);
        }
        assert_int_equal(n, 3);
    }
}

static uint64_t seed = 88172645463325252;

static uint32_t next(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static bool inside(struct view part, const uint8_t *from, size_t len, const struct buf *fold)
{
    return part.len == 0 || (part.data >= from && part.data + part.len <= from + len) ||
           (part.data >= fold->data && part.data + part.len <= fold->data + fold->len);
}

/* Changed, doubled, cut and shifted bytes: every answer is a code, and every view lies in the input. */
static void survives_mutation(void **state)
{
    (void)state;
    AUTO_BUF fold = {0};
    unsigned taken = 0;
    for (int round = 0; round < 60000; round++) {
        size_t len = sizeof good - 1;
        uint8_t *text = malloc(len + 64); /* exactly sized below, so that a sanitizer sees one byte too far */
        memcpy(text, good, len);
        for (uint32_t k = next(4) + 1; k > 0; k--) {
            size_t at = next((uint32_t)len), n = next(16);
            switch (next(5)) {
            case 0:
                text[at] = (uint8_t)next(256);
                break;
            case 1:
                text[at] = (uint8_t) "\n: \t.0"[next(6)];
                break;
            case 2:
                len = at + 1;
                break;
            case 3:
                if (at + n < len) {
                    memmove(text + at, text + at + n, len - at - n);
                    len -= n;
                }
                break;
            default:
                if (len + n < sizeof good + 62) {
                    memmove(text + at + n, text + at, len - at);
                    len += n;
                }
            }
        }
        uint8_t *exact = malloc(len);
        memcpy(exact, text, len);
        free(text);
        struct view rest = view_of(exact, len), stanza;
        while (stanza_next(&rest, true, &stanza) == 0) {
            struct package p;
            if (stanza_check(stanza) || package_parse(stanza, &fold, &p))
                continue;
            taken++;
            const struct view views[] = {p.name, p.version, p.architecture, p.description, p.section,
                p.priority, p.homepage, p.source, p.depends, p.urgency, p.filename};
            for (size_t i = 0; i < COUNT_OF(views); i++)
                assert_true(inside(views[i], exact, len, &fold));
        }
        free(exact);
    }
    assert_true(taken > 5000); /* not everything is refused: the loop reaches the inner parts */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_package),
        cmocka_unit_test(names_each_fault),
        cmocka_unit_test(checks_bytes),
        cmocka_unit_test(holds_its_limits),
        cmocka_unit_test(splits_wherever_it_is_cut),
        cmocka_unit_test(survives_mutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

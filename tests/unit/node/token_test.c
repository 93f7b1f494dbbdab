/* Tokens: what a person pastes, and what is wrong with it, is known before the network is touched. */
#include "services/node/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/wire/frame.h"

static struct token sample(void)
{
    struct token t = {.tier = TIER_BRANCH, .expires = {INT64_C(1795000000) * NS_PER_S}, .n_parents = 2};
    memset(&t.hierarchy, 0x11, 32);
    memset(t.secret, 0x22, 32);
    snprintf(t.code.s, sizeof t.code.s, "B11");
    snprintf(t.parent.s, sizeof t.parent.s, "P01");
    for (unsigned i = 0; i < 2; i++) {
        snprintf(t.parents[i].endpoint, 256, "p%u.example:7700", i);
        snprintf(t.parents[i].hints, 256, "p%u.example:7701", i);
        snprintf(t.parents[i].code.s, 32, "P%02u", i + 1);
        memset(t.parents[i].link_key, 0x33 + (int)i, 32);
    }
    return t;
}

static char *encoded(const struct token *t)
{
    struct buf b = {0};
    assert_int_equal(0, token_encode(t, &b));
    buf_u8(&b, 0);
    return (char *)b.data;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct token in = sample(), out;
    AUTO_FREE char *text = encoded(&in);
    assert_memory_equal("st1-", text, 4);
    assert_int_equal(0, token_decode(text, &out));
    assert_string_equal("B11", out.code.s);
    assert_string_equal("P01", out.parent.s);
    assert_int_equal(TIER_BRANCH, out.tier);
    assert_int_equal(in.expires.ns, out.expires.ns);
    assert_memory_equal(in.secret, out.secret, 32);
    assert_int_equal(2, out.n_parents);
    assert_string_equal("p1.example:7701", out.parents[1].hints);
    token_done(&out);
    static const uint8_t zeros[32];
    assert_memory_equal(zeros, out.secret, 32);
}

static void test_white_space_is_forgiven(void **state)
{
    (void)state;
    struct token in = sample(), out;
    AUTO_FREE char *text = encoded(&in);
    AUTO_BUF b = {0};
    buf_str(&b, "  \n");
    for (size_t i = 0; text[i]; i++) {
        buf_u8(&b, (uint8_t)text[i]);
        if (i % 60 == 59)
            buf_str(&b, "\r\n ");
    }
    buf_u8(&b, 0);
    assert_int_equal(0, token_decode((const char *)b.data, &out));
}

static void test_every_typing_error_is_found(void **state)
{
    (void)state;
    struct token in = sample(), out;
    AUTO_FREE char *text = encoded(&in);
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        char before = text[i];
        text[i] = before == 'x' ? 'y' : 'x';
        assert_int_equal(ERR_TOKEN, token_decode(text, &out));
        assert_non_null(strstr(err_text(ERR_TOKEN), "token"));
        text[i] = before;
    }
    for (size_t i = 4; i + 2 < n; i++) { /* two neighbours in the wrong order */
        if (text[i] == text[i + 1])
            continue;
        char c = text[i];
        text[i] = text[i + 1];
        text[i + 1] = c;
        assert_int_equal(ERR_TOKEN, token_decode(text, &out));
        text[i + 1] = text[i];
        text[i] = c;
    }
    assert_int_equal(0, token_decode(text, &out));
}

static void test_every_cut_is_found(void **state)
{
    (void)state;
    struct token in = sample(), out;
    AUTO_FREE char *text = encoded(&in);
    for (size_t n = strlen(text); n-- > 0;) {
        text[n] = 0;
        assert_int_equal(ERR_TOKEN, token_decode(text, &out));
    }
}

static void test_versions(void **state)
{
    (void)state;
    struct token in = sample(), out;
    AUTO_FREE char *text = encoded(&in);
    text[2] = '2';
    assert_int_equal(ERR_TOKEN, token_decode(text, &out));
    assert_non_null(strstr(err_text(ERR_TOKEN), "another version"));
    assert_int_equal(ERR_TOKEN, token_decode("hello", &out));
    assert_non_null(strstr(err_text(ERR_TOKEN), "st1-"));
}

/* A token whose checksum is right and whose fields are not. */
static void refuse(void (*edit)(Sitetree__Token *m, Sitetree__Place *p), const char *why)
{
    struct token out;
    uint8_t bytes[32] = {1};
    Sitetree__Place p = SITETREE__PLACE__INIT, *list[6] = {&p, &p, &p, &p, &p, &p};
    p.endpoint = (char *)(uintptr_t) "h:1";
    p.hints = (char *)(uintptr_t) "h:2";
    p.code = (char *)(uintptr_t) "P01";
    p.link_key = pb_bytes(view_of(bytes, 32));
    Sitetree__Token m = SITETREE__TOKEN__INIT;
    m.version = 1;
    m.hierarchy = m.secret = pb_bytes(view_of(bytes, 32));
    m.code = (char *)(uintptr_t) "B11";
    m.parent = (char *)(uintptr_t) "P01";
    m.tier = (char *)(uintptr_t) "branch";
    m.expires = 5;
    m.parents = list;
    m.n_parents = 1;
    edit(&m, &p);
    AUTO_BUF b = {0};
    AUTO_BUF text = {0};
    message_pack(&m.base, &b);
    buf_be32(&b, checksum32(buf_view(&b)));
    buf_str(&text, "st1-");
    base64_encode(buf_view(&b), &text);
    buf_u8(&text, 0);
    int rc = token_decode((const char *)text.data, &out);
    if (!why) {
        assert_int_equal(0, rc);
        return;
    }
    assert_int_equal(ERR_TOKEN, rc);
    if (!strstr(err_text(rc), why))
        fail_msg("'%s' does not say '%s'", err_text(rc), why);
}

#define EDIT(name, change)                                                                                   \
    static void name(Sitetree__Token *m, Sitetree__Place *p)                                                 \
    {                                                                                                        \
        (void)m;                                                                                             \
        (void)p;                                                                                             \
        change;                                                                                              \
    }
EDIT(nothing, (void)0)
EDIT(version, m->version = 2)
EDIT(hierarchy, m->hierarchy.len = 31)
EDIT(secret, m->secret.len = 0)
EDIT(code, m->code = (char *)(uintptr_t) "../etc")
EDIT(parent, m->parent = (char *)(uintptr_t) "")
EDIT(tier, m->tier = (char *)(uintptr_t) "king")
EDIT(central, m->tier = (char *)(uintptr_t) "central")
EDIT(expires, m->expires = 0)
EDIT(no_parents, m->n_parents = 0)
EDIT(many_parents, m->n_parents = 6)
EDIT(no_port, p->endpoint = (char *)(uintptr_t) "host")
EDIT(bad_port, p->endpoint = (char *)(uintptr_t) "host:70000")
EDIT(path, p->hints = (char *)(uintptr_t) "/etc:1")
EDIT(place_key, p->link_key.len = 3)
EDIT(place_code, p->code = (char *)(uintptr_t) "a b")

static void test_fields(void **state)
{
    (void)state;
    refuse(nothing, NULL);
    refuse(version, "another version (2");
    refuse(hierarchy, "31 bytes");
    refuse(secret, "missing or off");
    refuse(code, "not a site code");
    refuse(parent, "not a site code");
    refuse(tier, "not a tier");
    refuse(central, "missing or off");
    refuse(expires, "missing or off");
    refuse(no_parents, "0 parents");
    refuse(many_parents, "6 parents");
    refuse(no_port, "not host:port");
    refuse(bad_port, "no port");
    refuse(path, "not host:port");
    refuse(place_key, "3 bytes");
    refuse(place_code, "not a site code");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_white_space_is_forgiven), cmocka_unit_test(test_every_typing_error_is_found),
        cmocka_unit_test(test_every_cut_is_found), cmocka_unit_test(test_versions),
        cmocka_unit_test(test_fields)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

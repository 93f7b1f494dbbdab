#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/crypto/crypto.h"

static int set_up(void **state)
{
    (void)state;
    return crypto_init();
}

static void test_hash_domains(void **state)
{
    (void)state;
    struct hash a, b, c, d;
    uint8_t salt[16] = {1};
    hash_bytes("record", NULL, view_str("x"), &a);
    hash_bytes("page", NULL, view_str("x"), &b);
    hash_bytes("record", salt, view_str("x"), &c);
    hash_bytes("record", NULL, view_str("x"), &d);
    assert_true(hash_eq(&a, &d));
    assert_false(hash_eq(&a, &b));
    assert_false(hash_eq(&a, &c));
    hash_bytes("record", NULL, (struct view){0}, &a);
    hash_bytes("record", NULL, view_str(""), &b);
    assert_true(hash_eq(&a, &b));
}

static void test_hash_in_pieces(void **state)
{
    (void)state;
    uint8_t data[1000], salt[16] = {7};
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31);
    struct hash whole, parts;
    hash_bytes("page", salt, view_of(data, sizeof data), &whole);
    for (size_t step = 1; step < 300; step += 37) {
        struct hash_state s;
        hash_start(&s, "page", salt);
        for (size_t at = 0; at < sizeof data; at += step)
            hash_more(&s, data + at, at + step < sizeof data ? step : sizeof data - at);
        hash_end(&s, &parts);
        assert_true(hash_eq(&whole, &parts));
    }
}

static void test_sha256(void **state)
{
    (void)state;
    struct sha256_state s;
    struct hash h, want;
    sha256_start(&s);
    sha256_more(&s, "a", 1);
    sha256_more(&s, "bc", 2);
    sha256_end(&s, &h);
    /* FIPS 180-4, example "abc" */
    assert_int_equal(
        hex_decode("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", want.b, 32), 0);
    assert_true(hash_eq(&h, &want));
}

static void test_signatures(void **state)
{
    (void)state;
    struct sign_key key, second;
    uint8_t sig[65] = {0}, zero[32] = {0};
    char payload[] = "payload";
    sign_key_new(&key);
    sign_key_new(&second);
    sign_detached(&key, "head", view_str(payload), sig);
    struct view good = view_of(sig, 64);
    assert_int_equal(sign_verify(key.public, "head", view_str(payload), good), 0);
    assert_int_equal(sign_verify(key.public, "trust", view_str(payload), good), ERR_SIGNATURE);
    assert_int_equal(sign_verify(key.public, "hea", view_str("dpayload"), good), ERR_SIGNATURE);
    assert_int_equal(sign_verify(second.public, "head", view_str(payload), good), ERR_SIGNATURE);
    assert_int_equal(sign_verify(zero, "head", view_str(payload), good), ERR_SIGNATURE);
    assert_int_equal(sign_verify(key.public, "head", view_str(payload), view_of(sig, 63)), ERR_SIGNATURE);
    assert_int_equal(sign_verify(key.public, "head", view_str(payload), view_of(sig, 65)), ERR_SIGNATURE);
    assert_int_equal(sign_verify(key.public, "head", view_str(payload), (struct view){0}), ERR_SIGNATURE);
    assert_string_equal(err_text(ERR_SIGNATURE), "signature of 0 bytes, not 64");
    for (size_t bit = 0; bit < 64 * 8; bit += 5) {
        sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(sign_verify(key.public, "head", view_str(payload), good), ERR_SIGNATURE);
        sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    payload[3] ^= 1;
    assert_int_equal(sign_verify(key.public, "head", view_str(payload), good), ERR_SIGNATURE);
}

static void test_link_keys(void **state)
{
    (void)state;
    /* RFC 7748, 5.2: after one iteration */
    uint8_t seed[32] = {9}, want[32];
    struct link_key a, b;
    assert_int_equal(
        hex_decode("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079", want, 32), 0);
    link_key_from_seed(seed, &a);
    link_key_from_seed(seed, &b);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_equal(a.secret, seed, 32);
    assert_memory_equal(a.public, want, 32);
    link_key_new(&b);
    assert_memory_not_equal(a.public, b.public, 32);
}

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *text;
    } cases[] = {
        {"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"}, {"\xfb\xff", "-_8"}};
    static const char *const bad[] = {
        "Z", "Zg==", "Zg=", "Zh", "Z g", "+/8", "Zm9v\n", "\xc3\xa9", "\xa3\xa3\xe0\xe0"};
    AUTO_BUF out = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        buf_reset(&out);
        base64_encode(view_str(cases[i].raw), &out);
        assert_true(view_eq(buf_view(&out), view_str(cases[i].text)));
        assert_int_equal(base64_decode(view_str(cases[i].text), &out), 0);
        assert_true(view_eq(buf_view(&out), view_str(cases[i].raw)));
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(base64_decode(view_str(bad[i]), &out), ERR_MALFORMED);
    assert_int_equal(base64_decode(view_of("Zg\0", 3), &out), ERR_MALFORMED);
}

static void test_secrets(void **state)
{
    (void)state;
    char s[] = "secret";
    assert_true(secret_eq(s, "secret", 6));
    assert_false(secret_eq(s, "secreT", 6));
    secret_wipe(s, sizeof s);
    assert_memory_equal(s, "\0\0\0\0\0\0", 7);
}

static void test_random(void **state)
{
    (void)state;
    uint8_t a[32] = {0}, b[32] = {0}, zero[32] = {0};
    random_real.fill(random_real.ctx, a, sizeof a);
    random_real.fill(random_real.ctx, b, sizeof b);
    assert_memory_not_equal(a, zero, sizeof a);
    assert_memory_not_equal(a, b, sizeof a);
    assert_int_not_equal(checksum32(view_str("token")), checksum32(view_str("tokem")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_domains),
        cmocka_unit_test(test_hash_in_pieces),
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_link_keys),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

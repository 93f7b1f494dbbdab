/* Chains of certificates: each field broken, each signature by somebody else, another order, another
 * hierarchy. */
#include "services/node/trust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/wire/frame.h"

#define DEPTH 3
static struct sign_key root, head, keys[DEPTH + 1], stranger;
static struct hash hierarchy;
static struct certificate certs[DEPTH + 1];

struct parts { /* a chain in pieces, to be broken */
    Sitetree__SiteCertificate cert[DEPTH + 1];
    Sitetree__Trust trust;
    const struct sign_key *root, *signer[DEPTH + 1];
    const char *domain;
    unsigned n;
    bool swap, no_trust, cut_signature, foreign_key;
};

static void fill_key(uint8_t out[32], int v)
{
    memset(out, v, 32);
}

static int group_setup(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "S11", "B111"};
    uint8_t seed[32];
    assert_int_equal(0, crypto_init());
    fill_key(seed, 1);
    sign_key_from_seed(seed, &root);
    fill_key(seed, 2);
    sign_key_from_seed(seed, &head);
    fill_key(seed, 3);
    sign_key_from_seed(seed, &stranger);
    hierarchy_id(root.public, &hierarchy);
    for (int i = 0; i <= DEPTH; i++) {
        fill_key(seed, 10 + i);
        sign_key_from_seed(seed, &keys[i]);
        certs[i] = (struct certificate){.tier = (enum tier)i, .serial = 5, .issued = {NS_PER_S}};
        snprintf(certs[i].code.s, 32, "%s", codes[i]);
        if (i)
            certs[i].parent = certs[i - 1].code;
        memcpy(certs[i].sign_key, keys[i].public, 32);
        fill_key(certs[i].link_key, 50 + i);
    }
    return 0;
}

static struct parts whole(void)
{
    struct parts p = {.root = &root, .domain = "site", .n = DEPTH};
    for (int i = 0; i <= DEPTH; i++) {
        Sitetree__SiteCertificate *m = &p.cert[i];
        *m = (Sitetree__SiteCertificate)SITETREE__SITE_CERTIFICATE__INIT;
        m->hierarchy = pb_bytes(view_of(hierarchy.b, 32));
        m->code = certs[i].code.s;
        m->parent = certs[i].parent.s;
        m->tier = (char *)(uintptr_t)tier_word(certs[i].tier);
        m->sign_key = pb_bytes(view_of(certs[i].sign_key, 32));
        m->link_key = pb_bytes(view_of(certs[i].link_key, 32));
        m->serial = 5;
        p.signer[i] = i ? &keys[i - 1] : NULL;
    }
    p.trust = (Sitetree__Trust)SITETREE__TRUST__INIT;
    p.trust.hierarchy = pb_bytes(view_of(hierarchy.b, 32));
    p.trust.version = 1;
    p.trust.root_key = pb_bytes(view_of(root.public, 32));
    p.trust.head_key = pb_bytes(view_of(head.public, 32));
    return p;
}

static void sign(const ProtobufCMessage *m, const struct sign_key *key, const char *domain,
    Sitetree__Signed *s, struct buf *payload, uint8_t signature[64])
{
    message_pack(m, payload);
    sign_detached(key, domain, buf_view(payload), signature);
    *s = (Sitetree__Signed)SITETREE__SIGNED__INIT;
    s->payload = pb_bytes(buf_view(payload));
    s->signature = pb_bytes(view_of(signature, 64));
}

static int verify(struct parts *p, struct identity *id)
{
    Sitetree__Signed s[DEPTH + 1], *list[DEPTH];
    struct buf payload[DEPTH + 1] = {0};
    uint8_t signature[DEPTH + 1][64];
    if (p->trust.version != 77)
        p->trust.central = &p->cert[0];
    sign(&p->trust.base, p->root, "trust", &s[0], &payload[0], signature[0]);
    for (unsigned i = 1; i <= p->n; i++) {
        sign(&p->cert[i].base, p->signer[i], p->domain, &s[i], &payload[i], signature[i]);
        list[i - 1] = &s[i];
    }
    if (p->swap) {
        Sitetree__Signed *x = list[0];
        list[0] = list[1];
        list[1] = x;
    }
    if (p->cut_signature)
        s[2].signature.len = 63;
    if (p->foreign_key)
        s[1].key = pb_bytes(view_of(stranger.public, 32));
    Sitetree__Chain chain = SITETREE__CHAIN__INIT;
    chain.trust = p->no_trust ? NULL : &s[0];
    chain.certificates = list;
    chain.n_certificates = p->n;
    int rc = chain_verify(&chain, &hierarchy, id);
    for (int i = 0; i <= DEPTH; i++)
        buf_done(&payload[i]);
    return rc;
}

static void test_good(void **state)
{
    (void)state;
    struct parts p = whole();
    struct identity id;
    assert_int_equal(0, verify(&p, &id));
    assert_int_equal(DEPTH, id.depth);
    assert_string_equal("B111", identity_site(&id)->code.s);
    assert_string_equal("S11", identity_site(&id)->parent.s);
    assert_memory_equal(head.public, id.head_key, 32);
    p = whole();
    p.n = 0;
    assert_int_equal(0, verify(&p, &id));
    assert_int_equal(TIER_CENTRAL, identity_site(&id)->tier);
}

static void refuse(struct parts p, int code, const char *why)
{
    struct identity id;
    memset(&id, 0x5a, sizeof id);
    struct identity before = id;
    int rc = verify(&p, &id);
    if (rc != code)
        fail_msg("%s: %s (%s), expected %s", why, err_word(rc), err_text(rc), err_word(code));
    assert_memory_equal(&before, &id, sizeof id); /* nothing of it is used */
}

static void test_signers(void **state)
{
    (void)state;
    for (int i = 1; i <= DEPTH; i++) {
        struct parts p = whole();
        p.signer[i] = &stranger;
        refuse(p, ERR_SIGNATURE, "signed by a stranger");
        p = whole();
        p.signer[i] = &keys[i]; /* by itself */
        refuse(p, ERR_SIGNATURE, "signed by itself");
    }
    struct parts p = whole();
    p.signer[2] = &keys[0]; /* by its grandparent */
    refuse(p, ERR_SIGNATURE, "signed by the grandparent");
    p = whole();
    p.root = &stranger;
    refuse(p, ERR_SIGNATURE, "trust signed by a stranger");
    p = whole();
    p.root = &stranger;
    p.trust.root_key = pb_bytes(view_of(stranger.public, 32));
    refuse(p, ERR_KEY, "another root");
    p = whole();
    p.domain = "report";
    refuse(p, ERR_SIGNATURE, "signed for another purpose");
    p = whole();
    p.cut_signature = true;
    refuse(p, ERR_SIGNATURE, "signature cut");
    p = whole();
    p.foreign_key = true;
    refuse(p, ERR_KEY, "names another key");
    p = whole();
    p.swap = true;
    refuse(p, ERR_SIGNATURE, "wrong order");
    p = whole();
    p.no_trust = true;
    refuse(p, ERR_MALFORMED, "no trust statement");
    p = whole();
    p.trust.version = 77;
    refuse(p, ERR_MALFORMED, "no central site");
}

static void test_fields(void **state)
{
    (void)state;
    static uint8_t zeros[32], other[32] = {1};
    struct parts p;
#define BROKEN(code, change)                                                                                 \
    p = whole();                                                                                             \
    change;                                                                                                  \
    refuse(p, code, #change)
    BROKEN(ERR_MALFORMED, p.trust.version = 0);
    BROKEN(ERR_KEY, p.trust.hierarchy = pb_bytes(view_of(other, 32)));
    BROKEN(ERR_MALFORMED, p.trust.root_key.len = 31);
    BROKEN(ERR_MALFORMED, p.trust.head_key.len = 0);
    BROKEN(ERR_KEY, p.trust.head_key = pb_bytes(view_of(zeros, 32)));
    for (int i = 0; i <= DEPTH; i++) {
        BROKEN(ERR_KEY, p.cert[i].hierarchy = pb_bytes(view_of(other, 32)));
        BROKEN(ERR_KEY, p.cert[i].hierarchy.len = 0);
        BROKEN(ERR_MALFORMED, p.cert[i].code = (char *)(uintptr_t) "");
        BROKEN(ERR_MALFORMED, p.cert[i].code = (char *)(uintptr_t) "a/b");
        BROKEN(ERR_KEY, p.cert[i].parent = (char *)(uintptr_t) "X");
        BROKEN(ERR_MALFORMED, p.cert[i].tier = (char *)(uintptr_t) "lord");
        BROKEN(ERR_MALFORMED, p.cert[i].tier = (char *)(uintptr_t)(i ? "central" : "primary"));
        BROKEN(ERR_MALFORMED, p.cert[i].sign_key.len = 33);
        BROKEN(ERR_KEY, p.cert[i].sign_key = pb_bytes(view_of(zeros, 32)));
        BROKEN(ERR_KEY, p.cert[i].link_key = pb_bytes(view_of(zeros, 32)));
        BROKEN(ERR_MALFORMED, p.cert[i].link_key.len = 16);
        BROKEN(ERR_MALFORMED, p.cert[i].serial = 0);
    }
    BROKEN(ERR_MALFORMED, p.cert[3].tier = (char *)(uintptr_t) "primary"); /* above its parent's tier */
    BROKEN(ERR_LOOP, p.cert[2].code = p.cert[0].code; p.cert[3].parent = p.cert[0].code);
}

static void test_made_chains_verify(void **state)
{
    (void)state;
    AUTO_BUF chain = {0};
    assert_int_equal(0, trust_make(&root, 1, head.public, &certs[0], &chain));
    for (int i = 1; i <= DEPTH; i++) {
        AUTO_BUF payload = {0};
        AUTO_BUF longer = {0};
        uint8_t signature[64];
        assert_int_equal(0, certificate_make(&hierarchy, &certs[i], &keys[i - 1], &payload, signature));
        Sitetree__Signed s = SITETREE__SIGNED__INIT;
        s.payload = pb_bytes(buf_view(&payload));
        s.signature = pb_bytes(view_of(signature, 64));
        assert_int_equal(0, chain_extend(buf_view(&chain), &s, &longer));
        buf_reset(&chain);
        buf_append_view(&chain, buf_view(&longer));
    }
    struct identity id;
    struct hash h;
    assert_int_equal(0, chain_verify_bytes(buf_view(&chain), &hierarchy, &id));
    assert_int_equal(DEPTH, id.depth);
    assert_int_equal(0, chain_hierarchy(buf_view(&chain), &h));
    assert_true(hash_eq(&h, &hierarchy));
    struct hash another = {{9}};
    assert_int_equal(ERR_KEY, chain_verify_bytes(buf_view(&chain), &another, &id));
    for (size_t n = 0; n < chain.len; n += 7) { /* cut anywhere, or one bit turned */
        assert_int_not_equal(0, chain_verify_bytes(view_of(chain.data, n), &hierarchy, &id));
        chain.data[n] ^= 1;
        int rc = chain_verify_bytes(buf_view(&chain), &hierarchy, &id);
        chain.data[n] ^= 1;
        if (rc == 0)
            fail_msg("byte %zu does not matter", n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_signers),
        cmocka_unit_test(test_fields), cmocka_unit_test(test_made_chains_verify)};
    return cmocka_run_group_tests(tests, group_setup, NULL);
}

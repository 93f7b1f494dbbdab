#include "services/node/trust.h"

#include <stdio.h>

#include "common/wire/frame.h"

#define PAYLOAD_MAX 4096

static const char *const tier_words[] = {"central", "primary", "secondary", "branch"};

const char *tier_word(enum tier tier)
{
    INVARIANT((unsigned)tier < TIER_COUNT);
    return tier_words[tier];
}

int tier_parse(const char *word, enum tier *ret_tier)
{
    for (unsigned i = 0; i < TIER_COUNT; i++)
        if (strcmp(word, tier_words[i]) == 0) {
            *ret_tier = (enum tier)i;
            return 0;
        }
    return err_fail(ERR_MALFORMED, "'%.20s' is not a tier (central, primary, secondary, branch)", word);
}

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; /* protobuf-c only reads it when it packs */
}

static size_t consent_bytes(
    const struct hash *hierarchy, const char *code, const char *parent, uint64_t move, uint8_t out[256])
{
    AUTO_BUF b = {0};
    buf_append(&b, hierarchy->b, 32);
    buf_u8(&b, (uint8_t)strlen(code));
    buf_str(&b, code);
    buf_u8(&b, (uint8_t)strlen(parent));
    buf_str(&b, parent);
    buf_be64(&b, move);
    INVARIANT(b.err || b.len <= 256);
    if (!b.err)
        memcpy(out, b.data, b.len);
    return b.err ? 0 : b.len;
}

void consent_make(const struct hash *hierarchy, const char *code, const char *parent, uint64_t move,
    const struct sign_key *site, uint8_t ret_consent[64])
{
    uint8_t bytes[256];
    size_t n = consent_bytes(hierarchy, code, parent, move, bytes);
    memset(ret_consent, 0, 64); /* stands where there is no memory: nobody takes it */
    if (n)
        sign_detached(site, "move", view_of(bytes, n), ret_consent);
}

int consent_verify(const struct hash *hierarchy, const char *code, const char *parent, uint64_t move,
    const uint8_t sign_key[32], struct view consent)
{
    uint8_t bytes[256];
    size_t n = consent_bytes(hierarchy, code, parent, move, bytes);
    return n ? err_wrap(sign_verify(sign_key, "move", view_of(bytes, n), consent), "consent of %s", code)
             : -ENOMEM;
}

static void fill(Sitetree__SiteCertificate *m, const struct hash *hierarchy, const struct certificate *c)
{
    m->hierarchy = pb_bytes(view_of(hierarchy->b, 32));
    m->code = text(c->code.s);
    m->parent = text(c->parent.s);
    m->tier = text(tier_word(c->tier));
    m->sign_key = pb_bytes(view_of(c->sign_key, 32));
    m->link_key = pb_bytes(view_of(c->link_key, 32));
    m->serial = c->serial;
    m->issued = (uint64_t)c->issued.ns;
    m->move = c->move;
    m->consent = pb_bytes(view_of(c->consent, c->move ? sizeof c->consent : 0));
}

int trust_make(const struct sign_key *root, uint64_t version, const uint8_t head_key[32],
    const struct certificate *central, struct buf *out)
{
    struct hash hierarchy;
    hierarchy_id(root->public, &hierarchy);
    Sitetree__SiteCertificate cert = SITETREE__SITE_CERTIFICATE__INIT;
    fill(&cert, &hierarchy, central);
    Sitetree__Trust trust = SITETREE__TRUST__INIT;
    trust.hierarchy = pb_bytes(view_of(hierarchy.b, 32));
    trust.version = version;
    trust.root_key = pb_bytes(view_of(root->public, 32));
    trust.head_key = pb_bytes(view_of(head_key, 32));
    trust.central = &cert;
    AUTO_BUF payload = {0};
    message_pack(&trust.base, &payload);
    if (payload.err)
        return payload.err;
    uint8_t signature[64];
    sign_detached(root, "trust", buf_view(&payload), signature);
    Sitetree__Signed s = SITETREE__SIGNED__INIT;
    s.payload = pb_bytes(buf_view(&payload));
    s.signature = pb_bytes(view_of(signature, sizeof signature));
    s.key = pb_bytes(view_of(root->public, 32));
    Sitetree__Chain chain = SITETREE__CHAIN__INIT;
    chain.trust = &s;
    message_pack(&chain.base, out);
    return out->err;
}

int certificate_make(const struct hash *hierarchy, const struct certificate *cert,
    const struct sign_key *parent, struct buf *ret_payload, uint8_t ret_signature[64])
{
    Sitetree__SiteCertificate m = SITETREE__SITE_CERTIFICATE__INIT;
    fill(&m, hierarchy, cert);
    size_t before = ret_payload->len;
    message_pack(&m.base, ret_payload);
    if (ret_payload->err)
        return ret_payload->err;
    sign_detached(
        parent, "site", view_of(ret_payload->data + before, ret_payload->len - before), ret_signature);
    return 0;
}

int chain_extend(struct view parent_chain, const Sitetree__Signed *certificate, struct buf *out)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Chain *chain = MESSAGE_UNPACK(&a, parent_chain, TRUST_BYTES_MAX, chain, &rc);
    if (!chain)
        return rc;
    if (chain->n_certificates >= TRUST_DEPTH_MAX)
        return err_fail(ERR_TOO_LARGE, "the tree is %d levels deep already", TRUST_DEPTH_MAX);
    Sitetree__Signed *list[TRUST_DEPTH_MAX];
    for (size_t i = 0; i < chain->n_certificates; i++)
        list[i] = chain->certificates[i];
    list[chain->n_certificates] = (Sitetree__Signed *)(uintptr_t)certificate;
    Sitetree__Chain longer = SITETREE__CHAIN__INIT;
    longer.trust = chain->trust;
    longer.n_certificates = chain->n_certificates + 1;
    longer.certificates = list;
    message_pack(&longer.base, out);
    return out->err;
}

static int take_key(ProtobufCBinaryData b, const char *what, uint8_t ret_key[32])
{
    static const uint8_t zeros[32];
    if (b.len != 32)
        return err_fail(ERR_MALFORMED, "%s of %zu bytes, not 32", what, b.len);
    if (memcmp(b.data, zeros, 32) == 0)
        return err_fail(ERR_KEY, "%s is all zeros", what);
    memcpy(ret_key, b.data, 32);
    return 0;
}

static int same_hierarchy(ProtobufCBinaryData b, const struct hash *hierarchy)
{
    if (b.len != 32 || memcmp(b.data, hierarchy->b, 32) != 0)
        return err_fail(ERR_KEY, "made for another hierarchy");
    return 0;
}

/* parent is NULL for the central site's. */
static int certificate_take(const Sitetree__SiteCertificate *m, const struct hash *hierarchy,
    const struct certificate *parent, struct certificate *ret_certificate)
{
    struct certificate c = {.serial = m->serial, .issued = {(int64_t)m->issued}};
    int rc = same_hierarchy(m->hierarchy, hierarchy);
    if (!rc)
        rc = site_code_parse(view_str(m->code), &c.code);
    if (!rc)
        rc = tier_parse(m->tier, &c.tier);
    if (!rc)
        rc = take_key(m->sign_key, "the site's signing key", c.sign_key);
    if (!rc)
        rc = take_key(m->link_key, "the site's link key", c.link_key);
    if (rc)
        return rc;
    if (m->serial == 0)
        return err_fail(ERR_MALFORMED, "certificate without a serial");
    if (strcmp(m->parent, parent ? parent->code.s : "") != 0)
        return err_fail(ERR_KEY, "%s is certified below '%.31s', found below '%s'", c.code.s, m->parent,
            parent ? parent->code.s : "");
    if (parent)
        c.parent = parent->code;
    if ((c.tier == TIER_CENTRAL) != (parent == NULL) || (parent && c.tier < parent->tier))
        return err_fail(ERR_MALFORMED, "%s cannot be a %s site below a %s one", c.code.s, tier_word(c.tier),
            parent ? tier_word(parent->tier) : "missing");
    if (m->move) {
        rc = consent_verify(hierarchy, c.code.s, c.parent.s, m->move, c.sign_key, pb_view(m->consent));
        if (rc)
            return rc;
        c.move = m->move;
        memcpy(c.consent, m->consent.data, sizeof c.consent);
    }
    *ret_certificate = c;
    return 0;
}

static int signed_by(const Sitetree__Signed *s, const uint8_t key[32], const char *domain)
{
    if (!s || s->payload.len == 0 || s->payload.len > PAYLOAD_MAX)
        return err_fail(ERR_MALFORMED, "no signed %s", domain);
    if (s->key.len && (s->key.len != 32 || memcmp(s->key.data, key, 32) != 0))
        return err_fail(ERR_KEY, "a %s that another key than the expected one signed", domain);
    return sign_verify(key, domain, pb_view(s->payload), pb_view(s->signature));
}

int certificate_verify(const Sitetree__Signed *s, const struct hash *hierarchy,
    const struct certificate *parent, struct certificate *ret_certificate)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc = signed_by(s, parent->sign_key, "site");
    if (rc)
        return rc;
    Sitetree__SiteCertificate *m =
        MESSAGE_UNPACK(&a, pb_view(s->payload), PAYLOAD_MAX, site_certificate, &rc);
    return m ? certificate_take(m, hierarchy, parent, ret_certificate) : rc;
}

static int trust_verify(const Sitetree__Signed *s, const struct hash *hierarchy, struct identity *ret)
{
    AUTO_ARENA a;
    arena_init(&a);
    if (!s)
        return err_fail(ERR_MALFORMED, "a chain without a trust statement");
    int rc;
    Sitetree__Trust *t = MESSAGE_UNPACK(&a, pb_view(s->payload), PAYLOAD_MAX, trust, &rc);
    if (!t)
        return rc;
    uint8_t root[32];
    rc = take_key(t->root_key, "the root key", root);
    if (rc)
        return rc;
    struct hash id;
    hierarchy_id(root, &id);
    char want[15], got[15];
    if (!hash_eq(&id, hierarchy))
        return err_fail(ERR_KEY, "the root key is %s, expected %s", fingerprint_text(&id, got),
            fingerprint_text(hierarchy, want));
    rc = signed_by(s, root, "trust");
    if (!rc)
        rc = same_hierarchy(t->hierarchy, hierarchy);
    if (!rc)
        rc = take_key(t->head_key, "the head key", ret->head_key);
    if (rc)
        return rc;
    if (t->version == 0 || !t->central)
        return err_fail(ERR_MALFORMED, "a trust statement without version or central site");
    ret->hierarchy = *hierarchy;
    ret->trust_version = t->version;
    return certificate_take(t->central, hierarchy, NULL, &ret->path[0]);
}

int chain_verify(const Sitetree__Chain *chain, const struct hash *hierarchy, struct identity *ret_identity)
{
    struct identity id = {0};
    int rc = trust_verify(chain->trust, hierarchy, &id);
    if (rc)
        return err_wrap(rc, "trust statement");
    if (chain->n_certificates > TRUST_DEPTH_MAX)
        return err_fail(
            ERR_TOO_LARGE, "a chain of %zu certificates, at most %d", chain->n_certificates, TRUST_DEPTH_MAX);
    for (size_t i = 0; i < chain->n_certificates; i++) {
        rc = certificate_verify(chain->certificates[i], hierarchy, &id.path[i], &id.path[i + 1]);
        if (rc)
            return err_wrap(rc, "certificate %zu", i + 1);
        for (size_t j = 0; j <= i; j++)
            if (strcmp(id.path[j].code.s, id.path[i + 1].code.s) == 0)
                return err_fail(ERR_LOOP, "%s stands twice in its own chain", id.path[j].code.s);
    }
    id.depth = (unsigned)chain->n_certificates;
    *ret_identity = id;
    return 0;
}

int chain_verify_bytes(struct view chain, const struct hash *hierarchy, struct identity *ret_identity)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Chain *m = MESSAGE_UNPACK(&a, chain, TRUST_BYTES_MAX, chain, &rc);
    return m ? chain_verify(m, hierarchy, ret_identity) : rc;
}

int chain_hierarchy(struct view chain, struct hash *ret_hierarchy)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Chain *m = MESSAGE_UNPACK(&a, chain, TRUST_BYTES_MAX, chain, &rc);
    if (!m || !m->trust)
        return err_fail(ERR_MALFORMED, "not a certificate chain");
    Sitetree__Trust *t = MESSAGE_UNPACK(&a, pb_view(m->trust->payload), PAYLOAD_MAX, trust, &rc);
    return t ? hash_from_view(pb_view(t->hierarchy), ret_hierarchy) : rc;
}

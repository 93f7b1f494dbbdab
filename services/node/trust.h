/* Trust and site certificates: making them, and checking a chain from the hierarchy's fingerprint down to a
 * site. Nothing in a chain is believed before its signature, and nothing of it is used when any field is off.
 * Ownership: an identity is a value. Source: proto/trust.proto, docs/protocol.md. */
#pragma once
#include "common/base/id.h"
#include "common/crypto/crypto.h"
#include "proto/trust.pb-c.h"

#define TRUST_DEPTH_MAX 16
#define TRUST_BYTES_MAX 65536 /* of a whole chain */

enum tier { TIER_CENTRAL, TIER_PRIMARY, TIER_SECONDARY, TIER_BRANCH, TIER_COUNT };
const char *tier_word(enum tier tier);
int tier_parse(const char *word, enum tier *ret_tier) MUST_CHECK; /* ERR_MALFORMED */

/* What a certificate says, checked. */
struct certificate {
    struct site_code code, parent; /* parent is empty for the central site */
    enum tier tier;
    uint8_t sign_key[32], link_key[32];
    uint64_t serial;
    struct wall issued;
    uint64_t move; /* 0: it never came from another parent */
    uint8_t consent[64];
};
/* What a whole chain says, checked. */
struct identity {
    struct hash hierarchy;
    uint64_t trust_version;
    uint8_t head_key[32];
    unsigned depth;                               /* of the site below the central site */
    struct certificate path[TRUST_DEPTH_MAX + 1]; /* from the central site to the site itself: path[depth] */
};
static inline const struct certificate *identity_site(const struct identity *id)
{
    return &id->path[id->depth];
}

/* Appends the packed Chain of the central site: its certificate stands in the trust statement. version 1
 * begins a hierarchy, each later one replaces the one before. */
int trust_make(const struct sign_key *root, uint64_t version, const uint8_t head_key[32],
    const struct certificate *central, struct buf *out) MUST_CHECK;
/* Appends the packed SiteCertificate payload and gives its signature by the parent. */
int certificate_make(const struct hash *hierarchy, const struct certificate *cert,
    const struct sign_key *parent, struct buf *ret_payload, uint8_t ret_signature[64]) MUST_CHECK;
/* What a site signs that lets itself be certified by another parent: so no parent can take a site away from
 * another one, and the newest of its places is known by its own number. ERR_SIGNATURE. */
void consent_make(const struct hash *hierarchy, const char *code, const char *parent, uint64_t move,
    const struct sign_key *site, uint8_t ret_consent[64]);
int consent_verify(const struct hash *hierarchy, const char *code, const char *parent, uint64_t move,
    const uint8_t sign_key[32], struct view consent) MUST_CHECK;
/* Appends the packed chain that `parent_chain` (packed) makes with one more certificate. */
int chain_extend(struct view parent_chain, const Sitetree__Signed *certificate, struct buf *out) MUST_CHECK;

/* ERR_SIGNATURE, ERR_KEY (a key that is not the one the level above names, or all zeros), ERR_MALFORMED. */
int chain_verify(
    const Sitetree__Chain *chain, const struct hash *hierarchy, struct identity *ret_identity) MUST_CHECK;
int chain_verify_bytes(
    struct view chain, const struct hash *hierarchy, struct identity *ret_identity) MUST_CHECK;
/* The hierarchy that a chain claims, before it is checked (a new site compares it with its token). */
int chain_hierarchy(struct view chain, struct hash *ret_hierarchy) MUST_CHECK;
/* One certificate, signed by `parent` (checked already). */
int certificate_verify(const Sitetree__Signed *s, const struct hash *hierarchy,
    const struct certificate *parent, struct certificate *ret_certificate) MUST_CHECK;

/* Heads: what the central site signed. A parsed head owns its bytes and its scope list; it is never packed
 * again, the bytes are stored and relayed as they came. Source: protocol.md 2; docs/protocol.md, "What is
 * signed". */
#pragma once
#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "services/metadata/page.h"

#define SCOPE_NAME_MAX 127u
#define SCOPES_MAX 10000u

struct scope_entry {
    char name[SCOPE_NAME_MAX + 1];
    uint64_t serial, delta_floor, tombstone_floor, delta_bytes, live;
    struct subtree tree; /* root hash, records, bytes */
    struct hash delta;
};
struct head {
    struct epoch epoch;
    uint64_t epoch_counter, generation, trust_version;
    struct hash root, previous, hash; /* hash: of the payload */
    struct wall issued, expires;
    struct scope_entry *scopes; /* ascending by name */
    size_t n_scopes;
    struct blob *bytes; /* HeadBytes */
    uint64_t records, live;
};

/* Parses HeadBytes and checks everything that needs no memory of the past: signature, hierarchy, scope list
 * against the signed root, names in order. ERR_SIGNATURE, ERR_KEY (another hierarchy), ERR_ROOT,
 * ERR_MALFORMED. */
int head_parse(struct view bytes, const struct hash *hierarchy, const uint8_t head_key[32],
    struct head **ret_head) MUST_CHECK;
void head_free(struct head *h);                                               /* takes NULL */
const struct scope_entry *head_scope(const struct head *h, const char *name); /* NULL: not in it */
/* Whether `next` may follow `held` (NULL: nothing held): ERR_EPOCH, ERR_ROLLBACK, ERR_SIGNATURE for a fork
 * (same generation, other bytes, or the next one with another predecessor), ERR_EXPIRED. ERR_EXISTS when it
 * is the same head. */
int head_follows(const struct head *held, const struct head *next, struct wall now) MUST_CHECK;

/* For the origin: the payload to be signed, and the scope list it binds. */
void head_pack_scopes(const struct scope_entry *scopes, size_t n, struct buf *out);
void head_scopes_root(struct view scopes, struct hash *ret_root);
void head_pack_payload(const struct head *h, const struct hash *hierarchy, struct buf *out);
void head_hash(struct view payload, struct hash *ret_hash);
/* The signed payload (a packed Signed) and the scope list to HeadBytes. */
int head_pack_bytes(struct view signed_head, struct view scopes, struct buf *out) MUST_CHECK;

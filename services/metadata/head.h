/* Heads: what the central site signed. A parsed head owns its bytes and its scope list; it is never packed
 * again, the bytes are stored and relayed as they came. Source: protocol.md 2; docs/protocol.md, "What is
 * signed". */
#pragma once
#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "services/metadata/page.h"

#define SCOPE_NAME_MAX 127u
#define SCOPES_MAX 10000u
#define RECALLS_MAX 32u
#define REVOKED_BYTES_MAX (256u * 24u)

struct scope_entry {
    char name[SCOPE_NAME_MAX + 1];
    uint64_t serial, delta_floor, tombstone_floor, delta_bytes, live;
    struct subtree tree; /* root hash, records, bytes */
    struct hash delta;
};
/* An update that is expired from `generation` on, and shown so wherever the head is known (recall.c). */
struct recall {
    uint64_t generation;
    struct wall at;
    uint16_t id_len;
    uint8_t id[RECORD_KEY_MAX];
};
/* Whose signature counts: what the root key has last vouched for. */
struct head_trust {
    struct hash hierarchy;
    uint64_t version;
    uint8_t head_key[32];
};
struct head {
    struct head_trust trust;    /* the one it was signed under */
    struct buf trust_statement; /* the packed Signed that came with it; empty: none */
    struct epoch epoch;
    uint64_t epoch_counter, generation, trust_version;
    struct hash root, previous, hash; /* hash: of the payload */
    struct wall issued, expires;
    struct scope_entry *scopes; /* ascending by name */
    size_t n_scopes;
    struct recall *recalls; /* ascending by generation */
    size_t n_recalls;
    struct buf revoked; /* certificates that were taken back; the node knows what the bytes mean */
    struct blob *bytes; /* HeadBytes */
    uint64_t records, live;
};

/* Parses HeadBytes and checks everything that needs no memory of the past: signature, hierarchy, scope list
 * against the signed root, names in order. A trust statement that comes along and is newer than `have`
 * counts, once its own signature by the hierarchy's root key is right; a head that was signed under an older
 * one is refused. ERR_SIGNATURE, ERR_KEY (another hierarchy or key, or a key that was withdrawn), ERR_ROOT,
 * ERR_MALFORMED. */
int head_parse(struct view bytes, const struct head_trust *have, struct head **ret_head) MUST_CHECK;
/* A head from the own store: it was checked when it came, maybe under a trust that is older than today's. */
int head_parse_stored(struct view bytes, const struct head_trust *have, struct head **ret_head) MUST_CHECK;
void head_free(struct head *h);                                               /* takes NULL */
const struct scope_entry *head_scope(const struct head *h, const char *name); /* NULL: not in it */
/* Whether `next` may follow `held` (NULL: nothing held): ERR_EPOCH, ERR_ROLLBACK, ERR_SIGNATURE for a fork
 * (same generation, other bytes, or the next one with another predecessor), ERR_EXPIRED. ERR_EXISTS when it
 * is the same head. */
int head_follows(const struct head *held, const struct head *next, struct wall now) MUST_CHECK;

bool head_newer(const struct head *a, const struct head *b); /* of a later epoch, or of a later generation */

/* For the origin: the payload to be signed, and the scope list it binds. */
void head_pack_scopes(const struct scope_entry *scopes, size_t n, const struct recall *recalls,
    size_t n_recalls, struct view revoked, struct buf *out);
void head_scopes_root(struct view scopes, struct hash *ret_root);
void head_pack_payload(const struct head *h, const struct hash *hierarchy, struct buf *out);
void head_hash(struct view payload, struct hash *ret_hash);
/* The signed payload (a packed Signed), the scope list and the trust statement (may be empty) to HeadBytes.
 */
int head_pack_bytes(
    struct view signed_head, struct view scopes, struct view trust, struct buf *out) MUST_CHECK;

/* What is asked and answered when a site joins: both ends make and check it here, without network or disk.
 * Ownership: requests and results are values. Threading: none shared. Source: proto/link.proto, Join. */
#pragma once
#include "common/wire/frame.h"
#include "services/node/token.h"

struct join_request {
    struct site_code code;
    uint8_t sign_key[32], link_key[32];
    uint64_t move; /* 0: a site that is new; checked with consent_verify */
    uint8_t consent[64];
};
/* move: with a token for one, the number of it. NULL on no memory. */
struct blob *join_request_make(uint64_t request, uint64_t move, const struct token *token,
    const struct sign_key *sign, const struct link_key *link);
/* ERR_TOKEN (another hierarchy), ERR_SIGNATURE, ERR_KEY, ERR_MALFORMED. */
int join_request_check(
    const struct frame *f, const struct hash *hierarchy, struct join_request *ret_request) MUST_CHECK;
/* Appends a packed Joined. */
int joined_make(struct view chain, const struct node_place *places, unsigned n_places, uint64_t generation,
    uint64_t records, struct buf *out) MUST_CHECK;
struct joined {
    struct identity identity;
    struct node_place parents[NODE_PARENTS_MAX];
    unsigned n_parents;
    uint64_t generation, records;
};
/* Checks the answer against token and keys, and appends the site's chain. ERR_SIGNATURE, ERR_KEY,
 * ERR_MALFORMED. */
int joined_check(struct view bytes, const struct token *token, const struct sign_key *sign,
    const struct link_key *link, struct joined *ret_joined, struct buf *ret_chain) MUST_CHECK;
/* Packed Joined (DIR/parents) to places. */
int joined_places(
    struct view bytes, struct node_place ret_places[NODE_PARENTS_MAX], unsigned *ret_n) MUST_CHECK;

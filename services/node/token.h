/* Invitation tokens: one line of text that a person pastes. Checked as a whole before the network is touched.
 * Ownership: a token is a value that holds a secret: token_done wipes it. Source: proto/trust.proto, Token.
 */
#pragma once
#include "services/node/node.h"
#include "services/node/trust.h"

struct token {
    struct hash hierarchy;
    struct site_code code, parent;
    enum tier tier;
    uint8_t secret[32]; /* seed of the one CURVE key that may join with it */
    struct wall expires;
    bool move; /* for a site that is in the tree already */
    unsigned n_parents;
    struct node_place parents[NODE_PARENTS_MAX]; /* parent first */
};

/* Appends "st1-..." */
int token_encode(const struct token *t, struct buf *out) MUST_CHECK;
/* ERR_TOKEN with what is wrong: a typing error, cut off, another version, a field that is off. White space
 * around it and line breaks within (a mail program's) are forgiven. Expiry is not checked here. */
int token_decode(const char *text, struct token *ret_token) MUST_CHECK;
void token_done(struct token *t);

int place_take(const Sitetree__Place *m, struct node_place *ret_place) MUST_CHECK;
/* Fills m, which borrows from p. */
void place_fill(Sitetree__Place *m, const struct node_place *p);
/* A packed Place: what EFFECT_CONNECT carries. NULL on no memory. */
struct blob *place_blob(const struct node_place *p);
int place_of_blob(struct view bytes, struct node_place *ret_place) MUST_CHECK;
/* "host:port" with a port of 1 to 65535; ERR_MALFORMED. */
int endpoint_check(const char *endpoint) MUST_CHECK;

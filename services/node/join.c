#include "services/node/join.h"

#include "proto/link.pb-c.h"

/* What the new site signs with the key that it wants certified: so nobody can have a key of somebody else
 * certified. */
static void proof_bytes(const struct hash *hierarchy, const char *code, const uint8_t sign_key[32],
    const uint8_t link_key[32], struct buf *out)
{
    buf_append(out, hierarchy->b, 32);
    buf_str(out, code);
    buf_append(out, sign_key, 32);
    buf_append(out, link_key, 32);
}

struct blob *join_request_make(uint64_t request, uint64_t move, const struct token *token,
    const struct sign_key *sign, const struct link_key *link)
{
    AUTO_BUF proof = {0};
    uint8_t signature[64];
    proof_bytes(&token->hierarchy, token->code.s, sign->public, link->public, &proof);
    if (proof.err)
        return NULL;
    sign_detached(sign, "join", buf_view(&proof), signature);
    Sitetree__Join m = SITETREE__JOIN__INIT;
    m.hierarchy = pb_bytes(view_of(token->hierarchy.b, 32));
    m.code = (char *)(uintptr_t)token->code.s;
    m.sign_key = pb_bytes(view_of(sign->public, 32));
    m.link_key = pb_bytes(view_of(link->public, 32));
    m.proof = pb_bytes(view_of(signature, sizeof signature));
    uint8_t consent[64];
    if (token->move) {
        consent_make(&token->hierarchy, token->code.s, token->parent.s, move, sign, consent);
        m.move = move;
        m.consent = pb_bytes(view_of(consent, sizeof consent));
    }
    m.software = (char *)(uintptr_t)SITETREE_VERSION;
    return frame_pack(FRAME_JOIN, 1, request, NULL, &m.base, false);
}

static int key_take(ProtobufCBinaryData b, uint8_t ret_key[32])
{
    static const uint8_t zeros[32];
    if (b.len != 32 || memcmp(b.data, zeros, 32) == 0)
        return err_fail(ERR_KEY, "a key of %zu bytes, or of zeros", b.len);
    memcpy(ret_key, b.data, 32);
    return 0;
}

int join_request_check(const struct frame *f, const struct hash *hierarchy, struct join_request *ret_request)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    struct join_request j = {0};
    Sitetree__Join *m = FRAME_UNPACK(&a, f, join, &rc);
    if (!m)
        return rc;
    if (m->hierarchy.len != 32 || memcmp(m->hierarchy.data, hierarchy->b, 32) != 0)
        return err_fail(ERR_TOKEN, "the invitation belongs to another tree");
    rc = site_code_parse(view_str(m->code), &j.code);
    if (!rc)
        rc = key_take(m->sign_key, j.sign_key);
    if (!rc)
        rc = key_take(m->link_key, j.link_key);
    if (rc)
        return rc;
    AUTO_BUF proof = {0};
    proof_bytes(hierarchy, j.code.s, j.sign_key, j.link_key, &proof);
    if (proof.err)
        return proof.err;
    rc = sign_verify(j.sign_key, "join", buf_view(&proof), pb_view(m->proof));
    if (rc)
        return err_wrap(rc, "proof of %s", j.code.s);
    if (m->move && m->consent.len != sizeof j.consent)
        return err_fail(ERR_MALFORMED, "a consent of %zu bytes", m->consent.len);
    if (m->move) {
        j.move = m->move;
        memcpy(j.consent, m->consent.data, sizeof j.consent);
    }
    *ret_request = j;
    return 0;
}

int joined_make(struct view chain, const struct node_place *places, unsigned n_places, uint64_t generation,
    uint64_t records, struct buf *out)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Joined m = SITETREE__JOINED__INIT;
    Sitetree__Place list[NODE_PARENTS_MAX], *pointers[NODE_PARENTS_MAX];
    INVARIANT(n_places <= NODE_PARENTS_MAX);
    m.chain = MESSAGE_UNPACK(&a, chain, TRUST_BYTES_MAX, chain, &rc);
    if (!m.chain)
        return rc;
    for (unsigned i = 0; i < n_places; i++) {
        list[i] = (Sitetree__Place)SITETREE__PLACE__INIT;
        place_fill(&list[i], &places[i]);
        pointers[i] = &list[i];
    }
    m.parents = pointers;
    m.n_parents = n_places;
    m.generation = generation;
    m.records = records;
    message_pack(&m.base, out);
    return out->err;
}

static int places_take(const Sitetree__Joined *m, struct node_place places[NODE_PARENTS_MAX], unsigned *ret_n)
{
    if (m->n_parents == 0 || m->n_parents > NODE_PARENTS_MAX)
        return err_fail(
            ERR_MALFORMED, "%zu parents are named, 1 to %d are possible", m->n_parents, NODE_PARENTS_MAX);
    for (size_t i = 0; i < m->n_parents; i++) {
        int rc = place_take(m->parents[i], &places[i]);
        if (rc)
            return rc;
    }
    *ret_n = (unsigned)m->n_parents;
    return 0;
}

int joined_places(struct view bytes, struct node_place ret_places[NODE_PARENTS_MAX], unsigned *ret_n)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Joined *m = MESSAGE_UNPACK(&a, bytes, TRUST_BYTES_MAX, joined, &rc);
    return m ? places_take(m, ret_places, ret_n) : rc;
}

static int own_certificate(const struct identity *id, const struct token *t, const struct sign_key *sign,
    const struct link_key *link)
{
    const struct certificate *c = identity_site(id);
    if (id->depth == 0 || strcmp(c->code.s, t->code.s) != 0 || strcmp(c->parent.s, t->parent.s) != 0)
        return err_fail(ERR_KEY, "the parent certified %s below %s, the token says %s below %s", c->code.s,
            c->parent.s, t->code.s, t->parent.s);
    if (c->tier != t->tier)
        return err_fail(ERR_KEY, "the parent certified a %s site, the token says %s", tier_word(c->tier),
            tier_word(t->tier));
    if (memcmp(c->sign_key, sign->public, 32) != 0 || memcmp(c->link_key, link->public, 32) != 0)
        return err_fail(ERR_KEY, "the parent certified other keys than the ones of this site");
    return 0;
}

int joined_check(struct view bytes, const struct token *token, const struct sign_key *sign,
    const struct link_key *link, struct joined *ret_joined, struct buf *ret_chain)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    struct joined j = {0};
    Sitetree__Joined *m = MESSAGE_UNPACK(&a, bytes, TRUST_BYTES_MAX, joined, &rc);
    if (!m)
        return rc;
    if (!m->chain)
        return err_fail(ERR_MALFORMED, "an answer without certificates");
    rc = chain_verify(m->chain, &token->hierarchy, &j.identity);
    if (!rc)
        rc = own_certificate(&j.identity, token, sign, link);
    if (!rc)
        rc = places_take(m, j.parents, &j.n_parents);
    if (!rc && strcmp(j.parents[0].code.s, token->parent.s) != 0)
        rc = err_fail(
            ERR_KEY, "the first parent is %s, the token says %s", j.parents[0].code.s, token->parent.s);
    if (rc)
        return rc;
    j.generation = m->generation;
    j.records = m->records;
    message_pack(&m->chain->base, ret_chain);
    *ret_joined = j;
    return ret_chain->err;
}

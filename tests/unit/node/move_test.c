/* A site moves: nobody takes it away without its word, and the newest of its words counts. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pump p;
static int p01, p02, b11, c11;

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    p01 = pump_join(&p, 0, "P01", "primary");
    p02 = pump_join(&p, 0, "P02", "primary");
    b11 = pump_join(&p, p01, "B11", "branch");
    c11 = pump_join(&p, b11, "C11", "branch");
    pump_run(&p, 3 * NS_PER_S);
    return p01 > 0 && p02 > 0 && b11 > 0 && c11 > 0 ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

static json_t *invite(int at, const char *code, bool move)
{
    return pump_command(&p, at,
        "{\"command\":\"site.invite\",\"args\":{\"site\":\"%s\",\"tier\":\"branch\",\"move\":%s}}", code,
        move ? "true" : "false");
}

static struct token token_at(int at, const char *code, bool move, char user[64])
{
    struct token t;
    struct link_key door;
    json_t *j = invite(at, code, move);
    assert_int_equal(
        0, token_decode(json_string_value(json_object_get(json_object_get(j, "data"), "token")), &t));
    assert_true(t.move == move);
    link_key_from_seed(t.secret, &door);
    copy_text(user, 64, pump_user(&p, at, door.public));
    return t;
}

/* The refusal's code, or 0 and the chain. */
static int ask(int at, const char *user, struct blob *request, struct buf *chain)
{
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    assert_int_equal(0, pump_frame(&p, at, ++p.next_session, user, request));
    rc = refusal_code(p.stray);
    if (rc)
        return rc;
    assert_int_equal(0, frame_parse(blob_view(p.stray), &f));
    Sitetree__Joined *m = FRAME_UNPACK(&a, &f, joined, &rc);
    assert_non_null(m);
    buf_reset(chain);
    message_pack(&m->chain->base, chain);
    return chain->err;
}

static const char *parent_at(int i, const char *code)
{
    const struct site *site = site_look(p.nodes[i].node, code);
    return site && site->known ? site->cert.parent.s : "";
}

static void send_chain(int from, struct view bytes)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    Sitetree__Chain *chain = MESSAGE_UNPACK(&a, bytes, TRUST_BYTES_MAX, chain, &rc);
    assert_non_null(chain);
    m.chains = &chain;
    m.n_chains = 1;
    assert_int_equal(
        0, pump_frame(&p, 0, p.nodes[from].session, pump_user(&p, 0, p.nodes[from].keys.link.public),
               frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false)));
}

static void test_by_its_own_word(void **state)
{
    (void)state;
    char user[64];
    AUTO_BUF chain = {0};
    const struct node_keys *k = &p.nodes[b11].keys;
    struct token t = token_at(p02, "B11", true, user);
    assert_int_equal(0, ask(p02, user, join_request_make(7, 1000, &t, &k->site, &k->link), &chain));
    assert_string_equal("P02", parent_at(p02, "B11"));
    pump_run(&p, 3 * NS_PER_S);
    assert_string_equal("P02", parent_at(0, "B11"));
    assert_string_equal("B11", parent_at(0, "C11")); /* and all below */
    assert_true(site_is_below(site_look(p.nodes[0].node, "C11"), site_look(p.nodes[0].node, "P02")));
    uint64_t before = p.nodes[0].node->refusals;
    send_chain(p01, buf_view(&p.nodes[b11].chain)); /* P01 has not heard of it */
    assert_string_equal("P02", parent_at(0, "B11"));
    assert_int_equal(before, p.nodes[0].node->refusals);
    assert_false(pump_event(&p, 0, "site.conflict"));
    pump_restart(&p, 0);
    assert_string_equal("P02", parent_at(0, "B11"));
    token_done(&t);
}

static void test_not_without_it(void **state)
{
    (void)state;
    char user[64];
    AUTO_BUF chain = {0};
    const struct node_keys *k = &p.nodes[b11].keys, *other = &p.nodes[c11].keys;
    struct token t = token_at(p02, "B11", true, user);
    struct token plain = t, elsewhere = t;
    plain.move = false;
    COPY_TEXT(elsewhere.parent.s, "P01"); /* its consent names another parent */
    assert_int_equal(ERR_TOKEN, ask(p02, user, join_request_make(7, 0, &plain, &k->site, &k->link), &chain));
    assert_int_equal(
        ERR_SIGNATURE, ask(p02, user, join_request_make(7, 5, &elsewhere, &k->site, &k->link), &chain));
    token_done(&t);
    /* another key than that of the site, where the site is known */
    struct token top = token_at(0, "B11", true, user);
    assert_int_equal(
        ERR_EXISTS, ask(0, user, join_request_make(7, 5, &top, &other->site, &other->link), &chain));
    token_done(&top);
    /* a parent that certifies it by itself: with a forged consent nobody takes it, without one it is a
     * conflict */
    struct certificate cert = *identity_site(&p.nodes[b11].node->id);
    COPY_TEXT(cert.parent.s, "P02");
    for (unsigned i = 0; i < 2; i++) {
        AUTO_BUF payload = {0};
        AUTO_BUF longer = {0};
        uint8_t signature[64];
        cert.move = i ? 9 : 0;
        consent_make(&p.hierarchy, "B11", "P02", 9, &p.nodes[p02].keys.site, cert.consent);
        assert_int_equal(
            0, certificate_make(&p.hierarchy, &cert, &p.nodes[p02].keys.site, &payload, signature));
        Sitetree__Signed m = SITETREE__SIGNED__INIT;
        m.payload = pb_bytes(buf_view(&payload));
        m.signature = pb_bytes(view_of(signature, 64));
        assert_int_equal(0, chain_extend(buf_view(&p.nodes[p02].chain), &m, &longer));
        uint64_t before = p.nodes[0].node->refusals;
        send_chain(p02, buf_view(&longer));
        assert_int_equal(before + 1, p.nodes[0].node->refusals);
        assert_string_equal("P01", parent_at(0, "B11"));
    }
}

static void test_the_newest_word_counts(void **state)
{
    (void)state;
    char user[64];
    AUTO_BUF first = {0};
    AUTO_BUF second = {0};
    const struct node_keys *k = &p.nodes[b11].keys;
    struct token t = token_at(p02, "B11", true, user);
    assert_int_equal(0, ask(p02, user, join_request_make(7, 1000, &t, &k->site, &k->link), &first));
    token_done(&t);
    pump_run(&p, 3 * NS_PER_S);
    t = token_at(0, "B11", true, user);
    assert_int_equal(ERR_ROLLBACK, ask(0, user, join_request_make(7, 1000, &t, &k->site, &k->link), &second));
    assert_int_equal(0, ask(0, user, join_request_make(7, 1001, &t, &k->site, &k->link), &second));
    token_done(&t);
    send_chain(p02, buf_view(&first));
    assert_string_equal("CEN", parent_at(0, "B11"));
}

static void test_where_it_cannot_go(void **state)
{
    (void)state;
    assert_string_equal("exists", json_string_value(json_object_get(invite(p01, "B11", true), "code")));
    assert_string_equal("path-loop", json_string_value(json_object_get(invite(c11, "B11", true), "code")));
    assert_string_equal("path-loop", json_string_value(json_object_get(invite(b11, "B11", true), "code")));
    assert_string_equal("exists", json_string_value(json_object_get(invite(0, "B11", false), "code")));
}

static void test_a_chain_from_the_parent(void **state)
{
    (void)state;
    char user[64];
    AUTO_BUF moved = {0};
    AUTO_ARENA a;
    arena_init(&a);
    a.cap = 1u << 20;
    int rc;
    const struct node_keys *k = &p.nodes[b11].keys;
    struct token t = token_at(p02, "B11", true, user);
    assert_int_equal(0, ask(p02, user, join_request_make(7, 1000, &t, &k->site, &k->link), &moved));
    token_done(&t);
    Sitetree__Chain *old = MESSAGE_UNPACK(&a, buf_view(&p.nodes[b11].chain), TRUST_BYTES_MAX, chain, &rc);
    Sitetree__Chain *other = MESSAGE_UNPACK(&a, buf_view(&p.nodes[p02].chain), TRUST_BYTES_MAX, chain, &rc);
    Sitetree__Chain *fresh = MESSAGE_UNPACK(&a, buf_view(&moved), TRUST_BYTES_MAX, chain, &rc);
    assert_true(old && other && fresh);
    struct effects fx = {0};
    struct store_txn *txn;
    struct input in = {.now = p.now, .wall = p.wall};
    assert_int_equal(0, store_begin(p.nodes[c11].store, true, &txn));
    struct step s = {p.nodes[c11].node, txn, &in, &fx};
    assert_int_equal(ERR_KEY, chain_adopt(&s, other)); /* of a site that did not certify this one */
    assert_int_equal(0, chain_adopt(&s, fresh));
    assert_string_equal("P02", s.n->id.path[1].code.s);
    assert_int_equal(ERR_ROLLBACK, chain_adopt(&s, old)); /* from before the move */
    fresh->certificates[1]->signature.data[3] ^= 1;
    assert_int_equal(ERR_SIGNATURE, chain_adopt(&s, fresh));
    assert_int_equal(0, store_commit(txn));
    effects_done(&fx);
    pump_restart(&p, c11);
    assert_string_equal("P02", p.nodes[c11].node->id.path[1].code.s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_by_its_own_word), T(test_not_without_it),
        T(test_the_newest_word_counts), T(test_where_it_cannot_go), T(test_a_chain_from_the_parent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

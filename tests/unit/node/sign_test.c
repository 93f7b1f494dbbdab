/* The head key: a generation is never signed for two contents. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/catalogue.pb-c.h"

static struct pump p;

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

struct wish {
    uint64_t counter, generation, trust;
    int root, epoch;
    bool bad_hierarchy, short_root, expired;
};

/* 0 when it was signed and the signature holds; else the refusal's code. */
static int ask(int i, struct wish w)
{
    uint8_t epoch[16], root[32], zeros[32] = {0};
    memset(epoch, 1 + w.epoch, 16);
    memset(root, 1 + w.root, 32);
    Sitetree__Head h = SITETREE__HEAD__INIT;
    h.hierarchy = pb_bytes(view_of(w.bad_hierarchy ? zeros : p.hierarchy.b, 32));
    h.epoch = pb_bytes(view_of(epoch, 16));
    h.epoch_counter = w.counter;
    h.generation = w.generation;
    h.root = pb_bytes(view_of(root, w.short_root ? 31 : 32));
    h.previous = pb_bytes(view_of(zeros, 32));
    h.trust_version = w.trust ? w.trust : 1;
    h.issued = 100;
    h.expires = w.expired ? 100 : 200;
    AUTO_BUF payload = {0};
    message_pack(&h.base, &payload);
    Sitetree__SignHead m = SITETREE__SIGN_HEAD__INIT;
    m.payload = pb_bytes(buf_view(&payload));
    assert_int_equal(0, pump_worker(&p, i, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_SIGN_HEAD, 1, 33, NULL, &m.base, false)));
    struct blob *answer = p.nodes[i].to_worker[p.nodes[i].n_to_worker - 1].frame;
    if (refusal_code(answer))
        return refusal_code(answer);
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    assert_int_equal(0, frame_parse(blob_view(answer), &f));
    assert_int_equal(FRAME_SIGNED_HEAD, f.type);
    assert_int_equal(33, f.request);
    Sitetree__Signed *s = FRAME_UNPACK(&a, &f, signed, &rc);
    assert_non_null(s);
    assert_true(view_eq(buf_view(&payload), pb_view(s->payload)));
    return sign_verify(p.nodes[0].keys.head.public, "head", pb_view(s->payload), pb_view(s->signature));
}

static void test_generations(void **state)
{
    (void)state;
    assert_int_equal(0, ask(0, (struct wish){1, 1, .root = 0, .epoch = 0}));
    assert_int_equal(
        0, ask(0, (struct wish){1, 1, .root = 0, .epoch = 0})); /* the same bytes: the answer was lost */
    assert_int_equal(ERR_ROLLBACK,
        ask(0, (struct wish){1, 1, .root = 5, .epoch = 0})); /* the same generation, other contents */
    assert_int_equal(0, ask(0, (struct wish){1, 2, .root = 1, .epoch = 0}));
    assert_int_equal(ERR_ROLLBACK, ask(0, (struct wish){1, 1, .root = 0, .epoch = 0})); /* back */
    pump_restart(&p, 0);
    assert_int_equal(
        ERR_ROLLBACK, ask(0, (struct wish){1, 2, .root = 7, .epoch = 0})); /* it was stored before it left */
    assert_int_equal(0, ask(0, (struct wish){1, 9, .root = 1, .epoch = 0}));
    assert_true(pump_event(&p, 0, "sign.refused"));
}

static void test_epochs(void **state)
{
    (void)state;
    assert_int_equal(0, ask(0, (struct wish){3, 7, .root = 0, .epoch = 0}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){3, 8, .root = 0, .epoch = 1}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){2, 8, .root = 0, .epoch = 1}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){4, 8, .root = 0, .epoch = 0}));
    assert_int_equal(0, ask(0, (struct wish){4, 1, .root = 0, .epoch = 1}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){3, 9, .root = 0, .epoch = 0}));
}

static void test_fields(void **state)
{
    (void)state;
    assert_int_equal(ERR_KEY, ask(0, (struct wish){1, 1, .bad_hierarchy = true}));
    assert_int_equal(ERR_MALFORMED, ask(0, (struct wish){1, 1, .short_root = true}));
    assert_int_equal(ERR_MALFORMED, ask(0, (struct wish){1, 1, .expired = true}));
    assert_int_equal(ERR_MALFORMED, ask(0, (struct wish){1, 0}));
    int p01 = pump_join(&p, 0, "P01", "primary");
    assert_int_equal(ERR_NOT_CENTRAL, ask(p01, (struct wish){1, 1}));
}

static void test_a_write_that_fails(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 2; n++) {
        uint8_t bytes[32] = {7};
        Sitetree__Head h = SITETREE__HEAD__INIT;
        h.hierarchy = pb_bytes(view_of(p.hierarchy.b, 32));
        h.epoch = pb_bytes(view_of(bytes, 16));
        h.epoch_counter = h.generation = h.issued = h.trust_version = 1;
        h.expires = 2;
        h.root = h.previous = pb_bytes(view_of(bytes, 32));
        AUTO_BUF payload = {0};
        message_pack(&h.base, &payload);
        Sitetree__SignHead m = SITETREE__SIGN_HEAD__INIT;
        m.payload = pb_bytes(buf_view(&payload));
        unsigned before = p.nodes[0].n_to_worker;
        store_fail_after(p.nodes[0].store, n, ERR_MAP_FULL);
        assert_int_equal(ERR_MAP_FULL, pump_worker(&p, 0, (struct peer){PEER_NODE, 0}, "",
                                           frame_pack(FRAME_SIGN_HEAD, 1, 33, NULL, &m.base, false)));
        store_fail_after(p.nodes[0].store, 0, 0);
        assert_int_equal(before, p.nodes[0].n_to_worker); /* no signature has left */
        pump_restart(&p, 0);
    }
    assert_int_equal(0, ask(0, (struct wish){1, 1, .root = 0, .epoch = 0}));
}

/* What node 0 told its worker last about the head key. */
static uint64_t told_version(uint8_t ret_key[32])
{
    for (unsigned i = p.nodes[0].n_to_worker; i-- > 0;) {
        struct frame f;
        AUTO_ARENA a;
        arena_init(&a);
        int rc;
        assert_int_equal(0, frame_parse(blob_view(p.nodes[0].to_worker[i].frame), &f));
        Sitetree__SiteInfo *m = f.type == FRAME_SITE_INFO ? FRAME_UNPACK(&a, &f, site_info, &rc) : NULL;
        if (!m)
            continue;
        assert_int_equal(32, m->head_key.len);
        memcpy(ret_key, m->head_key.data, 32);
        return m->trust_version;
    }
    return 0;
}

/* A centre from a backup: this epoch may have gone on since, a new one is the operator's word. */
static void test_a_restored_centre(void **state)
{
    (void)state;
    struct store_txn *t;
    assert_int_equal(0, ask(0, (struct wish){1, 1}));
    assert_int_equal(0, store_begin(p.nodes[0].store, true, &t));
    table_number_put(t, RESTORED_WORD, 7);
    assert_int_equal(0, store_commit(t));
    pump_restart(&p, 0);
    pump_ready(&p, 0);
    assert_int_equal(ERR_FENCED, ask(0, (struct wish){1, 2}));
    assert_int_equal(ERR_FENCED, ask(0, (struct wish){1, 1})); /* the same bytes again as well */
    pump_restart(&p, 0);
    pump_ready(&p, 0);
    assert_int_equal(ERR_FENCED, ask(0, (struct wish){1, 2}));
    assert_int_equal(0, ask(0, (struct wish){2, 2, .epoch = 1}));
    assert_int_equal(0, ask(0, (struct wish){2, 3, .epoch = 1}));
    pump_restart(&p, 0);
    assert_int_equal(0, ask(0, (struct wish){2, 4, .epoch = 1}));
    assert_true(pump_event(&p, 0, "site.released"));
}

static void test_another_head_key(void **state)
{
    (void)state;
    struct pump_node *x = &p.nodes[0];
    struct node_keys keys = x->keys;
    const struct certificate cert = x->node->self.cert;
    uint8_t told[32];
    AUTO_BUF chain = {0};
    AUTO_BUF other = {0};
    struct sign_key thief;
    pump_ready(&p, 0);
    assert_int_equal(1, told_version(told));
    sign_key_new(&keys.head);
    sign_key_new(&thief);
    assert_int_equal(0, ask(0, (struct wish){1, 1, .trust = 1}));
    assert_int_equal(0, trust_make(&thief, 2, keys.head.public, &cert, &other));
    keys.chain = buf_view(&other);
    assert_int_equal(ERR_KEY, node_set_trust(x->node, &keys)); /* not the root key of this hierarchy */
    assert_int_equal(0, trust_make(&p.root, 2, keys.head.public, &cert, &chain));
    keys.chain = buf_view(&chain);
    keys.head = thief;
    assert_int_equal(ERR_KEY, node_set_trust(x->node, &keys)); /* a head key that it does not name */
    assert_int_equal(0, ask(0, (struct wish){1, 2, .trust = 1}));
    sign_key_new(&keys.head);
    buf_reset(&chain);
    assert_int_equal(0, trust_make(&p.root, 2, keys.head.public, &cert, &chain));
    keys.chain = buf_view(&chain);
    assert_int_equal(0, node_set_trust(x->node, &keys));
    json_t *answer = pump_command(&p, 0, "{\"command\":\"trust.reload\"}");
    assert_int_equal(2, json_integer_value(json_object_get(json_object_get(answer, "data"), "version")));
    assert_int_equal(2, told_version(told));
    assert_memory_equal(told, keys.head.public, 32);
    assert_true(pump_event(&p, 0, "trust.changed"));
    assert_int_equal(ERR_KEY, ask(0, (struct wish){1, 3, .trust = 1})); /* asked for before the change */
    x->keys.head = keys.head; /* ask() checks the signature with it */
    assert_int_equal(0, ask(0, (struct wish){2, 3, .trust = 2, .epoch = 1}));
    keys.chain = buf_view(&x->chain);
    assert_int_equal(ERR_KEY, node_set_trust(x->node, &keys)); /* back to version 1 */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_generations), T(test_epochs), T(test_fields),
        T(test_a_write_that_fails), T(test_another_head_key), T(test_a_restored_centre)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

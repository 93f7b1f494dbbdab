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
    uint64_t counter, generation;
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
    assert_int_equal(0, ask(0, (struct wish){1, 1, 0, 0}));
    assert_int_equal(0, ask(0, (struct wish){1, 1, 0, 0})); /* the same bytes: the answer was lost */
    assert_int_equal(
        ERR_ROLLBACK, ask(0, (struct wish){1, 1, 5, 0})); /* the same generation, other contents */
    assert_int_equal(0, ask(0, (struct wish){1, 2, 1, 0}));
    assert_int_equal(ERR_ROLLBACK, ask(0, (struct wish){1, 1, 0, 0})); /* back */
    pump_restart(&p, 0);
    assert_int_equal(ERR_ROLLBACK, ask(0, (struct wish){1, 2, 7, 0})); /* it was stored before it left */
    assert_int_equal(0, ask(0, (struct wish){1, 9, 1, 0}));
    assert_true(pump_event(&p, 0, "sign.refused"));
}

static void test_epochs(void **state)
{
    (void)state;
    assert_int_equal(0, ask(0, (struct wish){3, 7, 0, 0}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){3, 8, 0, 1}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){2, 8, 0, 1}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){4, 8, 0, 0}));
    assert_int_equal(0, ask(0, (struct wish){4, 1, 0, 1}));
    assert_int_equal(ERR_EPOCH, ask(0, (struct wish){3, 9, 0, 0}));
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
        h.epoch_counter = h.generation = h.issued = 1;
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
    assert_int_equal(0, ask(0, (struct wish){1, 1, 0, 0}));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_generations), T(test_epochs), T(test_fields), T(test_a_write_that_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

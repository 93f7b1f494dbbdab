/* Reports, certificates and removals from below: forged, old, of other sites. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pump p;
static int p01, p02, b11;
static char user[64];

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    p01 = pump_join(&p, 0, "P01", "primary");
    p02 = pump_join(&p, 0, "P02", "primary");
    b11 = pump_join(&p, p01, "B11", "branch");
    pump_run(&p, 3 * NS_PER_S);
    COPY_TEXT(user, pump_user(&p, 0, p.nodes[p01].keys.link.public));
    return p01 > 0 && p02 > 0 && b11 > 0 ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

static json_int_t generation_of(const char *site)
{
    json_t *list =
        json_object_get(json_object_get(pump_command(&p, 0, "{\"command\":\"tree\"}"), "data"), "sites");
    for (size_t k = 0; k < json_array_size(list); k++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, k), "site")), site) == 0)
            return json_integer_value(json_object_get(json_array_get(list, k), "generation"));
    return -1;
}

static uint64_t refusals(void)
{
    return p.nodes[0].node->refusals;
}

static void send(int from, struct blob *frame)
{
    assert_int_equal(
        0, pump_frame(&p, 0, p.nodes[from].session, pump_user(&p, 0, p.nodes[from].keys.link.public), frame));
}

static void test_good(void **state)
{
    (void)state;
    uint64_t before = refusals();
    send(p01, pump_report(&p, b11, NULL, NULL));
    assert_int_equal(9, generation_of("B11"));
    assert_int_equal(before, refusals());
    pump_restart(&p, 0);
    assert_int_equal(9, generation_of("B11"));
}

static void parent_off(Sitetree__SiteReport *r)
{
    r->parent = (char *)(uintptr_t) "P02";
}
static void hierarchy_off(Sitetree__SiteReport *r)
{
    static uint8_t other[32] = {3};
    r->hierarchy = pb_bytes(view_of(other, 32));
}
static void other_site(Sitetree__SiteReport *r)
{
    r->site = (char *)(uintptr_t) "P01";
    r->parent = (char *)(uintptr_t) "CEN";
}
static void unknown_site(Sitetree__SiteReport *r)
{
    r->site = (char *)(uintptr_t) "X99";
}
static void own_site(Sitetree__SiteReport *r)
{
    r->site = (char *)(uintptr_t) "CEN";
    r->parent = (char *)(uintptr_t) "";
}
static void old_one(Sitetree__SiteReport *r)
{
    r->serial = 1;
}

static void test_forged(void **state)
{
    (void)state;
    static void (*const edits[])(Sitetree__SiteReport *) = {
        parent_off, hierarchy_off, other_site, unknown_site, own_site, old_one};
    for (size_t i = 0; i < COUNT_OF(edits); i++) {
        uint64_t before = refusals();
        send(p01, pump_report(&p, b11, edits[i], NULL));
        assert_int_equal(before + 1, refusals());
    }
    uint64_t before = refusals();
    send(p01, pump_report(&p, b11, NULL, &p.nodes[p01].keys.site)); /* the relay cannot speak for its child */
    send(p02, pump_report(&p, b11, NULL, NULL)); /* nor a site to which it does not belong */
    send(p02, pump_report(&p, p01, NULL, NULL));
    assert_int_equal(before + 3, refusals());
    assert_int_equal(0, generation_of("B11"));
    assert_int_equal(0, generation_of("P01"));
    assert_true(pump_event(&p, 0, "report.refused"));
}

static void test_replayed(void **state)
{
    (void)state;
    struct blob *first = pump_report(&p, b11, NULL, NULL);
    send(p01, blob_ref(first));
    pump_run(&p, NS_PER_S);
    p.wall.ns += NS_PER_S;
    send(p01, pump_report(&p, b11, NULL, NULL));
    uint64_t before = refusals();
    send(p01, first);
    assert_int_equal(before + 1, refusals());
}

static void test_certificates(void **state)
{
    (void)state;
    /* P02 sends the chain of B11, which is P01's child */
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Chain *chain = MESSAGE_UNPACK(&a, buf_view(&p.nodes[b11].chain), TRUST_BYTES_MAX, chain, &rc);
    assert_non_null(chain);
    m.chains = &chain;
    m.n_chains = 1;
    uint64_t before = refusals();
    send(p02, frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false));
    assert_int_equal(before + 1, refusals());
    send(p01, frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false)); /* known already */
    assert_int_equal(before + 1, refusals());
    chain->certificates[1]->signature.data[7] ^= 1;
    send(p01, frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false));
    assert_int_equal(before + 2, refusals());
}

static void send_removal(
    int from, const char *site, const char *parent, uint64_t serial, const struct sign_key *key)
{
    Sitetree__Removal r = SITETREE__REMOVAL__INIT;
    r.hierarchy = pb_bytes(view_of(p.hierarchy.b, 32));
    r.site = (char *)(uintptr_t)site;
    r.parent = (char *)(uintptr_t)parent;
    r.serial = serial;
    AUTO_BUF payload = {0};
    uint8_t signature[64];
    message_pack(&r.base, &payload);
    sign_detached(key, "removal", buf_view(&payload), signature);
    Sitetree__Signed s = SITETREE__SIGNED__INIT, *list = &s;
    s.payload = pb_bytes(buf_view(&payload));
    s.signature = pb_bytes(view_of(signature, 64));
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    m.removals = &list;
    m.n_removals = 1;
    send(from, frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false));
}

static void test_removals(void **state)
{
    (void)state;
    uint64_t before = refusals();
    send_removal(p01, "B11", "P01", 9, &p.nodes[b11].keys.site); /* not by its parent */
    send_removal(p02, "B11", "P01", 9, &p.nodes[p01].keys.site); /* by the wrong way */
    send_removal(p01, "P01", "CEN", 9, &p.nodes[p01].keys.site); /* itself */
    send_removal(p01, "P02", "P01", 9, &p.nodes[p01].keys.site); /* a sibling */
    assert_int_equal(before + 4, refusals());
    send_removal(p01, "B11", "P01", 0,
        &p.nodes[p01].keys.site); /* of an earlier certificate: it has joined again since */
    assert_int_equal(0, generation_of("B11"));
    send_removal(p01, "B11", "P01", 1, &p.nodes[p01].keys.site);
    assert_int_equal(-1, generation_of("B11"));
    send(p01, pump_report(&p, b11, NULL, NULL));
    assert_int_equal(-1, generation_of("B11"));
    pump_restart(&p, 0);
    assert_int_equal(-1, generation_of("B11"));
}

static void test_a_flood_is_not_stored(void **state)
{
    (void)state;
    uint64_t before = p.nodes[0].node->refusal_serial;
    for (unsigned i = 0; i < 500; i++)
        send(p01, pump_report(&p, b11, old_one, NULL));
    assert_true(p.nodes[0].node->refusal_serial - before <= 11);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_good), T(test_forged), T(test_replayed), T(test_certificates),
        T(test_removals), T(test_a_flood_is_not_stored)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

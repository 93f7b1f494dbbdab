/* Where a site is taken in: only at sites of its own chain, with the keys that the chain names; and who is
 * let in: whatever is known below. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pump p;
static int p01, b11, c11;

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    p01 = pump_join(&p, 0, "P01", "primary");
    b11 = pump_join(&p, p01, "B11", "branch");
    c11 = pump_join(&p, b11, "C11", "branch");
    pump_run(&p, 3 * NS_PER_S);
    return p01 > 0 && b11 > 0 && c11 > 0 ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

static struct node *node_of(int i)
{
    return p.nodes[i].node;
}

static const struct node_place *place(int i, unsigned k)
{
    assert_true(k < node_of(i)->n_places);
    return &node_of(i)->places[k];
}

static void test_upward_from_the_invitation(void **state)
{
    (void)state;
    assert_int_equal(3, node_of(c11)->n_places);
    assert_string_equal("B11", place(c11, 0)->code.s);
    assert_string_equal("P01", place(c11, 1)->code.s);
    assert_string_equal("CEN", place(c11, 2)->code.s);
}

static void test_kept_current_and_kept(void **state)
{
    (void)state;
    struct node_options o = p.nodes[0].opt;
    COPY_TEXT(o.advertise, "elsewhere.example:99");
    node_set_options(node_of(0), &o);
    pump_restart(&p, p01); /* as it was */
    assert_string_equal("CEN.example:7700", place(c11, 2)->endpoint);
    COPY_TEXT(p.nodes[p01].opt.parents[0].endpoint, "elsewhere.example:99");
    pump_restart(&p, p01);
    pump_restart(&p, b11);
    pump_restart(&p, c11);
    assert_string_equal("elsewhere.example:99", place(b11, 1)->endpoint);
    assert_string_equal("elsewhere.example:99", place(c11, 2)->endpoint);
    p.nodes[c11].cut = true; /* it is in the store, not only in the last welcome */
    pump_restart(&p, c11);
    assert_string_equal("elsewhere.example:99", place(c11, 2)->endpoint);
    assert_string_equal("B11.example:7700", place(c11, 0)->endpoint);
}

static Sitetree__Place told(const char *code, const uint8_t key[32])
{
    Sitetree__Place m = SITETREE__PLACE__INIT;
    m.endpoint = (char *)(uintptr_t) "told.example:1";
    m.hints = (char *)(uintptr_t) "told.example:2";
    m.code = (char *)(uintptr_t)code;
    m.link_key = pb_bytes(view_of(key, 32));
    return m;
}

static void adopt(int i, Sitetree__Place *a, Sitetree__Place *b)
{
    Sitetree__Place *list[2] = {a, b};
    struct effects fx = {0};
    struct store_txn *txn;
    struct input in = {.now = p.now, .wall = p.wall};
    assert_int_equal(0, store_begin(p.nodes[i].store, true, &txn));
    struct step s = {node_of(i), txn, &in, &fx};
    places_adopt(&s, 0, list, b ? 2 : 1);
    assert_int_equal(0, store_commit(txn));
    effects_done(&fx);
}

static void test_only_the_chain_says_who_stands_there(void **state)
{
    (void)state;
    const uint8_t *cen = p.nodes[0].keys.link.public, *own = p.nodes[c11].keys.link.public;
    uint64_t before = node_of(c11)->refusals;
    Sitetree__Place wrong_key = told("CEN", own), stranger = told("X99", cen), itself = told("C11", own);
    adopt(c11, &wrong_key, NULL);
    assert_int_equal(before + 1, node_of(c11)->refusals);
    assert_int_equal(1, node_of(c11)->n_places); /* only the parent is left of what was told before */
    adopt(c11, &stranger, &itself);
    assert_int_equal(before + 3, node_of(c11)->refusals);
    assert_int_equal(1, node_of(c11)->n_places);
    Sitetree__Place good = told("CEN", cen), downward = told("P01", p.nodes[p01].keys.link.public);
    adopt(c11, &good, &downward); /* not in order: only the first */
    assert_int_equal(2, node_of(c11)->n_places);
    assert_string_equal("CEN", place(c11, 1)->code.s);
    assert_string_equal("told.example:1", place(c11, 1)->endpoint);
    adopt(c11, &downward, &good);
    assert_int_equal(3, node_of(c11)->n_places);
}

static void test_whatever_is_known_below_is_let_in(void **state)
{
    (void)state;
    const uint8_t *key = p.nodes[c11].keys.link.public;
    assert_string_equal("C11/1", pump_user(&p, 0, key));
    assert_string_equal("C11/1", pump_user(&p, p01, key));
    pump_restart(&p, 0);
    assert_string_equal("C11/1", pump_user(&p, 0, key));
    /* with a removal further up goes everything below it */
    pump_command(&p, p01, "{\"command\":\"site.remove\",\"args\":{\"site\":\"B11\"}}");
    pump_run(&p, 3 * NS_PER_S);
    assert_null(pump_user(&p, p01, key));
    assert_null(pump_user(&p, 0, key));
    assert_null(pump_user(&p, 0, p.nodes[b11].keys.link.public));
    assert_non_null(pump_user(&p, 0, p.nodes[p01].keys.link.public));
    /* and a connection that was there before finds out with its next frame */
    Sitetree__Hello h = SITETREE__HELLO__INIT;
    h.version_low = h.version_high = 1;
    h.site = (char *)(uintptr_t) "C11";
    assert_int_equal(0, pump_frame(&p, 0, 99, "C11/1", frame_pack(FRAME_HELLO, 1, 5, NULL, &h.base, false)));
    assert_int_equal(ERR_REMOVED, refusal_code(p.stray));
}

static void test_reports_come_another_way(void **state)
{
    (void)state;
    struct node *cen = node_of(0);
    struct blob *old = pump_report(&p, c11, NULL, NULL);
    p.wall.ns += NS_PER_S;
    p.now.ns += NS_PER_S;
    pump_link(&p, c11, 0, ERR_KEY, 0); /* not let in by B11 */
    assert_string_equal("P01", uplink_site(node_of(c11)));
    pump_run(&p, 3 * NS_PER_S);
    assert_non_null(site_look(node_of(p01), "C11")->session);
    assert_string_equal("P01", site_look(cen, "C11")->last.via);
    /* what B11 still passes on of it is old, and no offence */
    uint64_t before = node_of(p01)->refusals, serial = site_look(node_of(p01), "C11")->last.serial;
    assert_int_equal(
        0, pump_frame(&p, p01, p.nodes[b11].session, pump_user(&p, p01, p.nodes[b11].keys.link.public), old));
    assert_int_equal(before, node_of(p01)->refusals);
    assert_int_equal(serial, site_look(node_of(p01), "C11")->last.serial);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_upward_from_the_invitation), T(test_kept_current_and_kept),
        T(test_only_the_chain_says_who_stands_there), T(test_whatever_is_known_below_is_let_in),
        T(test_reports_come_another_way)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

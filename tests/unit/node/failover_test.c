/* Which site above is dialled, when it is left, and when the link goes back. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pump p;
static int p01, b11;
static struct node *n; /* of B11 */

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    p01 = pump_join(&p, 0, "P01", "primary");
    b11 = pump_join(&p, p01, "B11", "branch");
    pump_run(&p, 3 * NS_PER_S);
    n = p.nodes[b11].node;
    return p01 > 0 && b11 > 0 && n->up.state == UPLINK_LIVE ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

static bool live_at(const char *code)
{
    return n->up.state == UPLINK_LIVE && strcmp(uplink_site(n), code) == 0;
}

static void away(void)
{
    pump_link(&p, b11, 0, ERR_KEY, 0); /* not let in: no patience */
    assert_true(live_at("CEN"));
}

static void test_a_lost_connection_gets_a_moment(void **state)
{
    (void)state;
    pump_link(&p, b11, 0, ERR_NETWORK, 0);
    p.nodes[b11].cut = true;
    pump_run(&p, 2 * NS_PER_S);
    assert_string_equal("P01", uplink_site(n));
    p.nodes[b11].cut = false;
    pump_run(&p, 2 * NS_PER_S);
    assert_true(live_at("P01") || live_at("CEN"));
    assert_false(pump_event(&p, b11, "parent.left") && live_at("P01"));
}

static void test_the_next_place(void **state)
{
    (void)state;
    pump_link(&p, b11, 0, ERR_NETWORK, 0);
    p.nodes[b11].cut = true;
    pump_run(&p, 3 * NS_PER_S);
    assert_string_equal("CEN", uplink_site(n));
    p.nodes[b11].cut = false;
    pump_link(&p, b11, 0, 0, 0); /* connected: hello */
    assert_true(live_at("CEN"));
    assert_true(pump_event(&p, b11, "parent.left"));
    assert_int_equal(2, p.nodes[0].node->n_sessions);
    assert_string_equal("CEN", n->places[1].code.s);
    /* what is below hears the new path */
    assert_int_equal(1, n->up.n_path);
    assert_string_equal("CEN", n->up.path[0]);
    pump_run(&p, 2 * NS_PER_S);
    struct site *seen = site_look(p.nodes[0].node, "B11");
    assert_non_null(seen->session);
    assert_string_equal("CEN", seen->last.via);
    assert_ptr_equal(&p.nodes[0].node->self, site_above(p.nodes[0].node, seen));
}

static void test_what_an_earlier_connection_tells_comes_late(void **state)
{
    (void)state;
    uint64_t before = n->up.number;
    away();
    pump_link(&p, b11, 0, ERR_NETWORK, before);
    assert_true(live_at("CEN"));
    pump_link(&p, b11, 0, ERR_NETWORK, n->up.number);
    assert_false(live_at("CEN"));
}

static void probe_now(void)
{
    for (unsigned i = 0; i < 200 && n->probe.state != PROBE_HELLO; i++)
        pump_run(&p, NS_PER_S);
    assert_int_equal(PROBE_HELLO, n->probe.state);
}

static void test_back_when_the_parent_is_well(void **state)
{
    (void)state;
    away();
    probe_now();
    pump_link(&p, b11, PROBE, ERR_NETWORK, 0);
    assert_int_equal(PROBE_WAIT, n->probe.state);
    assert_true(live_at("CEN"));
    probe_now();
    unsigned sessions = (unsigned)p.nodes[p01].node->n_sessions;
    pump_link(&p, b11, PROBE, 0, 0);
    assert_true(live_at("P01"));
    assert_int_equal(sessions, p.nodes[p01].node->n_sessions); /* the look itself made none */
    assert_true(pump_event(&p, b11, "parent.back"));
    assert_null(site_look(p.nodes[0].node, "B11")->session); /* it said goodbye */
    assert_int_equal(PROBE_NONE, n->probe.state);
    assert_int_equal(-1, p.nodes[b11].probe);
}

static void test_a_look_that_is_not_answered(void **state)
{
    (void)state;
    away();
    int64_t delay = 0;
    for (unsigned i = 0; i < 8; i++) {
        probe_now();
        pump_run(&p, n->opt.hello_timeout_ns);
        assert_int_equal(PROBE_WAIT, n->probe.state);
        assert_true(n->probe.delay_ns >= delay && n->probe.delay_ns <= 60 * NS_PER_S);
        delay = n->probe.delay_ns;
    }
    assert_int_equal(60 * NS_PER_S, delay);
    assert_true(live_at("CEN"));
}

static void test_a_parent_with_less_is_not_well(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        pump_ready(&p, i);
    pump_status(&p, 0, 7, "live", "");
    pump_status(&p, p01, 5, "live", "");
    pump_status(&p, b11, 7, "live", "");
    away();
    probe_now();
    pump_link(&p, b11, PROBE, 0, 0);
    assert_true(live_at("CEN"));
    pump_status(&p, p01, 7, "live", "");
    probe_now();
    pump_link(&p, b11, PROBE, 0, 0);
    assert_true(live_at("P01"));
}

static void failures(const char *parent, unsigned count)
{
    Sitetree__WorkerStatus m = SITETREE__WORKER_STATUS__INIT;
    m.state = (char *)(uintptr_t) "walk";
    m.parent = (char *)(uintptr_t)parent;
    m.parent_failures = count;
    m.parent_failure = (char *)(uintptr_t) "no answer for 20.0 s to a request for pages";
    assert_int_equal(0, pump_worker(&p, b11, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_WORKER_STATUS, 1, 0, NULL, &m.base, false)));
}

static void test_a_parent_of_no_use(void **state)
{
    (void)state;
    pump_ready(&p, b11);
    failures("P01", 2);
    failures("CEN", 9); /* was said before the link changed */
    assert_true(live_at("P01"));
    failures("P01", 3);
    assert_true(live_at("CEN"));
    assert_int_equal(0, p.nodes[p01].node->n_sessions); /* it said goodbye */
    failures("P01", 4);
    assert_true(live_at("CEN"));
}

static void test_all_fail_then_a_pause(void **state)
{
    (void)state;
    p.nodes[b11].cut = true;
    pump_link(&p, b11, 0, ERR_NETWORK, 0);
    unsigned before = p.nodes[b11].connects;
    pump_run(&p, 350 * NS_PER_S);
    unsigned tries = p.nodes[b11].connects - before;
    assert_in_range(tries, 10, 40);
    assert_true(n->up.orphan);
    assert_true(pump_event(&p, b11, "parent.orphan"));
    assert_string_equal("parent-unreachable", n->up.cause_word);
    p.nodes[b11].cut = false;
    pump_run(&p, 60 * NS_PER_S);
    assert_int_equal(UPLINK_LIVE, n->up.state);
    assert_false(n->up.orphan);
}

static void test_a_site_with_one_place_stays_with_it(void **state)
{
    (void)state;
    struct node *one = p.nodes[p01].node;
    pump_link(&p, p01, 0, ERR_KEY, 0);
    assert_string_equal("CEN", uplink_site(one));
    pump_run(&p, 10 * NS_PER_S);
    assert_int_equal(UPLINK_LIVE, one->up.state);
    assert_false(one->up.away);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_a_lost_connection_gets_a_moment), T(test_the_next_place),
        T(test_what_an_earlier_connection_tells_comes_late), T(test_back_when_the_parent_is_well),
        T(test_a_look_that_is_not_answered), T(test_a_parent_with_less_is_not_well),
        T(test_a_parent_of_no_use), T(test_all_fail_then_a_pause),
        T(test_a_site_with_one_place_stays_with_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

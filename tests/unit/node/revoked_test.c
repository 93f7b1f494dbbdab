/* Certificates that were taken back: the list, and what a node does when it changes. */
#include "services/node/revoked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/node/pump.h"

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

static void key(uint8_t out[32], unsigned n)
{
    memset(out, 0, 32);
    memcpy(out, &n, sizeof n);
}

static void test_the_list(void **state)
{
    (void)state;
    uint8_t site[32], parent[32], other[32];
    AUTO_BUF list = {0};
    key(site, 1);
    key(parent, 2);
    key(other, 3);
    assert_false(revoked_has(buf_view(&list), site, parent, 1));
    revoked_put(&list, site, parent, 5);
    assert_int_equal(REVOKED_LEN, list.len);
    assert_true(revoked_has(buf_view(&list), site, parent, 1));
    assert_true(revoked_has(buf_view(&list), site, parent, 5));
    assert_false(revoked_has(buf_view(&list), site, parent, 6)); /* joined again */
    assert_false(revoked_has(buf_view(&list), site, other, 1));  /* moved */
    assert_false(revoked_has(buf_view(&list), other, parent, 1));
    assert_false(revoked_has(buf_view(&list), parent, site, 1));
    revoked_put(&list, site, parent, 7); /* removed again: no second entry */
    assert_int_equal(REVOKED_LEN, list.len);
    assert_true(revoked_has(buf_view(&list), site, parent, 7));
    for (unsigned i = 0; i < REVOKED_MAX; i++) { /* the oldest goes */
        key(other, 100 + i);
        assert_int_equal(
            i + 1 < REVOKED_MAX, revoked_has(buf_view(&list), site, parent, 7) && i + 1 < REVOKED_MAX);
        revoked_put(&list, other, parent, 1);
    }
    assert_int_equal(REVOKED_MAX * REVOKED_LEN, list.len);
    assert_false(revoked_has(buf_view(&list), site, parent, 7));
    for (unsigned i = 0; i < REVOKED_MAX; i++) {
        key(other, 100 + i);
        assert_true(revoked_has(buf_view(&list), other, parent, 1));
    }
    revoked_drop(&list, other, parent);
    assert_int_equal((REVOKED_MAX - 1) * REVOKED_LEN, list.len);
    assert_false(revoked_has(buf_view(&list), other, parent, 1));
    revoked_drop(&list, other, parent);
    assert_int_equal((REVOKED_MAX - 1) * REVOKED_LEN, list.len);
}

/* What the worker of node i tells of the newest head. */
static int tell(int i, struct view list)
{
    Sitetree__WorkerStatus m = SITETREE__WORKER_STATUS__INIT;
    m.state = (char *)(uintptr_t) "live";
    m.generation = m.known_generation = 2;
    m.revoked = pb_bytes(list);
    int rc = pump_worker(
        &p, i, (struct peer){PEER_NODE, 0}, "", frame_pack(FRAME_WORKER_STATUS, 1, 0, NULL, &m.base, false));
    pump_run(&p, 3 * NS_PER_S);
    return rc;
}

static unsigned sessions(int i)
{
    struct node_view view;
    node_look(p.nodes[i].node, &view);
    return view.sessions;
}

static void test_a_child_that_was_taken_back(void **state)
{
    (void)state;
    AUTO_BUF list = {0};
    int p01 = pump_join(&p, 0, "P01", "primary"), b11 = pump_join(&p, p01, "B11", "branch");
    for (int i = 0; i < 3; i++) {
        pump_ready(&p, i);
        pump_status(&p, i, 1, "live", "");
    }
    pump_run(&p, 3 * NS_PER_S);
    assert_int_equal(1, sessions(p01));
    const uint8_t *door = p.nodes[b11].keys.link.public;
    const struct certificate cert = p.nodes[b11].node->self.cert;
    assert_non_null(pump_user(&p, p01, door));
    assert_int_equal(0, tell(p01, view_of("short", 5))); /* no list: nothing changes */
    assert_int_equal(1, sessions(p01));
    revoked_put(&list, cert.sign_key, p.nodes[p01].keys.site.public, cert.serial);
    assert_int_equal(0, tell(0, buf_view(&list))); /* the centre makes the list, nobody tells it */
    assert_int_equal(0, tell(p01, buf_view(&list)));
    assert_int_equal(0, sessions(p01));
    assert_null(pump_user(&p, p01, door));
    assert_true(pump_event(&p, p01, "site.removed"));
    pump_restart(&p, p01); /* also after a restart, before the worker says anything */
    pump_run(&p, 60 * NS_PER_S);
    assert_null(pump_user(&p, p01, door));
    assert_int_equal(0, sessions(p01));
}

static void test_a_write_that_fails(void **state)
{
    (void)state;
    AUTO_BUF list = {0};
    uint8_t a[32] = {1}, b[32] = {2};
    int p01 = pump_join(&p, 0, "P01", "primary");
    pump_ready(&p, p01);
    revoked_put(&list, a, b, 1);
    store_fail_after(p.nodes[p01].store, 1, ERR_MAP_FULL);
    Sitetree__WorkerStatus m = SITETREE__WORKER_STATUS__INIT;
    m.generation = 2;
    m.revoked = pb_bytes(buf_view(&list));
    assert_int_equal(ERR_MAP_FULL, pump_worker(&p, p01, (struct peer){PEER_NODE, 0}, "",
                                       frame_pack(FRAME_WORKER_STATUS, 1, 0, NULL, &m.base, false)));
    store_fail_after(p.nodes[p01].store, 0, 0);
    pump_restart(&p, p01);
    assert_int_equal(0, p.nodes[p01].node->revoked.len);
    pump_ready(&p, p01);
    assert_int_equal(0, tell(p01, buf_view(&list)));
    assert_int_equal(REVOKED_LEN, p.nodes[p01].node->revoked.len);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_the_list), T(test_a_child_that_was_taken_back), T(test_a_write_that_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

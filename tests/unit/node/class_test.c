/* How a site is called: live, working, behind, broken, not heard; what of it is kept; how fast a link is. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pump p;
static int p01, b11;

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    p01 = pump_join(&p, 0, "P01", "primary");
    b11 = pump_join(&p, p01, "B11", "branch");
    for (int i = 0; i < 3; i++) {
        pump_ready(&p, i);
        pump_status(&p, i, 5, "live", "");
    }
    pump_run(&p, 3 * NS_PER_S);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

static void is(const char *code, enum site_class class, const char *cause)
{
    const char *got;
    const struct node *n = p.nodes[0].node;
    enum site_class c = site_class_of(n, site_look(n, code), p.wall, &got);
    assert_string_equal(site_class_word(class), site_class_word(c));
    assert_string_equal(cause, got);
}

static void test_behind(void **state)
{
    (void)state;
    is("B11", SITE_LIVE, "");
    pump_status(&p, 0, 6, "live", "");
    pump_run(&p, 2 * NS_PER_S);
    is("CEN", SITE_LIVE, "");
    is("B11", SITE_WORKING, "");
    pump_status(&p, p01, 6, "live", "");
    pump_run(&p, 90 * NS_PER_S);
    is("P01", SITE_LIVE, "");
    is("B11", SITE_BEHIND, "");
    int64_t lag = site_lag(p.nodes[0].node, site_look(p.nodes[0].node, "B11"), p.wall);
    assert_true(lag > 85 * NS_PER_S && lag < 95 * NS_PER_S);
    pump_status(&p, b11, 5, "walk", "below-delta-floor");
    pump_run(&p, 2 * NS_PER_S);
    is("B11", SITE_BEHIND, "below-delta-floor");
    pump_status(&p, b11, 6, "live", "");
    pump_run(&p, 2 * NS_PER_S);
    is("B11", SITE_LIVE, "");
}

static void test_parent_itself_behind(void **state)
{
    (void)state;
    pump_status(&p, 0, 6, "live", "");
    pump_run(&p, 90 * NS_PER_S);
    is("P01", SITE_BEHIND, "");
    is("B11", SITE_BEHIND, "parent-itself-behind");
}

static void test_broken(void **state)
{
    (void)state;
    pump_status(&p, b11, 5, "stale", "head-expired");
    pump_run(&p, 2 * NS_PER_S);
    is("B11", SITE_BROKEN, "head-expired");
    struct input gone = {.kind = INPUT_LINK, .from = {PEER_WORKER, WORKER_METADATA}, .status = ERR_NETWORK};
    assert_int_equal(0, pump_input(&p, p01, &gone));
    pump_run(&p, 2 * NS_PER_S);
    is("P01", SITE_BROKEN, "worker-down"); /* reported upward by the node, in the worker's place */
    Sitetree__EventNote note = SITETREE__EVENT_NOTE__INIT;
    note.name = (char *)(uintptr_t) "worker.failed";
    note.code = ERR_DISK;
    note.text = (char *)(uintptr_t) "No space left on device";
    pump_ready(&p, p01);
    assert_int_equal(0, pump_worker(&p, p01, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_EVENT_NOTE, 1, 0, NULL, &note.base, false)));
    assert_int_equal(0, pump_input(&p, p01, &gone));
    pump_run(&p, 2 * NS_PER_S);
    is("P01", SITE_BROKEN, "disk");
    pump_ready(&p, p01);
    pump_run(&p, 30 * NS_PER_S);
    pump_status(&p, p01, 5, "live", "");
    pump_run(&p, 2 * NS_PER_S);
    is("P01", SITE_LIVE, "");
}

/* The class that was kept for a site number in a slot; -1: no such slot. */
static int kept(int64_t slot, uint32_t number)
{
    struct store_txn *t;
    struct view v;
    struct key k = key_number((uint64_t)slot);
    assert_int_equal(0, store_begin(p.nodes[0].store, false, &t));
    int rc = store_get(t, TABLE_RINGS, key_view(&k), &v);
    int class = rc == 0 && number < v.len ? v.data[number] : -1;
    store_abort(t);
    return class;
}

static void test_history(void **state)
{
    (void)state;
    const struct node *n = p.nodes[0].node;
    uint32_t number = site_look(n, "B11")->number;
    pump_run(&p, RING_NS);
    int64_t slot = p.wall.ns / RING_NS;
    assert_int_equal(SITE_LIVE + 1, kept(slot, number));
    assert_int_equal(SITE_LIVE + 1, kept(slot, 0)); /* the site itself */
    p.nodes[p01].cut = true;
    pump_run(&p, 3 * RING_NS);
    slot = p.wall.ns / RING_NS;
    assert_int_equal(SITE_NOT_HEARD + 1, kept(slot, number));
    assert_int_equal(SITE_LIVE + 1, kept(slot - 3, number)); /* the past shown is the recorded one */
    pump_restart(&p, 0);
    assert_int_equal(number, site_look(p.nodes[0].node, "B11")->number);
    pump_run(&p, 8 * 86400 * NS_PER_S);
    assert_int_equal(-1, kept(slot, number)); /* after a week it goes */
    assert_true(kept(p.wall.ns / RING_NS - 6 * 288, number) > 0);
}

static void test_verify_compares(void **state)
{
    (void)state;
    uint8_t root[32];
    char hex[65], text[256];
    memset(root, 6, sizeof root); /* what pump_status tells for generation 5 */
    for (int round = 0; round < 2; round++) {
        assert_null(pump_command(&p, 0, "{\"command\":\"verify\",\"args\":{\"all\":true}}"));
        snprintf(text, sizeof text, "{\"exit\":0,\"data\":{\"ok\":true,\"recomputed\":\"%s\"}}",
            hex_encode(root, 32, hex));
        Sitetree__ControlReply m = SITETREE__CONTROL_REPLY__INIT;
        m.command = 1;
        m.json = pb_bytes(view_str(text));
        assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_NODE, 0}, "",
                                frame_pack(FRAME_CONTROL_REPLY, 1, 0, NULL, &m.base, false)));
        json_t *j = p.nodes[0].reply, *sites = json_object_get(json_object_get(j, "data"), "sites");
        assert_int_equal(3, json_array_size(sites));
        assert_int_equal(round ? 3 : 0, json_integer_value(json_object_get(j, "exit")));
        assert_int_equal(!round, json_is_true(json_object_get(json_array_get(sites, 2), "equal")));
        pump_status(&p, b11, 4, "live", ""); /* another root */
        pump_run(&p, 2 * NS_PER_S);
    }
}

/* The worker's answer to a command that waits for it; what the node made of it. */
static json_t *worker_answers(const char *command, const char *text)
{
    assert_null(pump_command(&p, 0, "%s", command));
    Sitetree__ControlReply m = SITETREE__CONTROL_REPLY__INIT;
    m.command = 1;
    m.json = pb_bytes(view_str(text));
    assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_CONTROL_REPLY, 1, 0, NULL, &m.base, false)));
    return p.nodes[0].reply;
}

static void heeds(size_t i, const char *site, const char *state, const char *cause)
{
    json_t *row = json_array_get(json_object_get(json_object_get(p.nodes[0].reply, "data"), "sites"), i);
    const char *c = json_string_value(json_object_get(row, "cause"));
    assert_string_equal(site, json_string_value(json_object_get(row, "site")));
    assert_string_equal(state, json_string_value(json_object_get(row, "state")));
    assert_string_equal(cause, c ? c : "");
}

static void recalled_6(Sitetree__WorkerStatus *m)
{
    m->recalled = 6;
    m->recalled_at = (uint64_t)p.wall.ns;
}

static void floor_3(Sitetree__WorkerStatus *m)
{
    m->floor_generation = 3;
    m->floor_first_ns = (uint64_t)(1000 * NS_PER_S);
    m->floor_now_ns = (uint64_t)(5000 * NS_PER_S);
}

static void floor_9(Sitetree__WorkerStatus *m)
{
    floor_3(m);
    m->floor_generation = 9;
}

/* What P01 says of its child: seconds; -1: unknown. */
static double floor_of_b11(void)
{
    json_t *j = pump_command(&p, p01, "{\"command\":\"links\"}"), *row;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(j, "data"), "links"), i, row)
    {
        json_t *f = json_object_get(row, "floor");
        if (strcmp(json_string_value(json_object_get(row, "child")), "B11") == 0)
            return json_is_number(f) ? json_number_value(f) : -1;
        assert_true(json_is_null(f)); /* only a parent keeps deltas for a child */
    }
    fail_msg("no link to B11");
    return 0;
}

static void test_floor_forecast(void **state)
{
    (void)state;
    assert_true(floor_of_b11() == -1); /* the worker has no forecast */
    pump_told(&p, p01, 7, "live", "", floor_3);
    pump_run(&p, 2 * NS_PER_S);
    double f = floor_of_b11(); /* B11 is at 5: half way */
    assert_true(f > 2990 && f <= 3000);
    pump_run(&p, 1000 * NS_PER_S);
    f = floor_of_b11();
    assert_true(f > 1980 && f <= 2001);
    pump_run(&p, 9000 * NS_PER_S);
    assert_true(floor_of_b11() == 1); /* due, but not below yet */
    pump_status(&p, b11, 7, "live", "");
    pump_told(&p, p01, 7, "live", "", floor_3);
    pump_run(&p, 2 * NS_PER_S);
    f = floor_of_b11();
    assert_true(f > 4990 && f <= 5000);
    pump_told(&p, p01, 12, "live", "", floor_9);
    pump_run(&p, 2 * NS_PER_S);
    assert_true(floor_of_b11() == 0); /* below */
}

#define RECALL "{\"command\":\"recall\",\"args\":{\"id\":\"x\"}}"
#define RECALLED "{\"exit\":0,\"data\":{\"id\":\"x\",\"generation\":6,\"at\":\"2026-11-20T06:10:20Z\"}}"

static void test_recall_tells_who_has_it(void **state)
{
    (void)state;
    pump_status(&p, 0, 6, "live", "");
    pump_run(&p, 2 * NS_PER_S);
    json_t *j = worker_answers(RECALL, RECALLED);
    assert_int_equal(3, json_integer_value(json_object_get(j, "exit")));
    heeds(0, "CEN", "confirmed", "");
    heeds(1, "P01", "waiting", "");
    pump_status(&p, p01, 6, "live", "");
    pump_told(&p, b11, 5, "walk", "", recalled_6); /* shows it, still fetching */
    pump_run(&p, 2 * NS_PER_S);
    j = worker_answers(RECALL, RECALLED);
    assert_int_equal(0, json_integer_value(json_object_get(j, "exit")));
    heeds(1, "P01", "confirmed", "");
    heeds(2, "B11", "ahead", "");
    json_t *at =
        json_object_get(json_array_get(json_object_get(json_object_get(j, "data"), "sites"), 2), "at");
    assert_true(json_is_string(at));
    p.nodes[p01].cut = true;
    pump_run(&p, 900 * NS_PER_S);
    j = worker_answers(RECALL, RECALLED); /* who had it has it */
    assert_int_equal(3, json_integer_value(json_object_get(json_object_get(j, "data"), "confirmed")));
    j = worker_answers(RECALL, "{\"exit\":0,\"data\":{\"id\":\"y\",\"generation\":7}}");
    heeds(1, "P01", "offline", "not-heard");
    heeds(2, "B11", "offline", "parent-not-heard");
    assert_int_equal(2, json_integer_value(json_object_get(json_object_get(j, "data"), "offline")));
    j = worker_answers(RECALL, "{\"schema\":\"sitetree.error/1\",\"code\":\"not-found\",\"exit\":1}");
    assert_int_equal(1, json_integer_value(json_object_get(j, "exit")));
    j = worker_answers("{\"command\":\"recall.list\"}",
        "{\"exit\":0,\"data\":{\"recalls\":[{\"generation\":7},{\"generation\":6}]}}");
    json_t *list = json_object_get(json_object_get(j, "data"), "recalls");
    assert_int_equal(1, json_integer_value(json_object_get(json_array_get(list, 0), "confirmed")));
    assert_int_equal(3, json_integer_value(json_object_get(json_array_get(list, 1), "confirmed")));
}

static void test_verify_of_one_site(void **state)
{
    (void)state;
    char hex[65], text[256];
    uint8_t root[32];
    memset(root, 6, sizeof root);
    snprintf(text, sizeof text, "{\"exit\":0,\"data\":{\"ok\":true,\"recomputed\":\"%s\"}}",
        hex_encode(root, 32, hex));
    json_t *j = worker_answers("{\"command\":\"verify\",\"args\":{\"site\":\"B11\"}}", text);
    json_t *sites = json_object_get(json_object_get(j, "data"), "sites");
    assert_int_equal(1, json_array_size(sites));
    assert_true(json_is_true(json_object_get(json_array_get(sites, 0), "equal")));
    assert_int_equal(0, json_integer_value(json_object_get(j, "exit")));
    pump_status(&p, b11, 4, "live", "");
    pump_run(&p, 2 * NS_PER_S);
    j = worker_answers("{\"command\":\"verify\",\"args\":{\"site\":\"B11\"}}", text);
    assert_int_equal(3, json_integer_value(json_object_get(j, "exit")));
    j = worker_answers(
        "{\"command\":\"verify\",\"args\":{\"site\":\"P01\"}}", text); /* B11 is none of its business */
    assert_int_equal(0, json_integer_value(json_object_get(j, "exit")));
    j = pump_command(&p, 0, "{\"command\":\"verify\",\"args\":{\"site\":\"X99\"}}");
    assert_string_equal("unknown-site", json_string_value(json_object_get(j, "code")));
}

static void test_plan_by_site(void **state)
{
    (void)state;
    json_t *j = worker_answers("{\"command\":\"plan\"}", "{\"exit\":3,\"data\":{\"items\":4,\"bytes\":900}}");
    json_t *sites = json_object_get(json_object_get(j, "data"), "sites");
    assert_int_equal(2, json_array_size(sites)); /* the central site takes nothing from a link */
    json_t *b = json_array_get(sites, 1);
    assert_string_equal("B11", json_string_value(json_object_get(b, "site")));
    assert_int_equal(4, json_integer_value(json_object_get(b, "items")));
    assert_int_equal(900, json_integer_value(json_object_get(b, "bytes")));
    assert_int_equal(0, json_integer_value(json_object_get(b, "backlog")));
    assert_int_equal(3, json_integer_value(json_object_get(j, "exit")));
}

static void test_meter(void **state)
{
    (void)state;
    struct meter m = {0};
    assert_int_equal(0, meter_rate(&m, (struct mono){NS_PER_S}));
    for (int64_t t = 1; t <= 60; t++)
        meter_add(&m, (struct mono){t * NS_PER_S}, 1000);
    uint64_t rate = meter_rate(&m, (struct mono){60 * NS_PER_S});
    assert_true(rate >= 900 && rate <= 1200);
    assert_true(meter_rate(&m, (struct mono){1000 * NS_PER_S}) < 20); /* long over */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_behind), T(test_parent_itself_behind), T(test_broken),
        T(test_history), T(test_verify_compares), T(test_recall_tells_who_has_it), T(test_floor_forecast),
        T(test_verify_of_one_site), T(test_plan_by_site), T(test_meter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

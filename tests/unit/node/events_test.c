/* The table of events is data; the log is kept, found again, and followed. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_data_file(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned code;
    } legacy[] = {{"sync.started", 6701}, {"sync.succeeded", 6702}, {"sync.failed", 6703},
        {"sync.catalogue", 6704}, {"sync.site", 6705}, {"sync.internet", 6706}, {"sync.out-of-sync", 6707}};
    struct event_row row;
    size_t offset = 0, rows = 0, again;
    int rc;
    while ((rc = event_next(events_builtin, &offset, &row)) == 0) {
        struct event_row first;
        char name[40];
        snprintf(name, sizeof name, "%.*s", (int)row.name.len, (const char *)row.name.data);
        assert_int_equal(0, event_find(events_builtin, name, &first));
        assert_ptr_equal(first.name.data, row.name.data); /* each name once */
        again = 0;
        for (size_t i = 0; i < row.name.len; i++)
            again += row.name.data[i] == '.';
        assert_int_equal(1, again);
        rows++;
    }
    assert_int_equal(ERR_NOT_FOUND, rc); /* the end, and no row that is off */
    assert_true(rows > 30);
    for (size_t i = 0; i < COUNT_OF(legacy); i++) {
        assert_int_equal(0, event_find(events_builtin, legacy[i].name, &row));
        assert_int_equal(legacy[i].code, row.legacy);
    }
    assert_int_equal(ERR_NOT_FOUND, event_find(events_builtin, "sync.flown", &row));
}

static void test_rows_that_are_off(void **state)
{
    (void)state;
    static const char *const off[] = {"a.b\n", "a.b x info Text.\n", "a.b 1 loud Text.\n", "a.b 1 info\n",
        "a.b 12345678 info Text.\n", "a-name-of-an-event-that-is-far-too-long-for-it 0 info Text.\n"};
    struct event_row row;
    for (size_t i = 0; i < COUNT_OF(off); i++) {
        size_t offset = 0;
        assert_int_equal(ERR_CONFIG, event_next(view_str(off[i]), &offset, &row));
    }
    size_t offset = 0;
    assert_int_equal(0, event_next(view_str("# note\n\n  a.b\t7 info  A text."), &offset, &row));
    assert_int_equal(7, row.legacy);
    assert_true(view_eq(view_str("A text."), row.sentence));
}

static struct pump p;

static void note(const char *name, const char *text)
{
    Sitetree__EventNote m = SITETREE__EVENT_NOTE__INIT;
    m.name = (char *)(uintptr_t)name;
    m.run = (char *)(uintptr_t) "r-1";
    m.phase = (char *)(uintptr_t) "PUBLISH";
    m.code = ERR_STALLED;
    m.text = (char *)(uintptr_t)text;
    assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_EVENT_NOTE, 1, 0, NULL, &m.base, false)));
}

static json_t *events(const char *args)
{
    return json_object_get(
        json_object_get(pump_command(&p, 0, "{\"command\":\"events\",\"args\":%s}", args), "data"), "events");
}

static void test_log(void **state)
{
    (void)state;
    pump_init(&p);
    note("sync.failed", "the parent said \xff\x01 nothing");
    json_t *list = events("{\"name\":\"sync.failed\"}"), *e = json_array_get(list, 0);
    assert_int_equal(1, json_array_size(list));
    assert_int_equal(6703, json_integer_value(json_object_get(e, "legacy")));
    assert_string_equal("stalled", json_string_value(json_object_get(e, "code")));
    assert_string_equal("error", json_string_value(json_object_get(e, "level")));
    assert_string_equal("the parent said ?? nothing", json_string_value(json_object_get(e, "text")));
    pump_run(&p, 100 * NS_PER_S);
    note("sync.succeeded", "");
    pump_restart(&p, 0);
    assert_int_equal(2, json_array_size(events("{\"limit\":2}")));
    assert_int_equal(0, json_array_size(events("{\"limit\":0}")));
    list = events("{\"since\":\"50s\"}");
    assert_int_equal(2, json_array_size(list)); /* the success and the restart */
    assert_string_equal("A sync run has succeeded at this site.",
        json_string_value(json_object_get(json_array_get(list, 0), "text")));
    pump_done(&p);
}

static void test_follow(void **state)
{
    (void)state;
    pump_init(&p);
    unsigned before = p.nodes[0].n_replies;
    json_t *first =
        pump_command(&p, 0, "{\"command\":\"events\",\"args\":{\"follow\":true,\"name\":\"sync.failed\"}}");
    assert_true(json_is_true(json_object_get(first, "more")));
    note("sync.succeeded", "");
    assert_int_equal(before + 1, p.nodes[0].n_replies);
    note("sync.failed", "");
    assert_int_equal(before + 2, p.nodes[0].n_replies);
    struct input gone = {.kind = INPUT_GONE, .command = 1};
    assert_int_equal(0, pump_input(&p, 0, &gone));
    note("sync.failed", "");
    assert_int_equal(before + 2, p.nodes[0].n_replies);
    pump_done(&p);
}

static void test_old_ones_go(void **state)
{
    (void)state;
    pump_init(&p);
    for (unsigned i = 0; i < EVENTS_KEEP + 50; i++)
        note("sync.started", "");
    struct store_stat stat;
    store_stat(p.nodes[0].store, &stat);
    assert_true(stat.entries[TABLE_EVENTS] <= EVENTS_KEEP + 1);
    pump_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_data_file),
        cmocka_unit_test(test_rows_that_are_off), cmocka_unit_test(test_log), cmocka_unit_test(test_follow),
        cmocka_unit_test(test_old_ones_go)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

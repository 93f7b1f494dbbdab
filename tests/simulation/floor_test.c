/* The delta floor: the log is bounded, who falls below walks by itself, and the forecast says when that will
 * be. */
#include "services/metadata/tables.h"
#include "tests/simulation/scenario.h"

static struct metadata_options options;

/* One small change each so often. */
static void changes(struct world *w, unsigned n, int64_t every)
{
    for (unsigned i = 0; i < n; i++) {
        world_upstream_churn(w, "up", 1, 1, 0);
        scenario_sync(w, true);
        WORLD_TRUE(w, world_run_for(w, every));
    }
}

/* Deltas in the committed store of the site: how many, and their bytes on the wire. */
static unsigned stored_deltas(struct world *w, const char *code, uint64_t *ret_bytes)
{
    struct store_txn *t;
    unsigned n = 0;
    *ret_bytes = 0;
    assert_int_equal(store_begin(world_store(w, code), false, &t), 0);
    struct store_walk walk = store_walk_from(t, TABLE_DELTAS, (struct view){0}, (struct view){0});
    for (; store_walk_next(&walk); n++)
        *ret_bytes += walk.value.len - 68;
    store_abort(t);
    return n;
}

static uint64_t told_bytes(struct world *w, const char *code)
{
    json_t *j = world_call(w, code, "catalogue.scopes", NULL);
    json_t *row = json_array_get(json_object_get(json_object_get(j, "data"), "scopes"), 0);
    uint64_t n = (uint64_t)json_integer_value(json_object_get(row, "delta_bytes"));
    json_decref(j);
    return n;
}

static void s050_the_delta_log_is_bounded(void **state)
{
    (void)state;
    static struct metadata_options o;
    static const char *const sites[] = {"CEN", "P01", "B11"};
    uint64_t bytes;
    o = options;
    o.delta_keep_bytes = 6000;
    struct world *w = scenario_synced(50, &o, 300);
    changes(w, 40, NS_PER_S);
    scenario_converge(w, MINUTE);
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = stored_deltas(w, sites[i], &bytes);
        assert_in_range(bytes, 4000, 6000); /* as many as fit */
        assert_in_range(n, 5, 39);
        assert_int_equal(told_bytes(w, sites[i]), bytes);
    }
    world_free(w);
    o.delta_keep_bytes = 1u << 30;
    o.delta_keep = 7;
    w = scenario_synced(51, &o, 300);
    changes(w, 20, NS_PER_S);
    scenario_converge(w, MINUTE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(stored_deltas(w, sites[i], &bytes), 7);
    world_free(w);
}

static bool walks(struct world *w, void *ctx)
{
    struct world_status s = world_status(w, ctx);
    return strcmp(s.cause, "below-delta-floor") == 0 && s.backlog_bytes;
}

static void s051_who_is_below_walks_and_says_what_is_left(void **state)
{
    (void)state;
    static struct metadata_options o;
    char b11[] = "B11";
    o = options;
    o.delta_keep = 5;
    struct world *w = scenario_synced(52, &o, 3000);
    world_cut(w, "B11");
    changes(w, 4, NS_PER_S);
    world_reset_counts(w, "B11");
    world_heal(w, "B11");
    scenario_converge(w, MINUTE);
    assert_int_equal(world_counts(w, "B11")->pages, 0); /* above the floor: by deltas */
    world_cut(w, "B11");
    changes(w, 4, NS_PER_S);
    world_upstream_churn(w, "up", 0, 500, 0);
    scenario_sync(w, true);
    changes(w, 6, NS_PER_S);
    world_reset_counts(w, "B11");
    struct world_faults slow = {.rate = 1500};
    world_set_faults(w, "B11", &slow);
    world_heal(w, "B11");
    WORLD_TRUE(w, world_run_until(w, walks, b11, MINUTE));
    WORLD_TRUE(w, world_run_for(w, 20 * NS_PER_S));
    struct world_status s = world_status(w, "B11");
    assert_string_equal(s.state, "walk");
    assert_string_equal(s.cause, "below-delta-floor");
    assert_non_null(strstr(s.text, "KiB more, about")); /* bytes and time left */
    uint64_t before = s.backlog_bytes, came = world_counts(w, "B11")->page_bytes;
    world_run_for(w, 20 * NS_PER_S);
    s = world_status(w, "B11");
    assert_true(s.backlog_bytes && s.backlog_bytes < before);
    world_set_faults(w, "B11", NULL);
    scenario_converge(w, 5 * MINUTE);
    assert_true(came > 0 && world_counts(w, "B11")->by_type[FRAME_DELTA_REPLY] == 0);
    assert_true(world_counts(w, "B11")->page_bytes - came <= before); /* it said at most so much */
    world_run_for(w, NS_PER_S);
    assert_int_equal(world_status(w, "B11").backlog_bytes, 0);
    scenario_verify(w, "B11");
    world_free(w);
}

static void near(uint64_t ns, int64_t want, int64_t by)
{
    assert_in_range(ns, want - by, want + by);
}

static void s052_the_forecast(void **state)
{
    (void)state;
    static struct metadata_options o;
    o = options;
    o.delta_keep = 48;
    struct world *w = scenario_synced(53, &o, 300);
    struct world_status s = world_status(w, "P01");
    assert_int_equal(s.floor_generation, 2); /* the first filling was a walk: nobody catches up from before */
    assert_int_equal(s.floor_now_ns, 0);     /* nothing is known of the rate yet */
    changes(w, 24, HOUR);
    static const char *const sites[] = {"CEN", "P01"};
    for (unsigned i = 0; i < 2; i++) {
        s = world_status(w, sites[i]);
        assert_int_equal(s.floor_generation, 2);
        near(s.floor_now_ns, 48 * HOUR, 5 * HOUR);
        near(s.floor_first_ns, 24 * HOUR, 3 * HOUR);
    }
    changes(w, 12, HOUR / 2); /* it grows faster now */
    s = world_status(w, "CEN");
    assert_true(s.floor_now_ns < (uint64_t)(45 * HOUR));
    world_cut(w, "B11");
    uint64_t held = world_shown(w, "B11", false).generation;
    changes(w, 48, HOUR);
    for (unsigned i = 0; i < 2; i++) {
        s = world_status(w, sites[i]);
        assert_int_equal(s.floor_generation, held); /* the last moment */
        assert_true(s.floor_first_ns < (uint64_t)HOUR);
        near(s.floor_now_ns, 48 * HOUR, 4 * HOUR);
    }
    world_reset_counts(w, "B11");
    world_heal(w, "B11");
    scenario_converge(w, MINUTE);
    assert_int_equal(world_counts(w, "B11")->pages, 0); /* and it was none too late */
    world_cut(w, "B11");
    changes(w, 49, MINUTE);
    assert_int_equal(world_status(w, "P01").floor_generation, world_shown(w, "B11", false).generation + 1);
    world_reset_counts(w, "B11");
    world_heal(w, "B11");
    scenario_converge(w, MINUTE);
    assert_true(world_counts(w, "B11")->pages > 0);
    world_crash(w, "P01"); /* the rows are kept */
    world_restart(w, "P01");
    world_run_for(w, 2 * NS_PER_S);
    assert_int_equal(world_status(w, "P01").floor_generation, world_status(w, "CEN").floor_generation);
    world_free(w);
}

static void s053_the_forecast_by_bytes(void **state)
{
    (void)state;
    static struct metadata_options o;
    uint64_t bytes;
    o = options;
    o.delta_keep_bytes = 9000;
    struct world *w = scenario_synced(54, &o, 300);
    changes(w, 10, HOUR);
    unsigned n = stored_deltas(w, "CEN", &bytes);
    assert_int_equal(n, 10);
    int64_t all = (int64_t)(9000.0 / ((double)bytes / n) * (double)HOUR);
    struct world_status s = world_status(w, "CEN");
    near(s.floor_now_ns, all, all / 5);
    near(s.floor_first_ns, all - 10 * HOUR, all / 5);
    world_free(w);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s050_the_delta_log_is_bounded),
        cmocka_unit_test(s051_who_is_below_walks_and_says_what_is_left),
        cmocka_unit_test(s052_the_forecast),
        cmocka_unit_test(s053_the_forecast_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

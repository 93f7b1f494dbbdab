/* What keeps the catalogue from harm: the guard against mass changes, plans, retention, repair, a new epoch.
 */
#include "tests/simulation/scenario.h"

static struct metadata_options options;

/* CEN -> P01 -> B11 with 50 items of which 20 leave. */
static struct world *losing(uint64_t seed, char run[32])
{
    static struct metadata_options guarded;
    guarded = options;
    guarded.guard_percent = 20;
    struct world *w = scenario_synced(seed, &guarded, 50);
    world_upstream_churn(w, "up", 2, 2, 20);
    json_t *now = scenario_now(w, true);
    snprintf(run, 32, "%s", scenario_text(now, "run"));
    json_decref(now);
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    return w;
}

static void s030_guard_waits_for_approval(void **state)
{
    (void)state;
    char run[32];
    struct world *w = losing(30, run);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 1);
    assert_int_equal(world_shown(w, "CEN", false).generation, 2);
    json_t *status = world_call(w, "CEN", "sync.status", NULL);
    json_t *data = json_object_get(status, "data");
    assert_string_equal(scenario_text(data, "waits_for"), "approval");
    assert_string_equal(scenario_text(data, "cause"), "mass-change-guard");
    json_decref(status);
    world_run_for(w, 3 * DAY); /* no stall, no retry: it waits */
    assert_int_equal(world_shown(w, "CEN", true).records, 50);
    json_t *answer = world_call(w, "CEN", "sync.approve", json_pack("{s:s}", "run", "r-999"));
    assert_string_equal(scenario_text(answer, "code"), "not-found");
    json_decref(answer);
    json_decref(world_call(w, "CEN", "sync.approve", json_pack("{s:s}", "run", run)));
    WORLD_TRUE(w, world_run_for(w, 5 * NS_PER_S));
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void s030_guard_rejects(void **state)
{
    (void)state;
    char run[32];
    struct world *w = losing(31, run);
    json_decref(world_call(w, "CEN", "sync.reject", json_pack("{s:s}", "run", run)));
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_n_events(w, "CEN", "sync.failed"), 1);
    json_t *ended = scenario_run(w, "CEN", 0);
    assert_string_equal(scenario_text(ended, "result"), "failed");
    assert_non_null(strstr(scenario_text(ended, "reason"), "rejected"));
    json_decref(ended);
    unsigned counts[4];
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_LIVE], 50);
    world_free(w);
}

static void s030_guarded_run_is_asked_again_after_a_restart(void **state)
{
    (void)state;
    char run[32];
    struct world *w = losing(32, run);
    world_crash(w, "CEN");
    world_run_for(w, MINUTE);
    world_restart(w, "CEN");
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 2);
    assert_int_equal(world_shown(w, "CEN", true).records, 50);
    assert_string_equal(world_status(w, "CEN").cause, "mass-change-guard");
    json_decref(world_call(w, "CEN", "sync.approve", NULL)); /* the one that waits now */
    scenario_converge(w, MINUTE);
    world_run_for(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

/* Of 50 active updates 10 may go, 11 wait; what is expired already does not count; a small run takes nothing.
 */
static void s030_guard_to_the_update(void **state)
{
    (void)state;
    static struct metadata_options guarded;
    guarded = options;
    guarded.guard_percent = 20;
    struct world *w = scenario_synced(300, &guarded, 50);
    world_upstream_churn(w, "up", 0, 0, 10);
    scenario_sync(w, true);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 0);
    world_upstream_churn(w, "up", 0, 0, 8); /* of 40 */
    scenario_sync(w, true);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 0);
    world_upstream_churn(w, "up", 5, 20, 7); /* of 32: 21.9 %; what comes and changes makes it no better */
    scenario_sync(w, false);                 /* only what is new */
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 0);
    json_decref(scenario_now(w, true)); /* of 37 now: 18.9 % */
    world_run_for(w, MINUTE);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 0);
    world_upstream_churn(w, "up", 0, 0, 7); /* of 30 */
    json_t *now = scenario_now(w, true);
    world_run_for(w, MINUTE);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 1);
    unsigned counts[4];
    world_count(w, "CEN", counts);
    assert_int_equal(counts[WORLD_LIVE], 30);
    json_decref(now);
    world_free(w);
}

/* A filter that leaves out more than that is a mass change too. */
static void s030_guard_of_another_filter(void **state)
{
    (void)state;
    static struct metadata_options guarded;
    guarded = options;
    guarded.guard_percent = 20;
    struct world *w = scenario_synced(301, &guarded, 50);
    json_decref(world_call(w, "CEN", "filter.set", json_pack("{s:[s]}", "products", "nothing-of-the-kind")));
    json_decref(scenario_now(w, true));
    world_run_for(w, MINUTE);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 1);
    unsigned counts[4];
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_LIVE], 50);
    json_decref(world_call(w, "CEN", "sync.approve", NULL));
    scenario_converge(w, MINUTE);
    world_run_for(w, MINUTE);
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_LIVE], 0);
    world_free(w);
}

static void s031_plan_tells_and_changes_nothing(void **state)
{
    (void)state;
    struct world *w = scenario_synced(33, &options, 400);
    world_upstream_churn(w, "up", 7, 5, 3);
    struct world_shown before = world_shown(w, "CEN", true);
    json_t *answer = world_call(w, "CEN", "plan", NULL);
    json_t *data = json_object_get(answer, "data");
    json_t *scope = json_array_get(json_object_get(data, "scopes"), 0);
    assert_int_equal(json_integer_value(json_object_get(answer, "exit")), 3);
    assert_int_equal(json_integer_value(json_object_get(scope, "add")), 7);
    assert_int_equal(json_integer_value(json_object_get(scope, "change")), 5);
    assert_int_equal(json_integer_value(json_object_get(scope, "expire")), 3);
    json_int_t bytes = json_integer_value(json_object_get(scope, "bytes"));
    json_decref(answer);
    struct world_shown after = world_shown(w, "CEN", true);
    assert_true(hash_eq(&before.root, &after.root) && hash_eq(&before.content, &after.content));
    scenario_verify(w, "CEN");
    world_reset_counts(w, "P01");
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    json_t *scopes = world_call(w, "CEN", "catalogue.scopes", NULL);
    json_t *row = json_array_get(json_object_get(json_object_get(scopes, "data"), "scopes"), 0);
    assert_in_range(
        json_integer_value(json_object_get(row, "delta_bytes")), bytes - bytes / 20, bytes + bytes / 20);
    json_decref(scopes);
    answer = world_call(w, "CEN", "plan", NULL); /* nothing is left to do */
    assert_int_equal(json_integer_value(json_object_get(answer, "exit")), 0);
    json_decref(answer);
    world_free(w);
}

/* A plan is no run: nothing of it is kept, told or tried again, however it ends. */
static void s031_plan_leaves_no_trace(void **state)
{
    (void)state;
    struct world *w = scenario_synced(35, &options, 40);
    unsigned started = world_n_events(w, "CEN", "sync.started");
    struct world_shown before = world_shown(w, "CEN", true);
    world_upstream_churn(w, "up", 5, 0, 0);
    world_upstream_hang(w, "up", true);
    world_tell(w, "CEN", "plan", NULL);
    world_run_for(w, NS_PER_S);
    world_crash(w, "CEN");
    world_start(w);
    world_run_for(w, MINUTE);
    world_upstream_hang(w, "up", true);
    json_t *answer = world_call(w, "CEN", "plan", NULL); /* stalls */
    assert_null(answer);
    world_run_for(w, options.stall_ns + options.retry_interval_ns + MINUTE);
    world_upstream_hang(w, "up", false);
    world_run_for(w, MINUTE);
    WORLD_TRUE(w, world_n_events(w, "CEN", "sync.started") == started);
    struct world_shown after = world_shown(w, "CEN", true);
    assert_true(hash_eq(&before.content, &after.content));
    json_t *list = world_call(w, "CEN", "sync.list", NULL);
    assert_int_equal(json_array_size(json_object_get(json_object_get(list, "data"), "runs")), 1);
    json_decref(list);
    world_free(w);
}

static void s031_plan_of_another_filter(void **state)
{
    (void)state;
    struct world *w = scenario_synced(34, &options, 40);
    json_t *answer = world_call(w, "CEN", "plan", json_pack("{s:[s]}", "products", "nothing-of-the-kind"));
    json_t *scope = json_array_get(json_object_get(json_object_get(answer, "data"), "scopes"), 0);
    assert_int_equal(json_integer_value(json_object_get(scope, "remove")), 40);
    json_decref(answer);
    world_run_for(w, MINUTE);
    scenario_equal(w);
    json_t *filter = world_call(w, "CEN", "filter.show", NULL);
    assert_int_equal(json_array_size(json_object_get(json_object_get(filter, "data"), "products")), 0);
    json_decref(filter);
    world_free(w);
}

static void s032_expired_updates_go_after_their_time(void **state)
{
    (void)state;
    struct metadata_options o = options;
    unsigned counts[4];
    o.expired_keep_ns = 30 * DAY;
    struct world *w = scenario_synced(35, &o, 40);
    world_upstream_churn(w, "up", 0, 0, 5);
    scenario_sync(w, true);
    world_run_for(w, 20 * DAY);
    world_upstream_churn(w, "up", 0, 0, 4);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_EXPIRED], 9);
    world_run_for(w, 15 * DAY); /* the first five are 35 days old, the other four 15 */
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_EXPIRED], 4);
    assert_int_equal(counts[WORLD_LIVE], 31);
    world_free(w);
}

static void s033_repair_fetches_only_what_differs(void **state)
{
    (void)state;
    struct world *w = scenario_synced(36, &options, 1500);
    uint64_t whole = world_counts(w, "B11")->page_bytes;
    world_reset_counts(w, "B11");
    assert_int_equal(world_lose_pages(w, "B11", 1), 1);
    json_t *answer = world_call(w, "B11", "repair", json_pack("{s:b}", "dry_run", 1));
    assert_int_equal(json_integer_value(json_object_get(answer, "exit")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "data"), "bad")), 1);
    json_decref(answer);
    world_run_for(w, MINUTE);
    assert_int_equal(world_counts(w, "B11")->pages, 0); /* dry: nothing was fetched */
    json_decref(world_call(w, "B11", "repair", NULL));
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    scenario_verify(w, "B11");
    assert_in_range(world_counts(w, "B11")->page_bytes, 1, whole / 20);
    answer = world_call(w, "B11", "repair", NULL);
    assert_int_equal(json_integer_value(json_object_get(answer, "exit")), 0);
    json_decref(answer);
    world_free(w);
}

/* In the background: nobody asks, and a page that silently changed is found and fetched again. */
static void s037_silent_damage_is_found_and_mended(void **state)
{
    (void)state;
    static struct metadata_options o;
    o = options;
    o.rehash_ns = DAY;
    struct world *w = scenario_synced(39, &o, 1500);
    json_t *j = world_call(w, "B11", "verify", NULL);
    json_int_t pages = json_integer_value(json_object_get(json_object_get(j, "data"), "pages"));
    json_decref(j);
    assert_int_equal(world_damage_pages(w, "B11", 1), 1);
    world_reset_counts(w, "B11");
    j = world_call(w, "B11", "verify", NULL); /* there it is */
    assert_int_equal(json_integer_value(json_object_get(j, "exit")), 3);
    json_decref(j);
    world_run_for(w, DAY);
    WORLD_OK(w);
    assert_int_equal(world_n_events(w, "B11", "store.damaged"), 1);
    assert_int_equal(world_counts(w, "B11")->pages, 1);
    scenario_verify(w, "B11");
    assert_string_equal(world_status(w, "B11").state, "live");
    j = world_call(w, "B11", "store.stat", NULL);
    json_t *store = json_array_get(json_object_get(json_object_get(j, "data"), "stores"), 0);
    assert_true(json_integer_value(json_object_get(store, "pages_hashed_again")) >= pages); /* all of them */
    assert_int_equal(json_integer_value(json_object_get(store, "pages_found_bad")), 1);
    json_decref(j);
    world_free(w);
}

/* Damage that is found while deltas are on their way is mended before their generation is shown. */
static void s037_damage_that_is_found_in_between(void **state)
{
    (void)state;
    struct world *w = scenario_synced(40, &options, 3000);
    world_drop_hints(w, "B11", true);
    struct world_faults slow = {.rate = 60};
    world_upstream_churn(w, "up", 1, 0, 0);
    world_set_faults(w, "B11", &slow);
    scenario_sync(w, true);
    int64_t soon = world_now(w) + 10 * MINUTE;
    while (strcmp(world_status(w, "B11").state, "catchup") != 0 && world_now(w) < soon)
        WORLD_TRUE(w, world_run_for(w, NS_PER_S / 4));
    assert_string_equal(world_status(w, "B11").state, "catchup");
    assert_int_equal(world_damage_pages(w, "B11", 20), 20);
    json_t *j = world_call(w, "B11", "repair", NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "data"), "bad")), 20);
    json_decref(j);
    assert_int_equal(world_shown(w, "B11", false).generation, 2);
    world_set_faults(w, "B11", NULL);
    scenario_converge(
        w, 10 * MINUTE); /* the world looks at every record when a site shows another generation */
    WORLD_OK(w);
    scenario_verify(w, "B11");
    assert_int_equal(world_counts(w, "B11")->pages_twice, 20); /* the damaged ones, and nothing else */
    assert_string_equal(world_status(w, "B11").state, "live");
    world_free(w);
}

static void s038_repair_names_what_it_will_fetch(void **state)
{
    (void)state;
    struct world *w = scenario_synced(41, &options, 1500);
    world_upstream_churn(w, "up", 2, 0, 0);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    assert_int_equal(world_damage_pages(w, "B11", 2), 2);
    json_t *j = world_call(w, "B11", "repair", json_pack("{s:b}", "dry_run", 1));
    json_t *data = json_object_get(j, "data"), *row = json_array_get(json_object_get(data, "scopes"), 0);
    assert_int_equal(json_integer_value(json_object_get(data, "bad")), 2);
    assert_int_equal(json_array_size(json_object_get(row, "ranges")), 2);
    assert_in_range(json_integer_value(json_object_get(data, "records")), 2, 128);
    json_int_t bytes = json_integer_value(json_object_get(data, "bytes"));
    assert_true(json_is_number(json_object_get(data, "seconds")));
    json_decref(j);
    world_reset_counts(w, "B11");
    json_decref(world_call(w, "B11", "repair", NULL));
    world_run_for(w, MINUTE);
    assert_in_range(world_counts(w, "B11")->page_bytes, bytes / 2, bytes * 2);
    assert_int_equal(world_counts(w, "B11")->pages, 2);
    assert_int_equal(world_damage_deltas(w, "P01"), 1); /* what children would be given */
    j = world_call(w, "P01", "verify", NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "exit")), 0);
    json_decref(j);
    j = world_call(w, "P01", "verify", json_pack("{s:b}", "deep", 1));
    assert_int_equal(json_integer_value(json_object_get(j, "exit")), 3);
    json_decref(j);
    json_decref(world_call(w, "P01", "repair", NULL));
    scenario_verify(w, "P01");
    world_free(w);
}

/* The central site has no parent: it says so, and keeps what is left. */
static void s038_damage_at_the_central_site(void **state)
{
    (void)state;
    static struct metadata_options o;
    o = options;
    o.rehash_ns = MINUTE;
    struct world *w = scenario_synced(42, &o, 300);
    world_damage_pages(w, "CEN", 1);
    json_t *j = world_call(w, "CEN", "repair", NULL);
    assert_string_equal(scenario_text(j, "code"), "corrupt");
    json_decref(j);
    world_run_for(w, 90 * NS_PER_S);
    WORLD_OK(w);
    assert_true(world_n_events(w, "CEN", "store.damaged") >= 1);
    assert_string_equal(world_status(w, "CEN").cause, "corrupt");
    j = world_call(w, "CEN", "verify", NULL);
    json_t *bad = json_array_get(json_object_get(json_object_get(j, "data"), "bad"), 0);
    assert_int_equal(json_integer_value(json_object_get(bad, "pages")), 1);
    json_decref(j);
    world_free(w);
}

static void s034_a_new_epoch_is_walked_to_while_serving(void **state)
{
    (void)state;
    struct world *w = scenario_synced(37, &options, 300);
    struct epoch before = world_shown(w, "CEN", false).epoch;
    world_reset_counts(w, "B11");
    json_decref(world_call(w, "CEN", "epoch.open", NULL));
    WORLD_TRUE(w, world_run_for(w, 5 * NS_PER_S));
    scenario_converge(w, MINUTE);
    struct world_shown shown = world_shown(w, "B11", true);
    assert_false(epoch_eq(&shown.epoch, &before));
    assert_int_equal(shown.records, 300);
    assert_int_equal(
        world_counts(w, "B11")->pages, 0); /* an unknown epoch voids the position, never the data */
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    json_t *refused = world_call(w, "P01", "epoch.open", NULL);
    assert_string_equal(scenario_text(refused, "code"), "not-central");
    json_decref(refused);
    world_free(w);
}

static void s035_policy_follows_each_success_and_nothing_else(void **state)
{
    (void)state;
    struct world *w = scenario_synced(38, &options, 20);
    static const char *const sites[] = {"CEN", "P01", "B11"};
    for (unsigned i = 0; i < 3; i++) {
        const struct world_event *policy = world_event(w, sites[i], "policy.revised", 0);
        const struct world_event *success = world_event(w, sites[i], "sync.succeeded", 0);
        assert_non_null(policy);
        assert_true(policy->at >= success->at); /* never before it */
    }
    scenario_sync(w, true);
    world_run_for(w, MINUTE);
    assert_int_equal(world_n_events(w, "B11", "policy.revised"), 1); /* nothing changed: no revision */
    world_upstream_churn(w, "up", 1, 1, 1);
    world_upstream_fail(w, "up", ERR_UPSTREAM);
    json_decref(scenario_now(w, true));
    world_run_for(w, MINUTE);
    assert_int_equal(world_n_events(w, "CEN", "policy.revised"), 1); /* a failed run makes none */
    world_upstream_fail(w, "up", 0);
    scenario_sync(w, true);
    world_run_for(w, MINUTE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(world_n_events(w, sites[i], "policy.revised"), 2);
    world_free(w);
}

/* Wherever the centre dies on its way into a new epoch, it gets there: an epoch that has a head already is
 * not asked for again with another one. */
static void s036_a_crash_on_the_way_into_a_new_epoch(void **state)
{
    (void)state;
    for (unsigned points = 1; points < 24; points++) {
        struct world *w = scenario_synced(360 + points, &options, 30);
        struct epoch before = world_shown(w, "CEN", false).epoch;
        world_crash_at(w, "CEN", points);
        world_tell(w, "CEN", "epoch.open", NULL);
        world_run_for(w, MINUTE);
        world_crash_at(w, "CEN", 0);
        world_restart(w, "CEN");
        world_run_for(w, MINUTE);
        json_decref(world_call(w, "CEN", "epoch.open", NULL));
        WORLD_TRUE(w, world_run_for(w, 5 * NS_PER_S));
        scenario_converge(w, 10 * MINUTE);
        struct epoch after = world_shown(w, "B11", true).epoch;
        assert_false(epoch_eq(&after, &before));
        world_upstream_churn(w, "up", 2, 2, 2);
        scenario_sync(w, true);
        scenario_converge(w, MINUTE);
        scenario_equal(w);
        world_free(w);
    }
}

/* Two centres that begin at the same moment begin different epochs. */
static void s037_an_epoch_is_never_the_time(void **state)
{
    (void)state;
    struct epoch epochs[2];
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = scenario_tree(370 + i, &options, 0);
        epochs[i] = world_shown(w, "CEN", false).epoch;
        world_free(w);
    }
    assert_false(epoch_eq(&epochs[0], &epochs[1]));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s030_guard_waits_for_approval),
        cmocka_unit_test(s030_guard_rejects),
        cmocka_unit_test(s030_guarded_run_is_asked_again_after_a_restart),
        cmocka_unit_test(s030_guard_to_the_update),
        cmocka_unit_test(s030_guard_of_another_filter),
        cmocka_unit_test(s031_plan_tells_and_changes_nothing),
        cmocka_unit_test(s031_plan_leaves_no_trace),
        cmocka_unit_test(s031_plan_of_another_filter),
        cmocka_unit_test(s032_expired_updates_go_after_their_time),
        cmocka_unit_test(s033_repair_fetches_only_what_differs),
        cmocka_unit_test(s037_silent_damage_is_found_and_mended),
        cmocka_unit_test(s037_damage_that_is_found_in_between),
        cmocka_unit_test(s038_repair_names_what_it_will_fetch),
        cmocka_unit_test(s038_damage_at_the_central_site),
        cmocka_unit_test(s035_policy_follows_each_success_and_nothing_else),
        cmocka_unit_test(s036_a_crash_on_the_way_into_a_new_epoch),
        cmocka_unit_test(s037_an_epoch_is_never_the_time),
        cmocka_unit_test(s034_a_new_epoch_is_walked_to_while_serving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

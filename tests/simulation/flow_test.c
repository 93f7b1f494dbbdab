/* Scenarios 001 to 011: how the catalogue gets down the tree, whatever happens to links and processes. */
#include "proto/catalogue.pb-c.h"
#include "tests/simulation/scenario.h"

static struct metadata_options options;

static uint64_t got(struct world *w, const char *code, unsigned type)
{
    return world_counts(w, code)->by_type[type];
}

static void s001_joining(void **state)
{
    (void)state;
    struct world *w = scenario_tree(1, &options, 50);
    assert_int_equal(world_shown(w, "B11", true).generation, 1); /* an empty catalogue is one too */
    assert_int_equal(world_shown(w, "B11", true).records, 0);
    scenario_sync(w, true);
    scenario_converge(w, 10 * NS_PER_S);
    world_add_site(w, "B12", "P01"); /* comes when all is there */
    world_add_site(w, "B13", "P02"); /* below a site that is away: it waits */
    world_crash(w, "P02");
    world_start(w);
    world_crash(w, "P02");
    world_run_for(w, 5 * NS_PER_S);
    assert_int_equal(world_shown(w, "B12", true).records, 50);
    assert_int_equal(world_shown(w, "B13", true).generation, 0);
    world_restart(w, "P02");
    scenario_converge(w, 10 * NS_PER_S);
    scenario_equal(w);
    for (unsigned i = 0; i < world_n_sites(w); i++)
        scenario_verify(w, world_site_code(w, i));
    WORLD_OK(w);
    world_free(w);
}

static void s002_snapshot_from_empty(void **state)
{
    (void)state;
    struct world *w = scenario_synced(2, &options, 2000);
    world_add_site(w, "B12", "P01");
    world_start(w);
    scenario_converge(w, 30 * NS_PER_S);
    assert_true(got(w, "B12", FRAME_PAGE_REPLY) > 0);
    assert_int_equal(got(w, "B12", FRAME_DELTA_REPLY), 0);
    assert_true(world_counts(w, "B12")->pages >= 2000 / 64);
    assert_int_equal(world_counts(w, "B12")->pages_twice, 0);
    scenario_equal(w);
    scenario_verify(w, "B12");
    world_free(w);
}

static void s003_delta_inside_the_hint(void **state)
{
    (void)state;
    struct world *w = scenario_synced(3, &options, 300);
    for (unsigned i = 0; i < 5; i++) {
        world_upstream_churn(w, "up", 2, 2, 1);
        world_reset_counts(w, "B11");
        scenario_sync(w, true);
        scenario_converge(w, NS_PER_S); /* two hops */
        assert_true(got(w, "B11", FRAME_HINT) >= 1);
        assert_int_equal(got(w, "B11", FRAME_PAGE_REPLY), 0);
        assert_int_equal(got(w, "B11", FRAME_DELTA_REPLY), 0);
        assert_int_equal(got(w, "B11", FRAME_HEAD), 0);
    }
    scenario_equal(w);
    world_free(w);
}

static struct blob *no_requests(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    (void)ctx;
    (void)w;
    return down && type == FRAME_SYNC_REQUEST ? NULL : blob_ref(frame);
}

static void s004_lost_hint_is_healed_by_poll(void **state)
{
    (void)state;
    struct world *w = scenario_synced(4, &options, 100);
    world_drop_hints(w, "P01", true);
    world_tamper(w, "P01", no_requests, NULL);
    world_upstream_churn(w, "up", 3, 0, 0);
    scenario_sync(w, true);
    world_run_for(w, 5 * NS_PER_S);
    WORLD_TRUE(w, !world_converged(w));
    assert_int_equal(world_shown(w, "P02", false).generation, world_shown(w, "CEN", false).generation);
    scenario_converge(w, options.poll_interval_ns * 5 / 4 + 5 * NS_PER_S);
    scenario_equal(w);
    world_free(w);
}

static void s005_gap_is_caught_up(void **state)
{
    (void)state;
    struct world *w = scenario_synced(5, &options, 1000);
    world_cut(w, "P01");
    for (unsigned i = 0; i < 6; i++) {
        world_upstream_churn(w, "up", 3, 3, 2);
        scenario_sync(w, true);
    }
    world_reset_counts(w, "P01");
    world_reset_counts(w, "B11");
    world_heal(w, "P01");
    scenario_converge(w, 10 * NS_PER_S);
    assert_true(got(w, "P01", FRAME_DELTA_REPLY) >= 1);
    assert_int_equal(got(w, "P01", FRAME_PAGE_REPLY), 0);
    assert_int_equal(got(w, "B11", FRAME_PAGE_REPLY), 0);
    scenario_equal(w);
    world_free(w);
}

static void s006_below_the_delta_floor_it_walks(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.delta_keep = 3;
    struct world *w = scenario_synced(6, &o, 3000);
    world_cut(w, "P01");
    for (unsigned i = 0; i < 8; i++) {
        world_upstream_churn(w, "up", 3, 3, 2);
        scenario_sync(w, true);
    }
    world_reset_counts(w, "P01");
    world_heal(w, "P01");
    scenario_converge(w, 10 * NS_PER_S);
    assert_true(got(w, "P01", FRAME_PAGE_REPLY) > 0);
    assert_int_equal(got(w, "P01", FRAME_DELTA_REPLY), 0);
    assert_int_equal(world_counts(w, "P01")->pages_twice, 0);
    assert_true(world_counts(w, "P01")->pages < 3 * 64); /* what differs, not everything */
    scenario_equal(w);
    scenario_verify(w, "P01");
    world_free(w);
}

/* Cuts the link after every fifth page reply, until the snapshot is whole. */
static void s007_cut_in_mid_snapshot(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.chunk_bytes = 4096;
    o.window_bytes = 32 * 1024;
    for (int when = WORLD_BEFORE; when <= WORLD_INSTEAD; when++) {
        struct world *w = scenario_synced(7, &o, 2500);
        world_add_site(w, "B12", "P01");
        unsigned cuts = 0;
        world_on_frame(w, "B12", FRAME_PAGE_REPLY, 5, when, WORLD_CUT);
        world_start(w);
        while (cuts < 100 && !world_converge(w, 20 * NS_PER_S)) {
            WORLD_OK(w);
            if (cuts % 3 == 2) { /* and its process dies now and then */
                world_crash(w, "B12");
                world_restart(w, "B12");
            }
            world_on_frame(w, "B12", FRAME_PAGE_REPLY, 5, when, WORLD_CUT);
            world_heal(w, "B12");
            cuts++;
        }
        WORLD_TRUE(w, world_converged(w));
        assert_in_range(cuts, 3, 60);
        assert_true(world_counts(w, "B12")->pages > 2500 / 64);
        assert_int_equal(world_counts(w, "B12")->pages_twice, 0);
        scenario_verify(w, "B12");
        world_free(w);
    }
}

static void s008_moving_head_during_a_walk(void **state)
{
    (void)state;
    struct world *w = scenario_synced(8, &options, 2500);
    if (getenv("V"))
        world_verbose(w, true);
    world_add_site(w, "B12", "P01");
    world_set_faults(w, "B12", &(struct world_faults){.rate = 30000});
    world_start(w);
    for (unsigned i = 0; i < 8; i++) {
        world_run_for(w, NS_PER_S);
        world_upstream_churn(w, "up", 20, 20, 10);
        scenario_sync(w, true);
    }
    WORLD_TRUE(w, !world_converged(w));
    scenario_converge(w, 3 * MINUTE);
    assert_int_equal(world_counts(w, "B12")->pages_twice, 0);
    scenario_equal(w);
    scenario_verify(w, "B12");
    world_free(w);
}

/* P10, P11: on a link that a snapshot fills, requests and heads pass the bulk, and no more than some seconds
 * of the rate wait for the child. */
static void s027_heads_pass_the_bulk(void **state)
{
    (void)state;
    const uint64_t rate = 7000;
    struct world_options o = {.seed = 27, .config = &options, .queue_bound = 4 * rate};
    struct world *w = world_catalogue_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_start(w);
    world_run_for(w, NS_PER_S);
    world_upstream_add(w, "up", 6000);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_add_site(w, "B12", "P01");
    world_set_faults(w, "B12", &(struct world_faults){.rate = rate});
    world_start(w);
    for (unsigned i = 0; i < 4; i++) {
        world_run_for(w, 3 * NS_PER_S);
        world_upstream_churn(w, "up", 2, 2, 0);
        uint64_t hints = got(w, "B12", FRAME_HINT), requests = got(w, "B12", FRAME_SYNC_REQUEST);
        scenario_sync(w, true);
        world_run_for(w, 2 * NS_PER_S);
        WORLD_OK(w);
        assert_true(got(w, "B12", FRAME_HINT) > hints);
        assert_true(got(w, "B12", FRAME_SYNC_REQUEST) > requests);
        assert_true(world_status(w, "B12").known_generation == world_shown(w, "CEN", false).generation);
    }
    WORLD_TRUE(w, !world_converged(w)); /* the snapshot is still on its way */
    scenario_converge(w, 10 * MINUTE);
    scenario_equal(w);
    world_free(w);
}

static struct blob *largest_wish(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    uint32_t *most = ctx;
    struct frame f;
    AUTO_ARENA a;
    int rc;
    (void)w;
    arena_init(&a);
    if (down || type != FRAME_PAGE_GET || frame_parse(blob_view(frame), &f))
        return blob_ref(frame);
    Sitetree__PageGet *get = FRAME_UNPACK(&a, &f, page_get, &rc);
    assert_non_null(get);
    if (get->max_bytes > *most)
        *most = get->max_bytes;
    return blob_ref(frame);
}

/* P7: what a cut can lose is an answer that has come in part, so on a slow link the answers are small. */
static void s028_answers_follow_the_rate(void **state)
{
    (void)state;
    uint32_t most = 0;
    struct world *w = scenario_synced(28, &options, 6000);
    world_add_site(w, "B12", "P01");
    world_set_faults(w, "B12", &(struct world_faults){.rate = 200000});
    world_tamper(w, "B12", largest_wish, &most);
    world_start(w);
    scenario_converge(w, 2 * MINUTE);
    scenario_equal(w);
    print_message("at most asked for at once: %u bytes\n", most);
    assert_in_range(most, 4096, 16 * 1024);
    world_free(w);
}

/* A sync with a crash of one site at the n-th point; false when the sync has fewer points. */
static bool crash_in_sync(const char *code, unsigned n, unsigned items)
{
    struct world *w = scenario_synced(9, &options, items);
    world_upstream_churn(w, "up", 5, 5, 5);
    world_crash_at(w, code, n);
    json_t *j = world_call(w, "CEN", "sync.now", json_pack("{s:b}", "full", 1));
    world_run_for(w, 20 * NS_PER_S);
    bool crashed = !world_crash_pending(w, code);
    world_crash_at(w, code, 0);
    world_restart(w, code);
    WORLD_OK(w);
    /* nobody does anything: the run that died is made up for within the retry time */
    world_run_for(w, options.retry_interval_ns + 10 * MINUTE);
    if (j) { /* else the command died with its process, and the operator knows it */
        scenario_equal(w);
        for (unsigned i = 0; i < world_n_sites(w); i++) { /* and the request went down to everybody */
            json_t *run = scenario_run(w, world_site_code(w, i), 0);
            WORLD_TRUE(w, strcmp(scenario_text(run, "result"), "succeeded") == 0);
            WORLD_TRUE(w, (uint64_t)json_integer_value(json_object_get(run, "generation_after")) ==
                              world_shown(w, "CEN", false).generation);
            json_decref(run);
        }
    }
    json_decref(j);
    WORLD_TRUE(w, world_converged(w));
    scenario_verify(w, code);
    WORLD_OK(w);
    world_free(w);
    return crashed;
}

static void s009_crash_at_each_effect(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "B11"};
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = 1;
        while (n < 400 && crash_in_sync(codes[i], n, 150))
            n++;
        print_message("%s: %u points in a sync\n", codes[i], n - 1);
        assert_in_range(n, 8, 399);
    }
}

/* The very first generation: an epoch is made, signed and published; a crash at any point of it. */
static bool crash_at_birth(unsigned n)
{
    struct world_options o = {.seed = 90, .config = &options};
    struct world *w = world_catalogue_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_crash_at(w, "CEN", n);
    world_start(w);
    world_run_for(w, 10 * NS_PER_S);
    bool crashed = !world_crash_pending(w, "CEN");
    world_crash_at(w, "CEN", 0);
    world_restart(w, "CEN");
    world_run_for(w, NS_PER_S);
    scenario_converge(w, 10 * MINUTE);
    assert_true(world_shown(w, "P01", false).generation >= 1);
    world_upstream_add(w, "up", 10);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
    return crashed;
}

static void s009_crash_at_birth(void **state)
{
    (void)state;
    unsigned n = 1;
    while (n < 100 && crash_at_birth(n))
        n++;
    print_message("CEN: %u points at its birth\n", n - 1);
    assert_in_range(n, 8, 99);
}

static bool crash_in_snapshot(unsigned n)
{
    struct world *w = scenario_synced(10, &options, 600);
    world_add_site(w, "B12", "P01");
    world_crash_at(w, "B12", n);
    world_start(w);
    world_run_for(w, 10 * NS_PER_S);
    bool crashed = !world_crash_pending(w, "B12");
    world_crash_at(w, "B12", 0);
    world_restart(w, "B12");
    scenario_converge(w, 30 * NS_PER_S);
    assert_int_equal(world_counts(w, "B12")->pages_twice, 0);
    world_free(w);
    return crashed;
}

static void s009_crash_at_each_effect_of_a_snapshot(void **state)
{
    (void)state;
    unsigned n = 1;
    while (n < 400 && crash_in_snapshot(n))
        n++;
    print_message("B12: %u points in a snapshot\n", n - 1);
    assert_in_range(n, 8, 399);
}

static void s010_sleeper_of_a_year(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.poll_interval_ns = 2 * DAY;
    o.head_lifetime_ns = 60 * DAY;
    o.delta_keep = 5;
    o.rehash_ns = 0;
    struct world *w = scenario_synced(10, &o, 500);
    world_crash(w, "B11");
    for (unsigned month = 0; month < 12; month++) {
        world_upstream_churn(w, "up", 40, 20, 35);
        scenario_sync(w, true);
        world_run_for(w, 30 * DAY);
        WORLD_OK(w);
    }
    world_upstream_churn(w, "up", 10, 0, 10);
    world_reset_counts(w, "B11");
    world_restart(w, "B11");
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    assert_true(got(w, "B11", FRAME_PAGE_REPLY) > 0);
    scenario_equal(w);
    scenario_verify(w, "B11");
    world_free(w);
}

static void s011_expired_head_is_flagged_and_served(void **state)
{
    (void)state;
    struct world *w = scenario_synced(11, &options, 80);
    world_crash(w, "CEN");
    world_run_for(w, options.head_lifetime_ns + DAY);
    WORLD_OK(w);
    assert_string_equal(world_status(w, "P01").state, "stale");
    assert_string_equal(world_status(w, "P01").cause, "head-expired");
    assert_string_equal(world_status(w, "B11").state, "stale");
    assert_true(world_n_events(w, "P01", "replica.stale") >= 1);
    json_t *j = world_call(w, "B11", "catalogue.list", json_pack("{s:i}", "limit", 10));
    WORLD_TRUE(w, json_array_size(json_object_get(json_object_get(j, "data"), "updates")) == 10);
    json_decref(j);
    world_restart(w, "CEN"); /* it renews its head by itself */
    scenario_converge(w, 10 * MINUTE);
    world_run_for(w, NS_PER_S);
    assert_string_equal(world_status(w, "P01").state, "live");
    assert_string_equal(world_status(w, "B11").state, "live");
    scenario_equal(w);
    world_free(w);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* the tests with this pattern only */
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s001_joining),
        cmocka_unit_test(s002_snapshot_from_empty),
        cmocka_unit_test(s003_delta_inside_the_hint),
        cmocka_unit_test(s004_lost_hint_is_healed_by_poll),
        cmocka_unit_test(s005_gap_is_caught_up),
        cmocka_unit_test(s006_below_the_delta_floor_it_walks),
        cmocka_unit_test(s007_cut_in_mid_snapshot),
        cmocka_unit_test(s008_moving_head_during_a_walk),
        cmocka_unit_test(s027_heads_pass_the_bulk),
        cmocka_unit_test(s028_answers_follow_the_rate),
        cmocka_unit_test(s009_crash_at_each_effect),
        cmocka_unit_test(s009_crash_at_birth),
        cmocka_unit_test(s009_crash_at_each_effect_of_a_snapshot),
        cmocka_unit_test(s010_sleeper_of_a_year),
        cmocka_unit_test(s011_expired_head_is_flagged_and_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

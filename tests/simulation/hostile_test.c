/* Scenarios 050 to 056: a relay that lies, two centres, years asleep or off the clock, memory that fails at
 * each place. What random_test.c hardly meets, or not alone. */
#include "tests/lib/failing_memory.h"
#include "tests/lib/world_hostile.h"
#include "tests/simulation/scenario.h"

static struct metadata_options options;

static void changes(struct world *w, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        world_upstream_churn(w, "up", 12, 8, 6);
        json_decref(world_call(w, "CEN", "sync.now", json_pack("{s:b}", "full", 1)));
        world_run_for(w, 10 * MINUTE);
        WORLD_OK(w);
    }
}

/* Each way alone, then all: what P01 does to B11 is delay, and over when it behaves. */
static void s050_a_hostile_relay_only_delays(void **state)
{
    (void)state;
    for (unsigned attack = 0; attack <= ATTACK_COUNT; attack++) {
        if (attack == ATTACK_LOOP) /* takes nodes: full_test.c */
            continue;
        struct world *w = scenario_synced(500 + attack, &options, 700);
        world_hostile(w, "P01", 0);
        changes(w, 3);
        world_hostile(w, "P01", attack == ATTACK_COUNT ? ATTACK_ALL : 1u << attack);
        changes(w, 12);
        world_crash(w, "B11"); /* and to one that begins anew */
        world_restart(w, "B11");
        changes(w, 4);
        WORLD_TRUE(w, world_shown(w, "P02", false).generation == world_shown(w, "CEN", false).generation);
        world_hostile(w, "P01", 0);
        scenario_converge(w, HOUR);
        scenario_equal(w);
        scenario_verify(w, "B11");
        assert_int_equal(world_stray_pages(w, "B11"), 0);
        for (unsigned a = 0; a < ATTACK_LOOP; a++)
            if (attack == a)
                assert_in_range(world_attacks_made(w, a), 1, 100000);
        world_free(w);
    }
}

/* It stays as it is, and the child is given another parent: nothing that came and was right comes again. */
static void s051_away_from_a_hostile_relay(void **state)
{
    (void)state;
    struct world *w = scenario_synced(51, &options, 2000);
    world_hostile(w, "P01", 1u << ATTACK_OMIT | 1u << ATTACK_MIX | 1u << ATTACK_REPLAY | 1u << ATTACK_DRIP);
    changes(w, 5);
    world_upstream_churn(w, "up", 1500, 0, 0);
    scenario_sync(w, true);
    WORLD_TRUE(w, !world_converged(w));
    world_move(w, "B11", "P02");
    scenario_converge(w, 10 * MINUTE);
    scenario_equal(w);
    scenario_verify(w, "B11");
    world_free(w);
}

static void twin_syncs(struct world *w)
{
    world_upstream_churn(w, "up", 5, 5, 0);
    json_decref(world_call(w, "TWIN", "sync.now", json_pack("{s:b}", "full", 1)));
    world_run_for(w, 10 * MINUTE);
    WORLD_OK(w);
}

/* A second central site with the same keys and an older store: whoever follows the first one refuses its
 * heads, says so, and keeps what it has; and the second one signs nothing more once it hears of newer heads
 * than its own. */
static void s052_two_centres_by_mistake(void **state)
{
    (void)state;
    for (unsigned ahead = 0; ahead < 2; ahead++) {
        struct world *w = scenario_synced(52, &options, 300);
        world_twin(w, "TWIN");
        world_start(w);
        changes(w, 3);
        scenario_converge(w, MINUTE);
        struct world_shown before = world_shown(w, "P01", true);
        for (unsigned i = 0; i < (ahead ? 3 : 1); i++)
            twin_syncs(w);
        uint64_t signs = world_shown(w, "TWIN", false).generation, refusals = world_status(w, "P01").refusals;
        assert_int_equal(signs, ahead ? before.generation : before.generation - 2);
        world_move(w, "P01", "TWIN");
        world_run_for(w, 10 * MINUTE);
        WORLD_OK(w);
        twin_syncs(w);
        struct world_shown after = world_shown(w, "P01", true);
        assert_true(hash_eq(&after.content, &before.content) && hash_eq(&after.head, &before.head));
        if (!ahead && (world_status(w, "P01").refusals == refusals ||
                          !strstr(world_status(w, "P01").last_refusal, "rollback")))
            fail_msg("'%s'", world_status(w, "P01").last_refusal);
        assert_int_equal(world_shown(w, "TWIN", false).generation, signs);
        world_move(w, "P01", "CEN");
        changes(w, 1);
        scenario_converge(w, 10 * MINUTE);
        scenario_equal(w);
        world_free(w);
    }
}

/* P02 sleeps a year; the tree changes every week; every key that was taken away meanwhile stays away (P8). */
static void s053_a_sleeper_of_a_year(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.poll_interval_ns = 6 * HOUR; /* a year of questions every five minutes tells nothing more */
    o.delta_keep = 8;
    o.rehash_ns = 0;
    struct world *w = scenario_synced(53, &o, 400);
    world_crash(w, "P02");
    for (unsigned week = 0; week < 52; week++) {
        char key[64];
        world_upstream_churn(w, "up", 6, 4, 3);
        if (week % 4 == 0 && world_upstream_any(w, "up", key, sizeof key)) {
            world_upstream_leave(w, "up", key);
            json_decref(world_call(w, "CEN", "update.remove", json_pack("{s:s}", "id", key)));
        }
        world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", 1));
        world_run_for(w, 7 * DAY);
        WORLD_OK(w);
    }
    world_restart(w, "P02");
    scenario_converge(w, 10 * MINUTE);
    scenario_equal(w);
    scenario_verify(w, "P02");
    assert_int_equal(world_counts(w, "P02")->pages_twice, 0);
    world_free(w);
}

/* A clock that is a year off, each site and each way: who is wrong waits and says why, nobody goes back, and
 * all is well by itself once the clock is. */
static void s054_a_year_off_the_clock(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "B11"};
    struct metadata_options o = options;
    o.schedule_ns = DAY;
    for (unsigned i = 0; i < 6; i++) {
        struct world *w = scenario_synced(540 + i, &o, 200);
        const char *code = codes[i / 2];
        world_skew(w, code, i % 2 ? 365 * DAY : -365 * DAY);
        changes(w, 4);
        world_crash(w, code);
        world_restart(w, code);
        changes(w, 2);
        world_skew(w, code, 0);
        world_run_for(w, 2 * DAY);
        changes(w, 1);
        scenario_converge(w, 2 * HOUR);
        scenario_equal(w);
        world_free(w);
    }
}

/* The n-th allocation of a step fails, at each site, for every n that a step has. */
static void s055_failing_allocations(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "B11"};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned nth = 1; nth < 400; nth += 1 + nth / 8) {
            struct world_options wo = {.seed = 5500 + nth,
                .config = &options,
                .fail_memory = memory_fail_at,
                .memory_failed = memory_failed};
            struct world *w = world_catalogue_new(&wo);
            world_add_site(w, "CEN", NULL);
            world_add_site(w, "P01", "CEN");
            world_add_site(w, "B11", "P01");
            world_start(w);
            world_run_for(w, NS_PER_S);
            world_upstream_add(w, "up", 150);
            scenario_sync(w, true);
            scenario_converge(w, MINUTE);
            world_upstream_churn(w, "up", 90, 5, 5);
            world_fail_alloc(w, codes[i], nth);
            world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", 1));
            world_run_for(w, options.retry_interval_ns + 10 * MINUTE);
            world_fail_alloc(w, codes[i], 0);
            scenario_sync(w, true);
            scenario_converge(w, 10 * MINUTE);
            scenario_equal(w);
            scenario_verify(w, codes[i]);
            world_free(w);
        }
}

/* Half of the tree apart from the other half, again and again. */
static void s056_partitions(void **state)
{
    (void)state;
    struct world *w = scenario_synced(56, &options, 600);
    for (uint64_t sites = 1; sites < 16; sites++) {
        world_partition(w, sites);
        changes(w, 2);
        for (unsigned i = 1; i < world_n_sites(w); i++)
            world_heal(w, world_site_code(w, i));
        scenario_converge(w, 10 * MINUTE);
        scenario_equal(w);
    }
    assert_int_equal(world_counts(w, "B11")->pages_twice, 0);
    world_free(w);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s050_a_hostile_relay_only_delays),
        cmocka_unit_test(s051_away_from_a_hostile_relay),
        cmocka_unit_test(s052_two_centres_by_mistake),
        cmocka_unit_test(s053_a_sleeper_of_a_year),
        cmocka_unit_test(s054_a_year_off_the_clock),
        cmocka_unit_test(s055_failing_allocations),
        cmocka_unit_test(s056_partitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

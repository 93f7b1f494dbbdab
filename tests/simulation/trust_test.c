/* Scenarios 040 to 049: another head key, what a thief of the old one has signed, and centres that went back.
 */
#include "tests/lib/world_full.h"
#include "tests/simulation/scenario.h"

static struct metadata_options options;

static json_int_t trust_field(struct world *w, const char *code, const char *field)
{
    json_t *j = world_call(w, code, "trust.show", NULL);
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_int_t n = json_integer_value(json_object_get(json_object_get(j, "data"), field));
    json_decref(j);
    return n;
}

static void inject(struct world *w, const char *code, struct world_forgery f)
{
    struct blob *b = world_forge(w, code, &f);
    WORLD_TRUE(w, b != NULL);
    world_inject(w, code, "metadata/test/up", b);
}

/* A new site is in the middle of its first walk, another one sleeps: both take the key over with the first
 * head that they see, and what the old key signs is refused from then on. */
static void s040_another_head_key_misses_no_generation(void **state)
{
    (void)state;
    struct world *w = scenario_synced(40, &options, 1500);
    world_crash(w, "P02");
    world_add_site(w, "B12", "P01");
    world_set_faults(w, "B12", &(struct world_faults){.rate = 4000});
    world_restart(w, "B12");
    world_run_for(w, 5 * NS_PER_S);
    assert_string_equal(world_status(w, "B12").state, "walk");
    struct world_shown before = world_shown(w, "CEN", false);
    world_rotate(w);
    world_run_for(w, 2 * NS_PER_S);
    WORLD_OK(w);
    struct world_shown after = world_shown(w, "P01", false);
    assert_false(epoch_eq(&before.epoch, &after.epoch));
    assert_int_equal(after.generation, before.generation + 1); /* the number goes on */
    assert_int_equal(trust_field(w, "B11", "version"), 2);
    assert_int_equal(world_n_events(w, "B11", "trust.changed"), 1);
    world_set_faults(w, "B12", NULL);
    scenario_converge(w, MINUTE);
    assert_in_range(world_counts(w, "B12")->pages_twice, 0, 2); /* what it had fetched it kept */
    world_upstream_churn(w, "up", 5, 5, 5);
    scenario_sync(w, true);
    uint64_t refusals = world_status(w, "B11").refusals;
    inject(w, "B11", (struct world_forgery){.generation = 1, .old_key = true});
    world_run_for(w, 2 * NS_PER_S);
    assert_int_equal(world_status(w, "B11").refusals, refusals + 1);
    assert_non_null(strstr(world_status(w, "B11").last_refusal, "key-not-trusted"));
    world_restart(w, "P02"); /* it slept through all of it */
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    assert_int_equal(trust_field(w, "P02", "version"), 2);
    assert_int_equal(trust_field(w, "P02", "head_version"), 2);
    for (unsigned i = 0; i < 2; i++) { /* and every start after it */
        world_crash(w, i ? "CEN" : "P01");
        world_restart(w, i ? "CEN" : "P01");
        world_run_for(w, MINUTE);
    }
    world_rotate(w); /* once more */
    world_upstream_churn(w, "up", 5, 5, 5);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    assert_int_equal(trust_field(w, "B12", "version"), 3);
    world_free(w);
}

/* A centre with its node, and one child. */
static struct world *pair(uint64_t seed)
{
    struct world_options o = {.seed = seed, .config = &options};
    struct world *w = world_full_new(&o, "CEN");
    world_upstream_add(w, "up", 60);
    assert_int_equal(world_join(w, "P01", "CEN"), 0);
    world_run_for(w, NS_PER_S);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    return w;
}

/* The key changes at every moment of a run: what was asked to be signed under the old one is asked again. */
static void s041_the_key_changes_during_a_run(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        struct world *w = pair(41);
        world_upstream_churn(w, "up", 5, 5, 5);
        world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", 1));
        for (unsigned k = 0; k < i; k++)
            world_step(w);
        world_rotate(w);
        world_run_for(w, MINUTE);
        WORLD_OK(w);
        assert_int_equal(world_n_events(w, "CEN", "sync.failed"), 0);
        scenario_converge(w, MINUTE);
        scenario_equal(w);
        assert_int_equal(trust_field(w, "P01", "head_version"), 2);
        world_free(w);
    }
}

/* Whoever stole the head key counts generation and epoch up, so that the sites no longer take what the centre
 * signs. Another head key ends that, without anybody's hand at the sites. */
static void s042_a_fast_forwarded_head_key(void **state)
{
    (void)state;
    static const struct world_forgery cases[] = {
        {.generation = INT64_C(1) << 40, .strange = true, .expires = 1000 * DAY},
        {.generation = 5, .strange = true, .other_epoch = true, .counter = UINT64_C(1) << 40},
    };
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = scenario_synced(80 + i, &options, 300);
        inject(w, "P01", cases[i]);
        inject(w, "B11", cases[i]);
        world_run_for(w, 2 * NS_PER_S);
        uint64_t stuck = world_shown(w, "P01", false).generation;
        world_upstream_churn(w, "up", 5, 5, 5);
        scenario_sync(w, true);
        world_run_for(w, 10 * MINUTE);
        WORLD_OK(w);
        assert_int_equal(world_shown(w, "P01", false).generation, stuck); /* it refuses the centre's heads */
        assert_true(world_shown(w, "P02", false).generation > stuck);
        world_rotate(w);
        scenario_converge(w, 20 * MINUTE);
        scenario_equal(w);
        inject(w, "P02", (struct world_forgery){.generation = 1, .old_key = true, .strange = true});
        world_upstream_churn(w, "up", 5, 5, 5);
        scenario_sync(w, true);
        scenario_converge(w, MINUTE);
        scenario_equal(w);
        world_free(w);
    }
}

/* With nodes: the node signs with the new key as soon as it has it. */
static void s043_through_the_node(void **state)
{
    (void)state;
    struct world *w = pair(43);
    world_rotate(w);
    world_run_for(w, 2 * NS_PER_S);
    assert_int_equal(trust_field(w, "CEN", "head_version"), 2);
    scenario_converge(w, MINUTE);
    world_crash(w, "CEN");
    world_restart(w, "CEN");
    world_upstream_churn(w, "up", 5, 5, 5);
    world_run_for(w, NS_PER_S);
    scenario_sync(w, true);
    assert_int_equal(world_join(w, "P02", "CEN"), 0); /* with the chain of today */
    world_run_for(w, NS_PER_S);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    assert_int_equal(trust_field(w, "P02", "version"), 2);
    world_free(w);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s040_another_head_key_misses_no_generation),
        cmocka_unit_test(s041_the_key_changes_during_a_run),
        cmocka_unit_test(s042_a_fast_forwarded_head_key),
        cmocka_unit_test(s043_through_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

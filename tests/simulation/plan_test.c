/* Plans: what each site will take in, told before, against what then comes over its link. */
#include "tests/simulation/scenario.h"

static struct metadata_options options;

static json_int_t planned(struct world *w, json_t *args, json_int_t *ret_items)
{
    json_t *j = world_call(w, "CEN", "plan", args);
    WORLD_TRUE(w, j && json_integer_value(json_object_get(j, "exit")) == 3);
    json_t *data = json_object_get(j, "data");
    json_int_t bytes = json_integer_value(json_object_get(data, "bytes"));
    *ret_items = json_integer_value(json_object_get(data, "items"));
    json_decref(j);
    world_reset_counts(w, "P01");
    world_reset_counts(w, "B11");
    return bytes;
}

/* Catalogue that came to a site: heads, hints, deltas, pages. */
static void real(struct world *w, json_int_t bytes, unsigned most_percent)
{
    static const char *const sites[] = {"P01", "B11"};
    scenario_converge(w, 5 * MINUTE);
    for (unsigned i = 0; i < 2; i++) {
        json_int_t came = (json_int_t)world_counts(w, sites[i])->catalogue_bytes;
        print_message("%s: planned %lld bytes, came %lld\n", sites[i], (long long)bytes, (long long)came);
        assert_in_range(bytes, came - came * most_percent / 100, came + came * most_percent / 100);
    }
}

static void s060_the_first_filling(void **state)
{
    (void)state;
    json_int_t items;
    struct world *w = scenario_tree(60, &options, 3000);
    world_run_for(w, MINUTE);
    json_int_t bytes = planned(w, NULL, &items);
    assert_int_equal(items, 3000);
    scenario_sync(w, true);
    real(w, bytes, 5);
    world_free(w);
}

static void s061_changes_small_and_large(void **state)
{
    (void)state;
    json_int_t items;
    struct world *w = scenario_synced(61, &options, 3000);
    static const unsigned sizes[] = {3, 40, 400, 1500};
    for (unsigned i = 0; i < 4; i++) {
        world_upstream_churn(w, "up", sizes[i], sizes[i] / 2, sizes[i] / 3);
        world_run_for(w, MINUTE);
        json_int_t bytes = planned(w, NULL, &items);
        assert_in_range(items, sizes[i], 2 * sizes[i]);
        scenario_sync(w, true);
        real(w, bytes, 5);
    }
    world_free(w);
}

static void s062_another_filter(void **state)
{
    (void)state;
    json_int_t items;
    struct world *w = scenario_synced(62, &options, 600);
    world_run_for(w, MINUTE);
    json_int_t bytes = planned(w, json_pack("{s:[s]}", "products", "product"), &items);
    assert_in_range(items, 200, 400);
    json_decref(world_call(w, "CEN", "filter.set", json_pack("{s:[s]}", "products", "product")));
    scenario_sync(w, true);
    real(w, bytes, 5);
    world_free(w);
}

static void s063_a_recall(void **state)
{
    (void)state;
    json_int_t items;
    struct world *w = scenario_synced(63, &options, 600);
    world_upstream_put(w, "up", "deb/bad/1.0/amd64", NULL, NULL);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_run_for(w, MINUTE);
    struct world_shown before = world_shown(w, "CEN", true);
    json_int_t bytes = planned(w, json_pack("{s:s}", "recall", "deb/bad/1.0/amd64"), &items);
    assert_int_equal(items, 1);
    struct world_shown after = world_shown(w, "CEN", true);
    assert_true(hash_eq(&before.content, &after.content) && before.generation == after.generation);
    json_decref(world_call(w, "CEN", "recall", json_pack("{s:s}", "id", "deb/bad/1.0/amd64")));
    real(w, bytes, 5);
    json_t *j = world_call(w, "CEN", "plan", json_pack("{s:s}", "recall", "deb/bad/1.0/amd64"));
    assert_int_equal(json_integer_value(json_object_get(j, "exit")), 0); /* nothing is left to do */
    json_decref(j);
    j = world_call(w, "CEN", "plan", json_pack("{s:s}", "recall", "deb/none/1.0/amd64"));
    assert_string_equal(scenario_text(j, "code"), "not-found");
    json_decref(j);
    scenario_verify(w, "CEN");
    world_free(w);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s060_the_first_filling),
        cmocka_unit_test(s061_changes_small_and_large),
        cmocka_unit_test(s062_another_filter),
        cmocka_unit_test(s063_a_recall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

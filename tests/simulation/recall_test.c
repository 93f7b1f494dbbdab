/* Recalls: an update is expired ahead of all else, whatever the site is busy with. */
#include "tests/simulation/scenario.h"

#define BAD "deb/bad/1.0/amd64"
#define WORSE "deb/worse/1.0/amd64"

static struct metadata_options options;

/* CEN -> P01 -> B11 with the update BAD among others. */
static struct world *with_bad(uint64_t seed, const struct metadata_options *o, unsigned items)
{
    struct world *w = scenario_tree(seed, o, items);
    world_upstream_put(w, "up", BAD, NULL, NULL);
    world_upstream_put(w, "up", WORSE, NULL, NULL);
    world_add_site(w, "B12", "P01");
    world_start(w);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    return w;
}

/* The same, with P01 (or B11) in the middle of a long walk to generation 3. */
static struct world *walking(uint64_t seed, const char *slow)
{
    struct world *w = with_bad(seed, &options, 100);
    struct world_faults f = {.rate = 1000};
    world_set_faults(w, slow, &f);
    world_upstream_churn(w, "up", 3000, 0, 0);
    scenario_sync(w, true);
    world_run_for(w, 20 * NS_PER_S);
    struct world_status s = world_status(w, slow);
    assert_string_equal(s.state, "walk");
    assert_int_equal(s.known_generation, 3);
    assert_int_equal(world_shown(w, slow, false).generation, 2);
    return w;
}

static json_t *recall(struct world *w, const char *id)
{
    json_t *j = world_call(w, "CEN", "recall", json_pack("{s:s}", "id", id));
    WORLD_TRUE(w, j != NULL);
    return j;
}

static json_int_t recall_ok(struct world *w, const char *id)
{
    json_t *j = recall(w, id);
    json_t *data = json_object_get(j, "data");
    WORLD_TRUE(w, data && json_integer_value(json_object_get(j, "exit")) == 0);
    json_int_t generation = json_integer_value(json_object_get(data, "generation"));
    json_decref(j);
    return generation;
}

/* What the site says of the update; *ret_ahead: the generation that it knows of and has not applied. */
static const char *state_at(struct world *w, const char *code, const char *id, json_int_t *ret_ahead)
{
    static char state[16];
    json_t *j = world_call(w, code, "update.show", json_pack("{s:s}", "id", id));
    json_t *data = json_object_get(j, "data");
    snprintf(state, sizeof state, "%s", scenario_text(data, "state"));
    *ret_ahead = json_integer_value(json_object_get(data, "recalled"));
    json_decref(j);
    return state;
}

static json_int_t counted(struct world *w, const char *code, const char *state)
{
    json_t *j = world_call(w, code, "catalogue.list", json_pack("{s:s}", "state", state));
    json_int_t n = json_integer_value(json_object_get(json_object_get(j, "data"), "total"));
    json_decref(j);
    return n;
}

static void s040_a_recall_reaches_every_site_in_its_class(void **state)
{
    (void)state;
    json_int_t ahead;
    struct world *w = with_bad(40, &options, 300);
    uint64_t hints = world_counts(w, "B11")->by_type[FRAME_HINT];
    assert_int_equal(recall_ok(w, BAD), 3);
    scenario_converge(w, NS_PER_S); /* two hops */
    assert_string_equal(state_at(w, "B11", BAD, &ahead), "expired");
    assert_int_equal(ahead, 0); /* applied: nothing is ahead of it any more */
    assert_int_equal(world_counts(w, "B11")->by_type[FRAME_HINT], hints + 1);
    assert_int_equal(world_n_events(w, "B11", "update.recalled"), 1);
    assert_int_equal(recall_ok(w, BAD), 3); /* again: the same answer, and no new generation */
    world_run_for(w, MINUTE);
    assert_int_equal(world_shown(w, "CEN", false).generation, 3);
    scenario_sync(w, true); /* the upstream still offers it: the recall stands */
    scenario_converge(w, MINUTE);
    assert_int_equal(world_key(w, "B11", BAD).state, WORLD_EXPIRED);
    json_t *j = recall(w, "deb/none/1.0/amd64");
    assert_string_equal(scenario_text(j, "code"), "not-found");
    json_decref(j);
    j = world_call(w, "P01", "recall", json_pack("{s:s}", "id", BAD));
    assert_string_equal(scenario_text(j, "code"), "not-central");
    json_decref(j);
    j = world_call(w, "B11", "recall.list", NULL);
    json_t *list = json_object_get(json_object_get(j, "data"), "recalls");
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(scenario_text(json_array_get(list, 0), "id"), BAD);
    json_decref(j);
    world_free(w);
}

static void s041_a_recall_passes_a_walk(void **state)
{
    (void)state;
    json_int_t ahead;
    struct world *w = walking(41, "P01");
    json_int_t active = counted(w, "P01", "active"), dead = counted(w, "P01", "expired");
    int64_t begun = world_now(w);
    assert_int_equal(recall_ok(w, BAD), 4);
    world_run_for(w, 15 * NS_PER_S);
    static const char *const sites[] = {"P01", "B11"};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(world_shown(w, sites[i], false).generation, 2); /* the walk is not over for long */
        assert_string_equal(state_at(w, sites[i], BAD, &ahead), "expired");
        assert_int_equal(ahead, 4);
        const struct world_event *e = world_event(w, sites[i], "update.recalled", 0);
        WORLD_TRUE(w, e && e->at - begun < 12 * NS_PER_S);
        assert_int_equal(world_n_events(w, sites[i], "replica.rollback-alarm"), 0);
    }
    assert_int_equal(counted(w, "P01", "active"), active - 1);
    assert_int_equal(counted(w, "P01", "expired"), dead + 1);
    world_crash(w, "P01"); /* what is in force stays so */
    world_restart(w, "P01");
    world_run_for(w, 2 * NS_PER_S);
    assert_string_equal(state_at(w, "P01", BAD, &ahead), "expired");
    world_crash(w, "B11");
    world_restart(w, "B11");
    world_run_for(w, 2 * NS_PER_S);
    assert_string_equal(state_at(w, "B11", BAD, &ahead), "expired");
    world_set_faults(w, "P01", NULL);
    scenario_converge(w, 10 * MINUTE);
    assert_int_equal(world_key(w, "B11", BAD).state, WORLD_EXPIRED);
    assert_string_equal(state_at(w, "B11", BAD, &ahead), "expired");
    assert_int_equal(ahead, 0);
    assert_int_equal(world_counts(w, "P01")->pages_twice, 0);
    assert_int_equal(world_n_events(w, "B11", "verify.refused"), 0);
    world_free(w);
}

/* The hint is lost on the way to B11: it hears of the recall when it asks for the head. */
static void s041_a_lost_recall_comes_with_the_next_question(void **state)
{
    (void)state;
    json_int_t ahead;
    struct world *w = walking(42, "P01");
    world_drop_hints(w, "B11", true);
    assert_int_equal(recall_ok(w, BAD), 4);
    world_run_for(w, 15 * NS_PER_S);
    assert_string_equal(state_at(w, "P01", BAD, &ahead), "expired");
    assert_string_equal(state_at(w, "B11", BAD, &ahead), "expired"); /* it comes on the pull lane as well */
    world_drop_hints(w, "B12", true);
    world_cut(w, "B12");
    assert_int_equal(recall_ok(w, WORSE), 5);
    world_run_for(w, 15 * NS_PER_S);
    assert_string_equal(state_at(w, "B12", WORSE, &ahead), "active");
    world_heal(w, "B12"); /* and beside the answer to its first question */
    world_run_for(w, 10 * NS_PER_S);
    assert_string_equal(state_at(w, "B12", WORSE, &ahead), "expired");
    assert_int_equal(world_shown(w, "P01", false).generation, 2);
    world_drop_hints(w, "B11", false);
    world_drop_hints(w, "B12", false);
    world_set_faults(w, "P01", NULL);
    scenario_converge(w, 10 * MINUTE);
    world_free(w);
}

/* While a full run waits for an operator, while a run reads its upstreams, and behind many other changes. */
static void s042_a_recall_waits_for_no_run(void **state)
{
    (void)state;
    json_int_t ahead;
    static struct metadata_options guarded;
    guarded = options;
    guarded.guard_percent = 20;
    struct world *w = with_bad(43, &guarded, 50);
    world_upstream_hang(w, "up", true);
    json_decref(scenario_now(w, true));
    world_run_for(w, NS_PER_S);
    world_upstream_churn(w, "up", 0, 0, 1);
    assert_int_equal(recall_ok(w, BAD), 3); /* a run is active */
    json_decref(world_call(w, "CEN", "sync.cancel", NULL));
    world_upstream_hang(w, "up", false);
    world_upstream_churn(w, "up", 0, 0, 20);
    json_t *now = scenario_now(w, true);
    world_run_for(w, MINUTE);
    assert_int_equal(world_n_events(w, "CEN", "sync.guarded"), 1);
    char other[64] = "";
    json_t *j =
        world_call(w, "CEN", "catalogue.list", json_pack("{s:s, s:i}", "state", "active", "limit", 1));
    json_t *first = json_array_get(json_object_get(json_object_get(j, "data"), "updates"), 0);
    snprintf(other, sizeof other, "%s", scenario_text(first, "id"));
    json_decref(j);
    assert_int_equal(recall_ok(w, other), 4); /* the guard waits */
    scenario_converge(w, MINUTE);
    assert_string_equal(state_at(w, "B11", other, &ahead), "expired");
    j = world_call(w, "CEN", "sync.status", NULL);
    assert_string_equal(scenario_text(json_object_get(j, "data"), "waits_for"), "approval");
    json_decref(j);
    json_decref(world_call(w, "CEN", "sync.approve", json_pack("{s:O}", "run", json_object_get(now, "run"))));
    json_decref(now);
    scenario_converge(w, MINUTE);
    world_run_for(w, MINUTE);
    assert_string_equal(state_at(w, "B11", other, &ahead), "expired");
    assert_string_equal(state_at(w, "B11", BAD, &ahead), "expired");
    assert_string_equal(state_at(w, "B11", WORSE, &ahead), "active");
    world_free(w);
}

static void publish(struct world *w, unsigned n)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "u%u", i);
        json_array_append_new(list, json_pack("{s:s, s:s}", "id", id, "title", "one of many"));
    }
    char *text = json_dumps(list, 0);
    world_tell(w, "CEN", "update.publish", json_pack("{s:s}", "json", text));
    free(text);
    json_decref(list);
}

static void s043_a_recall_goes_before_other_changes(void **state)
{
    (void)state;
    struct world *w = with_bad(44, &options, 50);
    for (unsigned i = 0; i < 500; i++) /* commands of their own: eight generations and more */
        publish(w, 1);
    json_int_t generation = recall_ok(w, BAD);
    assert_in_range(generation, 3, 4);
    world_run_for(w, MINUTE);
    assert_true(world_shown(w, "CEN", false).generation > (uint64_t)generation + 4);
    scenario_converge(w, MINUTE);
    assert_int_equal(world_n_events(w, "P02", "replica.rollback-alarm"), 0); /* hints may be overtaken */
    world_free(w);
}

/* What is published again is no longer recalled; and the list keeps the newest 32. */
static void s044_the_list_of_recalls(void **state)
{
    (void)state;
    json_int_t ahead;
    struct world *w = with_bad(45, &options, 50);
    publish(w, 40);
    world_run_for(w, MINUTE);
    for (unsigned i = 0; i < 40; i++) {
        char id[32];
        snprintf(id, sizeof id, "local/CEN/u%u", i);
        assert_true(recall_ok(w, id) > 0);
    }
    json_t *j = world_call(w, "CEN", "recall.list", NULL);
    json_t *list = json_object_get(json_object_get(j, "data"), "recalls");
    assert_int_equal(json_array_size(list), 32);
    assert_string_equal(scenario_text(json_array_get(list, 0), "id"), "local/CEN/u39");
    json_decref(j);
    scenario_converge(w, MINUTE);
    publish(w, 40);
    world_run_for(w, MINUTE);
    scenario_converge(w, MINUTE);
    assert_string_equal(state_at(w, "B11", "local/CEN/u39", &ahead), "active");
    j = world_call(w, "B11", "recall.list", NULL);
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "data"), "recalls")), 0);
    json_decref(j);
    scenario_verify(w, "CEN");
    scenario_verify(w, "B11");
    world_free(w);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s040_a_recall_reaches_every_site_in_its_class),
        cmocka_unit_test(s041_a_recall_passes_a_walk),
        cmocka_unit_test(s041_a_lost_recall_comes_with_the_next_question),
        cmocka_unit_test(s042_a_recall_waits_for_no_run),
        cmocka_unit_test(s043_a_recall_goes_before_other_changes),
        cmocka_unit_test(s044_the_list_of_recalls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Scenarios 019 to 023: what must not get in, and what must get better by itself. */
#include "tests/simulation/scenario.h"

static struct metadata_options options;

static void s019_removed_record_never_returns(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.delta_keep = 4;
    struct world *w = scenario_synced(19, &o, 400);
    static const char *const gone[] = {"deb/up-3/1.0/amd64", "deb/up-77/1.0/amd64", "deb/up-301/1.0/amd64"};
    world_crash(w, "P02"); /* sleeps through the removal, the tombstones and their end */
    for (unsigned i = 0; i < 3; i++) {
        json_t *j = world_call(w, "CEN", "update.remove", json_pack("{s:s}", "id", gone[i]));
        WORLD_TRUE(w, j && json_object_get(j, "data"));
        json_decref(j);
    }
    scenario_converge(w, MINUTE);
    for (unsigned i = 0; i < 3; i++) { /* the upstream still offers them: the operator's word stands */
        assert_int_equal(world_key(w, "B11", gone[i]).state, WORLD_TOMBSTONE);
        assert_int_equal(world_key(w, "P02", gone[i]).state, WORLD_LIVE); /* asleep */
    }
    assert_int_equal(world_n_events(w, "B11", "replica.divergence"), 0); /* as what they are, not by a walk */
    for (unsigned i = 0; i < 3; i++)
        world_upstream_leave(w, "up", gone[i]);
    for (unsigned i = 0; i < 12; i++) {
        world_upstream_churn(w, "up", 5, 3, 3);
        scenario_sync(w, true);
    }
    scenario_converge(w, MINUTE);
    for (unsigned i = 0; i < 3; i++) /* the floor has passed: absence is deletion */
        assert_int_equal(world_key(w, "B11", gone[i]).state, WORLD_ABSENT);
    world_restart(w, "P02");
    scenario_converge(w, MINUTE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(world_key(w, "P02", gone[i]).state, WORLD_ABSENT);
    scenario_equal(w);
    world_free(w);
}

/* Each forged head is refused, counted and named; nothing moves, and an honest head is taken afterwards. */
static void s020_forged_heads_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        struct world_forgery f;
    } cases[] = {
        {"verify-refused", {.generation = 1, .bad_signature = true}},
        {"key-not-trusted", {.generation = 1, .other_key = true}}, {"rollback", {.generation = -1}},
        {"epoch", {.generation = 1, .other_epoch = true}},
        {"expired", {.generation = 1, .expires = -8 * DAY}},
        {"verify-refused", {.generation = 1, .other_previous = true}},
        {"verify-refused", {.generation = 0, .expires = DAY}}, /* a second head of the same generation */
    };
    struct world *w = scenario_synced(20, &options, 60);
    world_upstream_churn(w, "up", 2, 0, 0);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    uint64_t generation = world_shown(w, "P01", false).generation;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world_run_for(w, NS_PER_S);
        uint64_t before = world_status(w, "P01").refusals;
        struct blob *b = world_forge(w, "P01", &cases[i].f);
        WORLD_TRUE(w, b != NULL);
        world_inject(w, "P01", "metadata/test/up", b);
        world_run_for(w, 2 * NS_PER_S);
        WORLD_OK(w);
        assert_int_equal(world_status(w, "P01").refusals, before + 1);
        if (!strstr(world_status(w, "P01").last_refusal, cases[i].word)) {
            world_report(w);
            fail_msg(
                "case %zu: '%s' is not named in '%s'", i, cases[i].word, world_status(w, "P01").last_refusal);
        }
        assert_int_equal(world_shown(w, "P01", false).generation, generation);
    }
    assert_true(world_n_events(w, "P01", "replica.rollback-alarm") >= 1);
    world_upstream_churn(w, "up", 2, 2, 0);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void s021_own_damage_is_walked_around(void **state)
{
    (void)state;
    struct world *w = scenario_synced(21, &options, 1500);
    assert_int_equal(
        world_lose_pages(w, "P01", 1000) > 10, 1); /* every leaf: the next delta cannot be applied */
    world_upstream_churn(w, "up", 10, 10, 5);
    world_reset_counts(w, "P01");
    json_decref(scenario_now(w, true));
    world_run_for(w, 2 * MINUTE);
    WORLD_OK(w);
    assert_true(world_n_events(w, "P01", "replica.divergence") >= 1);
    assert_true(world_counts(w, "P01")->by_type[FRAME_PAGE_REPLY] > 0);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    scenario_verify(w, "P01");
    world_free(w);
}

static void s021_damage_is_found_at_boot(void **state)
{
    (void)state;
    struct world *w = scenario_synced(22, &options, 1500);
    world_crash(w, "P01");
    assert_int_equal(world_lose_pages(w, "P01", 5), 5);
    world_restart(w, "P01");
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    assert_true(world_n_events(w, "P01", "store.damaged") >= 1);
    assert_string_equal(world_status(w, "P01").state, "live");
    scenario_verify(w, "P01");
    scenario_equal(w);
    world_free(w);
}

struct altering {
    unsigned type, left, done;
};

/* Turns one byte in the last third of a frame's body, a few times. */
static struct blob *alter(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    struct altering *a = ctx;
    struct view v = blob_view(frame);
    if (!down || type != a->type || a->left == 0 || v.len < 200)
        return blob_ref(frame);
    uint8_t *copy = malloc(v.len);
    assert_non_null(copy);
    memcpy(copy, v.data, v.len);
    copy[v.len - 1 - world_random(w, v.len / 3)] ^= 0x20;
    struct blob *b = blob_new(copy, v.len);
    free(copy);
    a->left--;
    a->done++;
    return b;
}

static void s022_altered_pages_are_refused(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.chunk_bytes = 4096;
    struct world *w = scenario_synced(23, &o, 2000);
    struct altering a = {.type = FRAME_PAGE_REPLY, .left = 6};
    world_add_site(w, "B12", "P01");
    world_tamper(w, "B12", alter, &a);
    world_start(w);
    scenario_converge(w, 10 * MINUTE);
    assert_int_equal(a.done, 6);
    world_run_for(w, NS_PER_S);
    assert_true(world_status(w, "B12").refusals >= 6);
    assert_true(world_n_events(w, "B12", "verify.refused") >= 6);
    scenario_equal(w);
    scenario_verify(w, "B12");
    world_free(w);
}

static void s022_altered_deltas_and_hints_are_refused(void **state)
{
    (void)state;
    static const unsigned types[] = {FRAME_HINT, FRAME_DELTA_REPLY, FRAME_HEAD};
    for (unsigned i = 0; i < 3; i++) {
        struct world *w = scenario_synced(24, &options, 500);
        struct altering a = {.type = types[i], .left = 3};
        if (types[i] != FRAME_HINT)
            world_drop_hints(w, "P01", true);
        world_tamper(w, "P01", alter, &a);
        for (unsigned k = 0; k < 6; k++) {
            world_upstream_churn(w, "up", 30, 10, 5);
            scenario_sync(w, true);
            scenario_converge(w, 20 * MINUTE);
        }
        assert_int_equal(a.done, 3);
        assert_true(world_status(w, "P01").refusals >= 1);
        scenario_equal(w);
        scenario_verify(w, "P01");
        world_free(w);
    }
}

/* A store that grows full by its own growth: nothing new is fetched from 85 % on, the cause is named, and
 * what is there is served. A larger one is all that it takes. */
static void s023_full_store(void **state)
{
    (void)state;
    struct world *w = scenario_synced(25, &options, 4000);
    struct store_stat stat;
    store_stat(world_store(w, "P01"), &stat);
    world_crash(w, "P01");
    world_resize_store(w, "P01", stat.used_bytes + stat.used_bytes / 3);
    world_restart(w, "P01");
    for (unsigned i = 0; i < 6; i++) {
        world_upstream_churn(w, "up", 700, 10, 5);
        scenario_sync(w, true);
        world_run_for(w, 10 * MINUTE);
        WORLD_OK(w);
    }
    WORLD_TRUE(w, !world_converged(w));
    assert_string_equal(world_status(w, "P01").cause, "store-full");
    assert_true(world_shown(w, "B11", false).generation == world_shown(w, "P01", false).generation);
    json_t *j = world_call(w, "P01", "catalogue.list", json_pack("{s:i}", "limit", 10)); /* it serves on */
    WORLD_TRUE(w, json_array_size(json_object_get(json_object_get(j, "data"), "updates")) == 10);
    json_decref(j);
    world_add_site(w, "B12", "P01"); /* also whoever is new */
    world_start(w);
    world_run_for(w, MINUTE);
    assert_true(world_shown(w, "B12", false).generation == world_shown(w, "P01", false).generation);
    world_crash(w, "P01");
    world_resize_store(w, "P01", 64u << 20);
    world_restart(w, "P01");
    scenario_converge(w, 10 * MINUTE);
    scenario_equal(w);
    scenario_verify(w, "P01");
    world_free(w);
}

/* Somebody else filled the disk: no write succeeds at all. */
static void s023_no_write_succeeds(void **state)
{
    (void)state;
    struct world *w = scenario_synced(27, &options, 300);
    world_set_full(w, "P01", true);
    world_upstream_churn(w, "up", 30, 10, 5);
    scenario_sync(w, true);
    world_run_for(w, 30 * MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_counts(w, "P01")->last_error, ERR_MAP_FULL);
    unsigned lives = world_lives(w, "P01");
    while (world_lives(w, "P01") == lives && world_step(w))
        ;
    json_t *j =
        world_call(w, "P01", "catalogue.list", json_pack("{s:i}", "limit", 10)); /* until it writes again */
    WORLD_TRUE(w, json_array_size(json_object_get(json_object_get(j, "data"), "updates")) == 10);
    json_decref(j);
    world_set_full(w, "P01", false);
    scenario_converge(w, 10 * MINUTE);
    scenario_equal(w);
    scenario_verify(w, "P01");
    world_free(w);
}

static void s023_failing_writes(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "B11"};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned nth = 1; nth < 60; nth += 1 + nth / 8) {
            struct world *w = scenario_synced(26, &options, 150);
            world_upstream_churn(w, "up", 5, 5, 5);
            world_fail_write(w, codes[i], nth, nth % 2 ? ERR_DISK : ERR_MAP_FULL);
            json_t *j = world_call(w, "CEN", "sync.now", json_pack("{s:b}", "full", 1));
            world_run_for(w, options.retry_interval_ns + 10 * MINUTE);
            WORLD_OK(w);
            if (j) /* what was answered is done, whatever failed then */
                scenario_equal(w);
            json_decref(j);
            WORLD_TRUE(w, world_converged(w));
            scenario_verify(w, codes[i]);
            world_free(w);
        }
}

int main(int argc, char **argv)
{
    if (argc > 1) /* the tests with this pattern only */
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s019_removed_record_never_returns),
        cmocka_unit_test(s020_forged_heads_are_refused),
        cmocka_unit_test(s021_own_damage_is_walked_around),
        cmocka_unit_test(s021_damage_is_found_at_boot),
        cmocka_unit_test(s022_altered_pages_are_refused),
        cmocka_unit_test(s022_altered_deltas_and_hints_are_refused),
        cmocka_unit_test(s023_full_store),
        cmocka_unit_test(s023_no_write_succeeds),
        cmocka_unit_test(s023_failing_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

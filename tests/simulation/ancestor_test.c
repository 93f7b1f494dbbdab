/* Scenarios with nodes that have more than one place to go: 060 the parent dies, 061 it is mute, 062 it is
 * slow, 063 nobody above is left, 064 a crash at every effect on the way over and back, 065 a removed site,
 * 066 in the middle of a bulk transfer, 067 a parent that comes back with less, 068 a site moves. */
#include "tests/lib/world_full.h"
#include "tests/simulation/scenario.h"

static struct metadata_options options;
static uint64_t n_seeds = 10;

static void join(struct world *w, const char *code, const char *parent)
{
    int rc = world_join(w, code, parent);
    WORLD_OK(w);
    if (rc) {
        world_report(w);
        fail_msg("%s joins %s: %s", code, parent, err_text(rc));
    }
    world_run_for(w, NS_PER_S);
}

/* CEN -> P01 -> B11 -> C11, synced. */
static struct world *line(uint64_t seed, unsigned items)
{
    struct world_options o = {.seed = seed, .config = &options, .group = seed % 2 ? 300 : 0};
    struct world *w = world_full_new(&o, "CEN");
    WORLD_OK(w);
    world_upstream_add(w, "up", items);
    join(w, "P01", "CEN");
    join(w, "B11", "P01");
    join(w, "C11", "B11");
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_run_for(w, MINUTE); /* the reports are at the top */
    return w;
}

struct wish {
    const char *code, *via; /* via NULL: live nowhere and known to be so */
};

static bool is_live(struct world *w, void *ctx)
{
    const struct wish *wish = ctx;
    struct node_view v = world_node_view(w, wish->code);
    if (!wish->via)
        return v.orphan;
    return strcmp(v.uplink, "live") == 0 && strcmp(v.via, wish->via) == 0;
}

/* How long it took; negative: it did not happen. */
static int64_t until_live(struct world *w, const char *code, const char *via, int64_t at_most)
{
    struct wish wish = {code, via};
    int64_t from = world_now(w);
    bool happened = world_run_until(w, is_live, &wish, at_most);
    WORLD_OK(w);
    return happened ? world_now(w) - from : -1;
}

#define LIVE_WITHIN(w, code, via, most) WORLD_TRUE(w, until_live(w, code, via, most) >= 0)

static size_t events(struct world *w, const char *code, const char *name)
{
    json_t *j = world_call(w, code, "events", json_pack("{s:s}", "name", name));
    size_t n = json_array_size(json_object_get(json_object_get(j, "data"), "events"));
    json_decref(j);
    return n;
}

/* A field of a site as another one tells it in `tree`. */
static json_t *told(struct world *w, const char *by, const char *of, const char *field)
{
    json_t *j = world_call(w, by, "tree", NULL), *found = NULL, *row;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(j, "data"), "sites"), i,
        row) if (strcmp(scenario_text(row, "site"), of) == 0) found =
        json_incref(json_object_get(row, field));
    json_decref(j);
    return found;
}

static void assert_told(struct world *w, const char *by, const char *of, const char *field, const char *value)
{
    json_t *j = told(w, by, of, field);
    const char *text = json_string_value(j);
    if (strcmp(text ? text : "-", value ? value : "-") != 0) {
        world_report(w);
        fail_msg(
            "%s says that %s of %s is %s, not %s", by, field, of, text ? text : "-", value ? value : "-");
    }
    json_decref(j);
}

static void news(struct world *w)
{
    world_upstream_churn(w, "up", 5, 5, 5);
    scenario_sync(w, true);
    scenario_converge(w, 2 * MINUTE);
    scenario_equal(w);
}

static void nothing_twice(struct world *w)
{
    static const char *const codes[] = {"P01", "B11", "C11"};
    for (unsigned i = 0; i < 3; i++)
        WORLD_TRUE(w, world_counts(w, codes[i])->pages_twice == 0);
}

static void s060_a_dead_parent_is_stepped_over(void **state)
{
    (void)state;
    for (uint64_t seed = 40; seed < 44; seed++) {
        struct world *w = line(seed, 200);
        world_crash(w, "P01");
        LIVE_WITHIN(w, "B11", "CEN", 15 * NS_PER_S);
        news(w);                      /* reaches B11 and what is below it */
        world_run_for(w, 6 * MINUTE); /* P01 counts as not heard now */
        assert_told(w, "CEN", "B11", "class", "live");
        assert_told(w, "CEN", "C11", "class", "live");
        assert_told(w, "CEN", "B11", "via", "CEN");
        assert_told(w, "CEN", "P01", "class", "not-heard");
        assert_told(w, "B11", "B11", "via", "CEN");
        assert_int_equal(events(w, "B11", "parent.left"), 1);
        world_restart(w, "P01");
        LIVE_WITHIN(w, "B11", "P01", 90 * NS_PER_S);
        assert_int_equal(events(w, "B11", "parent.back"), 1);
        news(w);
        world_run_for(w, 5 * MINUTE);
        assert_told(w, "CEN", "B11", "via", NULL);
        assert_told(w, "CEN", "B11", "class", "live");
        assert_told(w, "P01", "B11", "class", "live");
        assert_int_equal(events(w, "CEN", "report.refused"), 0); /* what P01 still had of B11 is no offence */
        assert_int_equal(events(w, "B11", "replica.rollback-alarm"), 0);
        assert_int_equal(world_node_view(w, "CEN").sessions, 1);
        nothing_twice(w);
        world_free(w);
    }
}

static void s061_a_mute_parent_is_stepped_over(void **state)
{
    (void)state;
    struct world *w = line(41, 100);
    world_between(w, "B11", "P01", WORLD_HOLE, NULL);
    LIVE_WITHIN(w, "B11", "CEN", 3 * MINUTE + 15 * NS_PER_S);
    news(w);
    world_run_for(w, HOUR); /* it looks after its parent all the time, and stays */
    assert_string_equal(world_node_view(w, "B11").via, "CEN");
    assert_int_equal(events(w, "B11", "parent.left"), 1);
    world_between(w, "B11", "P01", WORLD_OPEN, NULL);
    LIVE_WITHIN(w, "B11", "P01", 90 * NS_PER_S);
    news(w);
    nothing_twice(w);
    world_free(w);
}

static void s062_a_slow_parent_is_stepped_over(void **state)
{
    (void)state;
    struct world *w = line(42, 300);
    /* connected, and its heartbeats arrive; but what it is asked for takes minutes */
    world_between(
        w, "B11", "P01", WORLD_FAULTY, &(struct world_faults){.delay = 1000, .delay_max = 10 * MINUTE});
    world_drop_hints(w, "B11", true);
    world_upstream_churn(w, "up", 50, 20, 20);
    scenario_sync(w, true);
    LIVE_WITHIN(w, "B11", "CEN", 15 * MINUTE);
    scenario_converge(w, 2 * MINUTE);
    assert_true(events(w, "B11", "parent.left") >= 1);
    world_drop_hints(w, "B11", false);
    world_between(w, "B11", "P01", WORLD_OPEN, NULL);
    LIVE_WITHIN(w, "B11", "P01", 3 * MINUTE);
    news(w);
    nothing_twice(w);
    world_free(w);
}

static void s063_an_orphan_heals(void **state)
{
    (void)state;
    struct world *w = line(43, 100);
    world_crash(w, "P01");
    world_crash(w, "CEN");
    LIVE_WITHIN(w, "B11", NULL, 7 * MINUTE);
    assert_told(w, "B11", "B11", "state", "orphan");
    assert_told(w, "B11", "B11", "cause", "parent-unreachable");
    assert_int_equal(events(w, "B11", "parent.orphan"), 1);
    assert_string_equal(world_node_view(w, "C11").uplink, "live"); /* below it all is as before */
    world_run_for(w, 2 * HOUR);
    world_restart(w, "CEN");
    LIVE_WITHIN(w, "B11", "CEN", MINUTE);
    assert_false(world_node_view(w, "B11").orphan);
    news(w);
    world_restart(w, "P01");
    LIVE_WITHIN(w, "B11", "P01", 90 * NS_PER_S);
    world_run_for(w, MINUTE);
    news(w);
    nothing_twice(w);
    world_free(w);
}

static void s064_a_crash_at_every_effect_of_a_fail_over(void **state)
{
    (void)state;
    struct world *w = line(44, 60);
    bool reached = true;
    unsigned points = 1;
    for (; reached && points < 400; points++) {
        bool over = points % 2; /* on the way over to CEN, or on the way back */
        if (over)
            world_crash_at(w, "B11", points);
        world_crash(w, "P01");
        if (over) {
            (void)until_live(w, "B11", "CEN", 20 * NS_PER_S);
            reached = !world_crash_pending(w, "B11");
            world_crash_at(w, "B11", 0);
            world_restart(w, "B11");
        }
        LIVE_WITHIN(w, "B11", "CEN", 30 * NS_PER_S);
        if (points % 10 == 1)
            news(w);
        if (!over)
            world_crash_at(w, "B11", points);
        world_restart(w, "P01");
        if (!over) {
            (void)until_live(w, "B11", "P01", 90 * NS_PER_S);
            reached = !world_crash_pending(w, "B11");
            world_crash_at(w, "B11", 0);
            world_restart(w, "B11");
        }
        LIVE_WITHIN(w, "B11", "P01", 2 * MINUTE);
    }
    WORLD_TRUE(w, points > 30 && points < 400);
    news(w);
    nothing_twice(w);
    world_free(w);
}

static void s065_a_removed_site_is_refused_by_every_ancestor(void **state)
{
    (void)state;
    struct world *w = line(45, 50);
    json_t *j = world_call(w, "P01", "site.remove", json_pack("{s:s}", "site", "B11"));
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_decref(j);
    world_run_for(w, 5 * NS_PER_S);
    world_reset_counts(w, "B11");
    uint64_t generation = world_shown(w, "B11", false).generation;
    world_upstream_churn(w, "up", 5, 0, 0);
    scenario_sync(w, true);
    world_run_for(w, HOUR);
    world_crash(w, "P01");
    world_run_for(w, HOUR);
    world_crash(w, "CEN"); /* and after a restart */
    world_restart(w, "CEN");
    world_run_for(w, HOUR);
    assert_int_equal(world_counts(w, "B11")->frames, 0);
    assert_int_equal(world_shown(w, "B11", false).generation, generation);
    assert_string_not_equal(world_node_view(w, "B11").uplink, "live");
    world_crash(w, "B11"); /* what is below it has lost its chain with it */
    world_run_for(w, HOUR);
    assert_string_not_equal(world_node_view(w, "C11").uplink, "live");
    world_free(w);
}

static void s066_bulk_goes_on_over_the_ancestor(void **state)
{
    (void)state;
    struct world_options o = {.seed = 46, .config = &options};
    uint64_t whole = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        struct world *w = world_full_new(&o, "CEN");
        world_upstream_add(w, "up", 6000);
        join(w, "P01", "CEN");
        scenario_sync(w, true);
        scenario_converge(w, 5 * MINUTE);
        join(w, "X11", "P01"); /* known at the top before it begins */
        world_run_for(w, 20 * NS_PER_S);
        world_add_site(w, "B11", "P01");
        world_set_faults(w, "B11", &(struct world_faults){.rate = 10000});
        WORLD_TRUE(w, world_join(w, "B11", "P01") == 0);
        if (pass == 1) {
            world_run_for(w, 8 * NS_PER_S);
            WORLD_TRUE(w, world_counts(w, "B11")->pages > 0 && world_shown(w, "B11", false).generation == 0);
            world_crash(w, "P01");
            LIVE_WITHIN(w, "B11", "CEN", 15 * NS_PER_S);
        }
        scenario_converge(w, 10 * MINUTE);
        const struct world_counts *c = world_counts(w, "B11");
        WORLD_TRUE(w, c->pages_twice == 0);
        if (pass == 0)
            whole = c->page_bytes;
        else
            WORLD_TRUE(w, c->page_bytes >= whole && c->page_bytes < whole + whole / 20);
        world_free(w);
    }
}

static void s067_a_parent_with_less_is_left_for_one_with_more(void **state)
{
    (void)state;
    struct world *w = line(47, 100);
    world_crash(w, "P01");
    LIVE_WITHIN(w, "B11", "CEN", 15 * NS_PER_S);
    world_between(w, "P01", "CEN", WORLD_CLOSED, NULL);
    world_restart(w, "P01"); /* well, but cut off: it cannot have what B11 gets now */
    world_upstream_churn(w, "up", 5, 0, 0);
    scenario_sync(w, true);
    world_run_for(w, 10 * MINUTE);
    WORLD_OK(w);
    assert_string_equal(world_node_view(w, "B11").via, "CEN");
    assert_true(world_shown(w, "B11", false).generation > world_shown(w, "P01", false).generation);
    assert_int_equal(events(w, "B11", "replica.rollback-alarm"), 0);
    world_between(w, "P01", "CEN", WORLD_OPEN, NULL);
    LIVE_WITHIN(w, "B11", "P01", 3 * MINUTE);
    news(w);
    nothing_twice(w);
    world_free(w);
}

static void s068_a_site_moves_with_all_below_it(void **state)
{
    (void)state;
    struct world *w = line(68, 200);
    join(w, "P02", "CEN");
    scenario_converge(w, MINUTE);
    world_reset_counts(w, "B11");
    world_reset_counts(w, "C11");
    assert_int_equal(world_move_site(w, "P01", "B11"), ERR_REFUSED); /* below itself */
    WORLD_TRUE(w, world_move_site(w, "B11", "P02") == 0);
    LIVE_WITHIN(w, "B11", "P02", 15 * NS_PER_S);
    LIVE_WITHIN(w, "C11", "B11", 15 * NS_PER_S);
    world_run_for(w, MINUTE);
    assert_int_equal(world_counts(w, "B11")->pages, 0);
    assert_int_equal(world_counts(w, "C11")->pages, 0);
    news(w);
    world_run_for(w, MINUTE);
    assert_told(w, "CEN", "B11", "parent", "P02");
    assert_told(w, "CEN", "B11", "class", "live");
    assert_told(w, "CEN", "C11", "class", "live");
    assert_told(w, "P02", "C11", "class", "live");
    assert_int_equal(events(w, "CEN", "site.conflict"), 0);
    /* what is below has the new chain: it finds the new site above when its parent dies */
    world_crash(w, "B11");
    LIVE_WITHIN(w, "C11", "P02", 15 * NS_PER_S);
    world_crash(w, "C11"); /* also after a restart, from the store */
    world_restart(w, "C11");
    LIVE_WITHIN(w, "C11", "P02", 30 * NS_PER_S);
    world_restart(w, "B11");
    LIVE_WITHIN(w, "C11", "B11", 90 * NS_PER_S);
    /* the parent of before still believes that it is its own, tells so, and takes it back: nobody listens */
    world_crash(w, "P01");
    world_restart(w, "P01");
    world_run_for(w, MINUTE);
    json_t *j = world_call(w, "P01", "site.remove", json_pack("{s:s}", "site", "B11"));
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_decref(j);
    news(w);
    world_run_for(w, MINUTE);
    assert_told(w, "CEN", "B11", "parent", "P02");
    assert_told(w, "CEN", "B11", "class", "live");
    assert_int_equal(events(w, "CEN", "report.refused"), 0);
    assert_int_equal(events(w, "CEN", "site.conflict"), 0);
    world_crash(w, "CEN"); /* from its store */
    world_restart(w, "CEN");
    world_run_for(w, MINUTE);
    assert_told(w, "CEN", "B11", "parent", "P02");
    /* and back, and up to the top */
    WORLD_TRUE(w, world_move_site(w, "B11", "P01") == 0);
    LIVE_WITHIN(w, "B11", "P01", 15 * NS_PER_S);
    WORLD_TRUE(w, world_move_site(w, "B11", "CEN") == 0);
    LIVE_WITHIN(w, "B11", "CEN", 15 * NS_PER_S);
    news(w);
    world_run_for(w, MINUTE);
    assert_told(w, "CEN", "C11", "class", "live");
    assert_told(w, "CEN", "B11", "parent", "CEN");
    nothing_twice(w);
    world_free(w);
}

static void ancestor_seeds(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "B11", "C11"};
    for (uint64_t seed = 4000; seed < 4000 + n_seeds; seed++) {
        struct world *w = line(seed, 150);
        for (unsigned i = 0; i < 20 && !world_breach(w); i++) {
            const char *code = codes[world_random(w, 4)];
            unsigned low = 1 + (unsigned)world_random(w, 3), high = (unsigned)world_random(w, low);
            switch (world_random(w, 8)) {
            case 0:
                world_crash(w, code);
                break;
            case 1:
                world_crash_at(w, code, 1 + (unsigned)world_random(w, 100));
                break;
            case 2:
                world_start(w);
                break;
            case 3:
                world_between(w, codes[low], codes[high], (enum world_between)world_random(w, 3), NULL);
                break;
            case 4:
                world_between(w, codes[low], codes[high], WORLD_FAULTY,
                    &(struct world_faults){
                        .drop = 50, .duplicate = 50, .delay = 300, .delay_max = 2 * MINUTE, .rate = 20000});
                break;
            case 5:
                world_fail_node_write(w, code, 1 + (unsigned)world_random(w, 40), ERR_DISK);
                break;
            default:
                world_upstream_churn(w, "up", 5, 5, 5);
                world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", (int)world_random(w, 2)));
                break;
            }
            world_run_for(w, (int64_t)world_random(w, 4 * MINUTE));
        }
        for (unsigned i = 0; i < 4; i++) {
            world_crash_at(w, codes[i], 0);
            world_fail_node_write(w, codes[i], 0, 0);
            for (unsigned k = 0; k < i; k++)
                world_between(w, codes[i], codes[k], WORLD_OPEN, NULL);
        }
        world_start(w);
        world_run_for(w, 2 * options.retry_interval_ns);
        WORLD_OK(w);
        scenario_sync(w, true);
        scenario_converge(w, 10 * MINUTE);
        scenario_equal(w);
        for (unsigned i = 1; i < 4; i++) /* all are where they belong */
            assert_string_equal(world_node_view(w, codes[i]).via, codes[i - 1]);
        nothing_twice(w);
        world_free(w);
    }
}

int main(int argc, char **argv)
{
    if (argc > 2)
        n_seeds = strtoull(argv[2], NULL, 10);
    if (argc > 1) /* the tests with this pattern only, and so many seeds */
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s060_a_dead_parent_is_stepped_over),
        cmocka_unit_test(s061_a_mute_parent_is_stepped_over),
        cmocka_unit_test(s062_a_slow_parent_is_stepped_over),
        cmocka_unit_test(s063_an_orphan_heals),
        cmocka_unit_test(s064_a_crash_at_every_effect_of_a_fail_over),
        cmocka_unit_test(s065_a_removed_site_is_refused_by_every_ancestor),
        cmocka_unit_test(s066_bulk_goes_on_over_the_ancestor),
        cmocka_unit_test(s067_a_parent_with_less_is_left_for_one_with_more),
        cmocka_unit_test(s068_a_site_moves_with_all_below_it),
        cmocka_unit_test(ancestor_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

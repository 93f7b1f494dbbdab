/* Scenarios with nodes between the links and the workers: joining with tokens, 025 path loop, 026 removed
 * site, and the catalogue's way through all of it. */
#include "tests/lib/failing_memory.h"
#include "tests/lib/world_full.h"
#include "tests/lib/world_hostile.h"
#include "tests/simulation/scenario.h"

#include "proto/link.pb-c.h"

static struct metadata_options options;
static uint64_t n_seeds = 40;

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

static struct world *tree(uint64_t seed, unsigned items)
{
    struct world_options o = {.seed = seed,
        .config = &options,
        .group = seed % 2 ? 300 : 0,
        .fail_memory = memory_fail_at,
        .memory_failed = memory_failed};
    struct world *w = world_full_new(&o, "CEN");
    WORLD_OK(w);
    world_upstream_add(w, "up", items);
    join(w, "P01", "CEN");
    join(w, "P02", "CEN");
    join(w, "B11", "P01");
    WORLD_OK(w);
    return w;
}

static struct world *synced(uint64_t seed, unsigned items)
{
    struct world *w = tree(seed, items);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    return w;
}

static void full_joining(void **state)
{
    (void)state;
    struct world *w = synced(1, 200);
    join(w, "B21", "P02");
    scenario_converge(w, 10 * NS_PER_S);
    scenario_equal(w);
    assert_string_equal(world_node_view(w, "B21").uplink, "live");
    world_run_for(w, 12 * MINUTE);
    assert_int_equal(world_node_view(w, "CEN").sites, 4); /* reports and certificates came up */
    json_t *j = world_call(w, "CEN", "tree", NULL);
    WORLD_TRUE(w, json_array_size(json_object_get(json_object_get(j, "data"), "sites")) == 5);
    json_decref(j);
    world_free(w);
}

/* A heartbeat's answer tells the parent's generation: while it is the applied one, nobody asks for the head.
 */
static void full_idle_link_carries_heartbeats_alone(void **state)
{
    (void)state;
    struct world *w = synced(11, 50);
    world_run_for(w, 10 * MINUTE);
    world_reset_counts(w, "B11");
    world_run_for(w, 6 * HOUR);
    uint64_t polls = world_counts(w, "B11")->sent_up[FRAME_HEAD_GET];
    WORLD_TRUE(w, polls >= 8 && polls <= 12); /* each half hour: that the parent's worker lives, too */
    WORLD_TRUE(w, world_counts(w, "B11")->frames == polls);
    world_drop_hints(w, "B11", true); /* what no hint told, the next heartbeat does */
    world_upstream_churn(w, "up", 1, 0, 0);
    scenario_sync(w, true);
    scenario_converge(w, 2 * MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void full_token_is_used_once(void **state)
{
    (void)state;
    struct world *w = synced(2, 20);
    char *token = world_invite(w, "B21", "P02");
    WORLD_TRUE(w, token != NULL);
    assert_int_equal(world_join_with(w, "B21", "P02", token), 0);
    assert_int_equal(
        world_join_with(w, "B21", "P02", token), 0); /* the same site again: the answer was lost */
    assert_int_equal(world_join_with(w, "B22", "P02", token), ERR_TOKEN_USED); /* another site */
    assert_int_equal(world_join_with(w, "B22", "P01", token), ERR_KEY);        /* at another door */
    token[strlen(token) - 3] ^= 1;
    assert_int_equal(world_join_with(w, "B22", "P02", token), ERR_TOKEN); /* altered */
    free(token);
    token = world_invite(w, "B23", "P02");
    WORLD_TRUE(w, token != NULL);
    world_run_for(w, 25 * HOUR);
    assert_int_equal(world_join_with(w, "B23", "P02", token), ERR_TOKEN_EXPIRED);
    free(token);
    WORLD_OK(w);
    world_free(w);
}

static void full_cuts_and_crashes(void **state)
{
    (void)state;
    struct world *w = synced(3, 300);
    static const char *const codes[] = {"P01", "P02", "B11"};
    for (unsigned i = 0; i < 9; i++) {
        world_upstream_churn(w, "up", 5, 5, 5);
        switch (i % 3) {
        case 0:
            world_cut(w, codes[i / 3]);
            break;
        case 1:
            world_crash(w, codes[i / 3]);
            break;
        case 2:
            world_mute(w, codes[i / 3]);
            break;
        }
        scenario_sync(w, true);
        world_run_for(w, 20 * MINUTE);
        world_heal(w, codes[i / 3]);
        world_restart(w, codes[i / 3]);
        scenario_converge(w, 3 * MINUTE);
        scenario_equal(w);
    }
    world_crash(w, "CEN");
    world_run_for(w, 10 * MINUTE);
    world_restart(w, "CEN");
    world_upstream_churn(w, "up", 5, 5, 5);
    world_run_for(w, MINUTE);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

/* The parent says that its own way up leads through the child. */
static struct blob *loop(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    (void)w;
    if (!down || type != FRAME_WELCOME)
        return blob_ref(frame);
    struct frame f;
    int rc = frame_parse(blob_view(frame), &f);
    assert_int_equal(rc, 0);
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__Welcome *m = FRAME_UNPACK(&a, &f, welcome, &rc);
    assert_non_null(m);
    char *path[8] = {ctx};
    for (size_t i = 0; i < m->n_path; i++)
        path[i + 1] = m->path[i];
    m->path = path;
    m->n_path++;
    return frame_pack(FRAME_WELCOME, f.lane, f.request, &f.epoch, &m->base, false);
}

static void s025_path_loop_is_refused(void **state)
{
    (void)state;
    struct world *w = synced(25, 50);
    static char code[] = "B11";
    world_tamper(w, "B11", loop, code);
    world_crash(w, "B11");
    world_restart(w, "B11");
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    assert_string_not_equal(world_node_view(w, "B11").uplink, "live");
    json_t *j = world_call(w, "B11", "events", json_pack("{s:s}", "name", "parent.loop"));
    WORLD_TRUE(w, json_array_size(json_object_get(json_object_get(j, "data"), "events")) >= 1);
    json_decref(j);
    world_tamper(w, "B11", NULL, NULL);
    world_upstream_churn(w, "up", 5, 0, 0);
    scenario_sync(w, true);
    scenario_converge(w, 2 * MINUTE);
    world_run_for(w, MINUTE); /* the hint lane may be sooner than the next hello */
    assert_string_equal(world_node_view(w, "B11").uplink, "live");
    world_free(w);
}

static void s026_removed_site_is_cut_off_at_once(void **state)
{
    (void)state;
    struct world *w = synced(26, 50);
    uint64_t generation = world_shown(w, "B11", false).generation;
    json_t *j = world_call(w, "P01", "site.remove", json_pack("{s:s}", "site", "B11"));
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_decref(j);
    world_run_for(w, NS_PER_S);
    world_reset_counts(w, "B11");
    world_upstream_churn(w, "up", 5, 0, 0);
    scenario_sync(w, true);
    world_run_for(w, HOUR);
    WORLD_OK(w);
    assert_int_equal(world_counts(w, "B11")->frames, 0);
    assert_int_equal(world_shown(w, "B11", false).generation, generation); /* what it has it keeps */
    assert_string_not_equal(world_node_view(w, "B11").uplink, "live");
    world_crash(w, "P01"); /* and it is so after a restart of the parent */
    world_restart(w, "P01");
    world_run_for(w, HOUR);
    assert_int_equal(world_counts(w, "B11")->frames, 0);
    /* invited again it is let in again, with the data that it has */
    join(w, "B11", "P01");
    world_restart(w, "B11");
    scenario_converge(w, 2 * MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void full_seeds(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "P02", "B11"};
    for (uint64_t seed = 500; seed < 500 + n_seeds; seed++) {
        struct world *w = synced(seed, 150);
        for (unsigned i = 0; i < 25 && !world_breach(w); i++) {
            const char *code = codes[world_random(w, 4)], *child = codes[1 + world_random(w, 3)];
            switch (world_random(w, 18)) {
            case 0:
                world_cut(w, child);
                break;
            case 1:
                world_heal(w, child);
                break;
            case 2:
                world_mute(w, child);
                break;
            case 3:
                world_crash_at(w, code, 1 + (unsigned)world_random(w, 60));
                break;
            case 4:
                world_start(w);
                break;
            case 5:
                world_set_faults(w, child,
                    &(struct world_faults){
                        .drop = 50, .duplicate = 100, .reorder = 100, .delay_max = 2 * NS_PER_S});
                break;
            case 6:
                world_kill_worker(w, code);
                break;
            case 7:
                world_fail_write(
                    w, code, 1 + (unsigned)world_random(w, 40), world_random(w, 2) ? ERR_DISK : ERR_MAP_FULL);
                break;
            case 11:
                world_fail_node_write(
                    w, code, 1 + (unsigned)world_random(w, 40), world_random(w, 2) ? ERR_DISK : ERR_MAP_FULL);
                break;
            case 8:
                world_pause(w, code, (int64_t)world_random(w, 20 * MINUTE));
                break;
            case 9:
                world_skew(w, child, (int64_t)world_random(w, 20 * MINUTE) - 10 * MINUTE);
                break;
            case 10:
                scenario_ask(w, code);
                break;
            case 12:
                world_fail_node_alloc(w, code, 1 + (unsigned)world_random(w, 60));
                break;
            case 13:
                world_lose_send(w, code, 1 + (unsigned)world_random(w, 20));
                break;
            case 14:
            case 15:
                world_hostile(w, codes[world_random(w, 3)],
                    world_random(w, 3) ? 1u << world_random(w, ATTACK_COUNT) : ATTACK_ALL);
                break;
            default:
                world_upstream_churn(w, "up", 5, 5, 5);
                world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", (int)world_random(w, 2)));
                break;
            }
            world_run_for(w, (int64_t)world_random(w, 2 * MINUTE));
        }
        for (unsigned i = 0; i < 4; i++) {
            world_crash_at(w, codes[i], 0);
            world_fail_write(w, codes[i], 0, 0);
            world_fail_node_write(w, codes[i], 0, 0);
            world_skew(w, codes[i], 0);
            world_fail_node_alloc(w, codes[i], 0);
            world_lose_send(w, codes[i], 0);
            world_hostile(w, codes[i], 0);
            if (i) {
                world_set_faults(w, codes[i], NULL);
                world_heal(w, codes[i]);
            }
        }
        world_start(w);
        world_run_for(w, 2 * options.retry_interval_ns);
        WORLD_OK(w);
        scenario_sync(w, true);
        scenario_converge(w, 10 * MINUTE);
        scenario_equal(w);
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
        cmocka_unit_test(full_joining),
        cmocka_unit_test(full_idle_link_carries_heartbeats_alone),
        cmocka_unit_test(full_token_is_used_once),
        cmocka_unit_test(full_cuts_and_crashes),
        cmocka_unit_test(s025_path_loop_is_refused),
        cmocka_unit_test(s026_removed_site_is_cut_off_at_once),
        cmocka_unit_test(full_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

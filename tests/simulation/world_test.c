/* The world itself, driven with a toy: the clock, delivery, cuts, crashes and replay do what world.h says,
 * and each property that the toy breaks on purpose is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/wire/frame.h"
#include "tests/lib/world.h"
#include "tests/lib/world_toy.h"

static struct world *tree(uint64_t seed, const struct toy_config *config)
{
    struct world_options o = {.seed = seed, .core = &world_toy, .config = config, .shown_every = 20};
    struct world *w = world_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_add_site(w, "P02", "CEN");
    world_add_site(w, "B11", "P01");
    world_start(w);
    return w;
}

static int64_t bump(struct world *w)
{
    json_t *j = world_call(w, "CEN", "bump", NULL);
    WORLD_OK(w);
    int64_t g = json_integer_value(json_object_get(json_object_get(j, "data"), "generation"));
    json_decref(j);
    return g;
}

static const struct toy_config good;

static void test_flows_down(void **state)
{
    (void)state;
    struct world *w = tree(1, &good);
    WORLD_TRUE(w, world_run_for(w, 5 * NS_PER_S));
    assert_int_equal(bump(w), 1);
    assert_false(world_converged(w));
    WORLD_TRUE(w, world_converge(w, NS_PER_S));
    assert_int_equal(world_shown(w, "B11", true).generation, 1);
    assert_int_equal(world_shown(w, "B11", true).records, 1);
    assert_true(world_now(w) < 7 * NS_PER_S);
    /* by the hint, not by a request */
    assert_int_equal(world_counts(w, "B11")->sent_up[FRAME_HEAD_GET], 1);
    world_free(w);
}

static void test_lost_hint_is_healed_by_poll(void **state)
{
    (void)state;
    struct world *w = tree(2, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_drop_hints(w, "P02", true);
    bump(w);
    world_run_for(w, 10 * NS_PER_S);
    assert_int_equal(world_shown(w, "P01", false).generation, 1);
    assert_int_equal(world_shown(w, "P02", false).generation, 0);
    WORLD_TRUE(w, world_converge(w, 65 * NS_PER_S));
    world_free(w);
}

static void test_cut_and_heal(void **state)
{
    (void)state;
    struct world *w = tree(3, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_cut(w, "P01");
    for (int i = 0; i < 5; i++)
        bump(w);
    world_run_for(w, 300 * NS_PER_S);
    assert_int_equal(world_shown(w, "P02", false).generation, 5);
    assert_int_equal(world_shown(w, "P01", false).generation, 0);
    assert_int_equal(world_shown(w, "B11", false).generation, 0);
    world_heal(w, "P01");
    WORLD_TRUE(w, world_converge(w, NS_PER_S)); /* at once: both ends are told */
    world_free(w);
}

static void test_mute_is_noticed_late(void **state)
{
    (void)state;
    struct world *w = tree(4, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_mute(w, "P01");
    bump(w);
    assert_false(world_converge(w, 400 * NS_PER_S));
    WORLD_OK(w);
    world_heal(w, "P01");
    WORLD_TRUE(w, world_converge(w, NS_PER_S));
    world_free(w);
}

/* Crashes the central site at its n-th point of a step, over some seeds; tells how often the hint got out. */
static unsigned crash_at(unsigned n)
{
    unsigned got = 0;
    for (uint64_t seed = 50; seed < 58; seed++) {
        struct world *w = tree(seed, &good);
        world_run_for(w, 5 * NS_PER_S);
        world_crash_at(w, "CEN", n);
        world_tell(w, "CEN", "bump", NULL);
        world_run_for(w, NS_PER_S);
        WORLD_OK(w);
        assert_false(world_is_up(w, "CEN"));
        assert_false(world_crash_pending(w, "CEN"));
        assert_int_equal(world_shown(w, "CEN", true).generation, n == 1 ? 0 : 1);
        got += world_shown(w, "P01", false).generation == 1;
        world_restart(w, "CEN");
        world_run_for(w, 2 * NS_PER_S);
        assert_int_equal(world_lives(w, "CEN"), 2);
        if (n == 1)
            bump(w);
        WORLD_TRUE(w, world_converge(w, 65 * NS_PER_S));
        world_free(w);
    }
    return got;
}

static void test_crash_loses_what_is_not_committed(void **state)
{
    (void)state;
    assert_int_equal(crash_at(1), 0); /* before the commit */
    assert_int_equal(crash_at(2), 0); /* after it, before the hint */
    for (unsigned n = 3; n <= 4;
         n++) { /* after the hint, after the status: it was under way, or in the kernel still */
        unsigned got = crash_at(n);
        assert_in_range(got, 1, 7);
    }
}

static void test_worker_dies_alone(void **state)
{
    (void)state;
    struct world *w = tree(6, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_kill_worker(w, "P01");
    bump(w);
    world_run_for(w, 5 * NS_PER_S);
    assert_int_equal(world_lives(w, "P01"), 2);
    WORLD_TRUE(w, world_converged(w)); /* it asked as soon as it knew its links */
    world_free(w);
}

static void test_failed_write_is_undone(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth <= 3; nth++) { /* record, counter, commit */
        struct world *w = tree(7, &good);
        world_run_for(w, 5 * NS_PER_S);
        world_fail_write(w, "P01", nth, ERR_DISK);
        bump(w);
        world_run_for(w, NS_PER_S / 2);
        assert_int_equal(world_counts(w, "P01")->step_errors, 1);
        assert_int_equal(world_counts(w, "P01")->last_error, ERR_DISK);
        assert_int_equal(world_shown(w, "P01", false).generation, 0);
        WORLD_TRUE(w, world_converge(w, 5 * NS_PER_S));
        world_free(w);
    }
}

static void test_full_store_heals(void **state)
{
    (void)state;
    struct world *w = tree(8, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_set_full(w, "P01", true);
    bump(w);
    world_run_for(w, 100 * NS_PER_S);
    assert_true(world_counts(w, "P01")->step_errors > 0);
    assert_int_equal(world_counts(w, "P01")->last_error, ERR_MAP_FULL);
    assert_false(world_converged(w));
    world_set_full(w, "P01", false);
    WORLD_TRUE(w, world_converge(w, 65 * NS_PER_S));
    world_free(w);
}

static void test_pause(void **state)
{
    (void)state;
    struct world *w = tree(9, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_pause(w, "P01", 1000 * NS_PER_S);
    bump(w);
    assert_false(world_converge(w, 990 * NS_PER_S));
    WORLD_OK(w);
    WORLD_TRUE(w, world_converge(w, 20 * NS_PER_S));
    assert_int_equal(world_lives(w, "P01"), 1);
    world_free(w);
}

static void test_cut_on_a_frame(void **state)
{
    (void)state;
    for (int when = WORLD_BEFORE; when <= WORLD_INSTEAD; when++) {
        struct world *w = tree(10, &good);
        world_run_for(w, 5 * NS_PER_S);
        world_on_frame(w, "P02", FRAME_HEAD, 2, when, WORLD_CUT);
        bump(w);
        bump(w);
        world_run_for(w, 100 * NS_PER_S);
        WORLD_OK(w);
        assert_int_equal(world_shown(w, "P02", false).generation, when == WORLD_AFTER ? 2 : 1);
        bump(w);
        world_run_for(w, 100 * NS_PER_S);
        assert_int_equal(world_shown(w, "P02", false).generation, when == WORLD_AFTER ? 2 : 1);
        world_heal(w, "P02");
        WORLD_TRUE(w, world_converge(w, NS_PER_S));
        world_free(w);
    }
}

static void test_crash_on_a_frame(void **state)
{
    (void)state;
    struct world *w = tree(11, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_on_frame(w, "B11", FRAME_HEAD, 1, WORLD_AFTER, WORLD_CRASH_PARENT);
    bump(w);
    world_run_for(w, NS_PER_S);
    assert_false(world_is_up(w, "P01"));
    assert_int_equal(world_shown(w, "B11", false).generation, 1);
    world_free(w);
}

static void test_rate_delays(void **state)
{
    (void)state;
    struct world *w = tree(12, &good);
    world_run_for(w, 5 * NS_PER_S);
    world_set_faults(w, "P02", &(struct world_faults){.rate = 10});
    bump(w);
    world_run_for(w, NS_PER_S);
    int64_t before = world_now(w);
    bump(w); /* waits for the first, which takes several seconds */
    world_run_for(w, NS_PER_S);
    assert_int_equal(world_shown(w, "P02", false).generation, 1);
    WORLD_TRUE(w, world_converge(w, 30 * NS_PER_S));
    assert_true(world_now(w) - before > 5 * NS_PER_S);
    world_free(w);
}

static struct blob *take_away(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    (void)w;
    ++*(unsigned *)ctx;
    return down && type == FRAME_HEAD ? NULL : blob_ref(frame);
}

static void test_tamper(void **state)
{
    (void)state;
    struct world *w = tree(13, &good);
    unsigned seen = 0;
    world_run_for(w, 5 * NS_PER_S);
    world_tamper(w, "P02", take_away, &seen);
    bump(w);
    world_run_for(w, 100 * NS_PER_S);
    assert_int_equal(world_shown(w, "P02", false).generation, 0);
    assert_true(seen >= 3);
    world_tamper(w, "P02", NULL, NULL);
    WORLD_TRUE(w, world_converge(w, 65 * NS_PER_S));
    world_free(w);
}

static void random_faults(struct world *w)
{
    for (unsigned i = 0; i < 60 && !world_breach(w); i++) {
        const char *code = world_site_code(w, 1 + (unsigned)world_random(w, 3));
        switch (world_random(w, 9)) {
        case 0:
            world_cut(w, code);
            break;
        case 1:
            world_heal(w, code);
            break;
        case 2:
            world_crash_at(w, code, 1 + (unsigned)world_random(w, 20));
            break;
        case 3:
            world_restart(w, code);
            break;
        case 4:
            world_set_faults(w, code,
                &(struct world_faults){.drop = 100, .duplicate = 100, .reorder = 200, .delay_max = NS_PER_S});
            break;
        case 5:
            world_mute(w, code);
            break;
        default:
            world_tell(w, "CEN", "bump", NULL);
            break;
        }
        world_run_for(w, (int64_t)world_random(w, 30 * NS_PER_S));
    }
    for (unsigned i = 1; i < world_n_sites(w); i++) {
        world_crash_at(w, world_site_code(w, i), 0);
        world_set_faults(w, world_site_code(w, i), NULL);
        world_heal(w, world_site_code(w, i));
    }
    world_start(w);
}

static void test_seeds_replay(void **state)
{
    (void)state;
    uint64_t hashes[6];
    for (unsigned i = 0; i < 6; i++) {
        struct world *w = tree(20 + i % 3, &good);
        random_faults(w);
        WORLD_TRUE(w, world_converge(w, 300 * NS_PER_S));
        hashes[i] = world_trace_hash(w);
        world_free(w);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_true(hashes[i] == hashes[i + 3]);
    assert_true(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
}

static void test_many_seeds(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 140; seed++) {
        struct world *w = tree(seed, &good);
        random_faults(w);
        WORLD_TRUE(w, world_converge(w, 300 * NS_PER_S));
        world_free(w);
    }
}

static void breaks(const struct toy_config *bad, const char *property)
{
    struct world *w = tree(30, bad);
    world_run_for(w, 5 * NS_PER_S);
    for (int i = 0; i < 3 && !world_breach(w); i++) {
        world_tell(w, "CEN", "bump", NULL);
        world_run_for(w, 70 * NS_PER_S);
    }
    if (bad->go_back && !world_breach(w)) { /* an old message that comes late */
        world_set_faults(w, "P01", &(struct world_faults){.reorder = 500, .delay_max = 30 * NS_PER_S});
        for (int i = 0; i < 20 && !world_breach(w); i++) {
            world_tell(w, "CEN", "bump", NULL);
            world_run_for(w, 5 * NS_PER_S);
        }
    }
    if (!world_breach(w) || strncmp(world_breach(w), property, strlen(property)) != 0) {
        world_report(w);
        fail_msg("%s was not noticed", property);
    }
    assert_false(world_step(w)); /* a broken world stands still */
    world_free(w);
}

static void test_breaches_are_noticed(void **state)
{
    (void)state;
    breaks(&(struct toy_config){.invent = true}, "P1");
    breaks(&(struct toy_config){.go_back = true}, "P2");
    breaks(&(struct toy_config){.forget_records = true}, "P3");
    breaks(&(struct toy_config){.announce_early = true}, "P5");
    struct toy_config flood = {.flood = true, .poll_ns = NS_PER_S};
    struct world_options o = {.seed = 1, .core = &world_toy, .config = &flood, .queue_bound = 100000};
    struct world *w = world_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_start(w);
    world_set_faults(w, "P01", &(struct world_faults){.rate = 10000});
    world_run_for(w, 10 * NS_PER_S);
    assert_non_null(world_breach(w));
    assert_memory_equal(world_breach(w), "P11", 3);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flows_down),
        cmocka_unit_test(test_lost_hint_is_healed_by_poll),
        cmocka_unit_test(test_cut_and_heal),
        cmocka_unit_test(test_mute_is_noticed_late),
        cmocka_unit_test(test_crash_loses_what_is_not_committed),
        cmocka_unit_test(test_worker_dies_alone),
        cmocka_unit_test(test_failed_write_is_undone),
        cmocka_unit_test(test_full_store_heals),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_cut_on_a_frame),
        cmocka_unit_test(test_crash_on_a_frame),
        cmocka_unit_test(test_rate_delays),
        cmocka_unit_test(test_tamper),
        cmocka_unit_test(test_seeds_replay),
        cmocka_unit_test(test_many_seeds),
        cmocka_unit_test(test_breaches_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

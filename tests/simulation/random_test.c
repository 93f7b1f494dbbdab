/* Scenario 100: everything at once, by chance. 100 seeds; `--seeds N` for more, `--seed S` for one with its
 * trace. A seed that fails prints itself, the step, the last lines of the trace and the broken property. */
#include "tests/simulation/scenario.h"

static struct metadata_options options;
static uint64_t first_seed = 1, n_seeds = 100;
static bool verbose;

static const char *const codes[] = {"CEN", "P01", "P02", "B11", "B21"};

static const char *any(struct world *w)
{
    return codes[world_random(w, COUNT_OF(codes))];
}

static const char *child(struct world *w)
{
    return codes[1 + world_random(w, COUNT_OF(codes) - 1)];
}

static void faults(struct world *w)
{
    struct world_faults f = {.delay_max = 1 + (int64_t)world_random(w, 30 * NS_PER_S)};
    f.drop = (unsigned)world_random(w, 3) ? 0 : (unsigned)world_random(w, 300);
    f.duplicate = (unsigned)world_random(w, 200);
    f.reorder = (unsigned)world_random(w, 300);
    f.delay = (unsigned)world_random(w, 100);
    f.rate = world_random(w, 3) ? 0 : 2000 + world_random(w, 100000);
    world_set_faults(w, child(w), world_random(w, 3) ? &f : NULL);
}

static void on_frame(struct world *w)
{
    static const unsigned types[] = {FRAME_HEAD, FRAME_HINT, FRAME_DELTA_REPLY, FRAME_PAGE_REPLY,
        FRAME_PAGE_GET, FRAME_SYNC_REQUEST, FRAME_SYNC_ACK, FRAME_HEAD_GET};
    world_on_frame(w, child(w), types[world_random(w, COUNT_OF(types))], 1 + (unsigned)world_random(w, 4),
        (enum world_when)world_random(w, 3), (enum world_act)world_random(w, 4));
}

static void upstream(struct world *w)
{
    if (world_random(w, 12) == 0)
        world_upstream_churn(w, "up", 400, 0, 0);
    else
        world_upstream_churn(w, "up", (unsigned)world_random(w, 20), (unsigned)world_random(w, 20),
            (unsigned)world_random(w, 20));
    world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", (int)world_random(w, 2)));
}

static void act(struct world *w)
{
    static const char *const commands[] = {"sync.now", "sync.status", "catalogue.show", "catalogue.scopes",
        "sync.list", "catalogue.count", "verify"};
    switch (world_random(w, 18)) {
    case 0:
        world_cut(w, child(w));
        break;
    case 1:
    case 2:
        world_heal(w, child(w));
        break;
    case 3:
        world_mute(w, child(w));
        break;
    case 4:
        world_crash_at(w, any(w), 1 + (unsigned)world_random(w, 60));
        break;
    case 5:
        world_crash(w, any(w));
        break;
    case 6:
    case 7:
        world_start(w);
        break;
    case 8:
        faults(w);
        break;
    case 9:
        on_frame(w);
        break;
    case 10:
        world_fail_write(
            w, any(w), 1 + (unsigned)world_random(w, 40), world_random(w, 2) ? ERR_DISK : ERR_MAP_FULL);
        break;
    case 11:
        world_set_full(w, any(w), world_random(w, 3) == 0);
        break;
    case 12:
        world_kill_worker(w, any(w));
        break;
    case 13:
        world_pause(w, any(w), (int64_t)world_random(w, HOUR));
        break;
    case 14:
        world_skew(w, child(w), (int64_t)world_random(w, 20 * MINUTE) - 10 * MINUTE);
        break;
    case 15:
        scenario_ask(w, any(w));
        world_tell(w, any(w), commands[world_random(w, COUNT_OF(commands))], NULL);
        break;
    default:
        upstream(w);
        break;
    }
}

static void all_well(struct world *w)
{
    for (unsigned i = 0; i < COUNT_OF(codes); i++) {
        world_crash_at(w, codes[i], 0);
        world_fail_write(w, codes[i], 0, 0);
        world_set_full(w, codes[i], false);
        world_skew(w, codes[i], 0);
        if (i == 0)
            continue;
        world_on_frame(w, codes[i], 0, 0, WORLD_BEFORE, WORLD_LOSE);
        world_set_faults(w, codes[i], NULL);
        world_heal(w, codes[i]);
    }
    world_start(w);
}

static uint64_t one_seed(uint64_t seed)
{
    struct metadata_options with = options;
    with.rehash_ns = seed % 8 ? 0 : options.rehash_ns; /* it is most of the work of a quiet day */
    struct world_options o = {
        .seed = seed, .config = &with, .verbose = verbose, .shown_every = 200, .group = seed % 3 ? 500 : 0};
    struct world *w = world_catalogue_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_add_site(w, "P02", "CEN");
    world_add_site(w, "B11", "P01");
    world_add_site(w, "B21", "P02");
    world_start(w);
    world_run_for(w, NS_PER_S);
    world_upstream_add(w, "up", (unsigned)world_random(w, 400));
    for (unsigned i = 0; i < 60 && !world_breach(w); i++) {
        act(w);
        world_run_for(w, (int64_t)world_random(w, world_random(w, 4) ? 20 * NS_PER_S : HOUR));
    }
    WORLD_OK(w);
    all_well(w);
    /* nobody does anything from here on: P12. The schedule brings what runs that died have left. */
    world_run_for(w, options.schedule_ns + 2 * options.retry_interval_ns);
    scenario_converge(w, HOUR);
    scenario_equal(w);
    for (unsigned i = 0; i < COUNT_OF(codes); i++) {
        scenario_verify(w, codes[i]);
        WORLD_TRUE(w, world_stray_pages(w, codes[i]) == 0); /* P11: what no head needs is gone */
    }
    WORLD_OK(w);
    uint64_t hash = world_trace_hash(w);
    world_free(w);
    return hash;
}

static void s100_random(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < n_seeds; i++)
        (void)one_seed(first_seed + i);
}

static void s100_replays_exactly(void **state)
{
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + 3; seed++)
        assert_true(one_seed(seed) == one_seed(seed));
}

int main(int argc, char **argv)
{
    options = scenario_options();
    options.schedule_ns = DAY;
    options.delta_keep = 12;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seeds") == 0) {
            n_seeds = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            first_seed = strtoull(argv[i + 1], NULL, 10);
            n_seeds = 1;
            verbose = true;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s100_random),
        cmocka_unit_test(s100_replays_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Scenario 100: everything at once, by chance. `--seeds N` for how many, `--first N` for where they begin,
 * `--seed S` for one with its whole trace. A seed that fails prints itself, the command that replays it, the
 * step, the last lines of the trace and the broken property. `--break-at SECONDS` breaks one on purpose, to
 * see that this is so. */
#include "tests/lib/failing_memory.h"
#include "tests/lib/world_hostile.h"
#include "tests/simulation/scenario.h"

static struct metadata_options options;
static uint64_t first_seed = 1, n_seeds = 100, break_at;
static bool verbose;
static const char *program;
static unsigned made[ATTACK_COUNT]; /* over all seeds */

static const char *const codes[] = {"CEN", "P01", "P02", "B11", "B21"};

static const char *any(struct world *w)
{
    return codes[world_random(w, COUNT_OF(codes))];
}

static const char *child(struct world *w)
{
    return codes[1 + world_random(w, COUNT_OF(codes) - 1)];
}

static const char *upstream(struct world *w)
{
    return world_random(w, 3) ? "up" : "two";
}

/* Links. */

static void cut(struct world *w)
{
    world_cut(w, child(w));
}

static void heal(struct world *w)
{
    world_heal(w, child(w));
}

static void mute(struct world *w)
{
    world_mute(w, child(w));
}

static void partition(struct world *w)
{
    world_partition(w, world_random(w, 1u << COUNT_OF(codes)));
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

static void move(struct world *w)
{
    if (world_random(w, 4) == 0) /* P01 stays where it is: no loop can come about */
        world_move(w, "P02", codes[world_random(w, 2)]);
    else
        world_move(w, codes[3 + world_random(w, 2)], codes[world_random(w, 3)]);
}

static void hostile(struct world *w)
{
    unsigned attacks = (unsigned)(world_random(w, 3) ? world_random(w, ATTACK_ALL + 1) : 0);
    if (attacks && world_random(w, 2)) /* one alone shows more of it */
        attacks = 1u << world_random(w, ATTACK_COUNT);
    world_hostile(w, codes[world_random(w, 3)], attacks);
}

/* Processes. */

static void crash_at(struct world *w)
{
    world_crash_at(w, any(w), 1 + (unsigned)world_random(w, 60));
}

static void crash(struct world *w)
{
    world_crash(w, any(w));
}

static void kill_worker(struct world *w)
{
    world_kill_worker(w, any(w));
}

static void pause_site(struct world *w)
{
    world_pause(w, any(w), (int64_t)world_random(w, HOUR));
}

static void sleeper(struct world *w)
{
    if (world_random(w, 20))
        return;
    world_crash(w, child(w));
    world_run_for(w, (int64_t)world_random(w, 4) * DAY);
}

static void skew(struct world *w)
{
    if (world_random(w, 4))
        world_skew(w, child(w), (int64_t)world_random(w, 20 * MINUTE) - 10 * MINUTE);
    else
        world_skew(w, any(w), world_random(w, 2) ? 365 * DAY : -365 * DAY);
}

static void fail_alloc(struct world *w)
{
    world_fail_alloc(w, any(w), 1 + (unsigned)world_random(w, world_random(w, 2) ? 20 : 400));
}

static void lose_send(struct world *w)
{
    world_lose_send(w, any(w), 1 + (unsigned)world_random(w, 20));
}

/* Stores. */

static void fail_write(struct world *w)
{
    world_fail_write(
        w, any(w), 1 + (unsigned)world_random(w, 40), world_random(w, 2) ? ERR_DISK : ERR_MAP_FULL);
}

static void full(struct world *w)
{
    world_set_full(w, any(w), world_random(w, 3) == 0);
}

static void resize(struct world *w, const char *code, uint64_t bytes)
{
    world_crash(w, code);
    world_resize_store(w, code, bytes);
    world_restart(w, code);
}

static void tight(struct world *w)
{
    struct store_stat stat;
    const char *code = any(w);
    store_stat(world_store(w, code), &stat);
    resize(w, code, stat.used_bytes + stat.used_bytes * world_random(w, 60) / 100 + 65536);
}

/* The operator and the upstreams. */

static void ask(struct world *w)
{
    static const char *const commands[] = {"sync.now", "sync.status", "catalogue.show", "catalogue.scopes",
        "sync.list", "catalogue.count", "verify", "repair", "plan"};
    scenario_ask(w, any(w));
    world_tell(w, any(w), commands[world_random(w, COUNT_OF(commands))], NULL);
}

static void take_away(struct world *w)
{
    const char *name = upstream(w);
    char key[64];
    if (!world_upstream_any(w, name, key, sizeof key))
        return;
    world_upstream_leave(w, name, key); /* else it would be offered again when its tombstone is gone */
    world_tell(w, "CEN", "update.remove", json_pack("{s:s}", "id", key));
}

static void churn(struct world *w)
{
    if (world_random(w, 12) == 0)
        world_upstream_churn(w, "up", 400, 0, 0);
    else
        world_upstream_churn(w, upstream(w), (unsigned)world_random(w, 20), (unsigned)world_random(w, 20),
            (unsigned)world_random(w, 20));
    world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", (int)world_random(w, 2)));
}

static void rotate(struct world *w)
{
    if (world_random(w, 8) == 0)
        world_rotate(w);
}

static const struct {
    unsigned weight;
    void (*act)(struct world *w);
} acts[] = {
    {4, churn},
    {4, world_start},
    {4, heal},
    {2, cut},
    {2, mute},
    {1, partition},
    {2, faults},
    {2, on_frame},
    {2, move},
    {4, hostile},
    {2, crash_at},
    {2, crash},
    {2, kill_worker},
    {2, pause_site},
    {1, sleeper},
    {2, skew},
    {2, fail_alloc},
    {2, lose_send},
    {2, fail_write},
    {2, full},
    {1, tight},
    {2, ask},
    {1, take_away},
    {1, rotate},
};

static void act(struct world *w)
{
    unsigned sum = 0;
    for (size_t i = 0; i < COUNT_OF(acts); i++)
        sum += acts[i].weight;
    unsigned at = (unsigned)world_random(w, sum);
    for (size_t i = 0; i < COUNT_OF(acts); i++) {
        if (at < acts[i].weight) {
            acts[i].act(w);
            return;
        }
        at -= acts[i].weight;
    }
}

/* A relay that is still hostile either behaves from now on, or its children are given another parent. */
static void all_well(struct world *w)
{
    for (unsigned i = 0; i < COUNT_OF(codes); i++) {
        world_crash_at(w, codes[i], 0);
        world_fail_write(w, codes[i], 0, 0);
        world_fail_alloc(w, codes[i], 0);
        world_lose_send(w, codes[i], 0);
        world_set_full(w, codes[i], false);
        world_skew(w, codes[i], 0);
        resize(w, codes[i], 0);
        if (i == 0)
            continue;
        world_on_frame(w, codes[i], 0, 0, WORLD_BEFORE, WORLD_LOSE);
        world_set_faults(w, codes[i], NULL);
        world_heal(w, codes[i]);
    }
    bool move_away = world_random(w, 2);
    world_hostile(w, "CEN", 0);
    for (unsigned i = 1; move_away && i < COUNT_OF(codes); i++)
        world_move(w, codes[i], "CEN");
    for (unsigned i = 1; !move_away && i < 3; i++)
        world_hostile(w, codes[i], 0);
    world_start(w);
}

static void break_it(struct world *w, void *ctx)
{
    (void)ctx;
    world_break(w, "nothing", "asked for on the command line");
}

static uint64_t one_seed(uint64_t seed)
{
    struct metadata_options with = options;
    char replay[300];
    with.rehash_ns = seed % 8 ? 0 : options.rehash_ns; /* it is most of the work of a quiet day */
    int n = snprintf(replay, sizeof replay, "%s --seed %llu", program, (unsigned long long)seed);
    if (break_at)
        snprintf(replay + n, sizeof replay - (size_t)n, " --break-at %llu", (unsigned long long)break_at);
    struct world_options o = {
        .seed = seed,
        .config = &with,
        .verbose = verbose,
        .shown_every = 200,
        .group = seed % 3 ? 500 : 0,
        .fail_memory = memory_fail_at,
        .memory_failed = memory_failed,
        .replay = replay,
    };
    struct world *w = world_catalogue_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_add_site(w, "P02", "CEN");
    world_add_site(w, "B11", "P01");
    world_add_site(w, "B21", "P02");
    for (unsigned i = 0; i < 3; i++)
        world_hostile(w, codes[i], 0); /* remembers */
    if (break_at)
        world_at(w, (int64_t)break_at * NS_PER_S, break_it, NULL);
    world_start(w);
    world_run_for(w, NS_PER_S);
    world_upstream_add(w, "up", (unsigned)world_random(w, 400));
    world_upstream_add(w, "two", (unsigned)world_random(w, 60));
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
        unsigned stray = world_stray_pages(w, codes[i]); /* what no head needs is gone */
        if (stray)
            world_break(w, "P11", "%s keeps %u pages that no head reaches", codes[i], stray);
        WORLD_OK(w);
    }
    WORLD_OK(w);
    uint64_t hash = world_trace_hash(w);
    for (unsigned i = 0; i < ATTACK_COUNT; i++)
        made[i] += world_attacks_made(w, i);
    world_free(w);
    return hash;
}

static void s100_random(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < n_seeds; i++)
        (void)one_seed(first_seed + i);
    for (unsigned i = 0; n_seeds >= 40 && i < ATTACK_COUNT; i++)
        if (made[i] < n_seeds / 4 && i != ATTACK_LOOP) /* that one takes nodes: full_test.c */
            fail_msg("attack %s was made only %u times", world_attack_word(i), made[i]);
}

static void s100_replays_exactly(void **state)
{
    (void)state;
    for (uint64_t seed = first_seed; n_seeds >= 20 && seed < first_seed + 3; seed++)
        assert_true(one_seed(seed) == one_seed(seed));
}

int main(int argc, char **argv)
{
    program = argv[0];
    options = scenario_options();
    options.schedule_ns = DAY;
    options.delta_keep = 12;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seeds") == 0) {
            n_seeds = n;
        } else if (strcmp(argv[i], "--first") == 0) {
            first_seed = n;
        } else if (strcmp(argv[i], "--break-at") == 0) {
            break_at = n;
        } else if (strcmp(argv[i], "--seed") == 0) {
            first_seed = n;
            n_seeds = 1;
            verbose = true;
        } else {
            fprintf(stderr, "usage: %s [--first N] [--seeds N] [--seed N] [--break-at SECONDS]\n", argv[0]);
            return 2;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s100_random),
        cmocka_unit_test(s100_replays_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

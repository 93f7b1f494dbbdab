/* Scenarios 040 to 049: another head key, what a thief of the old one has signed, and centres that went back.
 */
#include "tests/lib/world_full.h"
#include "tests/simulation/scenario.h"

#include "services/node/tables.h"

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
        inject(w, "P02", (struct world_forgery){.generation = 1, .old_key = true});
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

static void churn(struct world *w, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        world_upstream_churn(w, "up", 5, 5, 5);
        scenario_sync(w, true);
        scenario_converge(w, MINUTE);
    }
}

static void wake_with(struct world *w, const char *code, struct world_backup *b)
{
    world_crash(w, code);
    world_run_for(w, NS_PER_S);
    world_go_back(w, code, b);
    world_may_return(w); /* what was deleted since is there again */
}

static void is_fenced(struct world *w, const char *command, json_t *args)
{
    json_t *j = world_call(w, "CEN", command, args);
    WORLD_TRUE(w, j != NULL);
    assert_string_equal(scenario_text(j, "code"), "epoch-fence");
    assert_string_equal(scenario_text(j, "hint"), "sitetree epoch open");
    json_decref(j);
}

/* Opens a new epoch, and everybody walks there while serving. */
static void open_epoch(struct world *w)
{
    json_t *j = world_call(w, "CEN", "epoch.open", NULL);
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_decref(j);
    for (unsigned i = 0; i < 20; i++) {
        scenario_ask(w, "P01");
        scenario_ask(w, "B11");
    }
    scenario_converge(w, MINUTE);
    assert_string_equal(world_status(w, "CEN").cause, "");
    churn(w, 1);
    scenario_equal(w);
    scenario_verify(w, "P01");
    scenario_verify(w, "B11");
}

/* The centre has lost what it published since the backup. It hears of it from its children, publishes nothing
 * of its own under numbers that are given already, says so, and goes on in a new epoch when it is told to. */
static void s044_a_centre_from_an_old_backup(void **state)
{
    (void)state;
    struct world *w = scenario_synced(44, &options, 300);
    struct world_backup *b = world_back_up(w, "CEN");
    churn(w, 3);
    struct world_shown before = world_shown(w, "P01", false);
    wake_with(w, "CEN", b);
    world_restart(w, "CEN");
    world_run_for(w, 2 * NS_PER_S);
    WORLD_OK(w);
    assert_true(world_shown(w, "CEN", false).generation < before.generation);
    assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
    assert_non_null(strstr(world_status(w, "CEN").text, "sitetree epoch open"));
    assert_int_equal(world_n_events(w, "CEN", "epoch.fenced"), 1);
    unsigned published = world_n_events(w, "CEN", "head.published");
    is_fenced(w, "sync.now", json_pack("{s:b}", "full", 1));
    is_fenced(w, "update.publish", json_pack("{s:s}", "json", "{\"id\":\"x\",\"title\":\"x\"}"));
    world_crash(w, "CEN"); /* it does not forget */
    world_cut(w, "P01");
    world_cut(w, "P02");
    world_restart(w, "CEN");
    world_run_for(w, 3 * DAY); /* nor does it sign the same again when its head grows old */
    WORLD_OK(w);
    assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
    assert_int_equal(world_n_events(w, "CEN", "head.published"), published);
    assert_int_equal(world_shown(w, "P01", false).generation, before.generation); /* it serves what it has */
    world_heal(w, "P01");
    world_heal(w, "P02");
    world_run_for(w, 10 * NS_PER_S);
    open_epoch(w);
    assert_true(
        world_shown(w, "CEN", false).generation > before.generation); /* numbers are not given twice */
    world_free(w);
}

/* The epoch of the backup is over already: a third one must be later than both. */
static void s044_a_backup_of_an_earlier_epoch(void **state)
{
    (void)state;
    struct world *w = scenario_synced(45, &options, 100);
    struct world_backup *b = world_back_up(w, "CEN");
    json_decref(world_call(w, "CEN", "epoch.open", NULL));
    world_run_for(w, NS_PER_S);
    json_decref(world_call(w, "CEN", "epoch.open", NULL));
    churn(w, 1);
    wake_with(w, "CEN", b);
    world_restart(w, "CEN");
    world_run_for(w, 2 * NS_PER_S);
    assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
    open_epoch(w);
    world_free(w);
}

/* Only a site far below holds the newest generation: its head is passed on from hop to hop. */
static void s045_a_newer_head_from_far_below(void **state)
{
    (void)state;
    static const char *const codes[] = {"CEN", "P01", "P02"};
    struct world *w = scenario_synced(45, &options, 100);
    struct world_backup *b[3];
    for (unsigned i = 0; i < 3; i++)
        b[i] = world_back_up(w, codes[i]);
    churn(w, 2);
    for (unsigned i = 0; i < 3; i++)
        wake_with(w, codes[i], b[i]);
    for (unsigned i = 0; i < 3; i++)
        world_restart(w, codes[i]);
    world_run_for(w, 20 * NS_PER_S);
    WORLD_OK(w);
    assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
    open_epoch(w);
    world_free(w);
}

/* A second centre with the same keys and nothing else, put up by mistake. */
static void s046_two_centres(void **state)
{
    (void)state;
    struct world *w = scenario_tree(46, &options, 100);
    struct world_backup *empty = world_back_up(w, "CEN");
    scenario_sync(w, true);
    churn(w, 1);
    wake_with(w, "CEN", empty);
    world_restart(w, "CEN");
    world_run_for(w, 2 * NS_PER_S);
    assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
    is_fenced(w, "sync.now", NULL);
    open_epoch(w);
    world_free(w);
}

struct spoiling {
    unsigned seen;
};

static struct blob *spoil_offers(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    struct spoiling *s = ctx;
    (void)w;
    if (down || type != FRAME_HEAD)
        return blob_ref(frame);
    struct view v = blob_view(frame);
    uint8_t *copy = malloc(v.len);
    assert_non_null(copy);
    memcpy(copy, v.data, v.len);
    copy[80] ^= 1; /* in the signed payload */
    struct blob *b = blob_new(copy, v.len);
    free(copy);
    s->seen++;
    return b;
}

/* What no head key has signed stops nobody, whatever it says. */
static void s047_a_lying_branch_does_not_stop_the_centre(void **state)
{
    (void)state;
    struct world *w = scenario_synced(47, &options, 100);
    struct world_backup *b = world_back_up(w, "P01");
    world_crash(w, "P02"); /* takes no part */
    churn(w, 1);
    struct spoiling s = {0};
    world_tamper(w, "P01", spoil_offers, &s);
    inject(w, "P01", (struct world_forgery){.generation = 5, .strange = true}); /* it believes this one */
    world_run_for(w, 2 * NS_PER_S);
    world_cut(w, "P01");
    world_run_for(w, NS_PER_S);
    world_heal(w, "P01"); /* and offers it; on the way it becomes what nobody signed */
    world_run_for(w, 5 * NS_PER_S);
    WORLD_OK(w);
    assert_true(s.seen > 0);
    assert_true(world_n_events(w, "CEN", "verify.refused") > 0);
    assert_string_equal(world_status(w, "CEN").cause, "");
    world_tamper(w, "P01", NULL, NULL);
    wake_with(w, "P01", b); /* one that is behind is no reason either */
    world_restart(w, "P01");
    world_restart(w, "P02");
    scenario_converge(w, MINUTE);
    assert_int_equal(world_n_events(w, "CEN", "epoch.fenced"), 0);
    churn(w, 1);
    scenario_equal(w);
    world_free(w);
}

/* A thief signs ahead, the centre hears of it and stops; another head key ends both. */
static void s048_a_theft_is_seen_at_the_centre(void **state)
{
    (void)state;
    struct world *w = scenario_synced(48, &options, 100);
    inject(w, "B11", (struct world_forgery){.generation = 1000, .strange = true});
    world_run_for(w, 2 * NS_PER_S);
    world_cut(w, "B11");
    world_run_for(w, NS_PER_S);
    world_heal(w, "B11");
    world_run_for(w, 5 * NS_PER_S);
    WORLD_OK(w);
    assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
    world_rotate(w);
    world_run_for(w, 2 * NS_PER_S);
    scenario_converge(w, 20 * MINUTE);
    assert_string_equal(world_status(w, "CEN").cause, "");
    assert_in_range(
        world_shown(w, "P02", false).generation, 2, 100); /* the thief's numbers are not taken on */
    churn(w, 1);
    scenario_equal(w);
    world_free(w);
}

static void mark_restored(struct world *w)
{
    struct store_txn *t;
    assert_int_equal(store_begin(world_node_store(w, "CEN"), true, &t), 0);
    table_number_put(t, RESTORED_WORD, 1);
    assert_int_equal(store_commit(t), 0);
}

/* A centre that came from a backup waits for its children, also when it has missed nothing. */
static void s049_a_restored_centre_waits_for_its_children(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) { /* nothing missed; an operator does not wait; something missed */
        struct world *w = pair(49);
        assert_int_equal(world_join(w, "P02", "CEN"), 0);
        world_run_for(w, NS_PER_S);
        scenario_converge(w, MINUTE);
        struct world_backup *b = world_back_up(w, "CEN");
        if (i == 2)
            churn(w, 2);
        wake_with(w, "CEN", b);
        mark_restored(w);
        world_crash(w, "P02");
        world_restart(w, "CEN");
        world_run_for(w, 10 * MINUTE);
        WORLD_OK(w);
        assert_string_equal(world_status(w, "CEN").cause, "epoch-fence"); /* P02 was not heard */
        is_fenced(w, "sync.now", NULL);
        if (i == 1)
            json_decref(world_call(w, "CEN", "epoch.open", NULL));
        world_restart(w, "P02");
        world_run_for(w, 3 * MINUTE);
        WORLD_OK(w);
        if (i == 2) {
            assert_string_equal(world_status(w, "CEN").cause, "epoch-fence");
            json_decref(world_call(w, "CEN", "epoch.open", NULL));
            world_run_for(w, NS_PER_S);
        }
        assert_string_equal(world_status(w, "CEN").cause, "");
        churn(w, 1);
        scenario_equal(w);
        world_crash(w, "CEN"); /* and that is the end of it */
        world_restart(w, "CEN");
        world_run_for(w, MINUTE);
        assert_string_equal(world_status(w, "CEN").cause, "");
        world_free(w);
    }
}

static json_int_t explain_is(struct world *w, const char *code, const char *cause)
{
    json_t *j = world_call(w, code, "explain", NULL), *data = json_object_get(j, "data");
    WORLD_TRUE(w, data != NULL);
    json_int_t same = strcmp(scenario_text(data, "cause"), cause) == 0;
    if (!same)
        world_note(w, "cause: %s", scenario_text(data, "cause"));
    json_decref(j);
    return same;
}

static void remove_site(struct world *w, const char *parent, const char *code)
{
    json_t *j = world_call(w, parent, "site.remove", json_pack("{s:s}", "site", code));
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_decref(j);
}

/* A site is removed, and goes on as a parent of whoever still hangs on it. Its child hears of the removal
 * with the first head that reaches it, leaves it and says why; when the site has joined again it comes back
 * by itself. */
static void s050_a_removed_site_is_no_parent_any_more(void **state)
{
    (void)state;
    struct world *w = pair(50);
    assert_int_equal(world_join(w, "P02", "CEN"), 0);
    assert_int_equal(world_join(w, "B11", "P01"), 0);
    assert_int_equal(world_join(w, "B21", "P02"), 0);
    world_run_for(w, MINUTE);
    scenario_converge(w, MINUTE);
    remove_site(w, "CEN", "P01");
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    uint64_t generation = world_shown(w, "B11", false).generation;
    assert_true(world_shown(w, "B21", false).generation > generation); /* the list is in a head of its own */
    assert_string_equal(world_node_view(w, "B11").uplink, "live");     /* nobody has told it */
    world_inject(w, "B11", "metadata/-", world_hint_of(w, "CEN"));
    world_run_for(w, NS_PER_S);
    WORLD_OK(w);
    assert_string_equal(world_node_view(w, "B11").uplink, "wait");
    assert_true(explain_is(w, "B11", "key-not-trusted"));
    scenario_ask(w, "B11"); /* it serves what it has */
    world_crash(w, "B11");
    world_restart(w, "B11");
    world_run_for(w, 10 * MINUTE);
    WORLD_OK(w);
    assert_true(explain_is(w, "B11", "key-not-trusted"));
    assert_int_equal(world_join(w, "P01", "CEN"), 0); /* the same keys, a newer certificate */
    world_crash(w, "P01");
    world_restart(w, "P01");
    world_run_for(w, 3 * MINUTE);
    WORLD_OK(w);
    assert_string_equal(world_node_view(w, "P01").uplink, "live");
    assert_string_equal(world_node_view(w, "B11").uplink, "live");
    churn(w, 1);
    scenario_equal(w);
    world_free(w);
}

/* Removed far below, refused everywhere: the centre learns of it by the reports. */
static void s051_a_removal_far_below_comes_down_again(void **state)
{
    (void)state;
    struct world *w = pair(51);
    assert_int_equal(world_join(w, "P02", "CEN"), 0);
    assert_int_equal(world_join(w, "B11", "P01"), 0);
    assert_int_equal(world_join(w, "C111", "B11"), 0);
    world_run_for(w, 12 * MINUTE);
    scenario_converge(w, MINUTE);
    remove_site(w, "P01", "B11");
    world_run_for(w, MINUTE);
    WORLD_OK(w);
    assert_string_equal(world_node_view(w, "C111").uplink, "live");
    world_inject(w, "C111", "metadata/-", world_hint_of(w, "P02"));
    world_run_for(w, NS_PER_S);
    assert_true(explain_is(w, "C111", "key-not-trusted"));
    /* B11 itself hears that it is no longer one of them, from whomever */
    world_inject(w, "B11", "metadata/-", world_hint_of(w, "P02"));
    world_run_for(w, NS_PER_S);
    WORLD_OK(w);
    assert_string_equal(world_node_view(w, "B11").uplink, "wait");
    world_crash(w, "CEN"); /* and it is so after a restart of the centre */
    world_restart(w, "CEN");
    world_run_for(w, NS_PER_S);
    world_upstream_churn(w, "up", 5, 5, 5);
    scenario_sync(w, true);
    world_run_for(w, MINUTE);
    assert_int_equal(world_shown(w, "P02", false).generation, world_shown(w, "CEN", false).generation);
    assert_true(world_shown(w, "C111", false).generation < world_shown(w, "CEN", false).generation);
    assert_true(explain_is(w, "C111", "key-not-trusted"));
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
        cmocka_unit_test(s044_a_centre_from_an_old_backup),
        cmocka_unit_test(s044_a_backup_of_an_earlier_epoch),
        cmocka_unit_test(s045_a_newer_head_from_far_below),
        cmocka_unit_test(s046_two_centres),
        cmocka_unit_test(s047_a_lying_branch_does_not_stop_the_centre),
        cmocka_unit_test(s048_a_theft_is_seen_at_the_centre),
        cmocka_unit_test(s049_a_restored_centre_waits_for_its_children),
        cmocka_unit_test(s050_a_removed_site_is_no_parent_any_more),
        cmocka_unit_test(s051_a_removal_far_below_comes_down_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

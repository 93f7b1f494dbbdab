/* Scenarios 012 to 018 and 024: the sync run, its cursors, retries and requests (requirements A1 to A29). */
#include "tests/simulation/scenario.h"

static struct metadata_options options;

/* Manual runs between two scheduled ones lose nothing (A6 to A8). Any mix of changes and manual runs, then
 * one full run of the schedule: the catalogue equals the upstream. */
static void s012_manual_runs_lose_nothing(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.schedule_ns = DAY;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = scenario_synced(1200 + seed, &o, 120);
        for (unsigned day = 0; day < 3; day++) {
            int64_t end = world_now(w) + DAY + 2 * HOUR; /* the schedule has come in it */
            unsigned manual = (unsigned)world_random(w, 5);
            for (unsigned i = 0; i < manual; i++) {
                world_upstream_churn(w, "up", (unsigned)world_random(w, 4), (unsigned)world_random(w, 4),
                    (unsigned)world_random(w, 4));
                world_run_for(w, (int64_t)world_random(w, 3 * HOUR));
                scenario_sync(w, false);
            }
            world_run_for(w, end - world_now(w));
            scenario_converge(w, MINUTE);
            scenario_equal(w);
        }
        world_free(w);
    }
}

/* The trap itself: the manual run fetches the very version that holds the change, and must not count as
 * having moved it; the next full run sees the same version and must still do the work. */
static void s012_manual_run_does_not_move_the_scheduled_cursor(void **state)
{
    (void)state;
    struct world *w = scenario_synced(12, &options, 50);
    world_upstream_put(w, "up", "deb/up-1/1.0/amd64", NULL, NULL); /* changed */
    world_upstream_put(w, "up", "deb/fresh/1.0/amd64", NULL, NULL);
    world_upstream_leave(w, "up", "deb/up-2/1.0/amd64");
    scenario_sync(w, false);
    scenario_converge(w, MINUTE);
    assert_int_equal(world_key(w, "B11", "deb/fresh/1.0/amd64").state, WORLD_LIVE);
    assert_int_equal(world_key(w, "B11", "deb/up-1/1.0/amd64").revision, 1); /* A7: new items only */
    assert_int_equal(world_key(w, "B11", "deb/up-2/1.0/amd64").state, WORLD_LIVE);
    json_t *manual = scenario_run(w, "CEN", 0);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    assert_int_equal(world_key(w, "B11", "deb/up-1/1.0/amd64").revision, 2);
    assert_int_equal(world_key(w, "B11", "deb/up-2/1.0/amd64").state, WORLD_EXPIRED);
    json_t *full = scenario_run(w, "CEN", 0);
    assert_string_equal(scenario_text(manual, "kind"), "DELTA_NEW");
    assert_string_equal(scenario_text(full, "kind"), "FULL");
    assert_int_equal(json_integer_value(json_object_get(manual, "added")), 1);
    assert_int_equal(json_integer_value(json_object_get(manual, "changed")), 0);
    assert_int_equal(json_integer_value(json_object_get(full, "changed")), 1);
    assert_int_equal(json_integer_value(json_object_get(full, "expired")), 1);
    json_decref(manual);
    json_decref(full);
    scenario_equal(w);
    world_free(w);
}

/* What came with a manual run and left again before the schedule: to the scheduled cursor the upstream looks
 * as it did, and yet the catalogue does not (A6, A8). */
static void s012_what_only_a_manual_run_saw_leaves_with_the_full_one(void **state)
{
    (void)state;
    for (int seen_gone = 0; seen_gone < 2; seen_gone++) {
        struct world *w = scenario_synced(121, &options, 50);
        world_upstream_put(w, "up", "deb/blip/1.0/amd64", NULL, NULL);
        scenario_sync(w, false);
        scenario_converge(w, MINUTE);
        assert_int_equal(world_key(w, "B11", "deb/blip/1.0/amd64").state, WORLD_LIVE);
        world_upstream_leave(w, "up", "deb/blip/1.0/amd64");
        if (seen_gone) /* a manual run that sees it gone may not take it away, nor hide that it is gone */
            scenario_sync(w, false);
        scenario_sync(w, true);
        scenario_converge(w, MINUTE);
        assert_int_equal(world_key(w, "B11", "deb/blip/1.0/amd64").state, WORLD_EXPIRED);
        scenario_equal(w);
        world_free(w);
    }
}

static void s013_retry_after_an_hour(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++)
        for (int restart = 0; restart < 2; restart++) {
            struct world *w = scenario_synced(13, &options, 50);
            world_upstream_churn(w, "up", 3, 3, 3);
            world_upstream_fail(w, "up", ERR_UPSTREAM);
            json_decref(scenario_now(w, full));
            WORLD_TRUE(w, !scenario_run_ends(w, "CEN", MINUTE));
            const struct world_event *e = world_event(w, "CEN", "sync.failed", 0);
            assert_int_equal(e->code, ERR_UPSTREAM);
            assert_string_equal(e->phase, "SOURCE");
            int64_t failed_at = world_now(w);
            unsigned fetches = world_upstream_fetches(w, "up");
            world_upstream_fail(w, "up", 0);
            world_run_for(w, 30 * MINUTE);
            if (restart) {
                world_crash(w, "CEN");
                world_run_for(w, MINUTE);
                world_restart(w, "CEN");
            }
            world_run_for(w, failed_at + options.retry_interval_ns - world_now(w) - 2 * NS_PER_S);
            assert_int_equal(world_upstream_fetches(w, "up"), fetches); /* A22: not before */
            WORLD_TRUE(w, scenario_run_ends(w, "CEN", MINUTE));
            assert_in_range(world_now(w) - failed_at, options.retry_interval_ns - NS_PER_S,
                options.retry_interval_ns + 5 * NS_PER_S);
            json_t *run = scenario_run(w, "CEN", 0);
            assert_string_equal(scenario_text(run, "kind"), full ? "FULL" : "DELTA_NEW"); /* the same kind */
            json_decref(run);
            scenario_converge(w, MINUTE);
            if (full)
                scenario_equal(w);
            world_free(w);
        }
}

/* A manual run that succeeds meanwhile does not stand for the full one that failed: it moves less (A7, A8).
 */
static void s013_manual_success_does_not_cancel_a_full_retry(void **state)
{
    (void)state;
    struct world *w = scenario_synced(131, &options, 50);
    world_upstream_churn(w, "up", 3, 3, 3);
    world_upstream_fail(w, "up", ERR_UPSTREAM);
    json_decref(scenario_now(w, true));
    WORLD_TRUE(w, !scenario_run_ends(w, "CEN", MINUTE));
    world_upstream_fail(w, "up", 0);
    world_run_for(w, 10 * MINUTE);
    scenario_sync(w, false);
    WORLD_TRUE(w, scenario_run_ends(w, "CEN", options.retry_interval_ns));
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void s014_second_request_is_one_more_run(void **state)
{
    (void)state;
    struct world *w = scenario_synced(14, &options, 50);
    world_upstream_slow(w, "up", 10 * NS_PER_S);
    world_upstream_churn(w, "up", 2, 0, 0);
    unsigned before = world_n_events(w, "CEN", "sync.succeeded");
    json_t *first = scenario_now(w, false);
    json_t *second = scenario_now(w, true);
    json_t *third = scenario_now(w, false);
    assert_false(json_is_true(json_object_get(first, "queued")));
    assert_true(json_is_true(json_object_get(second, "queued"))); /* and the answer says so */
    assert_true(json_is_true(json_object_get(third, "queued")));
    assert_string_not_equal(scenario_text(first, "run"), scenario_text(second, "run"));
    assert_string_equal(scenario_text(second, "run"), scenario_text(third, "run"));
    world_run_for(w, 2 * MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_n_events(w, "CEN", "sync.succeeded"), before + 2);
    json_t *run = scenario_run(w, "CEN", 0);
    assert_string_equal(scenario_text(run, "kind"), "FULL"); /* the wider of what was asked for */
    json_decref(run);
    json_decref(first);
    json_decref(second);
    json_decref(third);
    world_free(w);
}

/* A crash in the middle of a run with another one waiting: the larger of both is made up for. */
static void s014_crash_with_a_run_behind(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        struct world *w = scenario_synced(140, &options, 50);
        world_upstream_slow(w, "up", 10 * NS_PER_S);
        world_upstream_churn(w, "up", 3, 3, 3);
        json_decref(scenario_now(w, first));
        json_decref(scenario_now(w, !first));
        world_crash(w, "CEN");
        world_restart(w, "CEN");
        world_run_for(w, 5 * MINUTE);
        scenario_converge(w, MINUTE);
        scenario_equal(w);
        world_free(w);
    }
}

/* The retry of a full run falls due while a manual run is active. */
static void s014_retry_behind_an_active_run(void **state)
{
    (void)state;
    struct world *w = scenario_synced(141, &options, 50);
    world_upstream_churn(w, "up", 3, 3, 3);
    world_upstream_fail(w, "up", ERR_UPSTREAM);
    json_decref(scenario_now(w, true));
    WORLD_TRUE(w, !scenario_run_ends(w, "CEN", MINUTE));
    world_upstream_fail(w, "up", 0);
    world_run_for(w, options.retry_interval_ns - 10 * NS_PER_S);
    world_upstream_slow(w, "up", MINUTE);
    json_decref(scenario_now(w, false));
    world_run_for(w, 10 * MINUTE);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void s015_stalled_run_fails_with_its_phase(void **state)
{
    (void)state;
    struct world *w = scenario_synced(15, &options, 50);
    world_upstream_hang(w, "up", true);
    json_decref(scenario_now(w, true));
    int64_t start = world_now(w);
    WORLD_TRUE(w, !scenario_run_ends(w, "CEN", options.stall_ns + MINUTE));
    assert_in_range(world_now(w) - start, options.stall_ns - NS_PER_S, options.stall_ns + 10 * NS_PER_S);
    const struct world_event *e = world_event(w, "CEN", "sync.failed", 0);
    assert_int_equal(e->code, ERR_STALLED);
    assert_string_equal(e->phase, "SOURCE");
    world_upstream_hang(w, "up", false);
    WORLD_TRUE(w, scenario_run_ends(w, "CEN", options.retry_interval_ns + MINUTE));
    world_free(w);
}

/* The node is frozen for longer than a run may stall: the run fails in PUBLISH, another one begins, and then
 * the signature comes. It belongs to no run any more; the generation counts all the same. */
static void s015_a_signature_that_comes_too_late(void **state)
{
    (void)state;
    struct world *w = scenario_synced(151, &options, 50);
    world_upstream_churn(w, "up", 3, 0, 0);
    world_sign_late(w, "CEN", true);
    json_decref(scenario_now(w, true));
    WORLD_TRUE(w, !scenario_run_ends(w, "CEN", options.stall_ns + MINUTE));
    assert_string_equal(world_event(w, "CEN", "sync.failed", 0)->phase, "PUBLISH");
    unsigned succeeded = world_n_events(w, "CEN", "sync.succeeded");
    world_upstream_churn(w, "up", 2, 1, 1);
    world_upstream_slow(w, "up", MINUTE);
    json_decref(scenario_now(w, true));
    world_run_for(w, 10 * NS_PER_S);
    world_sign_late(w, "CEN", false);
    world_run_for(w, 10 * NS_PER_S);
    WORLD_OK(w);
    assert_int_equal(
        world_n_events(w, "CEN", "sync.succeeded"), succeeded); /* the new run is in SOURCE still */
    WORLD_TRUE(w, scenario_run_ends(w, "CEN", 5 * MINUTE));
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void s015_cancelled_runs_change_nothing(void **state)
{
    (void)state;
    struct world *w = scenario_synced(152, &options, 50);
    world_upstream_churn(w, "up", 3, 3, 3);
    world_upstream_slow(w, "up", 10 * NS_PER_S);
    struct world_shown before = world_shown(w, "CEN", true);
    unsigned fetches = world_upstream_fetches(w, "up");
    json_t *first = scenario_now(w, true), *second = scenario_now(w, false);
    json_t *j = world_call(w, "CEN", "sync.cancel",
        json_pack("{s:O}", "run", json_object_get(second, "run"))); /* the queued one */
    assert_string_equal(scenario_text(json_object_get(j, "data"), "result"), "cancelled");
    json_decref(j);
    j = world_call(w, "CEN", "sync.cancel", NULL);
    assert_string_equal(scenario_text(json_object_get(j, "data"), "run"), scenario_text(first, "run"));
    json_decref(j);
    assert_int_equal(world_n_events(w, "CEN", "sync.cancelled"), 1);
    j = world_call(w, "CEN", "sync.cancel", NULL); /* nothing is active */
    assert_string_equal(scenario_text(j, "code"), "not-found");
    json_decref(j);
    world_run_for(w, 2 * options.retry_interval_ns); /* and nothing is tried again by itself */
    WORLD_OK(w);
    struct world_shown after = world_shown(w, "CEN", true);
    assert_true(hash_eq(&before.root, &after.root) && before.generation == after.generation);
    assert_in_range(world_upstream_fetches(w, "up"), fetches, fetches + 1);
    for (unsigned nth = 0; nth < 2; nth++) {
        json_t *run = scenario_run(w, "CEN", nth);
        assert_string_equal(scenario_text(run, "result"), "cancelled");
        json_decref(run);
    }
    json_decref(first);
    json_decref(second);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

static void s016_child_refuses_a_local_sync(void **state)
{
    (void)state;
    struct world *w = scenario_synced(16, &options, 20);
    static const char *const codes[] = {"P01", "B11"};
    for (unsigned i = 0; i < 2; i++) {
        json_t *j = world_call(w, codes[i], "sync.now", json_pack("{s:b}", "full", 1));
        WORLD_TRUE(w, j != NULL);
        assert_string_equal(scenario_text(j, "schema"), "sitetree.error/1");
        assert_string_equal(scenario_text(j, "code"), "not-central");
        assert_int_equal(json_integer_value(json_object_get(j, "exit")), 1);
        json_decref(j);
    }
    WORLD_OK(w);
    world_free(w);
}

static void s016_history_is_kept_for_so_many_runs(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.runs_keep = 5;
    struct world *w = scenario_synced(161, &o, 20); /* r-1 */
    for (unsigned i = 0; i < 7; i++) {
        world_upstream_churn(w, "up", 1, 0, 0);
        scenario_sync(w, i % 2);
        world_run_for(w, MINUTE);
    }
    json_t *list = world_call(w, "CEN", "sync.list", NULL);
    json_t *runs = json_object_get(json_object_get(list, "data"), "runs");
    assert_int_equal(json_array_size(runs), 5);
    assert_string_equal(scenario_text(json_array_get(runs, 0), "run"), "r-8");
    assert_string_equal(scenario_text(json_array_get(runs, 4), "run"), "r-4");
    json_decref(list);
    json_t *gone = world_call(w, "CEN", "sync.show", json_pack("{s:s}", "run", "r-2"));
    assert_string_equal(scenario_text(gone, "code"), "not-found");
    json_decref(gone);
    json_t *kept = world_call(w, "CEN", "sync.show", json_pack("{s:s}", "run", "r-5"));
    json_t *data = json_object_get(kept, "data"); /* what operators.md asks of a run is stored with it */
    static const char *const fields[] = {"kind", "by", "started", "ended", "result", "added", "changed",
        "removed", "expired", "generation_before", "generation_after", "phases", "hop"};
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (!json_object_get(data, fields[i]) || json_is_null(json_object_get(data, fields[i])))
            fail_msg("r-5 without %s", fields[i]);
    json_decref(kept);
    WORLD_OK(w);
    world_free(w);
}

static int64_t when(struct world *w, const char *code, const char *event, unsigned nth)
{
    const struct world_event *e = world_event(w, code, event, nth);
    WORLD_TRUE(w, e != NULL);
    return e->at;
}

struct reached {
    unsigned p01, b11;
};
static bool children_ended(struct world *w, void *ctx)
{
    struct reached *r = ctx;
    return world_n_events(w, "P01", "sync.succeeded") > r->p01 &&
           world_n_events(w, "B11", "sync.succeeded") > r->b11;
}

static void s017_requests_go_down_level_by_level(void **state)
{
    (void)state;
    struct world *w = scenario_synced(17, &options, 60);
    world_run_for(w, MINUTE);
    unsigned cen = world_n_events(w, "CEN", "sync.succeeded");
    struct reached r = {
        world_n_events(w, "P01", "sync.succeeded"), world_n_events(w, "B11", "sync.succeeded")};
    world_reset_counts(w, "P01");
    world_reset_counts(w, "B11");
    world_upstream_churn(w, "up", 3, 0, 0);
    scenario_sync(w, false); /* DELTA_NEW at the top; the children run FULL (A10) */
    WORLD_TRUE(w, world_run_until(w, children_ended, &r, 2 * MINUTE));
    int64_t at_cen = when(w, "CEN", "sync.succeeded", cen), at_p01 = when(w, "P01", "sync.succeeded", r.p01),
            at_b11 = when(w, "B11", "sync.succeeded", r.b11);
    assert_true(at_cen < at_p01 && at_p01 < at_b11); /* A23 */
    assert_true(world_counts(w, "P01")->sent_up[FRAME_SYNC_ACK] >= 1);
    assert_true(world_counts(w, "B11")->sent_up[FRAME_SYNC_ACK] >= 1);
    json_t *run = scenario_run(w, "B11", 0);
    assert_string_equal(scenario_text(run, "kind"), "FULL");
    assert_non_null(strstr(scenario_text(run, "by"), "P01"));
    json_decref(run);
    /* a run that fails sends nothing down */
    world_run_for(w, 5 * MINUTE);
    world_reset_counts(w, "P01");
    world_upstream_churn(w, "up", 3, 0, 0);
    world_upstream_fail(w, "up", ERR_UPSTREAM);
    json_decref(scenario_now(w, true));
    WORLD_TRUE(w, !scenario_run_ends(w, "CEN", MINUTE));
    world_run_for(w, 10 * MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_counts(w, "P01")->by_type[FRAME_SYNC_REQUEST], 0);
    world_free(w);
}

struct loss {
    unsigned left, seen;
};
static struct blob *lose_requests(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    struct loss *l = ctx;
    (void)w;
    if (type != FRAME_SYNC_REQUEST || !down)
        return blob_ref(frame);
    l->seen++;
    if (l->left == 0)
        return blob_ref(frame);
    l->left--;
    return NULL;
}

static void s017_request_is_repeated_until_acknowledged(void **state)
{
    (void)state;
    struct world *w = scenario_synced(18, &options, 60);
    world_run_for(w, MINUTE);
    struct loss l = {.left = 4};
    struct reached r = {
        world_n_events(w, "P01", "sync.succeeded"), world_n_events(w, "B11", "sync.succeeded")};
    world_tamper(w, "P01", lose_requests, &l);
    world_upstream_churn(w, "up", 3, 0, 0);
    scenario_sync(w, true);
    WORLD_TRUE(w, world_run_until(w, children_ended, &r, 30 * MINUTE));
    assert_true(l.seen >= 5);
    unsigned seen = l.seen;
    world_run_for(w, 2 * HOUR); /* acknowledged: no more of it */
    assert_in_range(l.seen, seen, seen + 2);
    assert_int_equal(world_n_events(w, "P01", "sync.succeeded"), r.p01 + 1);
    /* a child that is away gets it when it comes back */
    world_crash(w, "P01");
    world_upstream_churn(w, "up", 3, 0, 0);
    scenario_sync(w, true);
    world_run_for(w, 2 * HOUR);
    world_restart(w, "P01");
    r = (struct reached){
        world_n_events(w, "P01", "sync.succeeded"), world_n_events(w, "B11", "sync.succeeded")};
    WORLD_TRUE(w, world_run_until(w, children_ended, &r, 30 * MINUTE));
    world_free(w);
}

/* The content of what comes down is lost, the requests are not. */
static struct blob *lose_content(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    bool *on = ctx;
    (void)w;
    return *on && down &&
                   (type == FRAME_HEAD || type == FRAME_HINT || type == FRAME_DELTA_REPLY ||
                       type == FRAME_PAGE_REPLY)
               ? NULL
               : blob_ref(frame);
}

/* A child that cannot reach what it was asked for: 6703 and 6707 after the stall time, nothing goes on to its
 * own children, and the next try comes an hour after the failure, also across a restart (A22); at once when
 * the link comes back, unless the operator wants the hour to be kept. */
static void s017_a_child_that_cannot_follow(void **state)
{
    (void)state;
    for (int strict = 0; strict < 2; strict++) {
        struct metadata_options o = options;
        o.retry_strict = strict;
        struct world *w = scenario_synced(171, &o, 60);
        world_run_for(w, MINUTE);
        bool lost = true;
        unsigned p01 = world_n_events(w, "P01", "sync.succeeded"),
                 b11 = world_n_events(w, "B11", "sync.succeeded");
        world_tamper(w, "P01", lose_content, &lost);
        world_upstream_churn(w, "up", 3, 0, 0);
        scenario_sync(w, true);
        int64_t asked_at = world_now(w);
        WORLD_TRUE(w, !scenario_run_ends(w, "P01", o.stall_ns + 2 * MINUTE));
        int64_t failed_at = world_now(w);
        assert_in_range(failed_at - asked_at, o.stall_ns - NS_PER_S, o.stall_ns + MINUTE);
        const struct world_event *e = world_event(w, "P01", "sync.failed", 0);
        assert_int_equal(e->code, ERR_STALLED);
        assert_string_equal(e->phase, "SOURCE");
        WORLD_TRUE(w, world_event(w, "P01", "sync.out-of-sync", 0) != NULL); /* 6707 */
        assert_int_equal(world_n_events(w, "B11", "sync.succeeded"), b11);
        world_crash(w, "P01");
        lost = false;
        world_run_for(w, MINUTE);
        world_restart(w, "P01"); /* its link comes back with it */
        world_run_for(w, 10 * MINUTE);
        scenario_converge(w, MINUTE);
        assert_int_equal(world_n_events(w, "P01", "sync.succeeded"), p01 + !strict);
        world_run_for(w, failed_at + o.retry_interval_ns - world_now(w) - 10 * NS_PER_S);
        assert_int_equal(world_n_events(w, "P01", "sync.succeeded"), p01 + !strict);
        world_run_for(w, MINUTE);
        WORLD_OK(w);
        assert_int_equal(world_n_events(w, "P01", "sync.succeeded"), p01 + 1); /* once, either way */
        assert_int_equal(world_n_events(w, "B11", "sync.succeeded"), b11 + 1);
        json_t *run = scenario_run(w, "P01", 0);
        assert_string_equal(scenario_text(run, "kind"), "FULL");
        assert_non_null(strstr(scenario_text(run, "by"), "retry of r-"));
        json_decref(run);
        world_free(w);
    }
}

/* A8: only a full run counts as the scheduled one, also for a centre that was restarted meanwhile. */
static void s012_manual_run_does_not_move_the_schedule(void **state)
{
    (void)state;
    struct metadata_options o = options;
    o.schedule_ns = DAY;
    struct world *w = scenario_synced(121, &o, 20);
    world_run_for(w, 12 * HOUR);
    world_upstream_churn(w, "up", 2, 0, 0);
    scenario_sync(w, false);
    world_crash(w, "CEN");
    world_restart(w, "CEN");
    world_run_for(w, MINUTE);
    unsigned started = world_n_events(w, "CEN", "sync.started");
    world_run_for(w, 12 * HOUR + 5 * MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_n_events(w, "CEN", "sync.started"), started + 1);
    world_free(w);
}

/* Wherever the centre dies in a run, what the upstream had offered by then is not lost: the cursors say that
 * there is nothing new only once it is published (A8). */
static void s014_a_crash_anywhere_in_a_run(void **state)
{
    (void)state;
    for (unsigned points = 1; points < 40; points++) {
        struct world *w = scenario_synced(1400 + points, &options, 40);
        world_upstream_churn(w, "up", 4, 3, 2);
        world_crash_at(w, "CEN", points);
        world_tell(w, "CEN", "sync.now", json_pack("{s:b}", "full", (int)(points % 2)));
        world_run_for(w, MINUTE);
        world_crash_at(w, "CEN", 0);
        world_restart(w, "CEN");
        world_run_for(w, options.retry_interval_ns + 5 * MINUTE);
        json_decref(scenario_now(w, true)); /* a smaller run may leave what has left the upstream */
        world_run_for(w, 5 * MINUTE);
        scenario_converge(w, MINUTE);
        scenario_equal(w);
        world_free(w);
    }
}

/* A link that brings every request twice, and the old ones again after the new ones. */
struct again {
    struct blob *old[8];
    unsigned n;
};
static struct blob *keep_requests(void *ctx, struct world *w, bool down, unsigned type, struct blob *frame)
{
    struct again *a = ctx;
    (void)w;
    if (down && type == FRAME_SYNC_REQUEST && a->n < 8)
        a->old[a->n++] = blob_ref(frame);
    return blob_ref(frame);
}

static void s017_a_late_or_doubled_request_is_followed_once(void **state)
{
    (void)state;
    struct world *w = scenario_synced(19, &options, 60);
    struct again a = {0};
    world_tamper(w, "P01", keep_requests, &a);
    for (unsigned i = 0; i < 3; i++) {
        world_upstream_churn(w, "up", 3, 0, 0);
        scenario_sync(w, true);
        world_run_for(w, 5 * MINUTE);
    }
    unsigned runs = world_n_events(w, "P01", "sync.succeeded");
    world_tamper(w, "P01", NULL, NULL);
    assert_in_range(a.n, 3, 8);
    for (unsigned i = 0; i < 2 * a.n; i++)
        world_inject(w, "P01", NULL, blob_ref(a.old[i % a.n]));
    world_run_for(w, 5 * MINUTE);
    WORLD_OK(w);
    assert_int_equal(world_n_events(w, "P01", "sync.succeeded"), runs);
    for (unsigned i = 0; i < a.n; i++)
        blob_free(a.old[i]);
    world_free(w);
}

static void set_filter(struct world *w, const char *product)
{
    json_t *args = product ? json_pack("{s:[s]}", "products", product) : json_pack("{s:[]}", "products");
    json_t *j = world_call(w, "CEN", "filter.set", args);
    WORLD_TRUE(w, j && json_object_get(j, "data"));
    json_decref(j);
}

static void s018_filter_is_back_filled(void **state)
{
    (void)state;
    struct world *w = scenario_tree(18, &options, 0);
    world_may_return(w);
    for (unsigned i = 0; i < 80; i++) {
        char key[64];
        snprintf(key, sizeof key, "deb/f%u/1.0/amd64", i);
        world_upstream_put(w, "up", key, i % 2 ? "odd" : "even", NULL);
    }
    unsigned counts[4];
    set_filter(w, "even");
    world_run_for(w, 2 * MINUTE); /* a change of the filter may start a run by itself */
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_LIVE], 40);
    /* widened: the upstream has not changed at all, and yet what was left out comes (F7) */
    set_filter(w, NULL);
    world_run_for(w, 2 * MINUTE);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_LIVE], 80);
    scenario_equal(w);
    /* narrowed: what no longer fits is removed */
    set_filter(w, "odd");
    world_run_for(w, 2 * MINUTE);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    world_count(w, "B11", counts);
    assert_int_equal(counts[WORLD_LIVE], 40);
    assert_int_equal(world_key(w, "B11", "deb/f2/1.0/amd64").state == WORLD_LIVE, 0);
    assert_int_equal(world_key(w, "B11", "deb/f3/1.0/amd64").state, WORLD_LIVE);
    world_free(w);
}

/* Removed while it is being fetched, and added again under the same name when its scope is gone: what the run
 * of then has left of it must not make the new one look unchanged. */
static void s018_an_upstream_removed_in_mid_run(void **state)
{
    (void)state;
    struct world *w = scenario_synced(181, &options, 30);
    world_may_return(w);
    world_upstream_churn(w, "up", 3, 0, 0);
    world_upstream_slow(w, "up", 30 * NS_PER_S);
    json_decref(scenario_now(w, true));
    json_decref(world_call(w, "CEN", "upstream.remove", json_pack("{s:s}", "name", "up")));
    world_run_for(w, MINUTE);
    world_upstream_slow(w, "up", NS_PER_S);
    scenario_sync(w, true);
    unsigned counts[4];
    world_count(w, "CEN", counts);
    assert_int_equal(counts[WORLD_LIVE], 0);
    json_t *j = world_call(
        w, "CEN", "upstream.add", json_pack("{s:s,s:s,s:s}", "name", "up", "kind", "directory", "path", "/"));
    assert_non_null(json_object_get(j, "data"));
    json_decref(j);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    world_free(w);
}

/* The events of the last run of a site come in this order (F1): 6701, 6704, 6705, 6702, 6706, the request. */
static void in_order(struct world *w, const char *code, bool internet)
{
    static const char *const names[] = {"sync.started", "sync.catalogue", "sync.site", "sync.succeeded",
        "policy.revised", "sync.internet", "sync.request-sent"};
    unsigned at = 0, last = world_n_events(w, code, "sync.started") - 1, nth = 0;
    for (unsigned i = 0; i < world_n_events(w, code, NULL); i++) {
        const char *name = world_event(w, code, NULL, i)->name;
        if (strcmp(name, "sync.started") == 0 && nth++ < last)
            continue;
        if (nth <= last)
            continue;
        if (!internet && at < COUNT_OF(names) && strcmp(names[at], "sync.internet") == 0)
            at++;
        at += at < COUNT_OF(names) && strcmp(name, names[at]) == 0;
    }
    if (at != COUNT_OF(names))
        fail_msg("%s: no %s at its place", code, names[at]);
}

static void s024_order_of_the_phases(void **state)
{
    (void)state;
    for (int internet = 0; internet < 2; internet++) {
        struct metadata_options o = options;
        o.internet = internet;
        struct world *w = scenario_synced(24, &o, 40);
        world_run_for(w, MINUTE);
        world_upstream_churn(w, "up", 3, 3, 0);
        unsigned done = world_n_events(w, "CEN", "sync.succeeded");
        world_reset_counts(w, "P01");
        scenario_sync(w, true);
        int64_t succeeded = when(w, "CEN", "sync.succeeded", done);
        world_run_for(w, MINUTE);
        json_t *run = scenario_run(w, "CEN", 0);
        json_t *phases = json_object_get(run, "phases");
        static const char *const with[] = {"SOURCE", "VIEW", "PUBLISH", "INTERNET", "REQUEST"};
        static const char *const without[] = {"SOURCE", "VIEW", "PUBLISH", "REQUEST"};
        size_t n = internet ? 5 : 4;
        assert_int_equal(json_array_size(phases), n);
        for (size_t i = 0; i < n; i++)
            assert_string_equal(
                scenario_text(json_array_get(phases, i), "phase"), internet ? with[i] : without[i]);
        if (internet) { /* after the local success (6702), before the children are asked (A29, F1) */
            const struct world_event *e =
                world_event(w, "CEN", "sync.internet", world_n_events(w, "CEN", "sync.internet") - 1);
            WORLD_TRUE(w, e && e->at >= succeeded);
        } else {
            assert_int_equal(world_n_events(w, "CEN", "sync.internet"), 0);
        }
        in_order(w, "CEN", internet);
        in_order(w, "P01", internet); /* a child keeps it too: its own children are asked last (A29) */
        in_order(w, "B11", internet);
        json_decref(run);
        WORLD_OK(w);
        world_free(w);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) /* the tests with this pattern only */
        cmocka_set_test_filter(argv[1]);
    options = scenario_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s012_manual_runs_lose_nothing),
        cmocka_unit_test(s012_manual_run_does_not_move_the_scheduled_cursor),
        cmocka_unit_test(s012_what_only_a_manual_run_saw_leaves_with_the_full_one),
        cmocka_unit_test(s013_retry_after_an_hour),
        cmocka_unit_test(s013_manual_success_does_not_cancel_a_full_retry),
        cmocka_unit_test(s014_second_request_is_one_more_run),
        cmocka_unit_test(s014_crash_with_a_run_behind),
        cmocka_unit_test(s012_manual_run_does_not_move_the_schedule),
        cmocka_unit_test(s014_a_crash_anywhere_in_a_run),
        cmocka_unit_test(s014_retry_behind_an_active_run),
        cmocka_unit_test(s015_stalled_run_fails_with_its_phase),
        cmocka_unit_test(s015_a_signature_that_comes_too_late),
        cmocka_unit_test(s015_cancelled_runs_change_nothing),
        cmocka_unit_test(s016_child_refuses_a_local_sync),
        cmocka_unit_test(s016_history_is_kept_for_so_many_runs),
        cmocka_unit_test(s017_requests_go_down_level_by_level),
        cmocka_unit_test(s017_request_is_repeated_until_acknowledged),
        cmocka_unit_test(s017_a_child_that_cannot_follow),
        cmocka_unit_test(s017_a_late_or_doubled_request_is_followed_once),
        cmocka_unit_test(s018_filter_is_back_filled),
        cmocka_unit_test(s018_an_upstream_removed_in_mid_run),
        cmocka_unit_test(s024_order_of_the_phases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

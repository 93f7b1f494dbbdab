#include "tests/simulation/scenario.h"

struct metadata_options scenario_options(void)
{
    struct metadata_options o;
    metadata_options_default(&o);
    o.schedule_ns = 0;
    o.guard_percent = 0; /* scenarios take away what they like; 030 asks */
    return o;
}

struct world *scenario_tree(uint64_t seed, const struct metadata_options *opt, unsigned items)
{
    struct world_options o = {.seed = seed, .config = opt};
    struct world *w = world_catalogue_new(&o);
    world_add_site(w, "CEN", NULL);
    world_add_site(w, "P01", "CEN");
    world_add_site(w, "P02", "CEN");
    world_add_site(w, "B11", "P01");
    world_start(w);
    WORLD_TRUE(w, world_run_for(w, NS_PER_S));
    world_upstream_add(w, "up", items);
    WORLD_OK(w);
    return w;
}

json_t *scenario_now(struct world *w, bool full)
{
    json_t *j = world_call(w, world_site_code(w, 0), "sync.now", json_pack("{s:b}", "full", full));
    WORLD_TRUE(w, j != NULL);
    json_t *data = json_incref(json_object_get(j, "data"));
    json_decref(j);
    WORLD_TRUE(w, data != NULL);
    return data;
}

struct ends {
    const char *code;
    unsigned succeeded, failed;
};

static bool run_ended(struct world *w, void *ctx)
{
    struct ends *e = ctx;
    return world_n_events(w, e->code, "sync.succeeded") > e->succeeded ||
           world_n_events(w, e->code, "sync.failed") > e->failed;
}

bool scenario_run_ends(struct world *w, const char *code, int64_t at_most)
{
    struct ends e = {code, world_n_events(w, code, "sync.succeeded"), world_n_events(w, code, "sync.failed")};
    WORLD_TRUE(w, world_run_until(w, run_ended, &e, at_most));
    return world_n_events(w, code, "sync.succeeded") > e.succeeded;
}

void scenario_sync(struct world *w, bool full)
{
    const char *code = world_site_code(w, 0);
    struct ends e = {code, world_n_events(w, code, "sync.succeeded"), world_n_events(w, code, "sync.failed")};
    json_decref(scenario_now(w, full));
    WORLD_TRUE(w, world_run_until(w, run_ended, &e, 2 * MINUTE));
    WORLD_TRUE(w, world_n_events(w, code, "sync.failed") == e.failed);
}

void scenario_converge(struct world *w, int64_t at_most)
{
    WORLD_TRUE(w, world_converge(w, at_most));
}

void scenario_equal(struct world *w)
{
    char why[256];
    WORLD_TRUE(w, world_converged(w));
    if (!world_equals_upstreams(w, world_site_code(w, 0), why, sizeof why)) {
        world_report(w);
        fail_msg("%s", why);
    }
}

struct world *scenario_synced(uint64_t seed, const struct metadata_options *opt, unsigned items)
{
    struct world *w = scenario_tree(seed, opt, items);
    scenario_sync(w, true);
    scenario_converge(w, MINUTE);
    scenario_equal(w);
    return w;
}

json_t *scenario_run(struct world *w, const char *code, unsigned nth)
{
    json_t *j = world_call(w, code, "sync.list", json_pack("{s:i}", "limit", 20));
    WORLD_TRUE(w, j != NULL);
    json_t *runs = json_object_get(json_object_get(j, "data"), "runs");
    WORLD_TRUE(w, json_array_size(runs) > nth);
    json_t *show = world_call(
        w, code, "sync.show", json_pack("{s:O}", "run", json_object_get(json_array_get(runs, nth), "run")));
    json_decref(j);
    WORLD_TRUE(w, show != NULL);
    json_t *data = json_incref(json_object_get(show, "data"));
    json_decref(show);
    WORLD_TRUE(w, data != NULL);
    return data;
}

const char *scenario_text(json_t *j, const char *field)
{
    const char *s = json_string_value(json_object_get(j, field));
    return s ? s : "";
}

void scenario_verify(struct world *w, const char *code)
{
    json_t *j = world_call(w, code, "verify", json_pack("{s:b}", "deep", 1));
    WORLD_TRUE(w, j != NULL);
    WORLD_TRUE(w, json_is_true(json_object_get(json_object_get(j, "data"), "ok")));
    json_decref(j);
}

void scenario_ask(struct world *w, const char *code)
{
    if (!world_is_up(w, code))
        return;
    json_t *j = world_call(w, code, "catalogue.show", NULL), *data = json_object_get(j, "data");
    WORLD_OK(w);
    struct world_shown seen;
    char root[65];
    if (data) {
        uint64_t generation = (uint64_t)json_integer_value(json_object_get(data, "generation"));
        WORLD_TRUE(w, world_seen(w, generation, &seen));
        WORLD_TRUE(
            w, strcmp(scenario_text(data, "root"), hex_encode(seen.root.b, sizeof seen.root.b, root)) == 0);
        WORLD_TRUE(w, (uint64_t)json_integer_value(json_object_get(data, "records")) == seen.records);
    }
    json_decref(j);
}

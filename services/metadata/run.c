/* Sync runs (requirements A4 to A29, part 3). Central: SOURCE (jobs), VIEW, PUBLISH, succeeded (6702),
 * INTERNET (6706), REQUEST. Elsewhere a run waits until the requested generation is applied, verifies the
 * whole root, and passes the request on. Failing anywhere (6703) it is tried again, the same kind, an hour
 * after the failure. */
#include "services/metadata/run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *run_phase_word(enum run_phase phase)
{
    static const char *const words[] = {"", "SOURCE", "VIEW", "PUBLISH", "INTERNET", "REQUEST"};
    return words[phase];
}

const char *run_kind_word(enum run_kind kind)
{
    return kind == RUN_FULL ? "FULL" : "DELTA_NEW";
}

const char *run_id(uint64_t number, char out[32])
{
    snprintf(out, 32, "r-%" PRIu64, number);
    return out;
}

uint64_t run_number(const char *id)
{
    char *end;
    unsigned long long n = strncmp(id, "r-", 2) == 0 ? strtoull(id + 2, &end, 10) : 0;
    return n && *end == 0 ? n : 0;
}

void run_free(struct run *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_todo; i++)
        free(r->todo[i]);
    free(r->todo);
    for (size_t i = 0; i < r->n_sets; i++) {
        source_free(r->sets[i]);
        free(r->set_names[i]);
    }
    free(r->sets);
    free(r->set_names);
    json_decref(r->phases);
    json_decref(r->filter);
    free(r);
}

static json_t *hop_json(const struct metadata *m)
{
    const struct hop_times *h = &m->hop;
    json_t *wait = json_object();
    for (unsigned i = 0; i < WAIT_COUNT; i++)
        if (h->waited_ns[i])
            json_object_set_new(wait, replica_wait_word(i), json_real((double)h->waited_ns[i] / NS_PER_S));
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "generation",
        (json_int_t)h->generation, "signed", json_time(h->issued), "requested", json_time(h->requested),
        "first_byte", json_time(h->first_byte), "last_byte", json_time(h->last_byte), "verified",
        json_time(h->verified), "committed", json_time(h->committed), "bytes", (json_int_t)h->bytes, "wait",
        wait, "clock_offset",
        m->clock_measured ? json_real((double)m->clock_offset_ns / NS_PER_S) : json_null());
}

json_t *run_json(struct metadata *m, const struct run *r)
{
    char id[32], epoch[33];
    json_t *j = json_object();
    json_object_set_new(j, "run", json_string(run_id(r->number, id)));
    json_object_set_new(j, "kind", json_string(run_kind_word(r->kind)));
    json_object_set_new(j, "by", json_string(r->by));
    json_object_set_new(j, "origin_run", r->origin[0] ? json_string(r->origin) : json_null());
    json_object_set_new(j, "parent_run", r->parent_run[0] ? json_string(r->parent_run) : json_null());
    json_object_set_new(j, "retry_of", r->retry_of ? json_string(run_id(r->retry_of, id)) : json_null());
    json_object_set_new(j, "started", json_time(r->started));
    json_object_set_new(j, "ended", json_time(r->ended));
    json_object_set_new(j, "seconds",
        json_real((double)((r->ended.ns ? r->ended.ns : m->wall.ns) - r->started.ns) / NS_PER_S));
    json_object_set_new(j, "phase", json_string(run_phase_word(r->phase)));
    json_object_set_new(j, "result", r->result ? json_string(r->result) : json_null());
    json_object_set_new(j, "code", r->code ? json_string(err_word(r->code)) : json_null());
    json_object_set_new(j, "reason", r->reason[0] ? json_string(r->reason) : json_null());
    json_object_set_new(j, "waits_for", r->guarded ? json_string("approval") : json_null());
    json_object_set_new(j, "added", json_integer((json_int_t)r->added));
    json_object_set_new(j, "changed", json_integer((json_int_t)r->changed));
    json_object_set_new(j, "removed", json_integer((json_int_t)r->removed));
    json_object_set_new(j, "expired", json_integer((json_int_t)r->expired));
    json_object_set_new(j, "generation_before", json_integer((json_int_t)r->generation_before));
    json_object_set_new(j, "generation_after", json_integer((json_int_t)r->generation_after));
    json_object_set_new(j, "target_generation", json_integer((json_int_t)r->target_generation));
    json_object_set_new(j, "target_epoch", json_string(hex_encode(r->target_epoch.b, 16, epoch)));
    json_object_set_new(j, "policy_revision", r->policy ? json_integer((json_int_t)r->policy) : json_null());
    json_object_set_new(j, "deadline", json_time(r->deadline));
    json_object_set_new(j, "phases", r->phases ? json_deep_copy(r->phases) : json_array());
    json_object_set_new(j, "hop", hop_json(m));
    return j;
}

void run_store(struct metadata *m, const struct run *r)
{
    if (r->plan) /* it changes nothing, and nothing of it goes on after a restart */
        return;
    json_t *j = run_json(m, r);
    char *text = json_dumps(j, JSON_COMPACT);
    struct key8 k = key_u64(r->number);
    if (text)
        store_put(m->txn, TABLE_RUNS, KEY(k), view_str(text));
    free(text);
    json_decref(j);
}

static void trim_runs(struct metadata *m)
{
    if (m->next_run < m->opt.runs_keep)
        return;
    struct store_walk w = store_walk_from(m->txn, TABLE_RUNS, (struct view){0}, (struct view){0});
    while (store_walk_next(&w)) {
        uint64_t n = key_u64_split(w.key);
        if (n + m->opt.runs_keep > m->next_run)
            break;
        struct key8 k = key_u64(n);
        store_del(m->txn, TABLE_RUNS, KEY(k));
    }
}

static void end_phase(struct metadata *m, struct run *r)
{
    if (r->phase == PHASE_NONE)
        return;
    json_array_append_new(r->phases,
        json_pack("{s:s, s:o, s:f, s:I, s:I}", "phase", run_phase_word(r->phase), "started",
            json_time(r->phase_started), "seconds", (double)(m->wall.ns - r->phase_started.ns) / NS_PER_S,
            "items", (json_int_t)r->items, "bytes", (json_int_t)r->bytes));
}

void run_enter(struct metadata *m, enum run_phase phase)
{
    struct run *r = m->run;
    end_phase(m, r);
    r->phase = phase;
    r->phase_started = m->wall;
    r->phase_mono = state_stopwatch(m);
    r->items = r->items_total = r->bytes = r->bytes_total = 0;
    run_progress(m, 0, 0);
    run_store(m, r);
}

void run_progress(struct metadata *m, uint64_t items, uint64_t bytes)
{
    struct run *r = m->run;
    if (!r)
        return;
    r->items += items;
    r->bytes += bytes;
    r->progress_at = m->now;
    timer_set(m, TIMER_STALL, m->opt.stall_ns);
}

static int next_run(struct metadata *m)
{
    struct run *r = m->queued;
    m->queued = NULL;
    return r ? run_begin(m, r) : 0;
}

int run_end(struct metadata *m, const char *result)
{
    struct run *r = m->run;
    end_phase(m, r);
    r->phase = PHASE_NONE;
    r->result = result;
    r->ended = m->wall;
    r->generation_after = m->applied ? m->applied->generation : 0;
    run_store(m, r);
    trim_runs(m);
    if (!r->plan) {
        m->last_run = r->number;
        meta_put_u64(m->txn, "last-run", r->number);
        snprintf(m->last_run_result, sizeof m->last_run_result, "%s", result);
    }
    run_free(r);
    m->run = NULL;
    m->job = 0;
    timer_set(m, TIMER_STALL, -1);
    status_touch(m);
    return next_run(m);
}

/* Whoever asked for the plan hears why there is none; it is not tried again. */
static int plan_failed(struct metadata *m, int code, const char *reason)
{
    command_fail(m, m->run->caller, m->run->command, err_fail(code, "%s", reason));
    return run_end(m, "failed");
}

/* A full run that waits for its next try: a smaller one that succeeds or fails meanwhile does not take its
 * place. */
bool run_full_waits(struct metadata *m)
{
    return meta_get_u64(m->txn, "retry-at") && meta_get_u64(m->txn, "retry-full");
}

int run_failed(struct metadata *m, int code, const char *fmt, ...)
{
    struct run *r = m->run;
    if (!r)
        return 0;
    char reason[sizeof r->reason];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    if (r->plan)
        return plan_failed(m, code, reason);
    r->code = code;
    memcpy(r->reason, reason, sizeof reason);
    char at[32];
    struct wall again = {m->wall.ns + m->opt.retry_interval_ns};
    event_note(m, "sync.failed", r, code, "%s %s failed in phase %s: %s; next try at %s",
        run_kind_word(r->kind), run_id(r->number, at), run_phase_word(r->phase), reason,
        wall_text(again, (char[32]){0}));
    if (!m->central && r->target_generation > (m->applied ? m->applied->generation : 0))
        event_note(m, "sync.out-of-sync", r, code,
            "generation %" PRIu64 " was asked for, %" PRIu64 " is here", r->target_generation,
            m->applied ? m->applied->generation : 0);
    if (r->kind == RUN_FULL || !run_full_waits(m)) {
        meta_put_u64(m->txn, "retry-of", r->number);
        meta_put_u64(m->txn, "retry-full", r->kind == RUN_FULL);
    }
    meta_put_u64(m->txn, "retry-at", (uint64_t)again.ns);
    timer_set(m, TIMER_RETRY, m->opt.retry_interval_ns);
    return run_end(m, "failed");
}

struct run *run_make(struct metadata *m, enum run_kind kind, const char *by)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r || !(r->phases = json_array())) {
        free(r);
        return NULL;
    }
    r->number = ++m->next_run;
    meta_put_u64(m->txn, "next-run", m->next_run);
    r->kind = kind;
    snprintf(r->by, sizeof r->by, "%s", by);
    return r;
}

int run_succeeded(struct metadata *m)
{
    struct run *r = m->run;
    char id[32];
    r->succeeded = true;
    r->generation_after = m->applied ? m->applied->generation : 0;
    event_note(m, "sync.succeeded", r, 0,
        "%s %s: generation %" PRIu64 ", %" PRIu64 " added, %" PRIu64 " changed, %" PRIu64 " removed, %" PRIu64
        " expired",
        run_kind_word(r->kind), run_id(r->number, id), r->generation_after, r->added, r->changed, r->removed,
        r->expired);
    if (r->kind == RUN_FULL || !run_full_waits(m)) {
        meta_del(m->txn, "retry-at");
        meta_del(m->txn, "retry-of");
        timer_set(m, TIMER_RETRY, -1);
    }
    if (m->applied)
        policy_revise(m, r);
    if (m->opt.internet) {
        run_enter(m, PHASE_INTERNET);
        event_note(m, "sync.internet", r, 0,
            "the internet catalogue follows this site's, generation %" PRIu64, r->generation_after);
        meta_put_u64(m->txn, "internet-generation", r->generation_after);
    }
    run_enter(m, PHASE_REQUEST);
    int rc = children_ask(m);
    return rc ? rc : run_end(m, "succeeded");
}

int run_begin(struct metadata *m, struct run *r)
{
    char id[32];
    m->run = r;
    r->started = m->wall;
    r->generation_before = m->applied ? m->applied->generation : 0;
    r->phase_started = m->wall;
    r->phase_mono = state_stopwatch(m);
    run_enter(m, PHASE_SOURCE);
    if (!r->plan)
        event_note(
            m, "sync.started", r, 0, "%s %s by %s", run_kind_word(r->kind), run_id(r->number, id), r->by);
    status_touch(m);
    if (!m->central) {
        event_note(
            m, "sync.catalogue", r, 0, "generation %" PRIu64 " from %s", r->target_generation, m->parent);
        return run_wait(m);
    }
    if (store_nearly_full(m->store))
        return run_failed(m, ERR_MAP_FULL, "the store or its disk is 85 %% full: nothing new is taken in");
    if (fence_closed(m) && !r->plan) {
        char text[256];
        return run_failed(m, ERR_FENCED, "%s", fence_text(m, text));
    }
    int rc = upstream_names(m, &r->todo, &r->n_todo);
    if (rc)
        return rc;
    if (!r->plan)
        event_note(m, "sync.catalogue", r, 0, "%zu upstreams", r->n_todo);
    return run_next_source(m);
}

int run_request(
    struct metadata *m, enum run_kind kind, const char *by, bool *ret_queued, uint64_t *ret_number)
{
    *ret_queued = m->run != NULL;
    if (m->run && m->queued) { /* requests coalesce: one more run after this one, of the larger kind */
        if (kind == RUN_FULL && m->queued->kind != RUN_FULL) {
            m->queued->kind = RUN_FULL;
            run_store(m, m->queued);
        }
        *ret_number = m->queued->number;
        return 0;
    }
    struct run *r = run_make(m, kind, by);
    if (!r)
        return -ENOMEM;
    *ret_number = r->number;
    if (m->run) {
        m->queued = r;
        run_store(m, r);
        return 0;
    }
    return run_begin(m, r);
}

int run_cancel(struct metadata *m, uint64_t number)
{
    char id[32];
    if (m->queued && m->queued->number == number) {
        struct run *r = m->queued;
        m->queued = NULL;
        r->result = "cancelled";
        r->ended = m->wall;
        run_store(m, r);
        run_free(r);
        return 0;
    }
    if (!m->run || m->run->number != number)
        return err_fail(ERR_NOT_FOUND, "run %s is not active", run_id(number, id));
    if (m->run->phase == PHASE_PUBLISH)
        return err_fail(ERR_BUSY, "run %s is being published: too late to cancel", run_id(number, id));
    if (m->job) {
        static const char cancel[] = "{\"cancel\":true}";
        effects_job(m->fx, (unsigned)m->job, blob_new(cancel, sizeof cancel - 1));
    }
    if (m->run->plan)
        return plan_failed(m, ERR_CANCELLED, "an operator cancelled it");
    m->run->code = ERR_CANCELLED;
    snprintf(m->run->reason, sizeof m->run->reason, "an operator cancelled it");
    event_note(m, "sync.cancelled", m->run, ERR_CANCELLED, "%s", m->run->reason);
    return run_end(m, "cancelled");
}

static int retry(struct metadata *m)
{
    uint64_t of = meta_get_u64(m->txn, "retry-of");
    struct key8 k = key_u64(of);
    struct view v;
    char by[64], id[32];
    if (m->run && m->central) { /* it comes behind the one that is active */
        bool queued, full = run_full_waits(m);
        uint64_t number;
        meta_del(m->txn, "retry-at");
        snprintf(by, sizeof by, "retry of %s", run_id(of, id));
        return run_request(m, full ? RUN_FULL : RUN_DELTA_NEW, by, &queued, &number);
    }
    meta_del(m->txn, "retry-at");
    if (m->run || !of)
        return 0;
    json_t *j =
        store_get(m->txn, TABLE_RUNS, KEY(k), &v) ? NULL : json_loadb((const char *)v.data, v.len, 0, NULL);
    const char *kind = json_string_value(json_object_get(j, "kind"));
    const char *parent_run = json_string_value(json_object_get(j, "parent_run"));
    const char *origin = json_string_value(json_object_get(j, "origin_run"));
    const char *epoch = json_string_value(json_object_get(j, "target_epoch"));
    snprintf(by, sizeof by, "retry of %s", run_id(of, id));
    struct run *r = run_make(m, kind && strcmp(kind, "DELTA_NEW") == 0 ? RUN_DELTA_NEW : RUN_FULL, by);
    int rc = r ? 0 : -ENOMEM;
    if (!rc) {
        r->retry_of = of;
        snprintf(r->parent_run, sizeof r->parent_run, "%s", parent_run ? parent_run : "");
        snprintf(r->origin, sizeof r->origin, "%s", origin ? origin : "");
        r->target_generation = (uint64_t)json_integer_value(json_object_get(j, "target_generation"));
        if (epoch && hex_decode(epoch, r->target_epoch.b, 16))
            r->target_epoch = (struct epoch){0};
        rc = run_begin(m, r);
    }
    json_decref(j);
    return rc;
}

static void schedule(struct metadata *m)
{
    if (!m->central || !m->opt.schedule_ns)
        return;
    uint64_t last = meta_get_u64(m->txn, "last-scheduled");
    if (!last) {
        last = meta_get_u64(m->txn, "schedule-from");
        if (!last) {
            last = (uint64_t)m->wall.ns;
            meta_put_u64(m->txn, "schedule-from", last);
        }
    }
    int64_t wait = (int64_t)last + m->opt.schedule_ns - m->wall.ns;
    if (wait > m->opt.schedule_ns)
        wait = m->opt.schedule_ns; /* a clock that was set back */
    timer_set(m, TIMER_SCHEDULE, wait > 0 ? wait : 0);
}

int run_on_timer(struct metadata *m, enum timer_id id)
{
    m->timers[id].ns = 0;
    if (id == TIMER_SCHEDULE) {
        bool queued;
        uint64_t number;
        char **names;
        size_t n;
        int rc = upstream_names(m, &names, &n);
        if (rc)
            return rc;
        for (size_t i = 0; i < n; i++)
            free(names[i]);
        free(names);
        timer_set(m, TIMER_SCHEDULE, m->opt.schedule_ns);
        return n ? run_request(m, RUN_FULL, "schedule", &queued, &number) : 0;
    }
    if (id == TIMER_RETRY) {
        timer_set(m, TIMER_RETRY, -1);
        return retry(m);
    }
    if (id == TIMER_STALL && m->run) {
        char d[24];
        if (m->job) {
            static const char cancel[] = "{\"cancel\":true}";
            effects_job(m->fx, (unsigned)m->job, blob_new(cancel, sizeof cancel - 1));
        }
        return run_failed(m, ERR_STALLED, "no progress in phase %s for %s", run_phase_word(m->run->phase),
            duration_text(m->opt.stall_ns, d));
    }
    if (id == TIMER_REQUEST_OUT)
        children_ask_again(m);
    return 0;
}

/* What the store remembers of runs. */
int run_load(struct metadata *m)
{
    m->next_run = meta_get_u64(m->txn, "next-run");
    m->last_run = meta_get_u64(m->txn, "last-run");
    m->out_run = meta_get_u64(m->txn, "out-run");
    struct key8 k = key_u64(m->last_run);
    struct view v;
    if (m->last_run && store_get(m->txn, TABLE_RUNS, KEY(k), &v) == 0) {
        json_t *j = json_loadb((const char *)v.data, v.len, 0, NULL);
        const char *result = json_string_value(json_object_get(j, "result"));
        snprintf(m->last_run_result, sizeof m->last_run_result, "%s", result ? result : "");
        json_decref(j);
    }
    return 0;
}

/* Runs that the last life left unfinished: each is ended for the record, and the newest of the largest kind
 * starts again. */
static int resume(struct metadata *m, uint64_t *ret_number, bool *ret_full)
{
    uint64_t found = 0;
    bool full = false;
    struct key8 from = key_u64(m->last_run + 1);
    struct store_walk w = store_walk_from(m->txn, TABLE_RUNS, KEY(from), (struct view){0});
    while (store_walk_next(&w)) {
        uint64_t number = key_u64_split(w.key);
        json_t *j = json_loadb((const char *)w.value.data, w.value.len, 0, NULL);
        if (j && json_is_null(json_object_get(j, "result"))) {
            json_object_set_new(j, "result", json_string("failed"));
            json_object_set_new(
                j, "code", json_string(err_word(m->ended_code ? m->ended_code : ERR_CANCELLED)));
            json_object_set_new(
                j, "reason", json_string(m->ended_code ? m->ended_why : "interrupted by a restart"));
            json_object_set_new(j, "ended", json_time(m->wall));
            char *text = json_dumps(j, JSON_COMPACT);
            struct key8 k = key_u64(number);
            if (text)
                store_put(m->txn, TABLE_RUNS, KEY(k), view_str(text));
            free(text);
            m->last_run = number;
            snprintf(m->last_run_result, sizeof m->last_run_result, "failed");
            meta_put_u64(m->txn, "last-run", number);
            const char *kind = json_string_value(json_object_get(j, "kind"));
            bool is_full = !kind || strcmp(kind, "DELTA_NEW") != 0;
            if (is_full || !full)
                found = number;
            full = full || is_full;
        }
        json_decref(j);
    }
    *ret_number = found;
    *ret_full = full;
    return store_txn_error(m->txn);
}

int run_start(struct metadata *m)
{
    uint64_t unfinished, number, at = meta_get_u64(m->txn, "retry-at");
    bool full, queued;
    if (m->run)
        return 0;
    int rc = resume(m, &unfinished, &full);
    if (rc)
        return rc;
    schedule(m);
    if (unfinished && (full || !run_full_waits(m))) {
        meta_put_u64(m->txn, "retry-of", unfinished);
        meta_put_u64(m->txn, "retry-full", full);
        if (!m->ended_code)
            return retry(m);
        /* It was what the run wrote that could not be kept: at once it would end the same way. */
        char id[32], when[32];
        at = (uint64_t)(m->wall.ns + m->opt.retry_interval_ns);
        meta_put_u64(m->txn, "retry-at", at);
        event_note(m, "sync.failed", NULL, m->ended_code, "%s failed: %s; next try at %s",
            run_id(unfinished, id), m->ended_why, wall_text((struct wall){(int64_t)at}, when));
    }
    if (at) {
        int64_t wait = (int64_t)at - m->wall.ns;
        if (wait > m->opt.retry_interval_ns)
            wait = m->opt.retry_interval_ns;
        timer_set(m, TIMER_RETRY, wait > 0 ? wait : 0);
    }
    return unfinished && !m->ended_code ? run_request(m, RUN_DELTA_NEW, "restart", &queued, &number) : 0;
}

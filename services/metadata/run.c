/* Sync runs (requirements A4 to A29, part 3). Central: SOURCE (jobs), VIEW, PUBLISH, succeeded (6702),
 * INTERNET (6706), REQUEST. Elsewhere a run waits until the requested generation is applied, verifies the
 * whole root, and passes the request on. Failing anywhere (6703) it is tried again, the same kind, an hour
 * after the failure. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define ASK_FIRST_NS (2 * NS_PER_S)
#define ASK_AGAIN_NS (30 * NS_PER_S)

static const char *const phase_names[] = {"", "SOURCE", "VIEW", "PUBLISH", "INTERNET", "REQUEST"};
static const char *const kind_names[] = {"FULL", "DELTA_NEW"};

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

static json_t *time_json(struct wall t)
{
    char text[32];
    return t.ns ? json_string(wall_text(t, text)) : json_null();
}

static json_t *hop_json(const struct metadata *m)
{
    const struct hop_times *h = &m->hop;
    json_t *wait = json_object();
    for (unsigned i = 0; i < WAIT_COUNT; i++)
        if (h->waited_ns[i])
            json_object_set_new(wait, replica_wait_word(i), json_real((double)h->waited_ns[i] / NS_PER_S));
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "generation",
        (json_int_t)h->generation, "signed", time_json(h->issued), "requested", time_json(h->requested),
        "first_byte", time_json(h->first_byte), "last_byte", time_json(h->last_byte), "verified",
        time_json(h->verified), "committed", time_json(h->committed), "bytes", (json_int_t)h->bytes, "wait",
        wait, "clock_offset",
        m->clock_measured ? json_real((double)m->clock_offset_ns / NS_PER_S) : json_null());
}

json_t *run_json(struct metadata *m, const struct run *r)
{
    char id[32], epoch[33];
    json_t *j = json_object();
    json_object_set_new(j, "run", json_string(run_id(r->number, id)));
    json_object_set_new(j, "kind", json_string(kind_names[r->kind]));
    json_object_set_new(j, "by", json_string(r->by));
    json_object_set_new(j, "origin_run", r->origin[0] ? json_string(r->origin) : json_null());
    json_object_set_new(j, "parent_run", r->parent_run[0] ? json_string(r->parent_run) : json_null());
    json_object_set_new(j, "retry_of", r->retry_of ? json_string(run_id(r->retry_of, id)) : json_null());
    json_object_set_new(j, "started", time_json(r->started));
    json_object_set_new(j, "ended", time_json(r->ended));
    json_object_set_new(j, "seconds",
        json_real((double)((r->ended.ns ? r->ended.ns : m->wall.ns) - r->started.ns) / NS_PER_S));
    json_object_set_new(j, "phase", json_string(phase_names[r->phase]));
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
    json_object_set_new(j, "deadline", time_json(r->deadline));
    json_object_set_new(j, "phases", r->phases ? json_deep_copy(r->phases) : json_array());
    json_object_set_new(j, "hop", hop_json(m));
    return j;
}

static void store_run(struct metadata *m, const struct run *r)
{
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
        json_pack("{s:s, s:o, s:f, s:I, s:I}", "phase", phase_names[r->phase], "started",
            time_json(r->phase_started), "seconds", (double)(m->wall.ns - r->phase_started.ns) / NS_PER_S,
            "items", (json_int_t)r->items, "bytes", (json_int_t)r->bytes));
}

static void enter(struct metadata *m, enum run_phase phase)
{
    struct run *r = m->run;
    end_phase(m, r);
    r->phase = phase;
    r->phase_started = m->wall;
    r->phase_mono = state_stopwatch(m);
    r->items = r->items_total = r->bytes = r->bytes_total = 0;
    run_progress(m, 0, 0);
    store_run(m, r);
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

static int start(struct metadata *m, struct run *r) MUST_CHECK;

static int next_run(struct metadata *m)
{
    struct run *r = m->queued;
    m->queued = NULL;
    return r ? start(m, r) : 0;
}

static int end(struct metadata *m, const char *result)
{
    struct run *r = m->run;
    end_phase(m, r);
    r->phase = PHASE_NONE;
    r->result = result;
    r->ended = m->wall;
    r->generation_after = m->applied ? m->applied->generation : 0;
    store_run(m, r);
    trim_runs(m);
    m->last_run = r->number;
    meta_put_u64(m->txn, "last-run", r->number);
    snprintf(m->last_run_result, sizeof m->last_run_result, "%s", result);
    run_free(r);
    m->run = NULL;
    m->job = 0;
    timer_set(m, TIMER_STALL, -1);
    status_touch(m);
    return next_run(m);
}

/* A full run that waits for its next try: a smaller one that succeeds or fails meanwhile does not take its
 * place. */
static bool full_retry_waits(struct metadata *m)
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
    r->code = code;
    memcpy(r->reason, reason, sizeof reason);
    char at[32];
    struct wall again = {m->wall.ns + m->opt.retry_interval_ns};
    event_note(m, "sync.failed", r, code, "%s %s failed in phase %s: %s; next try at %s", kind_names[r->kind],
        run_id(r->number, at), phase_names[r->phase], reason, wall_text(again, (char[32]){0}));
    if (!m->central && r->target_generation > (m->applied ? m->applied->generation : 0))
        event_note(m, "sync.out-of-sync", r, code,
            "generation %" PRIu64 " was asked for, %" PRIu64 " is here", r->target_generation,
            m->applied ? m->applied->generation : 0);
    if (r->kind == RUN_FULL || !full_retry_waits(m)) {
        meta_put_u64(m->txn, "retry-of", r->number);
        meta_put_u64(m->txn, "retry-full", r->kind == RUN_FULL);
    }
    meta_put_u64(m->txn, "retry-at", (uint64_t)again.ns);
    timer_set(m, TIMER_RETRY, m->opt.retry_interval_ns);
    return end(m, "failed");
}

static struct run *run_new(struct metadata *m, enum run_kind kind, const char *by)
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

/* ---- after success ---- */

static struct blob *request_frame(struct metadata *m, uint64_t number)
{
    char id[32], origin[32];
    struct key8 k = key_u64(number);
    struct view v;
    if (store_get(m->txn, TABLE_RUNS, KEY(k), &v))
        return NULL;
    json_t *j = json_loadb((const char *)v.data, v.len, 0, NULL);
    const char *from = json_string_value(json_object_get(j, "origin_run"));
    snprintf(origin, sizeof origin, "%s", from ? from : run_id(number, id));
    Sitetree__SyncRequest q = SITETREE__SYNC_REQUEST__INIT;
    q.run = (char *)(uintptr_t)run_id(number, id);
    q.kind = (char *)(uintptr_t)json_string_value(json_object_get(j, "kind"));
    q.epoch = pb_bytes(view_of(m->applied->epoch.b, 16));
    q.generation = m->applied->generation;
    q.issued = (uint64_t)m->wall.ns;
    q.deadline = (uint64_t)(m->wall.ns + 4 * m->opt.stall_ns);
    q.origin_run = origin;
    struct blob *b = frame_pack(FRAME_SYNC_REQUEST, CLASS_HEAD, 0, &m->applied->epoch, &q.base, false);
    json_decref(j);
    return b;
}

static void ask_child(struct metadata *m, struct child *c)
{
    struct blob *b =
        m->out_run && m->applied && c->acked_run < m->out_run ? request_frame(m, m->out_run) : NULL;
    if (!b)
        return;
    c->asked_run = m->out_run;
    send_to(m, (struct peer){PEER_CHILD, c->session}, CLASS_HEAD, b);
}

/* The request goes out as a hint at once, and again on the pull lane until each child has acknowledged it. */
static int request_children(struct metadata *m)
{
    char id[32];
    m->out_run = m->run->number;
    meta_put_u64(m->txn, "out-run", m->out_run);
    store_run(m, m->run);
    struct blob *b = request_frame(m, m->out_run);
    if (b)
        effects_publish(m->fx, "sync-request", CLASS_HEAD, b, false);
    if (m->n_children)
        timer_set(m, TIMER_REQUEST_OUT, state_jitter(m, ASK_FIRST_NS));
    event_note(m, "sync.request-sent", m->run, 0, "%zu children are asked to follow %s", m->n_children,
        run_id(m->out_run, id));
    return 0;
}

/* The site's policy for its clients (A25): where the catalogue is, which generation, and that it is to be
 * scanned. A new revision after a successful run, never before it, and only where something in it has
 * changed. */
static void revise_policy(struct metadata *m, struct run *r)
{
    struct view v;
    char epoch[33], at[32], id[32];
    json_t *old = meta_get(m->txn, "policy", &v) ? NULL : json_loadb((const char *)v.data, v.len, 0, NULL);
    json_int_t revision = json_integer_value(json_object_get(old, "revision"));
    hex_encode(m->applied->epoch.b, 16, epoch);
    const char *known = json_string_value(json_object_get(old, "epoch"));
    bool same = known && strcmp(known, epoch) == 0 &&
                json_integer_value(json_object_get(old, "generation")) == (json_int_t)m->applied->generation;
    json_decref(old);
    r->policy = (uint64_t)revision;
    if (same)
        return;
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:I, s:b, s:s, s:s}", "revision", revision + 1, "site",
        m->site, "catalogue", m->site, "epoch", epoch, "generation", (json_int_t)m->applied->generation,
        "scan", 1, "run", run_id(r->number, id), "made", wall_text(m->wall, at));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (text) {
        meta_put(m->txn, "policy", view_str(text));
        r->policy = (uint64_t)revision + 1;
        event_note(m, "policy.revised", r, 0, "revision %lld: clients scan against generation %llu of %s",
            (long long)revision + 1, (unsigned long long)m->applied->generation, m->site);
    }
    free(text);
    json_decref(j);
}

static int succeeded(struct metadata *m)
{
    struct run *r = m->run;
    char id[32];
    r->succeeded = true;
    r->generation_after = m->applied ? m->applied->generation : 0;
    event_note(m, "sync.succeeded", r, 0,
        "%s %s: generation %" PRIu64 ", %" PRIu64 " added, %" PRIu64 " changed, %" PRIu64 " removed, %" PRIu64
        " expired",
        kind_names[r->kind], run_id(r->number, id), r->generation_after, r->added, r->changed, r->removed,
        r->expired);
    if (r->kind == RUN_FULL || !full_retry_waits(m)) {
        meta_del(m->txn, "retry-at");
        meta_del(m->txn, "retry-of");
        timer_set(m, TIMER_RETRY, -1);
    }
    if (m->applied)
        revise_policy(m, r);
    if (m->opt.internet) {
        enter(m, PHASE_INTERNET);
        event_note(m, "sync.internet", r, 0,
            "the internet catalogue follows this site's, generation %" PRIu64, r->generation_after);
        meta_put_u64(m->txn, "internet-generation", r->generation_after);
    }
    enter(m, PHASE_REQUEST);
    int rc = request_children(m);
    return rc ? rc : end(m, "succeeded");
}

/* ---- central ---- */

static char *cursor_version(struct metadata *m, const char *which, const char *name)
{
    struct view v;
    if (meta_get(m->txn, meta_of(which, view_str(name)).s, &v))
        return strdup("");
    json_t *j = json_loadb((const char *)v.data, v.len, 0, NULL);
    const char *version = json_string_value(json_object_get(j, "version"));
    bool same_filter = (uint64_t)json_integer_value(json_object_get(j, "filter")) == m->filter_version;
    char *out =
        strdup(version && same_filter ? version : ""); /* F7: another filter, everything is compared again */
    json_decref(j);
    return out;
}

/* The answer of `plan`; the run leaves nothing behind. */
static int planned(struct metadata *m)
{
    struct run *r = m->run;
    json_t *data = NULL;
    int exit = 0, code = r->code;
    char reason[sizeof r->reason];
    memcpy(reason, r->reason, sizeof reason);
    int rc = code ? err_fail(code, "%s", reason) : origin_plan(m, r, &data, &exit);
    if (rc == -ENOMEM || store_txn_error(m->txn))
        return rc;
    if (rc)
        command_fail(m, r->caller, r->command, rc);
    else
        command_reply(m, r->caller, r->command, "plan", data, exit);
    r->code = 0;
    return end(m, "planned");
}

static int view(struct metadata *m)
{
    struct run *r = m->run;
    if (m->draft) { /* single changes are being published; the view comes behind them */
        r->waits = true;
        return 0;
    }
    r->waits = false;
    if (r->plan)
        return planned(m);
    event_note(m, "sync.site", r, 0, "%zu upstreams are compared with the catalogue", r->n_sets);
    int rc = origin_view(m, r);
    if (rc == -ENOMEM || store_txn_error(m->txn))
        return rc;
    if (rc)
        return run_failed(m, rc, "%s", err_text(rc));
    if (r->guarded) { /* the sets stay: an operator decides */
        char id[32];
        event_note(m, "sync.guarded", r, 0, "%s: %s", run_id(r->number, id), r->reason);
        timer_set(m, TIMER_STALL, -1);
        store_run(m, r);
        replica_rest(m);
        return 0;
    }
    for (size_t i = 0; i < r->n_sets; i++) { /* the large part of the memory */
        source_free(r->sets[i]);
        r->sets[i] = NULL;
    }
    if (!m->draft)
        return run_on_published(m);
    enter(m, PHASE_PUBLISH);
    return 0;
}

int run_go_on(struct metadata *m)
{
    return m->run && m->run->waits ? view(m) : 0;
}

int run_on_published(struct metadata *m)
{
    struct run *r = m->run;
    if (!r)
        return 0;
    if (r->code) { /* what could be had is published; the run itself is not a success */
        char reason[sizeof r->reason];
        memcpy(reason, r->reason, sizeof reason);
        return run_failed(m, r->code, "%s", reason);
    }
    return succeeded(m);
}

static int next_source(struct metadata *m)
{
    struct run *r = m->run;
    if (r->next_todo == r->n_todo) {
        if (r->code && r->n_sets == 0)
            return run_on_published(m);
        enter(m, PHASE_VIEW);
        return view(m);
    }
    const char *name = r->todo[r->next_todo];
    json_t *config = upstream_config(m, name);
    char *version = r->plan
                        ? strdup("")
                        : cursor_version(m, r->kind == RUN_FULL ? "cursor/scheduled" : "cursor/any", name);
    json_t *job = json_pack("{s:s, s:o, s:s, s:I}", "name", name, "config", config ? config : json_object(),
        "version", version ? version : "", "seen_date",
        (json_int_t)meta_get_u64(m->txn, meta_of("seen-date", view_str(name)).s));
    char *text = job ? json_dumps(job, JSON_COMPACT) : NULL;
    m->job = ++m->next_request;
    effects_job(m->fx, (unsigned)m->job, text ? blob_new(text, strlen(text)) : NULL);
    m->job = (unsigned)m->job;
    free(text);
    free(version);
    json_decref(job);
    return 0;
}

static int source_failed(struct metadata *m, const char *name, int code, const char *text)
{
    struct run *r = m->run;
    event_note(m, "upstream.failed", r, code, "%s", text);
    upstream_note(m, name, NULL, code, text);
    if (!r->code) {
        r->code = code;
        snprintf(r->reason, sizeof r->reason, "%s", text);
    }
    return 0;
}

static int take_set(struct metadata *m, const char *name, struct source_set *set)
{
    struct run *r = m->run;
    upstream_note(m, name, set, 0, "");
    if (set->date.ns)
        meta_put_u64(m->txn, meta_of("seen-date", view_str(name)).s, (uint64_t)set->date.ns);
    struct source_set **sets = realloc(r->sets, (r->n_sets + 1) * sizeof *sets);
    if (sets)
        r->sets = sets;
    char **names = realloc(r->set_names, (r->n_sets + 1) * sizeof *names);
    if (names)
        r->set_names = names;
    char *copy = strdup(name);
    if (!sets || !names || !copy) {
        free(copy);
        source_free(set);
        return -ENOMEM;
    }
    r->sets[r->n_sets] = set;
    r->set_names[r->n_sets++] = copy;
    return 0;
}

int run_on_job(struct metadata *m, const struct input *in)
{
    struct run *r = m->run;
    if (!r || !m->job || in->timer != (unsigned)m->job) {
        source_free(in->result); /* of a run that was cancelled */
        return 0;
    }
    if (in->status > 0) { /* progress */
        json_t *p = json_loadb((const char *)in->body.data, in->body.len, 0, NULL);
        r->items = r->bytes = 0;
        r->items_total = (uint64_t)json_integer_value(json_object_get(p, "items_total"));
        r->bytes_total = (uint64_t)json_integer_value(json_object_get(p, "bytes_total"));
        run_progress(m, (uint64_t)json_integer_value(json_object_get(p, "items")),
            (uint64_t)json_integer_value(json_object_get(p, "bytes")));
        json_decref(p);
        return 0;
    }
    const char *name = r->todo[r->next_todo++];
    m->job = 0;
    char text[480];
    snprintf(text, sizeof text, "upstream %.120s: %.*s", name, (int)(in->body.len < 300 ? in->body.len : 300),
        in->body.len ? (const char *)in->body.data : "");
    int rc = in->status || !in->result ? source_failed(m, name, in->status ? in->status : ERR_UPSTREAM, text)
                                       : take_set(m, name, in->result);
    if (rc)
        return rc;
    run_progress(m, 0, 0);
    return next_source(m);
}

/* ---- a site below ---- */

static int verify_root(struct metadata *m, bool *ret_good)
{
    *ret_good = true;
    for (size_t i = 0; i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        struct tree_report report;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = s->applied.serial ? tree_check(&t, &s->applied.tree, false, true, &report) : 0;
        if (rc)
            return rc;
        if (s->applied.serial && report.bad) {
            s->careful = m->boot_bad = true;
            *ret_good = false;
        }
    }
    m->verified_at = m->wall;
    return 0;
}

int run_on_applied(struct metadata *m)
{
    struct run *r = m->run;
    if (!r || m->central)
        return 0;
    run_progress(m, 1, 0);
    if (!m->applied || !epoch_eq(&m->applied->epoch, &r->target_epoch) ||
        m->applied->generation < r->target_generation)
        return 0;
    bool good;
    enter(m, PHASE_VIEW);
    int rc = verify_root(m, &good);
    if (rc)
        return rc;
    if (!good) {
        rc = run_failed(m, ERR_ROOT, "own pages do not give the signed root; they are fetched again");
        return rc ? rc : replica_plan(m);
    }
    return succeeded(m);
}

static int wait_for_head(struct metadata *m)
{
    int rc = run_on_applied(m);
    if (!rc && m->run && m->parent_up)
        replica_poll(m); /* the push has mostly brought it already; else ask */
    return rc;
}

int run_on_sync_request(struct metadata *m, const struct frame *f, bool ack)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SyncRequest *q = FRAME_UNPACK(&a, f, sync_request, &rc);
    struct epoch epoch;
    if (!q || epoch_from_view(pb_view(q->epoch), &epoch) || run_number(q->run) == 0 || m->central)
        return 0;
    if (ack) {
        Sitetree__SyncAck y = SITETREE__SYNC_ACK__INIT;
        y.run = q->run;
        send_to(m, (struct peer){PEER_PARENT, 0}, CLASS_HEAD, /* leaves after the commit */
            frame_pack(FRAME_SYNC_ACK, CLASS_HEAD, 0, state_epoch(m), &y.base, false));
    }
    AUTO_BUF mark = {0};
    struct view last;
    buf_fmt(&mark, "%s %s %" PRIu64, m->parent, q->run, (uint64_t)q->generation);
    if (mark.err)
        return -ENOMEM;
    if (meta_get(m->txn, "last-request", &last) == 0 && view_eq(last, buf_view(&mark)))
        return 0; /* repeated until it was acknowledged */
    meta_put(m->txn, "last-request", buf_view(&mark));
    if (m->run) { /* still on the way to an older request: one run answers both */
        m->run->target_epoch = epoch;
        m->run->target_generation = q->generation;
        snprintf(m->run->parent_run, sizeof m->run->parent_run, "%.31s", q->run);
        store_run(m, m->run);
        return wait_for_head(m);
    }
    char by[64];
    snprintf(by, sizeof by, "%.31s %.31s", m->parent, q->run);
    struct run *r = run_new(m, RUN_FULL, by); /* a child always runs FULL (A10) */
    if (!r)
        return -ENOMEM;
    event_note(m, "sync.requested", r, 0, "%.31s asks for generation %" PRIu64 " (%.31s)", m->parent,
        (uint64_t)q->generation, q->run);
    snprintf(r->origin, sizeof r->origin, "%.31s", q->origin_run);
    snprintf(r->parent_run, sizeof r->parent_run, "%.31s", q->run);
    r->target_epoch = epoch;
    r->target_generation = q->generation;
    r->deadline.ns = (int64_t)q->deadline;
    return start(m, r);
}

int run_on_link_back(struct metadata *m)
{
    if (m->timers[TIMER_RETRY].ns == 0 || m->run || m->opt.retry_strict)
        return 0;
    return run_on_timer(m, TIMER_RETRY); /* a link that comes back is reason enough to try at once */
}

/* ---- both ---- */

static int start(struct metadata *m, struct run *r)
{
    char id[32];
    m->run = r;
    r->started = m->wall;
    r->generation_before = m->applied ? m->applied->generation : 0;
    r->phase_started = m->wall;
    r->phase_mono = state_stopwatch(m);
    enter(m, PHASE_SOURCE);
    event_note(m, "sync.started", r, 0, "%s %s by %s", kind_names[r->kind], run_id(r->number, id), r->by);
    status_touch(m);
    if (!m->central)
        return wait_for_head(m);
    if (store_nearly_full(m->store))
        return run_failed(m, ERR_MAP_FULL, "the store or its disk is 85 %% full: nothing new is taken in");
    int rc = upstream_names(m, &r->todo, &r->n_todo);
    if (rc)
        return rc;
    event_note(m, "sync.catalogue", r, 0, "%zu upstreams", r->n_todo);
    return next_source(m);
}

int run_request(
    struct metadata *m, enum run_kind kind, const char *by, bool *ret_queued, uint64_t *ret_number)
{
    *ret_queued = m->run != NULL;
    if (m->run && m->queued) { /* requests coalesce: one more run after this one, of the larger kind */
        if (kind == RUN_FULL && m->queued->kind != RUN_FULL) {
            m->queued->kind = RUN_FULL;
            store_run(m, m->queued);
        }
        *ret_number = m->queued->number;
        return 0;
    }
    struct run *r = run_new(m, kind, by);
    if (!r)
        return -ENOMEM;
    *ret_number = r->number;
    if (m->run) {
        m->queued = r;
        store_run(m, r);
        return 0;
    }
    return start(m, r);
}

int run_decide(struct metadata *m, uint64_t number, bool approve)
{
    char id[32];
    struct run *r = m->run;
    if (!r || r->number != number || !r->guarded)
        return err_fail(ERR_NOT_FOUND, "run %s does not wait for a decision", run_id(number, id));
    r->guarded = false;
    if (!approve)
        return run_failed(m, ERR_CANCELLED, "an operator rejected it: %.300s", r->reason);
    r->approved = true;
    run_progress(m, 0, 0);
    replica_rest(m);
    return view(m);
}

int run_plan(struct metadata *m, struct peer caller, uint64_t command, json_t *args)
{
    if (m->run)
        return err_fail(ERR_BUSY, "a run is active; a plan comes after it");
    struct run *r = run_new(m, RUN_FULL, "plan");
    if (!r)
        return -ENOMEM;
    r->plan = true;
    r->caller = caller;
    r->command = command;
    static const char *const fields[] = {"products", "classifications", "architectures"};
    json_t *f =
        m->filter.len ? json_loadb((const char *)m->filter.data, m->filter.len, 0, NULL) : json_object();
    for (size_t i = 0; f && i < COUNT_OF(fields); i++)
        if (json_is_array(json_object_get(args, fields[i])))
            json_object_set(f, fields[i], json_object_get(args, fields[i]));
    r->filter = f;
    return start(m, r);
}

int run_cancel(struct metadata *m, uint64_t number)
{
    char id[32];
    if (m->queued && m->queued->number == number) {
        struct run *r = m->queued;
        m->queued = NULL;
        r->result = "cancelled";
        r->ended = m->wall;
        store_run(m, r);
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
    m->run->code = ERR_CANCELLED;
    snprintf(m->run->reason, sizeof m->run->reason, "an operator cancelled it");
    event_note(m, "sync.cancelled", m->run, ERR_CANCELLED, "%s", m->run->reason);
    return end(m, "cancelled");
}

static int retry(struct metadata *m)
{
    uint64_t of = meta_get_u64(m->txn, "retry-of");
    struct key8 k = key_u64(of);
    struct view v;
    char by[64], id[32];
    if (m->run && m->central) { /* it comes behind the one that is active */
        bool queued, full = full_retry_waits(m);
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
    struct run *r = run_new(m, kind && strcmp(kind, "DELTA_NEW") == 0 ? RUN_DELTA_NEW : RUN_FULL, by);
    int rc = r ? 0 : -ENOMEM;
    if (!rc) {
        r->retry_of = of;
        snprintf(r->parent_run, sizeof r->parent_run, "%s", parent_run ? parent_run : "");
        snprintf(r->origin, sizeof r->origin, "%s", origin ? origin : "");
        r->target_generation = (uint64_t)json_integer_value(json_object_get(j, "target_generation"));
        if (epoch && hex_decode(epoch, r->target_epoch.b, 16))
            r->target_epoch = (struct epoch){0};
        rc = start(m, r);
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
        return run_failed(m, ERR_STALLED, "no progress in phase %s for %s", phase_names[m->run->phase],
            duration_text(m->opt.stall_ns, d));
    }
    if (id == TIMER_REQUEST_OUT) {
        bool open = false;
        for (size_t i = 0; i < m->n_children; i++) {
            ask_child(m, &m->children[i]);
            open = open || m->children[i].acked_run < m->out_run;
        }
        if (open)
            timer_set(m, TIMER_REQUEST_OUT, state_jitter(m, ASK_AGAIN_NS));
    }
    return 0;
}

int run_on_ack(struct metadata *m, struct peer child, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SyncAck *y = FRAME_UNPACK(&a, f, sync_ack, &rc);
    uint64_t number = y ? run_number(y->run) : 0;
    for (size_t i = 0; i < m->n_children; i++) {
        struct child *c = &m->children[i];
        if (c->session != child.id || number > m->out_run || number <= c->acked_run)
            continue;
        c->acked_run = number;
        meta_put_u64(m->txn, meta_of("acked", view_str(c->site)).s, number);
    }
    return 0;
}

int run_on_child(struct metadata *m, const Sitetree__LinkState *l)
{
    size_t i = 0;
    while (i < m->n_children && m->children[i].session != l->session)
        i++;
    if (!l->up) {
        if (i < m->n_children) {
            memmove(&m->children[i], &m->children[i + 1], (m->n_children - i - 1) * sizeof *m->children);
            m->n_children--;
        }
        return 0;
    }
    if (i == m->n_children) {
        if (m->n_children == m->cap_children) {
            size_t cap = m->cap_children ? m->cap_children * 2 : 16;
            struct child *list = realloc(m->children, cap * sizeof *list);
            if (!list)
                return -ENOMEM;
            m->children = list;
            m->cap_children = cap;
        }
        m->n_children++;
        m->children[i] = (struct child){.session = l->session};
        snprintf(m->children[i].site, sizeof m->children[i].site, "%s", l->site);
        m->children[i].acked_run = meta_get_u64(m->txn, meta_of("acked", view_str(l->site)).s);
    }
    if (m->out_run && m->children[i].acked_run < m->out_run && m->timers[TIMER_REQUEST_OUT].ns == 0)
        timer_set(m, TIMER_REQUEST_OUT, state_jitter(m, ASK_FIRST_NS));
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
            json_object_set_new(j, "ended", time_json(m->wall));
            char *text = json_dumps(j, JSON_COMPACT);
            struct key8 k = key_u64(number);
            if (text)
                store_put(m->txn, TABLE_RUNS, KEY(k), view_str(text));
            free(text);
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
    if (unfinished && (full || !full_retry_waits(m))) {
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

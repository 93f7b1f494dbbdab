/* A run at the central site: one job per upstream, then the comparison, which an operator may have to
 * approve. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/run.h"

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
    return run_end(m, "planned");
}

int run_view(struct metadata *m)
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
        run_store(m, r);
        replica_rest(m);
        return 0;
    }
    for (size_t i = 0; i < r->n_sets; i++) { /* the large part of the memory */
        source_free(r->sets[i]);
        r->sets[i] = NULL;
    }
    if (!m->draft)
        return run_on_published(m);
    run_enter(m, PHASE_PUBLISH);
    return 0;
}

int run_go_on(struct metadata *m)
{
    return m->run && m->run->waits ? run_view(m) : 0;
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
    return run_succeeded(m);
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

/* Another upstream that fills the same scope: each would expire what the other one brings. */
static int check_owner(struct metadata *m, const char *name, const char *scope)
{
    const struct run *r = m->run;
    char other[128] = "";
    struct view v;
    for (size_t i = 0; i < r->n_sets; i++)
        if (strcmp(r->sets[i]->scope, scope) == 0)
            snprintf(other, sizeof other, "%s", r->set_names[i]);
    if (!other[0] && meta_get(m->txn, meta_of("owned", view_str(scope)).s, &v) == 0 && v.len < sizeof other &&
        !view_eq(v, view_str(name))) {
        snprintf(other, sizeof other, "%.*s", (int)v.len, (const char *)v.data);
        json_t *there = upstream_config(m, other); /* one that was removed owns nothing any more */
        if (!there)
            other[0] = 0;
        json_decref(there);
    }
    return other[0] ? err_fail(ERR_EXISTS,
                          "upstream %s: it gives %s, which upstream %s fills already; remove one of them",
                          name, scope, other)
                    : 0;
}

static int take_set(struct metadata *m, const char *name, struct source_set *set)
{
    struct run *r = m->run;
    int rc = check_owner(m, name, set->scope);
    if (rc) {
        source_free(set);
        return source_failed(m, name, rc, err_text(rc));
    }
    r->items_done += set->n;
    r->bytes_done += set->bytes_fetched;
    upstream_note(m, name, set, 0, "");
    if (set->date.ns) /* one of the future (the adapter warns) must not make all that follow look old */
        meta_put_u64(m->txn, meta_of("seen-date", view_str(name)).s,
            (uint64_t)(set->date.ns < m->wall.ns ? set->date.ns : m->wall.ns));
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

int run_next_source(struct metadata *m)
{
    struct run *r = m->run;
    if (r->next_todo == r->n_todo) {
        if (r->code && r->n_sets == 0)
            return run_on_published(m);
        run_enter(m, PHASE_VIEW);
        return run_view(m);
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

int run_on_job(struct metadata *m, const struct input *in)
{
    struct run *r = m->run;
    if (!r || !m->job || in->timer != (unsigned)m->job) {
        source_free(in->result); /* of a run that was cancelled */
        return 0;
    }
    if (in->status > 0) { /* progress */
        json_t *p = json_loadb((const char *)in->body.data, in->body.len, 0, NULL);
        r->items = r->items_done;
        r->bytes = r->bytes_done;
        r->bytes_total = (uint64_t)json_integer_value(json_object_get(p, "bytes_total"));
        r->bytes_total += r->bytes_total ? r->bytes_done : 0;
        run_progress(m, (uint64_t)json_integer_value(json_object_get(p, "items")),
            (uint64_t)json_integer_value(json_object_get(p, "bytes")));
        json_decref(p);
        return 0;
    }
    const char *name = r->todo[r->next_todo++];
    m->job = 0;
    char text[480]; /* names the upstream */
    snprintf(text, sizeof text, "%.*s", (int)(in->body.len < sizeof text ? in->body.len : sizeof text - 1),
        in->body.len ? (const char *)in->body.data : "");
    int rc = in->status || !in->result ? source_failed(m, name, in->status ? in->status : ERR_UPSTREAM, text)
                                       : take_set(m, name, in->result);
    if (rc)
        return rc;
    r->items = r->items_done;
    r->bytes = r->bytes_done;
    run_progress(m, 0, 0);
    return run_next_source(m);
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
    return run_view(m);
}

int run_plan(struct metadata *m, struct peer caller, uint64_t command, json_t *args)
{
    if (m->run)
        return err_fail(ERR_BUSY, "a run is active; a plan comes after it");
    struct run *r = run_make(m, RUN_FULL, "plan");
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
    return run_begin(m, r);
}

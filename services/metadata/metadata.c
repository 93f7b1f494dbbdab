/* The metadata core's entrance: one input, handed to the file that knows it. */
#include "services/metadata/metadata.h"

#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define SCHEMA 1 /* of the store; raised when its tables change their meaning */
#define REFUSED_MOST_NS (60 * NS_PER_S)

void metadata_options_default(struct metadata_options *o)
{
    *o = (struct metadata_options){.poll_interval_ns = 300 * NS_PER_S,
        .retry_interval_ns = 3600 * NS_PER_S,
        .stall_ns = 900 * NS_PER_S,
        .schedule_ns = 86400 * NS_PER_S,
        .head_lifetime_ns = 7 * 86400 * NS_PER_S,
        .request_timeout_ns = 20 * NS_PER_S,
        .window_bytes = 4u << 20,
        .chunk_bytes = 64u << 10,
        .delta_keep_bytes = 4u << 20,
        .delta_keep = 1000,
        .rehash_ns = 7 * 86400 * NS_PER_S,
        .runs_keep = 1000,
        .guard_percent = 20,
        .expired_keep_ns = 90 * 86400 * NS_PER_S,
        .apt_dir = "/etc/apt"};
}

int metadata_new(const struct metadata_options *opt, struct store *store, const struct random_source *random,
    struct metadata **ret_m)
{
    struct metadata *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->opt = *opt;
    m->store = store;
    m->random = random;
    snprintf(m->text, sizeof m->text, "starting");
    *ret_m = m;
    return 0;
}

void metadata_free(struct metadata *m)
{
    if (!m)
        return;
    draft_drop(m);
    run_free(m->run);
    run_free(m->queued);
    state_target(m, NULL);
    head_free(m->ahead);
    head_free(m->known);
    head_free(m->applied);
    head_free(m->fence);
    head_free(m->witness);
    for (size_t i = 0; i < m->n_requests; i++)
        wants_done(&m->requests[i].expect);
    for (size_t i = 0; i < m->n_scopes; i++) {
        wants_done(&m->scopes[i]->frontier);
        free(m->scopes[i]);
    }
    for (size_t i = 0; i < m->n_ops; i++)
        op_done(&m->ops[i]);
    free(m->ops);
    free(m->requests);
    free(m->scopes);
    free(m->children);
    buf_done(&m->filter);
    buf_done(&m->trust_statement);
    buf_done(&m->revoked);
    buf_done(&m->rehash.key);
    free(m);
}

void metadata_set_options(struct metadata *m, const struct metadata_options *opt)
{
    m->opt = *opt;
}

void metadata_on_commit(struct metadata *m, struct wall at)
{
    if (!m->committed_pending)
        return;
    m->committed_pending = false;
    m->hop.committed = at;
    for (uint64_t i = m->n_deliveries; i-- > 0 && m->n_deliveries - i <= DELIVERIES;) {
        struct delivery *d = &m->deliveries[i % DELIVERIES];
        if (d->committed.ns)
            break;
        d->committed = at;
    }
}

static int on_start(struct metadata *m, const struct input *in)
{
    struct view v;
    m->ended_code = in->status;
    snprintf(m->ended_why, sizeof m->ended_why, "%.*s", (int)in->body.len,
        in->body.len ? (const char *)in->body.data : "");
    Sitetree__WorkerReady ready = SITETREE__WORKER_READY__INIT;
    if (m->opt.store_refused)
        m->refused_until.ns = m->now.ns + (m->opt.poll_interval_ns < REFUSED_MOST_NS ? m->opt.poll_interval_ns
                                                                                     : REFUSED_MOST_NS);
    uint64_t schema = meta_get_u64(m->txn, "schema");
    if (schema > SCHEMA) /* A13: of a later program; it would be read wrongly */
        return err_fail(ERR_VERSION,
            "the catalogue store has version %llu, this program knows %d: take the newer program",
            (unsigned long long)schema, SCHEMA);
    if (schema != SCHEMA)
        meta_put_u64(m->txn, "schema", SCHEMA);
    m->filter_version = meta_get_u64(m->txn, "filter-version");
    if (meta_get(m->txn, "filter", &v) == 0)
        buf_append_view(&m->filter, v);
    m->next_request = state_random(m) >> 33; /* answers to a life before this one must not fit */
    int rc = run_load(m);
    if (rc)
        return rc;
    ready.worker = (char *)(uintptr_t) "metadata";
    ready.software = (char *)(uintptr_t)SITETREE_VERSION;
    ready.code = m->ended_code;
    ready.text = m->ended_why;
    send_to(m, (struct peer){PEER_NODE, 0}, CLASS_HEAD,
        frame_pack(FRAME_WORKER_READY, CLASS_HEAD, 0, NULL, &ready.base, false));
    return m->filter.err;
}

/* The store is read only now: heads are checked against the head key, which the node tells. */
static int first_info(struct metadata *m)
{
    int rc = state_load(m);
    if (!rc)
        rc = fence_load(m);
    if (!rc)
        rc = replica_boot(m);
    if (!rc && m->central && meta_get_u64(m->txn, "draft")) { /* pages of a generation that never came */
        for (size_t i = 0; !rc && i < m->n_scopes; i++) {
            uint64_t deleted;
            AUTO_TREE t;
            state_tree(m, m->scopes[i], &t);
            rc = tree_sweep(&t, m->scopes[i]->applied.serial ? &m->scopes[i]->applied.tree : NULL, &deleted);
        }
        meta_del(m->txn, "draft");
    }
    /* A run that could not be kept is ended for the record even then: that takes next to no room. */
    if (!rc && (!replica_only_serves(m) || (m->central && !store_nearly_full(m->store))))
        rc = run_start(m);
    if (!rc && m->central && !replica_only_serves(m))
        rc = origin_renew(m);
    if (rc)
        return rc;
    timer_set(m, TIMER_POLL, state_jitter(m, m->opt.poll_interval_ns));
    replica_rest(m);
    status_touch(m);
    return m->central ? 0 : replica_plan(m);
}

static int on_site_info(struct metadata *m, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SiteInfo *i = FRAME_UNPACK(&a, f, site_info, &rc);
    if (!i)
        return rc;
    if (hash_from_view(pb_view(i->hierarchy), &m->trust.hierarchy) || i->head_key.len != 32)
        return err_fail(ERR_MALFORMED, "site info without hierarchy or head key");
    bool rotated = m->have_info && i->trust_version > m->trust.version;
    if (!m->have_info || rotated) {
        memcpy(m->trust.head_key, i->head_key.data, 32);
        m->trust.version = i->trust_version;
        buf_reset(&m->trust_statement);
        if (i->trust)
            message_pack(&i->trust->base, &m->trust_statement);
    }
    m->central = i->central;
    snprintf(m->site, sizeof m->site, "%s", i->site);
    snprintf(m->tier, sizeof m->tier, "%s", i->tier);
    snprintf(m->top, sizeof m->top, "%s", i->central_site);
    if (!m->parent[0] || !m->parent_up)
        snprintf(m->parent, sizeof m->parent, "%s", i->parent);
    bool taken_back = i->central && !view_eq(pb_view(i->revoked), buf_view(&m->revoked));
    if (taken_back) {
        buf_reset(&m->revoked);
        buf_append_view(&m->revoked, pb_view(i->revoked));
    }
    bool released = m->have_info && m->restored && !i->restored;
    m->restored = i->restored;
    if (rotated)
        fence_on_trust(m);
    if (released)
        replica_rest(m);
    if (m->have_info) /* a new head key signs the same catalogue at once, so nobody misses the change */
        return (rotated || released || taken_back) && m->central ? origin_renew(m) : 0;
    m->have_info = true;
    return first_info(m);
}

static int on_node_frame(struct metadata *m, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    switch (f->type) {
    case FRAME_SITE_INFO:
        return on_site_info(m, f);
    case FRAME_SIGNED_HEAD:
        return origin_on_signed(m, f);
    case FRAME_REFUSAL:
        return origin_on_refused(m, f);
    case FRAME_LINK_STATE: {
        Sitetree__LinkState *l = FRAME_UNPACK(&a, f, link_state, &rc);
        if (!l || !m->have_info)
            return rc;
        return l->parent ? replica_on_link(m, l) : run_on_child(m, l);
    }
    case FRAME_CONTROL: {
        Sitetree__Control *c = FRAME_UNPACK(&a, f, control, &rc);
        return c ? command_run(m, (struct peer){PEER_NODE, 0}, c->command, pb_view(c->json)) : rc;
    }
    default:
        m->unknown_types++;
        return 0;
    }
}

static int on_parent_frame(struct metadata *m, const struct frame *f)
{
    struct request *r = request_find(m, f->request);
    m->parent_heard = m->now;
    switch (f->type) {
    case FRAME_HEAD:
        return r && r->kind == REQUEST_HEAD ? replica_on_head(m, r, f) : 0;
    case FRAME_DELTA_REPLY: {
        if (!r || r->kind != REQUEST_DELTAS)
            return 0;
        int rc = catchup_on_reply(m, r, f);
        return rc ? rc : replica_step(m);
    }
    case FRAME_PAGE_REPLY: {
        if (!r || r->kind != REQUEST_PAGES)
            return 0;
        int rc = walk_on_reply(m, r, f);
        return rc ? rc : replica_step(m);
    }
    case FRAME_HINT: /* beside the answer to a question for the head */
        return replica_on_hint(m, f, NULL);
    case FRAME_SYNC_REQUEST: /* not acknowledged, it is repeated */
        return replica_only_serves(m) ? 0 : run_on_sync_request(m, f, true);
    case FRAME_REFUSAL: {
        int rc = replica_on_refusal(m, f);
        return rc ? rc : replica_step(m);
    }
    default:
        m->unknown_types++;
        return 0;
    }
}

static int on_child_frame(struct metadata *m, struct peer child, const struct frame *f)
{
    switch (f->type) {
    case FRAME_HEAD_GET:
        return serve_head(m, child, f);
    case FRAME_DELTA_GET:
        return serve_deltas(m, child, f);
    case FRAME_PAGE_GET:
        return serve_pages(m, child, f);
    case FRAME_SYNC_ACK:
        return run_on_ack(m, child, f);
    case FRAME_HEAD:
        return f->body.len ? fence_on_offer(m, f) : 0;
    default:
        m->unknown_types++;
        serve_refuse(
            m, child, f->request, err_fail(ERR_UNKNOWN_TYPE, "no answer to a %s", frame_type_word(f->type)));
        return 0;
    }
}

static int on_hint(struct metadata *m, const struct input *in, const struct frame *f)
{
    if (f->type == FRAME_SYNC_REQUEST)
        return replica_only_serves(m) ? 0 : run_on_sync_request(m, f, true);
    if (f->type != FRAME_HINT)
        return 0;
    snprintf(m->hint_topic, sizeof m->hint_topic, "%.*s", (int)in->topic.len,
        in->topic.len ? (const char *)in->topic.data : "");
    m->hint_lane = f->lane == CLASS_RECALL ? CLASS_RECALL : CLASS_HEAD;
    struct blob *copy = in->frame ? blob_ref(in->frame) : blob_new(in->body.data, in->body.len);
    int rc = copy ? replica_on_hint(m, f, copy) : -ENOMEM;
    blob_free(copy);
    return rc;
}

static int on_frame(struct metadata *m, const struct input *in)
{
    struct frame f;
    int rc = frame_parse(in->body, &f);
    if (rc) { /* counted, answered where there is somebody to answer, and otherwise without effect */
        m->unknown_types += rc == ERR_UNKNOWN_TYPE;
        if (rc == ERR_UNKNOWN_TYPE && in->from.kind == PEER_CHILD)
            serve_refuse(m, in->from, f.request, rc);
        else if (in->from.kind == PEER_PARENT || in->from.kind == PEER_CHILDREN)
            state_refusal(m, rc, "frame");
        return 0;
    }
    if (in->from.kind == PEER_NODE)
        return on_node_frame(m, &f);
    if (!m->have_info)
        return 0;
    if (in->from.kind == PEER_PARENT)
        return on_parent_frame(m, &f);
    if (in->from.kind == PEER_CHILDREN)
        return on_hint(m, in, &f);
    return in->from.kind == PEER_CHILD ? on_child_frame(m, in->from, &f) : 0;
}

static int on_timer(struct metadata *m, unsigned timer)
{
    if (timer >= TIMER_COUNT || m->timers[timer].ns == 0 || m->timers[timer].ns > m->now.ns)
        return 0; /* stopped or set anew since */
    switch ((enum timer_id)timer) {
    case TIMER_POLL:
        replica_poll(m);
        return 0;
    case TIMER_REQUESTS:
        request_on_timer(m);
        return replica_step(m);
    case TIMER_EXPIRY:
        return replica_on_expiry(m);
    case TIMER_SCHEDULE:
    case TIMER_RETRY:
    case TIMER_STALL:
    case TIMER_REQUEST_OUT:
        return run_on_timer(m, timer);
    case TIMER_STATUS:
        return status_send(m);
    case TIMER_REHASH: {
        int rc = replica_rehash(m);
        return rc ? rc : replica_step(m);
    }
    case TIMER_AGAIN:
        return replica_on_again(m);
    case TIMER_COUNT:
        break;
    }
    return 0;
}

int metadata_step(struct metadata *m, struct store_txn *txn, const struct input *in, struct effects *fx)
{
    int rc = 0;
    m->txn = txn;
    m->fx = fx;
    m->now = in->now;
    m->wall = in->wall;
    switch (in->kind) {
    case INPUT_START:
        rc = on_start(m, in);
        break;
    case INPUT_FRAME:
        rc = on_frame(m, in);
        break;
    case INPUT_TIMER:
        rc = on_timer(m, in->timer);
        break;
    case INPUT_COMMAND:
        rc = command_run(m, (struct peer){PEER_NONE, 0}, in->command, in->body);
        break;
    case INPUT_JOB:
        rc = upstream_on_test(m, in);
        if (rc == ERR_NOT_FOUND)
            rc = run_on_job(m, in);
        break;
    case INPUT_LINK:
    case INPUT_GONE:
        break;
    }
    if (m->target || m->waiting_since.ns)
        replica_wait(m);
    if (!rc)
        rc = store_txn_error(txn);
    return rc ? rc : fx->err;
}

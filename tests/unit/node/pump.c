#include "tests/unit/node/pump.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void pseudo_fill(void *ctx, void *out, size_t len)
{
    struct pump *p = ctx;
    uint8_t *b = out;
    for (size_t i = 0; i < len; i++) {
        p->seed = p->seed * 6364136223846793005u + 1442695040888963407u;
        b[i] = (uint8_t)(p->seed >> 56);
    }
}

static void must(int rc)
{
    if (rc) {
        fprintf(stderr, "pump: %s: %s\n", err_word(rc), err_text(rc));
        abort();
    }
}

static void door_set(struct pump_node *x, const uint8_t *key, const char *user)
{
    unsigned i = 0;
    while (i < x->n_doors && memcmp(x->doors[i].key, key, 32) != 0)
        i++;
    if (i == PUMP_DOORS)
        abort();
    if (i == x->n_doors)
        x->n_doors++;
    memcpy(x->doors[i].key, key, 32);
    COPY_TEXT(x->doors[i].user, user);
}

const char *pump_user(struct pump *p, int i, const uint8_t key[32])
{
    struct pump_node *x = &p->nodes[i];
    for (unsigned k = 0; k < x->n_doors; k++)
        if (memcmp(x->doors[k].key, key, 32) == 0 && x->doors[k].user[0])
            return x->doors[k].user;
    return NULL;
}

static void enqueue(struct pump *p, int from, int to, struct peer as, struct blob *frame)
{
    if (p->n_queue == COUNT_OF(p->queue))
        abort();
    p->queue[p->n_queue].from = from;
    p->queue[p->n_queue].to = to;
    p->queue[p->n_queue].as = as;
    p->queue[p->n_queue++].frame = blob_ref(frame);
}

static void keep(struct pump_frame *list, unsigned *n, unsigned cap, const struct effect *e)
{
    if (*n == cap) {
        blob_free(list[0].frame);
        memmove(list, list + 1, (cap - 1) * sizeof *list);
        (*n)--;
    }
    list[*n] = (struct pump_frame){.to = e->to, .via = e->via, .lane = e->lane, .frame = blob_ref(e->frame)};
    snprintf(list[*n].topic, sizeof list[*n].topic, "%s", e->topic);
    (*n)++;
}

static void send_effect(struct pump *p, int i, const struct effect *e)
{
    struct pump_node *x = &p->nodes[i];
    switch (e->to.kind) {
    case PEER_PARENT:
        x->bytes_up += blob_view(e->frame).len;
        x->frames_up++;
        if (e->to.id == PROBE && x->probe >= 0)
            enqueue(p, i, x->probe, (struct peer){PEER_CHILD, x->probe_session}, e->frame);
        else if (x->parent >= 0 && !x->cut)
            enqueue(p, i, x->parent, (struct peer){PEER_CHILD, x->session}, e->frame);
        break;
    case PEER_CHILD:
        for (unsigned k = 0; k < p->n; k++)
            if (p->nodes[k].parent == i && p->nodes[k].session == e->to.id) {
                if (!p->nodes[k].cut)
                    enqueue(p, i, (int)k, (struct peer){PEER_PARENT, 0}, e->frame);
                return;
            } else if (p->nodes[k].probe == i && p->nodes[k].probe_session == e->to.id) {
                enqueue(p, i, (int)k, (struct peer){PEER_PARENT, PROBE}, e->frame);
                return;
            }
        blob_free(p->stray);
        p->stray = blob_ref(e->frame);
        break;
    case PEER_CHILDREN:
        keep(x->published, &x->n_published, COUNT_OF(x->published), e);
        break;
    case PEER_WORKER:
        keep(x->to_worker, &x->n_to_worker, COUNT_OF(x->to_worker), e);
        break;
    case PEER_NONE:
    case PEER_NODE:
        abort();
    }
}

static void connect_effect(struct pump *p, struct pump_node *x, const struct effect *e)
{
    struct node_place place;
    int to = -1;
    if (e->frame && place_of_blob(blob_view(e->frame), &place) == 0)
        for (unsigned k = 0; k < p->n; k++)
            if (strcmp(p->nodes[k].opt.site.s, place.code.s) == 0)
                to = (int)k;
    if (e->to.id == PROBE) {
        x->probe = to;
        x->probe_session = ++p->next_session;
        return;
    }
    x->parent = to;
    x->session = ++p->next_session;
    x->connects++;
}

static void perform(struct pump *p, int i, const struct effect *e)
{
    struct pump_node *x = &p->nodes[i];
    struct view text;
    switch (e->kind) {
    case EFFECT_SEND:
        send_effect(p, i, e);
        break;
    case EFFECT_TIMER:
        x->timers[e->timer] = e->at;
        break;
    case EFFECT_REPLY:
        text = blob_view(e->frame);
        json_decref(x->reply);
        x->reply = json_loadb((const char *)text.data, text.len, 0, NULL);
        x->n_replies++;
        break;
    case EFFECT_ACCESS:
        door_set(x, blob_view(e->frame).data, e->topic);
        break;
    case EFFECT_CONNECT:
        connect_effect(p, x, e);
        break;
    case EFFECT_DROP_LINKS:
        x->drops++;
        break;
    case EFFECT_CLOSE:
        x->closes++;
        break;
    case EFFECT_STOP:
        x->stopped = true;
        break;
    case EFFECT_JOB:
        abort();
    }
}

static int step(struct pump *p, int i, struct input *in)
{
    struct pump_node *x = &p->nodes[i];
    struct store_txn *txn;
    struct effects fx = {0};
    must(store_begin(x->store, true, &txn));
    in->now = p->now;
    in->wall = p->wall;
    int rc = node_step(x->node, txn, in, &fx);
    if (rc)
        store_abort(txn);
    else
        rc = store_commit(txn);
    for (size_t k = 0; !rc && k < fx.n; k++)
        perform(p, i, &fx.list[k]);
    effects_done(&fx);
    p->fail_code = rc;
    return rc;
}

void pump_settle(struct pump *p)
{
    for (size_t done = 0; done < p->n_queue; done++) {
        struct pump_node *x = &p->nodes[p->queue[done].to];
        struct input in = {.kind = INPUT_FRAME, .from = p->queue[done].as, .frame = p->queue[done].frame};
        in.body = blob_view(in.frame);
        const char *user = NULL;
        if (in.from.kind == PEER_CHILD)
            user = pump_user(p, p->queue[done].to, p->nodes[p->queue[done].from].keys.link.public);
        if (user)
            in.user = view_str(user);
        if (x->node && (in.from.kind != PEER_CHILD || user))
            must(step(p, p->queue[done].to, &in));
        blob_free(in.frame);
    }
    p->n_queue = 0;
}

int pump_input(struct pump *p, int i, struct input *in)
{
    int rc = step(p, i, in);
    pump_settle(p);
    return rc;
}

int pump_frame(struct pump *p, int i, uint32_t session, const char *user, struct blob *frame)
{
    if (!frame)
        abort();
    struct input in = {.kind = INPUT_FRAME,
        .from = {PEER_CHILD, session},
        .user = view_str(user),
        .frame = frame,
        .body = blob_view(frame)};
    int rc = pump_input(p, i, &in);
    blob_free(frame);
    return rc;
}

int pump_worker(struct pump *p, int i, struct peer via, const char *topic, struct blob *frame)
{
    if (!frame)
        abort();
    struct input in = {.kind = INPUT_FRAME,
        .from = {PEER_WORKER, WORKER_METADATA},
        .via = via,
        .lane = CLASS_BULK,
        .topic = view_str(topic),
        .frame = frame,
        .body = blob_view(frame)};
    int rc = pump_input(p, i, &in);
    blob_free(frame);
    return rc;
}

void pump_run(struct pump *p, int64_t ns)
{
    int64_t end = p->now.ns + ns;
    for (;;) {
        int64_t first = end + 1;
        int who = -1;
        unsigned which = 0;
        for (unsigned i = 0; i < p->n; i++)
            for (unsigned t = 0; t < TIMER_COUNT; t++)
                if (p->nodes[i].node && p->nodes[i].timers[t].ns && p->nodes[i].timers[t].ns < first) {
                    first = p->nodes[i].timers[t].ns;
                    who = (int)i;
                    which = t;
                }
        int64_t at = who < 0 ? end : first > p->now.ns ? first : p->now.ns;
        p->wall.ns += at - p->now.ns;
        p->now.ns = at;
        if (who < 0)
            return;
        p->nodes[who].timers[which].ns = 0;
        struct input in = {.kind = INPUT_TIMER, .timer = which};
        must(pump_input(p, who, &in));
    }
}

json_t *pump_command(struct pump *p, int i, const char *format, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    struct input in = {.kind = INPUT_COMMAND, .command = 1, .body = view_str(text)};
    unsigned before = p->nodes[i].n_replies;
    must(pump_input(p, i, &in));
    return p->nodes[i].n_replies > before ? p->nodes[i].reply : NULL;
}

static void start(struct pump *p, int i)
{
    struct pump_node *x = &p->nodes[i];
    x->keys.chain = buf_view(&x->chain);
    must(node_new(&x->opt, &x->keys, x->store, &p->random, &x->node));
    struct input in = {.kind = INPUT_START};
    must(pump_input(p, i, &in));
}

void pump_restart(struct pump *p, int i)
{
    struct pump_node *x = &p->nodes[i];
    node_free(x->node);
    x->n_doors = 0;
    memset(x->timers, 0, sizeof x->timers);
    start(p, i);
}

static struct pump_node *add(struct pump *p, const char *code)
{
    struct pump_node *x = &p->nodes[p->n++];
    *x = (struct pump_node){.parent = -1, .probe = -1};
    node_options_default(&x->opt);
    snprintf(x->opt.site.s, sizeof x->opt.site.s, "%s", code);
    x->opt.hierarchy = p->hierarchy;
    x->opt.pid = 4711;
    snprintf(x->opt.advertise, sizeof x->opt.advertise, "%s.example:7700", code);
    snprintf(x->opt.advertise_hints, sizeof x->opt.advertise_hints, "%s.example:7701", code);
    struct store_options so = {.tables = node_tables, .n_tables = node_n_tables};
    must(store_open_memory(&so, &x->store));
    uint8_t seed[32];
    pseudo_fill(p, seed, 32);
    sign_key_from_seed(seed, &x->keys.site);
    pseudo_fill(p, seed, 32);
    link_key_from_seed(seed, &x->keys.link);
    return x;
}

void pump_init(struct pump *p)
{
    must(crypto_init());
    *p = (struct pump){.now = {NS_PER_S}, .wall = {INT64_C(1795000000) * NS_PER_S}, .seed = 42};
    p->random = (struct random_source){pseudo_fill, p};
    uint8_t seed[32];
    pseudo_fill(p, seed, 32);
    sign_key_from_seed(seed, &p->root);
    hierarchy_id(p->root.public, &p->hierarchy);
    struct pump_node *x = add(p, "CEN");
    pseudo_fill(p, seed, 32);
    sign_key_from_seed(seed, &x->keys.head);
    x->keys.has_head = true;
    struct certificate cert = {.code = x->opt.site, .tier = TIER_CENTRAL, .serial = 1, .issued = p->wall};
    memcpy(cert.sign_key, x->keys.site.public, 32);
    memcpy(cert.link_key, x->keys.link.public, 32);
    must(trust_make(&p->root, 1, x->keys.head.public, &cert, &x->chain));
    start(p, 0);
}

void pump_done(struct pump *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        struct pump_node *x = &p->nodes[i];
        node_free(x->node);
        store_close(x->store);
        buf_done(&x->chain);
        json_decref(x->reply);
        for (unsigned k = 0; k < x->n_to_worker; k++)
            blob_free(x->to_worker[k].frame);
        for (unsigned k = 0; k < x->n_published; k++)
            blob_free(x->published[k].frame);
    }
    blob_free(p->stray);
}

int pump_join(struct pump *p, int parent, const char *code, const char *tier)
{
    json_t *answer = pump_command(
        p, parent, "{\"command\":\"site.invite\",\"args\":{\"site\":\"%s\",\"tier\":\"%s\"}}", code, tier);
    const char *text = json_string_value(json_object_get(json_object_get(answer, "data"), "token"));
    struct token token;
    if (!text || token_decode(text, &token))
        return err_fail(ERR_INTERNAL, "no token for %s", code) ? -1 : -1;
    struct link_key door;
    link_key_from_seed(token.secret, &door);
    const char *user = pump_user(p, parent, door.public);
    struct pump_node *x = add(p, code);
    int i = (int)p->n - 1;
    must(user ? 0 : ERR_KEY);
    must(pump_frame(
        p, parent, ++p->next_session, user, join_request_make(7, 0, &token, &x->keys.site, &x->keys.link)));
    struct frame f;
    struct joined joined;
    must(frame_parse(blob_view(p->stray), &f));
    if (f.type != FRAME_JOINED)
        return err_fail(ERR_REFUSED, "the join of %s was refused", code) ? -1 : -1;
    must(joined_check(f.body, &token, &x->keys.site, &x->keys.link, &joined, &x->chain));
    memcpy(x->opt.parents, joined.parents, sizeof x->opt.parents);
    x->opt.n_parents = joined.n_parents;
    x->parent = parent;
    start(p, i);
    return i;
}

void pump_link(struct pump *p, int i, uint32_t which, int status, uint64_t number)
{
    struct input in = {.kind = INPUT_LINK, .from = {PEER_PARENT, which}, .status = status, .command = number};
    must(pump_input(p, i, &in));
}

void pump_ready(struct pump *p, int i)
{
    Sitetree__WorkerReady m = SITETREE__WORKER_READY__INIT;
    m.worker = (char *)(uintptr_t) "metadata";
    m.software = (char *)(uintptr_t) "0";
    must(pump_worker(
        p, i, (struct peer){PEER_NODE, 0}, "", frame_pack(FRAME_WORKER_READY, 1, 0, NULL, &m.base, false)));
}

void pump_told(struct pump *p, int i, uint64_t generation, const char *state, const char *cause,
    void (*more)(Sitetree__WorkerStatus *m))
{
    uint8_t bytes[32];
    memset(bytes, (int)generation + 1, sizeof bytes);
    Sitetree__WorkerStatus m = SITETREE__WORKER_STATUS__INIT;
    m.state = (char *)(uintptr_t)state;
    m.cause = (char *)(uintptr_t)cause;
    m.epoch = pb_bytes(view_of("0123456789abcdef", 16));
    m.generation = generation;
    m.head = pb_bytes(view_of(bytes, 32));
    m.root = pb_bytes(view_of(bytes, 32));
    m.records = generation * 1000;
    m.known_generation = generation;
    if (more)
        more(&m);
    must(pump_worker(
        p, i, (struct peer){PEER_NODE, 0}, "", frame_pack(FRAME_WORKER_STATUS, 1, 0, NULL, &m.base, false)));
}

void pump_status(struct pump *p, int i, uint64_t generation, const char *state, const char *cause)
{
    pump_told(p, i, generation, state, cause, NULL);
}

bool pump_event(struct pump *p, int i, const char *name)
{
    json_t *list = json_object_get(
        json_object_get(
            pump_command(p, i, "{\"command\":\"events\",\"args\":{\"name\":\"%s\"}}", name), "data"),
        "events");
    return json_array_size(list) > 0;
}

struct blob *pump_report(
    struct pump *p, int i, void (*edit)(Sitetree__SiteReport *r), const struct sign_key *key)
{
    struct pump_node *x = &p->nodes[i];
    AUTO_BUF payload = {0};
    uint8_t signature[64];
    Sitetree__SiteReport r = SITETREE__SITE_REPORT__INIT;
    r.hierarchy = pb_bytes(view_of(p->hierarchy.b, 32));
    r.site = x->opt.site.s;
    r.parent = p->nodes[x->parent].opt.site.s;
    r.tier = (char *)(uintptr_t) "branch";
    r.serial = (uint64_t)p->wall.ns + 1;
    r.generation = 9;
    r.state = (char *)(uintptr_t) "live";
    if (edit)
        edit(&r);
    message_pack(&r.base, &payload);
    sign_detached(key ? key : &x->keys.site, "report", buf_view(&payload), signature);
    Sitetree__Signed s = SITETREE__SIGNED__INIT, *list = &s;
    s.payload = pb_bytes(buf_view(&payload));
    s.signature = pb_bytes(view_of(signature, 64));
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    m.reports = &list;
    m.n_reports = 1;
    return frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false);
}

int refusal_code(struct blob *frame)
{
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (!frame || frame_parse(blob_view(frame), &f) || f.type != FRAME_REFUSAL)
        return 0;
    Sitetree__Refusal *r = FRAME_UNPACK(&a, &f, refusal, &rc);
    return r ? r->code : 0;
}

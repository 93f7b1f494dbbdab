#include "tests/simulation/two_sites.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "proto/worker.pb-c.h"
#include "services/metadata/tables.h"

#define QUEUE_MAX 4096

struct message {
    struct site *to;
    struct peer from;
    struct blob *frame;
    char topic[200];
};
struct two_sites world;
static struct message queue[QUEUE_MAX];
static size_t n_queue;
static struct sign_key key;
static struct hash hierarchy;

static void pseudo_fill(void *ctx, void *out, size_t len)
{
    struct site *s = ctx;
    for (size_t i = 0; i < len; i++) {
        s->seed = s->seed * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(s->seed >> 56);
    }
}

int sites_hash_rows(struct store *store, struct hash *ret_hash)
{
    struct hash_state s;
    struct store_txn *t;
    hash_start(&s, "test-rows", NULL);
    assert_int_equal(store_begin(store, false, &t), 0);
    for (unsigned table = 0; table < metadata_n_tables; table++) {
        struct store_walk w = store_walk_from(t, table, (struct view){0}, (struct view){0});
        while (store_walk_next(&w)) {
            uint64_t lengths[3] = {table, w.key.len, w.value.len};
            hash_more(&s, lengths, sizeof lengths);
            hash_more(&s, w.key.data, w.key.len);
            hash_more(&s, w.value.data, w.value.len);
        }
    }
    int rc = store_txn_error(t);
    store_abort(t);
    hash_end(&s, ret_hash);
    return rc;
}

static void enqueue(struct site *to, struct peer from, const struct effect *e)
{
    if (!to || !to->m)
        return;
    assert_true(n_queue < QUEUE_MAX);
    struct message *q = &queue[n_queue++];
    *q = (struct message){.to = to, .from = from, .frame = blob_ref(e->frame)};
    snprintf(q->topic, sizeof q->topic, "%s", e->topic);
}

static void sign_head(struct site *s, const struct effect *e)
{
    struct frame f;
    AUTO_ARENA a;
    int rc;
    uint8_t signature[64];
    Sitetree__Signed m = SITETREE__SIGNED__INIT;
    arena_init(&a);
    assert_int_equal(frame_parse(blob_view(e->frame), &f), 0);
    if (f.type != FRAME_SIGN_HEAD)
        return;
    Sitetree__SignHead *h = FRAME_UNPACK(&a, &f, sign_head, &rc);
    assert_non_null(h);
    sign_detached(&key, "head", pb_view(h->payload), signature);
    m.payload = h->payload;
    m.signature = pb_bytes(view_of(signature, 64));
    m.key = pb_bytes(view_of(key.public, 32));
    struct effect answer = {
        .frame = frame_pack(FRAME_SIGNED_HEAD, CLASS_HEAD, f.request, NULL, &m.base, false)};
    enqueue(s, (struct peer){PEER_NODE, 0}, &answer);
    blob_free(answer.frame);
}

static void perform(struct site *s, const struct effect *e)
{
    struct view text;
    switch (e->kind) {
    case EFFECT_SEND:
        if (e->to.kind == PEER_NODE)
            sign_head(s, e);
        else if (s == world.central)
            enqueue(
                world.below, (struct peer){e->to.kind == PEER_CHILDREN ? PEER_CHILDREN : PEER_PARENT, 0}, e);
        else if (e->to.kind == PEER_PARENT)
            enqueue(world.central, (struct peer){PEER_CHILD, 1}, e);
        break;
    case EFFECT_TIMER:
        assert_true(e->timer < SITE_TIMERS);
        s->timers[e->timer] = e->at;
        break;
    case EFFECT_REPLY:
        text = blob_view(e->frame);
        json_decref(s->reply);
        s->reply = json_loadb((const char *)text.data, text.len, 0, NULL);
        break;
    case EFFECT_JOB:
    case EFFECT_DROP_LINKS:
    case EFFECT_STOP:
    case EFFECT_ACCESS:
    case EFFECT_CONNECT:
    case EFFECT_CLOSE:
        break;
    }
}

static uint64_t generation_of(struct store_txn *t)
{
    struct view v;
    AUTO_ARENA a;
    int rc;
    arena_init(&a);
    if (meta_get(t, "head", &v))
        return 0;
    Sitetree__HeadBytes *b = MESSAGE_UNPACK(&a, v, 1 << 22, head_bytes, &rc);
    assert_non_null(b);
    Sitetree__Head *h = MESSAGE_UNPACK(&a, pb_view(b->head->payload), 512, head, &rc);
    assert_non_null(h);
    return h->generation;
}

uint64_t sites_generation(struct store *store)
{
    struct store_txn *t;
    assert_int_equal(store_begin(store, false, &t), 0);
    uint64_t generation = generation_of(t);
    store_abort(t);
    return generation;
}

/* The next state, as it will be when the commit that follows is done: known to the log before it is sure. */
void site_note_state(struct site *s)
{
    assert_true(s->n_states < SITE_STATES_MAX);
    s->states[s->n_states].generation = sites_generation(s->store);
    assert_int_equal(sites_hash_rows(s->store, &s->states[s->n_states].rows), 0);
    disk_log_mark(s->log, s->n_states++);
}

static int step(struct site *s, struct input *in)
{
    struct store_txn *txn;
    struct effects fx = {0};
    in->now = world.now;
    in->wall = world.wall;
    assert_int_equal(store_begin(s->store, true, &txn), 0);
    int rc = metadata_step(s->m, txn, in, &fx);
    if (rc)
        store_abort(txn);
    else
        assert_int_equal(store_commit(txn), 0);
    if (!rc && s->log)
        site_note_state(s);
    if (!rc)
        metadata_on_commit(s->m, world.wall);
    for (size_t i = 0; !rc && i < fx.n; i++)
        perform(s, &fx.list[i]);
    effects_done(&fx);
    return rc;
}

void sites_settle(void)
{
    for (size_t i = 0; i < n_queue; i++) {
        struct message q = queue[i];
        struct input in = {.kind = INPUT_FRAME,
            .from = q.from,
            .topic = view_str(q.topic),
            .frame = q.frame,
            .body = blob_view(q.frame)};
        assert_int_equal(step(q.to, &in), 0);
        blob_free(q.frame);
    }
    n_queue = 0;
}

json_t *site_ask(struct site *s, const char *text)
{
    struct input in = {.kind = INPUT_COMMAND, .command = 1, .body = view_str(text)};
    json_decref(s->reply);
    s->reply = NULL;
    assert_int_equal(step(s, &in), 0);
    sites_settle();
    return s->reply;
}

static int tell(struct site *s, enum frame_type type, const ProtobufCMessage *m)
{
    struct blob *frame = frame_pack(type, CLASS_HEAD, 0, NULL, m, false);
    struct input in = {.kind = INPUT_FRAME, .from = {PEER_NODE, 0}, .frame = frame, .body = blob_view(frame)};
    int rc = step(s, &in);
    blob_free(frame);
    return rc;
}

void site_link(struct site *s, bool parent)
{
    Sitetree__LinkState m = SITETREE__LINK_STATE__INIT;
    m.parent = parent;
    m.session = 1;
    m.up = true;
    m.site = (char *)(uintptr_t)(parent ? "CEN" : "P01");
    assert_int_equal(tell(s, FRAME_LINK_STATE, &m.base), 0);
}

/* The core's start on what the store holds, up to where it serves. */
int site_boot(struct site *s)
{
    struct metadata_options opt;
    Sitetree__SiteInfo info = SITETREE__SITE_INFO__INIT;
    struct input in = {.kind = INPUT_START};
    metadata_options_default(&opt);
    opt.schedule_ns = 0;
    opt.chunk_bytes = 4096; /* more steps, more commits */
    opt.window_bytes = 16384;
    snprintf(opt.apt_dir, sizeof opt.apt_dir, "/nowhere");
    s->random = (struct random_source){pseudo_fill, s};
    memset(s->timers, 0, sizeof s->timers);
    assert_int_equal(metadata_new(&opt, s->store, &s->random, &s->m), 0);
    int rc = step(s, &in);
    info.hierarchy = pb_bytes(view_of(hierarchy.b, 32));
    info.site = (char *)(uintptr_t)(s->central ? "CEN" : "P01");
    info.tier = (char *)(uintptr_t)(s->central ? "central" : "primary");
    info.parent = (char *)(uintptr_t)(s->central ? "" : "CEN");
    info.central_site = (char *)(uintptr_t) "CEN";
    info.central = s->central;
    info.head_key = pb_bytes(view_of(key.public, 32));
    info.trust_version = 1;
    return rc ? rc : tell(s, FRAME_SITE_INFO, &info.base);
}

void site_end(struct site *s)
{
    metadata_free(s->m);
    store_close(s->store);
    json_decref(s->reply);
    s->m = NULL;
    s->store = NULL;
    s->reply = NULL;
}

void sites_pass(int64_t ns)
{
    int64_t end = world.now.ns + ns;
    struct site *const sites[] = {world.central, world.below};
    for (;;) {
        struct site *who = NULL;
        unsigned which = 0;
        int64_t first = end + 1;
        for (size_t i = 0; i < COUNT_OF(sites); i++)
            for (unsigned t = 0; sites[i]->m && t < SITE_TIMERS; t++)
                if (sites[i]->timers[t].ns && sites[i]->timers[t].ns < first) {
                    who = sites[i];
                    which = t;
                    first = who->timers[t].ns;
                }
        int64_t at = who ? first : end;
        if (at > world.now.ns) {
            world.wall.ns += at - world.now.ns;
            world.now.ns = at;
        }
        if (!who)
            return;
        who->timers[which].ns = 0;
        struct input in = {.kind = INPUT_TIMER, .timer = which};
        assert_int_equal(step(who, &in), 0);
        sites_settle();
    }
}

void sites_forget(void)
{
    for (size_t i = 0; i < n_queue; i++)
        blob_free(queue[i].frame);
    n_queue = 0;
}

void sites_init(void)
{
    static const uint8_t seed[32] = {1};
    sign_key_from_seed(seed, &key);
    hierarchy_id(key.public, &hierarchy);
    world = (struct two_sites){.now = {NS_PER_S}, .wall = {INT64_C(1795000000) * NS_PER_S}};
}

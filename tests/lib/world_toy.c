#include "tests/lib/world_toy.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"
#include "proto/worker.pb-c.h"

enum { TABLE_COUNTER, TABLE_RECORDS };
enum { TIMER_POLL = 1, TIMER_BUSY };

static const char *const tables[] = {"counter", "records"};
static const unsigned n_tables = 2;

struct toy {
    struct world_process *p;
    struct toy_config config;
    const struct random_source *random;
    bool central;
};

static uint64_t counter(struct store_txn *t)
{
    struct view v;
    if (store_get(t, TABLE_COUNTER, view_str("g"), &v))
        return 0;
    struct reader r = reader_of(v);
    return read_be64(&r);
}

static struct view be64(uint64_t v, uint8_t out[8])
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (56 - 8 * i));
    return view_of(out, 8);
}

static void set_counter(struct store_txn *t, uint64_t g)
{
    uint8_t b[8];
    store_put(t, TABLE_COUNTER, view_str("g"), be64(g, b));
}

static void put_record(struct store_txn *t, uint64_t g, const uint8_t *value)
{
    uint8_t b[8];
    store_put(t, TABLE_RECORDS, be64(g, b), view_of(value, 16));
}

static struct blob *state_frame(struct store_txn *t, unsigned type, uint64_t request, uint64_t have)
{
    AUTO_BUF b = {0};
    uint64_t g = counter(t);
    buf_be64(&b, g);
    buf_be64(&b, have);
    for (uint64_t i = have + 1; i <= g; i++) {
        uint8_t key[8];
        struct view v;
        if (store_get(t, TABLE_RECORDS, be64(i, key), &v) == 0)
            buf_append_view(&b, v);
    }
    Sitetree__HeadBytes m = SITETREE__HEAD_BYTES__INIT;
    m.scopes = pb_bytes(buf_view(&b));
    (void)type;
    return frame_pack(FRAME_HEAD, CLASS_HEAD, request, NULL, &m.base, false);
}

static void announce(struct toy *toy, struct store_txn *t, struct effects *fx)
{
    uint64_t g = counter(t);
    effects_publish(fx, "metadata/toy", CLASS_HEAD, state_frame(t, FRAME_HEAD, 0, g ? g - 1 : 0), false);
    Sitetree__WorkerStatus s = SITETREE__WORKER_STATUS__INIT;
    s.state = (char *)"live";
    s.generation = g;
    struct blob *b = frame_pack(FRAME_WORKER_STATUS, CLASS_STATE, 0, NULL, &s.base, false);
    struct peer node = {PEER_NODE, 0};
    if (toy->config.announce_early)
        effects_send_early(fx, node, CLASS_STATE, b);
    else
        effects_send(fx, node, CLASS_STATE, b);
}

static void ask(struct toy *toy, struct store_txn *t, const struct input *in, struct effects *fx)
{
    Sitetree__HeadGet m = SITETREE__HEAD_GET__INIT;
    m.generation = counter(t);
    uint64_t request;
    toy->random->fill(toy->random->ctx, &request, sizeof request);
    effects_send(fx, (struct peer){PEER_PARENT, 0}, CLASS_HEAD,
        frame_pack(FRAME_HEAD_GET, CLASS_HEAD, request | 1, NULL, &m.base, false));
    int64_t poll = toy->config.poll_ns ? toy->config.poll_ns : 60 * NS_PER_S;
    effects_timer(fx, TIMER_POLL, (struct mono){in->now.ns + poll});
}

static void on_state(
    struct toy *toy, struct store_txn *t, const struct frame *f, const struct input *in, struct effects *fx)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__HeadBytes *m = FRAME_UNPACK(&a, f, head_bytes, &rc);
    if (!m)
        return;
    struct reader r = reader_of(pb_view(m->scopes));
    uint64_t g = read_be64(&r), have = read_be64(&r), ours = counter(t);
    if (toy->config.go_back && g < ours) {
        set_counter(t, g);
        return;
    }
    if (g <= ours)
        return;
    if (have > ours) { /* a gap: ask from where we are */
        ask(toy, t, in, fx);
        return;
    }
    for (uint64_t i = have + 1; i <= g; i++) {
        struct view v = read_bytes(&r, 16);
        if (!r.bad && !toy->config.forget_records)
            put_record(t, i, v.data);
    }
    set_counter(t, toy->config.invent ? g + 1 : g);
    announce(toy, t, fx);
}

static void on_frame(struct toy *toy, struct store_txn *t, const struct input *in, struct effects *fx)
{
    struct frame f;
    if (frame_parse(in->body, &f))
        return;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (f.type == FRAME_HEAD) {
        on_state(toy, t, &f, in, fx);
    } else if (f.type == FRAME_HEAD_GET) {
        Sitetree__HeadGet *m = FRAME_UNPACK(&a, &f, head_get, &rc);
        for (unsigned i = 0; m && i < (toy->config.flood ? 1000 : 1); i++)
            effects_send(fx, in->from, CLASS_HEAD, state_frame(t, FRAME_HEAD, f.request, m->generation));
    } else if (f.type == FRAME_LINK_STATE) {
        Sitetree__LinkState *m = FRAME_UNPACK(&a, &f, link_state, &rc);
        if (m && m->parent && m->up)
            ask(toy, t, in, fx);
    }
}

static void on_command(struct toy *toy, struct store_txn *t, const struct input *in, struct effects *fx)
{
    char text[64];
    if (toy->central) {
        uint8_t value[16];
        toy->random->fill(toy->random->ctx, value, sizeof value);
        uint64_t g = counter(t) + 1;
        put_record(t, g, value);
        set_counter(t, g);
        announce(toy, t, fx);
    }
    int n = snprintf(text, sizeof text, "{\"data\":{\"generation\":%llu}}", (unsigned long long)counter(t));
    effects_reply(fx, in->command, false, blob_new(text, (size_t)n));
}

static int toy_make(struct world_process *p, struct store *store, const struct random_source *random,
    const void *config, void **ret_core)
{
    (void)store;
    struct toy *toy = calloc(1, sizeof *toy);
    if (!toy)
        return -ENOMEM;
    toy->p = p;
    toy->config = *(const struct toy_config *)config;
    toy->random = random;
    toy->central = !process_parent(p);
    *ret_core = toy;
    return 0;
}

static int toy_step(void *core, struct store_txn *t, const struct input *in, struct effects *fx)
{
    struct toy *toy = core;
    switch (in->kind) {
    case INPUT_START:
        if (!toy->central)
            effects_timer(fx, TIMER_POLL, (struct mono){in->now.ns + NS_PER_S});
        break;
    case INPUT_FRAME:
        on_frame(toy, t, in, fx);
        break;
    case INPUT_TIMER:
        ask(toy, t, in, fx);
        break;
    case INPUT_COMMAND:
        on_command(toy, t, in, fx);
        break;
    case INPUT_JOB:
    case INPUT_LINK:
    case INPUT_GONE:
        break;
    }
    return store_txn_error(t);
}

static int toy_probe(struct world_process *p, struct store_txn *t, bool deep, struct world_shown *ret_shown)
{
    (void)p;
    struct world_shown s = {.generation = counter(t)};
    if (!s.generation)
        return ERR_NOT_FOUND;
    uint8_t b[8];
    hash_bytes("toy", NULL, be64(s.generation, b), &s.head);
    s.root = s.head;
    if (deep) {
        AUTO_BUF all = {0};
        struct store_walk w = store_walk_from(t, TABLE_RECORDS, view_of("", 0), view_of("", 0));
        while (store_walk_next(&w)) {
            buf_append_view(&all, w.value);
            s.records++;
        }
        hash_bytes("toy", NULL, buf_view(&all), &s.content);
    }
    *ret_shown = s;
    return 0;
}

const struct world_core world_toy = {
    .name = "toy",
    .tables = tables,
    .n_tables = &n_tables,
    .make = toy_make,
    .free = free,
    .step = toy_step,
    .probe = toy_probe,
};

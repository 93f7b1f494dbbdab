/* The whole metadata core under what others send it: the operator's JSON, frames from the parent, a child or
 * the node, what adapters bring, damaged rows in the store. The first byte says whether it is the central
 * site
 * ('m') or one below ('c'); then come steps: a byte for the kind, its arguments, be16 length and bytes. The
 * core may refuse anything, and ends only where the store says that it is damaged; a head that it sends to be
 * signed is signed, so a central site really publishes. */
#include <stdio.h>
#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"
#include "proto/trust.pb-c.h"
#include "proto/worker.pb-c.h"
#include "services/metadata/metadata.h"
#include "services/metadata/source.h"
#include "services/metadata/tables.h"
#include "tests/fuzz/target.h"

#define STEPS_MAX 40
#define TIMERS 32

struct site {
    struct metadata *m;
    struct store *store;
    struct mono now;
    struct wall wall;
    struct mono timers[TIMERS];
    struct blob *to_sign;
    uint64_t asked; /* number of its last request to the parent */
    unsigned job;   /* its last job; 0: none */
    uint8_t seed;
    bool central, damaged;
};

static struct sign_key key;
static struct hash hierarchy;

static void count_up(void *ctx, void *out, size_t len)
{
    struct site *s = ctx;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = s->seed++;
}

static void sent(struct site *s, const struct effect *e)
{
    struct frame f;
    PROMISE(frame_parse(blob_view(e->frame), &f) == 0);
    if (e->to.kind == PEER_PARENT)
        s->asked = f.request;
    if (e->to.kind == PEER_NODE && f.type == FRAME_SIGN_HEAD) {
        blob_free(s->to_sign);
        s->to_sign = blob_ref(e->frame);
    }
}

static void perform(struct site *s, const struct effects *fx)
{
    for (size_t i = 0; i < fx->n; i++) {
        const struct effect *e = &fx->list[i];
        if (e->kind == EFFECT_SEND)
            sent(s, e);
        else if (e->kind == EFFECT_TIMER && e->timer < TIMERS)
            s->timers[e->timer] = e->at;
        else if (e->kind == EFFECT_JOB)
            s->job = e->timer;
        else if (e->kind == EFFECT_REPLY)
            PROMISE(text_is_clean(blob_view(e->frame)));
    }
}

/* With what a damaged store, or a node that tells nonsense, ends it. */
static bool may_end(int rc)
{
    return rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_MALFORMED || rc == ERR_SIGNATURE ||
           rc == ERR_KEY || rc == ERR_ROOT || rc == ERR_TOO_LARGE || rc == ERR_NOT_FOUND ||
           rc == -ENOMEM; /* which is what jansson makes of a name that is not UTF-8 */
}

static void start(struct site *s);

static void step(struct site *s, struct input *in)
{
    struct store_txn *txn;
    struct effects fx = {0};
    in->now = s->now;
    in->wall = s->wall;
    PROMISE(store_begin(s->store, true, &txn) == 0);
    int rc = metadata_step(s->m, txn, in, &fx);
    if (rc)
        store_abort(txn);
    else
        PROMISE(store_commit(txn) == 0);
    if (rc && !(s->damaged && may_end(rc))) {
        fprintf(stderr, "the core ended: %s: %s\n", err_word(rc), err_text(rc));
        abort();
    }
    if (rc == 0)
        perform(s, &fx);
    effects_done(&fx);
    if (rc) { /* it would end here for good or start again: either way nothing more is asked of it */
        metadata_free(s->m);
        s->m = NULL;
    }
}

static void frame_in(struct site *s, enum peer_kind from, struct blob *frame)
{
    struct input in = {.kind = INPUT_FRAME, .from = {from, from == PEER_CHILD}, .frame = frame};
    if (!frame)
        return;
    in.body = blob_view(frame);
    if (from == PEER_CHILDREN)
        in.topic = view_str("metadata/local/acme");
    if (s->m)
        step(s, &in);
    blob_free(frame);
}

static void sign(const char *domain, struct view payload, Sitetree__Signed *ret, uint8_t signature[64])
{
    sign_detached(&key, domain, payload, signature);
    *ret = (Sitetree__Signed)SITETREE__SIGNED__INIT;
    ret->payload = pb_bytes(payload);
    ret->signature = pb_bytes(view_of(signature, 64));
    ret->key = pb_bytes(view_of(key.public, 32));
}

/* What the node does with a head: signs it and sends it back. */
static void sign_heads(struct site *s)
{
    for (int i = 0; s->m && s->to_sign && i < 8; i++) {
        struct blob *asked = s->to_sign;
        struct frame f;
        AUTO_ARENA a;
        int rc;
        uint8_t signature[64];
        Sitetree__Signed m;
        s->to_sign = NULL;
        arena_init(&a);
        PROMISE(frame_parse(blob_view(asked), &f) == 0);
        Sitetree__SignHead *h = FRAME_UNPACK(&a, &f, sign_head, &rc);
        PROMISE(h != NULL);
        sign("head", pb_view(h->payload), &m, signature);
        frame_in(s, PEER_NODE, frame_pack(FRAME_SIGNED_HEAD, CLASS_HEAD, f.request, NULL, &m.base, false));
        blob_free(asked);
    }
}

static void start(struct site *s)
{
    struct metadata_options opt;
    Sitetree__SiteInfo info = SITETREE__SITE_INFO__INIT;
    struct random_source random = {count_up, s};
    static struct random_source kept;
    kept = random;
    metadata_options_default(&opt);
    opt.schedule_ns = 0;
    snprintf(opt.apt_dir, sizeof opt.apt_dir, "/nowhere");
    memset(s->timers, 0, sizeof s->timers);
    PROMISE(metadata_new(&opt, s->store, &kept, &s->m) == 0);
    struct input in = {.kind = INPUT_START};
    step(s, &in);
    if (!s->m)
        return;
    info.hierarchy = pb_bytes(view_of(hierarchy.b, 32));
    info.site = (char *)(uintptr_t)(s->central ? "CEN" : "P01");
    info.tier = (char *)(uintptr_t)(s->central ? "central" : "primary");
    info.parent = (char *)(uintptr_t)(s->central ? "" : "CEN");
    info.central_site = (char *)(uintptr_t) "CEN";
    info.central = s->central;
    info.head_key = pb_bytes(view_of(key.public, 32));
    info.trust_version = 1;
    frame_in(s, PEER_NODE, frame_pack(FRAME_SITE_INFO, CLASS_HEAD, 0, NULL, &info.base, false));
    if (s->central || !s->m)
        return;
    Sitetree__LinkState up = SITETREE__LINK_STATE__INIT;
    up.parent = up.up = true;
    up.site = (char *)(uintptr_t) "CEN";
    frame_in(s, PEER_NODE, frame_pack(FRAME_LINK_STATE, CLASS_HEAD, 0, NULL, &up.base, false));
}

/* A head of this content that the central site signed, as the answer to the last request. */
static void head_in(struct site *s, struct view given)
{
    struct reader r = reader_of(given);
    struct view payload = read_bytes(&r, read_be16(&r));
    Sitetree__HeadBytes m = SITETREE__HEAD_BYTES__INIT;
    Sitetree__Signed head;
    uint8_t signature[64];
    struct hash root;
    AUTO_BUF packed = {0};
    AUTO_ARENA a;
    int rc;
    arena_init(&a);
    Sitetree__Head *h = r.bad ? NULL : MESSAGE_UNPACK(&a, payload, 512, head, &rc);
    if (!h)
        return;
    hash_bytes("sitetree-scopes", NULL, r.rest, &root);
    h->root = pb_bytes(view_of(root.b, 32));
    h->hierarchy = pb_bytes(view_of(hierarchy.b, 32));
    message_pack(&h->base, &packed);
    sign("head", buf_view(&packed), &head, signature);
    m.head = &head;
    m.scopes = pb_bytes(r.rest);
    frame_in(s, PEER_PARENT, frame_pack(FRAME_HEAD, CLASS_HEAD, s->asked, NULL, &m.base, false));
}

static void job_ends(struct site *s, int status, struct view body)
{
    struct input in = {.kind = INPUT_JOB, .timer = s->job, .status = status, .body = body};
    if (status == 0) {
        json_t *list = json_loadb((const char *)body.data, body.len, 0, NULL);
        struct source_set *set = source_new();
        PROMISE(set != NULL);
        for (size_t i = 0; i < json_array_size(list); i++)
            (void)!update_from_json(json_array_get(list, i), "acme", set);
        json_decref(list);
        source_sort(set);
        in.result = set;
    }
    step(s, &in);
}

static void command(struct site *s, struct view text)
{
    struct input in = {.kind = INPUT_COMMAND, .command = 1, .body = text};
    step(s, &in);
}

static void time_passes(struct site *s)
{
    unsigned first = TIMERS;
    for (unsigned t = 0; t < TIMERS; t++)
        if (s->timers[t].ns && (first == TIMERS || s->timers[t].ns < s->timers[first].ns))
            first = t;
    if (first == TIMERS)
        return;
    struct input in = {.kind = INPUT_TIMER, .timer = first};
    if (s->timers[first].ns > s->now.ns) {
        s->wall.ns += s->timers[first].ns - s->now.ns;
        s->now = s->timers[first];
    }
    s->timers[first].ns = 0;
    step(s, &in);
}

/* A row as a bad disk, or an older program, may leave it. */
static void damage(struct site *s, unsigned table, struct view v)
{
    struct reader r = reader_of(v);
    struct view k = read_bytes(&r, read_u8(&r));
    struct store_txn *txn;
    if (r.bad || k.len == 0)
        return;
    s->damaged = true;
    PROMISE(store_begin(s->store, true, &txn) == 0);
    if (r.rest.len)
        store_put(txn, table % TABLE_COUNT, k, r.rest);
    else
        store_del(txn, table % TABLE_COUNT, k);
    PROMISE(store_commit(txn) == 0);
}

static void restart(struct site *s)
{
    metadata_free(s->m);
    start(s);
}

static void run(struct site *s, struct reader *r)
{
    static const enum peer_kind peers[] = {PEER_PARENT, PEER_CHILD, PEER_NODE, PEER_CHILDREN};
    uint8_t kind = read_u8(r), a = read_u8(r), b = read_u8(r);
    struct view v = read_bytes(r, read_be16(r));
    if (r->bad)
        return;
    switch (kind % 8) {
    case 0:
        command(s, v);
        break;
    case 1: /* a: type, b: from whom; what the parent answers has the number that it was asked with */
        if (strcmp(frame_type_word(a), "unknown") == 0)
            break;
        s->damaged |= peers[b % 4] == PEER_NODE; /* our own node, which says nothing wrong: it may end then */
        frame_in(s, peers[b % 4],
            frame_wrap((enum frame_type)a, CLASS_HEAD, b % 4 == 0 ? s->asked : b, NULL, v, false));
        break;
    case 2:
        time_passes(s);
        break;
    case 3:
        job_ends(s, a == 0 ? 0 : a == 1 ? 1 : ERR_UPSTREAM, v);
        break;
    case 4:
        head_in(s, v);
        break;
    case 5:
        damage(s, a, v);
        break;
    case 6:
        restart(s);
        break;
    case 7:
        s->now.ns += (int64_t)a * NS_PER_S;
        s->wall.ns += (int64_t)a * NS_PER_S;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t seed[32] = {1};
    struct store_options opt = {.tables = metadata_tables, .n_tables = metadata_n_tables};
    struct site s = {.now = {NS_PER_S}, .wall = {INT64_C(1795000000) * NS_PER_S}};
    struct reader r = reader_of(view_of(data, len));
    if (crypto_init())
        return 0;
    sign_key_from_seed(seed, &key);
    hierarchy_id(key.public, &hierarchy);
    s.central = read_u8(&r) == 'm';
    PROMISE(store_open_memory(&opt, &s.store) == 0);
    start(&s);
    sign_heads(&s);
    for (int i = 0; i < STEPS_MAX && s.m && r.rest.len && !r.bad; i++) {
        run(&s, &r);
        sign_heads(&s);
    }
    metadata_free(s.m);
    blob_free(s.to_sign);
    store_close(s.store);
    return 0;
}

#include "tests/lib/world_hostile.h"

#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "tests/lib/world_catalogue.h"
#include "tests/lib/world_internal.h"

#define OLD_TYPES 40u /* all that go over a link */
#define OLD_KEPT 8u
#define HOLD_MOST (600 * NS_PER_S)
#define TICK_MOST (60 * NS_PER_S)

struct hostile {
    unsigned attacks;
    bool ticking;
    struct blob *old[OLD_TYPES][OLD_KEPT];
};

static const char *const words[ATTACK_COUNT] = {
    "replay", "fork", "omit", "mix", "alter", "drip", "endless", "forward", "scope", "trust", "loop"};

const char *world_attack_word(enum world_attack a)
{
    return words[a];
}

unsigned world_attacks_made(struct world *w, enum world_attack a)
{
    return w->attacks_made[a];
}

/* What an attack makes of a frame: 0 where it can do nothing with it, so that it passes. */
struct attack {
    struct world *w;
    struct world_link *l;
    struct hostile *h;
    struct event *e;
    struct frame f;
    struct arena arena;
    struct blob *out; /* comes in place of the frame; NULL: nothing */
};

static uint64_t dice(struct attack *a, uint64_t below)
{
    return chance_below(&a->w->chance, below);
}

static void keep(struct world *w, struct hostile *h, unsigned type, struct blob *frame)
{
    if (type >= OLD_TYPES)
        return;
    struct blob **slot = &h->old[type][chance_below(&w->chance, OLD_KEPT)];
    blob_free(*slot);
    *slot = blob_ref(frame);
}

/* Something of this type that went by before; NULL: nothing yet. */
static struct blob *any_old(struct attack *a, unsigned type)
{
    for (unsigned i = 0, at = (unsigned)dice(a, OLD_KEPT); type < OLD_TYPES && i < OLD_KEPT; i++)
        if (a->h->old[type][(at + i) % OLD_KEPT])
            return a->h->old[type][(at + i) % OLD_KEPT];
    return NULL;
}

/* A copy under another request number. */
static struct blob *answering(struct blob *frame, uint64_t request)
{
    struct view v = blob_view(frame);
    AUTO_BUF b = {0};
    buf_append(&b, v.data, 8);
    buf_be64(&b, request);
    buf_append(&b, v.data + 16, v.len - 16);
    return blob_take(&b);
}

static struct blob *packed(struct attack *a, const ProtobufCMessage *m)
{
    return frame_pack(a->f.type, a->f.lane, a->f.request, &a->f.epoch, m, dice(a, 2));
}

static void *unpack_old(struct attack *a, unsigned type, const ProtobufCMessageDescriptor *d)
{
    struct frame f;
    int rc;
    struct blob *b = any_old(a, type);
    return b && frame_parse(blob_view(b), &f) == 0 ? frame_unpack(&a->arena, &f, d, &rc) : NULL;
}
#define OLD(a, type, message) unpack_old((a), (type), &sitetree__##message##__descriptor)

/* Over the link at once, whatever the queues hold. */
static void inject(struct attack *a, struct blob *frame, bool hint, int64_t after)
{
    if (!frame)
        return;
    struct event *e = event_new(a->w, EVENT_ARRIVE, a->w->now + after);
    e->link = a->l;
    e->down = e->forged = true;
    e->hint = hint;
    e->connection = a->l->connection;
    e->frame = frame;
    memcpy(e->topic, hint ? "metadata/-" : "", hint ? sizeof "metadata/-" : 1);
    event_push(a->w, e);
}

static bool replay(struct attack *a)
{
    struct blob *old = a->e->down ? any_old(a, a->f.type) : NULL;
    if (!old)
        return false;
    a->out = answering(old, a->f.request);
    return true;
}

static bool omit(struct attack *a)
{
    a->out = NULL;
    return a->e->down || a->f.type >= FRAME_HEAD_GET || a->f.type == FRAME_REPORTS;
}

static bool drip(struct attack *a)
{
    struct event *late =
        event_new(a->w, EVENT_ARRIVE, a->w->now + chance_between(&a->w->chance, NS_PER_S, HOLD_MOST));
    late->link = a->l;
    late->down = a->e->down;
    late->hint = a->e->hint;
    late->lane = a->e->lane;
    late->connection = a->e->connection;
    late->forged = true;
    late->frame = blob_ref(a->e->frame);
    memcpy(late->topic, a->e->topic, sizeof late->topic);
    event_push(a->w, late);
    a->out = NULL;
    return true;
}

static void turn_bits(struct attack *a, uint8_t *data, size_t len)
{
    for (uint64_t i = 1 + dice(a, 3); i-- > 0 && len;)
        data[dice(a, len)] ^= (uint8_t)(1u << dice(a, 8));
}

static bool alter(struct attack *a)
{
    struct view v = blob_view(a->e->frame);
    AUTO_BUF b = {0};
    if (!a->e->down)
        return false; /* what a child says is its parent's to judge; and the parent is hostile */
    if (a->f.type == FRAME_SYNC_REQUEST)
        a->l->child->lied_to = true;
    if (dice(a, 2)) {
        buf_append_view(&b, v);
        turn_bits(a, b.data, b.len);
        a->out = blob_take(&b);
        return true;
    }
    if (!(a->f.flags & FRAME_ZSTD))
        buf_append_view(&b, a->f.body);
    else if (zstd_unpack(a->f.body, a->f.raw_len, &b))
        return false;
    turn_bits(a, b.data, b.len);
    a->out = frame_wrap(a->f.type, a->f.lane, a->f.request, &a->f.epoch, buf_view(&b), dice(a, 2));
    return a->out != NULL;
}

/* Heads. */

static Sitetree__HeadBytes *head_in(struct attack *a, Sitetree__Hint **ret_hint)
{
    int rc;
    *ret_hint = NULL;
    if (a->f.type == FRAME_HEAD && a->f.body.len)
        return FRAME_UNPACK(&a->arena, &a->f, head_bytes, &rc);
    if (a->f.type != FRAME_HINT)
        return NULL;
    *ret_hint = FRAME_UNPACK(&a->arena, &a->f, hint, &rc);
    return *ret_hint ? (*ret_hint)->head : NULL;
}

static bool mix_heads(struct attack *a)
{
    Sitetree__Hint *hint, *old_hint = OLD(a, FRAME_HINT, hint);
    Sitetree__HeadBytes *now = head_in(a, &hint), *old = old_hint ? old_hint->head : NULL;
    if (!now || !old)
        return false;
    if (dice(a, 2))
        now->scopes = old->scopes;
    else
        now->head = old->head;
    if (hint && dice(a, 2)) {
        hint->deltas = old_hint->deltas;
        hint->n_deltas = old_hint->n_deltas;
    }
    a->out = packed(a, hint ? &hint->base : &now->base);
    return a->out != NULL;
}

static bool mix_deltas(struct attack *a)
{
    int rc;
    Sitetree__DeltaReply *now = FRAME_UNPACK(&a->arena, &a->f, delta_reply, &rc);
    Sitetree__DeltaReply *old = OLD(a, FRAME_DELTA_REPLY, delta_reply);
    if (!now || !old || !now->n_deltas || !old->n_deltas)
        return false;
    Sitetree__DeltaBytes *to = now->deltas[dice(a, now->n_deltas)],
                         *from = old->deltas[dice(a, old->n_deltas)];
    to->zstd = from->zstd;
    to->raw_length = from->raw_length;
    if (dice(a, 2))
        now->n_deltas = (size_t)dice(a, now->n_deltas + 1); /* a hole at the end of the list */
    a->out = packed(a, &now->base);
    return a->out != NULL;
}

static bool mix_pages(struct attack *a)
{
    int rc;
    Sitetree__PageReply *now = FRAME_UNPACK(&a->arena, &a->f, page_reply, &rc);
    Sitetree__PageReply *old = OLD(a, FRAME_PAGE_REPLY, page_reply);
    if (!now || !now->n_pages)
        return false;
    if (old && !old->n_pages)
        old = NULL;
    Sitetree__PageBytes *to = now->pages[dice(a, now->n_pages)];
    Sitetree__PageBytes *from = old ? old->pages[dice(a, old->n_pages)] : now->pages[dice(a, now->n_pages)];
    switch (dice(a, 3)) {
    case 0: /* another page under this name */
        to->data = from->data;
        to->raw_length = from->raw_length;
        break;
    case 1: /* this page at another place */
        to->place = from->place;
        break;
    default: { /* the order */
        Sitetree__PageBytes *first = now->pages[0];
        now->pages[0] = now->pages[now->n_pages - 1];
        now->pages[now->n_pages - 1] = first;
        break;
    }
    }
    a->out = packed(a, &now->base);
    return a->out != NULL;
}

static bool mix(struct attack *a)
{
    if (!a->e->down)
        return false;
    switch (a->f.type) {
    case FRAME_HEAD:
    case FRAME_HINT:
        return mix_heads(a);
    case FRAME_DELTA_REPLY:
        return mix_deltas(a);
    case FRAME_PAGE_REPLY:
        return mix_pages(a);
    default:
        return false;
    }
}

static char *other_scope(struct attack *a, const char *scope)
{
    static char names[][24] = {"test/up", "test/two", "test/nowhere", ""};
    for (;;) {
        char *name = names[dice(a, COUNT_OF(names))];
        if (strcmp(name, scope) != 0)
            return name;
    }
}

static bool rename_scope(struct attack *a)
{
    int rc;
    Sitetree__Hint *hint;
    Sitetree__HeadBytes *head = a->e->down ? head_in(a, &hint) : NULL;
    if (head && hint && hint->n_deltas) {
        Sitetree__DeltaBytes *d = hint->deltas[dice(a, hint->n_deltas)];
        d->scope = other_scope(a, d->scope);
        a->out = packed(a, &hint->base);
    } else if (head) {
        Sitetree__ScopeList *list =
            MESSAGE_UNPACK(&a->arena, pb_view(head->scopes), 4u << 20, scope_list, &rc);
        AUTO_BUF bytes = {0};
        if (!list || !list->n_scopes)
            return false;
        list->scopes[0]->name = other_scope(a, list->scopes[0]->name);
        message_pack(&list->base, &bytes);
        head->scopes = pb_bytes(buf_view(&bytes));
        a->out = packed(a, hint ? &hint->base : &head->base);
    } else if (a->e->down && a->f.type == FRAME_DELTA_REPLY) {
        Sitetree__DeltaReply *now = FRAME_UNPACK(&a->arena, &a->f, delta_reply, &rc);
        for (size_t i = 0; now && i < now->n_deltas; i++)
            now->deltas[i]->scope = other_scope(a, now->deltas[i]->scope);
        a->out = now ? packed(a, &now->base) : NULL;
    } else if (!a->e->down && (a->f.type == FRAME_PAGE_GET || a->f.type == FRAME_DELTA_GET)) {
        /* the question is turned into one for another scope: so the honest answer is to that */
        Sitetree__PageGet *pages = NULL;
        Sitetree__DeltaGet *deltas = NULL;
        if (a->f.type == FRAME_PAGE_GET && (pages = FRAME_UNPACK(&a->arena, &a->f, page_get, &rc)))
            pages->scope = other_scope(a, pages->scope);
        else if (a->f.type == FRAME_DELTA_GET && (deltas = FRAME_UNPACK(&a->arena, &a->f, delta_get, &rc)))
            deltas->scope = other_scope(a, deltas->scope);
        a->out = pages ? packed(a, &pages->base) : deltas ? packed(a, &deltas->base) : NULL;
    }
    return a->out != NULL;
}

/* A forged head as a hint, or as the answer to the question for one. */
static bool give_head(struct attack *a, struct blob *hint_frame)
{
    if (!hint_frame)
        return false;
    struct frame f;
    int rc;
    Sitetree__Hint *hint =
        frame_parse(blob_view(hint_frame), &f) ? NULL : FRAME_UNPACK(&a->arena, &f, hint, &rc);
    if (a->e && a->f.type == FRAME_HEAD && hint)
        a->out = packed(a, &hint->head->base);
    else
        inject(a, blob_ref(hint_frame), true, IPC_LATENCY);
    bool replaced = a->out != NULL;
    blob_free(hint_frame);
    if (!replaced && a->e)
        a->out = blob_ref(a->e->frame); /* the honest frame comes as well */
    return true;
}

static bool fork_head(struct attack *a)
{
    static const struct world_forgery kinds[] = {
        {.expires = 86400 * NS_PER_S},
        {.generation = 1, .other_previous = true},
        {.generation = 1, .other_epoch = true},
        {.generation = -1},
    };
    return (!a->e || a->e->down) &&
           give_head(a, world_forge(a->w, a->l->child->code, &kinds[dice(a, COUNT_OF(kinds))]));
}

static bool forward(struct attack *a)
{
    static const struct world_forgery kinds[] = {
        {.generation = INT64_C(1) << 40, .other_key = true},
        {.generation = INT64_C(1) << 40, .bad_signature = true},
        {.generation = INT64_C(1) << 62, .other_key = true, .other_epoch = true},
    };
    return (!a->e || a->e->down) &&
           give_head(a, world_forge(a->w, a->l->child->code, &kinds[dice(a, COUNT_OF(kinds))]));
}

static bool old_trust(struct attack *a)
{
    static const struct world_forgery kinds[] = {
        {.generation = 1, .other_key = true, .trust = WORLD_TRUST_OLD},
        {.generation = 1, .old_key = true},
        {.generation = 1, .other_key = true, .trust = WORLD_TRUST_FOREIGN},
        {.generation = 1, .other_key = true, .trust = WORLD_TRUST_UNSIGNED},
    };
    const struct world_forgery *f = &kinds[dice(a, COUNT_OF(kinds))];
    if (f->old_key && a->l->child->checked_trust != a->w->trust_version)
        return false; /* a key that was stolen and withdrawn since deceives whoever has not heard of it */
    return (!a->e || a->e->down) && give_head(a, world_forge(a->w, a->l->child->code, f));
}

static struct blob *garbage(struct attack *a, unsigned type, uint64_t request, size_t len)
{
    AUTO_BUF b = {0};
    buf_be16(&b, 0x5354);
    buf_u8(&b, FRAME_VERSION);
    buf_u8(&b, CLASS_BULK);
    buf_be16(&b, (uint16_t)type);
    buf_be16(&b, dice(a, 4) ? 0 : FRAME_ZSTD);
    buf_be64(&b, request);
    buf_be32(&b, (uint32_t)len);
    buf_be32(&b, (uint32_t)len);
    for (size_t i = 0; i < len + 16; i += 8)
        buf_be64(&b, i < len ? chance_next(&a->w->chance) : 0);
    b.len = FRAME_HEADER_LEN + len;
    return blob_take(&b);
}

/* Every page that ever went by, behind those that were asked for. */
static struct blob *many_pages(struct attack *a)
{
    int rc;
    Sitetree__PageReply *now = FRAME_UNPACK(&a->arena, &a->f, page_reply, &rc);
    Sitetree__PageBytes *all[512];
    size_t n = 0, bytes = 0;
    for (size_t i = 0; now && i < now->n_pages && n < COUNT_OF(all); i++, n++)
        bytes += (all[n] = now->pages[i])->data.len;
    for (unsigned k = 0; now && k < OLD_KEPT; k++) {
        struct frame f;
        struct blob *b = a->h->old[FRAME_PAGE_REPLY][k];
        Sitetree__PageReply *old =
            b && frame_parse(blob_view(b), &f) == 0 ? FRAME_UNPACK(&a->arena, &f, page_reply, &rc) : NULL;
        for (size_t i = 0; old && i < old->n_pages && n < COUNT_OF(all) && bytes < 300000; i++, n++)
            bytes += (all[n] = old->pages[i])->data.len;
    }
    if (!now)
        return NULL;
    now->pages = all;
    now->n_pages = n;
    return packed(a, &now->base);
}

static bool endless(struct attack *a)
{
    if (!a->e->down)
        return false;
    if (a->f.type == FRAME_PAGE_REPLY)
        a->out = many_pages(a);
    if (!a->out)
        a->out = blob_ref(a->e->frame);
    for (uint64_t i = 2 + dice(a, 10); i-- > 0;) {
        uint64_t request = dice(a, 2) ? a->f.request : chance_next(&a->w->chance);
        unsigned type = dice(a, 3) ? a->f.type : (unsigned)dice(a, 100);
        struct blob *old = dice(a, 2) ? any_old(a, a->f.type) : NULL;
        struct blob *frame = old ? answering(old, request)
                                 : garbage(a, type, request, dice(a, dice(a, 16) ? 2000 : FRAME_MAX / 4));
        inject(a, frame, a->e->hint, (int64_t)dice(a, NS_PER_S));
    }
    return true;
}

static bool loop(struct attack *a)
{
    int rc;
    char *path[16];
    Sitetree__Welcome *m =
        a->f.type == FRAME_WELCOME && a->e->down ? FRAME_UNPACK(&a->arena, &a->f, welcome, &rc) : NULL;
    if (!m || m->n_path + 1 > COUNT_OF(path))
        return false;
    path[0] = a->l->child->code;
    memcpy(path + 1, m->path, m->n_path * sizeof *path);
    m->path = path;
    m->n_path++;
    a->out = packed(a, &m->base);
    return a->out != NULL;
}

static bool (*const attacks[ATTACK_COUNT])(struct attack *a) = {
    replay, fork_head, omit, mix, alter, drip, endless, forward, rename_scope, old_trust, loop};

static bool attack(struct attack *a, enum world_attack which)
{
    arena_init(&a->arena);
    bool done = attacks[which](a);
    arena_done(&a->arena);
    if (done) {
        a->w->attacks_made[which]++;
        trace(a->w, a->l->parent, "attack on %s: %s %s", a->l->child->code, words[which],
            a->e ? frame_type_word(a->f.type) : "");
    }
    return done;
}

bool hostile_arrive(struct world_link *l, struct event *e)
{
    struct hostile *h = l->parent->hostile;
    struct attack a = {.w = l->w, .l = l, .h = h, .e = e};
    if (!h || e->forged || frame_parse(blob_view(e->frame), &a.f))
        return true;
    unsigned first = (unsigned)chance_below(&l->w->chance, 2 * ATTACK_COUNT); /* half of all passes */
    struct blob *honest = blob_ref(e->frame);
    bool pass = true;
    for (unsigned i = 0; h->attacks && first < ATTACK_COUNT && i < ATTACK_COUNT; i++) {
        enum world_attack which = (first + i) % ATTACK_COUNT;
        if (!(h->attacks & (1u << which)) || !attack(&a, which))
            continue;
        pass = a.out != NULL;
        if (pass) {
            blob_free(e->frame);
            e->frame = a.out;
        }
        break;
    }
    if (e->down)
        keep(l->w, h, a.f.type, honest);
    blob_free(honest);
    return pass;
}

/* Now and then something that nobody asked for. */
static void tick(struct world *w, void *ctx)
{
    struct world_site *s = ctx;
    struct hostile *h = s->hostile;
    h->ticking = false;
    if (!h->attacks)
        return;
    for (unsigned i = 0; i < w->n_sites; i++) {
        struct world_link *l = w->sites[i]->up_link;
        static const enum world_attack unasked[] = {ATTACK_FORK, ATTACK_FORWARD, ATTACK_TRUST, ATTACK_REPLAY};
        enum world_attack which = unasked[chance_below(&w->chance, COUNT_OF(unasked))];
        struct attack a = {.w = w, .l = l, .h = h};
        if (!l || l->parent != s || !l->connected || !(h->attacks & (1u << which)))
            continue;
        if (which != ATTACK_REPLAY) {
            attack(&a, which);
            continue;
        }
        static const unsigned types[] = {FRAME_HINT, FRAME_SYNC_REQUEST};
        struct blob *old = any_old(&a, types[chance_below(&w->chance, 2)]);
        if (old)
            inject(&a, blob_ref(old), true, IPC_LATENCY);
    }
    h->ticking = true;
    world_at(w, w->now + chance_between(&w->chance, NS_PER_S, TICK_MOST), tick, s);
}

void hostile_free(struct hostile *h)
{
    for (unsigned t = 0; h && t < OLD_TYPES; t++)
        for (unsigned i = 0; i < OLD_KEPT; i++)
            blob_free(h->old[t][i]);
    free(h);
}

void world_hostile(struct world *w, const char *code, unsigned which)
{
    struct world_site *s = site_find(w, code);
    if (!s->hostile)
        s->hostile = must(calloc(1, sizeof *s->hostile));
    s->hostile->attacks = which;
    trace(w, s, which ? "becomes hostile (%#x)" : "behaves (%#x)", which);
    if (which && !s->hostile->ticking) {
        s->hostile->ticking = true;
        world_at(w, w->now + chance_between(&w->chance, NS_PER_S, TICK_MOST), tick, s);
    }
}

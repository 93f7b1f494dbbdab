#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "proto/worker.pb-c.h"
#include "services/metadata/head.h"
#include "services/metadata/tree.h"
#include "tests/lib/world_catalogue_internal.h"
#include "tests/lib/world_internal.h"

/* The properties of protocol.md 1 that need to know the catalogue, after every step. P2 and P3 and the other
 * half of P1 are in world_check.c, P7 in world_pages.c, P11 in world_check.c, and P4 and P12 are what a
 * scenario ends with: equal without anybody's act. A second centre (world_twin) is a liar that nobody checks.
 */

static const struct signed_once *find_signed(
    const struct upstreams *us, const struct epoch *epoch, uint64_t generation)
{
    for (size_t i = us->n_signed; i-- > 0;)
        if (us->signed_heads[i].generation == generation && epoch_eq(&us->signed_heads[i].epoch, epoch))
            return &us->signed_heads[i];
    return NULL;
}

static bool head_of(struct view payload, struct signed_once *ret_s)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Head *h = MESSAGE_UNPACK(&a, payload, 512, head, &rc);
    if (!h || h->epoch.len != 16)
        return false;
    *ret_s = (struct signed_once){
        .generation = h->generation, .counter = h->epoch_counter, .trust = h->trust_version};
    memcpy(ret_s->epoch.b, h->epoch.data, 16);
    head_hash(payload, &ret_s->head);
    return true;
}

/* P1: whatever dies in between, one generation is signed for one content only. */
void properties_signed(struct world *w, struct view payload)
{
    struct upstreams *us = upstreams_of(w);
    struct signed_once s;
    if (!head_of(payload, &s))
        return;
    const struct signed_once *was = find_signed(us, &s.epoch, s.generation);
    if (was && !hash_eq(&was->head, &s.head))
        world_break(w, "P1", "generation %llu is signed for two contents", (unsigned long long)s.generation);
    if (was)
        return;
    us->signed_heads = must(realloc(us->signed_heads, (us->n_signed + 1) * sizeof s));
    us->signed_heads[us->n_signed++] = s;
}

static void note_signed(struct world *w, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Signed *m = FRAME_UNPACK(&a, f, signed, &rc);
    if (m)
        properties_signed(w, pb_view(m->payload));
}

/* Of what is in it: a frame of zstd has bits that say nothing, and the head binds the content. */
static uint64_t delta_id(const Sitetree__DeltaBytes *d)
{
    char name[160];
    AUTO_BUF raw = {0};
    snprintf(name, sizeof name, "%.100s %llu %u", d->scope, (unsigned long long)d->serial, d->raw_length);
    if (zstd_unpack(pb_view(d->zstd), d->raw_length, &raw))
        return seen_hash(view_str(name), pb_view(d->zstd));
    return seen_hash(view_str(name), buf_view(&raw));
}

/* P9: whatever a site passes on was made by the central site, byte for byte. */
static void check_deltas(struct world_process *p, Sitetree__DeltaBytes *const *list, size_t n)
{
    struct upstreams *us = upstreams_of(p->w);
    for (size_t i = 0; i < n; i++) {
        uint64_t id = delta_id(list[i]);
        if (!p->site->parent)
            seen_add(&us->deltas, id);
        else if (!seen_has(&us->deltas, id))
            world_break(p->w, "P9", "%s passes on a delta of %s that the first site never sent",
                p->site->code, list[i]->scope);
    }
}

/* P9 as well, and P5: the origin, and whoever answers a question, has committed what it tells of. (A hint,
 * and a head that goes up, may go ahead of that: whoever passes it on claims nothing.) */
static void check_head(struct world_process *p, const Sitetree__HeadBytes *m, bool passed_on)
{
    struct signed_once s;
    if (!m || !m->head || !head_of(pb_view(m->head->payload), &s))
        return;
    const struct signed_once *was = find_signed(upstreams_of(p->w), &s.epoch, s.generation);
    struct hash root;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Head *h = MESSAGE_UNPACK(&a, pb_view(m->head->payload), 512, head, &rc);
    head_scopes_root(pb_view(m->scopes), &root);
    if (!was || !hash_eq(&was->head, &s.head))
        world_break(p->w, "P9", "%s passes on a head of generation %llu that was never signed", p->site->code,
            (unsigned long long)s.generation);
    else if (!h || h->root.len != 32 || memcmp(h->root.data, root.b, 32) != 0)
        world_break(p->w, "P9", "%s passes on a scope list that is not that of generation %llu",
            p->site->code, (unsigned long long)s.generation);
    const struct signed_once *now =
        p->has_shown ? find_signed(upstreams_of(p->w), &p->shown.epoch, p->shown.generation) : NULL;
    bool held = was && now &&
                (epoch_eq(&s.epoch, &now->epoch) ? s.generation <= now->generation
                                                 : was->trust < now->trust || was->counter < now->counter);
    if (!held && !(passed_on && p->site->parent))
        world_break(p->w, "P5", "%s tells of generation %llu and has committed %llu", p->site->code,
            (unsigned long long)s.generation, (unsigned long long)p->shown.generation);
}

/* P5: a request is in the store before it is acknowledged (by the id that services/metadata/run_below.c gives
 * it). */
static void note_request(struct world_site *s, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    AUTO_BUF text = {0};
    struct hash id;
    Sitetree__SyncRequest *m = FRAME_UNPACK(&a, f, sync_request, &rc);
    if (!m)
        return;
    buf_fmt(&text, "%s %llu ", m->run, (unsigned long long)m->generation);
    buf_append_view(&text, pb_view(m->epoch));
    hash_bytes("sitetree-request", NULL, buf_view(&text), &id);
    struct heard_request *r = &s->heard[s->n_heard++ % COUNT_OF(s->heard)];
    snprintf(r->run, sizeof r->run, "%s", m->run);
    memcpy(r->id, id.b, sizeof r->id);
}

static bool is_stored(struct view list, const struct world_site *s, const char *run)
{
    for (unsigned k = 0; k < COUNT_OF(s->heard); k++)
        for (size_t i = 0; strcmp(s->heard[k].run, run) == 0 && i + 8 <= list.len; i += 8)
            if (memcmp(list.data + i, s->heard[k].id, 8) == 0)
                return true;
    return false;
}

static void check_ack(struct world_process *p, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    struct store_txn *t;
    bool stored = false;
    Sitetree__SyncAck *m = FRAME_UNPACK(&a, f, sync_ack, &rc);
    if (!m || store_begin(p->store, false, &t))
        return;
    struct store_walk walk = store_walk_from(t, TABLE_META, view_str("requests/"), view_str("requests/"));
    while (store_walk_next(&walk))
        stored = stored || is_stored(walk.value, p->site, m->run);
    store_abort(t);
    if (!stored)
        world_break(p->w, "P5", "%s acknowledges %s, which is not in its store", p->site->code, m->run);
}

/* P6: a run ends once, and a request of the parent is followed once. */
static void check_once(struct world_process *p, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    char id[320];
    Sitetree__EventNote *m = FRAME_UNPACK(&a, f, event_note, &rc);
    if (!m)
        return;
    bool ends = strcmp(m->name, "sync.succeeded") == 0, request = strcmp(m->name, "sync.requested") == 0;
    if (!ends && !request && strcmp(m->name, "policy.revised") != 0)
        return;
    if (request && p->site->lied_to) /* a parent may ask for what it likes, as often as it likes */
        return;
    snprintf(id, sizeof id, "%s/%u %s %.200s", p->site->code, p->site->times_back, m->name,
        request ? m->text : m->run);
    if (!seen_add(&upstreams_of(p->w)->requests, seen_hash(view_str(id), view_of("", 0))))
        world_break(p->w, "P6", "%s: %s a second time: %s %s", p->site->code, m->name, m->run, m->text);
}

/* P10: what must not wait for bulk does not travel as bulk, and bulk as nothing else. */
static void check_class(struct world_process *p, const struct effect *e, const struct frame *f)
{
    bool bulk = false;
    switch (f->type) {
    case FRAME_DELTA_GET:
    case FRAME_PAGE_GET:
    case FRAME_DELTA_REPLY:
    case FRAME_PAGE_REPLY:
        bulk = true;
        break;
    case FRAME_HEAD:
    case FRAME_HEAD_GET:
    case FRAME_HINT:
    case FRAME_SYNC_REQUEST:
    case FRAME_SYNC_ACK:
    case FRAME_REFUSAL:
        break;
    default:
        return;
    }
    if (bulk ? e->lane != CLASS_BULK : e->lane > CLASS_HEAD)
        world_break(p->w, "P10", "%s sends %s in class %u", p->site->code, frame_type_word(f->type),
            (unsigned)e->lane);
}

static bool may_be_early(unsigned type) /* a question claims nothing, to the parent or to the own node; a hint
                                           is told of in check_head */
{
    return type == FRAME_HINT || type == FRAME_HEAD_GET || type == FRAME_DELTA_GET ||
           type == FRAME_PAGE_GET || type == FRAME_SIGN_HEAD;
}

void properties_on_send(struct world_process *p, const struct effect *e)
{
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (p->site->twin || frame_parse(blob_view(e->frame), &f))
        return;
    check_class(p, e, &f);
    if (e->early && !may_be_early(f.type))
        world_break(p->w, "P5", "%s sends %s before its commit", p->site->code, frame_type_word(f.type));
    switch (f.type) {
    case FRAME_PAGE_GET:
        if (e->to.kind == PEER_PARENT)
            pages_on_get(p, &f);
        break;
    case FRAME_HEAD:
        if (f.body.len)
            check_head(p, FRAME_UNPACK(&a, &f, head_bytes, &rc), e->to.kind == PEER_PARENT);
        break;
    case FRAME_HINT: {
        Sitetree__Hint *m = FRAME_UNPACK(&a, &f, hint, &rc);
        check_head(p, m ? m->head : NULL, true);
        if (e->early && !p->site->parent)
            world_break(p->w, "P5", "%s publishes before its commit", p->site->code);
        check_deltas(p, m ? m->deltas : NULL, m ? m->n_deltas : 0);
        break;
    }
    case FRAME_DELTA_REPLY: {
        Sitetree__DeltaReply *m = FRAME_UNPACK(&a, &f, delta_reply, &rc);
        check_deltas(p, m ? m->deltas : NULL, m ? m->n_deltas : 0);
        break;
    }
    case FRAME_SYNC_ACK:
        check_ack(p, &f);
        break;
    case FRAME_EVENT_NOTE:
        check_once(p, &f);
        break;
    default:
        break;
    }
}

void properties_on_input(struct world_process *p, const struct input *in)
{
    struct frame f;
    if (in->kind == INPUT_FRAME && in->from.kind == PEER_NODE && !p->site->twin &&
        frame_parse(in->body, &f) == 0 && f.type == FRAME_SIGNED_HEAD)
        note_signed(p->w, &f);
    if (in->kind == INPUT_FRAME && frame_parse(in->body, &f) == 0 && f.type == FRAME_SYNC_REQUEST)
        note_request(p->site, &f);
    pages_on_input(p, in);
}

/* P1: what is shown was signed; P2: and no epoch of a lower counter follows. */
static void check_shown(struct world_process *p)
{
    struct world_site *s = p->site;
    if (!p->has_shown || s->twin || (hash_eq(&s->checked_head, &p->shown.head)))
        return;
    const struct signed_once *was = find_signed(upstreams_of(p->w), &p->shown.epoch, p->shown.generation);
    if (!was || !hash_eq(&was->head, &p->shown.head))
        world_break(p->w, "P1", "%s shows generation %llu, which was never signed", s->code,
            (unsigned long long)p->shown.generation);
    else if (was->trust < s->checked_trust ||
             (was->trust == s->checked_trust && was->counter < s->checked_counter))
        world_break(p->w, "P2", "%s goes back to an older epoch", s->code);
    else {
        s->checked_counter = was->counter;
        s->checked_trust = was->trust;
    }
    s->checked_head = p->shown.head;
}

void properties_on_commit(struct world_process *p)
{
    metadata_on_commit(p->core, (struct wall){WALL_START + p->w->now + p->site->skew});
    check_shown(p);
    pages_on_commit(p);
}

/* P8: a table by key of the generation from which on it is a tombstone. (Who is behind may still show it.) */
static struct dead *dead_slot(struct upstreams *us, uint64_t key)
{
    size_t i = key & (us->cap_dead - 1);
    while (us->dead[i].key && us->dead[i].key != key)
        i = (i + 1) & (us->cap_dead - 1);
    return &us->dead[i];
}

void properties_dead(struct world *w, struct view key, uint64_t generation)
{
    struct upstreams *us = upstreams_of(w);
    if (us->n_dead * 2 >= us->cap_dead) {
        struct upstreams bigger = {.cap_dead = us->cap_dead ? us->cap_dead * 2 : 256};
        bigger.dead = must(calloc(bigger.cap_dead, sizeof *bigger.dead));
        for (size_t i = 0; i < us->cap_dead; i++)
            if (us->dead[i].key)
                *dead_slot(&bigger, us->dead[i].key) = us->dead[i];
        free(us->dead);
        us->dead = bigger.dead;
        us->cap_dead = bigger.cap_dead;
    }
    struct dead *d = dead_slot(us, seen_hash(key, view_of("", 0)));
    if (d->key == 0) {
        *d = (struct dead){seen_hash(key, view_of("", 0)), generation};
        us->n_dead++;
    } else if (generation < d->generation) {
        d->generation = generation;
    }
}

void properties_alive(struct world *w, struct view key, uint64_t generation, const char *site)
{
    struct upstreams *us = upstreams_of(w);
    if (us->n_dead == 0 || us->may_return)
        return;
    const struct dead *d = dead_slot(us, seen_hash(key, view_of("", 0)));
    if (d->key && generation >= d->generation)
        world_break(w, "P8", "%s: %.*s was deleted in generation %llu and is back in %llu", site,
            (int)key.len, key.data, (unsigned long long)d->generation, (unsigned long long)generation);
}

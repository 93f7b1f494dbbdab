#include <stdio.h>

#include "proto/catalogue.pb-c.h"
#include "proto/worker.pb-c.h"
#include "tests/lib/world_internal.h"

/* The node's part towards the worker where the world runs without nodes: who the site is, the state of its
 * links, and the signature under a head. The key and the last signed generation outlive crashes, as the
 * node's store does. */

void shim_give_frame(struct world_process *p, struct blob *frame)
{
    struct world *w = p->w;
    struct event *e = event_new(w, EVENT_IPC, w->now + IPC_LATENCY);
    e->proc = p;
    e->life = p->life;
    e->from.kind = PEER_NODE;
    e->frame = must(frame);
    event_push(w, e);
}

void shim_site_info(struct world_process *p)
{
    struct world *w = p->w;
    struct world_site *s = p->site;
    Sitetree__SiteInfo m = SITETREE__SITE_INFO__INIT;
    m.hierarchy = pb_bytes(view_of(w->hierarchy.b, sizeof w->hierarchy.b));
    m.site = s->code;
    m.tier = s->parent ? (char *)"branch" : (char *)"central";
    m.parent = s->parent ? s->parent->code : (char *)"";
    m.central = !s->parent;
    m.head_key = pb_bytes(view_of(w->head_key.public, sizeof w->head_key.public));
    m.trust_version = w->trust_version;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (s->parent) { /* its own chain is as old as its joining */
        m.head_key = pb_bytes(view_of(w->first_head_key, sizeof w->first_head_key));
        m.trust_version = 1;
    } else if (w->trust.len) {
        m.trust = MESSAGE_UNPACK(&a, buf_view(&w->trust), 4096, signed, &rc);
    }
    shim_give_frame(p, frame_pack(FRAME_SITE_INFO, CLASS_HEAD, 0, NULL, &m.base, false));
}

void shim_link(struct world_process *p, struct world_link *l, bool up, const char *cause)
{
    bool child_end = p->site == l->child;
    if (up ? l->told[child_end] && l->told_session[child_end] == l->session : !l->told[child_end])
        return;
    if (!p->core || p->starting)
        return; /* it learns at its start */
    if (up && l->told[child_end])
        shim_link(p, l, false, "replaced by a later session");
    struct world_site *other = child_end ? l->parent : l->child;
    Sitetree__LinkState m = SITETREE__LINK_STATE__INIT;
    m.parent = child_end;
    m.session = child_end ? 0 : up ? l->session : l->told_session[0];
    m.site = other->code;
    m.up = up;
    if (other->worker.has_shown) {
        m.epoch = pb_bytes(view_of(other->worker.shown.epoch.b, sizeof other->worker.shown.epoch.b));
        m.generation = other->worker.shown.generation;
    }
    m.cause = (char *)(uintptr_t)cause;
    m.rate = l->faults.rate;
    l->told[child_end] = up;
    if (up)
        l->told_session[child_end] = l->session;
    shim_give_frame(p, frame_pack(FRAME_LINK_STATE, CLASS_HEAD, 0, NULL, &m.base, false));
}

void shim_hello(struct world_process *p)
{
    struct world *w = p->w;
    shim_site_info(p);
    for (unsigned i = 0; i < w->n_sites; i++) {
        struct world_link *l = w->sites[i]->up_link;
        if (!l || (l->parent != p->site && l->child != p->site))
            continue;
        l->told[l->child == p->site] = false;
        if (l->connected)
            shim_link(p, l, true, "");
    }
}

static void refuse(struct world_process *p, uint64_t request, int code)
{
    trace(p->w, p->site, "node refuses: %s", err_text(code));
    shim_give_frame(p, frame_refusal(request, code));
}

static void sign_head(struct world_process *p, const struct frame *f)
{
    struct world *w = p->w;
    struct world_site *s = p->site;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SignHead *m = FRAME_UNPACK(&a, f, sign_head, &rc);
    Sitetree__Head *h = m ? MESSAGE_UNPACK(&a, pb_view(m->payload), 300, head, &rc) : NULL;
    if (!h) {
        refuse(p, f->request, rc);
        return;
    }
    struct epoch epoch;
    struct hash payload;
    if (h->trust_version != w->trust_version) {
        refuse(p, f->request, err_fail(ERR_KEY, "the head is of another trust version"));
        return;
    }
    if (s->parent || epoch_from_view(pb_view(h->epoch), &epoch)) {
        refuse(p, f->request, err_fail(ERR_NOT_CENTRAL, "only the central site has heads signed"));
        return;
    }
    hash_bytes("world", NULL, pb_view(m->payload), &payload);
    bool again = hash_eq(&payload, &s->signed_payload), same = epoch_eq(&epoch, &s->signed_epoch);
    if (!again && same && h->generation <= s->signed_generation) {
        refuse(p, f->request,
            err_fail(ERR_ROLLBACK, "generation %llu was signed already",
                (unsigned long long)s->signed_generation));
        return;
    }
    if (!again && !same && h->epoch_counter <= s->signed_counter) {
        refuse(p, f->request, err_fail(ERR_EPOCH, "an epoch was begun already"));
        return;
    }
    s->signed_epoch = epoch;
    s->signed_generation = h->generation;
    s->signed_counter = h->epoch_counter;
    s->signed_payload = payload;
    uint8_t signature[64];
    sign_detached(&w->head_key, "head", pb_view(m->payload), signature);
    Sitetree__Signed out = SITETREE__SIGNED__INIT;
    out.payload = m->payload;
    out.signature = pb_bytes(view_of(signature, sizeof signature));
    out.key = pb_bytes(view_of(w->head_key.public, sizeof w->head_key.public));
    trace(w, s, "signed generation %llu", (unsigned long long)h->generation);
    shim_give_frame(p, frame_pack(FRAME_SIGNED_HEAD, CLASS_HEAD, f->request, NULL, &out.base, false));
}

static void note_event(struct world_process *p, const struct frame *f)
{
    struct world_site *s = p->site;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__EventNote *m = FRAME_UNPACK(&a, f, event_note, &rc);
    if (!m) {
        world_break(p->w, "seam", "%s: event note does not decode", s->code);
        return;
    }
    s->notes = must(realloc(s->notes, (s->n_notes + 1) * sizeof *s->notes));
    struct world_event *n = &s->notes[s->n_notes++];
    *n = (struct world_event){.at = p->w->now, .code = m->code};
    snprintf(n->name, sizeof n->name, "%s", m->name);
    snprintf(n->run, sizeof n->run, "%s", m->run);
    snprintf(n->phase, sizeof n->phase, "%s", m->phase);
    snprintf(n->text, sizeof n->text, "%s", m->text);
    trace(p->w, s, "event %s %s %s: %s", n->name, n->phase, m->code ? err_word(m->code) : "", n->text);
}

static void note_status(struct world_process *p, const struct frame *f)
{
    struct world_status *st = &p->site->status;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__WorkerStatus *m = FRAME_UNPACK(&a, f, worker_status, &rc);
    if (!m) {
        world_break(p->w, "seam", "%s: status does not decode", p->site->code);
        return;
    }
    *st = (struct world_status){0};
    snprintf(st->state, sizeof st->state, "%s", m->state);
    snprintf(st->cause, sizeof st->cause, "%s", m->cause);
    snprintf(st->text, sizeof st->text, "%s", m->text);
    snprintf(st->last_refusal, sizeof st->last_refusal, "%s", m->last_refusal);
    snprintf(st->run_result, sizeof st->run_result, "%s", m->run_result);
    st->generation = m->generation;
    st->known_generation = m->known_generation;
    st->refusals = m->refusals;
    st->backlog_bytes = m->backlog_bytes;
    st->floor_generation = m->floor_generation;
    st->floor_first_ns = m->floor_first_ns;
    st->floor_now_ns = m->floor_now_ns;
    trace(p->w, p->site, "status %s %s generation %llu of %llu", st->state, st->cause,
        (unsigned long long)st->generation, (unsigned long long)st->known_generation);
    /* P5: what a site says of itself is on its disk */
    if (!p->site->twin && m->generation > (p->has_shown ? p->shown.generation : 0))
        world_break(p->w, "P5", "%s reports generation %llu and has committed %llu", p->site->code,
            (unsigned long long)m->generation, (unsigned long long)p->shown.generation);
}

void shim_observe(struct world_process *p, const struct frame *f)
{
    if (f->type == FRAME_EVENT_NOTE)
        note_event(p, f);
    else if (f->type == FRAME_WORKER_STATUS)
        note_status(p, f);
}

void shim_on_worker(struct world_process *p, const struct effect *e)
{
    struct frame f;
    if (frame_parse(blob_view(e->frame), &f) || f.type != FRAME_SIGN_HEAD)
        return;
    if (p->site->signs_late) {
        blob_free(p->site->to_be_signed);
        p->site->to_be_signed = blob_ref(e->frame);
        return;
    }
    sign_head(p, &f);
}

void world_sign_late(struct world *w, const char *code, bool on)
{
    struct world_site *s = site_find(w, code);
    struct blob *kept = s->to_be_signed;
    struct frame f;
    s->signs_late = on;
    s->to_be_signed = NULL;
    if (!on && kept && frame_parse(blob_view(kept), &f) == 0)
        sign_head(&s->worker, &f);
    blob_free(kept);
}

unsigned world_n_events(struct world *w, const char *code, const char *name)
{
    struct world_site *s = site_find(w, code);
    unsigned n = 0;
    for (size_t i = 0; i < s->n_notes; i++)
        n += !name || strcmp(s->notes[i].name, name) == 0;
    return n;
}

const struct world_event *world_event(struct world *w, const char *code, const char *name, unsigned nth)
{
    struct world_site *s = site_find(w, code);
    for (size_t i = 0; i < s->n_notes; i++)
        if ((!name || strcmp(s->notes[i].name, name) == 0) && nth-- == 0)
            return &s->notes[i];
    return NULL;
}

struct world_status world_status(struct world *w, const char *code)
{
    return site_find(w, code)->status;
}

const struct sign_key *world_head_key(const struct world *w)
{
    return &w->head_key;
}

const struct hash *world_hierarchy(const struct world *w)
{
    return &w->hierarchy;
}

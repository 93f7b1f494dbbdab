#include "tests/lib/world_catalogue.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "services/metadata/head.h"
#include "services/metadata/tree.h"
#include "tests/lib/world_catalogue_internal.h"
#include "tests/lib/world_internal.h"

/* P7: what arrived and was committed is not asked for again, and what comes again is counted. */

static int page_hash(const uint8_t salt[16], struct place at, struct view raw, struct hash *ret_hash)
{
    struct inner n;
    if (inner_parse(raw, &n) == 0) {
        inner_hash(salt, at, raw, ret_hash);
        return 0;
    }
    AUTO_BUF hashes = {0};
    struct reader r = reader_of(raw);
    uint32_t count = 0;
    while (r.rest.len && !r.bad) {
        struct record rec;
        struct hash h;
        if (record_parse(&r, &rec))
            return ERR_MALFORMED;
        record_hash(salt, rec.bytes, &h);
        buf_append(&hashes, h.b, sizeof h.b);
        count++;
    }
    leaf_hash(salt, at, (const void *)hashes.data, count, ret_hash);
    return hashes.err;
}

/* Whether the committed store has the page, and it is what its name says. */
static bool is_held(
    struct store_txn *t, uint32_t scope, const uint8_t salt[16], const Sitetree__PageWant *want)
{
    struct place at;
    struct hash name, is;
    struct view v, raw;
    struct stored_page page;
    AUTO_BUF scratch = {0};
    if (place_unpack(pb_view(want->place), &at) || hash_from_view(pb_view(want->hash), &name))
        return false;
    struct page_key k = key_page(scope, at, &name);
    return store_get(t, TABLE_PAGES, KEY(k), &v) == 0 && stored_page_parse(v, &page) == 0 &&
           stored_page_raw(&page, &scratch, &raw) == 0 && page_hash(salt, at, raw, &is) == 0 &&
           hash_eq(&is, &name);
}

void pages_on_get(struct world_process *p, const struct frame *f)
{
    struct world_site *s = p->site;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__PageGet *m = FRAME_UNPACK(&a, f, page_get, &rc);
    if (!m)
        return;
    struct asked_page_request *r = &s->asked[s->n_asked++ % COUNT_OF(s->asked)];
    r->request = f->request;
    snprintf(r->scope, sizeof r->scope, "%s", m->scope);
    struct store_txn *t;
    uint32_t id;
    uint8_t salt[16];
    if (store_begin(p->store, false, &t))
        return;
    scope_salt(m->scope, salt);
    if (catalogue_scope_id(t, m->scope, &id) == 0)
        for (size_t i = 0; i < m->n_wants; i++)
            if (is_held(t, id, salt, m->wants[i]))
                world_break(p->w, "P7", "%s asks for a page of %s that it has", s->code, m->scope);
    store_abort(t);
}

static bool take_asked(struct world_site *s, uint64_t request, char ret_scope[128])
{
    for (unsigned i = 0; i < COUNT_OF(s->asked); i++)
        if (request && s->asked[i].request == request) {
            memcpy(ret_scope, s->asked[i].scope, 128);
            s->asked[i].request = 0; /* a second answer to it is the network's doing */
            return true;
        }
    return false;
}

static void note_arriving(struct world_process *p, const char *scope, const Sitetree__PageBytes *b)
{
    struct world_site *s = p->site;
    uint8_t salt[16];
    struct place at;
    struct hash hash;
    AUTO_BUF scratch = {0};
    struct view raw = pb_view(b->data);
    if (place_unpack(pb_view(b->place), &at))
        return;
    if (b->raw_length) {
        if (b->raw_length > PAGE_RAW_MAX || zstd_unpack(raw, b->raw_length, &scratch))
            return;
        raw = buf_view(&scratch);
    }
    scope_salt(scope, salt);
    if (page_hash(salt, at, raw, &hash))
        return;
    struct store_txn *t;
    uint32_t id = 0;
    bool held = false;
    struct view v;
    if (store_begin(p->store, false, &t))
        return;
    if (catalogue_scope_id(t, scope, &id) == 0) {
        struct page_key k = key_page(id, at, &hash);
        held = store_get(t, TABLE_PAGES, KEY(k), &v) == 0;
    }
    store_abort(t);
    uint8_t place[9];
    size_t place_len = place_pack(at, place);
    uint64_t seen = seen_hash(view_of(hash.b, sizeof hash.b), view_of(place, place_len));
    s->counts.pages++;
    s->counts.page_bytes += b->data.len;
    if (held || seen_has(&s->fetched, seen)) {
        s->counts.pages_twice++;
        s->counts.page_bytes_twice += b->data.len;
        trace(p->w, s, "page at depth %u comes again%s", at.depth, held ? ", and it is held" : "");
        return;
    }
    struct page_key k = key_page(id, at, &hash);
    s->arriving = must(realloc(s->arriving, (s->n_arriving + 1) * sizeof *s->arriving));
    struct arriving_page *ap = &s->arriving[s->n_arriving++];
    ap->hash = seen;
    ap->key_len = sizeof k.b;
    memcpy(ap->key, k.b, sizeof k.b);
}

void pages_on_input(struct world_process *p, const struct input *in)
{
    struct frame f;
    struct world_site *s = p->site;
    if (in->kind != INPUT_FRAME || in->from.kind != PEER_PARENT || frame_parse(in->body, &f) ||
        f.type != FRAME_PAGE_REPLY)
        return;
    char scope[128];
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__PageReply *m = FRAME_UNPACK(&a, &f, page_reply, &rc);
    if (!m || !take_asked(s, f.request, scope))
        return;
    for (size_t i = 0; i < m->n_pages; i++)
        note_arriving(p, scope, m->pages[i]);
}

void pages_on_commit(struct world_process *p)
{
    struct world_site *s = p->site;
    struct store_txn *t;
    if (!s->n_arriving || store_begin(p->store, false, &t))
        return;
    for (size_t i = 0; i < s->n_arriving; i++) {
        struct view v;
        if (store_get(t, TABLE_PAGES, view_of(s->arriving[i].key, s->arriving[i].key_len), &v) == 0)
            seen_add(&s->fetched, s->arriving[i].hash);
    }
    store_abort(t);
    s->n_arriving = 0;
}

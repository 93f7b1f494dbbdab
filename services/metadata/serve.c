/* The parent's side: answers from one short look at the store, without any memory of who asked what; and the
 * hints that tell the children of a new generation. */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define INLINE_MAX (32u * 1024u)
#define INLINE_MOST 64u /* deltas */
#define PAGES_MOST 2048u

void serve_refuse(struct metadata *m, struct peer to, uint64_t request, int code)
{
    if (request)
        send_to(m, to, CLASS_HEAD, frame_refusal(request, code));
}

int serve_head(struct metadata *m, struct peer child, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__HeadGet *get = FRAME_UNPACK(&a, f, head_get, &rc);
    if (get)
        recall_tell(m, child);
    if (!get || !m->applied) {
        serve_refuse(
            m, child, f->request, rc ? rc : err_fail(ERR_NOT_FOUND, "no generation is published yet"));
        return 0;
    }
    bool same = epoch_eq(&f->epoch, &m->applied->epoch) && get->generation == m->applied->generation;
    struct view body = same ? (struct view){0} : blob_view(m->applied->bytes);
    bool recall = m->applied->n_recalls && !same &&
                  m->applied->recalls[m->applied->n_recalls - 1].generation > get->generation;
    enum lane_class lane = recall ? CLASS_RECALL : CLASS_HEAD;
    struct blob *b = frame_wrap(FRAME_HEAD, lane, f->request, &m->applied->epoch, body, true);
    if (b)
        send_to(m, child, lane, b);
    return 0;
}

int serve_deltas(struct metadata *m, struct peer child, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__DeltaGet *get = FRAME_UNPACK(&a, f, delta_get, &rc);
    struct scope *s = get ? state_scope_find(m, get->scope) : NULL;
    if (!s) {
        serve_refuse(m, child, f->request, rc ? rc : err_fail(ERR_NOT_FOUND, "no such scope"));
        return 0;
    }
    Sitetree__DeltaReply reply = SITETREE__DELTA_REPLY__INIT;
    Sitetree__DeltaBytes list[256], *refs[COUNT_OF(list)];
    size_t n = 0, bytes = 0;
    for (uint64_t serial = get->to; serial > get->from && n < COUNT_OF(list); serial--) {
        struct stored_delta d;
        rc = delta_get(m->txn, s->id, serial, &d);
        if (rc == ERR_NOT_FOUND) {
            reply.below_floor = true;
            break;
        }
        if (rc)
            return rc;
        if (n && bytes + d.zstd.len > get->max_bytes)
            break;
        if (bytes + d.zstd.len > DELTA_WIRE_MAX)
            break;
        bytes += d.zstd.len + 32;
        sitetree__delta_bytes__init(&list[n]);
        list[n].scope = s->name;
        list[n].serial = serial;
        list[n].raw_length = d.raw_len;
        list[n].zstd = pb_bytes(d.zstd); /* borrowed from the store: there is no write until it is packed */
        refs[n] = &list[n];
        n++;
    }
    reply.deltas = refs;
    reply.n_deltas = n;
    struct blob *b =
        frame_pack(FRAME_DELTA_REPLY, CLASS_BULK, f->request, state_epoch(m), &reply.base, false);
    if (b)
        send_to(m, child, CLASS_BULK, b);
    return 0;
}

struct page_list {
    Sitetree__PageBytes *list, **refs;
    struct late { /* leaves that are compressed here for the first time, and stored so afterwards */
        struct page_key key;
        struct buf packed;
    } * late;
    size_t n_late, cap_late;
    uint8_t (*places)[9];
    size_t n;
    size_t bytes, most;
    bool full, missing;
};

static int pack_late(struct page_list *l, const struct page_key *k, struct stored_page *page)
{
    if (l->n_late == l->cap_late) {
        size_t cap = l->cap_late ? l->cap_late * 2 : 16;
        struct late *list = realloc(l->late, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        l->late = list;
        l->cap_late = cap;
    }
    struct late *late = &l->late[l->n_late];
    *late = (struct late){.key = *k};
    if (!page_pack_late(page, &late->packed)) {
        buf_done(&late->packed);
        return 0;
    }
    page->compressed = true;
    page->data = buf_view(&late->packed);
    l->n_late++;
    return 0;
}

/* After the answer is packed: it borrowed from the store until then. */
static void store_late(struct metadata *m, struct page_list *l)
{
    for (size_t i = 0; i < l->n_late; i++) {
        struct late *late = &l->late[i];
        uint32_t scope;
        struct place p;
        struct hash h;
        struct view v, data = buf_view(&late->packed);
        struct stored_page page;
        AUTO_BUF copy = {0};
        if (key_page_split(KEY(late->key), &scope, &p, &h) == 0 &&
            store_get(m->txn, TABLE_PAGES, KEY(late->key), &v) == 0) {
            buf_append_view(&copy, v);
            if (!copy.err && stored_page_parse(buf_view(&copy), &page) == 0)
                page_put(m->txn, scope, p, &h, PAGE_LEAF, page.data, &data,
                    view_of(page.record_hashes, 32u * page.n), false);
        }
        buf_done(&late->packed);
    }
    free(l->late);
}

/* Adds the page, and with whole everything below it, depth first. */
static int add_pages(struct metadata *m, struct scope *s, struct page_list *l, struct place p,
    const struct hash *hash, bool whole)
{
    struct page_key k = key_page(s->id, p, hash);
    struct view v;
    struct stored_page page;
    int rc = store_get(m->txn, TABLE_PAGES, KEY(k), &v);
    if (rc == ERR_NOT_FOUND || (!rc && stored_page_parse(v, &page))) {
        l->missing = true; /* a damaged page is as good as none; the child looks elsewhere */
        return 0;
    }
    if (rc)
        return rc;
    if (!page.compressed && page.kind == PAGE_LEAF && (rc = pack_late(l, &k, &page)))
        return rc;
    if (l->n == PAGES_MOST || (l->n && l->bytes + page.data.len > l->most) ||
        l->bytes + page.data.len > PAGE_STORED_MAX) {
        l->full = true;
        return 0;
    }
    Sitetree__PageBytes *b = &l->list[l->n];
    sitetree__page_bytes__init(b);
    b->place = pb_bytes(view_of(l->places[l->n], place_pack(p, l->places[l->n])));
    b->raw_length = page.compressed ? page.raw_len : 0;
    b->data = pb_bytes(page.data);
    l->refs[l->n++] = b;
    l->bytes += page.data.len + 24;
    struct inner n;
    if (!whole || page.kind == PAGE_LEAF || inner_parse(page.data, &n))
        return 0;
    for (unsigned i = 0; !rc && i < 16 && !l->full && !l->missing; i++)
        if (n.child[i].count)
            rc = add_pages(m, s, l, place_child(p, i), &n.child[i].hash, true);
    return rc;
}

int serve_pages(struct metadata *m, struct peer child, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__PageGet *get = FRAME_UNPACK(&a, f, page_get, &rc);
    struct scope *s = get ? state_scope_find(m, get->scope) : NULL;
    if (!s || get->n_wants > 1024) {
        serve_refuse(m, child, f->request,
            rc  ? rc
            : s ? err_fail(ERR_TOO_LARGE, "%zu pages at once", get->n_wants)
                : err_fail(ERR_NOT_FOUND, "no such scope"));
        return 0;
    }
    struct page_list l = {.list = malloc(PAGES_MOST * sizeof *l.list),
        .refs = malloc(PAGES_MOST * sizeof *l.refs),
        .places = malloc(PAGES_MOST * sizeof *l.places),
        .most = get->max_bytes};
    Sitetree__PageReply reply = SITETREE__PAGE_REPLY__INIT;
    uint32_t missing = 0;
    rc = l.list && l.refs && l.places ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < get->n_wants && !l.full && !l.missing; i++) {
        struct place p;
        struct hash h;
        if (place_unpack(pb_view(get->wants[i]->place), &p) ||
            hash_from_view(pb_view(get->wants[i]->hash), &h)) {
            serve_refuse(m, child, f->request, err_fail(ERR_MALFORMED, "not a page name"));
            goto out;
        }
        rc = add_pages(m, s, &l, p, &h, get->wants[i]->whole);
        if (l.missing)
            missing = (uint32_t)i; /* the answer ends here: what is missing was replaced by something newer */
        else if (!l.full)
            reply.wants_done = (uint32_t)i + 1;
    }
    reply.pages = l.refs;
    reply.n_pages = l.n;
    reply.missing = &missing;
    reply.n_missing = l.missing;
    struct blob *b =
        rc ? NULL : frame_pack(FRAME_PAGE_REPLY, CLASS_BULK, f->request, state_epoch(m), &reply.base, false);
    if (b)
        send_to(m, child, CLASS_BULK, b);
out:
    store_late(m, &l);
    free(l.list);
    free(l.refs);
    free(l.places);
    return rc;
}

void serve_topic(const struct head *h, const char *scope, char out[200])
{
    snprintf(out, 200, "metadata/%s", scope ? scope : h->n_scopes ? h->scopes[0].name : "-");
}

bool serve_fits_hint(size_t n_deltas, uint64_t bytes)
{
    return n_deltas <= INLINE_MOST && bytes <= INLINE_MAX;
}

void serve_publish(struct metadata *m, const struct hint_delta *deltas, size_t n, bool urgent)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    char topic[200];
    Sitetree__Hint hint = SITETREE__HINT__INIT;
    hint.head = MESSAGE_UNPACK(&a, blob_view(m->applied->bytes), 4u * 1024u * 1024u, head_bytes, &rc);
    if (!hint.head)
        return;
    Sitetree__DeltaBytes list[INLINE_MOST], *refs[COUNT_OF(list)];
    size_t bytes = 0, k = 0;
    bool fits = n <= COUNT_OF(list);
    for (size_t i = 0; fits && i < n; i++) {
        struct stored_delta d;
        if (delta_get(m->txn, deltas[i].scope->id, deltas[i].serial, &d)) {
            fits = false;
            break;
        }
        bytes += d.zstd.len;
        fits = bytes <= INLINE_MAX;
        sitetree__delta_bytes__init(&list[k]);
        list[k].scope = deltas[i].scope->name;
        list[k].serial = deltas[i].serial;
        list[k].raw_length = d.raw_len;
        list[k].zstd = pb_bytes(d.zstd);
        refs[k] = &list[k];
        k++;
    }
    hint.deltas = refs;
    hint.n_deltas = fits ? k : 0;
    serve_topic(m->applied, n ? deltas[0].scope->name : NULL, topic);
    struct blob *b = frame_pack(FRAME_HINT, urgent ? CLASS_RECALL : CLASS_HEAD, 0, &m->applied->epoch,
        &hint.base, bytes < 64 && blob_view(m->applied->bytes).len > 4096);
    if (b) /* a hint only hurries: one that is too large is left out */
        effects_publish(m->fx, topic, urgent ? CLASS_RECALL : CLASS_HEAD, b, false);
}

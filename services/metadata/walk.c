/* WALK: the one algorithm for snapshot and repair. From the signed root downward it asks for the pages that
 * this site does not hold, checks each against what its parent page says, and stores it at once; so nothing
 * is fetched twice, whatever is cut. A snapshot is this walk from an empty base. Source: protocol.md 4. */
#include <stdlib.h>

#include "services/metadata/core.h"

#define WANTS_MOST 512u
#define PACKED_SHARE                                                                                         \
    0.45 /* compressed bytes of a page by uncompressed ones; only plans the size of a request */
#define INNER_COST 760u
/* An answer takes about so long on the link: a cut loses at most one that has come in part (P7). */
#define ANSWER_S 0.002
#define ANSWER_LEAST (8u * 1024u)

int walk_start(struct metadata *m, struct scope *s, const struct scope_entry *to)
{
    (void)m;
    s->frontier.n = 0;
    s->fetch = FETCH_WALK;
    s->walk_careful = s->careful;
    if (to->tree.count == 0)
        return 0;
    return wants_push(&s->frontier, (struct want){.is = to->tree, .base = s->applied.tree});
}

/* Bytes on the wire, at most: of what is already here below a page that differs, nothing is known yet. */
uint64_t walk_left(const struct metadata *m, const struct scope *s)
{
    double raw = 0;
    for (size_t i = 0; i < s->frontier.n; i++)
        raw += (double)s->frontier.list[i].is.bytes;
    for (size_t i = 0; i < m->n_requests; i++)
        for (size_t k = 0; m->requests[i].scope == s && k < m->requests[i].expect.n; k++)
            raw += (double)m->requests[i].expect.list[k].is.bytes;
    return (uint64_t)(raw * (m->walked_raw > 65536 ? m->walked_packed / m->walked_raw : PACKED_SHARE));
}

bool walk_finished(const struct metadata *m, const struct scope *s)
{
    return s->frontier.n == 0 && !request_pending(m, REQUEST_PAGES, s);
}

/* The children of an inner page, the first on top of the stack. */
static int push_children(struct tree *t, struct wants *to, const struct want *w, const struct inner *n)
{
    struct inner base = {0};
    if (w->base.count && !subtree_is_leaf(&w->base, w->place) &&
        tree_inner(t, w->place, &w->base.hash, &base))
        base = (struct inner){0};
    int rc = 0;
    for (unsigned i = 16; !rc && i-- > 0;)
        if (n->child[i].count)
            rc =
                wants_push(to, (struct want){place_child(w->place, i), n->child[i], base.child[i], w->whole});
    return rc;
}

/* Takes wants from the frontier that this site can answer itself. Leaves the next one that it cannot on top.
 */
static int resolve(struct tree *t, struct scope *s)
{
    while (s->frontier.n) {
        struct want w = s->frontier.list[s->frontier.n - 1];
        if (!s->careful && w.base.count && hash_eq(&w.base.hash, &w.is.hash)) {
            s->frontier.n--;
            continue;
        }
        if (!tree_has_page(t, w.place, &w.is.hash))
            return 0;
        s->frontier.n--;
        if (subtree_is_leaf(&w.is, w.place))
            continue;
        struct inner n;
        int rc = tree_inner(t, w.place, &w.is.hash, &n);
        if (rc)
            return rc;
        w.whole = false;
        rc = push_children(t, &s->frontier, &w, &n);
        if (rc)
            return rc;
    }
    return 0;
}

static uint32_t cost(const struct want *w)
{
    if (!w->whole && !subtree_is_leaf(&w->is, w->place))
        return INNER_COST;
    double bytes = (double)w->is.bytes * PACKED_SHARE + 64;
    return bytes < FRAME_MAX / 2 ? (uint32_t)bytes : FRAME_MAX / 2;
}

/* True when pages of an earlier target lie below this place: then the way down is asked for page by page,
 * because most of what is below is probably here (P7). */
static bool staged_below(struct metadata *m, const struct scope *s, struct place p)
{
    static const struct hash first;
    struct page_key from = key_page(s->id, p, &first);
    struct store_walk w = store_walk_from(m->txn, TABLE_PAGES, KEY(from), view_of(from.b, 4 + p.depth / 2u));
    while (store_walk_next(&w)) {
        uint32_t id;
        struct place at;
        struct hash h;
        if (key_page_split(w.key, &id, &at, &h))
            return true;
        if (p.depth % 2 && (at.path[p.depth / 2] ^ p.path[p.depth / 2]) & 0xf0)
            return false;
        if (at.depth > p.depth)
            return true;
    }
    return false;
}

static bool wants_whole(struct metadata *m, const struct scope *s, const struct want *w, uint32_t chunk)
{
    bool fresh = w->base.count == 0 || subtree_is_leaf(&w->base, w->place);
    return fresh && !s->careful && !subtree_is_leaf(&w->is, w->place) &&
           (double)w->is.bytes * PACKED_SHARE <= 2.0 * chunk && !staged_below(m, s, w->place);
}

static int send_request(struct metadata *m, struct scope *s, struct want *picked, size_t n, uint32_t bytes)
{
    Sitetree__PageGet get = SITETREE__PAGE_GET__INIT;
    Sitetree__PageWant *list = calloc(n, sizeof *list), **refs = calloc(n, sizeof *refs);
    uint8_t(*places)[9] = calloc(n, sizeof *places);
    struct request *r = list && refs && places ? request_new(m, REQUEST_PAGES, s, bytes) : NULL;
    int rc = r ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < n; i++) {
        sitetree__page_want__init(&list[i]);
        refs[i] = &list[i];
        list[i].place = pb_bytes(view_of(places[i], place_pack(picked[i].place, places[i])));
        list[i].hash = pb_bytes(view_of(picked[i].is.hash.b, 32));
        list[i].whole = picked[i].whole;
    }
    for (size_t i = n; !rc && i-- > 0;)
        rc = wants_push(&r->expect, picked[i]);
    if (!rc) {
        get.scope = s->name;
        get.wants = refs;
        get.n_wants = n;
        get.max_bytes = bytes;
        ask_parent(
            m, CLASS_BULK, frame_pack(FRAME_PAGE_GET, CLASS_BULK, r->id, state_epoch(m), &get.base, n > 8));
    }
    free(places);
    free(refs);
    free(list);
    return rc;
}

static uint32_t answer_bytes(const struct metadata *m)
{
    uint32_t chunk = request_chunk(m);
    double most = m->rate * ANSWER_S;
    if (m->rate > 0 && chunk > ANSWER_LEAST && (double)chunk > most)
        return most > ANSWER_LEAST ? (uint32_t)most : ANSWER_LEAST;
    return chunk;
}

int walk_step(struct metadata *m, struct scope *s)
{
    AUTO_TREE t;
    state_tree(m, s, &t);
    struct want picked[WANTS_MOST];
    for (;;) {
        uint32_t chunk = answer_bytes(m), bytes = 0;
        size_t n = 0;
        while (n < WANTS_MOST && bytes < chunk) {
            int rc = resolve(&t, s);
            if (rc)
                return rc;
            if (s->frontier.n == 0 || !m->parent_up || request_room(m) == 0)
                break;
            struct want w = s->frontier.list[s->frontier.n - 1];
            w.whole = wants_whole(m, s, &w, chunk);
            if (n && bytes + cost(&w) > 2 * chunk)
                break;
            bytes += cost(&w);
            picked[n++] = w;
            s->frontier.n--;
        }
        if (n == 0)
            return 0;
        int rc = send_request(m, s, picked, n, bytes < chunk ? chunk : bytes);
        if (rc)
            return rc;
    }
}

static int take_page(struct metadata *m, struct tree *t, struct request *r, const Sitetree__PageBytes *p)
{
    struct place at;
    int rc = place_unpack(pb_view(p->place), &at);
    if (rc)
        return rc;
    if (r->expect.n == 0 || !place_eq(at, r->expect.list[r->expect.n - 1].place))
        return err_fail(ERR_MALFORMED, "a page that was not asked for");
    struct want w = r->expect.list[r->expect.n - 1];
    struct view data = pb_view(p->data), raw = data;
    if (p->raw_length) {
        if (p->raw_length > PAGE_RAW_MAX)
            return err_fail(ERR_TOO_LARGE, "a page of %u bytes", p->raw_length);
        buf_reset(&t->raw);
        rc = zstd_unpack(data, p->raw_length, &t->raw);
        if (rc)
            return rc;
        raw = buf_view(&t->raw);
    }
    buf_reset(&t->hashes);
    rc = page_verify(r->scope->salt, at, &w.is, raw, &t->hashes);
    if (rc)
        return rc;
    r->expect.n--;
    if (!r->scope->staged) { /* whatever becomes of this walk, what it leaves behind is swept */
        r->scope->staged = true;
        meta_put(m->txn, meta_of("staged", view_str(r->scope->name)).s, view_of("", 0));
    }
    bool leaf = subtree_is_leaf(&w.is, at);
    m->walked_raw += leaf ? (double)raw.len : 0; /* inner pages are in it as cost, not as content */
    m->walked_packed += (double)data.len;
    /* a site without children keeps leaves as they are read: nobody asks it for the compressed ones */
    bool raw_is_better = leaf && m->n_children == 0;
    page_put(m->txn, r->scope->id, at, &w.is.hash, leaf ? PAGE_LEAF : PAGE_INNER, raw,
        raw_is_better ? NULL : &data, buf_view(&t->hashes), raw_is_better);
    if (leaf)
        return store_txn_error(m->txn);
    struct inner n;
    rc = inner_parse(raw, &n);
    return rc ? rc : push_children(t, w.whole ? &r->expect : &r->scope->frontier, &w, &n);
}

int walk_on_reply(struct metadata *m, struct request *r, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__PageReply *reply = FRAME_UNPACK(&a, f, page_reply, &rc);
    struct scope *s = r->scope;
    AUTO_TREE t;
    state_tree(m, s, &t);
    for (size_t i = 0; !rc && i < reply->n_pages; i++) {
        /* pages of a whole subtree that is here already (fetched on another way) are only counted */
        rc = take_page(m, &t, r, reply->pages[i]);
    }
    if (store_txn_error(m->txn))
        return store_txn_error(m->txn);
    if (rc == -ENOMEM)
        return rc;
    bool missing = reply && reply->n_missing;
    if (rc)
        state_refusal(m, rc, "page");
    else if (reply && reply->n_pages)
        m->setbacks = 0;
    /* the rest is asked for again */
    for (size_t i = 0; i < r->expect.n; i++)
        if (wants_push(&s->frontier, r->expect.list[i]))
            return -ENOMEM;
    r->expect.n = 0;
    m->hop.bytes += f->body.len;
    if (m->hop.first_byte.ns == 0)
        m->hop.first_byte = m->wall;
    m->hop.last_byte = m->wall;
    request_end(m, r, f->body.len);
    if (rc || missing || (reply && reply->n_pages == 0))
        replica_setback(m);
    return 0;
}

#include "services/metadata/tree.h"

#include <stdlib.h>

/* A record of a leaf being put together: its bytes lie in the pool or in a change. */
struct entry {
    struct view key, record;
    struct hash hash, key_hash;
    bool has_key_hash;
};

struct entries {
    struct entry *list;
    size_t n, cap;
};

void tree_init(struct tree *t, struct store_txn *txn, uint32_t scope, const uint8_t salt[16])
{
    *t = (struct tree){.txn = txn, .scope = scope, .salt = salt};
}

void tree_done(struct tree *t)
{
    for (size_t i = 0; i < t->pool_cap; i++)
        buf_done(&t->pool[i]);
    free(t->pool);
    buf_done(&t->hashes);
    buf_done(&t->raw);
    t->pool = NULL;
    t->pool_cap = t->pool_n = 0;
}

void change_init(struct change *c, const uint8_t salt[16], struct view key, struct view record)
{
    *c = (struct change){.key = key, .record = record};
    key_hash(key, &c->key_hash);
    if (record.len)
        record_hash(salt, record, &c->record_hash);
}

struct indexed {
    const struct change *c;
    size_t i;
};

static int change_order(const void *a, const void *b)
{
    const struct indexed *x = a, *y = b;
    int c = memcmp(x->c->key_hash.b, y->c->key_hash.b, 32);
    return c ? c : (x->i > y->i) - (x->i < y->i);
}

int change_sort(struct change *changes, size_t *n)
{
    struct indexed *order = malloc((*n ? *n : 1) * sizeof *order);
    struct change *sorted = malloc((*n ? *n : 1) * sizeof *sorted);
    if (!order || !sorted) {
        free(order);
        free(sorted);
        return -ENOMEM;
    }
    for (size_t i = 0; i < *n; i++)
        order[i] = (struct indexed){&changes[i], i};
    qsort(order, *n, sizeof *order, change_order);
    size_t m = 0;
    for (size_t i = 0; i < *n; i++) {
        if (m && hash_eq(&sorted[m - 1].key_hash, &order[i].c->key_hash))
            m--;
        sorted[m++] = *order[i].c;
    }
    if (m)
        memcpy(changes, sorted, m * sizeof *sorted);
    free(sorted);
    free(order);
    *n = m;
    return 0;
}

int tree_page(struct tree *t, struct place p, const struct hash *hash, struct stored_page *ret_page)
{
    struct page_key k = key_page(t->scope, p, hash);
    struct view v;
    int rc = store_get(t->txn, TABLE_PAGES, KEY(k), &v);
    return rc ? rc : stored_page_parse(v, ret_page);
}

int tree_inner(struct tree *t, struct place p, const struct hash *hash, struct inner *ret_inner)
{
    struct stored_page page;
    struct view raw;
    int rc = tree_page(t, p, hash, &page);
    if (rc)
        return rc;
    if (page.kind != PAGE_INNER)
        return err_fail(ERR_CORRUPT, "stored page is of another kind");
    rc = stored_page_raw(&page, &t->raw, &raw);
    return rc ? rc : inner_parse(raw, ret_inner) ? ERR_CORRUPT : 0;
}

bool tree_has_page(struct tree *t, struct place p, const struct hash *hash)
{
    struct page_key k = key_page(t->scope, p, hash);
    struct view v;
    return store_get(t->txn, TABLE_PAGES, KEY(k), &v) == 0;
}

/* Missing pages below a root that should be whole are damage. */
int tree_inner_whole(struct tree *t, struct place p, const struct hash *hash, struct inner *ret_inner)
{
    int rc = tree_inner(t, p, hash, ret_inner);
    return rc == ERR_NOT_FOUND ? err_fail(ERR_CORRUPT, "a page of the tree is missing") : rc;
}

static struct buf *pool_take(struct tree *t)
{
    if (t->pool_n == t->pool_cap) {
        size_t cap = t->pool_cap ? t->pool_cap * 2 : 4;
        struct buf *pool = realloc(t->pool, cap * sizeof *pool);
        if (!pool)
            return NULL;
        memset(pool + t->pool_cap, 0, (cap - t->pool_cap) * sizeof *pool);
        t->pool = pool;
        t->pool_cap = cap;
    }
    buf_reset(&t->pool[t->pool_n]);
    return &t->pool[t->pool_n++];
}

static int entries_add(struct entries *e, struct entry entry)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 128;
        struct entry *list = realloc(e->list, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        e->list = list;
        e->cap = cap;
    }
    e->list[e->n++] = entry;
    return 0;
}

/* Appends the records of a leaf; the page's bytes are copied, because a later write would move them. */
static int load_leaf(struct tree *t, struct place p, const struct hash *hash, struct entries *e)
{
    struct stored_page page;
    int rc = tree_page(t, p, hash, &page);
    if (rc == ERR_NOT_FOUND)
        return err_fail(ERR_CORRUPT, "a page of the tree is missing");
    if (rc)
        return rc;
    if (page.kind != PAGE_LEAF)
        return err_fail(ERR_CORRUPT, "stored page is of another kind");
    struct buf *b = pool_take(t);
    if (!b)
        return -ENOMEM;
    struct view raw;
    rc = stored_page_raw(&page, b, &raw);
    if (!rc && raw.data != b->data) {
        buf_append_view(b, raw);
        raw = buf_view(b);
        rc = b->err;
    }
    struct reader r = reader_of(raw);
    for (size_t i = 0; !rc && r.rest.len; i++) {
        struct record rec;
        struct entry entry = {0};
        rc = record_parse(&r, &rec);
        if (rc || i >= page.n)
            return err_fail(ERR_CORRUPT, "stored page is damaged");
        entry.key = rec.key;
        entry.record = rec.bytes;
        memcpy(entry.hash.b, page.record_hashes + 32 * i, 32);
        rc = entries_add(e, entry);
    }
    return rc;
}

static int load_all(struct tree *t, struct place p, const struct subtree *s, struct entries *e)
{
    if (s->count == 0)
        return 0;
    if (subtree_is_leaf(s, p))
        return load_leaf(t, p, &s->hash, e);
    struct inner n;
    int rc = tree_inner_whole(t, p, &s->hash, &n);
    for (unsigned i = 0; !rc && i < 16; i++)
        rc = load_all(t, place_child(p, i), &n.child[i], e);
    return rc;
}

static void drop_page(struct tree *t, struct place p, const struct subtree *s)
{
    if (s->count == 0)
        return;
    struct page_key k = key_page(t->scope, p, &s->hash);
    t->pages_replaced++;
    if (t->replaced)
        buf_append(t->replaced, k.b, sizeof k.b);
    else
        store_del(t->txn, TABLE_PAGES, KEY(k));
}

/* A page whose content did not change after all keeps its name, and stays. */
static void drop_changed(struct tree *t, struct place p, const struct subtree *old, const struct subtree *now)
{
    if (now->count == 0 || !hash_eq(&old->hash, &now->hash))
        drop_page(t, p, old);
}

/* Every page of a subtree that is given up (it collapsed into a leaf above). */
static int drop_all(struct tree *t, struct place p, const struct subtree *s)
{
    if (s->count && !subtree_is_leaf(s, p)) {
        struct inner n;
        int rc = tree_inner_whole(t, p, &s->hash, &n);
        for (unsigned i = 0; !rc && i < 16; i++)
            rc = drop_all(t, place_child(p, i), &n.child[i]);
        if (rc)
            return rc;
    }
    drop_page(t, p, s);
    return 0;
}

static int entry_order(const void *a, const void *b)
{
    return view_cmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static int write_leaf(struct tree *t, struct place p, struct entry *list, size_t n, struct subtree *ret_new)
{
    struct subtree s = {.count = (uint32_t)n};
    qsort(list, n, sizeof *list, entry_order);
    buf_reset(&t->hashes);
    buf_reset(&t->raw);
    for (size_t i = 0; i < n; i++) {
        buf_append(&t->hashes, list[i].hash.b, 32);
        buf_append_view(&t->raw, list[i].record);
    }
    if (t->raw.err || t->hashes.err)
        return -ENOMEM;
    if (t->raw.len > PAGE_RAW_MAX)
        return err_fail(ERR_TOO_LARGE, "a page of %zu bytes: its records are too large", t->raw.len);
    s.bytes = t->raw.len;
    leaf_hash(t->salt, p, (const void *)t->hashes.data, s.count, &s.hash);
    if (n) {
        t->bytes_written += page_put(
            t->txn, t->scope, p, &s.hash, PAGE_LEAF, buf_view(&t->raw), NULL, buf_view(&t->hashes), t->later);
        t->pages_written++;
    }
    *ret_new = s;
    return store_txn_error(t->txn);
}

static int write_inner(struct tree *t, struct place p, const struct inner *n, struct subtree *ret_new)
{
    struct subtree s = inner_sum(n);
    buf_reset(&t->raw);
    inner_pack(n, &t->raw);
    if (t->raw.err)
        return t->raw.err;
    inner_hash(t->salt, p, buf_view(&t->raw), &s.hash);
    t->bytes_written +=
        page_put(t->txn, t->scope, p, &s.hash, PAGE_INNER, buf_view(&t->raw), NULL, (struct view){0}, false);
    t->pages_written++;
    *ret_new = s;
    return store_txn_error(t->txn);
}

/* Builds a subtree from nothing but entries. They are reordered. */
static int build(struct tree *t, struct place p, struct entry *list, size_t n, struct subtree *ret_new)
{
    if (n == 0) {
        *ret_new = (struct subtree){0};
        return 0;
    }
    if (n <= LEAF_MAX || p.depth == PLACE_MAX)
        return write_leaf(t, p, list, n, ret_new);
    size_t at[17] = {0}, next[16];
    struct entry *sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (!list[i].has_key_hash) {
            key_hash(list[i].key, &list[i].key_hash);
            list[i].has_key_hash = true;
        }
        at[place_nibble(list[i].key_hash.b, p.depth) + 1]++;
    }
    for (unsigned i = 0; i < 16; i++) {
        at[i + 1] += at[i];
        next[i] = at[i];
    }
    for (size_t i = 0; i < n; i++)
        sorted[next[place_nibble(list[i].key_hash.b, p.depth)]++] = list[i];
    struct inner node = {0};
    int rc = 0;
    for (unsigned i = 0; !rc && i < 16; i++)
        rc = build(t, place_child(p, i), sorted + at[i], at[i + 1] - at[i], &node.child[i]);
    free(sorted);
    return rc ? rc : write_inner(t, p, &node, ret_new);
}

/* Puts the changes over the entries: same key replaced or dropped, new keys added. */
static int merge(struct entries *e, const struct change *changes, size_t n)
{
    size_t old = e->n;
    for (size_t i = 0; i < n; i++) {
        const struct change *c = &changes[i];
        size_t j = 0;
        while (j < old && !view_eq(e->list[j].key, c->key))
            j++;
        struct entry entry = {c->key, c->record, c->record_hash, c->key_hash, true};
        if (j < old)
            e->list[j] = entry;
        else if (c->record.len) {
            int rc = entries_add(e, entry);
            if (rc)
                return rc;
        }
    }
    size_t m = 0;
    for (size_t i = 0; i < e->n; i++)
        if (e->list[i].record.len)
            e->list[m++] = e->list[i];
    e->n = m;
    return 0;
}

/* A subtree that is (or becomes) small enough to be handled whole. */
static int update_whole(struct tree *t, struct place p, const struct subtree *old,
    const struct change *changes, size_t n, struct subtree *ret_new)
{
    struct entries e = {0};
    struct subtree s;
    t->pool_n = 0;
    int rc = load_all(t, p, old, &e);
    if (!rc)
        rc = merge(&e, changes, n);
    if (!rc && old->count && !subtree_is_leaf(old, p)) {
        struct inner node;
        rc = tree_inner_whole(t, p, &old->hash, &node);
        for (unsigned i = 0; !rc && i < 16; i++)
            rc = drop_all(t, place_child(p, i), &node.child[i]);
    }
    if (!rc)
        rc = build(t, p, e.list, e.n, &s);
    free(e.list);
    if (!rc) {
        drop_changed(t, p, old, &s);
        *ret_new = s;
    }
    return rc;
}

/* From this many changes on, an empty or small subtree is built in one go rather than merged pairwise. */
static int build_fresh(
    struct tree *t, struct place p, const struct change *changes, size_t n, struct subtree *ret_new)
{
    struct entry *list = malloc((n ? n : 1) * sizeof *list);
    if (!list)
        return -ENOMEM;
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (changes[i].record.len)
            list[m++] = (struct entry){
                changes[i].key, changes[i].record, changes[i].record_hash, changes[i].key_hash, true};
    int rc = build(t, p, list, m, ret_new);
    free(list);
    return rc;
}

static int update(struct tree *t, struct place p, const struct subtree *old, const struct change *changes,
    size_t n, struct subtree *ret_new)
{
    if (n == 0) {
        *ret_new = *old;
        return 0;
    }
    if (old->count == 0)
        return build_fresh(t, p, changes, n, ret_new);
    if (subtree_is_leaf(old, p))
        return update_whole(t, p, old, changes, n, ret_new);
    struct inner node;
    int rc = tree_inner_whole(t, p, &old->hash, &node);
    for (size_t i = 0; !rc && i < n;) {
        unsigned nib = place_nibble(changes[i].key_hash.b, p.depth);
        size_t j = i + 1;
        while (j < n && place_nibble(changes[j].key_hash.b, p.depth) == nib)
            j++;
        rc = update(t, place_child(p, nib), &node.child[nib], changes + i, j - i, &node.child[nib]);
        i = j;
    }
    if (rc)
        return rc;
    struct subtree sum = inner_sum(&node);
    struct subtree s;
    if (sum.count > LEAF_MAX) {
        rc = write_inner(t, p, &node, &s);
    } else { /* few are left: they become one leaf here */
        struct entries e = {0};
        t->pool_n = 0;
        for (unsigned i = 0; !rc && i < 16; i++)
            rc = load_all(t, place_child(p, i), &node.child[i], &e);
        for (unsigned i = 0; !rc && i < 16; i++)
            rc = drop_all(t, place_child(p, i), &node.child[i]);
        if (!rc)
            rc = build(t, p, e.list, e.n, &s);
        free(e.list);
    }
    if (rc)
        return rc;
    drop_changed(t, p, old, &s);
    *ret_new = s;
    return 0;
}

int tree_update(struct tree *t, const struct subtree *old, const struct change *changes, size_t n,
    struct subtree *ret_new)
{
    struct subtree s;
    int rc = update(t, (struct place){0}, old, changes, n, &s);
    if (rc)
        return rc;
    if (s.count == 0)
        empty_root(t->salt, &s.hash);
    *ret_new = s;
    return 0;
}

int tree_get(struct tree *t, const struct subtree *root, struct view key, struct record *ret_record)
{
    struct hash kh;
    struct place p = {0};
    struct subtree s = *root;
    key_hash(key, &kh);
    while (s.count && !subtree_is_leaf(&s, p)) {
        struct inner n;
        unsigned nib = place_nibble(kh.b, p.depth);
        int rc = tree_inner_whole(t, p, &s.hash, &n);
        if (rc)
            return rc;
        s = n.child[nib];
        p = place_child(p, nib);
    }
    if (s.count == 0)
        return ERR_NOT_FOUND;
    struct stored_page page;
    struct view raw;
    int rc = tree_page(t, p, &s.hash, &page);
    if (!rc)
        rc = stored_page_raw(&page, &t->raw, &raw);
    if (rc)
        return rc == ERR_NOT_FOUND ? err_fail(ERR_CORRUPT, "a page of the tree is missing") : rc;
    struct reader r = reader_of(raw);
    while (r.rest.len) {
        struct record rec;
        rc = record_parse(&r, &rec);
        if (rc)
            return err_fail(ERR_CORRUPT, "stored page is damaged");
        if (view_eq(rec.key, key)) {
            *ret_record = rec;
            return 0;
        }
    }
    return ERR_NOT_FOUND;
}

static int each(struct tree *t, struct place p, const struct subtree *s, tree_visit_fn *visit, void *ctx)
{
    int rc = 0;
    if (s->count == 0)
        return 0;
    if (!subtree_is_leaf(s, p)) {
        struct inner n;
        rc = tree_inner_whole(t, p, &s->hash, &n);
        for (unsigned i = 0; !rc && i < 16; i++)
            rc = each(t, place_child(p, i), &n.child[i], visit, ctx);
        return rc;
    }
    struct entries e = {0};
    t->pool_n = 0;
    rc = load_leaf(t, p, &s->hash, &e);
    for (size_t i = 0; !rc && i < e.n; i++) {
        struct reader r = reader_of(e.list[i].record);
        struct record rec;
        rc = record_parse(&r, &rec);
        if (!rc)
            rc = visit(ctx, &rec, &e.list[i].hash);
    }
    free(e.list);
    return rc;
}

int tree_each(struct tree *t, const struct subtree *root, tree_visit_fn *visit, void *ctx)
{
    return each(t, (struct place){0}, root, visit, ctx);
}

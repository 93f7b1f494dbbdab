/* VIEW: what an upstream offers, against what the catalogue holds. The comparison is always over whole sets,
 * so a run that was missed loses nothing; the cursors only say when there is nothing to compare (A6 to A8,
 * A11). */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

/* Fields 11 (supersedes) and 12 (superseded_by) of Update, appended behind what the upstream said. */
#define TAG_SUPERSEDES 0x5a
#define TAG_SUPERSEDED_BY 0x62

struct compare {
    struct metadata *m;
    struct scope *s;
    const struct source_set *set;
    enum run_kind kind;
    json_t *filter;
    struct edits *out;
    bool *seen;
    struct gone { /* active records that the upstream no longer has */
        struct view key, value;
    } * gone;
    size_t n_gone, cap_gone;
    uint64_t retire;       /* expired records up to this serial have been there long enough */
    struct buf gone_bytes; /* their copies, as offsets until the walk is over */
};

int edits_add(struct edits *e, struct edit one)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 256;
        struct edit *list = realloc(e->list, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        e->list = list;
        e->cap = cap;
    }
    e->list[e->n++] = one;
    e->bytes += RECORD_HEADER_LEN + one.key.len + one.value.len;
    return 0;
}

void edits_done(struct edits *e)
{
    for (size_t i = 0; i < e->n_bufs; i++)
        buf_done(&e->bufs[i]);
    free(e->bufs);
    free(e->list);
    *e = (struct edits){0};
}

/* A buffer that lives as long as the edits. */
static struct buf *edits_buf(struct edits *e)
{
    if ((e->n_bufs & (e->n_bufs - 1)) == 0) {
        struct buf *bufs = realloc(e->bufs, (e->n_bufs ? e->n_bufs * 2 : 1) * sizeof *bufs);
        if (!bufs)
            return NULL;
        e->bufs = bufs;
    }
    e->bufs[e->n_bufs] = (struct buf){0};
    return &e->bufs[e->n_bufs++];
}

static bool listed(json_t *filter, const char *field, const char *value, const char *always)
{
    json_t *list = json_object_get(filter, field);
    if (!list || json_array_size(list) == 0 || (always && strcmp(value, always) == 0))
        return true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *one = json_string_value(json_array_get(list, i));
        if (one && strcmp(one, value) == 0)
            return true;
    }
    return false;
}

bool filter_match(json_t *filter, const struct source_item *item)
{
    return listed(filter, "products", item->product, NULL) &&
           listed(filter, "classifications", item->classification, NULL) &&
           listed(filter, "architectures", item->architecture, "all");
}

static const struct source_item *find_item(const struct source_set *set, struct view key)
{
    size_t lo = 0, hi = set->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = view_cmp(set->items[mid].key, key);
        if (c == 0)
            return &set->items[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* The supersedence that was appended to a stored value behind the upstream's own bytes; false: the bytes
 * differ. */
static bool same_but_tail(struct view stored, struct view value, struct view *ret_tail)
{
    if (stored.len < value.len || memcmp(stored.data, value.data, value.len) != 0)
        return false;
    struct reader r = reader_of(view_of(stored.data + value.len, stored.len - value.len));
    *ret_tail = r.rest;
    while (r.rest.len && !r.bad) {
        uint8_t tag = read_u8(&r);
        uint32_t len = 0;
        for (unsigned shift = 0; shift < 28; shift += 7) {
            uint8_t b = read_u8(&r);
            len |= (uint32_t)(b & 0x7f) << shift;
            if (!(b & 0x80))
                break;
        }
        (void)read_bytes(&r, len);
        if (tag != TAG_SUPERSEDES && tag != TAG_SUPERSEDED_BY)
            return false;
    }
    return !r.bad;
}

static void append_field(struct buf *b, uint8_t tag, struct view text)
{
    buf_u8(b, tag);
    size_t n = text.len;
    while (n >= 0x80) {
        buf_u8(b, (uint8_t)(n | 0x80));
        n >>= 7;
    }
    buf_u8(b, (uint8_t)n);
    buf_append_view(b, text);
}

static bool held(struct metadata *m, struct view key, struct view *ret_what)
{
    return meta_get(m->txn, meta_of("hold", key).s, ret_what) == 0;
}

static int remember_gone(struct compare *c, const struct record *r)
{
    if (c->n_gone == c->cap_gone) {
        size_t cap = c->cap_gone ? c->cap_gone * 2 : 64;
        struct gone *list = realloc(c->gone, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        c->gone = list;
        c->cap_gone = cap;
    }
    /* offsets, because the buffer moves while it grows */
    c->gone[c->n_gone].key = view_of((void *)(uintptr_t)c->gone_bytes.len, r->key.len);
    buf_append_view(&c->gone_bytes, r->key);
    c->gone[c->n_gone].value = view_of((void *)(uintptr_t)c->gone_bytes.len, r->value.len);
    buf_append_view(&c->gone_bytes, r->value);
    c->n_gone++;
    return c->gone_bytes.err;
}

static struct view kept_key(struct compare *c, struct view key)
{
    struct buf *b = edits_buf(c->out);
    if (!b)
        return (struct view){0};
    buf_append_view(b, key);
    return buf_view(b);
}

static int tombstone(struct compare *c, const struct record *r)
{
    struct view key = kept_key(c, r->key);
    c->out->removed++;
    c->out->live -= !(r->flags & RECORD_EXPIRED);
    return key.len ? edits_add(c->out, (struct edit){key, {0}, RECORD_TOMBSTONE, false}) : -ENOMEM;
}

static int visit_known(struct compare *c, const struct record *r, const struct source_item *item)
{
    struct view tail = {0};
    bool dead = r->flags & (RECORD_TOMBSTONE | RECORD_EXPIRED);
    bool excluded = !filter_match(c->filter, item);
    c->seen[item - c->set->items] = true;
    if (excluded) {
        c->out->lost += c->kind == RUN_FULL && !dead;
        return c->kind == RUN_FULL && !(r->flags & RECORD_TOMBSTONE) ? tombstone(c, r) : 0;
    }
    if (c->kind == RUN_DELTA_NEW && !(r->flags & RECORD_TOMBSTONE))
        return 0;
    struct view what;
    if (dead && held(c->m, r->key, &what)) /* an operator's word stands against the upstream's */
        return c->kind == RUN_FULL && r->flags == RECORD_EXPIRED && r->serial <= c->retire ? tombstone(c, r)
                                                                                           : 0;
    if (same_but_tail(r->value, item->value, &tail) && !dead)
        return 0;
    struct edit one = {item->key, item->value, 0, false};
    if (tail.len && !dead) { /* keeps what it supersedes */
        struct buf *b = edits_buf(c->out);
        if (!b)
            return -ENOMEM;
        buf_append_view(b, item->value);
        buf_append_view(b, tail);
        one.value = buf_view(b);
    }
    if (r->flags & RECORD_TOMBSTONE)
        c->out->added++;
    else
        c->out->changed++;
    c->out->live += dead;
    return edits_add(c->out, one);
}

static int visit(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    struct compare *c = ctx;
    const struct source_item *item = find_item(c->set, r->key);
    if (item)
        return visit_known(c, r, item);
    if (r->flags & RECORD_TOMBSTONE) {
        if (c->kind != RUN_FULL || r->serial > c->s->applied.delta_floor)
            return 0;
        struct view key = kept_key(c, r->key); /* every child that is further behind walks anyway */
        return key.len ? edits_add(c->out, (struct edit){key, {0}, 0, true}) : -ENOMEM;
    }
    if (r->flags & RECORD_EXPIRED)
        return c->kind == RUN_FULL && r->serial <= c->retire ? tombstone(c, r) : 0;
    return remember_gone(c, r);
}

/* "deb/<name>/" of "deb/<name>/<version>/<arch>". */
static bool same_name(struct view a, struct view b)
{
    if (a.len < 4 || memcmp(a.data, "deb/", 4) != 0)
        return false;
    const uint8_t *end = memchr(a.data + 4, '/', a.len - 4);
    size_t n = end ? (size_t)(end - a.data) + 1 : 0;
    return n && b.len >= n && memcmp(a.data, b.data, n) == 0;
}

static bool same_package(struct view a, struct view b)
{
    const uint8_t *sa = memrchr(a.data, '/', a.len), *sb = memrchr(b.data, '/', b.len);
    if (!sa || !sb || !same_name(a, b))
        return false;
    return view_eq(view_of(sa, a.len - (size_t)(sa - a.data)), view_of(sb, b.len - (size_t)(sb - b.data)));
}

static struct view version_of(struct view key)
{
    const uint8_t *end = memrchr(key.data, '/', key.len);
    const uint8_t *name_end = memchr(key.data + 4, '/', key.len - 4);
    return view_of(name_end + 1, end > name_end ? (size_t)(end - name_end - 1) : 0);
}

/* The newest offer of the same package and architecture that is newer than key; NULL: none. */
static const struct source_item *successor(const struct source_set *set, struct view key)
{
    const uint8_t *name_end = key.len > 4 ? memchr(key.data + 4, '/', key.len - 4) : NULL;
    const struct source_item *best = NULL;
    if (!name_end)
        return NULL;
    struct view prefix = view_of(key.data, (size_t)(name_end - key.data) + 1);
    size_t lo = 0, hi = set->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (view_cmp(set->items[mid].key, prefix) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < set->n && set->items[lo].key.len > prefix.len &&
           memcmp(set->items[lo].key.data, prefix.data, prefix.len) == 0;
         lo++) {
        const struct source_item *i = &set->items[lo];
        if (same_package(key, i->key) && deb_version_cmp(i->version, version_of(key)) > 0 &&
            (!best || deb_version_cmp(i->version, best->version) > 0))
            best = i;
    }
    return best;
}

static int expire_gone(struct compare *c)
{
    bool local = strncmp(c->s->name, "local/", 6) == 0;
    for (size_t i = 0; i < c->n_gone; i++) {
        struct record r = {.key = c->gone[i].key, .value = c->gone[i].value};
        int rc;
        if (local) { /* its publisher took it away */
            c->out->lost++;
            rc = tombstone(c, &r);
        } else {
            const struct source_item *by = successor(c->set, r.key);
            struct buf *b = edits_buf(c->out);
            if (!b)
                return -ENOMEM;
            buf_append_view(b, r.value);
            if (by)
                append_field(b, TAG_SUPERSEDED_BY, by->key);
            if (b->err)
                return -ENOMEM;
            c->out->lost++;
            c->out->expired++;
            c->out->live--;
            rc = edits_add(c->out, (struct edit){r.key, buf_view(b), RECORD_EXPIRED, false});
        }
        if (rc)
            return rc;
    }
    return 0;
}

static int gone_order(const void *a, const void *b)
{
    return view_cmp(((const struct gone *)a)->key, ((const struct gone *)b)->key);
}

/* The first of the gone records whose key is not before the package's part of key. */
static size_t gone_from(const struct compare *c, struct view key)
{
    const uint8_t *name_end = key.len > 4 ? memchr(key.data + 4, '/', key.len - 4) : NULL;
    struct view prefix = view_of(key.data, name_end ? (size_t)(name_end - key.data) + 1 : key.len);
    size_t lo = 0, hi = c->n_gone;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (view_cmp(c->gone[mid].key, prefix) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool any_hold(struct metadata *m)
{
    struct view prefix = view_str("hold/");
    struct store_walk w = store_walk_from(m->txn, TABLE_META, prefix, prefix);
    return store_walk_next(&w);
}

static int add_unseen(struct compare *c)
{
    bool holds = any_hold(c->m);
    if (c->n_gone)
        qsort(c->gone, c->n_gone, sizeof *c->gone, gone_order);
    for (size_t i = 0; i < c->set->n; i++) {
        const struct source_item *item = &c->set->items[i];
        struct view value = item->value, what;
        if (c->seen[i] || !filter_match(c->filter, item) || (holds && held(c->m, item->key, &what)))
            continue;
        for (size_t g = gone_from(c, item->key); g < c->n_gone && same_name(c->gone[g].key, item->key); g++) {
            if (!same_package(c->gone[g].key, item->key) ||
                deb_version_cmp(item->version, version_of(c->gone[g].key)) <= 0)
                continue;
            struct buf *b = edits_buf(c->out);
            if (!b)
                return -ENOMEM;
            buf_append_view(b, value);
            append_field(b, TAG_SUPERSEDES, c->gone[g].key);
            if (b->err)
                return -ENOMEM;
            value = buf_view(b);
        }
        c->out->added++;
        c->out->live++;
        int rc = edits_add(c->out, (struct edit){item->key, value, 0, false});
        if (rc)
            return rc;
    }
    return 0;
}

/* The newest serial of the scope that is older than expired updates are kept (serial_times_put). */
static uint64_t retired_serial(struct metadata *m, const struct scope *s)
{
    char prefix[160];
    uint64_t serial = 0;
    if (m->opt.expired_keep_ns == 0)
        return 0;
    snprintf(prefix, sizeof prefix, "serial-time/%u/", s->id);
    struct store_walk w = store_walk_from(m->txn, TABLE_META, view_str(prefix), view_str(prefix));
    while (store_walk_next(&w)) {
        struct reader r = reader_of(w.value);
        uint64_t at = read_be64(&r), n = read_be64(&r);
        if (r.bad || (int64_t)at > m->wall.ns - m->opt.expired_keep_ns)
            break;
        serial = n;
    }
    return serial;
}

static int visit_expired(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    struct compare *c = ctx;
    return r->flags == RECORD_EXPIRED && r->serial <= c->retire ? tombstone(c, r) : 0;
}

int view_retire(struct metadata *m, struct scope *s, struct edits *into)
{
    struct compare c = {.m = m, .s = s, .kind = RUN_FULL, .out = into, .retire = retired_serial(m, s)};
    AUTO_TREE t;
    state_tree(m, s, &t);
    char name[64];
    snprintf(name, sizeof name, "retired/%u", s->id);
    if (c.retire <= meta_get_u64(m->txn, name))
        return 0; /* done already up to there */
    meta_put_u64(m->txn, name, c.retire);
    return tree_each(&t, &s->applied.tree, visit_expired, &c);
}

int view_compare(
    struct metadata *m, struct scope *s, const struct source_set *set, enum run_kind kind, struct edits *into)
{
    struct compare c = {.m = m, .s = s, .set = set, .kind = kind, .out = into};
    AUTO_TREE t;
    state_tree(m, s, &t);
    c.filter = m->filter.len ? json_loadb((const char *)m->filter.data, m->filter.len, 0, NULL) : NULL;
    c.retire = retired_serial(m, s);
    c.seen = calloc(set->n ? set->n : 1, sizeof *c.seen);
    int rc = c.seen ? tree_each(&t, &s->applied.tree, visit, &c) : -ENOMEM;
    for (size_t i = 0; i < c.n_gone; i++) {
        c.gone[i].key.data = c.gone_bytes.data + (uintptr_t)c.gone[i].key.data;
        c.gone[i].value.data = c.gone_bytes.data + (uintptr_t)c.gone[i].value.data;
    }
    if (!rc)
        rc = add_unseen(&c);
    if (!rc && kind == RUN_FULL)
        rc = expire_gone(&c);
    if (c.gone_bytes.len) { /* the edits refer to it */
        struct buf *b = edits_buf(into);
        if (b) {
            *b = c.gone_bytes;
        } else {
            buf_done(&c.gone_bytes);
            rc = -ENOMEM;
        }
    }
    free(c.gone);
    free(c.seen);
    json_decref(c.filter);
    return rc;
}

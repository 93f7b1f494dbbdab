/* Makes records of a site's store silently wrong or missing, as a disk or a stray program would: the pages
 * keep their names, their record hashes and their place. catalogue_damage STORE COUNT SEED     STORE is the
 * folder of the metadata worker's store; nothing else may use it meanwhile. Every other record loses one bit
 * of its value, the rest are cut out of their page. Prints one JSON object: wrong, missing, pages. */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/metadata.h"
#include "services/metadata/page.h"

struct leaf {
    struct buf key;
    size_t first; /* number of its first record among all */
    unsigned n;
};
struct list {
    struct leaf *leaf;
    size_t n, cap, records;
};

static int list_add(struct list *l, struct view key, unsigned n)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 1024;
        struct leaf *more = realloc(l->leaf, l->cap * sizeof *more);
        if (!more)
            return -ENOMEM;
        l->leaf = more;
    }
    struct leaf *leaf = &l->leaf[l->n++];
    *leaf = (struct leaf){.first = l->records, .n = n};
    buf_append_view(&leaf->key, key);
    l->records += n;
    return leaf->key.err;
}

static int find_leaves(struct store_txn *t, struct list *l)
{
    struct store_walk w = store_walk_from(t, TABLE_PAGES, (struct view){0}, (struct view){0});
    while (store_walk_next(&w)) {
        struct stored_page p;
        int rc = stored_page_parse(w.value, &p);
        if (!rc && p.kind == PAGE_LEAF && p.n)
            rc = list_add(l, w.key, p.n);
        if (rc)
            return rc;
    }
    return store_txn_error(t);
}

/* The page again with its chosen records wrong (mark 1) or cut out (mark 2). */
static int spoil(struct store_txn *t, const struct leaf *leaf, const uint8_t *mark)
{
    AUTO_BUF old = {0};
    AUTO_BUF plain = {0};
    AUTO_BUF raw = {0};
    struct stored_page page;
    struct view v, bytes;
    struct place place;
    struct hash hash;
    uint32_t scope;
    int rc = store_get(t, TABLE_PAGES, buf_view(&leaf->key), &v);
    if (rc)
        return rc;
    buf_append_view(&old, v);
    rc = key_page_split(buf_view(&leaf->key), &scope, &place, &hash);
    if (!rc)
        rc = stored_page_parse(buf_view(&old), &page);
    if (!rc)
        rc = stored_page_raw(&page, &plain, &bytes);
    if (rc)
        return rc;
    struct reader r = reader_of(bytes);
    for (unsigned i = 0; i < leaf->n; i++) {
        struct record rec;
        rc = record_parse(&r, &rec);
        if (rc)
            return rc;
        if (mark[i] == 2)
            continue;
        size_t at = raw.len + (size_t)(rec.value.data - rec.bytes.data) + rec.value.len / 2;
        buf_append_view(&raw, rec.bytes);
        if (raw.err)
            return raw.err;
        if (mark[i] == 1 && rec.value.len)
            raw.data[at] ^= 1;
    }
    page_put(t, scope, place, &hash, PAGE_LEAF, buf_view(&raw), NULL,
        view_of(page.record_hashes, 32u * page.n), !page.compressed);
    return store_txn_error(t);
}

static int damage(struct store *store, size_t count, unsigned seed)
{
    struct list l = {0};
    struct store_txn *t;
    size_t pages = 0;
    int rc = store_begin(store, true, &t);
    if (rc)
        return rc;
    rc = find_leaves(t, &l);
    uint8_t *mark = rc || count > l.records ? NULL : calloc(l.records, 1);
    if (!rc && !mark)
        rc = err_fail(ERR_NOT_FOUND, "only %zu records", l.records);
    srandom(seed);
    for (size_t done = 0; !rc && done < count;) {
        size_t i = ((size_t)random() << 31 | (size_t)random()) % l.records;
        if (!mark[i])
            mark[i] = (uint8_t)(1 + done++ % 2);
    }
    for (size_t i = 0; !rc && i < l.n; i++) {
        bool any = false;
        for (unsigned k = 0; k < l.leaf[i].n; k++)
            any = any || mark[l.leaf[i].first + k];
        if (any)
            rc = spoil(t, &l.leaf[i], mark + l.leaf[i].first);
        pages += any;
    }
    if (rc)
        store_abort(t);
    else
        rc = store_commit(t);
    if (!rc)
        printf("{\"wrong\":%zu,\"missing\":%zu,\"pages\":%zu,\"records\":%zu}\n", count - count / 2,
            count / 2, pages, l.records);
    for (size_t i = 0; i < l.n; i++)
        buf_done(&l.leaf[i].key);
    free(l.leaf);
    free(mark);
    return rc;
}

int main(int argc, char **argv)
{
    struct store_options opt = {.tables = metadata_tables, .n_tables = metadata_n_tables};
    struct store *store = NULL;
    if (argc != 4) {
        fprintf(stderr, "usage: catalogue_damage STORE COUNT SEED\n");
        return 2;
    }
    int rc = store_open_lmdb(argv[1], &opt, &store);
    if (!rc)
        rc = damage(store, strtoul(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
    store_close(store);
    if (rc) {
        fprintf(stderr, "catalogue_damage: %s: %s\n", argv[1], err_text(rc));
        return 1;
    }
    return 0;
}

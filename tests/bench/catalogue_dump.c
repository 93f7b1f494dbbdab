/* Writes the records of a site's catalogue as the bare loops read them: a row of [4-byte length][bytes], by
 * key. catalogue_dump STORE OUT [SINCE] STORE is the folder of the metadata worker's store; nothing else may
 * use it meanwhile. SINCE: only records with a greater serial. Prints one JSON object: records, bytes, and
 * what zstd 3 makes of all records and of all values. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "services/metadata/head.h"
#include "services/metadata/metadata.h"
#include "services/metadata/tree.h"

struct line {
    uint8_t *bytes;
    size_t len;
    struct view key, value;
};
struct dump {
    struct line *list;
    size_t n, cap;
    uint64_t since;
};

static int add(void *ctx, const struct record *r, const struct hash *hash)
{
    struct dump *d = ctx;
    (void)hash;
    if (r->serial <= d->since)
        return 0;
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 4096;
        struct line *list = realloc(d->list, d->cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        d->list = list;
    }
    struct line *l = &d->list[d->n];
    *l = (struct line){.bytes = malloc(r->bytes.len + 1), .len = r->bytes.len};
    if (!l->bytes)
        return -ENOMEM;
    memcpy(l->bytes, r->bytes.data, r->bytes.len);
    l->key = view_of(l->bytes + (r->key.data - r->bytes.data), r->key.len);
    l->value = view_of(l->bytes + (r->value.data - r->bytes.data), r->value.len);
    d->n++;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    size_t n = x->key.len < y->key.len ? x->key.len : y->key.len;
    int c = memcmp(x->key.data, y->key.data, n);
    return c ? c : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}

static int dump_scope(struct store_txn *t, const Sitetree__Scope *s, struct dump *d)
{
    uint8_t salt[16];
    struct subtree root = {.count = (uint32_t)s->count, .bytes = s->bytes};
    struct tree tree;
    struct view row;
    int rc = hash_from_view(pb_view(s->root), &root.hash);
    if (!rc)
        rc = store_get(t, TABLE_SCOPES, view_str(s->name), &row);
    if (rc || row.len != 12)
        return rc ? rc : ERR_CORRUPT;
    scope_salt(s->name, salt);
    uint32_t id =
        (uint32_t)row.data[0] << 24 | (uint32_t)row.data[1] << 16 | (uint32_t)row.data[2] << 8 | row.data[3];
    tree_init(&tree, t, id, salt);
    rc = tree_each(&tree, &root, add, d);
    tree_done(&tree);
    return rc;
}

static int dump_all(struct store *store, struct dump *d)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct store_txn *t;
    struct view bytes;
    int rc = store_begin(store, false, &t);
    if (rc)
        return rc;
    rc = meta_get(t, "head", &bytes);
    if (!rc) {
        Sitetree__HeadBytes *h = MESSAGE_UNPACK(&a, bytes, 4u << 20, head_bytes, &rc);
        Sitetree__ScopeList *l = h ? MESSAGE_UNPACK(&a, pb_view(h->scopes), 4u << 20, scope_list, &rc) : NULL;
        for (size_t i = 0; l && !rc && i < l->n_scopes; i++)
            rc = dump_scope(t, l->scopes[i], d);
    }
    store_abort(t);
    return rc;
}

static size_t packed_size(const struct dump *d, bool values)
{
    AUTO_BUF all = {0};
    AUTO_BUF packed = {0};
    for (size_t i = 0; i < d->n; i++) {
        struct view v = values ? d->list[i].value : view_of(d->list[i].bytes, d->list[i].len);
        buf_append_view(&all, v);
    }
    return zstd_pack(buf_view(&all), 3, &packed) ? 0 : packed.len;
}

static int write_out(const struct dump *d, const char *path, size_t *ret_bytes)
{
    FILE *f = fopen(path, "wb");
    size_t bytes = 0;
    if (!f)
        return -errno;
    for (size_t i = 0; i < d->n; i++) {
        uint32_t len = (uint32_t)d->list[i].len;
        fwrite(&len, sizeof len, 1, f);
        fwrite(d->list[i].bytes, 1, len, f);
        bytes += len;
    }
    int rc = ferror(f) ? -EIO : 0;
    *ret_bytes = bytes;
    return fclose(f) ? -errno : rc;
}

int main(int argc, char **argv)
{
    struct store_options opt = {.tables = metadata_tables, .n_tables = metadata_n_tables, .read_only = true};
    struct dump d = {0};
    struct store *store = NULL;
    size_t bytes = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: catalogue_dump STORE OUT [SINCE]\n");
        return 2;
    }
    d.since = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    int rc = store_open_lmdb(argv[1], &opt, &store);
    if (!rc)
        rc = dump_all(store, &d);
    store_close(store);
    if (!rc && d.n)
        qsort(d.list, d.n, sizeof *d.list, by_key);
    if (!rc)
        rc = write_out(&d, argv[2], &bytes);
    if (rc) {
        fprintf(stderr, "catalogue_dump: %s: %s\n", argv[1], err_text(rc));
        return 1;
    }
    printf("{\"records\":%zu,\"bytes\":%zu,\"zstd\":%zu,\"zstd_values\":%zu}\n", d.n, bytes,
        packed_size(&d, false), packed_size(&d, true));
    for (size_t i = 0; i < d.n; i++)
        free(d.list[i].bytes);
    free(d.list);
    return 0;
}

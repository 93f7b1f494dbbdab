#include "tests/lib/world_catalogue.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "services/metadata/head.h"
#include "services/metadata/tree.h"
#include "tests/lib/world_catalogue_internal.h"
#include "tests/lib/world_internal.h"

/* Reading a committed store. */

int catalogue_scope_id(struct store_txn *t, const char *scope, uint32_t *ret_id)
{
    struct view v;
    int rc = store_get(t, TABLE_SCOPES, view_str(scope), &v);
    if (rc)
        return rc;
    struct reader r = reader_of(v);
    *ret_id = read_be32(&r);
    return 0;
}

int catalogue_head(struct world *w, struct store_txn *t, struct head **ret_head)
{
    struct view v;
    int rc = meta_get(t, "head", &v);
    struct head_trust trust = {.hierarchy = w->hierarchy};
    memcpy(trust.head_key, w->head_key.public, sizeof trust.head_key);
    return rc ? rc : head_parse_stored(v, &trust, ret_head);
}

/* Calls back for every record of the applied head; scopes in their order, records in that of their key
 * hashes. */
int catalogue_each(
    struct world *w, struct store_txn *t, const struct head *h, tree_visit_fn *visit, void *ctx)
{
    (void)w;
    for (size_t i = 0; i < h->n_scopes; i++) {
        const struct scope_entry *e = &h->scopes[i];
        uint8_t salt[16];
        uint32_t id;
        if (e->tree.count == 0)
            continue;
        int rc = catalogue_scope_id(t, e->name, &id);
        if (rc)
            return err_fail(ERR_CORRUPT, "scope %s of the applied head is not in the store", e->name);
        scope_salt(e->name, salt);
        struct tree tree;
        tree_init(&tree, t, id, salt);
        rc = tree_each(&tree, &e->tree, visit, ctx);
        tree_done(&tree);
        if (rc)
            return rc;
    }
    return 0;
}

struct digest {
    struct hash_state state;
    uint64_t records;
    struct world *w;
    const char *site;
    uint64_t generation;
};

static int digest_record(void *ctx, const struct record *r, const struct hash *hash)
{
    (void)hash;
    struct digest *d = ctx;
    hash_more(&d->state, r->bytes.data, r->bytes.len);
    d->records++;
    bool tombstone = r->flags & RECORD_TOMBSTONE;
    if (tombstone)
        properties_dead(d->w, r->key, d->generation);
    else
        properties_alive(d->w, r->key, d->generation, d->site);
    return 0;
}

static int quick_probe(struct store_txn *t, struct world_shown *ret_shown)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct view v;
    int rc = meta_get(t, "head", &v);
    if (rc)
        return rc;
    Sitetree__HeadBytes *m = MESSAGE_UNPACK(&a, v, 4u << 20, head_bytes, &rc);
    if (!m || !m->head)
        return err_fail(ERR_CORRUPT, "the applied head does not decode");
    Sitetree__Head *h = MESSAGE_UNPACK(&a, pb_view(m->head->payload), 512, head, &rc);
    if (!h || epoch_from_view(pb_view(h->epoch), &ret_shown->epoch) ||
        hash_from_view(pb_view(h->root), &ret_shown->root))
        return err_fail(ERR_CORRUPT, "the applied head does not decode");
    ret_shown->generation = h->generation;
    head_hash(pb_view(m->head->payload), &ret_shown->head);
    return 0;
}

static int probe(struct world_process *p, struct store_txn *t, bool deep, struct world_shown *ret_shown)
{
    int rc = quick_probe(t, ret_shown);
    if (rc || !deep)
        return rc;
    struct head *h = NULL;
    rc = catalogue_head(p->w, t, &h); /* with its signature: P9 */
    if (rc)
        return rc;
    struct digest d = {.w = p->w, .site = p->site->code, .generation = h->generation};
    hash_start(&d.state, "world", NULL);
    rc = catalogue_each(p->w, t, h, digest_record, &d);
    hash_end(&d.state, &ret_shown->content);
    ret_shown->records = d.records;
    head_free(h);
    return rc;
}

static int make(struct world_process *p, struct store *store, const struct random_source *random,
    const void *config, void **ret_core)
{
    struct metadata_options opt;
    metadata_options_default(&opt);
    if (config)
        opt = *(const struct metadata_options *)config;
    opt.store_refused = p->died_of == ERR_MAP_FULL;
    struct metadata *m;
    int rc = metadata_new(&opt, store, random, &m);
    if (rc == 0)
        *ret_core = m;
    return rc;
}

static void free_core(void *core)
{
    metadata_free(core);
}

static int step(void *core, struct store_txn *txn, const struct input *in, struct effects *fx)
{
    return metadata_step(core, txn, in, fx);
}

const struct world_core world_metadata = {
    .name = "metadata",
    .tables = metadata_tables,
    .n_tables = &metadata_n_tables,
    .make = make,
    .free = free_core,
    .step = step,
    .probe = probe,
    .on_send = properties_on_send,
    .on_input = properties_on_input,
    .on_commit = properties_on_commit,
    .job_time = upstream_job_time,
    .job = upstream_job,
};

struct world *world_catalogue_new(const struct world_options *opt)
{
    struct world_options o = *opt;
    o.core = &world_metadata;
    return world_new(&o);
}

void world_may_return(struct world *w)
{
    upstreams_of(w)->may_return = true;
}

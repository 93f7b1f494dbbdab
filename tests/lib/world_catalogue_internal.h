/* What the files behind world_catalogue.h share: reading a committed store, pages that come twice, fake
 * upstreams. Only tests/lib includes this. */
#pragma once
#include "services/metadata/head.h"
#include "services/metadata/source.h"
#include "services/metadata/tree.h"
#include "tests/lib/world_catalogue.h"
#include "tests/lib/world_internal.h"

struct upstream_item {
    char key[64];
    char product[32], classification[32];
    uint64_t revision;
};
struct upstream {
    char name[32], scope[64];
    struct upstream_item *items;
    size_t n, cap;
    uint64_t made; /* names ever made */
    int fail;
    bool hang;
    int64_t slow;
    unsigned fetches;
};
struct upstreams {
    struct upstream *list;
    size_t n;
    struct dead { /* keys that are tombstones, and from which generation on; a table by hash */
        uint64_t key, generation;
    } * dead;
    size_t n_dead, cap_dead;
    bool may_return;
    struct signed_once {
        struct epoch epoch;
        uint64_t generation, counter, trust;
        struct hash head;
    } * signed_heads;
    size_t n_signed;
    struct seen_set deltas;   /* that the first site sent */
    struct seen_set requests; /* P6: what was followed and what has ended, by site */
};
struct upstreams *upstreams_of(struct world *w);
void upstreams_free(void *u);
struct upstream *upstream_find(struct world *w, const char *name); /* aborts when there is none */

/* For struct world_core. */
int64_t upstream_job_time(struct world_process *p, const struct blob *argument);
int upstream_job(struct world_process *p, const struct blob *argument, void **ret_result);

/* world_catalogue.c: the committed store. The head is checked against the world's key; ERR_NOT_FOUND: none
 * yet. */
int catalogue_scope_id(struct store_txn *t, const char *scope, uint32_t *ret_id);
int catalogue_head(struct world *w, struct store_txn *t, struct head **ret_head);
int catalogue_each(
    struct world *w, struct store_txn *t, const struct head *h, tree_visit_fn *visit, void *ctx);

/* world_properties.c: for struct world_core, and for whoever reads records. */
void properties_on_send(struct world_process *p, const struct effect *e);
void properties_on_input(struct world_process *p, const struct input *in);
void properties_on_commit(struct world_process *p);
void properties_signed(struct world *w, struct view payload); /* also by whoever stole the key */
void properties_dead(struct world *w, struct view key, uint64_t generation);
void properties_alive(struct world *w, struct view key, uint64_t generation, const char *site);

/* world_pages.c: P7, for struct world_core. */
void pages_on_get(struct world_process *p, const struct frame *f);
void pages_on_input(struct world_process *p, const struct input *in);
void pages_on_commit(struct world_process *p);

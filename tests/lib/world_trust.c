#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "services/metadata/tables.h"
#include "services/node/trust.h"
#include "tests/lib/world_full.h"
#include "tests/lib/world_internal.h"

/* Another head key in the middle of everything, as `sitetree trust rotate` brings it. */

static void statement_of(struct view chain, struct buf *ret_statement)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Chain *m = MESSAGE_UNPACK(&a, chain, TRUST_BYTES_MAX, chain, &rc);
    must(m);
    buf_reset(ret_statement);
    message_pack(&m->trust->base, ret_statement);
}

void world_rotate(struct world *w)
{
    struct world_site *s = w->sites[0];
    struct certificate c = {.tier = TIER_CENTRAL, .serial = 1, .issued = {WALL_START}};
    AUTO_BUF chain = {0};
    uint8_t seed[32];
    if (s->has_node)
        world_full_certificate(s, &c);
    snprintf(c.code.s, sizeof c.code.s, "%s", s->code);
    if (!s->has_node) /* then nobody looks at these */
        c.sign_key[0] = c.link_key[0] = 1;
    chance_fill(&w->chance, seed, sizeof seed);
    w->old_head_key = w->head_key;
    sign_key_from_seed(seed, &w->head_key);
    w->trust_version++;
    if (trust_make(&w->root_key, w->trust_version, w->head_key.public, &c, &chain))
        abort();
    statement_of(buf_view(&chain), &w->trust);
    trace(w, s, "trust version %llu", (unsigned long long)w->trust_version);
    if (s->has_node)
        world_full_trust(s, buf_view(&chain));
    else if (s->up)
        shim_site_info(&s->worker);
}

struct blob *world_hint_of(struct world *w, const char *code)
{
    struct store_txn *t;
    struct view v;
    struct blob *b = NULL;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (store_begin(world_store(w, code), false, &t))
        return NULL;
    Sitetree__Hint hint = SITETREE__HINT__INIT;
    if (meta_get(t, "head", &v) == 0)
        hint.head = MESSAGE_UNPACK(&a, v, 4u << 20, head_bytes, &rc);
    if (hint.head)
        b = frame_pack(FRAME_HINT, CLASS_HEAD, 0, NULL, &hint.base, false);
    store_abort(t);
    return b;
}

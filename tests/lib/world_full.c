#include "tests/lib/world_full.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/link.pb-c.h"
#include "services/node/join.h"
#include "services/node/token.h"
#include "tests/lib/world_internal.h"

/* What lies in the folder of a site: it outlives crashes. */
struct identity_files {
    struct sign_key site;
    struct link_key link;
    struct sign_key head;
    bool central, joined;
    struct buf chain;
    struct node_place parents[NODE_PARENTS_MAX];
    unsigned n_parents;
};

static void files_free(void *files)
{
    struct identity_files *f = files;
    buf_done(&f->chain);
    free(f);
}

static struct identity_files *files_of(struct world_site *s)
{
    if (!s->identity) {
        struct identity_files *f = must(calloc(1, sizeof *f));
        uint8_t seed[32];
        chance_fill(&s->w->chance, seed, sizeof seed);
        sign_key_from_seed(seed, &f->site);
        chance_fill(&s->w->chance, seed, sizeof seed);
        link_key_from_seed(seed, &f->link);
        s->identity = f;
        s->identity_free = files_free;
    }
    return s->identity;
}

static bool may_start(struct world_process *p)
{
    return files_of(p->site)->joined;
}

static const uint8_t *link_key(struct world_process *p)
{
    return files_of(p->site)->link.public;
}

static bool place(struct view bytes, char ret_code[32])
{
    struct node_place p;
    if (place_of_blob(bytes, &p))
        return false;
    snprintf(ret_code, 32, "%s", p.code.s);
    return true;
}

static void link_stats(void *ctx, struct peer peer, struct link_stats *ret_stats)
{
    struct world_site *s = ctx;
    struct world_link *l = peer.kind == PEER_CHILD ? link_of_session(s, peer.id) : s->up_link;
    *ret_stats = (struct link_stats){0};
    if (l) {
        ret_stats->known = true;
        ret_stats->queue_bytes = l->ways[peer.kind == PEER_CHILD].queued_bytes;
    }
}

static int make(struct world_process *p, struct store *store, const struct random_source *random,
    const void *config, void **ret_core)
{
    struct world_site *s = p->site;
    struct identity_files *f = files_of(s);
    struct node_options o;
    node_options_default(&o);
    if (config)
        o = *(const struct node_options *)config;
    snprintf(o.site.s, sizeof o.site.s, "%s", s->code);
    o.hierarchy = s->w->hierarchy;
    snprintf(o.advertise, sizeof o.advertise, "%s.example:1", s->code);
    snprintf(o.advertise_hints, sizeof o.advertise_hints, "%s.example:2", s->code);
    memcpy(o.parents, f->parents, sizeof o.parents);
    o.n_parents = f->n_parents;
    o.link_stats = link_stats;
    o.link_stats_ctx = s;
    struct node_keys keys = {
        .site = f->site,
        .link = f->link,
        .head = f->head,
        .has_head = f->central,
        .chain = buf_view(&f->chain),
    };
    struct node *n;
    int rc = node_new(&o, &keys, store, random, &n);
    if (rc == 0)
        *ret_core = n;
    return rc;
}

void world_full_certificate(struct world_site *s, struct certificate *c)
{
    struct identity_files *f = files_of(s);
    memcpy(c->sign_key, f->site.public, 32);
    memcpy(c->link_key, f->link.public, 32);
}

void world_full_trust(struct world_site *s, struct view chain)
{
    struct identity_files *f = files_of(s);
    buf_reset(&f->chain);
    buf_append_view(&f->chain, chain);
    f->head = s->w->head_key;
    struct node_keys keys = {
        .site = f->site, .link = f->link, .head = f->head, .has_head = true, .chain = buf_view(&f->chain)};
    if (s->up && s->node.core && node_set_trust(s->node.core, &keys))
        world_break(s->w, "setup", "the node does not take its own trust");
    if (s->up)
        world_tell(s->w, s->code, "trust.reload", NULL);
}

static void free_core(void *core)
{
    node_free(core);
}

static int step(void *core, struct store_txn *txn, const struct input *in, struct effects *fx)
{
    return node_step(core, txn, in, fx);
}

const struct world_core world_node = {
    .name = "node",
    .tables = node_tables,
    .n_tables = &node_n_tables,
    .make = make,
    .free = free_core,
    .step = step,
    .link_key = link_key,
    .may_start = may_start,
    .place = place,
};

struct world *world_full_new(const struct world_options *opt, const char *central)
{
    struct world_options o = *opt;
    o.core = &world_metadata;
    o.node = &world_node;
    struct world *w = world_new(&o);
    world_add_site(w, central, NULL);
    struct world_site *s = w->sites[0];
    struct identity_files *f = files_of(s);
    uint8_t seed[32];
    chance_fill(&w->chance, seed, sizeof seed);
    sign_key_from_seed(seed, &w->root_key);
    hierarchy_id(w->root_key.public, &w->hierarchy);
    f->head = w->head_key;
    f->central = true;
    struct certificate c = {.tier = TIER_CENTRAL, .serial = 1, .issued = {WALL_START}};
    snprintf(c.code.s, sizeof c.code.s, "%s", central);
    memcpy(c.sign_key, f->site.public, 32);
    memcpy(c.link_key, f->link.public, 32);
    if (trust_make(&w->root_key, 1, w->head_key.public, &c, &f->chain)) {
        world_break(w, "setup", "no trust statement: %s", err_text(ERR_MALFORMED));
        return w;
    }
    f->joined = true;
    site_start(s);
    (void)world_run_for(w, NS_PER_S);
    return w;
}

static char *invite(struct world *w, const char *code, const char *parent, bool move)
{
    json_t *j =
        world_call(w, parent, "site.invite", json_pack("{s:s, s:b}", "site", code, "move", (int)move));
    const char *token = json_string_value(json_object_get(json_object_get(j, "data"), "token"));
    char *copy = token ? must(strdup(token)) : NULL;
    json_decref(j);
    return copy;
}

char *world_invite(struct world *w, const char *code, const char *parent)
{
    return invite(w, code, parent, false);
}

/* What the parent's ZAP table says of a key. */
static const char *user_of(const struct world_site *s, const uint8_t key[32])
{
    for (size_t i = 0; i < s->n_access; i++)
        if (memcmp(s->access[i].key, key, 32) == 0)
            return s->access[i].user;
    return "";
}

static int read_answer(struct world_site *s, const struct token *token, struct blob *answer)
{
    struct identity_files *f = files_of(s);
    struct frame frame;
    AUTO_ARENA a;
    arena_init(&a);
    if (!answer)
        return err_fail(ERR_TIMEOUT, "the parent does not answer");
    int rc = frame_parse(blob_view(answer), &frame);
    if (rc)
        return rc;
    if (frame.type == FRAME_REFUSAL) {
        Sitetree__Refusal *r = FRAME_UNPACK(&a, &frame, refusal, &rc);
        return r ? err_fail(r->code, "%s", r->text) : rc;
    }
    struct joined joined;
    buf_reset(&f->chain);
    rc = joined_check(frame.body, token, &f->site, &f->link, &joined, &f->chain);
    if (rc)
        return rc;
    memcpy(f->parents, joined.parents, sizeof f->parents);
    f->n_parents = joined.n_parents;
    f->joined = true;
    return 0;
}

static bool has_site(struct world *w, const char *code)
{
    for (unsigned i = 0; i < w->n_sites; i++)
        if (strcmp(w->sites[i]->code, code) == 0)
            return true;
    return false;
}

static bool answered(struct world *w, void *ctx)
{
    (void)ctx;
    return w->join_answer != NULL;
}

int world_join_with(struct world *w, const char *code, const char *parent, const char *text)
{
    struct token token;
    struct link_key key;
    if (!has_site(w, code))
        world_add_site(w, code, parent);
    struct world_site *s = site_find(w, code), *up = site_find(w, parent);
    struct identity_files *f = files_of(s);
    int rc = token_decode(text, &token);
    if (rc)
        return rc;
    link_key_from_seed(token.secret, &key);
    const char *user = user_of(up, key.public);
    if (!user[0])
        return err_fail(ERR_KEY, "the door of %s is closed for this key", parent);
    struct blob *frame =
        must(join_request_make(77, (uint64_t)(WALL_START + w->now), &token, &f->site, &f->link));
    w->join_session = ++w->sessions;
    struct input in = {
        .kind = INPUT_FRAME,
        .from = {PEER_CHILD, w->join_session},
        .user = view_str(user),
        .frame = frame,
        .body = blob_view(frame),
    };
    if (up->up)
        process_give(&up->node, &in);
    (void)world_run_until(w, answered, NULL, 10 * NS_PER_S);
    rc = read_answer(s, &token, w->join_answer);
    blob_free(frame);
    blob_free(w->join_answer);
    w->join_answer = NULL;
    w->join_session = 0;
    token_done(&token);
    if (rc == 0)
        site_start(s);
    return rc;
}

int world_join(struct world *w, const char *code, const char *parent)
{
    char *token = world_invite(w, code, parent);
    if (!token)
        return err_fail(ERR_REFUSED, "%s does not invite %s", parent, code);
    int rc = world_join_with(w, code, parent, token);
    free(token);
    return rc;
}

int world_move_site(struct world *w, const char *code, const char *parent)
{
    char *token = invite(w, code, parent, true);
    if (!token)
        return err_fail(ERR_REFUSED, "%s does not invite %s", parent, code);
    int rc = world_join_with(w, code, parent, token);
    free(token);
    if (rc == 0) { /* the daemon begins anew with what lies in its folder */
        world_crash(w, code);
        world_restart(w, code);
    }
    return rc;
}

struct node_view world_node_view(struct world *w, const char *code)
{
    struct node_view v = {.uplink = "none"};
    struct world_site *s = site_find(w, code);
    if (s->node.core)
        node_look(s->node.core, &v);
    return v;
}

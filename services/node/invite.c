#include "services/node/core.h"

#include <stdio.h>

#include "services/node/join.h"

#define TTL_DEFAULT_NS (24 * 3600 * NS_PER_S)
#define TTL_MAX_NS (366 * 86400 * NS_PER_S)
#define INVITE_KEEP_NS                                                                                       \
    (30 * 86400 * NS_PER_S) /* so long a late joiner hears why, and not only a closed door */

static void user_of(const char *id, char out[40])
{
    snprintf(out, 40, "invite:%.31s", id);
}

int invite_start(struct step *s)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct store_walk w = store_walk_from(s->txn, TABLE_INVITES, view_of(NULL, 0), view_of(NULL, 0));
    while (store_walk_next(&w)) {
        Sitetree__StoredInvite *m;
        char id[40], user[40];
        int rc = table_read(w.value, &a, &sitetree__stored_invite__descriptor, &m);
        if (rc)
            return rc;
        if (m->link_key.len != 32 || w.key.len > 31)
            return err_fail(ERR_CORRUPT, "a stored invitation does not decode");
        snprintf(id, sizeof id, "%.*s", (int)w.key.len, (const char *)w.key.data);
        user_of(id, user);
        if ((int64_t)m->expires + INVITE_KEEP_NS < s->in->wall.ns)
            store_del(s->txn, TABLE_INVITES, w.key);
        else
            effects_access(s->fx, m->link_key.data, user);
        arena_reset(&a);
    }
    return store_txn_error(s->txn);
}

static const char *state_of(const Sitetree__StoredInvite *m, struct wall now)
{
    if (m->used_at)
        return "used";
    if (m->revoked_at)
        return "revoked";
    return now.ns >= (int64_t)m->expires ? "expired" : "open";
}

static json_t *invite_json(const char *id, const Sitetree__StoredInvite *m, struct wall now)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:o}", "id", id, "site", m->code, "tier", m->tier,
        "created", json_wall((struct wall){(int64_t)m->created}), "expires",
        json_wall((struct wall){(int64_t)m->expires}), "state", state_of(m, now), "used_at",
        json_wall((struct wall){(int64_t)m->used_at}));
}

/* Calls for each invitation; the id is borrowed for the call. */
typedef int invite_fn(struct step *s, const char *id, Sitetree__StoredInvite *m, void *ctx);
static int invite_each(struct step *s, invite_fn *fn, void *ctx)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct store_walk w = store_walk_from(s->txn, TABLE_INVITES, view_of(NULL, 0), view_of(NULL, 0));
    while (store_walk_next(&w)) {
        Sitetree__StoredInvite *m;
        char id[40];
        snprintf(id, sizeof id, "%.*s", (int)(w.key.len < 39 ? w.key.len : 39), (const char *)w.key.data);
        int rc = table_read(w.value, &a, &sitetree__stored_invite__descriptor, &m);
        if (!rc)
            rc = fn(s, id, m, ctx);
        if (rc)
            return rc;
        arena_reset(&a);
    }
    return store_txn_error(s->txn);
}

static void revoke(struct step *s, const char *id, Sitetree__StoredInvite *m)
{
    struct key k = key_text(id);
    m->revoked_at = (uint64_t)s->in->wall.ns;
    table_put(s->txn, TABLE_INVITES, &k, &m->base);
    EVENT(s, "site.revoked", .site = m->code, .text = id);
}

static int revoke_open(struct step *s, const char *id, Sitetree__StoredInvite *m, void *code)
{
    if (strcmp(m->code, code) == 0 && strcmp(state_of(m, s->in->wall), "open") == 0)
        revoke(s, id, m);
    return 0;
}

static int move_check(const struct node *n, const char *code, const struct site *site)
{
    for (unsigned i = 0; i <= n->id.depth; i++)
        if (strcmp(n->id.path[i].code.s, code) == 0)
            return err_fail(ERR_LOOP, "%s is above %s: it cannot move below it", code, n->opt.site.s);
    if (site && site->known && site->up == &n->self)
        return err_fail(ERR_EXISTS, "%s is a child of %s already", code, n->opt.site.s);
    return 0;
}

static int wish_check(const struct node *n, json_t *args, struct token *t, int64_t *ret_ttl)
{
    const char *code = args_text(args, "site"), *tier = args_text(args, "tier");
    json_t *ttl = json_object_get(args, "ttl");
    if (!code || !site_code_valid(code))
        return err_fail(
            ERR_USAGE, "site: a code of letters, digits, - _ . (at most %d) is needed", SITE_CODE_MAX);
    COPY_TEXT(t->code.s, code);
    enum tier own = n->self.cert.tier;
    t->tier = own == TIER_CENTRAL ? TIER_PRIMARY : TIER_BRANCH;
    if (tier && tier_parse(tier, &t->tier))
        return err_fail(ERR_USAGE, "%s", err_text(ERR_MALFORMED));
    if (t->tier == TIER_CENTRAL || t->tier < own)
        return err_fail(ERR_USAGE, "a %s site cannot be below a %s one", tier_word(t->tier), tier_word(own));
    double seconds = json_is_number(ttl) ? json_number_value(ttl) : TTL_DEFAULT_NS / NS_PER_S;
    if (!(seconds >= 1) || seconds > TTL_MAX_NS / NS_PER_S)
        return err_fail(ERR_USAGE, "ttl: 1 second to 366 days are possible");
    *ret_ttl = (int64_t)(seconds * NS_PER_S);
    const struct site *site = site_look(n, code);
    t->move = json_is_true(json_object_get(args, "move"));
    int rc = t->move ? move_check(n, code, site) : 0;
    if (rc)
        return rc;
    if (t->move && site && site->known && !tier)
        t->tier = site->cert.tier;
    if (!t->move && site && site->known)
        return err_fail(ERR_EXISTS, "%s is a site of this tree already (below %s)", code,
            site->cert.parent.s[0] ? site->cert.parent.s : "none");
    if (n->id.depth >= TRUST_DEPTH_MAX)
        return err_fail(ERR_TOO_LARGE, "the tree is %d levels deep already", TRUST_DEPTH_MAX);
    if (endpoint_check(n->opt.advertise) || endpoint_check(n->opt.advertise_hints))
        return err_fail(
            ERR_CONFIG, "this site does not know under which address children reach it: set advertise");
    return 0;
}

static void places_fill(const struct node *n, struct node_place places[NODE_PARENTS_MAX], unsigned *ret_n)
{
    struct node_place *own = &places[0];
    *own = (struct node_place){.code = n->opt.site};
    COPY_TEXT(own->endpoint, n->opt.advertise);
    COPY_TEXT(own->hints, n->opt.advertise_hints);
    memcpy(own->link_key, n->keys.link.public, 32);
    *ret_n = 1;
    for (unsigned i = 0; i < n->n_places && *ret_n < NODE_PARENTS_MAX; i++)
        places[(*ret_n)++] = n->places[i];
}

static int invite_make(struct step *s, json_t *args)
{
    struct node *n = s->n;
    struct token t = {.hierarchy = n->id.hierarchy, .parent = n->opt.site};
    int64_t ttl = 0;
    int rc = wish_check(n, args, &t, &ttl);
    if (!rc)
        rc = invite_each(s, revoke_open, t.code.s); /* the new one takes the place of an earlier one */
    if (rc)
        return rc;
    t.expires.ns = s->in->wall.ns + ttl;
    places_fill(n, t.parents, &t.n_parents);
    uint8_t raw[8];
    char id[17], user[40];
    struct link_key key;
    n->random->fill(n->random->ctx, raw, sizeof raw);
    n->random->fill(n->random->ctx, t.secret, sizeof t.secret);
    hex_encode(raw, sizeof raw, id);
    user_of(id, user);
    link_key_from_seed(t.secret, &key);
    AUTO_BUF line = {0};
    rc = token_encode(&t, &line);
    buf_u8(&line, 0);
    token_done(&t);
    secret_wipe(key.secret, sizeof key.secret);
    if (rc || line.err)
        return rc ? rc : line.err;
    Sitetree__StoredInvite m = SITETREE__STORED_INVITE__INIT;
    m.code = t.code.s;
    m.tier = (char *)(uintptr_t)tier_word(t.tier);
    m.link_key = pb_bytes(view_of(key.public, 32));
    m.created = (uint64_t)s->in->wall.ns;
    m.expires = (uint64_t)t.expires.ns;
    m.move = t.move;
    struct key k = key_text(id);
    table_put(s->txn, TABLE_INVITES, &k, &m.base);
    effects_access(s->fx, key.public, user);
    EVENT(s, "site.invited", .site = t.code.s, .text = id);
    reply_data(s, s->in->command, "site-invite",
        json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:b}", "token", (const char *)line.data, "site", t.code.s,
            "tier", tier_word(t.tier), "expires", json_wall(t.expires), "endpoint", n->opt.advertise, "id",
            id, "move", t.move),
        0, false);
    secret_wipe(line.data, line.len);
    return 0;
}

static int list_one(struct step *s, const char *id, Sitetree__StoredInvite *m, void *list)
{
    return json_array_append_new(list, invite_json(id, m, s->in->wall)) ? -ENOMEM : 0;
}

static int invite_list(struct step *s)
{
    json_t *list = json_array();
    int rc = invite_each(s, list_one, list);
    if (rc) {
        json_decref(list);
        return rc;
    }
    reply_data(s, s->in->command, "site-invites", json_pack("{s:o}", "invites", list), 0, false);
    return 0;
}

struct search {
    const char *id, *code;
    char found[40];
};

static int match_one(struct step *s, const char *id, Sitetree__StoredInvite *m, void *ctx)
{
    struct search *q = ctx;
    bool open = strcmp(state_of(m, s->in->wall), "open") == 0;
    if ((q->id && strcmp(q->id, id) == 0) || (!q->id && strcmp(q->code, m->code) == 0 && open))
        COPY_TEXT(q->found, id);
    return 0;
}

static int invite_revoke(struct step *s, json_t *args)
{
    struct search q = {.id = args_text(args, "id"), .code = args_text(args, "site")};
    if (!q.id && !q.code)
        return err_fail(ERR_USAGE, "id or site is needed");
    int rc = invite_each(s, match_one, &q);
    if (rc)
        return rc;
    if (!q.found[0])
        return err_fail(ERR_NOT_FOUND, q.id ? "no invitation %.40s" : "no open invitation for %.40s",
            q.id ? q.id : q.code);
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__StoredInvite *m;
    struct key k = key_text(q.found);
    rc = table_get(s->txn, TABLE_INVITES, &k, &a, &sitetree__stored_invite__descriptor, &m);
    if (rc)
        return rc;
    if (m->used_at)
        return err_fail(
            ERR_TOKEN_USED, "%s has joined with this invitation: remove the site instead", m->code);
    if (!m->revoked_at)
        revoke(s, q.found, m);
    reply_data(s, s->in->command, "site-revoke", invite_json(q.found, m, s->in->wall), 0, false);
    return 0;
}

int invite_command(struct step *s, const char *verb, json_t *args)
{
    if (strcmp(verb, "invite") == 0)
        return invite_make(s, args);
    if (strcmp(verb, "invites") == 0)
        return invite_list(s);
    return invite_revoke(s, args);
}

static bool same_keys(const Sitetree__StoredInvite *m, const struct join_request *j)
{
    return m->sign_key.len == 32 && m->site_link_key.len == 32 &&
           memcmp(m->sign_key.data, j->sign_key, 32) == 0 &&
           memcmp(m->site_link_key.data, j->link_key, 32) == 0;
}

static int join_check(struct step *s, const Sitetree__StoredInvite *m, const struct join_request *j)
{
    const struct node *n = s->n;
    if (strcmp(m->code, j->code.s) != 0)
        return err_fail(ERR_TOKEN, "the invitation is for %s, not for %s", m->code, j->code.s);
    if (m->used_at)
        return same_keys(m, j)
                   ? 0
                   : err_fail(ERR_TOKEN_USED, "%s has joined with this invitation already", m->code);
    if (m->revoked_at)
        return err_fail(ERR_TOKEN, "the invitation of %s was revoked at %s", m->code, n->opt.site.s);
    if (s->in->wall.ns >= (int64_t)m->expires) {
        char at[32];
        return err_fail(ERR_TOKEN_EXPIRED, "the invitation of %s was good until %s", m->code,
            wall_text((struct wall){(int64_t)m->expires}, at));
    }
    if (m->move != (j->move != 0))
        return err_fail(ERR_TOKEN, m->move ? "the invitation is for a site that moves: sitetree site move"
                                           : "the invitation is for a site that is new");
    const struct site *site = site_look(n, m->code);
    if (site && site->known && (!m->move || memcmp(site->cert.sign_key, j->sign_key, 32) != 0))
        return err_fail(ERR_EXISTS, "%s is a site of this tree already", m->code);
    if (m->move && site && site->known && j->move <= site->cert.move)
        return err_fail(ERR_ROLLBACK, "%s has moved since", m->code);
    if (m->move) /* what is above this site may have changed since the invitation */
        for (unsigned i = 0; i <= n->id.depth; i++)
            if (strcmp(n->id.path[i].code.s, m->code) == 0)
                return err_fail(ERR_LOOP, "%s is above %s", m->code, n->opt.site.s);
    return m->move ? consent_verify(&n->id.hierarchy, m->code, n->opt.site.s, j->move, j->sign_key,
                         view_of(j->consent, sizeof j->consent))
                   : 0;
}

/* Admits the site: certificate, table, door, answer; all of it in this transaction. */
static int join_admit(struct step *s, const char *id, Sitetree__StoredInvite *m, const struct join_request *j,
    struct buf *joined)
{
    struct node *n = s->n;
    struct certificate cert = {
        .code = j->code, .parent = n->opt.site, .serial = n->certificate_serial + 1, .issued = s->in->wall};
    memcpy(cert.sign_key, j->sign_key, 32);
    memcpy(cert.link_key, j->link_key, 32);
    cert.move = j->move;
    memcpy(cert.consent, j->consent, sizeof cert.consent);
    int rc = tier_parse(m->tier, &cert.tier);
    AUTO_BUF payload = {0};
    AUTO_BUF chain = {0};
    uint8_t signature[64];
    if (!rc)
        rc = certificate_make(&n->id.hierarchy, &cert, &n->keys.site, &payload, signature);
    if (rc)
        return rc;
    Sitetree__Signed bytes = SITETREE__SIGNED__INIT;
    bytes.payload = pb_bytes(buf_view(&payload));
    bytes.signature = pb_bytes(view_of(signature, sizeof signature));
    bytes.key = pb_bytes(view_of(n->keys.site.public, 32));
    rc = chain_extend(buf_view(&n->chain), &bytes, &chain);
    struct node_place places[NODE_PARENTS_MAX];
    unsigned n_places;
    places_fill(n, places, &n_places);
    if (!rc)
        rc = joined_make(
            buf_view(&chain), places, n_places, n->self.last.generation, n->self.last.records, joined);
    struct site *site = site_look(n, cert.code.s);
    if (!rc && !site) {
        rc = site_add(n, &cert, &site);
        if (!rc)
            site->number = n->next_number++;
    } else if (!rc) {
        struct key k = key_text(cert.code.s);
        store_del(s->txn, TABLE_REPORTS, key_view(&k));
        site->reported = false;
        site->last = (struct summary){0};
    }
    if (rc)
        return rc;
    n->certificate_serial = cert.serial;
    table_number_put(s->txn, "number", n->next_number);
    table_number_put(s->txn, "certificate", n->certificate_serial);
    site->cert = cert;
    memcpy(site->signer, n->keys.site.public, 32);
    site->joined = s->in->wall;
    site->removed = site->seen = (struct wall){0};
    site->chain_dirty = true;
    site_store(s, site, &bytes, NULL, id);
    sites_link(n);
    return 0;
}

static int join_answer(struct step *s, const char *id, const struct join_request *j, struct buf *ret_joined)
{
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__StoredInvite *m;
    struct key k = key_text(id);
    int rc = table_get(s->txn, TABLE_INVITES, &k, &a, &sitetree__stored_invite__descriptor, &m);
    if (rc == ERR_NOT_FOUND)
        return err_fail(ERR_TOKEN, "%s does not know this invitation (any more)", s->n->opt.site.s);
    if (!rc)
        rc = join_check(s, m, j);
    if (rc)
        return rc;
    if (m->used_at) { /* the answer was lost on its way: the same again */
        buf_append(ret_joined, m->joined.data, m->joined.len);
        return ret_joined->err;
    }
    rc = join_admit(s, id, m, j, ret_joined);
    if (rc)
        return rc;
    m->used_at = (uint64_t)s->in->wall.ns;
    m->sign_key = pb_bytes(view_of(j->sign_key, 32));
    m->site_link_key = pb_bytes(view_of(j->link_key, 32));
    m->joined = pb_bytes(buf_view(ret_joined));
    table_put(s->txn, TABLE_INVITES, &k, &m->base);
    EVENT(s, "site.joined", .site = j->code.s, .text = m->tier);
    report_changed(s);
    report_relay_soon(s);
    return 0;
}

int invite_on_join(struct step *s, const struct frame *f, const char *id)
{
    struct node *n = s->n;
    struct join_request j;
    AUTO_BUF joined = {0};
    int rc = join_request_check(f, &n->id.hierarchy, &j);
    if (!rc)
        rc = join_answer(s, id, &j, &joined);
    if (rc && rc > -1000) /* the store's, or memory */
        return rc;
    if (rc == ERR_CORRUPT || rc == ERR_DISK || rc == ERR_MAP_FULL)
        return rc;
    if (rc) {
        char why[200];
        COPY_TEXT(why, err_text(rc));
        refusal_note(s, id, true, rc, why);
        EVENT(s, "link.refused", .code = rc, .text = why);
        effects_send(s->fx, s->in->from, CLASS_HEAD, frame_refusal(f->request, err_fail(rc, "%s", why)));
        return 0;
    }
    sites_doors(s);
    effects_send(s->fx, s->in->from, CLASS_HEAD,
        frame_wrap(FRAME_JOINED, CLASS_HEAD, f->request, NULL, buf_view(&joined), false));
    return 0;
}

int site_remove(struct step *s, struct site *site)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__StoredSite *stored;
    struct key k = key_text(site->cert.code.s);
    int rc = table_get(s->txn, TABLE_SITES, &k, &a, &sitetree__stored_site__descriptor, &stored);
    if (rc)
        return rc;
    Sitetree__Removal m = SITETREE__REMOVAL__INIT;
    m.hierarchy = pb_bytes(view_of(n->id.hierarchy.b, 32));
    m.site = site->cert.code.s;
    m.parent = n->opt.site.s;
    m.serial = site->cert.serial;
    m.at = (uint64_t)s->in->wall.ns;
    AUTO_BUF payload = {0};
    message_pack(&m.base, &payload);
    if (payload.err)
        return payload.err;
    uint8_t signature[64];
    sign_detached(&n->keys.site, "removal", buf_view(&payload), signature);
    Sitetree__Signed removal = SITETREE__SIGNED__INIT;
    removal.payload = pb_bytes(buf_view(&payload));
    removal.signature = pb_bytes(view_of(signature, sizeof signature));
    site->removed = s->in->wall;
    site->chain_dirty = true;
    site_store(s, site, stored->certificate, &removal, stored->invite);
    revoked_add(s, site);
    sites_link(n);
    sites_doors(s);
    EVENT(s, "site.removed", .site = site->cert.code.s);
    report_changed(s);
    report_relay_soon(s);
    return 0;
}

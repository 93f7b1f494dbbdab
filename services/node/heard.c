#include "services/node/core.h"

#include <stdio.h>

/* What is heard from below: certificates, removals and reports. Nothing of it is believed because of the link
 * that it came by; the link only decides which part of the tree it may speak about. */

static void summary_take(const Sitetree__SiteReport *r, struct summary *m)
{
    m->serial = r->serial;
    m->made.ns = (int64_t)r->made;
    m->offset_ns = r->clock_offset_ns;
    m->generation = r->generation;
    m->records = r->records;
    m->lag_ns = r->generation ? (int64_t)(r->lag_ns > INT64_MAX ? INT64_MAX : r->lag_ns) : -1;
    m->backlog = r->backlog_bytes;
    m->applied_at.ns = (int64_t)r->applied_at;
    m->verified_at.ns = (int64_t)r->verified_at;
    m->recalled = r->recalled;
    m->recalled_at.ns = (int64_t)r->recalled_at;
    m->bytes_in = r->bytes_in;
    m->bytes_out = r->bytes_out;
    m->refusals = r->refusals;
    m->children = r->children;
    m->rtt_ns = (int64_t)r->rtt_ns;
    m->parent_heard_ns = r->parent_heard_ms ? r->parent_heard_ms * NS_PER_MS : -1;
    m->store_used = r->store_used;
    m->store_limit = r->store_limit;
    m->worker_restarts = r->worker_restarts;
    m->epoch = (struct epoch){0};
    m->root = (struct hash){0};
    if (r->epoch.len == sizeof m->epoch.b)
        memcpy(m->epoch.b, r->epoch.data, sizeof m->epoch.b);
    if (r->root.len == 32)
        memcpy(m->root.b, r->root.data, 32);
    COPY_TEXT(m->state, r->state);
    COPY_TEXT(m->cause, r->cause);
    COPY_TEXT(m->text, r->text);
    COPY_TEXT(m->run, r->run);
    COPY_TEXT(m->run_result, r->run_result);
    COPY_TEXT(m->software, r->software);
    COPY_TEXT(m->last_refusal, r->last_refusal);
    COPY_TEXT(m->via, r->via);
}

static int report_read(const Sitetree__Signed *m, struct arena *a, Sitetree__SiteReport **ret_report)
{
    int rc;
    *ret_report = MESSAGE_UNPACK(a, pb_view(m->payload), REPORT_BYTES_MAX, site_report, &rc);
    return *ret_report ? 0 : rc;
}

int heard_load(struct step *s)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct store_walk w = store_walk_from(s->txn, TABLE_REPORTS, view_of(NULL, 0), view_of(NULL, 0));
    while (store_walk_next(&w)) {
        Sitetree__StoredReport *m;
        Sitetree__SiteReport *r;
        int rc = table_read(w.value, &a, &sitetree__stored_report__descriptor, &m);
        if (!rc && m->report)
            rc = report_read(m->report, &a, &r);
        if (rc)
            return rc;
        struct site *site = m->report ? site_look(s->n, r->site) : NULL;
        if (site && site != &s->n->self) {
            summary_take(r, &site->last);
            site->reported = true;
            site->heard.ns = (int64_t)m->heard;
            site->changed.ns = (int64_t)m->changed;
        }
        arena_reset(&a);
    }
    return store_txn_error(s->txn);
}

static int report_check(const struct step *s, const struct session *c, const Sitetree__Signed *m,
    const Sitetree__SiteReport *r, struct site **ret_site)
{
    const struct node *n = s->n;
    struct site *site = site_look(n, r->site);
    if (!site || site == &n->self || !site->known || !site_is_below(site, c->site))
        return err_fail(ERR_UNKNOWN_SITE, "a report of '%.31s', which is not known below %s", r->site,
            c->site->cert.code.s);
    if (m->key.len && (m->key.len != 32 || memcmp(m->key.data, site->cert.sign_key, 32) != 0))
        return err_fail(ERR_KEY, "a report of %s that names another key", r->site);
    int rc = sign_verify(site->cert.sign_key, "report", pb_view(m->payload), pb_view(m->signature));
    if (rc)
        return err_wrap(rc, "report of %s", r->site);
    if (r->hierarchy.len != 32 || memcmp(r->hierarchy.data, n->id.hierarchy.b, 32) != 0)
        return err_fail(ERR_KEY, "a report of %s for another hierarchy", r->site);
    if (strcmp(r->parent, site->cert.parent.s) != 0)
        return err_fail(ERR_KEY, "a report of %s below '%.31s', it is certified below %s", r->site, r->parent,
            site->cert.parent.s);
    if (site->reported && r->serial < site->last.serial)
        return err_fail(ERR_ROLLBACK, "an old report of %s was sent again", r->site);
    *ret_site = site;
    return 0;
}

static int report_take(struct step *s, struct session *c, const Sitetree__Signed *m)
{
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__SiteReport *r;
    struct site *site = NULL;
    int rc = report_read(m, &a, &r);
    struct site *old = rc ? NULL : site_look(s->n, r->site);
    if (old && old->reported && r->serial <= old->last.serial && old->by && old->by != c->site)
        return 0; /* newer ones have come another way since: the sender need not know of that */
    if (!rc)
        rc = report_check(s, c, m, r, &site);
    if (rc)
        return rc;
    if (site->reported && r->serial == site->last.serial)
        return 0; /* the same one again, after a reconnect */
    char state[16], cause[32];
    COPY_TEXT(state, r->state);
    COPY_TEXT(cause, r->cause);
    if (!site->reported || strcmp(site->last.state, state) != 0 || strcmp(site->last.cause, cause) != 0)
        site->changed = s->in->wall;
    if (site->session && c->site != site &&
        site->by == site) /* its goodbye was lost: it is connected elsewhere */
        session_end(s, site->session, "replaced");
    summary_take(r, &site->last);
    site->reported = true;
    site->by = c->site;
    site->heard = s->in->wall;
    site->dirty = true;
    Sitetree__StoredReport stored = SITETREE__STORED_REPORT__INIT;
    stored.report = (Sitetree__Signed *)(uintptr_t)m;
    stored.heard = (uint64_t)site->heard.ns;
    stored.changed = (uint64_t)site->changed.ns;
    struct key k = key_text(site->cert.code.s);
    table_put(s->txn, TABLE_REPORTS, &k, &stored.base);
    report_relay_soon(s);
    return 0;
}

static void report_forget(struct step *s, struct site *site)
{
    struct key k = key_text(site->cert.code.s);
    store_del(s->txn, TABLE_REPORTS, key_view(&k));
    site->reported = site->dirty = false;
    site->last = (struct summary){0};
}

/* One certificate of a checked chain. */
static int certificate_take(struct step *s, const struct certificate *cert, const struct certificate *parent,
    const Sitetree__Signed *m)
{
    struct node *n = s->n;
    struct site *site = site_look(n, cert->code.s);
    if (site == &n->self)
        return err_fail(ERR_LOOP, "%s stands below itself", cert->code.s);
    bool same_parent = site && strcmp(site->cert.parent.s, cert->parent.s) == 0;
    if (site && same_parent && memcmp(site->signer, parent->sign_key, 32) == 0 &&
        cert->serial <= site->cert.serial)
        return 0; /* known, or taken back since */
    bool moves = site && memcmp(site->cert.sign_key, cert->sign_key, 32) == 0 &&
                 (site->cert.move || cert->move); /* by the site's own word, which the chain proves */
    if (moves && cert->move < site->cert.move)
        return 0; /* whoever sent it has not heard of the move */
    if (moves && cert->move == site->cert.move && !same_parent)
        return err_fail(ERR_EXISTS, "%s has moved to two places at once", cert->code.s);
    if (site && !same_parent && site->known && !moves) {
        EVENT(s, "site.conflict", .site = cert->code.s,
            .text = "the code is in use at another place of the tree");
        return err_fail(ERR_EXISTS, "%s is known below %s, and now came from below %s", cert->code.s,
            site->cert.parent.s, cert->parent.s);
    }
    bool fresh = !site;
    if (fresh) {
        int rc = site_add(n, cert, &site);
        if (rc)
            return rc;
        site->number = n->next_number++;
        table_number_put(s->txn, "number", n->next_number);
    } else {
        report_forget(s, site);
    }
    site->cert = *cert;
    memcpy(site->signer, parent->sign_key, 32);
    site->joined = s->in->wall;
    site->removed = (struct wall){0};
    site->chain_dirty = true;
    Sitetree__Signed stored = *m;
    stored.key = pb_bytes(view_of(parent->sign_key, 32));
    site_store(s, site, &stored, NULL, NULL);
    EVENT(s, "site.known", .site = cert->code.s, .text = cert->parent.s);
    sites_link(n);
    sites_doors(s);
    report_relay_soon(s);
    return 0;
}

static int chain_take(struct step *s, struct session *c, const Sitetree__Chain *chain)
{
    const struct node *n = s->n;
    struct identity id;
    int rc = chain_verify(chain, &n->id.hierarchy, &id);
    if (rc)
        return rc;
    unsigned own = n->id.depth, sender = own;
    for (const struct site *p = c->site; p && p != &n->self; p = p->up)
        sender++;
    if (id.depth <= sender || memcmp(id.path[own].sign_key, n->keys.site.public, 32) != 0 ||
        memcmp(id.path[sender].sign_key, c->site->cert.sign_key, 32) != 0)
        return err_fail(
            ERR_KEY, "%s sent the certificate of a site that is not below it", c->site->cert.code.s);
    for (unsigned i = sender + 1; i <= id.depth && !rc; i++)
        rc = certificate_take(s, &id.path[i], &id.path[i - 1], chain->certificates[i - 1]);
    return rc;
}

static int removal_take(struct step *s, struct session *c, const Sitetree__Signed *m)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Removal *r = MESSAGE_UNPACK(&a, pb_view(m->payload), REPORT_BYTES_MAX, removal, &rc);
    if (!r)
        return rc;
    struct site *site = site_look(n, r->site);
    if (!site || site->removed.ns)
        return 0;
    if (site->cert.move && strcmp(r->parent, site->cert.parent.s) != 0)
        return 0; /* it has left that parent */
    if (!site->up || site->up == &n->self || !site_is_below(site, c->site) ||
        strcmp(r->parent, site->cert.parent.s) != 0)
        return err_fail(ERR_KEY, "%s cannot remove '%.31s'", c->site->cert.code.s, r->site);
    rc = sign_verify(site->signer, "removal", pb_view(m->payload), pb_view(m->signature));
    if (rc)
        return rc;
    if (r->hierarchy.len != 32 || memcmp(r->hierarchy.data, n->id.hierarchy.b, 32) != 0)
        return err_fail(ERR_KEY, "a removal for another hierarchy");
    if (r->serial < site->cert.serial)
        return 0; /* it has joined again since */
    Sitetree__StoredSite *stored;
    struct key k = key_text(site->cert.code.s);
    rc = table_get(s->txn, TABLE_SITES, &k, &a, &sitetree__stored_site__descriptor, &stored);
    if (rc)
        return rc;
    site->removed = s->in->wall;
    site->chain_dirty = true;
    site_store(s, site, stored->certificate, m, NULL);
    revoked_add(s, site);
    sites_link(n);
    sites_doors(s);
    EVENT(s, "site.removed", .site = site->cert.code.s, .text = site->cert.parent.s);
    report_relay_soon(s);
    return 0;
}

/* Refusals of single items do not spoil the rest of the frame. Only what the store or the memory refuses ends
 * the step. */
static int judge(struct step *s, struct session *c, int rc)
{
    if (rc != ERR_SIGNATURE && rc != ERR_KEY && rc != ERR_MALFORMED && rc != ERR_TOO_LARGE &&
        rc != ERR_LOOP && rc != ERR_ROLLBACK && rc != ERR_UNKNOWN_SITE && rc != ERR_EXISTS)
        return rc;
    char why[200];
    COPY_TEXT(why, err_text(rc));
    bool quiet = s->in->now.ns - s->n->refusal_stored.ns < NS_PER_S;
    refusal_note(s, c->site->cert.code.s, true, rc, why);
    if (!quiet)
        EVENT(s, "report.refused", .site = c->site->cert.code.s, .code = rc, .text = why);
    return 0;
}

int heard_on_reports(struct step *s, struct session *c, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Reports *m = FRAME_UNPACK(&a, f, reports, &rc);
    if (!m)
        return judge(s, c, rc);
    rc = 0;
    for (size_t i = 0; i < m->n_chains && !rc; i++)
        rc = judge(s, c, chain_take(s, c, m->chains[i]));
    for (size_t i = 0; i < m->n_removals && !rc; i++)
        rc = judge(s, c, removal_take(s, c, m->removals[i]));
    for (size_t i = 0; i < m->n_reports && !rc; i++)
        rc = judge(s, c, report_take(s, c, m->reports[i]));
    return rc;
}

#include "services/node/core.h"

#include <stdio.h>
#include <stdlib.h>

static int by_parent_then_code(const void *a, const void *b)
{
    const struct site *x = *(const struct site *const *)a, *y = *(const struct site *const *)b;
    int c = strcmp(x->cert.parent.s, y->cert.parent.s);
    return c ? c : strcmp(x->cert.code.s, y->cert.code.s);
}

struct order {
    const struct site **by_parent; /* known sites, ascending by parent, then code */
    size_t n;
    const struct site **out;
    size_t n_out;
};

static void walk(struct order *o, const struct site *site, unsigned depth)
{
    o->out[o->n_out++] = site;
    size_t lo = 0, hi = o->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(o->by_parent[mid]->cert.parent.s, site->cert.code.s) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; depth <= TRUST_DEPTH_MAX && lo < o->n &&
           strcmp(o->by_parent[lo]->cert.parent.s, site->cert.code.s) == 0;
         lo++)
        walk(o, o->by_parent[lo], depth + 1);
}

int sites_in_order(const struct node *n, const struct site *top, const struct site ***ret_list, size_t *ret_n)
{
    struct order o = {.by_parent = calloc(n->n_sites + 1, sizeof *o.by_parent),
        .out = calloc(n->n_sites + 2, sizeof *o.out)};
    if (!o.by_parent || !o.out) {
        free(o.by_parent);
        free(o.out);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n->n_sites; i++)
        if (n->sites[i]->known)
            o.by_parent[o.n++] = n->sites[i];
    qsort(o.by_parent, o.n, sizeof *o.by_parent, by_parent_then_code);
    walk(&o, top, 0);
    free(o.by_parent);
    *ret_list = o.out;
    *ret_n = o.n_out;
    return 0;
}

static struct wall seen_at(const struct node *n, const struct site *site, struct wall now)
{
    if (site == &n->self)
        return now;
    if (site->session)
        return site->session->heard_wall;
    return site->seen.ns > site->heard.ns ? site->seen : site->heard;
}

static json_t *integer_or_null(bool known, uint64_t v)
{
    return known ? json_integer((json_int_t)v) : json_null();
}

json_t *site_json(const struct node *n, const struct site *site, struct wall now)
{
    const struct summary *m = &site->last;
    const char *cause;
    enum site_class class = site_class_of(n, site, now, &cause);
    bool self = site == &n->self, told = self ? n->worker_full : site->reported;
    bool rooted = self ? n->rooted : told && !hash_is_zero(&m->root);
    struct wall seen = seen_at(n, site, now);
    /* The worker says live for as long as it knows nothing newer; without a link that is no more than a
     * memory. */
    bool apart =
        self && n->up.state != UPLINK_NONE && n->up.state != UPLINK_LIVE && strcmp(m->state, "live") == 0;
    unsigned depth = 0;
    for (const struct site *up = site; up != &n->self && up && depth <= TRUST_DEPTH_MAX; up = up->up)
        depth++;
    json_t *j =
        json_pack("{s:s, s:s, s:o, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "site", site->cert.code.s,
            "tier", tier_word(site->cert.tier), "parent", json_text_or_null(site->cert.parent.s), "depth",
            (int)(depth + n->id.depth), "class", site_class_word(class), "state",
            self && n->up.orphan ? json_string("orphan")
            : apart              ? json_string("connect")
                                 : json_text_or_null(m->state),
            "cause", json_text_or_null(cause), "text",
            json_text_or_null(self && n->worker_cause[0] ? n->worker_text : m->text), "generation",
            integer_or_null(told && m->generation, m->generation), "records",
            integer_or_null(told && m->generation, m->records), "root",
            rooted ? json_hex(m->root.b, 32) : json_null());
    json_t *more = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "lag",
        json_seconds(site_lag(n, site, now)), "bytes_in",
        integer_or_null(site->reported, self ? n->up.bytes_in : m->bytes_in), "bytes_out",
        integer_or_null(site->reported, self ? n->up.bytes_out : m->bytes_out), "seen",
        seen.ns ? json_seconds(now.ns > seen.ns ? now.ns - seen.ns : 0) : json_null(), "clock_offset",
        site->reported && (m->offset_ns || m->rtt_ns) ? json_real((double)m->offset_ns / NS_PER_S)
                                                      : json_null(),
        "rtt", m->rtt_ns ? json_seconds(m->rtt_ns) : json_null(), "version", json_text_or_null(m->software),
        "backlog", integer_or_null(told, m->backlog), "applied_at", json_wall(m->applied_at), "run",
        json_text_or_null(m->run));
    json_object_set_new(more, "run_result", json_text_or_null(m->run_result));
    json_object_set_new(more, "since", json_wall(site->changed));
    json_object_set_new(more, "refusals", integer_or_null(site->reported, m->refusals));
    json_object_set_new(more, "last_refusal", json_text_or_null(m->last_refusal));
    json_object_set_new(more, "verified_at", json_wall(m->verified_at));
    const struct site *above = site_above(n, site);
    json_object_set_new(more, "via",
        self                         ? json_text_or_null(n->up.away ? uplink_site(n) : "")
        : above && above != site->up ? json_string(above->cert.code.s)
                                     : json_null());
    json_object_update(j, more);
    json_decref(more);
    return j;
}

static int tree(struct step *s, json_t *args)
{
    const struct node *n = s->n;
    const char *below = args_text(args, "below");
    const struct site *top = below ? site_look(n, below) : &n->self;
    if (!top || !top->known)
        return err_fail(ERR_UNKNOWN_SITE, "no site %.31s at or below %s", below, n->opt.site.s);
    const struct site **order;
    size_t count;
    int rc = sites_in_order(n, top, &order, &count);
    if (rc)
        return rc;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *j = site_json(n, order[i], s->in->wall);
        json_int_t total = 0, live = 0;
        for (size_t k = i + 1; k < count && site_is_below(order[k], order[i]); k++) {
            total++;
            live += site_class_of(n, order[k], s->in->wall, NULL) == SITE_LIVE;
        }
        json_object_set_new(j, "below", json_integer(total));
        json_object_set_new(j, "below_live", json_integer(live));
        json_array_append_new(list, j);
    }
    free(order);
    reply_data(s, s->in->command, "tree", json_pack("{s:o}", "sites", list), 0, false);
    return 0;
}

#define CAUSES_MAX 32
struct counts {
    json_int_t of_class[SITE_CLASSES], total;
    int64_t *lags;
    size_t n_lags;
    int64_t lag_max;
    const struct site *slowest;
    struct {
        char word[32];
        json_t *sites;
        struct wall since;
        json_int_t count;
    } causes[CAUSES_MAX];
    size_t n_causes;
};

static void count_cause(struct counts *c, const struct site *site, const char *cause)
{
    size_t i = 0;
    while (i < c->n_causes && strcmp(c->causes[i].word, cause) != 0)
        i++;
    if (i == CAUSES_MAX)
        return;
    if (i == c->n_causes) {
        COPY_TEXT(c->causes[i].word, cause);
        c->causes[i].sites = json_array();
        c->n_causes++;
    }
    c->causes[i].count++;
    if (json_array_size(c->causes[i].sites) < 20)
        json_array_append_new(c->causes[i].sites, json_string(site->cert.code.s));
    struct wall since = site->session || !site->seen.ns ? site->changed : site->seen;
    if (since.ns && (!c->causes[i].since.ns || since.ns < c->causes[i].since.ns))
        c->causes[i].since = since;
}

static void count_site(struct counts *c, const struct node *n, const struct site *site, struct wall now)
{
    const char *cause;
    enum site_class class = site_class_of(n, site, now, &cause);
    int64_t lag = site_lag(n, site, now);
    c->total++;
    c->of_class[class]++;
    if (lag >= 0) {
        c->lags[c->n_lags++] = lag;
        if (lag > c->lag_max) {
            c->lag_max = lag;
            c->slowest = site;
        }
    }
    if (class != SITE_LIVE && class != SITE_WORKING)
        count_cause(c, site, cause[0] ? cause : site_class_word(class));
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static json_t *causes_json(struct counts *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_causes; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:o, s:I}", "cause", c->causes[i].word, "sites", c->causes[i].sites,
                      "since", json_wall(c->causes[i].since), "count", c->causes[i].count));
    return list;
}

static int status(struct step *s)
{
    const struct node *n = s->n;
    struct wall now = s->in->wall;
    struct counts c = {.lags = calloc(n->n_sites + 1, sizeof(int64_t)), .lag_max = -1};
    if (!c.lags)
        return -ENOMEM;
    count_site(&c, n, &n->self, now);
    for (size_t i = 0; i < n->n_sites; i++)
        if (n->sites[i]->known)
            count_site(&c, n, n->sites[i], now);
    qsort(c.lags, c.n_lags, sizeof *c.lags, by_value);
    json_t *j = site_json(n, &n->self, now);
    json_object_set_new(j, "newest", integer_or_null(n->newest, n->newest));
    json_object_set_new(j, "signed", json_wall(n->head_issued));
    json_object_set_new(j, "expires", json_wall(n->head_expires));
    json_t *sites = json_pack("{s:I}", "total", c.total);
    static const char *const keys[] = {"live", "working", "behind", "broken", "not_heard", "held"};
    for (size_t i = 0; i < SITE_CLASSES; i++)
        json_object_set_new(sites, keys[i], json_integer(c.of_class[i]));
    json_object_set_new(j, "sites", sites);
    json_object_set_new(j, "lag_p50", c.n_lags ? json_seconds(c.lags[c.n_lags / 2]) : json_null());
    json_object_set_new(j, "lag_p99", c.n_lags ? json_seconds(c.lags[(c.n_lags * 99) / 100]) : json_null());
    json_object_set_new(j, "lag_max", json_seconds(c.lag_max));
    json_object_set_new(j, "lag_max_site", c.slowest ? json_string(c.slowest->cert.code.s) : json_null());
    json_object_set_new(j, "run",
        n->self.last.run[0] ? json_pack("{s:s, s:o}", "run", n->self.last.run, "result",
                                  json_text_or_null(n->self.last.run_result))
                            : json_null());
    json_object_set_new(j, "causes", causes_json(&c));
    free(c.lags);
    bool fine = c.of_class[SITE_LIVE] + c.of_class[SITE_HELD] == c.total;
    reply_data(s, s->in->command, "status", j, fine ? 0 : 3, false);
    return 0;
}

/* The newest refusal between this site and another. */
static int last_refusal(struct step *s, const char *site, struct arena *a, Sitetree__StoredRefusal **ret)
{
    *ret = NULL;
    struct store_walk w = store_walk_from(s->txn, TABLE_REFUSALS, view_of(NULL, 0), view_of(NULL, 0));
    while (store_walk_next(&w)) {
        Sitetree__StoredRefusal *m;
        int rc = table_read(w.value, a, &sitetree__stored_refusal__descriptor, &m);
        if (rc)
            return rc;
        if (strcmp(m->site, site) == 0)
            *ret = m;
    }
    return store_txn_error(s->txn);
}

struct link_row {
    const char *parent, *child, *state, *error, *path;
    struct peer peer;
    int64_t rtt_ns, parent_saw_ns, child_saw_ns; /* ages; negative: unknown */
    struct wall error_at;
    const struct site *below;          /* the child, where this site is the parent */
    const struct meter *down, *upward; /* NULL: unknown */
    bool up;
};

static json_t *rate_json(const struct meter *m, struct mono now)
{
    return m ? json_integer((json_int_t)meter_rate(m, now)) : json_null();
}

/* Seconds until the child, if it took in nothing more, would fall below the deltas that are kept here; 0: it
 * has. Between the oldest generation that can still catch up and the applied one the worker's forecast is a
 * line. */
static json_t *floor_json(const struct node *n, const struct site *child, struct wall now)
{
    const struct summary *own = &n->self.last;
    if (!child || !n->worker_full || !own->generation || (!child->reported && !child->session))
        return json_null();
    const struct session *c = child->session;
    bool report = child->reported && child->last.generation;
    uint64_t at = report ? child->last.generation : c ? c->generation : 0;
    const struct epoch *epoch = report || !c ? &child->last.epoch : &c->epoch;
    if (c && epoch_eq(&c->epoch, epoch) && c->generation > at)
        at = c->generation;
    if (at == 0)
        return json_null();
    if (!epoch_eq(epoch, &own->epoch) || at < n->floor.generation)
        return json_real(0);
    if (n->floor.now_ns == 0)
        return json_null();
    double first = (double)n->floor.first_ns, last = (double)n->floor.now_ns;
    double span = (double)(own->generation - n->floor.generation);
    double part = at >= own->generation || span <= 0 ? 1 : (double)(at - n->floor.generation) / span;
    double left = first + (last - first) * part - (double)(now.ns - n->floor.at.ns);
    return json_real(left > 1e9 ? left / 1e9 : 1); /* it is not below yet */
}

static int link_add(struct step *s, const struct link_row *r, const char *other, json_t *list)
{
    const struct node *n = s->n;
    static const char *const classes[] = {"recall", "head", "state", "bulk"};
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__StoredRefusal *m;
    int rc = last_refusal(s, other, &a, &m);
    if (rc)
        return rc;
    struct link_stats stats = {0};
    if (n->opt.link_stats && r->up)
        n->opt.link_stats(n->opt.link_stats_ctx, r->peer, &stats);
    char name[80];
    snprintf(name, sizeof name, "%s>%s", r->parent, r->child);
    uint64_t limit = r->peer.kind == PEER_PARENT ? n->opt.up_rate : n->opt.down_rate;
    bool newer = m && (int64_t)m->at > r->error_at.ns;
    json_t *j =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}",
            "link", name, "parent", r->parent, "child", r->child, "state", r->state, "class",
            stats.known ? json_string(classes[stats.lane]) : json_null(), "rtt", json_seconds(r->rtt_ns),
            "down_rate", rate_json(r->down, s->in->now), "up_rate", rate_json(r->upward, s->in->now),
            "rate_limit", limit ? json_integer((json_int_t)limit) : json_null(), "queue_bytes",
            integer_or_null(stats.known, stats.queue_bytes), "queue",
            integer_or_null(stats.known, stats.queue), "lost", integer_or_null(stats.known, stats.lost),
            "seen_by_parent", json_seconds(r->parent_saw_ns), "seen_by_child", json_seconds(r->child_saw_ns),
            "path", r->path, "last_error", newer ? json_safe(m->text) : json_text_or_null(r->error),
            "last_error_at", json_wall(newer ? (struct wall){(int64_t)m->at} : r->error_at));
    json_object_set_new(j, "floor", floor_json(n, r->below, s->in->wall));
    json_array_append_new(list, j);
    return 0;
}

static int link_up(struct step *s, json_t *list)
{
    const struct node *n = s->n;
    const struct uplink *u = &n->up;
    if (u->state == UPLINK_NONE)
        return 0;
    bool live = u->state == UPLINK_LIVE, refused = strcmp(u->cause_word, "parent-unreachable") != 0 && !live;
    struct link_row r = {.parent = uplink_site(n),
        .child = n->opt.site.s,
        .path = n->up.place ? "ancestor" : "direct",
        .state = live                         ? "live"
                 : refused                    ? "refused"
                 : u->heard.ns && !u->sockets ? "silent"
                                              : "connecting",
        .peer = {PEER_PARENT, 0},
        .rtt_ns = u->measured ? u->rtt_ns : -1,
        .parent_saw_ns = u->answered.ns ? s->in->now.ns - u->answered.ns : -1,
        .child_saw_ns = u->heard.ns ? s->in->now.ns - u->heard.ns : -1,
        .error = u->text,
        .error_at = live ? (struct wall){0} : u->down_since,
        .down = live ? &u->in : NULL,
        .upward = live ? &u->out : NULL,
        .up = live};
    int rc = link_add(s, &r, r.parent, list);
    if (rc || u->place == 0)
        return rc;
    struct link_row parent = {.parent = n->self.cert.parent.s, /* the one that it is away from */
        .child = n->opt.site.s,
        .path = "direct",
        .state = n->probe.state == PROBE_HELLO ? "connecting" : "left",
        .peer = {PEER_PARENT, PROBE},
        .rtt_ns = -1,
        .parent_saw_ns = -1,
        .child_saw_ns = -1,
        .error = u->fault[0].text,
        .error_at = u->away ? u->away_since : u->down_since};
    return link_add(s, &parent, parent.parent, list);
}

/* By the child's own word: its newest report tells when it had heard from here. */
static int64_t child_saw(const struct site *site, struct wall now)
{
    if (!site->reported || site->last.parent_heard_ns < 0)
        return -1;
    int64_t report = now.ns - site->heard.ns;
    return (report > 0 ? report : 0) + site->last.parent_heard_ns;
}

static int links(struct step *s)
{
    const struct node *n = s->n;
    json_t *list = json_array();
    int rc = link_up(s, list);
    for (size_t i = 0; i < n->n_sites && !rc; i++) {
        const struct site *site = n->sites[i];
        if (!site->known || (site->up != &n->self && !site->session))
            continue;
        const struct session *c = site->session;
        struct link_row r = {.parent = n->opt.site.s,
            .child = site->cert.code.s,
            .below = site,
            .path = site->up == &n->self ? "direct" : "ancestor",
            .state = c                                 ? "live"
                     : site->seen.ns || site->reported ? "silent"
                                                       : "connecting",
            .peer = {PEER_CHILD, c ? c->id : 0},
            .rtt_ns = site->last.rtt_ns ? site->last.rtt_ns : -1,
            .parent_saw_ns = c               ? s->in->now.ns - c->heard.ns
                             : site->seen.ns ? s->in->wall.ns - site->seen.ns
                                             : -1,
            .child_saw_ns = child_saw(site, s->in->wall),
            .error = "",
            .down = c ? &c->out : NULL,
            .upward = c ? &c->in : NULL,
            .up = c != NULL};
        rc = link_add(s, &r, r.child, list);
    }
    if (rc) {
        json_decref(list);
        return rc;
    }
    reply_data(s, s->in->command, "links", json_pack("{s:o}", "links", list), 0, false);
    return 0;
}

int tree_command(struct step *s, const char *command, json_t *args)
{
    if (strcmp(command, "status") == 0)
        return status(s);
    if (strcmp(command, "tree") == 0)
        return tree(s, args);
    return links(s);
}

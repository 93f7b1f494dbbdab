#include "services/node/core.h"

#include <stdarg.h>
#include <stdio.h>

/* Which hop holds a site back, and why. What was seen here, what others reported (by whom, when) and what
 * only follows are kept apart: nothing assumed is told as fact. */
struct story {
    json_t *hop, *seen, *sure, *effect, *now, *try;
};

static void say(json_t *list, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(json_t *list, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_append_new(list, json_safe(text));
}

static struct wall last_word(const struct node *n, const struct site *site, struct wall now)
{
    if (site == &n->self)
        return now;
    if (site->session)
        return site->session->heard_wall;
    return site->seen.ns > site->heard.ns ? site->seen : site->heard;
}

static void hop_add(const struct node *n, struct story *t, const struct site *site, struct wall now)
{
    struct wall w = last_word(n, site, now);
    bool told = site->reported && site->last.generation;
    json_array_append_new(
        t->hop, json_pack("{s:s, s:o, s:o, s:s}", "site", site->cert.code.s, "generation",
                    told ? json_integer((json_int_t)site->last.generation) : json_null(), "seen",
                    w.ns ? json_seconds(now.ns > w.ns ? now.ns - w.ns : 0) : json_null(), "class",
                    site_class_word(site_class_of(n, site, now, NULL))));
}

struct finding {
    const struct site *at; /* the hop that is to blame */
    char cause[32];
    struct wall since;
};

/* Downward from this site: the first hop that is silent or has a cause of its own holds back all below it. */
static struct finding find_cause(
    const struct node *n, const struct site *const *path, unsigned depth, struct wall now)
{
    struct finding f = {0};
    for (unsigned i = 0; i < depth && !f.at; i++) {
        const struct site *site = path[i];
        const char *cause;
        enum site_class class = site_class_of(n, site, now, &cause);
        if (class == SITE_NOT_HEARD) {
            f.at = site;
            f.since = last_word(n, site, now);
            COPY_TEXT(f.cause, i + 1 == depth ? "not-heard" : "parent-not-heard");
        } else if (cause[0] && strcmp(cause, "parent-itself-behind") != 0) {
            f.at = site;
            f.since =
                site == &n->self && n->up.down_since.ns && n->up.cause ? n->up.down_since : site->changed;
            COPY_TEXT(f.cause, cause);
        }
    }
    const struct site *last = path[depth - 1];
    if (!f.at && (!last->reported || last->last.generation == 0)) {
        f.at = last;
        f.since = last->joined;
        COPY_TEXT(f.cause, n->newest == 0 ? "not-published-yet" : "");
    }
    return f;
}

static unsigned below_count(const struct node *n, const struct site *site)
{
    unsigned count = 0;
    for (size_t i = 0; i < n->n_sites; i++)
        count += n->sites[i]->known && n->sites[i] != site && site_is_below(n->sites[i], site);
    return count;
}

/* Sites on the way that are connected past their parent. */
static void tell_detour(const struct node *n, const struct site *site, struct story *t)
{
    char at[32];
    const struct uplink *u = &n->up;
    if (site == &n->self && u->away && u->state == UPLINK_LIVE)
        say(t->seen, "%s itself: connected to %s instead of %s since %s: %s", n->opt.site.s, uplink_site(n),
            n->self.cert.parent.s, wall_text(u->away_since, at), u->fault[0].text);
    else if (site != &n->self && site->up && site_above(n, site) != site->up)
        say(t->seen, "%s: connected to %s instead of its parent %s", site->cert.code.s,
            site_above(n, site)->cert.code.s, site->cert.parent.s);
}

static void tell_own_link(const struct node *n, struct story *t)
{
    char at[32];
    const struct uplink *u = &n->up;
    if (u->state == UPLINK_NONE || u->state == UPLINK_LIVE)
        return;
    say(t->seen, "%s itself: no link to %s since %s: %s", n->opt.site.s, n->self.cert.parent.s,
        wall_text(u->down_since, at), u->text);
    say(t->sure, "that this site has no link to %s: yes. What is newest in the tree: not known here",
        n->self.cert.parent.s);
    if (n->n_places > 1)
        say(t->now, "%u sites above are tried in turn by itself, with at most 30 s between two rounds",
            n->n_places);
    else
        say(t->now, "the link is tried again by itself, with at most 30 s between two tries");
}

static void tell_silence(
    const struct node *n, const struct finding *f, const struct site *site, struct story *t)
{
    char at[32];
    const char *parent = f->at->cert.parent.s;
    say(t->seen, "%s: last word from %s at %s", f->at->up == &n->self ? n->opt.site.s : parent,
        f->at->cert.code.s, wall_text(f->since, at));
    if (f->at->up == &n->self) {
        say(t->sure, "that %s has no link to %s: yes. Why (host, daemon, line): cannot be known from here",
            f->at->cert.code.s, n->opt.site.s);
        say(t->now, "%s dials by itself; %s cannot dial it", f->at->cert.code.s, n->opt.site.s);
    } else {
        say(t->sure, "that no report of %s has come: yes. Whether it still talks to %s: not known",
            f->at->cert.code.s, parent);
    }
    if (f->at != site)
        say(t->sure, "the state of %s itself: assumed from its last word", site->cert.code.s);
    say(t->try, "sitetree wait --for current %s --timeout 5m", site->cert.code.s);
}

static void tell_report(const struct node *n, const struct finding *f, struct wall now, struct story *t)
{
    const struct site *site = f->at;
    char age[24];
    if (site != &n->self && site->reported)
        say(t->seen, "%s reported %s ago: %s%s%s%s%s", site->cert.code.s,
            duration_text(now.ns > site->heard.ns ? now.ns - site->heard.ns : 0, age), site->last.state,
            site->last.cause[0] ? ", " : "", site->last.cause, site->last.text[0] ? ": " : "",
            site->last.text);
    else if (site == &n->self && site->last.text[0])
        say(t->seen, "%s itself: %s", site->cert.code.s, site->last.text);
    if (strcmp(f->cause, "worker-down") == 0) {
        say(t->now, "the node starts its worker again by itself");
        say(t->try, "sitetree events --name worker.down");
    } else if (strcmp(f->cause, "store-full") == 0) {
        say(t->try, "sitetree store stat");
    } else if (strcmp(f->cause, "epoch-fence") == 0) {
        bool other_key = strstr(site->last.text, "trust rotate") != NULL;
        say(t->now, "nothing is published; every site serves what it has");
        say(t->try, other_key ? "sitetree trust rotate" : "sitetree epoch open");
    } else if (strcmp(f->cause, "run-failed-will-retry") == 0) {
        say(t->try, "sitetree sync list --failed");
    }
}

static void tell(struct step *s, const struct finding *f, const struct site *site, struct story *t)
{
    const struct node *n = s->n;
    unsigned below = f->at ? below_count(n, f->at) : 0;
    tell_own_link(n, t);
    if (f->at && (strcmp(f->cause, "parent-not-heard") == 0 || strcmp(f->cause, "not-heard") == 0))
        tell_silence(n, f, site, t);
    else if (f->at)
        tell_report(n, f, s->in->wall, t);
    if (f->at && below)
        say(t->effect, "%u %s below %s share this cause. They serve what they have; no data is lost", below,
            below == 1 ? "site" : "sites", f->at->cert.code.s);
    else
        say(t->effect, "%s serves what it has; no data is lost", site->cert.code.s);
}

static bool is_current(const struct node *n, const struct site *site, struct wall now)
{
    const char *cause;
    bool link = n->up.state == UPLINK_NONE || n->up.state == UPLINK_LIVE;
    return link && site_class_of(n, site, now, &cause) == SITE_LIVE;
}

int explain_command(struct step *s, json_t *args)
{
    const struct node *n = s->n;
    struct wall now = s->in->wall;
    const char *code = args_text(args, "site");
    const struct site *site = code ? site_look(n, code) : &n->self;
    if (!site || !site->known)
        return err_fail(
            ERR_UNKNOWN_SITE, "%s does not know a site %.31s at or below itself", n->opt.site.s, code);
    const struct site *up[TRUST_DEPTH_MAX + 2], *path[TRUST_DEPTH_MAX + 2];
    unsigned depth = 0;
    for (const struct site *p = site; p && depth < COUNT_OF(up); p = p == &n->self ? NULL : site_above(n, p))
        up[depth++] = p;
    for (unsigned i = 0; i < depth; i++)
        path[i] = up[depth - 1 - i];
    struct story t = {json_array(), json_array(), json_array(), json_array(), json_array(), json_array()};
    for (unsigned i = 0; i < depth; i++)
        hop_add(n, &t, path[i], now);
    bool current = is_current(n, site, now);
    struct finding f = {0};
    for (unsigned i = 0; i < depth; i++)
        tell_detour(n, path[i], &t);
    if (!current) {
        f = find_cause(n, path, depth, now);
        tell(s, &f, site, &t);
        say(t.try, "sitetree links");
    }
    bool told = site->reported && site->last.generation;
    reply_data(s, s->in->command, "explain",
        json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "site",
            site->cert.code.s, "current", current, "generation",
            told ? json_integer((json_int_t)site->last.generation) : json_null(), "newest",
            n->newest ? json_integer((json_int_t)n->newest) : json_null(), "cause",
            json_text_or_null(f.cause), "at", f.at ? json_string(f.at->cert.code.s) : json_null(), "since",
            json_wall(f.since), "hop", t.hop, "seen", t.seen, "sure", t.sure, "effect", t.effect, "now",
            t.now, "try", t.try),
        current ? 0 : 3, false);
    return 0;
}

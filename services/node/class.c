#include "services/node/core.h"

#define BEHIND_NS (60 * NS_PER_S) /* work that takes longer than this is called behind */

const char *site_class_word(enum site_class c)
{
    static const char *const words[] = {"live", "working", "behind", "broken", "not-heard", "held"};
    return words[c];
}

/* Causes that do not go away by waiting. */
static bool needs_hands(const char *cause)
{
    static const char *const words[] = {"verify-refused", "rollback", "root-mismatch", "store-full", "disk",
        "corrupt", "head-expired", "worker-down", "clock-off", "mass-change-guard", "key-not-trusted",
        "epoch-fence", "refused-by-parent", "path-loop", "version-too-old", "site-removed"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(cause, words[i]) == 0)
            return true;
    return false;
}

bool site_heard(const struct node *n, const struct site *site, struct wall now)
{
    if (site == &n->self)
        return true;
    if (site->session)
        return true;
    const struct site *above = site_above(n, site);
    if (!above || !site_heard(n, above, now))
        return false;
    if (above == &n->self)
        return site->seen.ns && now.ns - site->seen.ns < n->opt.not_heard_ns;
    return site->reported && now.ns - site->heard.ns < 2 * n->opt.report_ns + n->opt.not_heard_ns;
}

int64_t site_lag(const struct node *n, const struct site *site, struct wall now)
{
    if (!site->reported || !site_heard(n, site, now) || (site->last.generation == 0 && n->newest == 0))
        return -1;
    if (site->last.generation >= n->newest)
        return 0;
    int64_t here = n->newest_at.ns ? now.ns - n->newest_at.ns : 0;
    int64_t there = site->last.lag_ns > 0 ? site->last.lag_ns + (now.ns - site->heard.ns) : 0;
    return here > there ? here : there;
}

static enum site_class self_class(const struct node *n, struct wall now, const char **ret_cause)
{
    const struct summary *m = &n->self.last;
    *ret_cause = m->cause;
    if (n->up.cause && needs_hands(n->up.cause_word)) { /* no waiting helps, whatever the worker says */
        *ret_cause = n->up.cause_word;
        return SITE_BROKEN;
    }
    if (n->worker_cause[0]) {
        *ret_cause = n->worker_cause;
        return SITE_BROKEN;
    }
    if (!n->worker_ready && n->worker_seen) {
        *ret_cause = "worker-down";
        return SITE_BROKEN;
    }
    if (m->cause[0])
        return needs_hands(m->cause) || strcmp(m->state, "stale") == 0 ? SITE_BROKEN : SITE_BEHIND;
    if (n->up.state != UPLINK_NONE && n->up.state != UPLINK_LIVE) {
        *ret_cause = n->up.cause_word;
        return now.ns - n->up.down_since.ns > BEHIND_NS ? SITE_BEHIND : SITE_WORKING;
    }
    if (!n->worker_ready)
        return SITE_WORKING;
    if (n->clock_off) {
        *ret_cause = "clock-off";
        return SITE_BROKEN;
    }
    if (m->generation < n->newest || strcmp(m->state, "live") != 0)
        return site_lag(n, &n->self, now) > BEHIND_NS ? SITE_BEHIND : SITE_WORKING;
    return SITE_LIVE;
}

enum site_class site_class_of(
    const struct node *n, const struct site *site, struct wall now, const char **ret_cause)
{
    const char *cause = "";
    enum site_class class;
    const struct summary *m = &site->last;
    if (site == &n->self) {
        class = self_class(n, now, &cause);
    } else if (!site_heard(n, site, now)) {
        const struct site *above = site_above(n, site);
        cause = above && above != &n->self && !site_heard(n, above, now) ? "parent-not-heard" : "not-heard";
        class = SITE_NOT_HEARD;
    } else if (!site->reported) {
        class = SITE_WORKING;
    } else if (needs_hands(m->cause) || strcmp(m->state, "stale") == 0) {
        cause = m->cause[0] ? m->cause : "head-expired";
        class = SITE_BROKEN;
    } else if (m->generation < n->newest && site_lag(n, site, now) > BEHIND_NS) {
        const struct site *above = site_above(n, site);
        cause = m->cause[0] ? m->cause
                : above && above != &n->self && above->last.generation <= m->generation
                    ? "parent-itself-behind"
                    : "";
        class = SITE_BEHIND;
    } else if (m->cause[0]) {
        cause = m->cause;
        class = SITE_BEHIND;
    } else {
        class = strcmp(m->state, "live") == 0 && m->generation >= n->newest ? SITE_LIVE : SITE_WORKING;
    }
    if (ret_cause)
        *ret_cause = cause;
    return class;
}

static uint64_t ring_number(struct wall t)
{
    return (uint64_t)(t.ns / RING_NS);
}

static void ring_timer(struct step *s)
{
    int64_t left = RING_NS - s->in->wall.ns % RING_NS;
    step_timer(s, TIMER_RING, (struct mono){s->in->now.ns + left});
}

void ring_start(struct step *s)
{
    ring_timer(s);
}

/* One byte per site number: its class and one; 0 where there was no such site. */
int ring_on_timer(struct step *s)
{
    struct node *n = s->n;
    struct key k = key_number(ring_number(s->in->wall));
    uint8_t *row = store_put_reserve(s->txn, TABLE_RINGS, key_view(&k), n->next_number);
    if (row) {
        memset(row, 0, n->next_number);
        row[0] = (uint8_t)(site_class_of(n, &n->self, s->in->wall, NULL) + 1);
        for (size_t i = 0; i < n->n_sites; i++) {
            const struct site *site = n->sites[i];
            if (site->known && site->number < n->next_number)
                row[site->number] = (uint8_t)(site_class_of(n, site, s->in->wall, NULL) + 1);
        }
    }
    if (ring_number(s->in->wall) > RINGS_KEEP)
        table_trim(s->txn, TABLE_RINGS, ring_number(s->in->wall) - RINGS_KEEP, 4);
    ring_timer(s);
    return store_txn_error(s->txn);
}

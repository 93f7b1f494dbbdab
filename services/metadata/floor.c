/* The delta floor by generations: which children can still catch up by deltas, and for how long. For each
 * generation that changed something a row tells which serials its deltas begin at; the rows in front of one
 * whose deltas are no longer kept (or never came: this site walked there) go. Between the oldest generation
 * that is left and the newest one the forecast is a straight line: deltas are taken to grow as they did since
 * the first row. Source: requirements, operators.md U04. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define LOOK_AGAIN_NS (60 * NS_PER_S)
#define LEAST_NS (3600 * NS_PER_S) /* a burst of deltas says nothing about the hours to come */

/* Rows in TABLE_META: "step/<generation>", the generation of the row before, the time, then scope and serial.
 */
struct row_name {
    char s[32];
};
static struct row_name row_name(uint64_t generation)
{
    struct row_name n;
    snprintf(n.s, sizeof n.s, "step/%016" PRIx64, generation);
    return n;
}

static struct store_walk rows(struct metadata *m)
{
    return store_walk_from(m->txn, TABLE_META, view_str("step/"), view_str("step/"));
}

static uint64_t row_generation(struct view key)
{
    char hex[17] = {0};
    memcpy(hex, key.data + 5, key.len < 21 ? key.len - 5 : 16);
    return strtoull(hex, NULL, 16);
}

/* Deletes the rows up to this one. */
static void forget(struct metadata *m, uint64_t generation)
{
    struct store_walk w = rows(m);
    while (store_walk_next(&w)) {
        struct row_name name = row_name(row_generation(w.key));
        if (row_generation(w.key) > generation)
            break;
        meta_del(m->txn, name.s);
    }
}

void floor_step(struct metadata *m, const struct head *next)
{
    AUTO_BUF row = {0};
    size_t n = 0;
    bool walked = false;
    if (!m->applied || !epoch_eq(&m->applied->epoch, &next->epoch)) { /* whoever is in another epoch walks */
        forget(m, UINT64_MAX);
        meta_put_u64(m->txn, "last-step", next->generation);
        m->floor.at.ns = 0;
        return;
    }
    buf_be64(&row, meta_get_u64(m->txn, "last-step"));
    buf_be64(&row, (uint64_t)m->wall.ns);
    for (size_t i = 0; i < next->n_scopes; i++) {
        const struct scope_entry *to = &next->scopes[i], *have = head_scope(m->applied, to->name);
        struct stored_delta d;
        if (to->serial == (have ? have->serial : 0))
            continue;
        const struct scope *s = state_scope_find(m, to->name);
        if (!s)
            continue;
        n++;
        buf_be32(&row, s->id);
        buf_be64(&row, have ? have->serial : 0);
        walked = walked || delta_get(m->txn, s->id, (have ? have->serial : 0) + 1, &d) != 0;
    }
    if (n == 0 || row.err)
        return;
    struct row_name name = row_name(next->generation);
    meta_put(m->txn, name.s, buf_view(&row));
    meta_put_u64(m->txn, "last-step", next->generation);
    if (walked)
        forget(m, next->generation);
    m->floor.at.ns = 0;
}

static struct scope *scope_of_id(struct metadata *m, uint32_t id)
{
    for (size_t i = 0; i < m->n_scopes; i++)
        if (m->scopes[i]->id == id)
            return m->scopes[i];
    return NULL;
}

/* The rows whose deltas have gone, with all before them. */
static void prune(struct metadata *m)
{
    uint64_t bad = 0;
    struct store_walk w = rows(m);
    while (store_walk_next(&w)) {
        struct reader r = reader_of(w.value);
        (void)read_be64(&r);
        (void)read_be64(&r);
        while (r.rest.len && !r.bad) {
            const struct scope *s = scope_of_id(m, read_be32(&r));
            if (read_be64(&r) < (s ? s->applied.delta_floor : UINT64_MAX))
                bad = row_generation(w.key);
        }
    }
    if (bad)
        forget(m, bad);
}

/* How many more deltas of the scope it takes until one that has n of them still to come falls below. */
static double room_of(const struct metadata *m, const struct scope_entry *e, double n)
{
    double kept = (double)(e->serial - e->delta_floor);
    double most = m->opt.delta_keep, each = kept > 0 ? (double)e->delta_bytes / kept : 0;
    if (each > 0 && (double)m->opt.delta_keep_bytes / each < most)
        most = (double)m->opt.delta_keep_bytes / each;
    return most > n ? most - n : 0;
}

static void forecast(struct metadata *m, uint64_t since_ns)
{
    double first = -1, now = -1, passed = (double)(m->wall.ns - (int64_t)since_ns);
    if (passed > 0 && passed < (double)LEAST_NS)
        passed = (double)LEAST_NS;
    for (size_t i = 0; i < m->n_scopes && passed > 0; i++) {
        const struct scope *s = m->scopes[i];
        const struct scope_entry *e = &s->applied;
        if (!s->floor_seen || e->serial <= s->floor_from)
            continue;
        double n = (double)(e->serial - s->floor_from), each_ns = passed / n;
        double a = room_of(m, e, n) * each_ns, b = room_of(m, e, 0) * each_ns;
        first = first < 0 || a < first ? a : first;
        now = now < 0 || b < now ? b : now;
    }
    const double most = 9e18; /* 285 years */
    m->floor.first_ns = first < 0 ? 0 : (uint64_t)(first < most ? first : most);
    m->floor.now_ns = now < 0 ? 0 : (uint64_t)(now < most ? now + 1 : most);
}

void floor_look(struct metadata *m)
{
    if (!m->applied || (m->floor.at.ns && m->now.ns - m->floor.at.ns < LOOK_AGAIN_NS))
        return;
    prune(m);
    uint64_t since = 0;
    bool any = false;
    for (size_t i = 0; i < m->n_scopes; i++)
        m->scopes[i]->floor_seen = false;
    struct store_walk w = rows(m);
    while (store_walk_next(&w)) {
        struct reader r = reader_of(w.value);
        uint64_t before = read_be64(&r), at = read_be64(&r);
        if (!any) {
            m->floor.generation = before;
            since = at;
        }
        any = true;
        while (r.rest.len && !r.bad) {
            struct scope *s = scope_of_id(m, read_be32(&r));
            uint64_t from = read_be64(&r);
            if (s && !s->floor_seen) {
                s->floor_seen = true;
                s->floor_from = from;
            }
        }
    }
    if (!any)
        m->floor.generation = meta_get_u64(m->txn, "last-step");
    forecast(m, since);
    if (!any)
        m->floor.first_ns = m->floor.now_ns = 0;
    m->floor.at = m->now;
}

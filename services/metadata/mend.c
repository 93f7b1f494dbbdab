/* Own pages that are damaged: found at the start, by an operator, or in the background; fetched again by the
 * walk. */
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/core.h"

#define LEAF_SHARE 0.3 /* compressed, where nothing was measured yet */
#define INNER_BYTES 700u
#define PAGE_AROUND 24u
#define REHASH_EVERY_NS (60 * NS_PER_S)

/* BOOT: the root of the applied head again, from the stored pages. */
int replica_boot(struct metadata *m)
{
    m->boot_checked = true;
    for (size_t i = 0; m->applied && i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        struct tree_report report;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = s->applied.serial ? tree_check(&t, &s->applied.tree, false, !m->central, &report) : 0;
        if (rc)
            return rc;
        if (s->applied.serial && report.bad) {
            event_note(m, "store.damaged", NULL, ERR_CORRUPT, "%s: %llu of %llu pages are missing or damaged",
                s->name, (unsigned long long)report.bad, (unsigned long long)report.pages);
            s->careful = true;
            m->boot_bad = true;
        }
    }
    m->verified_at = m->wall;
    if (m->applied) {
        int64_t left = m->applied->expires.ns - m->wall.ns;
        timer_set(m, TIMER_EXPIRY, left > 0 ? left : 0);
    }
    if (m->opt.rehash_ns)
        timer_set(m, TIMER_REHASH, REHASH_EVERY_NS);
    return 0;
}

/* The range of keys' hashes that a page stands for: "3f2*". */
static json_t *range_json(struct place p)
{
    char hex[17], text[20];
    snprintf(text, sizeof text, "%.*s*", (int)p.depth, hex_encode(p.path, 8, hex));
    return json_string(text);
}

static json_t *damage_json(const char *scope, const struct tree_report *r, uint64_t bytes)
{
    json_t *ranges = json_array();
    for (size_t i = 0; i < r->bad && i < BAD_LISTED; i++)
        json_array_append_new(ranges, range_json(r->where[i]));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "scope", scope, "pages", (json_int_t)r->bad, "of",
        (json_int_t)r->pages, "records", (json_int_t)r->bad_records, "bytes", (json_int_t)bytes, "ranges",
        ranges);
}

/* That the link will carry for them: compressed leaves, inner pages, and the questions' answers around them.
 */
static uint64_t mend_bytes(const struct metadata *m, const struct tree_report *r)
{
    double share = m->walked_raw > 65536 ? m->walked_packed / m->walked_raw : LEAF_SHARE;
    return (uint64_t)((double)r->bad_bytes * share) + r->bad_inner * INNER_BYTES + r->bad * PAGE_AROUND;
}

int replica_repair(struct metadata *m, bool dry, json_t **ret_data, int *ret_exit)
{
    json_t *scopes = json_array();
    uint64_t bad = 0, records = 0, bytes = 0, checked = 0, deltas = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        struct tree_report r = {0};
        AUTO_TREE t;
        state_tree(m, s, &t);
        rc = s->applied.serial ? tree_check(&t, &s->applied.tree, true, !dry && !m->central, &r) : 0;
        if (!rc && s->applied.serial)
            rc = delta_check(m->txn, &t, &s->applied, !dry, &checked, &deltas);
        if (rc || !r.bad)
            continue;
        uint64_t here = mend_bytes(m, &r);
        bad += r.bad;
        records += r.bad_records;
        bytes += here;
        json_array_append_new(scopes, damage_json(s->name, &r, here));
        if (!dry && !m->central)
            s->careful = m->boot_bad = true;
    }
    if (!rc && bad && m->central && !dry)
        rc = err_fail(ERR_CORRUPT,
            "%llu pages are damaged, and the central site has no parent to fetch them from",
            (unsigned long long)bad);
    if (rc) {
        json_decref(scopes);
        return rc;
    }
    *ret_data = json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:b}", "site", m->site, "bad", (json_int_t)bad,
        "records", (json_int_t)records, "bytes", (json_int_t)bytes, "seconds",
        bad && m->rate >= 1 ? json_real((double)bytes / m->rate)
        : bad               ? json_null()
                            : json_integer(0),
        "scopes", scopes, "fetching", bad && !dry);
    json_object_set_new(
        *ret_data, "deltas", json_integer((json_int_t)deltas)); /* they are given up: children walk */
    *ret_exit = bad || (deltas && dry) ? 3 : 0;
    if (!bad || dry)
        return 0;
    rc = m->target ? 0 : replica_plan(m);
    return rc ? rc : replica_step(m);
}

/* In the background: a few pages each minute, so that all are read and hashed again within the configured
 * time. */
int replica_rehash(struct metadata *m)
{
    m->timers[TIMER_REHASH].ns = 0;
    timer_set(m, TIMER_REHASH, REHASH_EVERY_NS);
    struct store_stat stat;
    store_stat(m->store, &stat);
    uint64_t pages = stat.entries[TABLE_PAGES] * (uint64_t)REHASH_EVERY_NS / (uint64_t)m->opt.rehash_ns + 1;
    AUTO_BUF scratch = {0};
    AUTO_BUF hashes = {0};
    struct store_walk w = store_walk_from(m->txn, TABLE_PAGES, buf_view(&m->rehash.key), (struct view){0});
    AUTO_BUF last = {0};
    while (pages && store_walk_next(&w)) {
        uint32_t id;
        struct place p;
        struct hash h, got;
        struct stored_page page;
        struct view raw;
        buf_reset(&last);
        buf_append_view(&last, w.key);
        int rc = key_page_split(w.key, &id, &p, &h);
        struct scope *s = NULL;
        for (size_t i = 0; !rc && i < m->n_scopes; i++)
            if (m->scopes[i]->id == id)
                s = m->scopes[i];
        if (rc || !s)
            continue;
        rc = stored_page_parse(w.value, &page);
        if (!rc)
            rc = stored_page_raw(&page, &scratch, &raw);
        if (!rc && page.kind == PAGE_INNER) {
            inner_hash(s->salt, p, raw, &got);
            rc = hash_eq(&got, &h) ? 0 : ERR_CORRUPT;
        } else if (!rc) {
            struct subtree want = {.hash = h, .count = page.n};
            buf_reset(&hashes);
            rc = page_verify(s->salt, p, &want, raw, &hashes);
            if (!rc && memcmp(hashes.data, page.record_hashes, 32u * page.n) != 0)
                rc = ERR_CORRUPT;
        }
        if (rc == -ENOMEM || last.err) /* says nothing of the page */
            return -ENOMEM;
        m->rehashed++;
        pages--;
        if (rc) {
            m->rehash_bad++;
            event_note(m, "store.damaged", NULL, ERR_CORRUPT,
                "%s: a page no longer has the bytes its name says", s->name);
            if (!m->central) /* there is nowhere to fetch it from: what is left of it may still be of use */
                store_del(m->txn, TABLE_PAGES, buf_view(&last));
            s->careful = true;
            m->boot_bad = true;
        }
    }
    if (m->boot_bad && m->central) {
        replica_rest(m);
    } else if (m->boot_bad && !m->target) {
        int rc = replica_plan(m);
        if (rc)
            return rc;
    }
    buf_reset(&m->rehash.key);
    if (pages == 0) { /* the next round goes on behind it */
        buf_append_view(&m->rehash.key, buf_view(&last));
        buf_u8(&m->rehash.key, 0);
    }
    return store_txn_error(m->txn);
}

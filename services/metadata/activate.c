/* ACTIVATE: one transaction in which the target becomes what the site shows, or the fall back to a walk. */
#include <stdlib.h>

#include "services/metadata/core.h"

/* A delta chain that does not lead to the signed root, or own pages that are damaged: the tree is walked
 * instead. */
static int fall_back(struct metadata *m, struct scope *s, const struct scope_entry *to, int why)
{
    m->divergences++;
    event_note(
        m, "replica.divergence", NULL, why, "%s: %s; walking the tree instead", s->name, err_text(why));
    if (why == ERR_CORRUPT) {
        struct tree_report report;
        AUTO_TREE t;
        state_tree(m, s, &t);
        int rc = tree_check(&t, &s->applied.tree, true, true, &report);
        if (rc)
            return rc;
        s->careful = true;
    }
    return walk_start(m, s, to);
}

/* Pages of scopes that the new head no longer has, or that a walk left behind, this one or one that was given
 * up. */
static int clean_up(struct metadata *m, const struct head *h, const bool *walked)
{
    for (size_t i = 0; i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        const struct scope_entry *e = head_scope(h, s->name);
        bool gone = !e && s->applied.serial;
        uint64_t deleted;
        AUTO_TREE t;
        state_tree(m, s, &t);
        bool sweep = gone || s->staged || (walked && walked[i]);
        int rc = sweep ? tree_sweep(&t, e ? &e->tree : NULL, &deleted) : 0;
        if (rc)
            return rc;
        if (s->staged)
            meta_del(m->txn, meta_of("staged", view_str(s->name)).s);
        s->staged = false;
        if (gone)
            delta_trim(m->txn, s->id, UINT64_MAX);
        else if (e)
            delta_trim(m->txn, s->id, e->delta_floor);
    }
    return 0;
}

/* One transaction: pages are there, the head changes. 1: not yet, a scope had to fall back. */
int replica_activate(struct metadata *m, struct hint_delta **ret_deltas, size_t *ret_n)
{
    struct head *h = m->target;
    bool *walked = calloc(m->n_scopes ? m->n_scopes : 1, sizeof *walked);
    AUTO_BUF replaced = {0};
    struct hint_delta *deltas = NULL;
    size_t n = 0, cap = 0;
    int rc = walked ? 0 : -ENOMEM;
    bool again = false;
    for (size_t i = 0; !rc && i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        const struct scope_entry *to = head_scope(h, s->name);
        if (!to || s->fetch == FETCH_NONE)
            continue;
        walked[i] = s->fetch == FETCH_WALK;
        if (s->fetch != FETCH_READY || hash_eq(&s->applied.tree.hash, &to->tree.hash))
            continue;
        rc = catchup_apply(m, s, to, &replaced);
        if (rc == ERR_ROOT || rc == ERR_CORRUPT || rc == ERR_GAP || rc == ERR_MALFORMED) {
            again = true;
            rc = fall_back(m, s, to, rc);
        }
        for (uint64_t serial = s->applied.serial + 1; !rc && !again && serial <= to->serial; serial++) {
            if (n == cap) {
                cap = cap ? cap * 2 : 8;
                struct hint_delta *list = realloc(deltas, cap * sizeof *list);
                if (!list) {
                    rc = -ENOMEM;
                    break;
                }
                deltas = list;
            }
            deltas[n++] = (struct hint_delta){s, serial};
        }
    }
    if (!rc && !again) {
        for (size_t i = 0; i + PAGE_KEY_LEN <= replaced.len; i += PAGE_KEY_LEN)
            store_del(m->txn, TABLE_PAGES, view_of(replaced.data + i, PAGE_KEY_LEN));
        rc = replaced.err ? replaced.err : clean_up(m, h, walked);
    }
    free(walked);
    if (rc || again) {
        free(deltas);
        return rc ? rc : 1;
    }
    m->hop.verified = m->wall;
    if (h == m->applied)
        state_target(m, NULL); /* it was only mended */
    else
        state_apply(m, h);
    m->boot_bad = false;
    for (size_t i = 0; i < m->n_scopes; i++) {
        struct scope *s = m->scopes[i];
        /* damage that was found meanwhile, or in a scope that came by deltas, is still to be mended */
        s->careful = s->careful && s->applied.serial && !(s->fetch == FETCH_WALK && s->walk_careful);
        m->boot_bad = m->boot_bad || s->careful;
        s->fetch = FETCH_NONE;
    }
    m->verified_at = m->wall;
    *ret_deltas = deltas;
    *ret_n = n;
    return 0;
}

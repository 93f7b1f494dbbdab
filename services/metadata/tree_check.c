/* Looking over a trie: every hash again, what a root reaches, and what it does not. */
#include "services/metadata/tree.h"

static void found_bad(
    struct tree *t, struct place p, const struct subtree *s, bool mend, struct tree_report *r)
{
    if (r->bad < BAD_LISTED)
        r->where[r->bad] = p;
    r->bad++;
    if (subtree_is_leaf(s, p)) {
        r->bad_records += s->count;
        r->bad_bytes += s->bytes;
    } else {
        r->bad_inner++;
    }
    if (mend) {
        struct page_key k = key_page(t->scope, p, &s->hash);
        store_del(t->txn, TABLE_PAGES, KEY(k));
    }
}

static int check_leaf(
    struct tree *t, struct place p, const struct subtree *s, const struct stored_page *page, bool deep)
{
    struct view raw;
    if (page->kind != PAGE_LEAF)
        return ERR_CORRUPT;
    if (!deep) {
        struct hash h;
        leaf_hash(t->salt, p, (const void *)page->record_hashes, page->n, &h);
        return hash_eq(&h, &s->hash) ? 0 : ERR_CORRUPT;
    }
    int rc = stored_page_raw(page, &t->raw, &raw);
    buf_reset(&t->hashes);
    if (!rc)
        rc = page_verify(t->salt, p, s, raw, &t->hashes);
    if (!rc && (t->hashes.len != 32u * page->n || memcmp(t->hashes.data, page->record_hashes, t->hashes.len)))
        rc = ERR_CORRUPT;
    return rc;
}

static int check(
    struct tree *t, struct place p, const struct subtree *s, bool deep, bool mend, struct tree_report *r)
{
    if (s->count == 0)
        return 0;
    struct stored_page page;
    int rc = tree_page(t, p, &s->hash, &page);
    if (rc && rc != ERR_NOT_FOUND && rc != ERR_CORRUPT)
        return rc;
    r->pages++;
    if (!rc && subtree_is_leaf(s, p)) {
        rc = check_leaf(t, p, s, &page, deep);
        r->records += page.n;
        r->bytes += page.raw_len;
        if (rc == -ENOMEM)
            return rc;
        if (rc)
            found_bad(t, p, s, mend, r);
        return 0;
    }
    struct view raw;
    struct inner n;
    if (!rc)
        rc = page.kind == PAGE_INNER ? stored_page_raw(&page, &t->raw, &raw) : ERR_CORRUPT;
    if (!rc)
        rc = page_verify(t->salt, p, s, raw, &t->hashes);
    if (!rc)
        rc = inner_parse(raw, &n);
    if (rc) {
        found_bad(t, p, s, mend, r);
        return rc == -ENOMEM ? rc : 0;
    }
    for (unsigned i = 0; !rc && i < 16; i++)
        rc = check(t, place_child(p, i), &n.child[i], deep, mend, r);
    return rc;
}

int tree_check(
    struct tree *t, const struct subtree *root, bool deep, bool mend, struct tree_report *ret_report)
{
    struct tree_report r = {0};
    int rc = check(t, (struct place){0}, root, deep, mend, &r);
    if (!rc && root->count == 0) {
        struct hash h;
        empty_root(t->salt, &h);
        if (!hash_eq(&h, &root->hash))
            r.bad++;
    }
    if (!rc)
        *ret_report = r;
    return rc;
}

int tree_has(
    struct tree *t, const struct subtree *root, struct place at, const struct hash *hash, bool *ret_has)
{
    struct subtree s = *root;
    struct place p = {0};
    while (s.count && p.depth < at.depth) {
        struct inner n;
        if (subtree_is_leaf(&s, p)) {
            s.count = 0;
            break;
        }
        int rc = tree_inner_whole(t, p, &s.hash, &n);
        if (rc)
            return rc;
        unsigned nib = place_nibble(at.path, p.depth);
        s = n.child[nib];
        p = place_child(p, nib);
    }
    *ret_has = s.count && place_eq(p, at) && hash_eq(&s.hash, hash);
    return 0;
}

/* Keys come ordered by path, then depth: the ancestors of a page stand before it, so one pass with the inner
 * pages of the current path tells what is reached. */
int tree_sweep(struct tree *t, const struct subtree *root, uint64_t *ret_deleted)
{
    struct inner path[PLACE_MAX + 1];
    struct place at[PLACE_MAX + 1];
    bool have[PLACE_MAX + 1] = {false};
    uint64_t deleted = 0;
    struct key4 prefix = key_scope(t->scope);
    struct store_walk w = store_walk_from(t->txn, TABLE_PAGES, KEY(prefix), KEY(prefix));
    while (store_walk_next(&w)) {
        uint32_t scope;
        struct place p;
        struct hash h;
        int rc = key_page_split(w.key, &scope, &p, &h);
        if (rc || p.depth > PLACE_MAX)
            return rc ? rc : err_fail(ERR_CORRUPT, "page key is damaged");
        const struct subtree *want = NULL;
        if (p.depth == 0)
            want = root;
        else if (have[p.depth - 1]) {
            unsigned nib = place_nibble(p.path, p.depth - 1);
            struct place up = at[p.depth - 1];
            if (place_eq(place_child(up, nib), p))
                want = &path[p.depth - 1].child[nib];
        }
        if (want && want->count && hash_eq(&want->hash, &h)) {
            if (!subtree_is_leaf(want, p)) {
                rc = tree_inner_whole(t, p, &h, &path[p.depth]);
                if (rc)
                    return rc;
                at[p.depth] = p;
                have[p.depth] = true;
            }
        } else {
            struct page_key k = key_page(scope, p, &h);
            store_del(t->txn, TABLE_PAGES, KEY(k));
            deleted++;
        }
    }
    *ret_deleted = deleted;
    return store_txn_error(t->txn);
}

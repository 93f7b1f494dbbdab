#include "services/node/core.h"

#include <stdio.h>

#include "services/node/revoked.h"

/* Certificates that no longer count, wherever they are shown. The central site makes the list of what was
 * removed anywhere below it; it goes into every head (ScopeList.revoked), so it is signed by the head key and
 * equal everywhere. An entry names the key of a site, the key that certified it, and the serial up to which
 * its certificates are taken back: a site that joined again, or below another parent, has another one. */

static void entry_id(const uint8_t sign_key[32], const uint8_t parent_key[32], uint8_t ret_id[16])
{
    uint8_t keys[64];
    struct hash h;
    memcpy(keys, sign_key, 32);
    memcpy(keys + 32, parent_key, 32);
    hash_bytes("sitetree-revoke", NULL, view_of(keys, sizeof keys), &h);
    memcpy(ret_id, h.b, 16);
}

/* Where the entry of a pair of keys stands in the list; its length: nowhere. */
static size_t entry_find(struct view list, const uint8_t id[16], uint64_t *ret_serial)
{
    for (size_t at = 0; at + REVOKED_LEN <= list.len; at += REVOKED_LEN) {
        struct reader r = reader_of(view_of((const uint8_t *)list.data + at, REVOKED_LEN));
        struct view found = read_bytes(&r, 16);
        if (memcmp(found.data, id, 16) != 0)
            continue;
        *ret_serial = read_be64(&r);
        return at;
    }
    return list.len;
}

bool revoked_has(struct view list, const uint8_t sign_key[32], const uint8_t parent_key[32], uint64_t serial)
{
    uint8_t id[16];
    uint64_t upto = 0;
    if (list.len == 0)
        return false;
    entry_id(sign_key, parent_key, id);
    return entry_find(list, id, &upto) < list.len && serial <= upto;
}

void revoked_drop(struct buf *list, const uint8_t sign_key[32], const uint8_t parent_key[32])
{
    uint8_t id[16];
    uint64_t serial;
    entry_id(sign_key, parent_key, id);
    size_t at = entry_find(buf_view(list), id, &serial);
    if (at == list->len)
        return;
    memmove(list->data + at, list->data + at + REVOKED_LEN, list->len - at - REVOKED_LEN);
    list->len -= REVOKED_LEN;
}

void revoked_put(struct buf *list, const uint8_t sign_key[32], const uint8_t parent_key[32], uint64_t serial)
{
    uint8_t id[16];
    revoked_drop(list, sign_key, parent_key);
    if (list->len >= REVOKED_MAX * REVOKED_LEN) { /* the oldest; its own parent refuses it all the same */
        memmove(list->data, list->data + REVOKED_LEN, list->len - REVOKED_LEN);
        list->len -= REVOKED_LEN;
    }
    entry_id(sign_key, parent_key, id);
    buf_append(list, id, sizeof id);
    buf_be64(list, serial);
}

static void list_store(struct step *s)
{
    struct key k = key_text("revoked");
    store_put(s->txn, TABLE_META, key_view(&k), buf_view(&s->n->revoked));
}

int revoked_start(struct step *s)
{
    struct key k = key_text("revoked");
    struct view v;
    int rc = store_get(s->txn, TABLE_META, key_view(&k), &v);
    buf_reset(&s->n->revoked);
    if (rc == 0)
        buf_append_view(&s->n->revoked, v);
    return rc == ERR_NOT_FOUND ? 0 : rc ? rc : s->n->revoked.err;
}

/* Central site: a site was removed here or further down. */
void revoked_add(struct step *s, const struct site *site)
{
    if (s->n->id.depth)
        return;
    revoked_put(&s->n->revoked, site->cert.sign_key, site->signer, site->cert.serial);
    list_store(s);
    relay_site_info(s, 0);
}

static int path_check(const struct node *n, const struct certificate *path, unsigned count)
{
    struct view list = buf_view(&n->revoked);
    const struct certificate *own = identity_site(&n->id);
    for (unsigned i = 1; i < count; i++)
        if (revoked_has(list, path[i].sign_key, path[i - 1].sign_key, path[i].serial))
            return err_fail(ERR_KEY, "the certificate of %s was revoked: what it certified no longer counts",
                path[i].code.s);
    if (n->id.depth && revoked_has(list, own->sign_key, n->id.path[n->id.depth - 1].sign_key, own->serial))
        return err_fail(
            ERR_REMOVED, "the certificate of this site, %s, was revoked: it joins anew", own->code.s);
    return 0;
}

/* A site shows its chain of today with each welcome, since it may have joined again after it certified this
 * one. Whoever shows none is judged by the one that is known. */
int revoked_judge(
    const struct node *n, const Sitetree__Welcome *w, struct certificate *ret_path, unsigned *ret_count)
{
    struct identity id = n->id;
    unsigned level = 0, count = 0;
    int rc = w->chain ? chain_verify(w->chain, &n->id.hierarchy, &id) : 0;
    if (rc)
        return err_wrap(rc, "the chain of %s", w->site);
    if (w->chain)
        count = id.depth + 1;
    for (level = 0; level < n->id.depth && !count; level++)
        if (strcmp(n->id.path[level].code.s, w->site) == 0)
            count = level + 1;
    bool above = !w->chain;
    for (level = 0; level < n->id.depth && !above; level++)
        above = memcmp(n->id.path[level].sign_key, identity_site(&id)->sign_key, 32) == 0;
    if (!above || count == 0)
        return err_fail(ERR_KEY, "%s is not one of the sites that certified this one", w->site);
    rc = path_check(n, id.path, count);
    if (!rc && ret_path) {
        memcpy(ret_path, id.path, count * sizeof *ret_path);
        *ret_count = count;
    }
    return rc;
}

/* Whoever no longer belongs to the tree is sent away. */
static void sessions_check(struct step *s)
{
    struct node *n = s->n;
    for (size_t i = n->n_sessions; i-- > 0;) {
        struct session *c = n->sessions[i];
        const struct site *site = c->site;
        if (site->known)
            continue;
        effects_access(s->fx, site->cert.link_key, NULL);
        effects_drop_links(s->fx);
        session_send(s, c, CLASS_HEAD,
            frame_refusal(0, err_fail(ERR_REMOVED, "the certificate of %s was revoked", site->cert.code.s)));
        EVENT(s, "site.removed", .site = site->cert.code.s, .text = "its certificate is on the signed list");
        session_end(s, c, "site-removed");
    }
}

int revoked_on_status(struct step *s, struct view list)
{
    struct node *n = s->n;
    if (n->id.depth == 0 || list.len % REVOKED_LEN || list.len > REVOKED_MAX * REVOKED_LEN ||
        view_eq(list, buf_view(&n->revoked)))
        return 0;
    buf_reset(&n->revoked);
    buf_append_view(&n->revoked, list);
    if (n->revoked.err)
        return n->revoked.err;
    list_store(s);
    sites_link(n);
    sessions_check(s);
    char why[200];
    int rc = n->up.state == UPLINK_LIVE ? path_check(n, n->up.above, n->up.n_above) : 0;
    COPY_TEXT(why, err_text(rc));
    if (rc)
        failover_down(s, rc, why);
    return 0;
}

#include "services/node/core.h"

/* This site's chain of certificates where it is no longer the one in the folder: a site above has moved, and
 * the parent has told what leads to it now. The site's own certificate stays the same one. */

static int chain_use(struct node *n, struct view bytes, const struct identity *id)
{
    AUTO_BUF copy = {0};
    buf_append_view(&copy, bytes);
    if (copy.err)
        return copy.err;
    struct buf old = n->chain;
    n->chain = copy;
    copy = old;
    n->keys.chain = buf_view(&n->chain);
    n->id = *id;
    n->self.cert = *identity_site(id);
    return 0;
}

/* The same certificate of this site, by the same parent, through other sites further up perhaps. */
static int chain_check(const struct node *n, const struct identity *id)
{
    const struct certificate *own = identity_site(id), *now = &n->self.cert;
    if (id->depth == 0 || n->id.depth == 0)
        return err_fail(ERR_KEY, "a chain for the central site");
    const struct certificate *up = &id->path[id->depth - 1], *up_now = &n->id.path[n->id.depth - 1];
    if (strcmp(own->code.s, now->code.s) != 0 || strcmp(up->code.s, up_now->code.s) != 0 ||
        own->serial != now->serial || own->tier != now->tier ||
        memcmp(own->sign_key, now->sign_key, 32) != 0 || memcmp(own->link_key, now->link_key, 32) != 0 ||
        memcmp(up->sign_key, up_now->sign_key, 32) != 0)
        return err_fail(ERR_KEY, "a chain with another certificate of %s than the one it has", now->code.s);
    if (up->move < up_now->move)
        return err_fail(ERR_ROLLBACK, "a chain from before the last move of %s", up->code.s);
    return 0;
}

int chain_start(struct step *s)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    a.cap = 4 * TRUST_BYTES_MAX;
    Sitetree__StoredChain *m;
    struct identity id;
    struct key k = key_text("chain");
    hash_bytes("chain-file", NULL, buf_view(&n->chain), &n->file_chain);
    int rc = table_get(s->txn, TABLE_META, &k, &a, &sitetree__stored_chain__descriptor, &m);
    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc)
        return rc;
    bool ours = m->file.len == 32 && memcmp(m->file.data, n->file_chain.b, 32) == 0;
    if (!ours || chain_verify_bytes(pb_view(m->chain), &n->id.hierarchy, &id) || chain_check(n, &id)) {
        store_del(s->txn, TABLE_META, key_view(&k)); /* the folder has another one since */
        return 0;
    }
    return chain_use(n, pb_view(m->chain), &id);
}

static void tell_children(struct step *s)
{
    struct node *n = s->n;
    for (size_t i = 0; i < n->n_sessions; i++)
        if (n->sessions[i]->site->up == &n->self) /* the answer to the next hello brings it */
            session_send(s, n->sessions[i], CLASS_HEAD,
                frame_refusal(0, err_fail(ERR_NOT_FOUND, "say hello again: a site above has moved")));
}

int chain_adopt(struct step *s, const Sitetree__Chain *of_parent)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    a.cap = 4 * TRUST_BYTES_MAX;
    struct identity id;
    AUTO_BUF above = {0};
    AUTO_BUF bytes = {0};
    int rc;
    Sitetree__Chain *now = MESSAGE_UNPACK(&a, buf_view(&n->chain), TRUST_BYTES_MAX, chain, &rc);
    if (!now || now->n_certificates == 0)
        return rc ? rc : err_fail(ERR_KEY, "a chain for the central site");
    message_pack(&of_parent->base, &above);
    rc = above.err ? above.err
                   : chain_extend(buf_view(&above), now->certificates[now->n_certificates - 1], &bytes);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&bytes), &n->id.hierarchy, &id);
    if (!rc)
        rc = chain_check(n, &id);
    if (rc)
        return rc;
    if (view_cmp(buf_view(&bytes), buf_view(&n->chain)) == 0)
        return 0;
    rc = chain_use(n, buf_view(&bytes), &id);
    if (rc)
        return rc;
    Sitetree__StoredChain m = SITETREE__STORED_CHAIN__INIT;
    m.chain = pb_bytes(buf_view(&bytes));
    m.file = pb_bytes(view_of(n->file_chain.b, 32));
    struct key k = key_text("chain");
    table_put(s->txn, TABLE_META, &k, &m.base);
    EVENT(s, "site.chain", .site = n->self.cert.parent.s, .text = "a site above has moved");
    tell_children(s);
    return 0;
}

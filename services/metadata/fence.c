/* Signed heads that come up the tree. A site that finds its parent behind what it holds itself offers its
 * head; it is passed on upward, and at the central site it proves that this store is not the newest: it was
 * restored from an old backup, or there are two centres. Then the centre publishes nothing until an operator
 * opens a new epoch. Only the head key can have made such a head, so no site below can stop the centre by
 * what it says. Source: protocol.md 1 (P2), 7; docs/protocol.md, The origin. */
#include <stdio.h>

#include "services/metadata/core.h"

#define OFFER_PAUSE_NS (5 * NS_PER_S)

static const struct head *newest_of(const struct metadata *m)
{
    const struct head *own = m->known ? m->known : m->applied;
    return m->witness && (!own || head_follows(own, m->witness, (struct wall){0}) == 0) ? m->witness : own;
}

/* At most once in a while: whoever is behind for long hears it again. */
void fence_offer(struct metadata *m)
{
    const struct head *h = newest_of(m);
    if (m->central || !m->parent_up || !h || (m->offered.ns && m->now.ns - m->offered.ns < OFFER_PAUSE_NS))
        return;
    struct blob *b = frame_wrap(FRAME_HEAD, CLASS_HEAD, 0, state_epoch(m), blob_view(h->bytes), true);
    if (!b)
        return;
    m->offered = m->now;
    send_to(m, (struct peer){PEER_PARENT, 0}, CLASS_HEAD, b);
}

/* What the parent says of itself, when the link comes up and later: a parent that has just started says
 * nothing yet. */
void fence_on_parent(struct metadata *m, bool was_up, const struct epoch *before, uint64_t generation_before)
{
    const struct head *h = newest_of(m);
    bool same = epoch_eq(&m->parent_epoch, before);
    if (!was_up || !same || m->parent_generation < generation_before)
        m->offer_due = true;
    if (!m->offer_due || !h)
        return;
    if (m->parent_generation)
        m->offer_due = false;
    if (!epoch_eq(&h->epoch, &m->parent_epoch) || h->generation > m->parent_generation)
        fence_offer(m);
}

bool fence_closed(const struct metadata *m)
{
    return m->central && (m->fence || m->restored);
}

const char *fence_text(const struct metadata *m, char out[256])
{
    if (m->fence && m->fence->trust_version > m->trust.version)
        snprintf(out, 256,
            "a site below holds generation %llu, signed under trust version %llu, this centre has version "
            "%llu: "
            "sitetree trust rotate",
            (unsigned long long)m->fence->generation, (unsigned long long)m->fence->trust_version,
            (unsigned long long)m->trust.version);
    else if (m->fence)
        snprintf(out, 256,
            "a site below holds generation %llu, signed with this head key and not known here: nothing is "
            "published; sitetree epoch open",
            (unsigned long long)m->fence->generation);
    else
        snprintf(out, 256,
            "restored from a backup: nothing is published before every child was heard; or sitetree epoch "
            "open");
    return out;
}

int fence_error(const struct metadata *m)
{
    char text[256];
    return err_fail(ERR_FENCED, "%s", fence_text(m, text));
}

int fence_may_open(const struct metadata *m)
{
    return m->fence && m->fence->trust_version > m->trust.version ? fence_error(m) : 0;
}

/* The centre was told of something newer: kept, so that a restart does not forget it. */
static void close_fence(struct metadata *m, struct head *h)
{
    char text[256];
    head_free(m->fence);
    m->fence = h;
    meta_put(m->txn, "fence", blob_view(h->bytes));
    event_note(m, "epoch.fenced", NULL, ERR_FENCED, "%s", fence_text(m, text));
    replica_rest(m);
}

/* Takes h. */
static void consider_offer(struct metadata *m, struct head *h)
{
    const struct head *own = m->known ? m->known : m->applied;
    const struct wall ever = {0}; /* an expired head proves as much */
    int rc = own ? head_follows(own, h, ever) : 0;
    bool newer = rc == 0, fork = rc == ERR_SIGNATURE;
    if (m->central && (newer || fork) && (!m->fence || head_follows(m->fence, h, ever) == 0)) {
        close_fence(m, h);
        return;
    }
    if (!m->central && newer && (!m->witness || head_follows(m->witness, h, ever) == 0)) {
        head_free(m->witness);
        m->witness = h;
        if (!epoch_eq(&h->epoch, &m->parent_epoch) || h->generation > m->parent_generation)
            fence_offer(m);
        return;
    }
    head_free(h);
}

int fence_on_offer(struct metadata *m, const struct frame *f)
{
    AUTO_BUF raw = {0};
    struct view body = f->body;
    struct head *h;
    int rc = 0;
    if (f->flags & FRAME_ZSTD) {
        rc = zstd_unpack(f->body, f->raw_len, &raw);
        body = buf_view(&raw);
    }
    if (!rc)
        rc = head_parse(body, &m->trust, &h);
    if (rc == -ENOMEM)
        return rc;
    if (rc)
        state_refusal(m, rc, "a head from below");
    else
        consider_offer(m, h);
    return 0;
}

int fence_load(struct metadata *m)
{
    struct view v;
    if (!m->central || m->fence || meta_get(m->txn, "fence", &v))
        return 0;
    return err_wrap(head_parse_stored(v, &m->trust, &m->fence), "stored head of the fence");
}

/* Another head key, or a new epoch: what lies behind it no longer counts. */
void fence_open(struct metadata *m)
{
    head_free(m->fence);
    m->fence = NULL;
    m->restored = false;
    meta_del(m->txn, "fence");
}

void fence_on_trust(struct metadata *m)
{
    if (m->fence && m->fence->trust_version < m->trust.version)
        fence_open(m);
}

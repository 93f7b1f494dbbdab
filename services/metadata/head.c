#include "services/metadata/head.h"

#include <stdlib.h>

#include "proto/catalogue.pb-c.h"

#define HEAD_BYTES_MAX (4u * 1024u * 1024u)

void head_free(struct head *h)
{
    if (!h)
        return;
    blob_free(h->bytes);
    buf_done(&h->trust_statement);
    free(h->scopes);
    free(h->recalls);
    buf_done(&h->revoked);
    free(h);
}

void head_scopes_root(struct view scopes, struct hash *ret_root)
{
    hash_bytes("sitetree-scopes", NULL, scopes, ret_root);
}

void head_hash(struct view payload, struct hash *ret_hash)
{
    hash_bytes("sitetree-head", NULL, payload, ret_hash);
}

static bool scope_name_valid(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > SCOPE_NAME_MAX || name[0] == '/')
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] <= ' ' || (unsigned char)name[i] > '~')
            return false;
    return true;
}

static int parse_scope(const Sitetree__Scope *s, struct scope_entry *e)
{
    if (!scope_name_valid(s->name))
        return err_fail(ERR_MALFORMED, "head: not a scope name");
    if (s->count > UINT32_MAX)
        return err_fail(ERR_MALFORMED, "head: scope %s: too many records", s->name);
    memcpy(e->name, s->name, strlen(s->name) + 1);
    e->serial = s->serial;
    e->delta_floor = s->delta_floor;
    e->tombstone_floor = s->tombstone_floor;
    e->delta_bytes = s->delta_bytes;
    e->live = s->live;
    e->tree.count = (uint32_t)s->count;
    e->tree.bytes = s->bytes;
    int rc = hash_from_view(pb_view(s->root), &e->tree.hash);
    return rc ? rc : hash_from_view(pb_view(s->delta), &e->delta);
}

static int parse_recalls(const Sitetree__ScopeList *l, struct head *h)
{
    if (l->n_recalls > RECALLS_MAX)
        return err_fail(ERR_TOO_LARGE, "head: %zu recalls", l->n_recalls);
    h->recalls = calloc(l->n_recalls ? l->n_recalls : 1, sizeof *h->recalls);
    if (!h->recalls)
        return -ENOMEM;
    for (size_t i = 0; i < l->n_recalls; i++) {
        const Sitetree__Recall *m = l->recalls[i];
        struct recall *r = &h->recalls[i];
        if (m->id.len == 0 || m->id.len > RECORD_KEY_MAX || m->generation == 0 ||
            m->generation > h->generation || (i && m->generation < r[-1].generation))
            return err_fail(ERR_MALFORMED, "head: a recall that makes no sense");
        *r = (struct recall){
            .generation = m->generation, .at.ns = (int64_t)m->at, .id_len = (uint16_t)m->id.len};
        memcpy(r->id, m->id.data, m->id.len);
    }
    h->n_recalls = l->n_recalls;
    return 0;
}

static int parse_scopes(struct arena *a, struct view bytes, struct head *h)
{
    int rc;
    struct hash root;
    head_scopes_root(bytes, &root);
    if (!hash_eq(&root, &h->root))
        return err_fail(ERR_ROOT, "head: the scope list is not the signed one");
    Sitetree__ScopeList *l = MESSAGE_UNPACK(a, bytes, HEAD_BYTES_MAX, scope_list, &rc);
    if (!l)
        return rc;
    if (l->n_scopes > SCOPES_MAX)
        return err_fail(ERR_TOO_LARGE, "head: %zu scopes", l->n_scopes);
    h->scopes = calloc(l->n_scopes ? l->n_scopes : 1, sizeof *h->scopes);
    if (!h->scopes)
        return -ENOMEM;
    for (size_t i = 0; i < l->n_scopes; i++) {
        rc = parse_scope(l->scopes[i], &h->scopes[i]);
        if (rc)
            return rc;
        if (i && strcmp(h->scopes[i - 1].name, h->scopes[i].name) >= 0)
            return err_fail(ERR_MALFORMED, "head: scopes out of order");
        h->records += h->scopes[i].tree.count;
        h->live += h->scopes[i].live;
    }
    h->n_scopes = l->n_scopes;
    if (l->revoked.len > REVOKED_BYTES_MAX)
        return err_fail(ERR_TOO_LARGE, "head: %zu bytes of revoked certificates", l->revoked.len);
    buf_append_view(&h->revoked, pb_view(l->revoked));
    return h->revoked.err ? h->revoked.err : parse_recalls(l, h);
}

static int parse_payload(struct arena *a, struct view payload, const struct hash *hierarchy, struct head *h)
{
    int rc;
    struct hash id;
    Sitetree__Head *m = MESSAGE_UNPACK(a, payload, 512, head, &rc);
    if (!m)
        return rc;
    if ((rc = hash_from_view(pb_view(m->hierarchy), &id)) ||
        (rc = epoch_from_view(pb_view(m->epoch), &h->epoch)) ||
        (rc = hash_from_view(pb_view(m->root), &h->root)) ||
        (rc = hash_from_view(pb_view(m->previous), &h->previous)))
        return rc;
    if (!hash_eq(&id, hierarchy))
        return err_fail(ERR_KEY, "head: it belongs to another hierarchy");
    h->epoch_counter = m->epoch_counter;
    h->generation = m->generation;
    h->issued.ns = (int64_t)m->issued;
    h->expires.ns = (int64_t)m->expires;
    h->trust_version = m->trust_version;
    if (h->issued.ns <= 0 || h->expires.ns <= h->issued.ns || h->generation == 0)
        return err_fail(ERR_MALFORMED, "head: times or generation make no sense");
    head_hash(payload, &h->hash);
    return 0;
}

/* A statement of the root key, whose hash is the hierarchy's id: it needs nothing else to be believed. */
static int read_trust(
    struct arena *a, const Sitetree__Signed *s, const struct hash *hierarchy, struct head_trust *ret_trust)
{
    int rc;
    struct hash id;
    if (s->key.len != 32)
        return err_fail(ERR_MALFORMED, "trust: a key of %zu bytes", s->key.len);
    hierarchy_id(s->key.data, &id);
    if (!hash_eq(&id, hierarchy))
        return err_fail(ERR_KEY, "trust: not signed by the root key of this hierarchy");
    rc = sign_verify(s->key.data, "trust", pb_view(s->payload), pb_view(s->signature));
    if (rc)
        return rc;
    Sitetree__Trust *t = MESSAGE_UNPACK(a, pb_view(s->payload), 4096, trust, &rc);
    if (!t)
        return rc;
    if (t->hierarchy.len != 32 || memcmp(t->hierarchy.data, hierarchy->b, 32) != 0 || t->head_key.len != 32)
        return err_fail(ERR_MALFORMED, "trust: without hierarchy or head key");
    *ret_trust = (struct head_trust){.hierarchy = *hierarchy, .version = t->version};
    memcpy(ret_trust->head_key, t->head_key.data, 32);
    return 0;
}

static int parse_signed(
    struct arena *a, const Sitetree__HeadBytes *m, const struct head_trust *have, bool stored, struct head *h)
{
    int rc;
    h->trust = *have;
    if (m->trust) {
        struct head_trust newer;
        rc = read_trust(a, m->trust, &have->hierarchy, &newer);
        if (rc)
            return rc;
        if (newer.version > have->version || stored)
            h->trust = newer;
        message_pack(&m->trust->base, &h->trust_statement);
    }
    if (m->head->key.len != 32)
        return err_fail(ERR_MALFORMED, "head: a key of %zu bytes", m->head->key.len);
    if (!stored && memcmp(m->head->key.data, h->trust.head_key, 32) != 0)
        return err_fail(ERR_KEY, "head: signed by another key than the head key");
    rc = sign_verify(m->head->key.data, "head", pb_view(m->head->payload), pb_view(m->head->signature));
    if (!rc)
        rc = parse_payload(a, pb_view(m->head->payload), &have->hierarchy, h);
    if (!rc && !stored && h->trust_version != h->trust.version)
        rc = err_fail(ERR_KEY, "head: signed under trust version %llu, not %llu",
            (unsigned long long)h->trust_version, (unsigned long long)h->trust.version);
    return rc ? rc : h->trust_statement.err;
}

static int parse(struct view bytes, const struct head_trust *have, bool stored, struct head **ret_head)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__HeadBytes *m = MESSAGE_UNPACK(&a, bytes, HEAD_BYTES_MAX, head_bytes, &rc);
    if (!m)
        return rc;
    if (!m->head)
        return err_fail(ERR_MALFORMED, "head: unsigned");
    struct head *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    rc = parse_signed(&a, m, have, stored, h);
    if (!rc)
        rc = parse_scopes(&a, pb_view(m->scopes), h);
    if (!rc && !(h->bytes = blob_new(bytes.data, bytes.len)))
        rc = -ENOMEM;
    if (rc) {
        head_free(h);
        return rc;
    }
    *ret_head = h;
    return 0;
}

int head_parse(struct view bytes, const struct head_trust *have, struct head **ret_head)
{
    return parse(bytes, have, false, ret_head);
}

int head_parse_stored(struct view bytes, const struct head_trust *have, struct head **ret_head)
{
    return parse(bytes, have, true, ret_head);
}

const struct scope_entry *head_scope(const struct head *h, const char *name)
{
    size_t lo = 0, hi = h ? h->n_scopes : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(h->scopes[mid].name, name);
        if (c == 0)
            return &h->scopes[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

bool head_newer(const struct head *a, const struct head *b)
{
    if (epoch_eq(&a->epoch, &b->epoch))
        return a->generation > b->generation;
    return a->trust_version != b->trust_version ? a->trust_version > b->trust_version
                                                : a->epoch_counter > b->epoch_counter;
}

int head_follows(const struct head *held, const struct head *next, struct wall now)
{
    char text[32];
    if (held && epoch_eq(&held->epoch, &next->epoch)) {
        if (next->generation < held->generation)
            return err_fail(ERR_ROLLBACK, "head of generation %llu offered, generation %llu is held",
                (unsigned long long)next->generation, (unsigned long long)held->generation);
        if (next->generation == held->generation)
            return hash_eq(&next->hash, &held->hash)
                       ? ERR_EXISTS
                       : err_fail(ERR_SIGNATURE,
                             "two different heads of generation %llu are signed: the head key signs forks",
                             (unsigned long long)next->generation);
        if (next->generation == held->generation + 1 && !hash_eq(&next->previous, &held->hash))
            return err_fail(ERR_SIGNATURE, "generation %llu does not follow the head that is held",
                (unsigned long long)next->generation);
    } else if (held && next->epoch_counter <= held->epoch_counter &&
               next->trust_version <= held->trust_version) {
        /* (a newer trust ends what a stolen head key has counted up) */
        return err_fail(ERR_EPOCH, "head of another epoch (counter %llu) offered, counter %llu is held",
            (unsigned long long)next->epoch_counter, (unsigned long long)held->epoch_counter);
    }
    if (now.ns && next->expires.ns < now.ns)
        return err_fail(ERR_EXPIRED, "head of generation %llu expired at %s",
            (unsigned long long)next->generation, wall_text(next->expires, text));
    return 0;
}

void head_pack_scopes(const struct scope_entry *scopes, size_t n, const struct recall *recalls,
    size_t n_recalls, struct view revoked, struct buf *out)
{
    Sitetree__Recall recall[RECALLS_MAX], *recall_refs[RECALLS_MAX];
    Sitetree__ScopeList l = SITETREE__SCOPE_LIST__INIT;
    Sitetree__Scope *list = calloc(n ? n : 1, sizeof *list);
    Sitetree__Scope **refs = calloc(n ? n : 1, sizeof *refs);
    if (!list || !refs)
        out->err = -ENOMEM;
    for (size_t i = 0; !out->err && i < n; i++) {
        const struct scope_entry *e = &scopes[i];
        sitetree__scope__init(&list[i]);
        list[i].name = (char *)(uintptr_t)e->name;
        list[i].serial = e->serial;
        list[i].root = pb_bytes(view_of(e->tree.hash.b, 32));
        list[i].count = e->tree.count;
        list[i].bytes = e->tree.bytes;
        list[i].delta_floor = e->delta_floor;
        list[i].tombstone_floor = e->tombstone_floor;
        list[i].delta = pb_bytes(view_of(e->delta.b, 32));
        list[i].delta_bytes = e->delta_bytes;
        list[i].live = e->live;
        refs[i] = &list[i];
    }
    l.scopes = refs;
    l.n_scopes = n;
    for (size_t i = 0; i < n_recalls && i < RECALLS_MAX; i++) {
        sitetree__recall__init(&recall[i]);
        recall[i].id = pb_bytes(view_of(recalls[i].id, recalls[i].id_len));
        recall[i].generation = recalls[i].generation;
        recall[i].at = (uint64_t)recalls[i].at.ns;
        recall_refs[i] = &recall[i];
    }
    l.revoked = pb_bytes(revoked);
    l.recalls = recall_refs;
    l.n_recalls = n_recalls < RECALLS_MAX ? n_recalls : RECALLS_MAX;
    if (!out->err)
        message_pack(&l.base, out);
    free(list);
    free(refs);
}

void head_pack_payload(const struct head *h, const struct hash *hierarchy, struct buf *out)
{
    Sitetree__Head m = SITETREE__HEAD__INIT;
    m.hierarchy = pb_bytes(view_of(hierarchy->b, 32));
    m.epoch = pb_bytes(view_of(h->epoch.b, 16));
    m.epoch_counter = h->epoch_counter;
    m.generation = h->generation;
    m.root = pb_bytes(view_of(h->root.b, 32));
    m.issued = (uint64_t)h->issued.ns;
    m.expires = (uint64_t)h->expires.ns;
    m.previous = pb_bytes(view_of(h->previous.b, 32));
    m.trust_version = h->trust_version;
    message_pack(&m.base, out);
}

int head_pack_bytes(struct view signed_head, struct view scopes, struct view trust, struct buf *out)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc = 0;
    Sitetree__HeadBytes m = SITETREE__HEAD_BYTES__INIT;
    m.head = MESSAGE_UNPACK(&a, signed_head, 2048, signed, &rc);
    if (!rc && trust.len)
        m.trust = MESSAGE_UNPACK(&a, trust, 4096, signed, &rc);
    if (rc)
        return rc;
    m.scopes = pb_bytes(scopes);
    message_pack(&m.base, out);
    return out->err;
}

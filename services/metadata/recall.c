/* Recalls: updates that are expired ahead of all else. The central site puts a recalled update into the
 * signed head, beside the scopes, and a site that knows of such a head shows the update as expired whatever
 * it has applied so far; so a recall need not wait for the catalogue that a head in between brought. A site
 * that cannot apply the head yet passes it on as `ahead`: the sites below take the recalls from it and
 * nothing else. Source: protocol.md 3; docs/protocol.md, "Recalls". */
#include <stdlib.h>

#include "services/metadata/core.h"

bool recall_is(const struct recall *r, struct view id)
{
    return view_eq(view_of(r->id, r->id_len), id);
}

const struct recall *recall_find(const struct head *h, struct view id)
{
    for (size_t i = h ? h->n_recalls : 0; i-- > 0;)
        if (recall_is(&h->recalls[i], id))
            return &h->recalls[i];
    return NULL;
}

/* The newest head that was verified here and is not applied; NULL: none. */
static const struct head *newest(const struct metadata *m)
{
    return m->ahead ? m->ahead : m->known;
}

static uint64_t newest_recall(const struct head *h)
{
    return h && h->n_recalls ? h->recalls[h->n_recalls - 1].generation : 0;
}

static bool is_ahead(const struct metadata *m, const struct head *h, uint64_t generation)
{
    return generation &&
           (!m->applied || !epoch_eq(&m->applied->epoch, &h->epoch) || generation > m->applied->generation);
}

const struct recall *recall_ahead_of(const struct metadata *m, struct view id)
{
    const struct head *h = newest(m);
    const struct recall *r = recall_find(h, id);
    return r && is_ahead(m, h, r->generation) ? r : NULL;
}

void recall_note(struct metadata *m)
{
    const struct head *h = newest(m) ? newest(m) : m->applied;
    uint64_t generation = newest_recall(h);
    if (generation == m->recalled)
        return;
    if (generation > m->recalled) {
        const struct recall *r = &h->recalls[h->n_recalls - 1];
        event_note(m, "update.recalled", NULL, 0, "%.*s is expired from generation %llu on%s", (int)r->id_len,
            (const char *)r->id, (unsigned long long)generation,
            is_ahead(m, h, generation) ? "; the catalogue of it is still to come" : "");
    }
    m->recalled = generation;
    m->recalled_at = m->wall;
    meta_put_u64(m->txn, "recalled", generation);
    meta_put_u64(m->txn, "recalled-at", (uint64_t)m->wall.ns);
    status_touch(m);
}

static struct blob *ahead_frame(struct metadata *m, const struct head *h)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Hint hint = SITETREE__HINT__INIT;
    hint.head = MESSAGE_UNPACK(&a, blob_view(h->bytes), 4u * 1024u * 1024u, head_bytes, &rc);
    hint.ahead = true;
    return hint.head ? frame_pack(FRAME_HINT, CLASS_RECALL, 0, state_epoch(m), &hint.base, true) : NULL;
}

void recall_spread(struct metadata *m)
{
    char topic[200];
    const struct head *h = newest(m);
    uint64_t generation = newest_recall(h);
    if (!is_ahead(m, h, generation) || generation == m->recall_spread)
        return;
    struct blob *b = ahead_frame(m, h);
    if (!b)
        return; /* the children hear of it when they ask for the head */
    m->recall_spread = generation;
    serve_topic(h, NULL, topic);
    for (size_t i = 0; i < m->n_children; i++) /* a hint may be lost, and nobody may ask for long */
        send_to(m, (struct peer){PEER_CHILD, m->children[i].session}, CLASS_RECALL, blob_ref(b));
    effects_publish(m->fx, topic, CLASS_RECALL, b, true);
}

void recall_tell(struct metadata *m, struct peer to)
{
    const struct head *h = newest(m);
    struct blob *b = is_ahead(m, h, newest_recall(h)) ? ahead_frame(m, h) : NULL;
    if (b)
        send_to(m, to, CLASS_RECALL, b);
}

int recall_on_ahead(struct metadata *m, struct head *h)
{
    const struct head *held = newest(m) ? newest(m) : m->applied;
    int rc = head_follows(held, h, m->wall);
    if (rc) {
        if (rc != ERR_EXISTS && rc != ERR_ROLLBACK) /* an older one was on its way, and that is all */
            state_refusal(m, rc, "recall");
        head_free(h);
        return 0;
    }
    state_trust(m, h);
    head_free(m->ahead);
    m->ahead = h;
    meta_put(m->txn, "ahead", blob_view(h->bytes));
    recall_note(m);
    recall_spread(m);
    return store_txn_error(m->txn);
}

static json_t *recall_json(const struct recall *r)
{
    return json_pack("{s:o, s:I, s:o}", "id", json_stringn((const char *)r->id, r->id_len), "generation",
        (json_int_t)r->generation, "at", json_time(r->at));
}

int recall_show(struct metadata *m, struct view id, json_t **ret_data)
{
    const struct recall *r = recall_find(newest(m) ? newest(m) : m->applied, id);
    if (!r)
        return err_fail(ERR_NOT_FOUND, "%.*s is not among the newest %u recalls", (int)id.len,
            (const char *)id.data, RECALLS_MAX);
    *ret_data = recall_json(r);
    return 0;
}

int recall_list(struct metadata *m, json_t **ret_data)
{
    const struct head *h = newest(m) ? newest(m) : m->applied;
    json_t *list = json_array();
    for (size_t i = h ? h->n_recalls : 0; i-- > 0;)
        json_array_append_new(list, recall_json(&h->recalls[i]));
    *ret_data = json_pack("{s:o}", "recalls", list);
    return 0;
}

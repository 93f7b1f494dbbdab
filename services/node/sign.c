#include "services/node/core.h"

#include "proto/catalogue.pb-c.h"

/* What the head key has signed stays in the store before a signature leaves: a generation never stands for
 * two contents, whatever a worker asks for after a crash (P1, P2). The same bytes again get the same
 * signature again. */
static int signing_check(struct step *s, const Sitetree__Head *h, const struct hash *payload)
{
    AUTO_ARENA a;
    arena_init(&a);
    struct node *n = s->n;
    struct key k = key_text("signing");
    Sitetree__StoredSigning *last;
    static const uint8_t zeros[16];
    if (h->hierarchy.len != 32 || memcmp(h->hierarchy.data, n->id.hierarchy.b, 32) != 0)
        return err_fail(ERR_KEY, "the head belongs to another hierarchy");
    if (h->trust_version != n->id.trust_version)
        return err_fail(ERR_KEY, "the head is of trust version %llu, the head key of version %llu",
            (unsigned long long)h->trust_version, (unsigned long long)n->id.trust_version);
    if (h->epoch.len != 16 || memcmp(h->epoch.data, zeros, 16) == 0 || h->root.len != 32 ||
        h->previous.len != 32 || h->generation == 0 || h->issued == 0 || h->expires <= h->issued)
        return err_fail(ERR_MALFORMED, "the head lacks epoch, root, previous head, generation or times");
    int rc = table_get(s->txn, TABLE_META, &k, &a, &sitetree__stored_signing__descriptor, &last);
    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc)
        return rc;
    bool same_epoch = last->epoch.len == 16 && memcmp(last->epoch.data, h->epoch.data, 16) == 0;
    if (same_epoch && s->n->restored)
        return err_fail(ERR_FENCED, "restored from a backup: this epoch may have gone on since");
    if (last->payload_hash.len == 32 && memcmp(last->payload_hash.data, payload->b, 32) == 0)
        return 0;
    if (same_epoch && h->epoch_counter != last->epoch_counter)
        return err_fail(ERR_EPOCH, "epoch counter %llu, this epoch has %llu",
            (unsigned long long)h->epoch_counter, (unsigned long long)last->epoch_counter);
    if (same_epoch && h->generation <= last->generation)
        return err_fail(ERR_ROLLBACK, "generation %llu is signed already (the newest is %llu)",
            (unsigned long long)h->generation, (unsigned long long)last->generation);
    if (!same_epoch && h->epoch_counter <= last->epoch_counter)
        return err_fail(ERR_EPOCH, "a new epoch with counter %llu, the last had %llu",
            (unsigned long long)h->epoch_counter, (unsigned long long)last->epoch_counter);
    return 0;
}

static void signing_store(struct step *s, const Sitetree__Head *h, const struct hash *payload)
{
    Sitetree__StoredSigning m = SITETREE__STORED_SIGNING__INIT;
    m.epoch = h->epoch;
    m.epoch_counter = h->epoch_counter;
    m.generation = h->generation;
    m.payload_hash = pb_bytes(view_of(payload->b, 32));
    struct key k = key_text("signing");
    table_put(s->txn, TABLE_META, &k, &m.base);
}

static int head_read(struct step *s, const struct frame *f, struct arena *a, Sitetree__SignHead **ret_request,
    Sitetree__Head **ret_head)
{
    int rc;
    if (s->n->id.depth != 0)
        return err_fail(ERR_NOT_CENTRAL, "only the central site signs heads");
    *ret_request = FRAME_UNPACK(a, f, sign_head, &rc);
    if (!*ret_request)
        return rc;
    *ret_head = MESSAGE_UNPACK(a, pb_view((*ret_request)->payload), 1024, head, &rc);
    return *ret_head ? 0 : rc;
}

int sign_on_frame(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    Sitetree__SignHead *request = NULL;
    Sitetree__Head *head = NULL;
    struct hash hash;
    struct blob *answer;
    int rc = head_read(s, f, &a, &request, &head);
    if (!rc) {
        hash_bytes("signing", NULL, pb_view(request->payload), &hash);
        rc = signing_check(s, head, &hash);
    }
    if (rc && rc != ERR_KEY && rc != ERR_MALFORMED && rc != ERR_ROLLBACK && rc != ERR_EPOCH &&
        rc != ERR_NOT_CENTRAL && rc != ERR_TOO_LARGE && rc != ERR_FENCED)
        return rc;
    if (rc) {
        char why[160];
        COPY_TEXT(why, err_text(rc));
        EVENT(s, "sign.refused", .code = rc, .text = why);
        answer = frame_refusal(f->request, err_fail(rc, "%s", why));
    } else {
        uint8_t signature[64];
        signing_store(s, head, &hash);
        restored_end(s, "a new epoch was opened"); /* in the old one it would have been refused */
        sign_detached(&n->keys.head, "head", pb_view(request->payload), signature);
        Sitetree__Signed m = SITETREE__SIGNED__INIT;
        m.payload = request->payload;
        m.signature = pb_bytes(view_of(signature, sizeof signature));
        m.key = pb_bytes(view_of(n->keys.head.public, 32));
        answer = frame_pack(FRAME_SIGNED_HEAD, CLASS_HEAD, f->request, NULL, &m.base, false);
    }
    effects_worker(s->fx, WORKER_METADATA, (struct peer){PEER_NODE, 0}, (struct view){0}, answer);
    return 0;
}

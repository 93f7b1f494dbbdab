/* Heads. 'r': any bytes. 's': any content that the head key signed: be16 length and the payload, then the
 * scope list; with 'S' the payload's root is made that of the list, and a trust statement (be16 length, its
 * payload) stands first, signed by the root key. An accepted head keeps its rules, is taken from the store
 * again, and follows itself as the same. */
#include "services/metadata/head.h"
#include "proto/catalogue.pb-c.h"
#include "tests/fuzz/target.h"

static struct sign_key key; /* the root key, and the head key too */
static struct head_trust trust;

static void check(const struct head *h, struct view bytes)
{
    struct head *again = NULL;
    uint64_t records = 0;
    for (size_t i = 0; i < h->n_scopes; i++) {
        const char *name = h->scopes[i].name;
        PROMISE(name[0] && text_is_clean(view_str(name)) && strlen(name) <= SCOPE_NAME_MAX);
        PROMISE(i == 0 || strcmp(h->scopes[i - 1].name, name) < 0);
        PROMISE(head_scope(h, name) == &h->scopes[i]);
        records += h->scopes[i].tree.count;
    }
    PROMISE(h->n_scopes <= SCOPES_MAX && h->records == records && h->generation > 0);
    PROMISE(view_eq(blob_view(h->bytes), bytes));
    PROMISE(head_parse_stored(bytes, &trust, &again) == 0);
    PROMISE(hash_eq(&h->hash, &again->hash) && head_follows(h, again, (struct wall){0}) == ERR_EXISTS);
    PROMISE(head_follows(NULL, h, (struct wall){0}) == 0);
    head_free(again);
}

static void parse(struct view bytes)
{
    struct head *h = NULL;
    int rc = head_parse(bytes, &trust, &h);
    if (rc == 0)
        check(h, bytes);
    else
        PROMISE(err_text(rc)[0] && h == NULL);
    head_free(h);
}

static void sign(const char *domain, struct view payload, Sitetree__Signed *s, uint8_t signature[64])
{
    sign_detached(&key, domain, payload, signature);
    *s = (Sitetree__Signed)SITETREE__SIGNED__INIT;
    s->payload = pb_bytes(payload);
    s->signature = pb_bytes(view_of(signature, 64));
    s->key = pb_bytes(view_of(key.public, 32));
}

/* The payload with the root of this list and this hierarchy, where it is one. */
static void fit(struct view payload, struct view scopes, struct buf *out)
{
    AUTO_ARENA a;
    struct hash root;
    int rc;
    arena_init(&a);
    Sitetree__Head *m = MESSAGE_UNPACK(&a, payload, 512, head, &rc);
    if (!m) {
        buf_append_view(out, payload);
        return;
    }
    head_scopes_root(scopes, &root);
    m->root = pb_bytes(view_of(root.b, 32));
    m->hierarchy = pb_bytes(view_of(trust.hierarchy.b, 32));
    message_pack(&m->base, out);
}

static void parse_signed(struct view v, bool fitting)
{
    struct reader r = reader_of(v);
    Sitetree__HeadBytes m = SITETREE__HEAD_BYTES__INIT;
    Sitetree__Signed head, statement;
    uint8_t signature[2][64];
    AUTO_BUF payload = {0};
    AUTO_BUF out = {0};
    if (fitting) {
        struct view t = read_bytes(&r, read_be16(&r));
        if (t.len) {
            sign("trust", t, &statement, signature[1]);
            m.trust = &statement;
        }
    }
    struct view given = read_bytes(&r, read_be16(&r));
    if (r.bad)
        return;
    if (fitting)
        fit(given, r.rest, &payload);
    else
        buf_append_view(&payload, given);
    sign("head", buf_view(&payload), &head, signature[0]);
    m.head = &head;
    m.scopes = pb_bytes(r.rest);
    message_pack(&m.base, &out);
    PROMISE(out.err == 0);
    parse(buf_view(&out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t seed[32] = {1};
    if (len == 0 || crypto_init())
        return 0;
    sign_key_from_seed(seed, &key);
    hierarchy_id(key.public, &trust.hierarchy);
    memcpy(trust.head_key, key.public, 32);
    struct view v = view_of(data + 1, len - 1);
    if (data[0] == 's' || data[0] == 'S')
        parse_signed(v, data[0] == 'S');
    else
        parse(v);
    return 0;
}

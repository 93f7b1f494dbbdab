#include "services/node/tables.h"

#include "services/node/node.h"

const char *const node_tables[] = {"meta", "sites", "invites", "reports", "events", "refusals", "rings"};
const unsigned node_n_tables = COUNT_OF(node_tables);
_Static_assert(COUNT_OF(node_tables) == TABLE_COUNT, "a name for each table");

struct key key_text(const char *s)
{
    struct key k = {.len = strlen(s)};
    INVARIANT(k.len > 0 && k.len < sizeof k.b);
    memcpy(k.b, s, k.len);
    return k;
}

struct key key_number(uint64_t n)
{
    struct key k = {.len = 8};
    for (size_t i = 0; i < 8; i++)
        k.b[i] = (uint8_t)(n >> (56 - 8 * i));
    return k;
}

int key_to_number(struct view key, uint64_t *ret_n)
{
    struct reader r = reader_of(key);
    uint64_t n = read_be64(&r);
    if (r.bad || r.rest.len)
        return err_fail(ERR_CORRUPT, "a numbered key of %zu bytes", key.len);
    *ret_n = n;
    return 0;
}

int table_number_get(struct store_txn *t, const char *word, uint64_t *ret_n)
{
    struct key k = key_text(word);
    struct view v;
    int rc = store_get(t, TABLE_META, key_view(&k), &v);
    if (rc == ERR_NOT_FOUND) {
        *ret_n = 0;
        return 0;
    }
    return rc ? rc : key_to_number(v, ret_n);
}

void table_number_put(struct store_txn *t, const char *word, uint64_t n)
{
    struct key k = key_text(word), v = key_number(n);
    store_put(t, TABLE_META, key_view(&k), key_view(&v));
}

void table_put(struct store_txn *t, enum node_table table, const struct key *key, const ProtobufCMessage *m)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    uint8_t *p = store_put_reserve(t, table, key_view(key), len);
    if (p)
        protobuf_c_message_pack(m, p);
}

int table_read(struct view value, struct arena *a, const ProtobufCMessageDescriptor *d, void *ret_message)
{
    int rc;
    void *m = message_unpack(a, value, FRAME_MAX, d, &rc);
    if (!m)
        return err_fail(ERR_CORRUPT, "stored %s does not decode", d->short_name);
    *(void **)ret_message = m;
    return 0;
}

int table_get(struct store_txn *t, enum node_table table, const struct key *key, struct arena *a,
    const ProtobufCMessageDescriptor *d, void *ret_message)
{
    struct view v;
    int rc = store_get(t, table, key_view(key), &v);
    return rc ? rc : table_read(v, a, d, ret_message);
}

int table_last_number(struct store_txn *t, enum node_table table, uint64_t *ret_n)
{
    struct view k, v;
    int rc = store_last(t, table, view_of(NULL, 0), &k, &v);
    if (rc == ERR_NOT_FOUND) {
        *ret_n = 0;
        return 0;
    }
    return rc ? rc : key_to_number(k, ret_n);
}

void table_trim(struct store_txn *t, enum node_table table, uint64_t keep, unsigned most)
{
    struct key limit = key_number(keep);
    struct store_walk w = store_walk_from(t, table, view_of(NULL, 0), view_of(NULL, 0));
    while (most-- && store_walk_next(&w) && view_cmp(w.key, key_view(&limit)) < 0)
        store_del(t, table, w.key);
}

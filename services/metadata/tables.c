#include "services/metadata/tables.h"

#include <stdio.h>

#include "common/crypto/crypto.h"
#include "services/metadata/metadata.h"

const char *const metadata_tables[] = {"meta", "scopes", "pages", "deltas", "runs", "upstreams"};
const unsigned metadata_n_tables = TABLE_COUNT;

static void be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void be64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

struct place place_child(struct place p, unsigned nibble)
{
    INVARIANT(p.depth < PLACE_MAX && nibble < 16);
    p.path[p.depth / 2] |= (uint8_t)(p.depth % 2 ? nibble : nibble << 4);
    p.depth++;
    return p;
}

unsigned place_nibble(const uint8_t *key_hash, unsigned depth)
{
    return depth % 2 ? key_hash[depth / 2] & 15u : key_hash[depth / 2] >> 4;
}

size_t place_pack(struct place p, uint8_t out[9])
{
    size_t n = (size_t)(p.depth + 1) / 2;
    out[0] = p.depth;
    memcpy(out + 1, p.path, n);
    return 1 + n;
}

int place_unpack(struct view v, struct place *ret_place)
{
    struct place p = {0};
    if (v.len == 0 || v.data[0] > PLACE_MAX || v.len != 1 + (size_t)(v.data[0] + 1) / 2)
        return err_fail(ERR_MALFORMED, "not a place in the trie");
    p.depth = v.data[0];
    memcpy(p.path, v.data + 1, v.len - 1);
    if (p.depth % 2 && p.path[p.depth / 2] & 15)
        return err_fail(ERR_MALFORMED, "not a place in the trie");
    *ret_place = p;
    return 0;
}

struct page_key key_page(uint32_t scope, struct place place, const struct hash *hash)
{
    struct page_key k;
    be32(k.b, scope);
    memcpy(k.b + 4, place.path, 8);
    k.b[12] = place.depth;
    memcpy(k.b + 13, hash->b, 32);
    return k;
}

int key_page_split(struct view key, uint32_t *ret_scope, struct place *ret_place, struct hash *ret_hash)
{
    if (key.len != PAGE_KEY_LEN || key.data[12] > PLACE_MAX)
        return err_fail(ERR_CORRUPT, "not the key of a page");
    struct reader r = reader_of(key);
    *ret_scope = read_be32(&r);
    memcpy(ret_place->path, key.data + 4, 8);
    ret_place->depth = key.data[12];
    memcpy(ret_hash->b, key.data + 13, 32);
    return 0;
}

struct key12 key_delta(uint32_t scope, uint64_t serial)
{
    struct key12 k;
    be32(k.b, scope);
    be64(k.b + 4, serial);
    return k;
}

uint64_t key_delta_serial(struct view key)
{
    struct reader r = reader_of(key);
    (void)read_be32(&r);
    return read_be64(&r);
}

struct key8 key_u64(uint64_t n)
{
    struct key8 k;
    be64(k.b, n);
    return k;
}

uint64_t key_u64_split(struct view key)
{
    struct reader r = reader_of(key);
    return read_be64(&r);
}

struct key4 key_scope(uint32_t scope)
{
    struct key4 k;
    be32(k.b, scope);
    return k;
}

int meta_get(struct store_txn *t, const char *name, struct view *ret_value)
{
    return store_get(t, TABLE_META, view_str(name), ret_value);
}

void meta_put(struct store_txn *t, const char *name, struct view value)
{
    store_put(t, TABLE_META, view_str(name), value);
}

void meta_del(struct store_txn *t, const char *name)
{
    store_del(t, TABLE_META, view_str(name));
}

uint64_t meta_get_u64(struct store_txn *t, const char *name)
{
    struct view v;
    return meta_get(t, name, &v) == 0 && v.len == 8 ? key_u64_split(v) : 0;
}

void meta_put_u64(struct store_txn *t, const char *name, uint64_t n)
{
    struct key8 k = key_u64(n);
    meta_put(t, name, KEY(k));
}

struct meta_name meta_of(const char *what, struct view thing)
{
    struct meta_name n;
    if (strlen(what) + 1 + thing.len < 480)
        snprintf(n.s, sizeof n.s, "%s/%.*s", what, (int)thing.len, (const char *)thing.data);
    else
        snprintf(n.s, sizeof n.s, "%s/%.400s#%08x", what, (const char *)thing.data, checksum32(thing));
    return n;
}

/* Certificate chains. 'r': any bytes. 's': statements that the right keys signed, with any content: be16
 * length and payload, the trust statement first, then a certificate a level, each signed by the key that
 * everybody holds here. An accepted chain names what its signatures cover, and can be packed and checked
 * again. */
#include "services/node/trust.h"
#include "common/wire/frame.h"
#include "tests/fuzz/target.h"

static struct sign_key key; /* root, central site and all others: what differs is what is signed, and where */

static void check(const struct identity *id, const struct hash *hierarchy)
{
    PROMISE(hash_eq(&id->hierarchy, hierarchy) && id->trust_version > 0 && id->depth <= TRUST_DEPTH_MAX);
    PROMISE(id->path[0].tier == TIER_CENTRAL && id->path[0].parent.s[0] == 0);
    for (unsigned i = 1; i <= id->depth; i++) {
        PROMISE(strcmp(id->path[i].parent.s, id->path[i - 1].code.s) == 0);
        PROMISE(id->path[i].tier >= id->path[i - 1].tier && id->path[i].tier != TIER_CENTRAL);
        PROMISE(id->path[i].serial > 0);
    }
}

static void verify(struct view chain)
{
    struct identity id;
    struct hash hierarchy;
    int rc = chain_hierarchy(chain, &hierarchy);
    if (rc) {
        PROMISE(err_text(rc)[0]);
        return;
    }
    rc = chain_verify_bytes(chain, &hierarchy, &id);
    if (rc == 0)
        check(&id, &hierarchy);
    hierarchy.b[0] ^= 1; /* and never for another hierarchy */
    PROMISE(chain_verify_bytes(chain, &hierarchy, &id) != 0);
}

static void verify_signed(struct view v)
{
    struct reader r = reader_of(v);
    Sitetree__Signed s[TRUST_DEPTH_MAX + 2], *list[TRUST_DEPTH_MAX + 2];
    uint8_t signatures[TRUST_DEPTH_MAX + 2][64];
    Sitetree__Chain chain = SITETREE__CHAIN__INIT;
    AUTO_BUF out = {0};
    size_t n = 0;
    while (r.rest.len && n < COUNT_OF(s)) {
        struct view payload = read_bytes(&r, read_be16(&r));
        if (r.bad)
            break;
        sign_detached(&key, n ? "site" : "trust", payload, signatures[n]);
        s[n] = (Sitetree__Signed)SITETREE__SIGNED__INIT;
        s[n].payload = pb_bytes(payload);
        s[n].signature = pb_bytes(view_of(signatures[n], 64));
        list[n] = &s[n];
        n++;
    }
    if (n == 0)
        return;
    chain.trust = &s[0];
    chain.certificates = list + 1;
    chain.n_certificates = n - 1;
    message_pack(&chain.base, &out);
    PROMISE(out.err == 0);
    verify(buf_view(&out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t seed[32] = {1};
    if (len == 0 || crypto_init())
        return 0;
    sign_key_from_seed(seed, &key);
    if (data[0] == 's')
        verify_signed(view_of(data + 1, len - 1));
    else
        verify(view_of(data + 1, len - 1));
    return 0;
}

/* Invitation tokens. 't': a text as a person pastes it. 'b': bytes that somebody dressed as a token, with the
 * right checksum. What is accepted can be written and read again, and is the same. */
#include <stdlib.h>

#include "services/node/token.h"
#include "tests/fuzz/target.h"

static void decode(const char *text)
{
    struct token t = {0}, again = {0};
    AUTO_BUF out = {0};
    int rc = token_decode(text, &t);
    PROMISE(rc == 0 || (rc == ERR_TOKEN && err_text(rc)[0]));
    if (rc)
        return;
    PROMISE(t.n_parents >= 1 && t.n_parents <= NODE_PARENTS_MAX && t.tier != TIER_CENTRAL);
    for (unsigned i = 0; i < t.n_parents; i++)
        PROMISE(endpoint_check(t.parents[i].endpoint) == 0 && endpoint_check(t.parents[i].hints) == 0);
    PROMISE(token_encode(&t, &out) == 0);
    buf_u8(&out, 0);
    PROMISE(out.err == 0 && token_decode((const char *)out.data, &again) == 0);
    PROMISE(hash_eq(&t.hierarchy, &again.hierarchy) && strcmp(t.code.s, again.code.s) == 0 &&
            strcmp(t.parent.s, again.parent.s) == 0 && t.tier == again.tier &&
            memcmp(t.secret, again.secret, 32) == 0 && t.expires.ns == again.expires.ns &&
            t.n_parents == again.n_parents);
    token_done(&t);
    token_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_BUF text = {0};
    AUTO_BUF bytes = {0};
    if (len == 0 || crypto_init())
        return 0;
    struct view v = view_of(data + 1, len - 1);
    if (data[0] == 'b') {
        buf_append_view(&bytes, v);
        buf_be32(&bytes, checksum32(v));
        buf_str(&text, "st1-");
        base64_encode(buf_view(&bytes), &text);
    } else {
        buf_append_view(&text, v);
    }
    buf_u8(&text, 0);
    PROMISE(text.err == 0);
    decode((const char *)text.data);
    return 0;
}

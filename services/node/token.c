#include "services/node/token.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/wire/frame.h"

#define PREFIX "st1-"
#define TOKEN_BYTES_MAX 4096
#define TOKEN_VERSION 1

int endpoint_check(const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');
    if (strlen(endpoint) > 255 || !colon || colon == endpoint || !text_is_clean(view_str(endpoint)) ||
        strpbrk(endpoint, " \t\n/*"))
        return err_fail(ERR_MALFORMED, "'%.60s' is not host:port", endpoint);
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end || port < 1 || port > 65535)
        return err_fail(ERR_MALFORMED, "'%.60s' has no port of 1 to 65535", endpoint);
    return 0;
}

int place_take(const Sitetree__Place *m, struct node_place *ret_place)
{
    struct node_place p = {0};
    int rc = endpoint_check(m->endpoint);
    if (!rc)
        rc = endpoint_check(m->hints);
    if (!rc)
        rc = site_code_parse(view_str(m->code), &p.code);
    if (rc)
        return rc;
    if (m->link_key.len != 32)
        return err_fail(ERR_MALFORMED, "a link key of %zu bytes", m->link_key.len);
    snprintf(p.endpoint, sizeof p.endpoint, "%s", m->endpoint);
    snprintf(p.hints, sizeof p.hints, "%s", m->hints);
    memcpy(p.link_key, m->link_key.data, 32);
    *ret_place = p;
    return 0;
}

void place_fill(Sitetree__Place *m, const struct node_place *p)
{
    m->endpoint = (char *)(uintptr_t)p->endpoint;
    m->hints = (char *)(uintptr_t)p->hints;
    m->link_key = pb_bytes(view_of(p->link_key, 32));
    m->code = (char *)(uintptr_t)p->code.s;
}

int token_encode(const struct token *t, struct buf *out)
{
    Sitetree__Place places[NODE_PARENTS_MAX], *list[NODE_PARENTS_MAX];
    INVARIANT(t->n_parents <= NODE_PARENTS_MAX);
    for (unsigned i = 0; i < t->n_parents; i++) {
        places[i] = (Sitetree__Place)SITETREE__PLACE__INIT;
        place_fill(&places[i], &t->parents[i]);
        list[i] = &places[i];
    }
    Sitetree__Token m = SITETREE__TOKEN__INIT;
    m.version = TOKEN_VERSION;
    m.hierarchy = pb_bytes(view_of(t->hierarchy.b, 32));
    m.code = (char *)(uintptr_t)t->code.s;
    m.tier = (char *)(uintptr_t)tier_word(t->tier);
    m.parent = (char *)(uintptr_t)t->parent.s;
    m.secret = pb_bytes(view_of(t->secret, 32));
    m.expires = (uint64_t)t->expires.ns;
    m.move = t->move;
    m.n_parents = t->n_parents;
    m.parents = list;
    AUTO_BUF bytes = {0};
    message_pack(&m.base, &bytes);
    buf_be32(&bytes, checksum32(buf_view(&bytes)));
    if (bytes.err)
        return bytes.err;
    buf_str(out, PREFIX);
    base64_encode(buf_view(&bytes), out);
    secret_wipe(bytes.data, bytes.len);
    return out->err;
}

static int token_take(const Sitetree__Token *m, struct token *t)
{
    if (m->version != TOKEN_VERSION)
        return err_fail(
            ERR_TOKEN, "made by another version (%u, this program reads %d)", m->version, TOKEN_VERSION);
    int rc = hash_from_view(pb_view(m->hierarchy), &t->hierarchy);
    if (!rc)
        rc = site_code_parse(view_str(m->code), &t->code);
    if (!rc)
        rc = site_code_parse(view_str(m->parent), &t->parent);
    if (!rc)
        rc = tier_parse(m->tier, &t->tier);
    if (rc)
        return rc;
    if (m->secret.len != 32 || t->tier == TIER_CENTRAL || m->expires == 0)
        return err_fail(ERR_TOKEN, "a field of it is missing or off");
    if (m->n_parents == 0 || m->n_parents > NODE_PARENTS_MAX)
        return err_fail(
            ERR_TOKEN, "it names %zu parents, 1 to %d are possible", m->n_parents, NODE_PARENTS_MAX);
    memcpy(t->secret, m->secret.data, 32);
    t->expires.ns = (int64_t)m->expires;
    t->move = m->move;
    t->n_parents = (unsigned)m->n_parents;
    for (unsigned i = 0; i < t->n_parents && !rc; i++)
        rc = place_take(m->parents[i], &t->parents[i]);
    return rc;
}

/* The text without white space; ERR_TOKEN when it does not begin as tokens of this version do. */
static int squeeze(const char *text, struct buf *out)
{
    size_t n = strlen(text);
    if (n > 2 * TOKEN_BYTES_MAX)
        return err_fail(ERR_TOKEN, "the token is too long (%zu characters)", n);
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", text[i]))
            buf_u8(out, (uint8_t)text[i]);
    if (out->err)
        return out->err;
    size_t prefix = strlen(PREFIX);
    if (out->len >= prefix && memcmp(out->data, PREFIX, prefix) == 0)
        return 0;
    if (out->len >= prefix && out->data[0] == 's' && out->data[1] == 't' && out->data[3] == '-')
        return err_fail(ERR_TOKEN,
            "the token is of another version ('%.4s', this program reads '" PREFIX "')",
            (const char *)out->data);
    return err_fail(ERR_TOKEN, "the token does not begin with " PREFIX);
}

int token_decode(const char *text, struct token *ret_token)
{
    AUTO_BUF flat = {0};
    AUTO_BUF bytes = {0};
    AUTO_ARENA a;
    arena_init(&a);
    int rc = squeeze(text, &flat);
    if (rc)
        return rc;
    size_t prefix = strlen(PREFIX);
    if (base64_decode(view_of(flat.data + prefix, flat.len - prefix), &bytes))
        return err_fail(ERR_TOKEN, "the token has a typing error or is cut off: paste it again as a whole");
    struct reader sum =
        reader_of(view_of(bytes.data + (bytes.len < 4 ? 0 : bytes.len - 4), bytes.len < 4 ? 0 : 4));
    struct view body = view_of(bytes.data, bytes.len < 4 ? 0 : bytes.len - 4);
    if (body.len == 0 || read_be32(&sum) != checksum32(body))
        return err_fail(ERR_TOKEN, "the token has a typing error or is cut off: paste it again as a whole");
    Sitetree__Token *m = MESSAGE_UNPACK(&a, body, TOKEN_BYTES_MAX, token, &rc);
    if (!m)
        return err_fail(ERR_TOKEN, "the token does not decode");
    struct token t = {0};
    rc = token_take(m, &t);
    if (rc) {
        char why[256];
        snprintf(why, sizeof why, "%s", err_text(rc));
        token_done(&t);
        return err_fail(ERR_TOKEN, "the token cannot be used: %s", why);
    }
    *ret_token = t;
    secret_wipe(bytes.data, bytes.len);
    return 0;
}

void token_done(struct token *t)
{
    secret_wipe(t->secret, sizeof t->secret);
}

#include "common/base/id.h"

#include <stdio.h>

int hash_from_view(struct view v, struct hash *ret_hash)
{
    if (v.len != sizeof ret_hash->b)
        return err_fail(ERR_MALFORMED, "hash of %zu bytes, not 32", v.len);
    memcpy(ret_hash->b, v.data, sizeof ret_hash->b);
    return 0;
}

int epoch_from_view(struct view v, struct epoch *ret_epoch)
{
    if (v.len != sizeof ret_epoch->b)
        return err_fail(ERR_MALFORMED, "epoch of %zu bytes, not 16", v.len);
    memcpy(ret_epoch->b, v.data, sizeof ret_epoch->b);
    return 0;
}

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool site_code_valid(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > SITE_CODE_MAX || !alnum(s[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!alnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.')
            return false;
    return true;
}

int site_code_parse(struct view v, struct site_code *ret_code)
{
    struct site_code c = {0};
    if (v.len > SITE_CODE_MAX)
        return err_fail(ERR_MALFORMED, "site code of %zu characters, at most %d", v.len, SITE_CODE_MAX);
    if (v.len)
        memcpy(c.s, v.data, v.len);
    if (strlen(c.s) != v.len || !site_code_valid(c.s))
        return err_fail(
            ERR_MALFORMED, "not a site code (letters, digits, - _ . and at most %d)", SITE_CODE_MAX);
    *ret_code = c;
    return 0;
}

char *hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * len] = 0;
    return out;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_decode(const char *text, void *out, size_t len)
{
    uint8_t *p = out;
    if (strlen(text) != 2 * len)
        return err_fail(ERR_MALFORMED, "%zu hex digits, not %zu", strlen(text), 2 * len);
    for (size_t i = 0; i < 2 * len; i++)
        if (nibble(text[i]) < 0)
            return err_fail(ERR_MALFORMED, "not a hex digit");
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    return 0;
}

char *fingerprint_text(const struct hash *h, char out[15])
{
    snprintf(out, 15, "%02x%02x-%02x%02x-%02x%02x", h->b[0], h->b[1], h->b[2], h->b[3], h->b[4], h->b[5]);
    return out;
}

char *hash_short(const struct hash *h, char out[9])
{
    return hex_encode(h->b, 4, out);
}

/* Length of the clean character at p, 0 when there is none. */
static size_t clean_character(const uint8_t *p, const uint8_t *end)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint8_t c = *p;
    if (c < 0x80)
        return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f ? 0 : 1;
    size_t more = (c & 0xe0) == 0xc0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : (c & 0xf8) == 0xf0 ? 3 : 0;
    if (more == 0 || (size_t)(end - p) < more + 1)
        return 0;
    uint32_t u = c & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        u = u << 6 | (p[i] & 0x3fu);
    }
    return u < least[more] || u > 0x10ffff || (u >= 0xd800 && u <= 0xdfff) || u < 0xa0 ? 0 : more + 1;
}

bool text_is_clean(struct view v)
{
    const uint8_t *p = v.data, *end = v.len ? v.data + v.len : p;
    while (p < end) {
        size_t n = clean_character(p, end);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

char *text_make_clean(char *s)
{
    uint8_t *p = (uint8_t *)s, *end = p + strlen(s);
    while (p < end) {
        size_t n = clean_character(p, end);
        if (n == 0)
            *p = '?';
        p += n ? n : 1;
    }
    return s;
}

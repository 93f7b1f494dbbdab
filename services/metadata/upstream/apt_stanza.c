#include "services/metadata/upstream/apt_stanza.h"

#include "common/base/id.h"

#include <strings.h>

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct view trimmed(const uint8_t *from, const uint8_t *to)
{
    while (from < to && is_blank(*from))
        from++;
    while (to > from && is_blank(to[-1]))
        to--;
    return view_of(from, (size_t)(to - from));
}

static const uint8_t *line_end(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
    return nl ? nl : end;
}

int field_next(struct view *rest, struct field *ret_field)
{
    if (!rest->len)
        return ERR_NOT_FOUND;
    const uint8_t *p = rest->data, *end = p + rest->len;
    const uint8_t *nl = line_end(p, end);
    if (is_blank(*p))
        return err_fail(ERR_MALFORMED, "a continuation line without a field");
    const uint8_t *colon = memchr(p, ':', (size_t)(nl - p));
    if (!colon || colon == p)
        return err_fail(ERR_MALFORMED, "a line without a field name and colon: '%.*s'",
            (int)(nl - p < 40 ? nl - p : 40), p);
    ret_field->name = view_of(p, (size_t)(colon - p));
    ret_field->value = trimmed(colon + 1, nl);
    p = nl < end ? nl + 1 : end;
    const uint8_t *more = p;
    while (p < end && is_blank(*p)) {
        nl = line_end(p, end);
        p = nl < end ? nl + 1 : end;
    }
    ret_field->more = view_of(more, (size_t)(p - more));
    *rest = view_of(p, (size_t)(end - p));
    return 0;
}

struct view word_next(struct view *rest)
{
    if (!rest->len)
        return (struct view){0};
    const uint8_t *p = rest->data, *end = p + rest->len;
    while (p < end && is_blank(*p))
        p++;
    const uint8_t *from = p;
    while (p < end && !is_blank(*p))
        p++;
    *rest = view_of(p, (size_t)(end - p));
    return view_of(from, (size_t)(p - from));
}

bool field_is(const struct field *f, const char *name)
{
    size_t n = strlen(name);
    return f->name.len == n && strncasecmp((const char *)f->name.data, name, n) == 0;
}

void field_unfold(const struct field *f, struct buf *out)
{
    buf_append_view(out, f->value);
    const uint8_t *p = f->more.data, *end = f->more.len ? p + f->more.len : p;
    bool any = f->value.len > 0;
    while (p < end) {
        const uint8_t *nl = line_end(p, end);
        struct view line = trimmed(p, nl);
        if (line.len) {
            if (any)
                buf_u8(out, ' ');
            buf_append_view(out, line);
            any = true;
        }
        p = nl < end ? nl + 1 : end;
    }
}

int stanza_next(struct view *rest, bool last, struct view *ret_stanza)
{
    if (!rest->len)
        return ERR_NOT_FOUND;
    const uint8_t *p = rest->data, *end = p + rest->len;
    while (p < end && *p == '\n')
        p++;
    *rest = view_of(p, (size_t)(end - p));
    if (p == end)
        return ERR_NOT_FOUND;
    const uint8_t *gap = memmem(p, rest->len, "\n\n", 2);
    size_t len = gap ? (size_t)(gap + 1 - p) : rest->len;
    if (len > STANZA_MAX)
        return err_fail(ERR_TOO_LARGE, "longer than %zu bytes", STANZA_MAX);
    if (!gap && !last)
        return ERR_NOT_FOUND;
    *ret_stanza = view_of(p, len);
    *rest = view_of(p + len, rest->len - len);
    return 0;
}

static bool is_odd(uint8_t c)
{
    return ((c < 0x20) & (c != '\n') & (c != '\t')) | (c >= 0x7f);
}

/* True when all bytes are printable ASCII, tab or newline; in blocks of a fixed size, which the compiler
 * turns into vector instructions. */
static bool is_plain(struct view v)
{
    enum { BLOCK = 64 };
    size_t i = 0;
    for (; i + BLOCK <= v.len; i += BLOCK) {
        uint8_t odd = 0;
        for (size_t k = 0; k < BLOCK; k++)
            odd |= is_odd(v.data[i + k]);
        if (odd)
            return false;
    }
    for (; i < v.len; i++)
        if (is_odd(v.data[i]))
            return false;
    return true;
}

static int fail_bytes(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        uint8_t c = v.data[i];
        if (c == 0)
            return err_fail(ERR_MALFORMED, "a NUL byte");
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            return err_fail(ERR_MALFORMED, "a control character (0x%02x)", c);
    }
    return err_fail(ERR_MALFORMED, "text that is not UTF-8");
}

int stanza_check(struct view stanza)
{
    if (stanza.len > STANZA_MAX)
        return err_fail(ERR_TOO_LARGE, "longer than %zu bytes", STANZA_MAX);
    if (!is_plain(stanza) && !text_is_clean(stanza))
        return fail_bytes(stanza);
    if (stanza.len <= STANZA_LINE_MAX)
        return 0;
    const uint8_t *p = stanza.data, *end = p + stanza.len;
    while (p < end) {
        const uint8_t *nl = line_end(p, end);
        if ((size_t)(nl - p) > STANZA_LINE_MAX)
            return err_fail(ERR_TOO_LARGE, "a line longer than %zu bytes", STANZA_LINE_MAX);
        p = nl < end ? nl + 1 : end;
    }
    return 0;
}

int number_parse(struct view v, uint64_t *ret_number)
{
    uint64_t n = 0;
    if (v.len == 0 || v.len > 15)
        return ERR_MALFORMED;
    for (size_t i = 0; i < v.len; i++) {
        if (v.data[i] < '0' || v.data[i] > '9')
            return ERR_MALFORMED;
        n = n * 10 + (v.data[i] - '0');
    }
    *ret_number = n;
    return 0;
}

/* Which field of a package a name means; the length decides first, as nearly every field is none of ours. */
enum slot {
    SLOT_NONE,
    SLOT_PACKAGE,
    SLOT_VERSION,
    SLOT_ARCHITECTURE,
    SLOT_DESCRIPTION,
    SLOT_SECTION,
    SLOT_PRIORITY,
    SLOT_HOMEPAGE,
    SLOT_SOURCE,
    SLOT_DEPENDS,
    SLOT_URGENCY,
    SLOT_FILENAME,
    SLOT_SHA256,
    SLOT_SIZE,
    SLOT_INSTALLED,
};

static enum slot slot_of(const struct field *f)
{
    static const struct {
        const char *name;
        enum slot slot;
    } names[] = {
        {"Package", SLOT_PACKAGE},
        {"Version", SLOT_VERSION},
        {"Architecture", SLOT_ARCHITECTURE},
        {"Description", SLOT_DESCRIPTION},
        {"Section", SLOT_SECTION},
        {"Priority", SLOT_PRIORITY},
        {"Homepage", SLOT_HOMEPAGE},
        {"Source", SLOT_SOURCE},
        {"Depends", SLOT_DEPENDS},
        {"Urgency", SLOT_URGENCY},
        {"Filename", SLOT_FILENAME},
        {"SHA256", SLOT_SHA256},
        {"Size", SLOT_SIZE},
        {"Installed-Size", SLOT_INSTALLED},
    };
    /* candidates by length of the name, as bits of the table above */
    static const uint16_t by_len[16] = {
        [4] = 1 << 12,
        [6] = 1 << 7 | 1 << 11,
        [7] = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 8 | 1 << 9,
        [8] = 1 << 5 | 1 << 6 | 1 << 10,
        [11] = 1 << 3,
        [12] = 1 << 2,
        [14] = 1 << 13,
    };
    if (f->name.len >= COUNT_OF(by_len))
        return SLOT_NONE;
    for (unsigned bits = by_len[f->name.len]; bits; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctz(bits);
        if ((f->name.data[0] | 0x20) == (names[i].name[0] | 0x20) && field_is(f, names[i].name))
            return names[i].slot;
    }
    return SLOT_NONE;
}

static struct view *slot_view(struct package *p, enum slot s)
{
    switch (s) {
    case SLOT_PACKAGE:
        return &p->name;
    case SLOT_VERSION:
        return &p->version;
    case SLOT_ARCHITECTURE:
        return &p->architecture;
    case SLOT_DESCRIPTION:
        return &p->description;
    case SLOT_SECTION:
        return &p->section;
    case SLOT_PRIORITY:
        return &p->priority;
    case SLOT_HOMEPAGE:
        return &p->homepage;
    case SLOT_SOURCE:
        return &p->source;
    case SLOT_DEPENDS:
        return &p->depends;
    case SLOT_URGENCY:
        return &p->urgency;
    case SLOT_FILENAME:
        return &p->filename;
    case SLOT_SHA256:
        return &p->sha256_text;
    case SLOT_NONE:
    case SLOT_SIZE:
    case SLOT_INSTALLED:
        break;
    }
    return NULL;
}

static bool word_is(struct view v, const char *also)
{
    for (size_t i = 0; i < v.len; i++) {
        uint8_t c = v.data[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && !strchr(also, c))
            return false;
    }
    return v.len > 0;
}

static int fail_field(const char *name, struct view v)
{
    return err_fail(ERR_MALFORMED, "%s is not valid: '%.*s'", name, (int)(v.len < 60 ? v.len : 60), v.data);
}

/* A relative path without a way out of the repository. */
static bool path_is_safe(struct view v)
{
    if (v.len == 0 || v.data[0] == '/')
        return false;
    for (size_t i = 0; i + 2 <= v.len; i++)
        if (v.data[i] == '.' && v.data[i + 1] == '.' && (i == 0 || v.data[i - 1] == '/') &&
            (i + 2 == v.len || v.data[i + 2] == '/'))
            return false;
    return true;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int sha256_parse(struct view v, uint8_t out[32])
{
    if (v.len != 64)
        return ERR_MALFORMED;
    for (size_t i = 0; i < 32; i++) {
        int a = hex_value(v.data[2 * i]), b = hex_value(v.data[2 * i + 1]);
        if (a < 0 || b < 0)
            return ERR_MALFORMED;
        out[i] = (uint8_t)(a << 4 | b);
    }
    return 0;
}

static int package_check(struct package *p)
{
    if (!p->name.len)
        return err_fail(ERR_MALFORMED, "no Package");
    if (!p->version.len)
        return err_fail(ERR_MALFORMED, "no Version");
    if (!p->architecture.len)
        return err_fail(ERR_MALFORMED, "no Architecture");
    if (p->name.len > 120 || !word_is(p->name, "+-._"))
        return fail_field("Package", p->name);
    if (p->version.len > 100 || !word_is(p->version, ".+-:~_"))
        return fail_field("Version", p->version);
    if (p->architecture.len > 24 || !word_is(p->architecture, "-"))
        return fail_field("Architecture", p->architecture);
    if (!p->filename.len)
        return 0;
    if (!path_is_safe(p->filename))
        return fail_field("Filename", p->filename);
    if (!p->has_size)
        return err_fail(ERR_MALFORMED, "Filename without Size");
    if (!p->sha256_text.len)
        return err_fail(ERR_MALFORMED, "Filename without SHA256");
    if (sha256_parse(p->sha256_text, p->sha256))
        return fail_field("SHA256", p->sha256_text);
    return 0;
}

/* Offset into fold of a text that was folded there, until fold stops moving. */
struct folded {
    struct view *where;
    size_t at, len;
};

int package_parse(struct view stanza, struct buf *fold, struct package *ret_package)
{
    struct package p = {0};
    struct folded folded[SLOT_INSTALLED];
    size_t n_folded = 0;
    unsigned seen = 0, n = 0;
    struct field f;
    int rc;
    buf_reset(fold);
    while ((rc = field_next(&stanza, &f)) == 0) {
        if (++n > STANZA_FIELDS_MAX)
            return err_fail(ERR_TOO_LARGE, "more than %d fields", STANZA_FIELDS_MAX);
        enum slot s = slot_of(&f);
        if (s == SLOT_NONE)
            continue;
        if (seen & 1u << s)
            return err_fail(ERR_MALFORMED, "the field %.*s twice", (int)f.name.len, f.name.data);
        seen |= 1u << s;
        if (s == SLOT_SIZE && (p.has_size = true) && number_parse(f.value, &p.size))
            return fail_field("Size", f.value);
        if (s == SLOT_INSTALLED && number_parse(f.value, &p.installed_kib))
            return fail_field("Installed-Size", f.value);
        struct view *to = slot_view(&p, s);
        if (!to)
            continue;
        *to = f.value;
        if (f.more.len && s != SLOT_DESCRIPTION) {
            folded[n_folded] = (struct folded){to, fold->len, 0};
            field_unfold(&f, fold);
            folded[n_folded].len = fold->len - folded[n_folded].at;
            n_folded++;
        }
    }
    if (rc != ERR_NOT_FOUND)
        return rc;
    if (fold->err)
        return fold->err;
    for (size_t i = 0; i < n_folded; i++)
        *folded[i].where =
            folded[i].len ? view_of(fold->data + folded[i].at, folded[i].len) : (struct view){0};
    rc = package_check(&p);
    if (!rc)
        *ret_package = p;
    return rc;
}

#include "services/metadata/upstream/apt_release.h"

#include "common/base/id.h"
#include "services/metadata/upstream/apt_stanza.h"

#include <locale.h>
#include <stdio.h>
#include <time.h>

int release_date_parse(struct view v, struct wall *ret_time)
{
    char text[64];
    if (v.len == 0 || v.len >= sizeof text || memchr(v.data, 0, v.len))
        return err_fail(ERR_MALFORMED, "a date of %zu bytes", v.len);
    memcpy(text, v.data, v.len);
    text[v.len] = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", NULL);
    if (!c)
        return -ENOMEM;
    struct tm tm = {0};
    const char *end = strptime_l(text, "%a, %d %b %Y %H:%M:%S ", &tm, c);
    freelocale(c);
    static const char *const zones[] = {"UTC", "GMT", "Z", "+0000"};
    for (size_t i = 0; end && i < COUNT_OF(zones); i++)
        if (strcmp(end, zones[i]) == 0 && tm.tm_year >= 70 &&
            tm.tm_year < 300) { /* what 64 bits of ns hold */
            ret_time->ns = (int64_t)timegm(&tm) * NS_PER_S;
            return 0;
        }
    return err_fail(ERR_MALFORMED, "'%s' is not a date like Sat, 11 Jul 2026 10:16:37 UTC", text);
}

/* The texts of a Release file, by field. */
static struct view *text_of(struct release *r, const struct field *f)
{
    const struct {
        const char *name;
        struct view *text;
    } rows[] = {
        {"Origin", &r->origin},
        {"Label", &r->label},
        {"Suite", &r->suite},
        {"Codename", &r->codename},
        {"Version", &r->version},
        {"Architectures", &r->architectures},
        {"Components", &r->components},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (field_is(f, rows[i].name))
            return rows[i].text;
    return NULL;
}

static int take_field(struct release *r, const struct field *f)
{
    struct view *text = text_of(r, f);
    if (text) {
        if (text->data)
            return err_fail(ERR_MALFORMED, "the field %.*s twice", (int)f->name.len, f->name.data);
        *text = f->value;
        return 0;
    }
    if (field_is(f, "SHA256")) {
        if (r->sha256.data)
            return err_fail(ERR_MALFORMED, "the field SHA256 twice");
        r->sha256 = f->more;
    } else if (field_is(f, "Acquire-By-Hash")) {
        r->by_hash = f->value.len == 3 && memcmp(f->value.data, "yes", 3) == 0;
    } else if (field_is(f, "Date")) {
        return err_wrap(release_date_parse(f->value, &r->date), "Date");
    } else if (field_is(f, "Valid-Until")) {
        return err_wrap(release_date_parse(f->value, &r->valid_until), "Valid-Until");
    }
    return 0;
}

int release_parse(struct view text, struct release *ret_release)
{
    struct release r = {0};
    struct field f;
    int rc;
    if (!text_is_clean(text))
        return err_fail(ERR_MALFORMED, "NUL bytes, control characters or text that is not UTF-8");
    while (text.len && *text.data == '\n')
        text = view_of(text.data + 1, text.len - 1);
    const uint8_t *gap = text.len ? memmem(text.data, text.len, "\n\n", 2) : NULL;
    if (gap) {
        for (const uint8_t *p = gap; p < text.data + text.len; p++)
            if (*p != '\n')
                return err_fail(ERR_MALFORMED, "more than one paragraph");
        text.len = (size_t)(gap + 1 - text.data);
    }
    while ((rc = field_next(&text, &f)) == 0)
        if ((rc = take_field(&r, &f)))
            return rc;
    if (rc != ERR_NOT_FOUND)
        return rc;
    if (!r.date.ns)
        return err_fail(ERR_MALFORMED, "no Date");
    if (!r.sha256.len)
        return err_fail(ERR_MALFORMED, "no SHA256 list (older digests are not accepted)");
    *ret_release = r;
    return 0;
}

int release_find(const struct release *r, const char *path, struct release_entry *ret_entry)
{
    struct view want = view_str(path);
    const uint8_t *p = r->sha256.data, *end = p + r->sha256.len;
    while (p < end) {
        const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            nl = end;
        struct view line = view_of(p, (size_t)(nl - p));
        struct view digest = word_next(&line), size = word_next(&line), name = word_next(&line);
        if (view_eq(name, want)) {
            struct release_entry e;
            if (sha256_parse(digest, e.sha256) || number_parse(size, &e.size))
                return err_fail(ERR_MALFORMED, "the SHA256 line of %s is not valid", path);
            *ret_entry = e;
            return 0;
        }
        p = nl < end ? nl + 1 : end;
    }
    return ERR_NOT_FOUND;
}

bool release_lists(struct view list, const char *word)
{
    struct view want = view_str(word), w;
    while ((w = word_next(&list)).len) {
        const uint8_t *slash = memrchr(w.data, '/', w.len);
        struct view tail = slash ? view_of(slash + 1, w.len - (size_t)(slash + 1 - w.data)) : w;
        if (view_eq(w, want) || view_eq(tail, want))
            return true;
    }
    return false;
}

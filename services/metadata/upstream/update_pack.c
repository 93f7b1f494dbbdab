#include "services/metadata/upstream/update_pack.h"

enum { WIRE_FIXED64 = 1, WIRE_BYTES = 2 };

static size_t varint_size(size_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static uint8_t *varint_write(uint8_t *p, size_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static size_t tag_size(unsigned field)
{
    return field < 16 ? 1 : 2;
}

static size_t bytes_size(unsigned field, size_t len)
{
    return tag_size(field) + varint_size(len) + len;
}

static size_t text_size(unsigned field, struct view v)
{
    return v.len ? bytes_size(field, v.len) : 0;
}

static size_t fixed_size(unsigned field, uint64_t v)
{
    return v ? tag_size(field) + 8 : 0;
}

static uint8_t *start_write(uint8_t *p, unsigned field, size_t len)
{
    return varint_write(varint_write(p, field << 3 | WIRE_BYTES), len);
}

static uint8_t *raw_write(uint8_t *p, struct view v)
{
    if (v.len)
        memcpy(p, v.data, v.len);
    return p + v.len;
}

static uint8_t *text_write(uint8_t *p, unsigned field, struct view v)
{
    return v.len ? raw_write(start_write(p, field, v.len), v) : p;
}

static uint8_t *fixed_write(uint8_t *p, unsigned field, uint64_t v)
{
    if (!v)
        return p;
    p = varint_write(p, field << 3 | WIRE_FIXED64);
    for (unsigned i = 0; i < 64; i += 8)
        *p++ = (uint8_t)(v >> i);
    return p;
}

static size_t list_size(unsigned field, const struct view *v, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bytes_size(field, v[i].len);
    return sum;
}

static uint8_t *list_write(uint8_t *p, unsigned field, const struct view *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p = raw_write(start_write(p, field, v[i].len), v[i]);
    return p;
}

static size_t file_size(const struct update_file *f)
{
    return text_size(1, f->name) + fixed_size(2, f->size) + bytes_size(3, 32) + text_size(4, f->url);
}

static uint8_t *file_write(uint8_t *p, const struct update_file *f)
{
    p = start_write(p, 16, file_size(f));
    p = text_write(p, 1, f->name);
    p = fixed_write(p, 2, f->size);
    p = text_write(p, 3, view_of(f->sha256, 32));
    return text_write(p, 4, f->url);
}

static size_t title_len(const struct update_draft *d)
{
    return d->title[0].len + d->title[1].len + (d->title[0].len && d->title[1].len);
}

size_t update_size(const struct update_draft *d)
{
    size_t n = fixed_size(1, d->revision);
    n += title_len(d) ? bytes_size(2, title_len(d)) : 0;
    n += text_size(3, d->description) + text_size(4, d->classification) + text_size(5, d->product);
    n += text_size(6, d->severity) + list_size(7, d->articles, d->n_articles) +
         list_size(8, d->cves, d->n_cves);
    n += text_size(9, d->publisher) + fixed_size(10, d->issued);
    n += list_size(11, d->supersedes, d->n_supersedes) + text_size(12, d->superseded_by);
    n += text_size(13, d->package) + text_size(14, d->version) + text_size(15, d->architecture);
    for (size_t i = 0; i < d->n_files; i++)
        n += bytes_size(16, file_size(&d->files[i]));
    n += text_size(17, d->section) + text_size(18, d->homepage) + text_size(19, d->source);
    n += text_size(20, d->depends) + text_size(21, d->priority) + fixed_size(22, d->installed_size);
    return n;
}

static uint8_t *title_write(uint8_t *p, const struct update_draft *d)
{
    if (!title_len(d))
        return p;
    p = raw_write(start_write(p, 2, title_len(d)), d->title[0]);
    if (d->title[0].len && d->title[1].len)
        *p++ = ' ';
    return raw_write(p, d->title[1]);
}

uint8_t *update_write(
    const struct update_draft *d, uint8_t *out, struct view *ret_package, struct view *ret_version)
{
    uint8_t *p = title_write(fixed_write(out, 1, d->revision), d);
    p = text_write(p, 3, d->description);
    p = text_write(p, 4, d->classification);
    p = text_write(p, 5, d->product);
    p = text_write(p, 6, d->severity);
    p = list_write(p, 7, d->articles, d->n_articles);
    p = list_write(p, 8, d->cves, d->n_cves);
    p = text_write(p, 9, d->publisher);
    p = fixed_write(p, 10, d->issued);
    p = list_write(p, 11, d->supersedes, d->n_supersedes);
    p = text_write(p, 12, d->superseded_by);
    p = text_write(p, 13, d->package);
    *ret_package = view_of(p - d->package.len, d->package.len);
    p = text_write(p, 14, d->version);
    *ret_version = view_of(p - d->version.len, d->version.len);
    p = text_write(p, 15, d->architecture);
    for (size_t i = 0; i < d->n_files; i++)
        p = file_write(p, &d->files[i]);
    p = text_write(p, 17, d->section);
    p = text_write(p, 18, d->homepage);
    p = text_write(p, 19, d->source);
    p = text_write(p, 20, d->depends);
    p = text_write(p, 21, d->priority);
    return fixed_write(p, 22, d->installed_size);
}

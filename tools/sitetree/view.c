#include "tools/sitetree/view.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#define COLUMNS_MAX 16

const json_t *view_at(const json_t *from, const char *path)
{
    char name[64];
    while (from && *path) {
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        from = json_object_get(from, name);
        path += n + (path[n] == '.');
    }
    return json_is_null(from) ? NULL : from;
}

void view_count(int64_t n, struct buf *out)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n < 0 ? (uint64_t)0 - (uint64_t)n : (uint64_t)n);
    if (n < 0)
        buf_u8(out, '-');
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf_u8(out, ',');
        buf_u8(out, (uint8_t)digits[i]);
    }
}

void view_bytes(double n, struct buf *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    for (; n >= 1024 && i + 1 < COUNT_OF(units); i++)
        n /= 1024;
    if (i && n < 9.95)
        buf_fmt(out, "%.1f %s", n, units[i]);
    else
        buf_fmt(out, "%.0f %s", n, units[i]);
}

void view_seconds(const json_t *v, struct buf *out)
{
    char text[24];
    double s = json_is_number(v) ? json_number_value(v) : -1;
    if (s < 0 || s > 9e9)
        buf_u8(out, '?');
    else if (s < 10 && s == floor(s)) /* counted in whole seconds: no decimals that nobody measured */
        buf_fmt(out, "%.0f s", s);
    else if (s < 0.1 && s > 0)
        buf_fmt(out, "%.0f ms", s * 1000 < 1 ? 1 : s * 1000);
    else
        buf_str(out, duration_text((int64_t)(s * 1e9), text));
}

double view_age(const struct output *o, const char *rfc3339)
{
    struct wall t;
    if (!rfc3339 || wall_parse(rfc3339, &t) != 0 || o->as_of.ns == 0)
        return -1;
    return (double)(o->as_of.ns - t.ns) / 1e9;
}

void view_time(const struct output *o, const char *rfc3339, struct buf *out)
{
    struct wall t;
    if (!rfc3339 || wall_parse(rfc3339, &t) != 0) {
        buf_u8(out, '?');
        return;
    }
    time_t s = (time_t)(t.ns / NS_PER_S), now = (time_t)(o->as_of.ns / NS_PER_S);
    struct tm tm, today;
    char text[48];
    if (o->local) {
        localtime_r(&s, &tm);
        localtime_r(&now, &today);
    } else {
        gmtime_r(&s, &tm);
        gmtime_r(&now, &today);
    }
    bool same = tm.tm_year == today.tm_year && tm.tm_yday == today.tm_yday;
    strftime(text, sizeof text, same ? "%H:%M:%S" : "%Y-%m-%dT%H:%M", &tm);
    buf_str(out, text);
    if (o->local && strftime(text, sizeof text, "%z", &tm) == 5)
        buf_fmt(out, "%.3s:%s", text, text + 3);
    else
        buf_u8(out, 'Z');
}

/* What strangers wrote (titles, reasons) must not move the cursor. */
static void clean_text(const char *s, struct buf *out)
{
    for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        buf_u8(out, *p < 0x20 || *p == 0x7f || c1 ? ' ' : *p);
        p += c1;
    }
}

static void pairs_text(const json_t *v, struct buf *out);

static void any_text(const json_t *v, struct buf *out)
{
    if (json_is_string(v) && !json_string_length(v))
        buf_u8(out, '-');
    else if (json_is_object(v))
        pairs_text(v, out);
    else if (json_is_string(v))
        clean_text(json_string_value(v), out);
    else if (json_is_integer(v))
        buf_fmt(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        buf_fmt(out, "%g", json_real_value(v));
    else if (json_is_boolean(v))
        buf_str(out, json_is_true(v) ? "yes" : "no");
    else
        buf_u8(out, '?');
}

static void list_text(const struct field *f, const json_t *v, struct buf *out)
{
    size_t i;
    json_t *item;
    if (!json_is_array(v)) {
        buf_u8(out, '?');
        return;
    }
    if (json_array_size(v) == 0)
        buf_str(out, f->flags & FIELD_ALL ? "all" : "-");
    json_array_foreach(v, i, item)
    {
        if (i)
            buf_str(out, ", ");
        any_text(item, out);
    }
}

static void pairs_text(const json_t *v, struct buf *out)
{
    const char *key;
    json_t *item;
    if (!json_is_object(v)) {
        buf_u8(out, '?');
        return;
    }
    if (json_object_size(v) == 0)
        buf_u8(out, '-');
    size_t n = 0;
    json_object_foreach((json_t *)v, key, item)
    {
        buf_fmt(out, "%s%s ", n++ ? ", " : "", key);
        if (json_is_integer(item))
            view_count(json_integer_value(item), out);
        else if (json_is_real(item)) /* in an answer these are seconds */
            view_seconds(item, out);
        else
            any_text(item, out);
    }
}

static void number_text(const struct field *f, const json_t *v, struct buf *out)
{
    double n = json_number_value(v);
    if (!json_is_number(v) || (n < 0 && f->format != FORMAT_SIGNED))
        buf_u8(out, '?');
    else if (n == 0 && (f->flags & FIELD_LIMIT))
        buf_str(out, "no limit");
    else if (f->format == FORMAT_COUNT)
        view_count((int64_t)n, out);
    else if (f->format == FORMAT_NUMBER)
        buf_fmt(out, "%.0f", n);
    else if (f->format == FORMAT_SIGNED)
        buf_fmt(out, "%+.3f s", n);
    else
        view_bytes(n, out);
    if (f->format == FORMAT_RATE && out->len && out->data[out->len - 1] == 'B')
        buf_str(out, "/s");
}

static void floor_text(const json_t *v, struct buf *out)
{
    double s = json_number_value(v);
    if (!json_is_number(v)) {
        buf_u8(out, '?');
    } else if (s <= 0 || s >= 1e9) {
        buf_str(out, s <= 0 ? "below" : "years");
    } else {
        buf_str(out, "in ");
        view_seconds(v, out);
    }
}

/* Of a time: how long ago it was. */
static void age_text(const struct output *o, const char *rfc3339, struct buf *out)
{
    char text[24];
    double age = view_age(o, rfc3339);
    buf_str(out, age < 0 ? "?" : duration_text((int64_t)(age * 1e9), text));
}

void view_value(struct output *o, const struct field *f, const json_t *row, struct buf *out)
{
    const json_t *v = view_at(row, f->path);
    if (!v && (f->flags & FIELD_MAYBE)) {
        buf_u8(out, '-');
        return;
    }
    switch (f->format) {
    case FORMAT_TEXT:
        any_text(v, out);
        break;
    case FORMAT_COUNT:
    case FORMAT_NUMBER:
    case FORMAT_BYTES:
    case FORMAT_RATE:
    case FORMAT_SIGNED:
        number_text(f, v, out);
        break;
    case FORMAT_SECONDS:
        if (json_is_string(v))
            age_text(o, json_string_value(v), out);
        else
            view_seconds(v, out);
        break;
    case FORMAT_FLOOR:
        floor_text(v, out);
        break;
    case FORMAT_TIME:
        view_time(o, json_string_value(v), out);
        break;
    case FORMAT_HASH:
        if (json_is_string(v))
            buf_fmt(out, "%.8s", json_string_value(v));
        else
            buf_u8(out, '?');
        break;
    case FORMAT_YES:
        buf_str(out, json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "?");
        break;
    case FORMAT_LIST:
        list_text(f, v, out);
        break;
    case FORMAT_PAIRS:
        pairs_text(v, out);
        break;
    }
}

/* Characters, not bytes: continuation bytes of UTF-8 take no column. */
static size_t columns_of(struct view v)
{
    size_t n = 0;
    for (size_t i = 0; i < v.len; i++)
        n += (v.data[i] & 0xc0) != 0x80;
    return n;
}

static bool right_aligned(enum format f)
{
    return f == FORMAT_COUNT || f == FORMAT_NUMBER || f == FORMAT_BYTES || f == FORMAT_RATE ||
           f == FORMAT_SECONDS || f == FORMAT_SIGNED;
}

static void indented(const struct field *f, const json_t *row, struct buf *out)
{
    json_int_t depth = f->flags & FIELD_TREE ? json_integer_value(json_object_get(row, "depth")) : 0;
    for (json_int_t i = 0; i < depth && i < 16; i++)
        buf_str(out, "  ");
}

struct layout {
    size_t width[COLUMNS_MAX];
    bool shown[COLUMNS_MAX];
    size_t n;
};

static size_t layout_width(const struct layout *l)
{
    size_t sum = 0;
    for (size_t i = 0; i < l->n; i++)
        sum += l->shown[i] ? l->width[i] + 2 : 0;
    return sum ? sum - 2 : 0;
}

/* Columns leave from the right, those to keep last; the first one stays. */
static void layout_fit(struct layout *l, const struct field *fields, size_t width)
{
    for (int keep = 0; keep < 2; keep++)
        for (size_t i = l->n; width && i-- > 1 && layout_width(l) > width;)
            if (keep || !(fields[i].flags & FIELD_KEEP))
                l->shown[i] = false;
}

static void layout_make(struct output *o, struct layout *l, const struct field *fields, const json_t *rows)
{
    AUTO_BUF cell = {0};
    size_t r;
    json_t *row;
    for (l->n = 0; l->n < COLUMNS_MAX && fields[l->n].title; l->n++) {
        size_t i = l->n;
        l->shown[i] = true;
        l->width[i] = strlen(fields[i].title);
        json_array_foreach(rows, r, row)
        {
            buf_reset(&cell);
            indented(&fields[i], row, &cell);
            view_value(o, &fields[i], row, &cell);
            size_t n = columns_of(buf_view(&cell));
            if (n > l->width[i])
                l->width[i] = n;
        }
    }
    layout_fit(l, fields, o->width);
}

static void pad(struct buf *line, size_t n)
{
    while (n--)
        buf_u8(line, ' ');
}

static void trim(struct buf *line)
{
    while (line->len && line->data[line->len - 1] == ' ')
        line->len--;
    buf_u8(line, '\n');
}

static void put_titles(struct output *o, const struct layout *l, const struct field *fields, bool as_of)
{
    AUTO_BUF line = {0};
    for (size_t i = 0; i < l->n; i++) {
        if (!l->shown[i])
            continue;
        size_t gap = l->width[i] - strlen(fields[i].title);
        bool right = right_aligned(fields[i].format);
        pad(&line, right ? gap : 0);
        buf_str(&line, fields[i].title);
        pad(&line, right ? 2 : gap + 2);
    }
    if (as_of && o->as_of.ns) {
        char time[32];
        AUTO_BUF text = {0};
        buf_str(&text, "as of ");
        view_time(o, wall_text(o->as_of, time), &text);
        if (o->width == 0 || line.len + text.len + 4 <= o->width) {
            pad(&line, 4);
            buf_append_view(&line, buf_view(&text));
        } else {
            buf_u8(&text, '\n');
            output_text(o, buf_view(&text));
        }
    }
    trim(&line);
    output_text(o, buf_view(&line));
}

static void put_row(struct output *o, const struct layout *l, const struct field *fields, const json_t *row)
{
    AUTO_BUF line = {0};
    AUTO_BUF cell = {0};
    for (size_t i = 0; i < l->n; i++) {
        if (!l->shown[i])
            continue;
        buf_reset(&cell);
        indented(&fields[i], row, &cell);
        view_value(o, &fields[i], row, &cell);
        size_t n = columns_of(buf_view(&cell)), gap = l->width[i] > n ? l->width[i] - n : 0;
        bool right = right_aligned(fields[i].format);
        pad(&line, right ? gap : 0);
        enum color color = COLOR_NONE;
        if ((fields[i].flags & FIELD_CLASS) && o->color) {
            buf_u8(&cell, 0);
            color = output_class_color((const char *)cell.data);
            cell.len--;
        }
        buf_str(&line, output_color(o, color));
        buf_append_view(&line, buf_view(&cell));
        buf_str(&line, color == COLOR_NONE ? "" : output_plain(o));
        pad(&line, right ? 2 : gap + 2);
    }
    trim(&line);
    output_text(o, buf_view(&line));
}

void view_table(struct output *o, const struct section *s, const json_t *rows, bool more)
{
    struct layout l;
    size_t i;
    json_t *row;
    layout_make(o, &l, s->fields, rows);
    if (!more)
        put_titles(o, &l, s->fields, true);
    json_array_foreach(rows, i, row) put_row(o, &l, s->fields, row);
}

static void put_as_of(struct output *o)
{
    char time[32];
    AUTO_BUF line = {0};
    if (!o->as_of.ns)
        return;
    buf_str(&line, "as of ");
    view_time(o, wall_text(o->as_of, time), &line);
    buf_u8(&line, '\n');
    output_text(o, buf_view(&line));
}

static bool left_out(const struct field *f, const json_t *object)
{
    const json_t *v = view_at(object, f->path);
    bool empty =
        !v || (json_is_string(v) && !json_string_length(v)) || (json_is_array(v) && !json_array_size(v));
    return (f->flags & FIELD_MAYBE) && empty;
}

static void put_record(struct output *o, const struct field *fields, const json_t *object)
{
    size_t width = 0;
    for (const struct field *f = fields; f->title; f++)
        if (strlen(f->title) > width && !left_out(f, object))
            width = strlen(f->title);
    for (const struct field *f = fields; f->title; f++) {
        AUTO_BUF line = {0};
        if (left_out(f, object))
            continue;
        buf_str(&line, f->title);
        pad(&line, width + 2 - strlen(f->title));
        view_value(o, f, object, &line);
        trim(&line);
        output_text(o, buf_view(&line));
    }
}

static void put_lines(struct output *o, const char *title, const json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        AUTO_BUF line = {0};
        buf_fmt(&line, "%-9s", i ? "" : title);
        any_text(item, &line);
        trim(&line);
        output_text(o, buf_view(&line));
    }
}

void view_draw_sections(struct output *o, const struct section *sections, const json_t *data)
{
    for (const struct section *s = sections; s->kind != SECTION_END; s++) {
        const json_t *part = view_at(data, s->path);
        switch (s->kind) {
        case SECTION_RECORD:
            if (s == sections)
                put_as_of(o);
            if (part && s != sections)
                output_text(o, view_str("\n"));
            if (part)
                put_record(o, s->fields, part);
            break;
        case SECTION_TABLE:
            if (json_array_size(part) > 0 && s != sections)
                output_text(o, view_str("\n"));
            if (json_array_size(part) > 0 || (s == sections && !s->empty))
                view_table(o, s, part, false);
            else if (s->empty)
                output_text(o, view_str(s->empty));
            break;
        case SECTION_LINES:
            put_lines(o, s->title, part);
            break;
        case SECTION_END:
            break;
        }
    }
}

void view_show(struct output *o, const struct screen *v, const json_t *data)
{
    if (v->draw)
        v->draw(o, data);
    else
        view_draw_sections(o, v->sections, data);
    fflush(o->out);
}

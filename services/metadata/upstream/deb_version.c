/* The order of Debian versions: Debian policy 5.6.12. */
#include "services/metadata/source.h"

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* The rank of a character of a part without digits: '~' sorts before the end, the end and digits before
 * letters, and letters before everything else. */
static int rank(struct view v, size_t i)
{
    uint8_t c = i < v.len ? v.data[i] : 0;
    if (i >= v.len || is_digit(c))
        return 0;
    if (c == '~')
        return -1;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return c;
    return 256 + c;
}

/* Numbers of any length: leading zeros do not count, then the longer one is the greater. */
static int cmp_number(struct view a, size_t *i, struct view b, size_t *j)
{
    while (*i < a.len && a.data[*i] == '0')
        ++*i;
    while (*j < b.len && b.data[*j] == '0')
        ++*j;
    int first = 0;
    for (; *i < a.len && *j < b.len && is_digit(a.data[*i]) && is_digit(b.data[*j]); ++*i, ++*j)
        if (!first)
            first = a.data[*i] - b.data[*j];
    bool more_a = *i < a.len && is_digit(a.data[*i]), more_b = *j < b.len && is_digit(b.data[*j]);
    if (more_a != more_b)
        return more_a ? 1 : -1;
    return first;
}

static int cmp_part(struct view a, struct view b)
{
    size_t i = 0, j = 0;
    while (i < a.len || j < b.len) {
        while ((i < a.len && !is_digit(a.data[i])) || (j < b.len && !is_digit(b.data[j]))) {
            int x = rank(a, i), y = rank(b, j);
            if (x != y)
                return x < y ? -1 : 1;
            i++;
            j++;
        }
        int c = cmp_number(a, &i, b, &j);
        if (c)
            return c;
    }
    return 0;
}

struct parts {
    struct view epoch, upstream, revision;
};

static struct parts split(struct view v)
{
    struct parts p = {.upstream = v};
    const uint8_t *colon = v.len ? memchr(v.data, ':', v.len) : NULL;
    if (colon) {
        p.epoch = view_of(v.data, (size_t)(colon - v.data));
        p.upstream = view_of(colon + 1, v.len - p.epoch.len - 1);
    }
    const uint8_t *dash = p.upstream.len ? memrchr(p.upstream.data, '-', p.upstream.len) : NULL;
    if (dash) {
        p.revision = view_of(dash + 1, (size_t)(p.upstream.data + p.upstream.len - dash - 1));
        p.upstream.len = (size_t)(dash - p.upstream.data);
    }
    return p;
}

int deb_version_cmp(struct view a, struct view b)
{
    struct parts x = split(a), y = split(b);
    int c = cmp_part(x.epoch, y.epoch);
    if (!c)
        c = cmp_part(x.upstream, y.upstream);
    return c ? c : cmp_part(x.revision, y.revision);
}

#include "services/metadata/upstream/source_arena.h"

#include "common/base/id.h"

#include <stdlib.h>

#define CHUNK_BYTES ((size_t)1024 * 1024)

struct source_chunk {
    struct source_chunk *next;
    size_t used, cap;
    uint8_t data[];
};

struct source_set *source_new(void)
{
    return calloc(1, sizeof(struct source_set));
}

void source_free(struct source_set *s)
{
    if (!s)
        return;
    while (s->chunks) {
        struct source_chunk *next = s->chunks->next;
        free(s->chunks);
        s->chunks = next;
    }
    for (size_t i = 0; i < s->n_interned; i++)
        free(s->interned[i]);
    free(s->interned);
    free(s->items);
    free(s);
}

uint8_t *source_reserve(struct source_set *s, size_t len)
{
    struct source_chunk *c = s->chunks;
    if (!c || c->cap - c->used < len) {
        size_t cap = len > CHUNK_BYTES ? len : CHUNK_BYTES;
        c = malloc(sizeof *c + cap);
        if (!c)
            return NULL;
        *c = (struct source_chunk){.next = s->chunks, .cap = cap};
        s->chunks = c;
    }
    return c->data + c->used;
}

int source_push(struct source_set *s, const struct source_item *item, size_t used)
{
    if (s->n == SOURCE_ITEMS_MAX)
        return err_fail(ERR_TOO_LARGE, "more than %d updates in one upstream", SOURCE_ITEMS_MAX);
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 1024;
        struct source_item *items = realloc(s->items, cap * sizeof *items);
        if (!items)
            return -ENOMEM;
        s->items = items;
        s->cap = cap;
    }
    s->items[s->n] = *item;
    s->items[s->n].order = (uint32_t)s->n;
    s->n++;
    s->chunks->used += used;
    return 0;
}

const char *source_intern(struct source_set *s, const char *text)
{
    for (size_t i = s->n_interned; i-- > 0;)
        if (strcmp(s->interned[i], text) == 0)
            return s->interned[i];
    char **more = reallocarray(s->interned, s->n_interned + 1, sizeof *more);
    if (!more)
        return NULL;
    s->interned = more;
    char *copy = strdup(text);
    if (copy)
        s->interned[s->n_interned++] = copy;
    return copy;
}

static bool inside(struct view part, struct view whole)
{
    return part.len == 0 || (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

/* Where part lies in the copy of whole, or the copy that was made of it behind. */
static struct view moved(struct view part, struct view whole, const uint8_t *copy, uint8_t **behind)
{
    if (part.len == 0)
        return (struct view){0};
    if (inside(part, whole))
        return view_of(copy + (part.data - whole.data), part.len);
    uint8_t *at = *behind;
    memcpy(at, part.data, part.len);
    *behind += part.len;
    return view_of(at, part.len);
}

static bool line_is_clean(struct view v)
{
    return text_is_clean(v) && (v.len == 0 || (!memchr(v.data, '\n', v.len) && !memchr(v.data, '\t', v.len)));
}

int source_add(struct source_set *s, struct view key, struct view value, const char *product,
    const char *classification, const char *architecture, struct view package, struct view version)
{
    if (key.len == 0 || key.len > SOURCE_KEY_MAX || !line_is_clean(key))
        return err_fail(
            ERR_MALFORMED, "the id of an update is empty, over %d bytes or not clean text", SOURCE_KEY_MAX);
    if (value.len > SOURCE_VALUE_MAX)
        return err_fail(ERR_MALFORMED, "%.*s: %zu bytes, over the limit of %zu", (int)key.len, key.data,
            value.len, SOURCE_VALUE_MAX);
    if (!line_is_clean(view_str(product)) || !line_is_clean(view_str(classification)) ||
        !line_is_clean(view_str(architecture)) || !line_is_clean(package) || !line_is_clean(version))
        return err_fail(ERR_MALFORMED,
            "%.*s: product, classification, architecture, package or version is not clean text", (int)key.len,
            key.data);
    struct source_item it = {
        .product = source_intern(s, product),
        .classification = source_intern(s, classification),
        .architecture = source_intern(s, architecture),
    };
    if (!it.product || !it.classification || !it.architecture)
        return -ENOMEM;
    uint8_t *at = source_reserve(s, key.len + value.len + package.len + version.len);
    if (!at)
        return -ENOMEM;
    uint8_t *copy = at + key.len, *behind = copy + value.len;
    memcpy(at, key.data, key.len);
    if (value.len)
        memcpy(copy, value.data, value.len);
    it.key = view_of(at, key.len);
    it.value = view_of(copy, value.len);
    it.package = moved(package, value, copy, &behind);
    it.version = moved(version, value, copy, &behind);
    return source_push(s, &it, (size_t)(behind - at));
}

static int by_key(const void *a, const void *b)
{
    const struct source_item *x = a, *y = b;
    int c = view_cmp(x->key, y->key);
    return c ? c : (x->order > y->order) - (x->order < y->order);
}

void source_sort(struct source_set *s)
{
    size_t i = 1;
    while (i < s->n && view_cmp(s->items[i - 1].key, s->items[i].key) < 0)
        i++;
    if (i >= s->n)
        return;
    qsort(s->items, s->n, sizeof *s->items, by_key);
    size_t kept = 0;
    for (i = 0; i < s->n; i++)
        if (i + 1 == s->n || !view_eq(s->items[i].key, s->items[i + 1].key))
            s->items[kept++] = s->items[i];
    s->n = kept;
    for (i = 0; i < s->n; i++)
        s->items[i].order = (uint32_t)i;
}

#include "tests/lib/world_catalogue_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/catalogue.pb-c.h"
#include "tests/lib/world_internal.h"

struct upstreams *upstreams_of(struct world *w)
{
    if (!w->catalogue) {
        w->catalogue = must(calloc(1, sizeof(struct upstreams)));
        w->catalogue_free = upstreams_free;
    }
    return w->catalogue;
}

void upstreams_free(void *u)
{
    struct upstreams *us = u;
    for (size_t i = 0; i < us->n; i++)
        free(us->list[i].items);
    free(us->list);
    free(us->dead);
    free(us->deltas.slots);
    free(us->requests.slots);
    free(us->signed_heads);
    free(us);
}

struct upstream *upstream_find(struct world *w, const char *name)
{
    struct upstreams *us = upstreams_of(w);
    for (size_t i = 0; i < us->n; i++)
        if (strcmp(us->list[i].name, name) == 0)
            return &us->list[i];
    fprintf(stderr, "world: no upstream %s\n", name);
    abort();
}

static struct upstream_item *item_put(struct upstream *u, const char *key)
{
    for (size_t i = 0; i < u->n; i++)
        if (strcmp(u->items[i].key, key) == 0) {
            u->items[i].revision++;
            return &u->items[i];
        }
    if (u->n == u->cap) {
        u->cap = u->cap ? u->cap * 2 : 64;
        u->items = must(realloc(u->items, u->cap * sizeof *u->items));
    }
    struct upstream_item *it = &u->items[u->n++];
    *it = (struct upstream_item){.revision = 1};
    snprintf(it->key, sizeof it->key, "%s", key);
    return it;
}

void world_upstream_put(
    struct world *w, const char *name, const char *key, const char *product, const char *classification)
{
    struct upstream_item *it = item_put(upstream_find(w, name), key);
    snprintf(it->product, sizeof it->product, "%s", product ? product : "product");
    snprintf(
        it->classification, sizeof it->classification, "%s", classification ? classification : "security");
}

static void leave_nth(struct upstream *u, size_t i)
{
    u->items[i] = u->items[--u->n];
}

void world_upstream_leave(struct world *w, const char *name, const char *key)
{
    struct upstream *u = upstream_find(w, name);
    for (size_t i = 0; i < u->n; i++)
        if (strcmp(u->items[i].key, key) == 0) {
            leave_nth(u, i);
            return;
        }
}

void world_upstream_churn(struct world *w, const char *name, unsigned come, unsigned change, unsigned leave)
{
    struct upstream *u = upstream_find(w, name);
    for (unsigned i = 0; i < leave && u->n; i++)
        leave_nth(u, (size_t)world_random(w, u->n));
    for (unsigned i = 0; i < change && u->n; i++)
        u->items[world_random(w, u->n)].revision++;
    for (unsigned i = 0; i < come; i++) {
        char key[64];
        snprintf(key, sizeof key, "deb/%s-%llu/1.0/amd64", u->name, (unsigned long long)++u->made);
        static const char *const products[] = {"product", "other"};
        world_upstream_put(w, name, key, products[world_random(w, 2)], "security");
    }
    world_note(w, "upstream %s: %u come, %u change, %u leave: %zu items", name, come, change, leave, u->n);
}

bool world_upstream_any(struct world *w, const char *name, char *ret_key, size_t key_len)
{
    const struct upstream *u = upstream_find(w, name);
    if (u->n)
        snprintf(ret_key, key_len, "%s", u->items[world_random(w, u->n)].key);
    return u->n > 0;
}

void world_upstream_fail(struct world *w, const char *name, int err)
{
    upstream_find(w, name)->fail = err;
}

void world_upstream_hang(struct world *w, const char *name, bool on)
{
    upstream_find(w, name)->hang = on;
}

void world_upstream_slow(struct world *w, const char *name, int64_t ns)
{
    upstream_find(w, name)->slow = ns;
}

unsigned world_upstream_fetches(struct world *w, const char *name)
{
    return upstream_find(w, name)->fetches;
}

unsigned world_upstream_items(struct world *w, const char *name)
{
    return (unsigned)upstream_find(w, name)->n;
}

static void upstream_new(struct world *w, const char *name)
{
    struct upstreams *us = upstreams_of(w);
    us->list = must(realloc(us->list, (us->n + 1) * sizeof *us->list));
    struct upstream *u = &us->list[us->n++];
    *u = (struct upstream){.slow = 200 * NS_PER_MS};
    snprintf(u->name, sizeof u->name, "%s", name);
}

void world_upstream_add(struct world *w, const char *name, unsigned n)
{
    upstream_new(w, name);
    world_upstream_churn(w, name, n, 0, 0);
    json_t *j = world_call(w, world_site_code(w, 0), "upstream.add",
        json_pack("{s:s,s:s,s:s}", "name", name, "kind", "directory", "path", "/"));
    if (!j || !json_object_get(j, "data"))
        world_break(w, "control", "upstream.add: %s",
            j ? json_string_value(json_object_get(j, "message")) : "no answer");
    json_decref(j);
}

/* The job. */

static struct upstream *of_argument(struct world_process *p, const struct blob *argument, json_t **ret_json)
{
    struct view v = blob_view(argument);
    json_t *j = json_loadb((const char *)v.data, v.len, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "name"));
    if (json_is_true(
            json_object_get(j, "cancel"))) { /* of a job that hangs, or whose result nobody wants any more */
        json_decref(j);
        return NULL;
    }
    if (!name) {
        world_break(
            process_world(p), "seam", "a job without a name of an upstream: %.*s", (int)v.len, v.data);
        json_decref(j);
        return NULL;
    }
    *ret_json = j;
    return upstream_find(process_world(p), name);
}

int64_t upstream_job_time(struct world_process *p, const struct blob *argument)
{
    json_t *j = NULL;
    struct upstream *u = of_argument(p, argument, &j);
    json_decref(j);
    return !u || u->hang ? -1 : u->slow;
}

static int add_item(struct source_set *set, const struct upstream *u, const struct upstream_item *it)
{
    char title[128], text[256];
    snprintf(title, sizeof title, "%s revision %llu", it->key, (unsigned long long)it->revision);
    snprintf(text, sizeof text, "%s of %s, made anew %llu times, as every revision of it is", title, u->name,
        (unsigned long long)it->revision * 7919);
    Sitetree__Update m = SITETREE__UPDATE__INIT;
    m.revision = it->revision;
    m.title = title;
    m.description = text;
    m.product = (char *)(uintptr_t)it->product;
    m.classification = (char *)(uintptr_t)it->classification;
    m.publisher = (char *)(uintptr_t)u->name;
    m.architecture = (char *)"amd64";
    AUTO_BUF value = {0};
    message_pack(&m.base, &value);
    return source_add(set, view_str(it->key), buf_view(&value), it->product, it->classification, "amd64",
        view_of("", 0), view_of("", 0));
}

/* Equal when the content is equal, as those of the adapters are; the order of the items does not matter. */
static uint64_t upstream_version(const struct upstream *u)
{
    uint64_t sum = u->n;
    for (size_t i = 0; i < u->n; i++) {
        const struct upstream_item *it = &u->items[i];
        const char *const texts[] = {it->key, it->product, it->classification};
        uint64_t h = it->revision;
        for (size_t k = 0; k < COUNT_OF(texts); k++)
            for (const char *t = texts[k]; *t; t++)
                h = (h ^ (uint8_t)*t) * 0x100000001b3u;
        sum += (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
    }
    return sum;
}

int upstream_job(struct world_process *p, const struct blob *argument, void **ret_result)
{
    struct world *w = process_world(p);
    json_t *j = NULL;
    struct upstream *u = of_argument(p, argument, &j);
    if (!u)
        return err_fail(ERR_UPSTREAM, "no such upstream");
    u->fetches++;
    if (u->fail) {
        json_decref(j);
        return err_fail(u->fail, "upstream %s: made to fail", u->name);
    }
    struct source_set *set = must(source_new());
    const char *version = json_string_value(json_object_get(j, "version"));
    snprintf(set->version, sizeof set->version, "v%llu", (unsigned long long)upstream_version(u));
    snprintf(set->scope, sizeof set->scope, "test/%s", u->name);
    set->date.ns = WALL_START + w->now;
    set->unchanged = version && strcmp(version, set->version) == 0;
    json_decref(j);
    for (size_t i = 0; i < u->n && !set->unchanged; i++)
        if (add_item(set, u, &u->items[i]))
            world_break(w, "seam", "source_add: %s", err_text(ERR_MALFORMED));
    source_sort(set);
    *ret_result = set;
    return 0;
}

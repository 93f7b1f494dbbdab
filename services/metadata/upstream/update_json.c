/* One update of a local publisher, as JSON (docs/control.md, "One update"), to a record. */
#include "common/base/id.h"
#include "services/metadata/upstream/apt_config.h"
#include "services/metadata/upstream/apt_stanza.h"
#include "services/metadata/upstream/directory.h"
#include "services/metadata/upstream/source_arena.h"
#include "services/metadata/upstream/update_pack.h"

#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX 256
#define FILES_MAX 64

enum {
    TITLE_MAX = 300,
    DESCRIPTION_MAX = 32768,
    WORD_MAX = 100,
    URL_MAX = 2048,
    ID_MAX = 100,
};

bool publisher_is_valid(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n <= 31 && s[n] == 0 && s[0] != '.' && s[0] != '-' && s[0] != '_';
}

bool update_id_is_valid(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+~:-");
    return n > 0 && n <= ID_MAX && s[n] == 0 && s[0] != '.' && s[0] != '-';
}

const char *update_short_id(const char *id, const char *publisher)
{
    size_t n = strlen(publisher);
    if (strncmp(id, "local/", 6) == 0 && strncmp(id + 6, publisher, n) == 0 && id[6 + n] == '/')
        return id + 6 + n + 1;
    return id;
}

/* What is read so far: texts borrow from the JSON, made ones from the arrays. */
struct parse {
    json_t *j;
    struct update_draft d;
    const char *id;
    struct view articles[LIST_MAX], cves[LIST_MAX], supersedes[LIST_MAX];
    char made[LIST_MAX][SOURCE_KEY_MAX + 1];
    struct update_file files[FILES_MAX];
};

static int check_text(json_t *v, const char *field, size_t max, bool lines, struct view *ret_text)
{
    if (!json_is_string(v))
        return err_fail(ERR_USAGE, "%s: not a text", field);
    struct view t = view_of(json_string_value(v), json_string_length(v));
    if (t.len > max)
        return err_fail(ERR_USAGE, "%s: %zu bytes, over the limit of %zu", field, t.len, max);
    if (!text_is_clean(t) ||
        (!lines && t.len && (memchr(t.data, '\n', t.len) || memchr(t.data, '\t', t.len))))
        return err_fail(ERR_USAGE, "%s: control characters, line breaks or not UTF-8", field);
    *ret_text = t;
    return 0;
}

static int get_texts(struct parse *p)
{
    struct update_draft *d = &p->d;
    const struct {
        const char *field;
        size_t max;
        bool lines;
        struct view *text;
    } rows[] = {
        {"title", TITLE_MAX, false, &d->title[0]},
        {"description", DESCRIPTION_MAX, true, &d->description},
        {"classification", WORD_MAX, false, &d->classification},
        {"product", WORD_MAX, false, &d->product},
        {"severity", 32, false, &d->severity},
        {"publisher", WORD_MAX, false, &d->publisher},
        {"superseded_by", SOURCE_KEY_MAX, false, &d->superseded_by},
        {"package", 120, false, &d->package},
        {"version", WORD_MAX, false, &d->version},
        {"architecture", 24, false, &d->architecture},
        {"section", WORD_MAX, false, &d->section},
        {"homepage", URL_MAX, false, &d->homepage},
        {"source", WORD_MAX, false, &d->source},
        {"depends", DESCRIPTION_MAX, false, &d->depends},
        {"priority", 32, false, &d->priority},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json_t *v = json_object_get(p->j, rows[i].field);
        int rc = v ? check_text(v, rows[i].field, rows[i].max, rows[i].lines, rows[i].text) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int get_number(json_t *v, const char *field, uint64_t *ret_number)
{
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return err_fail(ERR_USAGE, "%s: not a whole number from 0 on", field);
    *ret_number = (uint64_t)json_integer_value(v);
    return 0;
}

static int get_list(struct parse *p, const char *field, size_t max, struct view *out, size_t *ret_n)
{
    json_t *v = json_object_get(p->j, field);
    if (!v)
        return 0;
    if (!json_is_array(v) || json_array_size(v) > LIST_MAX)
        return err_fail(ERR_USAGE, "%s: not a list of at most %d texts", field, LIST_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s[%zu]", field, i);
        int rc = check_text(json_array_get(v, i), name, max, false, &out[i]);
        if (rc)
            return rc;
        if (!out[i].len)
            return err_fail(ERR_USAGE, "%s: empty", name);
    }
    *ret_n = json_array_size(v);
    return 0;
}

/* Ids without a slash are the publisher's own. */
static int get_supersedes(struct parse *p, const char *publisher)
{
    int rc = get_list(p, "supersedes", SOURCE_KEY_MAX, p->supersedes, &p->d.n_supersedes);
    for (size_t i = 0; !rc && i < p->d.n_supersedes; i++) {
        struct view *v = &p->supersedes[i];
        if (memchr(v->data, '/', v->len))
            continue;
        int n = snprintf(p->made[i], sizeof p->made[i], "local/%s/%.*s", publisher, (int)v->len, v->data);
        if (n > SOURCE_KEY_MAX)
            return err_fail(ERR_USAGE, "supersedes[%zu]: longer than %d bytes", i, SOURCE_KEY_MAX);
        *v = view_str(p->made[i]);
    }
    return rc;
}

static int check_members(json_t *j, const char *const allowed[], const char *before)
{
    const char *key;
    json_t *v;
    json_object_foreach(j, key, v)
    {
        size_t i = 0;
        while (allowed[i] && strcmp(allowed[i], key) != 0)
            i++;
        if (!allowed[i])
            return err_fail(ERR_USAGE, "%s%.60s: unknown field", before, key);
    }
    return 0;
}

static int get_file(json_t *j, size_t i, struct update_file *out)
{
    static const char *const allowed[] = {"name", "size", "sha256", "url", NULL};
    char field[48], before[32];
    struct view digest = {0};
    snprintf(before, sizeof before, "files[%zu].", i);
    if (!json_is_object(j))
        return err_fail(ERR_USAGE, "files[%zu]: not an object", i);
    int rc = check_members(j, allowed, before);
    snprintf(field, sizeof field, "%sname", before);
    rc = rc ? rc : check_text(json_object_get(j, "name"), field, 255, false, &out->name);
    if (!rc && (!out->name.len || memchr(out->name.data, '/', out->name.len)))
        rc = err_fail(ERR_USAGE, "%s: empty, or with a slash", field);
    snprintf(field, sizeof field, "%ssize", before);
    rc = rc ? rc : get_number(json_object_get(j, "size"), field, &out->size);
    if (!rc && !json_object_get(j, "size"))
        rc = err_fail(ERR_USAGE, "%s: missing", field);
    snprintf(field, sizeof field, "%ssha256", before);
    rc = rc ? rc : check_text(json_object_get(j, "sha256"), field, 64, false, &digest);
    if (!rc && sha256_parse(digest, out->sha256))
        rc = err_fail(ERR_USAGE, "%s: not 64 hex digits", field);
    snprintf(field, sizeof field, "%surl", before);
    if (!rc && json_object_get(j, "url"))
        rc = check_text(json_object_get(j, "url"), field, URL_MAX, false, &out->url);
    return rc;
}

static int get_files(struct parse *p)
{
    json_t *v = json_object_get(p->j, "files");
    if (!v)
        return 0;
    if (!json_is_array(v) || json_array_size(v) > FILES_MAX)
        return err_fail(ERR_USAGE, "files: not a list of at most %d files", FILES_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        int rc = get_file(json_array_get(v, i), i, &p->files[i]);
        if (rc)
            return rc;
    }
    p->d.n_files = json_array_size(v);
    return 0;
}

static int get_id(struct parse *p, const char *publisher)
{
    struct view text = {0};
    int rc = check_text(json_object_get(p->j, "id"), "id", SOURCE_KEY_MAX, false, &text);
    if (rc)
        return json_object_get(p->j, "id") ? rc : err_fail(ERR_USAGE, "id: missing");
    p->id = update_short_id(json_string_value(json_object_get(p->j, "id")), publisher);
    if (!update_id_is_valid(p->id))
        return err_fail(
            ERR_USAGE, "id: '%.80s' is not 1 to %d of letters, digits and . _ + ~ : -", p->id, ID_MAX);
    return 0;
}

static int get_issued(struct parse *p)
{
    json_t *v = json_object_get(p->j, "issued");
    struct wall t = {0};
    if (!v)
        return 0;
    if (!json_is_string(v) || wall_parse(json_string_value(v), &t) || t.ns < 0)
        return err_fail(ERR_USAGE, "issued: not a time like 2026-11-20T06:10:20Z");
    p->d.issued = (uint64_t)t.ns;
    return 0;
}

static int fill(struct parse *p, const char *publisher)
{
    static const char *const allowed[] = {"id", "revision", "title", "description", "classification",
        "product", "severity", "articles", "cves", "publisher", "issued", "supersedes", "superseded_by",
        "package", "version", "architecture", "files", "section", "homepage", "source", "depends", "priority",
        "installed_size", NULL};
    struct update_draft *d = &p->d;
    int rc = check_members(p->j, allowed, "");
    rc = rc ? rc : get_id(p, publisher);
    rc = rc ? rc : get_texts(p);
    rc = rc ? rc : get_number(json_object_get(p->j, "revision"), "revision", &d->revision);
    rc = rc ? rc : get_number(json_object_get(p->j, "installed_size"), "installed_size", &d->installed_size);
    rc = rc ? rc : get_issued(p);
    rc = rc ? rc : get_list(p, "articles", WORD_MAX, p->articles, &d->n_articles);
    rc = rc ? rc : get_list(p, "cves", 32, p->cves, &d->n_cves);
    rc = rc ? rc : get_supersedes(p, publisher);
    rc = rc ? rc : get_files(p);
    if (rc)
        return rc;
    d->articles = p->articles;
    d->cves = p->cves;
    d->supersedes = p->supersedes;
    d->files = p->files;
    if (!d->title[0].len)
        return err_fail(ERR_USAGE, "title: missing");
    if (!d->classification.len)
        d->classification = view_str("updates");
    if (!classification_is_known((const char *)d->classification.data))
        return err_fail(ERR_USAGE,
            "classification: '%.60s' is not one of critical, security, updates, definition, "
            "feature-packs, service-packs, tools, rollups, upgrades",
            (const char *)d->classification.data);
    return 0;
}

static int parse_and_add(struct parse *p, const char *publisher, struct source_set *into)
{
    char key[SOURCE_KEY_MAX + 1], product[64];
    AUTO_BUF value = {0};
    int rc = fill(p, publisher);
    if (rc)
        return rc;
    snprintf(key, sizeof key, "local/%s/%s", publisher, p->id);
    snprintf(product, sizeof product, "local/%s", publisher);
    struct update_draft *d = &p->d;
    if (!d->product.len)
        d->product = view_str(product);
    if (!d->publisher.len)
        d->publisher = view_str(publisher);
    if (!d->architecture.len)
        d->architecture = view_str("all");
    buf_reserve(&value, update_size(d));
    if (value.err)
        return value.err;
    struct view package, version;
    value.len = (size_t)(update_write(d, value.data, &package, &version) - value.data);
    /* jansson ends its texts with a NUL, and none is inside: check_text saw to that */
    rc = source_add(into, view_str(key), buf_view(&value), (const char *)d->product.data,
        (const char *)d->classification.data, (const char *)d->architecture.data, package, version);
    return rc == ERR_MALFORMED ? err_fail(ERR_USAGE, "%s", err_text(rc)) : rc;
}

int update_from_json(json_t *j, const char *publisher, struct source_set *into)
{
    if (!publisher_is_valid(publisher))
        return err_fail(
            ERR_USAGE, "publisher: '%.60s' is not 1 to 31 of letters, digits and . _ -", publisher);
    if (!json_is_object(j))
        return err_fail(ERR_USAGE, "an update is a JSON object");
    struct parse *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->j = j;
    int rc = parse_and_add(p, publisher, into);
    free(p);
    return rc;
}

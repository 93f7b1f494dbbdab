/* The adapter of the local publisher: updates as JSON files in a folder, one or a list in each. */
#include "services/metadata/upstream/directory.h"

#include "common/base/id.h"
#include "common/crypto/crypto.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((size_t)16 * 1024 * 1024)

static int is_update_name(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return d->d_name[0] != '.' && dot && strcmp(dot, ".json") == 0;
}

/* A sorted list of the names in the folder; frees with names_free. */
static int names_get(const char *dir, struct dirent ***ret_names, int *ret_n)
{
    struct dirent **names;
    int n = scandir(dir, &names, is_update_name, alphasort);
    if (n < 0)
        return err_fail(errno == ENOENT ? ERR_NOT_FOUND : -errno, "%s: %s", dir, strerror(errno));
    *ret_names = names;
    *ret_n = n;
    return 0;
}

static void names_free(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

static int file_load(const char *dir, const char *name, json_t **ret_json, size_t *ret_size)
{
    AUTO_BUF b = {0};
    char path[4096];
    json_error_t e;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return err_fail(-ENAMETOOLONG, "%s: name too long", dir);
    int rc = file_read_whole(path, FILE_MAX, &b);
    if (rc)
        return rc;
    json_t *j = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, &e);
    if (!j)
        return err_fail(ERR_USAGE, "line %d: %s", e.line, e.text);
    *ret_json = j;
    *ret_size = b.len;
    return 0;
}

static int add_all(json_t *j, const char *publisher, struct source_set *into)
{
    if (!json_is_array(j))
        return update_from_json(j, publisher, into);
    for (size_t i = 0; i < json_array_size(j); i++) {
        int rc = update_from_json(json_array_get(j, i), publisher, into);
        if (rc)
            return err_wrap(rc, "update %zu", i + 1);
    }
    return 0;
}

static const char *text_of(json_t *config, const char *field, const char *fallback)
{
    json_t *v = json_object_get(config, field);
    return json_is_string(v) && json_string_length(v) ? json_string_value(v) : fallback;
}

static int directory_check(json_t *config)
{
    const char *path = text_of(config, "path", ""),
               *publisher = text_of(config, "publisher", text_of(config, "name", "a"));
    struct stat st;
    if (path[0] != '/')
        return err_fail(ERR_USAGE, "path: missing, or not an absolute path");
    if (stat(path, &st) < 0)
        return err_fail(ERR_USAGE, "path: %s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_fail(ERR_USAGE, "path: %s: not a folder", path);
    if (!publisher_is_valid(publisher))
        return err_fail(
            ERR_USAGE, "publisher: '%.60s' is not 1 to 31 of letters, digits and . _ -", publisher);
    return 0;
}

static int read_files(
    const struct source_request *r, const char *dir, const char *publisher, struct source_set *set)
{
    struct dirent **names = NULL;
    int n = 0, rc = names_get(dir, &names, &n);
    if (rc)
        return rc == ERR_NOT_FOUND ? err_fail(ERR_UPSTREAM, "%s", err_text(rc)) : rc;
    for (int i = 0; !rc && i < n; i++) {
        json_t *j = NULL;
        size_t size = 0;
        if (r->cancel && atomic_load(r->cancel))
            rc = err_fail(ERR_CANCELLED, "cancelled");
        rc = rc ? rc : file_load(dir, names[i]->d_name, &j, &size);
        rc = rc ? rc : add_all(j, publisher, set);
        json_decref(j);
        set->bytes_fetched += size;
        if (rc && rc != ERR_CANCELLED)
            rc = rc == -ENOMEM ? rc : err_fail(ERR_UPSTREAM, "%s: %s", names[i]->d_name, err_text(rc));
        if (!rc && r->progress)
            r->progress(r->ctx, "parse", set->n, set->bytes_fetched, 0);
    }
    names_free(names, n);
    return rc;
}

/* Equal when the records are equal. */
static void name_version(struct source_set *set)
{
    struct hash_state s;
    struct hash h;
    char hex[65];
    hash_start(&s, "dir-version", NULL);
    for (size_t i = 0; i < set->n; i++) {
        const struct source_item *it = &set->items[i];
        uint8_t lengths[8];
        for (size_t k = 0; k < 4; k++) {
            lengths[k] = (uint8_t)(it->key.len >> (8 * k));
            lengths[4 + k] = (uint8_t)(it->value.len >> (8 * k));
        }
        hash_more(&s, lengths, sizeof lengths);
        hash_more(&s, it->key.data, it->key.len);
        hash_more(&s, it->value.data, it->value.len);
    }
    hash_end(&s, &h);
    snprintf(set->version, sizeof set->version, "blake2b:%s", hex_encode(h.b, 32, hex));
}

static int read_folder(const struct source_request *r, struct source_set *set)
{
    int rc = directory_check(r->config);
    if (rc)
        return err_fail(ERR_UPSTREAM, "%s", err_text(rc));
    const char *publisher = text_of(r->config, "publisher", r->name);
    if ((rc = read_files(r, text_of(r->config, "path", ""), publisher, set)))
        return rc;
    size_t n = set->n;
    source_sort(set);
    if (set->n != n)
        snprintf(set->warning, sizeof set->warning,
            "%zu ids stand more than once; of each the last one counts", n - set->n);
    name_version(set);
    snprintf(set->scope, sizeof set->scope, "local/%s", publisher);
    if (r->version && strcmp(r->version, set->version) == 0) {
        set->unchanged = true;
        set->n = 0;
    }
    return 0;
}

static int directory_fetch(const struct source_request *r, struct source_set **ret_set)
{
    struct source_set *set = source_new();
    err_clear();
    int rc = set ? read_folder(r, set) : -ENOMEM;
    if (rc) {
        source_free(set);
        return err_wrap(rc, "upstream %s", r->name);
    }
    *ret_set = set;
    return 0;
}

const struct adapter adapter_directory = {"directory", directory_check, directory_fetch};

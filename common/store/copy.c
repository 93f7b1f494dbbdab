#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/store/store.h"

/* Reads every entry of a copy, once. */
static int read_all(const char *dir, const struct store_options *opt, struct store_copied *ret)
{
    struct store *copy;
    struct store_txn *t;
    struct store_options so = {.tables = opt->tables, .n_tables = opt->n_tables, .map_size = opt->map_size};
    int rc = store_open_lmdb(dir, &so, &copy);
    if (rc)
        return rc;
    rc = store_begin(copy, false, &t);
    if (!rc) {
        for (unsigned i = 0; i < opt->n_tables; i++) {
            struct store_walk w = store_walk_from(t, i, view_of(NULL, 0), view_of(NULL, 0));
            while (store_walk_next(&w)) {
                ret->entries++;
                ret->bytes += w.key.len + w.value.len;
            }
        }
        rc = store_txn_error(t);
        store_abort(t);
    }
    store_close(copy);
    return rc;
}

int store_copy_beside(struct store *s, const struct store_options *opt, const char *dir, const char *name,
    struct store_copied *ret)
{
    char path[4096];
    struct store_copied r = {0};
    snprintf(path, sizeof path, "%.3900s/" STORE_COPY_FOLDER, dir);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    snprintf(path, sizeof path, "%.3900s/" STORE_COPY_FOLDER "/%.100s", dir, name);
    int rc = store_copy(s, path);
    if (!rc)
        rc = read_all(path, opt, &r);
    if (!rc)
        *ret = r;
    return rc;
}

#include "common/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/store/impl.h"

static void unlink_txn(struct store_txn *t)
{
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    if (t->store->writer == t)
        t->store->writer = NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    while (s->txns)
        store_abort(s->txns);
    s->ops->close(s);
}

int store_begin(struct store *s, bool write, struct store_txn **ret_txn)
{
    if (write && s->read_only)
        return err_fail(-EROFS, "store: opened for reading only");
    if (write && s->failed)
        return err_fail(
            s->failed, "store: no more writes after the disk refused one; the process starts again");
    if (write && s->writer)
        return err_fail(ERR_BUSY, "store: a write transaction is open already");
    struct store_txn *t;
    int rc = s->ops->begin(s, write, &t);
    if (rc)
        return rc;
    t->store = s;
    t->write = write;
    t->err = 0;
    t->next = s->txns;
    t->link = &s->txns;
    if (t->next)
        t->next->link = &t->next;
    s->txns = t;
    if (write)
        s->writer = t;
    *ret_txn = t;
    return 0;
}

void store_abort(struct store_txn *t)
{
    if (!t)
        return;
    unlink_txn(t);
    t->store->ops->abort(t);
}

/* True when this call is the one that store_fail_after chose. */
static bool fault_due(struct store *s)
{
    return s->fail_calls && --s->fail_calls == 0;
}

static void remember_disk_failure(struct store *s, int rc)
{
    if (rc == ERR_DISK)
        s->failed = ERR_DISK;
}

static void fail(struct store_txn *t, int rc)
{
    t->err = rc;
    if (t->write)
        remember_disk_failure(t->store, rc);
}

int store_commit(struct store_txn *t)
{
    struct store *s = t->store;
    int rc = t->err;
    if (!rc && t->write && fault_due(s)) {
        rc = err_fail(s->fail_code, "store: commit made to fail");
        remember_disk_failure(s, rc);
    }
    if (rc || !t->write) {
        store_abort(t);
        return rc;
    }
    unlink_txn(t);
    rc = s->ops->commit(t);
    remember_disk_failure(s, rc);
    if (!rc)
        s->commits++;
    return rc;
}

int store_txn_error(const struct store_txn *t)
{
    return t->err;
}

int store_get(struct store_txn *t, unsigned table, struct view key, struct view *ret_value)
{
    INVARIANT(table < t->store->n_tables);
    if (t->err)
        return t->err;
    if (key.len == 0 || key.len > STORE_KEY_MAX)
        return ERR_NOT_FOUND; /* such a key cannot be there */
    int rc = t->store->ops->get(t, table, key, ret_value);
    if (rc && rc != ERR_NOT_FOUND)
        fail(t, rc);
    return rc;
}

static bool may_write(struct store_txn *t, unsigned table)
{
    INVARIANT(table < t->store->n_tables);
    INVARIANT(t->write || t->err);
    if (t->err)
        return false;
    if (fault_due(t->store)) {
        fail(t, err_fail(t->store->fail_code, "store: write made to fail"));
        return false;
    }
    return true;
}

static void put(struct store_txn *t, unsigned table, struct view key, struct view value, uint8_t **ret_place)
{
    if (!may_write(t, table))
        return;
    int rc;
    if (key.len == 0 || key.len > STORE_KEY_MAX)
        rc = err_fail(ERR_TOO_LARGE, "store: key of %zu bytes in table %s, 1 to %d are possible", key.len,
            t->store->tables[table], STORE_KEY_MAX);
    else if (value.len > STORE_VALUE_MAX)
        rc = err_fail(
            ERR_TOO_LARGE, "store: value of %zu bytes in table %s", value.len, t->store->tables[table]);
    else
        rc = t->store->ops->put(t, table, key, value, ret_place);
    if (rc)
        fail(t, rc);
}

void store_put(struct store_txn *t, unsigned table, struct view key, struct view value)
{
    static const uint8_t nothing;
    if (!value.data)
        value = view_of(&nothing, 0); /* no data means "reserve" below this line */
    put(t, table, key, value, NULL);
}

uint8_t *store_put_reserve(struct store_txn *t, unsigned table, struct view key, size_t len)
{
    uint8_t *place = NULL;
    put(t, table, key, view_of(NULL, len), &place);
    return place;
}

void store_del(struct store_txn *t, unsigned table, struct view key)
{
    if (!may_write(t, table) || key.len == 0 || key.len > STORE_KEY_MAX)
        return;
    int rc = t->store->ops->del(t, table, key);
    if (rc && rc != ERR_NOT_FOUND)
        fail(t, rc);
}

struct store_walk store_walk_from(struct store_txn *t, unsigned table, struct view first, struct view prefix)
{
    static uint64_t
        walks; /* only to tell walks apart: a race between threads with stores of their own is harmless */
    struct store_walk w;
    w.key = w.value = (struct view){0};
    w.txn = t;
    w.table = table;
    w.prefix = prefix;
    w.started = false;
    w.id = __atomic_add_fetch(&walks, 1, __ATOMIC_RELAXED);
    w.slot = 0;
    struct view start = view_cmp(first, prefix) > 0 ? first : prefix;
    w.last_len = start.len;
    INVARIANT(table < t->store->n_tables);
    if (start.len >
        STORE_KEY_MAX) { /* nothing can follow it but a shorter, greater key: the cut start finds that */
        w.last_len = STORE_KEY_MAX;
        w.started = true;
    }
    if (w.last_len)
        memcpy(w.last, start.data, w.last_len);
    return w;
}

static bool has_prefix(struct view key, struct view prefix)
{
    return key.len >= prefix.len && (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

bool store_walk_next(struct store_walk *w)
{
    struct store_txn *t = w->txn;
    if (t->err)
        return false;
    int rc = t->store->ops->walk(w);
    if (rc) {
        if (rc != ERR_NOT_FOUND)
            fail(t, rc);
        return false;
    }
    if (!has_prefix(w->key, w->prefix))
        return false; /* asked again, it comes here again: last has not moved */
    w->started = true;
    memcpy(w->last, w->key.data, w->key.len);
    w->last_len = w->key.len;
    return true;
}

/* The least key above all keys with this prefix, into bound; empty when there is none. */
static struct view prefix_end(struct view prefix, uint8_t bound[STORE_KEY_MAX])
{
    size_t len = prefix.len;
    while (len > 0 && prefix.data[len - 1] == 0xff)
        len--;
    if (len == 0)
        return view_of(NULL, 0);
    memcpy(bound, prefix.data, len);
    bound[len - 1]++;
    return view_of(bound, len);
}

int store_last(
    struct store_txn *t, unsigned table, struct view prefix, struct view *ret_key, struct view *ret_value)
{
    INVARIANT(table < t->store->n_tables);
    if (t->err)
        return t->err;
    if (prefix.len > STORE_KEY_MAX)
        return ERR_NOT_FOUND;
    uint8_t bound[STORE_KEY_MAX];
    struct view key, value;
    int rc = t->store->ops->before(t, table, prefix_end(prefix, bound), &key, &value);
    if (rc == 0 && !has_prefix(key, prefix))
        rc = ERR_NOT_FOUND;
    if (rc) {
        if (rc != ERR_NOT_FOUND)
            fail(t, rc);
        return rc;
    }
    *ret_key = key;
    *ret_value = value;
    return 0;
}

void store_stat(struct store *s, struct store_stat *ret_stat)
{
    *ret_stat = (struct store_stat){0};
    s->ops->usage(s, 0, &ret_stat->used_bytes, &ret_stat->limit_bytes);
    s->ops->stat(s, ret_stat);
    ret_stat->commits = s->commits;
    ret_stat->last_commit_ns = s->last_commit_ns;
    ret_stat->slowest_commit_ns = s->slowest_commit_ns;
}

bool store_nearly_full(struct store *s)
{
    uint64_t used, limit;
    s->ops->usage(s, UINT64_MAX, &used, &limit);
    if (limit && used >= limit / 100 * 85)
        s->ops->usage(s, 0, &used, &limit);
    return limit && used >= limit / 100 * 85;
}

int store_copy(struct store *s, const char *dir)
{
    if (s->writer)
        return err_fail(ERR_BUSY, "store: copy to %s: a write transaction is open", dir);
    if (mkdir(dir, 0700) != 0)
        return err_fail(errno == EEXIST ? ERR_EXISTS : -errno, "store: copy to %s: %s", dir, strerror(errno));
    int rc = s->ops->copy(s, dir);
    if (rc) { /* nothing half done stays */
        static const char *const names[] = {"data.mdb", "lock.mdb", "owner"};
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", dir, names[i]);
            unlink(path);
        }
        rmdir(dir);
    }
    return rc;
}

void store_fail_after(struct store *s, unsigned calls, int code)
{
    s->fail_calls = calls;
    s->fail_code = code;
}

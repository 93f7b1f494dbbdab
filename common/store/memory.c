/* The store in memory: per table a treap whose nodes are counted and copied only when somebody else still
 * holds them. So a transaction is a set of roots: a reader's stay as they were, an aborted writer's are
 * dropped, a commit swaps. */
#include <stdlib.h>

#include "common/store/impl.h"

struct entry {
    unsigned refs;
    uint32_t key_len;
    size_t value_len;
    uint8_t bytes[]; /* key, value */
};

struct node {
    struct entry *entry;
    struct node *left, *right;
    uint64_t head; /* of the key: its first 8 bytes as a number, which decides most comparisons */
    unsigned refs;
    uint32_t priority; /* a hash of the key: the shape depends on the set alone */
};

struct tables {
    struct node *root[STORE_TABLES_MAX];
    uint64_t entries[STORE_TABLES_MAX];
    uint64_t bytes;
};

struct memory_store {
    struct store base;
    struct tables now;
    uint64_t limit;
};

struct memory_txn {
    struct store_txn base;
    struct tables t;
    uint64_t deleted; /* bytes: may be written again in a full store */
    bool dead;        /* the store crashed: the roots are gone */
};

static struct memory_store *of(struct store *s)
{
    return (struct memory_store *)s;
}
static struct memory_txn *txn_of(struct store_txn *t)
{
    return (struct memory_txn *)t;
}

static struct view entry_key(const struct entry *e)
{
    return view_of(e->bytes, e->key_len);
}
static struct view entry_value(const struct entry *e)
{
    return view_of(e->bytes + e->key_len, e->value_len);
}

static uint64_t head_of(struct view key)
{
    uint64_t head = 0;
    for (size_t i = 0; i < 8; i++)
        head = head << 8 | (i < key.len ? key.data[i] : 0);
    return head;
}

/* Of a key, whose head is known, with the key of a node. */
static int compare(uint64_t head, struct view key, const struct node *n)
{
    return head != n->head ? (head < n->head ? -1 : 1) : view_cmp(key, entry_key(n->entry));
}

static void entry_free(struct entry *e)
{
    if (--e->refs == 0)
        free(e);
}

static struct node *node_ref(struct node *n)
{
    if (n)
        n->refs++;
    return n;
}

static void node_free(struct node *n)
{
    while (n && --n->refs == 0) {
        struct node *right = n->right;
        node_free(n->left);
        entry_free(n->entry);
        free(n);
        n = right;
    }
}

/* Makes *p a node that only this tree holds. */
static int own(struct node **p)
{
    struct node *n = *p;
    if (n->refs == 1)
        return 0;
    struct node *copy = malloc(sizeof *copy);
    if (!copy)
        return -ENOMEM;
    *copy = *n;
    copy->refs = 1;
    copy->entry->refs++;
    node_ref(copy->left);
    node_ref(copy->right);
    n->refs--;
    *p = copy;
    return 0;
}

static uint32_t priority_of(struct view key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ key.data[i]) * 16777619u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    return h ^ h >> 16;
}

static void rotate(struct node **p, bool right)
{
    struct node *n = *p, *up = right ? n->left : n->right;
    if (right) {
        n->left = up->right;
        up->right = n;
    } else {
        n->right = up->left;
        up->left = n;
    }
    *p = up;
}

/* Takes the entry when it returns 0; *ret_old is the entry that had the key before (to be freed), or NULL. */
static int insert(struct node **p, uint64_t head, struct entry *e, struct entry **ret_old)
{
    if (!*p) {
        struct node *n = malloc(sizeof *n);
        if (!n)
            return -ENOMEM;
        *n = (struct node){
            .entry = e, .head = head_of(entry_key(e)), .refs = 1, .priority = priority_of(entry_key(e))};
        *p = n;
        *ret_old = NULL;
        return 0;
    }
    int rc = own(p);
    if (rc)
        return rc;
    struct node *n = *p;
    int c = compare(head, entry_key(e), n);
    if (c == 0) {
        *ret_old = n->entry;
        n->entry = e;
        return 0;
    }
    struct node **child = c < 0 ? &n->left : &n->right;
    rc = insert(child, head, e, ret_old);
    if (!rc && (*child)->priority > n->priority)
        rotate(p, c < 0);
    return rc;
}

static struct node *find(struct node *n, struct view key)
{
    uint64_t head = head_of(key);
    while (n) {
        int c = compare(head, key, n);
        if (c == 0)
            return n;
        n = c < 0 ? n->left : n->right;
    }
    return NULL;
}

/* Turns the node down until one side is empty, and puts the other side in its place. */
static int drop(struct node **p)
{
    for (;;) {
        int rc = own(p);
        if (rc)
            return rc;
        struct node *n = *p;
        if (!n->left || !n->right) {
            *p = n->left ? n->left : n->right;
            n->left = n->right = NULL;
            node_free(n);
            return 0;
        }
        bool right = n->left->priority > n->right->priority;
        rc = own(right ? &n->left : &n->right);
        if (rc)
            return rc;
        rotate(p, right);
        p = right ? &(*p)->right : &(*p)->left;
    }
}

static int erase(struct node **p, struct view key) /* the key is there */
{
    uint64_t head = head_of(key);
    for (;;) {
        int c = compare(head, key, *p);
        if (c == 0)
            return drop(p);
        int rc = own(p);
        if (rc)
            return rc;
        p = c < 0 ? &(*p)->left : &(*p)->right;
    }
}

/* The least node >= key (or > key), the greatest < key; NULL when there is none. */
static struct node *find_from(struct node *n, struct view key, bool beyond)
{
    struct node *best = NULL;
    uint64_t head = head_of(key);
    while (n) {
        int c = compare(head, key, n);
        bool fits = beyond ? c < 0 : c <= 0;
        if (fits)
            best = n;
        n = fits ? n->left : n->right;
    }
    return best;
}

static struct node *find_before(struct node *n, struct view bound)
{
    struct node *best = NULL;
    uint64_t head = head_of(bound);
    while (n) {
        bool fits = bound.len == 0 || compare(head, bound, n) > 0;
        if (fits)
            best = n;
        n = fits ? n->right : n->left;
    }
    return best;
}

static void tables_free(struct tables *t)
{
    for (size_t i = 0; i < STORE_TABLES_MAX; i++)
        node_free(t->root[i]);
    *t = (struct tables){0};
}

static void memory_close(struct store *s)
{
    tables_free(&of(s)->now);
    free(s);
}

static int memory_begin(struct store *s, bool write, struct store_txn **ret_txn)
{
    (void)write;
    struct memory_txn *t = malloc(sizeof *t);
    if (!t)
        return -ENOMEM;
    t->t = of(s)->now;
    t->deleted = 0;
    t->dead = false;
    for (size_t i = 0; i < s->n_tables; i++)
        node_ref(t->t.root[i]);
    *ret_txn = &t->base;
    return 0;
}

static int memory_commit(struct store_txn *base)
{
    struct memory_txn *t = txn_of(base);
    struct memory_store *s = of(base->store);
    tables_free(&s->now);
    s->now = t->t;
    free(t);
    return 0;
}

static void memory_abort(struct store_txn *base)
{
    tables_free(&txn_of(base)->t);
    free(base);
}

static int memory_get(struct store_txn *base, unsigned table, struct view key, struct view *ret_value)
{
    struct node *n = find(txn_of(base)->t.root[table], key);
    if (!n)
        return ERR_NOT_FOUND;
    *ret_value = entry_value(n->entry);
    return 0;
}

static int memory_put(
    struct store_txn *base, unsigned table, struct view key, struct view value, uint8_t **ret_place)
{
    struct memory_txn *t = txn_of(base);
    uint64_t limit = of(base->store)->limit, size = key.len + value.len;
    if (limit && t->t.bytes + size > store_put_limit(limit)) {
        if (size > t->deleted)
            return err_fail(ERR_MAP_FULL, "store: full (%llu bytes)", (unsigned long long)limit);
        t->deleted -= size;
    }
    struct entry *e = malloc(sizeof *e + key.len + value.len), *old;
    if (!e)
        return -ENOMEM;
    e->refs = 1;
    e->key_len = (uint32_t)key.len;
    e->value_len = value.len;
    memcpy(e->bytes, key.data, key.len);
    if (value.data && value.len)
        memcpy(e->bytes + key.len, value.data, value.len);
    else
        memset(e->bytes + key.len, 0, value.len);
    int rc = insert(&t->t.root[table], head_of(key), e, &old);
    if (rc) {
        free(e);
        return rc;
    }
    t->t.bytes += size;
    if (old) {
        t->t.bytes -= old->key_len + old->value_len;
        entry_free(old);
    } else {
        t->t.entries[table]++;
    }
    if (ret_place)
        *ret_place = e->bytes + key.len;
    return 0;
}

static int memory_del(struct store_txn *base, unsigned table, struct view key)
{
    struct memory_txn *t = txn_of(base);
    struct node *n = find(t->t.root[table], key);
    if (!n)
        return ERR_NOT_FOUND;
    uint64_t size = n->entry->key_len + n->entry->value_len;
    int rc = erase(&t->t.root[table], key);
    if (rc)
        return rc;
    t->t.bytes -= size;
    t->t.entries[table]--;
    t->deleted += size;
    return 0;
}

static int memory_walk(struct store_walk *w)
{
    struct node *n = find_from(txn_of(w->txn)->t.root[w->table], view_of(w->last, w->last_len), w->started);
    if (!n)
        return ERR_NOT_FOUND;
    w->key = entry_key(n->entry);
    w->value = entry_value(n->entry);
    return 0;
}

static int memory_before(
    struct store_txn *base, unsigned table, struct view bound, struct view *ret_key, struct view *ret_value)
{
    struct node *n = find_before(txn_of(base)->t.root[table], bound);
    if (!n)
        return ERR_NOT_FOUND;
    *ret_key = entry_key(n->entry);
    *ret_value = entry_value(n->entry);
    return 0;
}

static void memory_usage(struct store *s, uint64_t exact_from, uint64_t *ret_used, uint64_t *ret_limit)
{
    (void)exact_from;
    *ret_used = of(s)->now.bytes;
    *ret_limit = of(s)->limit;
}

static void memory_stat(struct store *s, struct store_stat *ret_stat)
{
    memcpy(ret_stat->entries, of(s)->now.entries, sizeof ret_stat->entries);
    for (struct store_txn *t = s->txns; t; t = t->next)
        ret_stat->readers += !t->write && !txn_of(t)->dead;
}

/* As LMDB files: what was in memory can then be looked at with the same tools. */
static int memory_copy(struct store *s, const char *dir)
{
    struct store_options opt = {.tables = s->tables, .n_tables = s->n_tables};
    struct store *to = NULL;
    struct store_txn *read = NULL, *write = NULL;
    int rc = store_open_lmdb(dir, &opt, &to);
    if (!rc)
        rc = store_begin(s, false, &read);
    if (!rc)
        rc = store_begin(to, true, &write);
    for (unsigned i = 0; !rc && i < s->n_tables; i++) {
        struct store_walk w = store_walk_from(read, i, view_of(NULL, 0), view_of(NULL, 0));
        while (store_walk_next(&w))
            store_put(write, i, w.key, w.value);
        rc = store_txn_error(read);
    }
    if (rc)
        store_abort(write);
    else
        rc = store_commit(write);
    store_abort(read);
    store_close(to);
    return rc;
}

static const struct store_ops memory_ops = {
    .close = memory_close,
    .begin = memory_begin,
    .commit = memory_commit,
    .abort = memory_abort,
    .get = memory_get,
    .put = memory_put,
    .del = memory_del,
    .walk = memory_walk,
    .before = memory_before,
    .usage = memory_usage,
    .stat = memory_stat,
    .copy = memory_copy,
};

int store_open_memory(const struct store_options *opt, struct store **ret_store)
{
    INVARIANT(opt->n_tables <= STORE_TABLES_MAX);
    struct memory_store *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->base.ops = &memory_ops;
    s->base.tables = opt->tables;
    s->base.n_tables = opt->n_tables;
    s->base.read_only = opt->read_only;
    s->limit = opt->map_size;
    *ret_store = &s->base;
    return 0;
}

void store_crash(struct store *s)
{
    INVARIANT(s->ops == &memory_ops);
    for (struct store_txn *t = s->txns; t; t = t->next) {
        tables_free(&txn_of(t)->t);
        txn_of(t)->dead = true;
        t->err = err_fail(ERR_CANCELLED, "store: the process of this transaction is gone");
    }
    s->writer = NULL;
    s->failed = 0;
    s->fail_calls = 0;
}

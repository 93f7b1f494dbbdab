#include "common/bus/session.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(item) ((item)->failed = true)
#include <uthash.h>

/* Sessions stand in two tables; what the tables need is kept out of sight. */
struct session_links {
    struct session s;
    bool failed;
    UT_hash_handle by_number, by_id;
};

struct session_table {
    struct session_links *by_number, *by_id;
    uint32_t last;
};

int session_table_new(struct session_table **ret_table)
{
    struct session_table *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    *ret_table = t;
    return 0;
}

void session_table_free(struct session_table *t)
{
    if (!t)
        return;
    while (t->by_number)
        session_remove(t, &t->by_number->s);
    free(t);
}

size_t session_count(const struct session_table *t)
{
    return HASH_CNT(by_number, t->by_number);
}

struct session *session_get(struct session_table *t, uint32_t number)
{
    struct session_links *x;
    HASH_FIND(by_number, t->by_number, &number, sizeof number, x);
    return x ? &x->s : NULL;
}

struct session *session_find(struct session_table *t, struct view id)
{
    struct session_links *x;
    HASH_FIND(by_id, t->by_id, id.data, id.len, x);
    return x ? &x->s : NULL;
}

int session_add(struct session_table *t, struct view id, const char *user, struct session **ret_session)
{
    size_t len = strlen(user);
    if (id.len == 0 || id.len > ROUTING_ID_MAX || len > BUS_USER_MAX)
        return ERR_MALFORMED;
    struct session_links *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    do
        t->last++;
    while (t->last == 0 || session_get(t, t->last));
    x->s.number = t->last;
    x->s.links = x;
    x->s.id_len = (uint8_t)id.len;
    memcpy(x->s.id, id.data, id.len);
    memcpy(x->s.user, user, len);
    HASH_ADD(by_number, t->by_number, s.number, sizeof x->s.number, x);
    if (x->failed) {
        free(x);
        return -ENOMEM;
    }
    HASH_ADD(by_id, t->by_id, s.id, id.len, x);
    if (x->failed) {
        HASH_DELETE(by_number, t->by_number, x);
        free(x);
        return -ENOMEM;
    }
    *ret_session = &x->s;
    return 0;
}

void session_remove(struct session_table *t, struct session *s)
{
    struct session_links *x = s->links;
    HASH_DELETE(by_number, t->by_number, x);
    HASH_DELETE(by_id, t->by_id, x);
    free(x);
}

struct session *session_surplus(struct session_table *t, const char *user, unsigned most)
{
    struct session *oldest = NULL;
    unsigned n = 0;
    for (struct session_links *x = t->by_number; x; x = x->by_number.next)
        if (strcmp(x->s.user, user) == 0) {
            n++;
            if (!oldest || x->s.heard.ns < oldest->heard.ns)
                oldest = &x->s;
        }
    return n >= most ? oldest : NULL;
}

struct session *session_stale(struct session_table *t, struct mono before)
{
    for (struct session_links *x = t->by_number; x; x = x->by_number.next)
        if (x->s.heard.ns < before.ns)
            return &x->s;
    return NULL;
}

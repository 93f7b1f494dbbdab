#include <stdio.h>

#include "services/node/core.h"

/* Where this site is taken in: its parent first, then further sites above it, nearest first. Addresses come
 * from the invitation and from the site that this one is connected to; who may stand there and with which key
 * is said by this site's own chain alone. */

/* The level of a site above this one, from the central site at 0; -1: it is not above. */
static int level_of(const struct node *n, const char *code)
{
    for (unsigned i = 0; i < n->id.depth; i++)
        if (strcmp(n->id.path[i].code.s, code) == 0)
            return (int)i;
    return -1;
}

struct place_list {
    struct node_place place[NODE_PARENTS_MAX];
    unsigned n;
};

/* Only upward, and each level once; what does not fit is left out. */
static void list_add(const struct node *n, struct place_list *l, const struct node_place *p)
{
    int level = level_of(n, p->code.s);
    int last = l->n ? level_of(n, l->place[l->n - 1].code.s) : (int)n->id.depth;
    if (level < 0 || level >= last || l->n == NODE_PARENTS_MAX)
        return;
    l->place[l->n] = *p;
    memcpy(l->place[l->n++].link_key, n->id.path[level].link_key, 32);
}

static bool list_use(struct node *n, const struct place_list *l)
{
    bool other = l->n != n->n_places;
    for (unsigned i = 0; i < l->n && !other; i++)
        other = strcmp(l->place[i].code.s, n->places[i].code.s) != 0 ||
                strcmp(l->place[i].endpoint, n->places[i].endpoint) != 0 ||
                strcmp(l->place[i].hints, n->places[i].hints) != 0;
    memcpy(n->places, l->place, sizeof n->places);
    n->n_places = l->n;
    return other;
}

static void places_store(struct step *s)
{
    struct node *n = s->n;
    Sitetree__Place space[NODE_PARENTS_MAX], *list[NODE_PARENTS_MAX];
    for (unsigned i = 0; i < n->n_places; i++) {
        space[i] = (Sitetree__Place)SITETREE__PLACE__INIT;
        place_fill(&space[i], &n->places[i]);
        list[i] = &space[i];
    }
    Sitetree__StoredPlaces m = SITETREE__STORED_PLACES__INIT;
    m.places = list;
    m.n_places = n->n_places;
    struct key k = key_text("places");
    table_put(s->txn, TABLE_META, &k, &m.base);
}

int places_start(struct step *s)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    struct place_list l = {0};
    struct node_place p;
    Sitetree__StoredPlaces *m;
    struct key k = key_text("places");
    list_add(n, &l, &n->opt.parents[0]); /* the parent is reached as the invitation says */
    int rc = table_get(s->txn, TABLE_META, &k, &a, &sitetree__stored_places__descriptor, &m);
    for (size_t i = 0; !rc && i < m->n_places; i++)
        if (place_take(m->places[i], &p) == 0)
            list_add(n, &l, &p);
    if (rc && rc != ERR_NOT_FOUND)
        return rc;
    for (unsigned i = 1; l.n < 2 && i < n->opt.n_parents; i++)
        list_add(n, &l, &n->opt.parents[i]);
    if (l.n == 0)
        return err_fail(ERR_CONFIG, "%s is not above %s in its chain of certificates",
            n->opt.parents[0].code.s, n->opt.site.s);
    (void)list_use(n, &l);
    return 0;
}

void places_adopt(struct step *s, unsigned from, Sitetree__Place *const *told, size_t n_told)
{
    struct node *n = s->n;
    struct place_list l = {0};
    for (unsigned i = 0; i <= from && i < n->n_places; i++)
        list_add(n, &l, &n->places[i]);
    for (size_t i = 0; i < n_told && i < NODE_PARENTS_MAX; i++) {
        struct node_place p;
        int rc = place_take(told[i], &p), level = rc ? -1 : level_of(n, p.code.s);
        if (level < 0 || memcmp(p.link_key, n->id.path[level].link_key, 32) != 0) {
            char text[160];
            snprintf(text, sizeof text, "%s names '%.31s' as a place above, which the chain does not",
                n->places[from].code.s, rc ? "?" : p.code.s);
            refusal_note(s, n->places[from].code.s, true, ERR_KEY, text);
            continue;
        }
        list_add(n, &l, &p);
    }
    if (list_use(n, &l))
        places_store(s);
}

struct blob *place_blob(const struct node_place *p)
{
    AUTO_BUF bytes = {0};
    Sitetree__Place m = SITETREE__PLACE__INIT;
    place_fill(&m, p);
    message_pack(&m.base, &bytes);
    return bytes.err ? NULL : blob_new(bytes.data, bytes.len);
}

int place_of_blob(struct view bytes, struct node_place *ret_place)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__Place *m = MESSAGE_UNPACK(&a, bytes, 4096, place, &rc);
    return m ? place_take(m, ret_place) : rc;
}

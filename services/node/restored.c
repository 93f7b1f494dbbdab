#include "services/node/core.h"

/* A central site whose folder came from a backup does not know what it has signed since. It signs nothing in
 * the epoch of the backup before every child that it knows has said hello and holds nothing newer; or an
 * operator opens a new epoch. Its worker publishes nothing meanwhile (services/metadata/fence.c). */

int restored_start(struct step *s)
{
    uint64_t at;
    int rc = table_number_get(s->txn, RESTORED_WORD, &at);
    s->n->restored = rc == 0 && at != 0 && s->n->id.depth == 0;
    return rc;
}

void restored_end(struct step *s, const char *why)
{
    if (!s->n->restored)
        return;
    s->n->restored = false;
    table_number_put(s->txn, RESTORED_WORD, 0);
    EVENT(s, "site.released", .text = why);
    relay_site_info(s, 0);
}

void restored_hear(struct step *s, const struct session *c)
{
    struct node *n = s->n;
    static const struct epoch none;
    unsigned children = 0, vouched = 0;
    if (!n->restored)
        return;
    c->site->vouched = n->worker_full && !epoch_eq(&c->epoch, &none) &&
                       epoch_eq(&c->epoch, &n->self.last.epoch) && c->generation <= n->self.last.generation;
    for (size_t i = 0; i < n->n_sites; i++) {
        const struct site *site = n->sites[i];
        if (!site->known || site->up != &n->self)
            continue;
        children++;
        vouched += site->vouched;
    }
    if (children && vouched == children)
        restored_end(s, "every child was heard, and none holds anything newer");
}

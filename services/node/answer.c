#include "services/node/core.h"

#include <stdlib.h>

/* What the node puts to an answer of its worker: what the sites of the tree have reported, and its own store.
 */

enum addition answer_addition(const char *command, json_t *args)
{
    if (strcmp(command, "verify") == 0 &&
        (json_is_true(json_object_get(args, "all")) || args_text(args, "site")))
        return ADD_SITES;
    if (strcmp(command, "recall") == 0 || strcmp(command, "recall.show") == 0)
        return ADD_RECALL;
    if (strcmp(command, "recall.list") == 0)
        return ADD_RECALLS;
    if (strcmp(command, "plan") == 0)
        return ADD_PLAN;
    return strcmp(command, "store.stat") == 0 ? ADD_STORE : ADD_NONE;
}

/* The sites' signed reports beside what this site recomputed. Whoever is silent is not called equal. */
static json_t *compare_sites(struct step *s, const char *only, const char *root, bool *ret_fine)
{
    const struct node *n = s->n;
    const struct site **list;
    size_t count;
    json_t *sites = json_array();
    *ret_fine = sites_in_order(n, &n->self, &list, &count) == 0;
    if (!*ret_fine)
        return sites;
    for (size_t i = 0; i < count; i++) {
        const struct site *site = list[i];
        if (only[0] && strcmp(site->cert.code.s, only) != 0)
            continue;
        bool self = site == &n->self, heard = site->reported && site_heard(n, site, s->in->wall);
        bool told = self ? n->rooted : heard && !hash_is_zero(&site->last.root);
        char hex[65];
        bool equal = told && strcmp(hex_encode(site->last.root.b, 32, hex), root) == 0;
        *ret_fine = *ret_fine && equal;
        json_array_append_new(
            sites, json_pack("{s:s, s:o, s:o, s:o, s:o}", "site", site->cert.code.s, "generation",
                       told ? json_integer((json_int_t)site->last.generation) : json_null(), "root",
                       told ? json_hex(site->last.root.b, 32) : json_null(), "equal",
                       told ? json_boolean(equal) : json_null(), "seen",
                       site->heard.ns ? json_seconds(s->in->wall.ns - site->heard.ns) : json_null()));
    }
    free(list);
    return sites;
}

static void add_sites(struct step *s, const char *only, json_t *answer)
{
    json_t *data = json_object_get(answer, "data");
    const char *root = json_string_value(json_object_get(data, "recomputed"));
    bool fine;
    if (!root)
        return;
    json_object_set_new(data, "sites", compare_sites(s, only, root, &fine));
    if (!fine && json_integer_value(json_object_get(answer, "exit")) == 0)
        json_object_set_new(answer, "exit", json_integer(3));
}

static void add_store(const struct node *n, json_t *answer)
{
    struct store_stat stat;
    store_stat(n->store, &stat);
    json_t *tables = json_object();
    for (unsigned i = 0; i < node_n_tables; i++)
        json_object_set_new(tables, node_tables[i], json_integer((json_int_t)stat.entries[i]));
    json_array_append_new(json_object_get(json_object_get(answer, "data"), "stores"),
        json_pack("{s:s, s:I, s:I, s:o, s:i, s:I, s:f}", "store", "node", "used", (json_int_t)stat.used_bytes,
            "limit", (json_int_t)stat.limit_bytes, "tables", tables, "readers", (int)stat.readers, "commits",
            (json_int_t)stat.commits, "slowest_commit", (double)stat.slowest_commit_ns / NS_PER_S));
}

enum heeding { HEEDS_APPLIED, HEEDS_AHEAD, HEEDS_NOT_YET, HEEDS_OFFLINE };

/* Whether the recall of this generation is in force at a site, by what it reported last: once is for good.
 * The worker that answers has it. */
static enum heeding heeding_of(const struct step *s, const struct site *site, uint64_t generation)
{
    const struct node *n = s->n;
    const struct summary *m = &site->last;
    if (site == &n->self)
        return HEEDS_APPLIED;
    bool same = site->reported && epoch_eq(&m->epoch, &n->self.last.epoch);
    if (same && m->generation >= generation)
        return HEEDS_APPLIED;
    if (site->reported && (m->recalled == generation || (same && m->recalled > generation)))
        return HEEDS_AHEAD;
    return site_heard(n, site, s->in->wall) ? HEEDS_NOT_YET : HEEDS_OFFLINE;
}

static json_t *heeding_json(
    const struct step *s, const struct site *site, json_t *recall, uint64_t generation)
{
    static const char *const words[] = {"confirmed", "ahead", "waiting", "offline"};
    const struct node *n = s->n;
    const struct summary *m = &site->last;
    enum heeding h = heeding_of(s, site, generation);
    const char *cause = "";
    if (h > HEEDS_AHEAD)
        (void)site_class_of(n, site, s->in->wall, &cause);
    json_t *begun = json_object_get(recall, "at");
    json_t *at = site == &n->self && json_is_string(begun)       ? json_incref(begun)
                 : h <= HEEDS_AHEAD && m->recalled == generation ? json_wall(m->recalled_at)
                                                                 : json_null(); /* a later one stands there */
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "site", site->cert.code.s, "state", words[h],
        "generation",
        site == &n->self                  ? json_integer((json_int_t)generation)
        : site->reported && m->generation ? json_integer((json_int_t)m->generation)
                                          : json_null(),
        "at", at, "cause", json_text_or_null(cause), "seen",
        site->heard.ns ? json_seconds(s->in->wall.ns - site->heard.ns) : json_null());
}

/* A recall with the sites that have it, or not; list: each of them. */
static int count_recall(struct step *s, json_t *recall, bool list, bool *ret_all)
{
    const struct node *n = s->n;
    uint64_t generation = (uint64_t)json_integer_value(json_object_get(recall, "generation"));
    const struct site **order;
    size_t count;
    json_int_t confirmed = 0, offline = 0;
    int rc = sites_in_order(n, &n->self, &order, &count);
    if (rc)
        return rc;
    json_t *sites = json_array();
    for (size_t i = 0; i < count; i++) {
        enum heeding h = heeding_of(s, order[i], generation);
        confirmed += h <= HEEDS_AHEAD;
        offline += h == HEEDS_OFFLINE;
        if (list)
            json_array_append_new(sites, heeding_json(s, order[i], recall, generation));
    }
    free(order);
    json_object_set_new(recall, "confirmed", json_integer(confirmed));
    json_object_set_new(recall, "offline", json_integer(offline));
    json_object_set_new(recall, "of", json_integer((json_int_t)count));
    if (list)
        json_object_set(recall, "sites", sites);
    json_decref(sites);
    *ret_all = confirmed == (json_int_t)count;
    return 0;
}

static int add_recall(struct step *s, json_t *answer)
{
    json_t *data = json_object_get(answer, "data");
    bool all;
    if (!json_is_integer(json_object_get(data, "generation")))
        return 0; /* an error, or what would be recalled */
    int rc = count_recall(s, data, true, &all);
    if (!rc && !all)
        json_object_set_new(answer, "exit", json_integer(3));
    return rc;
}

static int add_recalls(struct step *s, json_t *answer)
{
    json_t *one;
    size_t i;
    bool all;
    int rc = 0;
    json_array_foreach(json_object_get(json_object_get(answer, "data"), "recalls"), i, one) if (!rc) rc =
        count_recall(s, one, false, &all);
    return rc;
}

/* Each site below takes the same in, and first what it is behind by. */
static int add_plan(struct step *s, json_t *answer)
{
    const struct node *n = s->n;
    json_t *data = json_object_get(answer, "data"), *sites = json_array();
    const struct site **order;
    size_t count;
    int rc = json_is_object(data) ? sites_in_order(n, &n->self, &order, &count) : 0;
    if (rc || !json_is_object(data)) {
        json_decref(sites);
        return rc;
    }
    json_int_t items = json_integer_value(json_object_get(data, "items"));
    json_int_t bytes = json_integer_value(json_object_get(data, "bytes"));
    for (size_t i = 0; i < count; i++) {
        const struct site *site = order[i];
        bool told = site->reported && site->last.generation;
        if (site == &n->self)
            continue;
        json_t *backlog = told ? json_integer((json_int_t)site->last.backlog) : json_null();
        json_array_append_new(
            sites, json_pack("{s:s, s:I, s:I, s:o, s:b, s:o}", "site", site->cert.code.s, "items", items,
                       "bytes", bytes, "backlog", backlog, "heard", site_heard(n, site, s->in->wall),
                       "generation", told ? json_integer((json_int_t)site->last.generation) : json_null()));
    }
    free(order);
    json_object_set_new(data, "sites", sites);
    return 0;
}

struct blob *answer_with(struct step *s, const struct pending *asked, struct view text)
{
    if (asked->add == ADD_NONE)
        return NULL;
    json_t *j = json_loadb((const char *)text.data, text.len, 0, NULL);
    int rc = 0;
    switch (asked->add) {
    case ADD_SITES:
        add_sites(s, asked->site, j);
        break;
    case ADD_STORE:
        add_store(s->n, j);
        break;
    case ADD_RECALL:
        rc = add_recall(s, j);
        break;
    case ADD_RECALLS:
        rc = add_recalls(s, j);
        break;
    case ADD_PLAN:
        rc = add_plan(s, j);
        break;
    case ADD_NONE:
        break;
    }
    char *out = j && !rc ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    struct blob *b = out ? blob_new(out, strlen(out)) : NULL;
    free(out);
    return b;
}

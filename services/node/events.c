#include "services/node/core.h"

#include <stdlib.h>

static struct view word_take(struct view *line)
{
    size_t n = 0, skip = 0;
    while (skip < line->len && (line->data[skip] == ' ' || line->data[skip] == '\t'))
        skip++;
    while (skip + n < line->len && line->data[skip + n] != ' ' && line->data[skip + n] != '\t')
        n++;
    struct view w = view_of(line->data + skip, n);
    *line = view_of(line->data + skip + n, line->len - skip - n);
    return w;
}

static int row_parse(struct view line, struct event_row *ret_row)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    struct view whole = line;
    struct event_row r = {.name = word_take(&line)};
    struct view legacy = word_take(&line);
    r.level = word_take(&line);
    while (line.len && (*line.data == ' ' || *line.data == '\t'))
        line = view_of(line.data + 1, line.len - 1);
    r.sentence = line;
    bool level = false, number = legacy.len > 0 && legacy.len < 7;
    for (size_t i = 0; i < COUNT_OF(levels); i++)
        level = level || view_eq(r.level, view_str(levels[i]));
    for (size_t i = 0; i < legacy.len; i++) {
        number = number && legacy.data[i] >= '0' && legacy.data[i] <= '9';
        r.legacy = r.legacy * 10 + (unsigned)(legacy.data[i] - '0');
    }
    if (!level || !number || r.name.len > 39 || r.sentence.len == 0)
        return err_fail(ERR_CONFIG, "events: not a row: '%.*s'", (int)(whole.len < 60 ? whole.len : 60),
            (const char *)whole.data);
    *ret_row = r;
    return 0;
}

int event_next(struct view text, size_t *offset, struct event_row *ret_row)
{
    while (*offset < text.len) {
        const uint8_t *start = text.data + *offset;
        const uint8_t *end = memchr(start, '\n', text.len - *offset);
        size_t n = end ? (size_t)(end - start) : text.len - *offset;
        *offset += n + (end != NULL);
        struct view rest = view_of(start, n);
        struct view first = word_take(&rest);
        if (first.len && first.data[0] != '#')
            return row_parse(view_of(start, n), ret_row);
    }
    return ERR_NOT_FOUND;
}

int event_find(struct view text, const char *name, struct event_row *ret_row)
{
    size_t offset = 0;
    int rc;
    struct event_row row;
    while ((rc = event_next(text, &offset, &row)) == 0)
        if (view_eq(row.name, view_str(name))) {
            *ret_row = row;
            return 0;
        }
    return rc;
}

static json_t *text_of(struct view v)
{
    return json_stringn((const char *)v.data, v.len);
}

static json_t *event_json(uint64_t serial, const Sitetree__StoredEvent *m)
{
    struct event_row row = {.level = view_str("info")};
    bool found = event_find(events_builtin, m->name, &row) == 0;
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "at",
        json_wall((struct wall){(int64_t)m->at}), "name", m->name, "legacy",
        found && row.legacy ? json_integer(row.legacy) : json_null(), "level", text_of(row.level), "site",
        json_text_or_null(m->site), "run", json_text_or_null(m->run), "phase", json_text_or_null(m->phase),
        "code", m->code ? json_string(err_word(m->code)) : json_null(), "text",
        m->text[0] || !found ? json_safe(m->text) : text_of(row.sentence), "serial", (json_int_t)serial);
}

static void tell_followers(struct step *s, const Sitetree__StoredEvent *m)
{
    struct node *n = s->n;
    for (size_t i = 0; i < n->n_followers; i++)
        if (!n->follow_names[i][0] || strcmp(n->follow_names[i], m->name) == 0) {
            json_t *list = json_array();
            json_array_append_new(list, event_json(n->event_serial, m));
            reply_data(s, n->followers[i], "events", json_pack("{s:o}", "events", list), 0, true);
        }
}

static char *text(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

void event_write(struct step *s, const struct event *e)
{
    struct node *n = s->n;
    Sitetree__StoredEvent m = SITETREE__STORED_EVENT__INIT;
    m.at = (uint64_t)s->in->wall.ns;
    m.name = text(e->name);
    m.site = text(e->site ? e->site : n->opt.site.s);
    m.run = text(e->run);
    m.phase = text(e->phase);
    m.code = e->code;
    m.text = text(e->text);
    struct key k = key_number(++n->event_serial);
    table_put(s->txn, TABLE_EVENTS, &k, &m.base);
    if (n->event_serial > EVENTS_KEEP)
        table_trim(s->txn, TABLE_EVENTS, n->event_serial - EVENTS_KEEP, 4);
    tell_followers(s, &m);
}

void refusal_note(struct step *s, const char *site, bool by_us, int code, const char *why)
{
    struct node *n = s->n;
    n->refusals++;
    if (s->in->now.ns - n->refusal_stored.ns > NS_PER_S)
        n->refusal_burst = 0;
    if (n->refusal_burst++ >= 10) /* a neighbour that sends nothing but nonsense does not write to our disk */
        return;
    n->refusal_stored = s->in->now;
    Sitetree__StoredRefusal m = SITETREE__STORED_REFUSAL__INIT;
    m.at = (uint64_t)s->in->wall.ns;
    m.site = text(site);
    m.by_us = by_us;
    m.code = code;
    m.text = text(why);
    struct key k = key_number(++n->refusal_serial);
    table_put(s->txn, TABLE_REFUSALS, &k, &m.base);
    if (n->refusal_serial > REFUSALS_KEEP)
        table_trim(s->txn, TABLE_REFUSALS, n->refusal_serial - REFUSALS_KEEP, 4);
}

struct event_query {
    struct wall since;
    const char *name;
    size_t limit;
};

/* The newest `limit` that match, oldest first. */
static int events_collect(struct step *s, const struct event_query *q, json_t *list)
{
    AUTO_ARENA a;
    arena_init(&a);
    uint64_t last = s->n->event_serial;
    bool all = q->name || q->since.ns;
    struct key first = key_number(all || last < q->limit ? 0 : last - q->limit + 1);
    struct store_walk w = store_walk_from(s->txn, TABLE_EVENTS, key_view(&first), view_of(NULL, 0));
    while (store_walk_next(&w)) {
        Sitetree__StoredEvent *m;
        uint64_t serial;
        int rc = key_to_number(w.key, &serial);
        if (!rc)
            rc = table_read(w.value, &a, &sitetree__stored_event__descriptor, &m);
        if (rc)
            return rc;
        if ((int64_t)m->at >= q->since.ns && (!q->name || strcmp(q->name, m->name) == 0)) {
            json_array_append_new(list, event_json(serial, m));
            if (json_array_size(list) > q->limit)
                json_array_remove(list, 0);
        }
        arena_reset(&a);
    }
    return store_txn_error(s->txn);
}

static int follow(struct node *n, uint64_t command, const char *name)
{
    if (n->n_followers == n->cap_followers) {
        size_t cap = n->cap_followers ? n->cap_followers * 2 : 4;
        if (cap > 64)
            return err_fail(ERR_BUSY, "64 listeners follow the events already");
        uint64_t *list = realloc(n->followers, cap * sizeof *list);
        if (list)
            n->followers = list;
        void *names = realloc(n->follow_names, cap * sizeof *n->follow_names);
        if (names)
            n->follow_names = names;
        if (!list || !names)
            return -ENOMEM;
        n->cap_followers = cap;
    }
    n->followers[n->n_followers] = command;
    copy_text(n->follow_names[n->n_followers], sizeof *n->follow_names, name ? name : "");
    n->n_followers++;
    return 0;
}

void events_unfollow(struct node *n, uint64_t command)
{
    for (size_t i = 0; i < n->n_followers; i++)
        if (n->followers[i] == command) {
            n->n_followers--;
            n->followers[i] = n->followers[n->n_followers];
            memcpy(n->follow_names[i], n->follow_names[n->n_followers], sizeof *n->follow_names);
            i--;
        }
}

int events_command(struct step *s, json_t *args)
{
    json_t *limit = json_object_get(args, "limit");
    struct event_query q = {.name = args_text(args, "name"), .limit = 200};
    const char *since = args_text(args, "since");
    bool goes_on = json_is_true(json_object_get(args, "follow"));
    if (json_is_integer(limit))
        q.limit = json_integer_value(limit) < 0 ? 0 : (size_t)json_integer_value(limit);
    if (q.limit > 5000)
        q.limit = 5000;
    if (since) {
        int64_t ago;
        if (wall_parse(since, &q.since) && duration_parse(since, &ago) == 0)
            q.since.ns = s->in->wall.ns - ago;
        else if (q.since.ns == 0)
            return err_fail(ERR_USAGE, "'%.40s' is neither a time nor a duration", since);
    }
    json_t *list = json_array();
    int rc = events_collect(s, &q, list);
    if (!rc && goes_on)
        rc = follow(s->n, s->in->command, q.name);
    if (rc) {
        json_decref(list);
        return rc;
    }
    reply_data(s, s->in->command, "events", json_pack("{s:o}", "events", list), 0, goes_on);
    return 0;
}

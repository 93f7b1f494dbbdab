/* What follows a success: the policy of the site, and the request to each child, repeated until it is
 * acknowledged (A23, A25). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/metadata/run.h"

#define ASK_FIRST_NS (2 * NS_PER_S)
#define ASK_AGAIN_NS (30 * NS_PER_S)

/* The site's policy for its clients (A25): where the catalogue is, which generation, and that it is to be
 * scanned. A new revision after a successful run, never before it, and only where something in it has
 * changed. */
void policy_revise(struct metadata *m, struct run *r)
{
    struct view v;
    char epoch[33], at[32], id[32];
    json_t *old = meta_get(m->txn, "policy", &v) ? NULL : json_loadb((const char *)v.data, v.len, 0, NULL);
    json_int_t revision = json_integer_value(json_object_get(old, "revision"));
    hex_encode(m->applied->epoch.b, 16, epoch);
    const char *known = json_string_value(json_object_get(old, "epoch"));
    bool same = known && strcmp(known, epoch) == 0 &&
                json_integer_value(json_object_get(old, "generation")) == (json_int_t)m->applied->generation;
    json_decref(old);
    r->policy = (uint64_t)revision;
    if (same)
        return;
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:I, s:b, s:s, s:s}", "revision", revision + 1, "site",
        m->site, "catalogue", m->site, "epoch", epoch, "generation", (json_int_t)m->applied->generation,
        "scan", 1, "run", run_id(r->number, id), "made", wall_text(m->wall, at));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (text) {
        meta_put(m->txn, "policy", view_str(text));
        r->policy = (uint64_t)revision + 1;
        event_note(m, "policy.revised", r, 0, "revision %lld: clients scan against generation %llu of %s",
            (long long)revision + 1, (unsigned long long)m->applied->generation, m->site);
    }
    free(text);
    json_decref(j);
}

static struct blob *request_frame(struct metadata *m, uint64_t number)
{
    char id[32], origin[32];
    struct key8 k = key_u64(number);
    struct view v;
    if (store_get(m->txn, TABLE_RUNS, KEY(k), &v))
        return NULL;
    json_t *j = json_loadb((const char *)v.data, v.len, 0, NULL);
    const char *from = json_string_value(json_object_get(j, "origin_run"));
    snprintf(origin, sizeof origin, "%s", from ? from : run_id(number, id));
    Sitetree__SyncRequest q = SITETREE__SYNC_REQUEST__INIT;
    q.run = (char *)(uintptr_t)run_id(number, id);
    q.kind = (char *)(uintptr_t)json_string_value(json_object_get(j, "kind"));
    q.epoch = pb_bytes(view_of(m->applied->epoch.b, 16));
    q.generation = m->applied->generation;
    q.issued = (uint64_t)m->wall.ns;
    q.deadline = (uint64_t)(m->wall.ns + 4 * m->opt.stall_ns);
    q.origin_run = origin;
    struct blob *b = frame_pack(FRAME_SYNC_REQUEST, CLASS_HEAD, 0, &m->applied->epoch, &q.base, false);
    json_decref(j);
    return b;
}

static void child_ask(struct metadata *m, struct child *c)
{
    struct blob *b =
        m->out_run && m->applied && c->acked_run < m->out_run ? request_frame(m, m->out_run) : NULL;
    if (!b)
        return;
    c->asked_run = m->out_run;
    send_to(m, (struct peer){PEER_CHILD, c->session}, CLASS_HEAD, b);
}

/* The request goes out as a hint at once, and again on the pull lane until each child has acknowledged it. */
int children_ask(struct metadata *m)
{
    char id[32];
    m->out_run = m->run->number;
    meta_put_u64(m->txn, "out-run", m->out_run);
    run_store(m, m->run);
    struct blob *b = request_frame(m, m->out_run);
    if (b)
        effects_publish(m->fx, "sync-request", CLASS_HEAD, b, false);
    if (m->n_children)
        timer_set(m, TIMER_REQUEST_OUT, state_jitter(m, ASK_FIRST_NS));
    event_note(m, "sync.request-sent", m->run, 0, "%zu children are asked to follow %s", m->n_children,
        run_id(m->out_run, id));
    return 0;
}

void children_ask_again(struct metadata *m)
{
    bool open = false;
    for (size_t i = 0; i < m->n_children; i++) {
        child_ask(m, &m->children[i]);
        open = open || m->children[i].acked_run < m->out_run;
    }
    if (open)
        timer_set(m, TIMER_REQUEST_OUT, state_jitter(m, ASK_AGAIN_NS));
}

int run_on_ack(struct metadata *m, struct peer child, const struct frame *f)
{
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__SyncAck *y = FRAME_UNPACK(&a, f, sync_ack, &rc);
    uint64_t number = y ? run_number(y->run) : 0;
    for (size_t i = 0; i < m->n_children; i++) {
        struct child *c = &m->children[i];
        if (c->session != child.id || number > m->out_run || number <= c->acked_run)
            continue;
        c->acked_run = number;
        meta_put_u64(m->txn, meta_of("acked", view_str(c->site)).s, number);
    }
    return 0;
}

int run_on_child(struct metadata *m, const Sitetree__LinkState *l)
{
    size_t i = 0;
    while (i < m->n_children && m->children[i].session != l->session)
        i++;
    if (!l->up) {
        if (i < m->n_children) {
            memmove(&m->children[i], &m->children[i + 1], (m->n_children - i - 1) * sizeof *m->children);
            m->n_children--;
        }
        return 0;
    }
    if (i == m->n_children) {
        if (m->n_children == m->cap_children) {
            size_t cap = m->cap_children ? m->cap_children * 2 : 16;
            struct child *list = realloc(m->children, cap * sizeof *list);
            if (!list)
                return -ENOMEM;
            m->children = list;
            m->cap_children = cap;
        }
        m->n_children++;
        m->children[i] = (struct child){.session = l->session};
        snprintf(m->children[i].site, sizeof m->children[i].site, "%s", l->site);
        m->children[i].acked_run = meta_get_u64(m->txn, meta_of("acked", view_str(l->site)).s);
    }
    if (m->out_run && m->children[i].acked_run < m->out_run && m->timers[TIMER_REQUEST_OUT].ns == 0)
        timer_set(m, TIMER_REQUEST_OUT, state_jitter(m, ASK_FIRST_NS));
    return 0;
}

/* Performs what the core asks for. Several inputs share one transaction: while one commit flushes, the next
 * group collects. The order is: early sends, commit, then all other effects as the core gave them. */
#include <stdlib.h>

#include "common/base/log.h"
#include "services/node/driver.h"
#include "services/node/token.h"

#define BACKLOG_MAX (1u << 20)

void driver_input(struct driver *d, const struct input *in)
{
    size_t body = in->frame ? 0 : in->body.len, user = in->user.len, topic = in->topic.len;
    struct item *item = malloc(sizeof *item + body + user + topic + 1);
    if (!item) {
        d->failed = -ENOMEM;
        return;
    }
    item->next = NULL;
    item->in = *in;
    char *p = item->bytes;
    if (in->frame) {
        item->in.frame = blob_ref(in->frame);
        item->in.body = blob_view(in->frame);
    } else if (body) {
        memcpy(p, in->body.data, body);
        item->in.body = view_of(p, body);
        p += body;
    }
    if (user) {
        memcpy(p, in->user.data, user);
        item->in.user = view_of(p, user);
        p += user;
    }
    if (topic) {
        memcpy(p, in->topic.data, topic);
        item->in.topic = view_of(p, topic);
    }
    if (d->last)
        d->last->next = item;
    else
        d->first = item;
    d->last = item;
    d->n_items++;
}

static void item_pop(struct driver *d)
{
    struct item *item = d->first;
    d->first = item->next;
    if (!d->first)
        d->last = NULL;
    d->n_items--;
    blob_free(item->in.frame);
    free(item);
}

/* A child's request waits a little for a worker that is being started again; it would ask again after its
 * timeout. */
static void backlog_add(struct driver *d, uint32_t session, struct blob *frame)
{
    size_t len = blob_view(frame).len;
    if (d->backlog_bytes + len > BACKLOG_MAX || d->n_backlog == 1024) {
        d->backlog_lost++;
        return;
    }
    if (d->n_backlog == d->cap_backlog) {
        size_t cap = d->cap_backlog ? d->cap_backlog * 2 : 16;
        struct blob **list = realloc(d->backlog, cap * sizeof *list);
        if (list)
            d->backlog = list;
        uint32_t *from = realloc(d->backlog_from, cap * sizeof *from);
        if (from)
            d->backlog_from = from;
        if (!list || !from)
            return;
        d->cap_backlog = cap;
    }
    d->backlog[d->n_backlog] = blob_ref(frame);
    d->backlog_from[d->n_backlog++] = session;
    d->backlog_bytes += len;
}

static void backlog_send(struct driver *d)
{
    for (size_t i = 0; i < d->n_backlog; i++) {
        struct ipc_message m = {
            .peer = {PEER_CHILD, d->backlog_from[i]}, .lane = CLASS_BULK, .frame = d->backlog[i]};
        if (ipc_node_send(d->ipc, WORKER_METADATA, &m))
            d->backlog_lost++;
        blob_free(d->backlog[i]);
    }
    d->n_backlog = d->backlog_bytes = 0;
}

static void send_to_worker(struct driver *d, const struct effect *e)
{
    struct ipc_message m = {
        .peer = e->via, .lane = e->lane, .early = e->early, .topic = view_str(e->topic), .frame = e->frame};
    struct frame f;
    int rc = d->ipc ? ipc_node_send(d->ipc, (enum worker)e->to.id, &m) : ERR_NETWORK;
    if (rc == ERR_NETWORK && e->via.kind == PEER_CHILD)
        backlog_add(d, e->via.id, e->frame);
    else if (rc == 0 && e->via.kind == PEER_NODE && frame_parse(blob_view(e->frame), &f) == 0 &&
             f.type == FRAME_SITE_INFO) {
        backlog_send(d);
    }
}

static void perform_send(struct driver *d, struct effect *e)
{
    struct link *l;
    switch (e->to.kind) {
    case PEER_PARENT:
        if (e->to.id == PROBE) {
            if (d->probe && bus_client_send(d->probe, e->frame))
                break; /* its answer is waited for with a deadline */
        } else if (d->client && d->up.lanes && bus_client_is_up(d->client, BUS_PULL)) {
            link_send(&d->up, e->lane, e->frame);
            e->frame = NULL;
        }
        break;
    case PEER_CHILD:
        l = link_of(d, e->to.id, false);
        if (l) {
            link_send(l, e->lane, e->frame);
            e->frame = NULL;
        }
        break;
    case PEER_CHILDREN:
        if (d->server && bus_server_publish(d->server, e->topic, e->frame))
            break; /* a hint only hurries */
        break;
    case PEER_WORKER:
        send_to_worker(d, e);
        break;
    case PEER_NONE:
    case PEER_NODE:
        break;
    }
}

static void perform_access(struct driver *d, const struct effect *e)
{
    const uint8_t *key = blob_view(e->frame).data;
    if (!e->topic[0]) {
        bus_keys_del(d->bus, key);
        return;
    }
    bool invite = strncmp(e->topic, "invite:", 7) == 0;
    int rc = bus_keys_set(d->bus, key, e->topic, invite ? BUS_MAY_PULL : BUS_MAY_PULL | BUS_MAY_HINT);
    if (rc)
        log_record(LOG_ERROR, "door-not-opened", "user", e->topic, "why", err_text(rc), NULL);
}

static void perform_connect(struct driver *d, const struct effect *e)
{
    struct node_place place;
    int rc = e->frame ? place_of_blob(blob_view(e->frame), &place) : 0;
    if (!rc)
        rc = (e->to.id == PROBE ? outside_probe : outside_connect)(d, e->command, e->frame ? &place : NULL);
    if (rc)
        log_record(LOG_ERROR, "parent-not-dialled", "why", err_text(rc), NULL);
}

static void perform(struct driver *d, struct effect *e)
{
    struct view text;
    switch (e->kind) {
    case EFFECT_SEND:
        if (e->frame) /* early ones have left before */
            perform_send(d, e);
        break;
    case EFFECT_TIMER:
        if (e->timer < DRIVER_TIMERS)
            loop_timer_set(&d->timers[e->timer].timer, e->at);
        break;
    case EFFECT_REPLY:
        text = blob_view(e->frame);
        if (d->control && e->command &&
            control_server_reply(d->control, e->command, (const char *)text.data, text.len, e->more))
            break; /* whoever asked has gone */
        break;
    case EFFECT_DROP_LINKS:
        if (d->server)
            bus_server_rebind_hints(d->server);
        break;
    case EFFECT_ACCESS:
        perform_access(d, e);
        break;
    case EFFECT_CONNECT:
        perform_connect(d, e);
        break;
    case EFFECT_CLOSE:
        link_drop(d, e->to.id);
        if (d->server)
            bus_server_forget(d->server, e->to.id);
        break;
    case EFFECT_STOP:
        outside_stop(d);
        break;
    case EFFECT_JOB:
        break;
    }
}

static void perform_early(struct driver *d, size_t from)
{
    for (size_t i = from; i < d->fx.n; i++)
        if (d->fx.list[i].kind == EFFECT_SEND && d->fx.list[i].early) {
            perform_send(d, &d->fx.list[i]);
            blob_free(d->fx.list[i].frame);
            d->fx.list[i].frame = NULL;
        }
}

static int group(struct driver *d)
{
    struct store_txn *txn;
    int rc = store_begin(d->store, true, &txn);
    if (rc)
        return rc;
    for (unsigned n = 0; d->first && n < GROUP_MAX && !rc; n++) {
        size_t before = d->fx.n;
        d->first->in.now = clock_mono(&clock_real);
        d->first->in.wall = clock_wall(&clock_real);
        rc = node_step(d->node, txn, &d->first->in, &d->fx);
        if (!rc)
            perform_early(d, before);
        item_pop(d);
    }
    if (rc) {
        store_abort(txn);
        return rc;
    }
    return store_commit(txn);
}

void driver_flush(struct driver *d)
{
    while (d->first && !d->failed) {
        int rc = group(d);
        if (rc) {
            log_record(LOG_ERROR, "step-failed", "code", err_word(rc), "why", err_text(rc), "next",
                "the node starts again from its store", NULL);
            d->failed = rc;
            break;
        }
        for (size_t i = 0; i < d->fx.n; i++)
            perform(d, &d->fx.list[i]);
        effects_reset(&d->fx);
        if (!d->ready)
            outside_ready(d);
    }
    if (d->failed)
        effects_reset(&d->fx);
    while (d->failed && d->first)
        item_pop(d);
}

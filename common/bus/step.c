#include "common/bus/step.h"

#include <stdio.h>
#include <stdlib.h>

void effects_reset(struct effects *fx)
{
    for (size_t i = 0; i < fx->n; i++)
        blob_free(fx->list[i].frame);
    fx->n = 0;
    fx->err = 0;
}

void effects_done(struct effects *fx)
{
    effects_reset(fx);
    free(fx->list);
    *fx = (struct effects){0};
}

static struct effect *add(struct effects *fx, enum effect_kind kind)
{
    if (fx->n == fx->cap) {
        size_t cap = fx->cap ? fx->cap * 2 : 16;
        struct effect *list = realloc(fx->list, cap * sizeof *list);
        if (!list) {
            fx->err = -ENOMEM;
            return NULL;
        }
        fx->list = list;
        fx->cap = cap;
    }
    struct effect *e = &fx->list[fx->n++];
    *e = (struct effect){.kind = kind};
    return e;
}

static struct effect *add_frame(struct effects *fx, enum effect_kind kind, struct blob *frame)
{
    struct effect *e = frame ? add(fx, kind) : NULL;
    if (!e) {
        fx->err = -ENOMEM;
        blob_free(frame);
        return NULL;
    }
    e->frame = frame;
    return e;
}

static void send_frame(
    struct effects *fx, struct peer to, enum lane_class lane, struct blob *frame, bool early)
{
    struct effect *e = add_frame(fx, EFFECT_SEND, frame);
    if (e) {
        e->to = to;
        e->lane = lane;
        e->early = early;
    }
}

void effects_send(struct effects *fx, struct peer to, enum lane_class lane, struct blob *frame)
{
    send_frame(fx, to, lane, frame, false);
}

void effects_send_early(struct effects *fx, struct peer to, enum lane_class lane, struct blob *frame)
{
    send_frame(fx, to, lane, frame, true);
}

void effects_publish(
    struct effects *fx, const char *topic, enum lane_class lane, struct blob *frame, bool early)
{
    struct effect *e = add_frame(fx, EFFECT_SEND, frame);
    if (e) {
        e->to.kind = PEER_CHILDREN;
        e->lane = lane;
        e->early = early;
        snprintf(e->topic, sizeof e->topic, "%s", topic);
    }
}

void effects_timer(struct effects *fx, unsigned timer, struct mono at)
{
    struct effect *e = add(fx, EFFECT_TIMER);
    if (e) {
        e->timer = timer;
        e->at = at;
    }
}

void effects_reply(struct effects *fx, uint64_t command, bool more, struct blob *json)
{
    struct effect *e = add_frame(fx, EFFECT_REPLY, json);
    if (e) {
        e->command = command;
        e->more = more;
    }
}

void effects_job(struct effects *fx, unsigned job, struct blob *argument)
{
    struct effect *e = add_frame(fx, EFFECT_JOB, argument);
    if (e)
        e->timer = job;
}

void effects_drop_links(struct effects *fx)
{
    add(fx, EFFECT_DROP_LINKS);
}

void effects_stop(struct effects *fx)
{
    add(fx, EFFECT_STOP);
}

void effects_worker(
    struct effects *fx, enum worker worker, struct peer via, struct view topic, struct blob *frame)
{
    struct effect *e = add_frame(fx, EFFECT_SEND, frame);
    if (!e)
        return;
    e->to = (struct peer){PEER_WORKER, worker};
    e->via = via;
    size_t n = topic.len < sizeof e->topic - 1 ? topic.len : sizeof e->topic - 1;
    if (n)
        memcpy(e->topic, topic.data, n);
}

void effects_access(struct effects *fx, const uint8_t link_key[32], const char *user)
{
    struct effect *e = add_frame(fx, EFFECT_ACCESS, blob_new(link_key, 32));
    if (e && user)
        snprintf(e->topic, sizeof e->topic, "%s", user);
}

void effects_connect(struct effects *fx, struct peer to, uint64_t number, struct blob *place)
{
    struct effect *e = add_frame(fx, EFFECT_CONNECT, place);
    if (e) {
        e->to = to;
        e->command = number;
    }
}

void effects_disconnect(struct effects *fx, struct peer to)
{
    struct effect *e = add(fx, EFFECT_CONNECT);
    if (e)
        e->to = to;
}

void effects_close(struct effects *fx, struct peer peer)
{
    struct effect *e = add(fx, EFFECT_CLOSE);
    if (e)
        e->to = peer;
}

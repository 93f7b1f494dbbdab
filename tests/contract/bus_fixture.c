#include "tests/contract/bus_fixture.h"

struct bus *bus;
struct loop *loop;

static void on_message(void *ctx, uint32_t session, const char *user, struct blob *frame)
{
    struct heard *h = ctx;
    h->messages++;
    h->session = session;
    snprintf(h->user, sizeof h->user, "%s", user);
    blob_free(h->frame);
    h->frame = blob_ref(frame);
    if (h->echo)
        assert_int_equal(bus_server_send(h->server, session, frame), 0);
}

static void on_gone(void *ctx, uint32_t session)
{
    struct heard *h = ctx;
    h->gone++;
    h->gone_session = session;
}

static void on_subscribe(void *ctx, const char *user, struct view topic)
{
    struct heard *h = ctx;
    (void)topic;
    h->subscriptions++;
    snprintf(h->subscriber, sizeof h->subscriber, "%s", user);
}

static void on_trouble(void *ctx, int err, const char *text)
{
    struct heard *h = ctx;
    (void)err;
    (void)text;
    h->troubles++;
}

static void on_client_message(void *ctx, struct blob *frame)
{
    struct got *g = ctx;
    g->messages++;
    g->bytes += blob_view(frame).len;
    blob_free(g->frame);
    g->frame = blob_ref(frame);
}

static void on_client_hint(void *ctx, struct view topic, struct blob *frame)
{
    struct got *g = ctx;
    g->hints++;
    snprintf(g->topic, sizeof g->topic, "%.*s", (int)topic.len, (const char *)topic.data);
    blob_free(g->frame);
    g->frame = blob_ref(frame);
}

static void on_state(void *ctx, enum bus_lane lane, enum bus_client_state state, const char *why)
{
    struct got *g = ctx;
    g->states[lane][state]++;
    if (*why)
        snprintf(g->why, sizeof g->why, "%s", why);
}

void run_for(int64_t ns)
{
    int64_t end = clock_mono(&clock_real).ns + ns;
    while (clock_mono(&clock_real).ns < end)
        assert_int_equal(loop_turn(loop, 5 * NS_PER_MS), 0);
}

struct bus_server *server_open(
    struct heard *h, const struct link_key *key, const char *pull, const char *hints)
{
    struct bus_server_options o;
    struct bus_server_events ev = {on_message, on_gone, on_subscribe, on_trouble, h};
    bus_server_options_default(&o);
    o.pull = pull;
    o.hints = hints;
    o.key = *key;
    int rc = bus_server_open(bus, loop, &o, &ev, &h->server);
    if (rc)
        fail_msg("server: %s", err_text(rc));
    return h->server;
}

struct bus_client *client_open(struct got *g, struct bus_server *s, const struct link_key *server_key,
    const struct link_key *own, bool hints, const struct bus_client_options *o)
{
    struct bus_client_options mine;
    struct bus_client_events ev = {on_client_message, on_client_hint, on_state, g};
    struct bus_place place = {0};
    struct bus_client *c = NULL;
    if (o)
        mine = *o;
    else
        bus_client_options_default(&mine);
    mine.key = *own;
    memcpy(place.key, server_key->public, 32);
    snprintf(place.pull, sizeof place.pull, "127.0.0.1:%u", bus_server_port(s, BUS_PULL));
    if (hints)
        snprintf(place.hints, sizeof place.hints, "127.0.0.1:%u", bus_server_port(s, BUS_HINT));
    int rc = bus_client_open(bus, loop, &mine, &place, &ev, &c);
    if (rc)
        fail_msg("client: %s", err_text(rc));
    return c;
}

struct blob *text_frame(const char *text)
{
    struct blob *b = blob_new(text, strlen(text));
    assert_non_null(b);
    return b;
}

bool frame_is(struct blob *frame, const char *text)
{
    return frame && view_eq(blob_view(frame), view_str(text));
}

void heard_done(struct heard *h)
{
    blob_free(h->frame);
    *h = (struct heard){0};
}

void got_done(struct got *g)
{
    blob_free(g->frame);
    *g = (struct got){0};
}

int fixture_setup(void **state)
{
    (void)state;
    return loop_new(&clock_real, &loop) || bus_open(2, &bus);
}

int fixture_teardown(void **state)
{
    (void)state;
    bus_close(bus);
    loop_free(loop);
    return 0;
}

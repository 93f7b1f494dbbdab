/* The bus on loopback: who comes in, what arrives, and what heals by itself. */
#include "tests/contract/bus_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bus/socket.h" /* to send what the bus itself refuses to send */

static struct link_key server_key, alice, bob;
static struct heard h;
static struct got g;
static struct bus_server *server;

static int setup(void **state)
{
    (void)state;
    link_key_new(&server_key);
    link_key_new(&alice);
    link_key_new(&bob);
    bus_keys_clear(bus);
    if (bus_keys_set(bus, alice.public, "ALICE", BUS_MAY_PULL | BUS_MAY_HINT))
        return -1;
    server = server_open(&h, &server_key, "127.0.0.1:0", "127.0.0.1:0");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bus_server_close(server);
    heard_done(&h);
    got_done(&g);
    return 0;
}

static void send_text(struct bus_client *c, const char *text)
{
    AUTO_BLOB *frame = text_frame(text);
    assert_int_equal(bus_client_send(c, frame), 0);
}

static void an_allowed_key_passes_and_its_user_arrives(void **state)
{
    (void)state;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, false, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL));
    send_text(c, "hello");
    wait_until(h.messages == 1);
    assert_string_equal(h.user, "ALICE");
    assert_true(frame_is(h.frame, "hello"));
    assert_int_not_equal(h.session, 0);
    assert_string_equal(bus_server_user(server, h.session), "ALICE");
    AUTO_BLOB *answer = text_frame("welcome");
    assert_int_equal(bus_server_send(server, h.session, answer), 0);
    wait_until(g.messages == 1);
    assert_true(frame_is(g.frame, "welcome"));
    assert_int_equal(g.states[BUS_PULL][BUS_UP], 1);
    bus_client_close(c);
}

static void a_wrong_key_is_refused_and_counted(void **state)
{
    (void)state;
    struct bus_door before, after;
    char text[15];
    bus_door_get(bus, &before);
    struct bus_client *c = client_open(&g, server, &server_key, &bob, true, NULL);
    wait_until(g.states[BUS_PULL][BUS_REFUSED] > 0 && g.states[BUS_HINT][BUS_REFUSED] > 0);
    assert_string_equal(g.why, "the parent does not admit this site's key (400)");
    AUTO_BLOB *frame = text_frame("let me in");
    assert_int_equal(bus_client_send(c, frame), ERR_NETWORK);
    bus_door_get(bus, &after);
    assert_true(after.refused >= before.refused + 2);
    assert_int_equal(after.accepted, before.accepted);
    assert_memory_equal(after.last_key, bob.public, 32);
    assert_string_equal(after.last_address, "127.0.0.1");
    assert_int_equal(strlen(bus_key_text(after.last_key, text)), 14);
    assert_int_equal(h.messages, 0);
    bus_client_close(c);
}

static void a_wrong_server_key_is_refused_by_the_client(void **state)
{
    (void)state;
    struct link_key other;
    struct bus_client_options o;
    bus_client_options_default(&o);
    o.reconnect_min_ns = 10 * NS_PER_MS;
    o.reconnect_max_ns = 40 * NS_PER_MS;
    link_key_new(&other);
    struct bus_client *c = client_open(&g, server, &other, &alice, false, &o);
    /* libzmq tries again by itself some times, then the watchdog takes over. */
    wait_until(g.states[BUS_PULL][BUS_REFUSED] > 0 && g.states[BUS_PULL][BUS_REPLACED] > 0);
    assert_int_equal(g.states[BUS_PULL][BUS_UP], 0);
    assert_non_null(strstr(g.why, "is it the right parent and key?"));
    bus_client_close(c);
}

static void the_self_test_is_not_counted(void **state)
{
    (void)state;
    struct bus_door before, after;
    bus_door_get(bus, &before);
    struct heard other = {0};
    struct bus_server *s = server_open(&other, &bob, "127.0.0.1:0", "127.0.0.1:0");
    bus_door_get(bus, &after);
    assert_int_equal(after.refused, before.refused);
    bus_server_close(s);
}

static void a_removed_key_still_says_who_it_is(void **state)
{
    (void)state;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, false, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL));
    bus_keys_del(bus, alice.public);
    send_text(c, "still here");
    wait_until(h.messages == 1);
    assert_string_equal(h.user, "ALICE");
    /* The connection stays, a new one does not come about. */
    bus_client_restart(c);
    wait_until(g.states[BUS_PULL][BUS_REFUSED] > 0);
    assert_int_equal(g.states[BUS_PULL][BUS_UP], 1);
    bus_client_close(c);
}

static void later_admission_is_noticed(void **state)
{
    (void)state;
    struct bus_client_options o;
    bus_client_options_default(&o);
    o.reconnect_min_ns = 20 * NS_PER_MS;
    struct bus_client *c = client_open(&g, server, &server_key, &bob, true, &o);
    wait_until(g.states[BUS_PULL][BUS_REFUSED] >= 2 && g.states[BUS_HINT][BUS_REFUSED] >= 2);
    assert_int_equal(bus_keys_set(bus, bob.public, "BOB", BUS_MAY_PULL | BUS_MAY_HINT), 0);
    wait_until(bus_client_is_up(c, BUS_PULL) && bus_client_is_up(c, BUS_HINT));
    assert_true(g.states[BUS_PULL][BUS_REPLACED] >= 2);
    send_text(c, "at last");
    wait_until(h.messages == 1);
    assert_string_equal(h.user, "BOB");
    bus_client_close(c);
}

static void hints_reach_those_who_may_hear_them(void **state)
{
    (void)state;
    struct got nothing = {0};
    /* A key that is joining may ask, not listen. */
    assert_int_equal(bus_keys_set(bus, bob.public, "BOB", BUS_MAY_PULL), 0);
    struct bus_client *a = client_open(&g, server, &server_key, &alice, true, NULL);
    struct bus_client *b = client_open(&nothing, server, &server_key, &bob, true, NULL);
    wait_until(
        h.subscriptions == 2 && bus_client_is_up(b, BUS_PULL) && nothing.states[BUS_HINT][BUS_REFUSED] > 0);
    assert_string_equal(h.subscriber, "ALICE");
    AUTO_BLOB *frame = text_frame("head");
    assert_int_equal(bus_server_publish(server, "other/topic", frame), 0);
    assert_int_equal(bus_server_publish(server, "metadata/debian/main", frame), 0);
    wait_until(g.hints == 1);
    assert_string_equal(g.topic, "metadata/debian/main");
    assert_true(frame_is(g.frame, "head"));
    assert_int_equal(nothing.hints, 0);
    bus_client_close(a);
    bus_client_close(b);
    got_done(&nothing);
}

static void rebinding_the_hints_cuts_off_a_removed_key(void **state)
{
    (void)state;
    struct got other = {0};
    struct bus_client_options o;
    bus_client_options_default(&o);
    o.reconnect_min_ns = 20 * NS_PER_MS;
    assert_int_equal(bus_keys_set(bus, bob.public, "BOB", BUS_MAY_PULL | BUS_MAY_HINT), 0);
    struct bus_client *a = client_open(&g, server, &server_key, &alice, true, &o);
    struct bus_client *b = client_open(&other, server, &server_key, &bob, true, &o);
    wait_until(h.subscriptions == 4);
    uint16_t port = bus_server_port(server, BUS_HINT);
    bus_keys_del(bus, bob.public);
    bus_server_rebind_hints(server);
    wait_until(h.subscriptions == 6 && other.states[BUS_HINT][BUS_REFUSED] > 0);
    assert_int_equal(bus_server_port(server, BUS_HINT), port);
    AUTO_BLOB *frame = text_frame("for ALICE");
    assert_int_equal(bus_server_publish(server, "sync-request", frame), 0);
    wait_until(g.hints == 1);
    assert_int_equal(other.hints, 0);
    /* The pull lane was left alone. */
    assert_int_equal(g.states[BUS_PULL][BUS_UP], 1);
    assert_true(bus_client_is_up(b, BUS_PULL));
    struct bus_server_stats stats;
    bus_server_stats(server, &stats);
    assert_int_equal(stats.rebinds, 1);
    bus_client_close(a);
    bus_client_close(b);
    got_done(&other);
}

static void the_client_comes_back_after_a_restart_of_the_server(void **state)
{
    (void)state;
    char pull[64], hints[64];
    struct bus_client_options o;
    bus_client_options_default(&o);
    o.reconnect_min_ns = 20 * NS_PER_MS;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, true, &o);
    wait_until(bus_client_is_up(c, BUS_PULL) && bus_client_is_up(c, BUS_HINT));
    send_text(c, "one");
    wait_until(h.messages == 1);
    snprintf(pull, sizeof pull, "%s", bus_server_endpoint(server, BUS_PULL));
    snprintf(hints, sizeof hints, "%s", bus_server_endpoint(server, BUS_HINT));
    bus_server_close(server);
    wait_until(g.states[BUS_PULL][BUS_DOWN] == 1 && g.states[BUS_HINT][BUS_DOWN] == 1);
    AUTO_BLOB *lost = text_frame("nobody there");
    assert_int_equal(bus_client_send(c, lost), ERR_NETWORK);
    unsigned subscriptions = h.subscriptions;
    server = server_open(&h, &server_key, pull, hints);
    wait_until(bus_client_is_up(c, BUS_PULL) && h.subscriptions == subscriptions + 2);
    assert_int_equal(g.states[BUS_PULL][BUS_REPLACED], 0); /* libzmq's own reconnecting was enough */
    send_text(c, "two");
    wait_until(h.messages == 2);
    AUTO_BLOB *answer = text_frame("back");
    assert_int_equal(bus_server_send(server, h.session, answer), 0);
    wait_until(g.messages == 1);
    bus_client_close(c);
}

static void a_session_that_left_is_an_error_of_the_sender(void **state)
{
    (void)state;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, false, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL));
    send_text(c, "hello");
    wait_until(h.messages == 1);
    bus_client_close(c);
    AUTO_BLOB *frame = text_frame("still there?");
    int rc = 0;
    wait_until((rc = bus_server_send(server, h.session, frame)) != 0);
    assert_int_equal(rc, ERR_NETWORK);
    assert_int_equal(bus_server_send(server, h.session, frame), ERR_NETWORK);
    assert_null(bus_server_user(server, h.session));
    assert_int_equal(bus_server_send(server, 4711, frame), ERR_NETWORK);
    struct bus_server_stats stats;
    bus_server_stats(server, &stats);
    assert_int_equal(stats.sessions, 0);
    assert_int_equal(stats.unreachable, 1);
}

/* An answer for 64 KiB requests is never read: the queue fills, says so, and nothing else stops. */
static void a_full_queue_is_told(void **state)
{
    (void)state;
    struct got slow = {0};
    uint8_t *big = calloc(1, 65536);
    struct bus_client *c = client_open(&slow, server, &server_key, &alice, false, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL));
    send_text(c, "feed me");
    wait_until(h.messages == 1);
    AUTO_BLOB *frame = blob_new(big, 65536);
    unsigned sent = 0;
    int rc;
    /* No turn of the loop, so the client reads nothing. */
    while ((rc = bus_server_send(server, h.session, frame)) == 0 && sent < 100000)
        sent++;
    assert_int_equal(rc, -EAGAIN);
    struct bus_server_stats stats;
    bus_server_stats(server, &stats);
    assert_int_equal(stats.full, 1);
    wait_until(slow.messages == sent); /* none of those taken is lost */
    assert_int_equal(bus_server_send(server, h.session, frame), 0);
    wait_until(slow.messages == sent + 1);
    bus_client_close(c);
    got_done(&slow);
    free(big);
}

static void large_frames_pass_and_larger_ones_are_refused_here(void **state)
{
    (void)state;
    uint8_t *big = malloc(BUS_MESSAGE_MAX + 1);
    memset(big, 0x5a, BUS_MESSAGE_MAX + 1);
    AUTO_BLOB *largest = blob_new(big, BUS_MESSAGE_MAX);
    AUTO_BLOB *over = blob_new(big, BUS_MESSAGE_MAX + 1);
    h.echo = true;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, true, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL) && h.subscriptions == 2);
    assert_int_equal(bus_client_send(c, largest), 0);
    wait_until(g.messages == 1);
    assert_true(view_eq(blob_view(g.frame), blob_view(largest)));
    assert_int_equal(bus_server_publish(server, "metadata/x", largest), 0);
    wait_until(g.hints == 1);
    assert_int_equal(bus_client_send(c, over), ERR_TOO_LARGE);
    assert_int_equal(bus_server_send(server, h.session, over), ERR_TOO_LARGE);
    assert_int_equal(bus_server_publish(server, "metadata/x", over), ERR_TOO_LARGE);
    char topic[BUS_TOPIC_MAX + 2];
    memset(topic, 't', sizeof topic - 1);
    topic[sizeof topic - 1] = 0;
    assert_int_equal(bus_server_publish(server, topic, largest), ERR_MALFORMED);
    assert_int_equal(bus_server_publish(server, "", largest), ERR_MALFORMED);
    h.echo = false;
    bus_client_close(c);
    free(big);
}

/* Frames go out and come in without a copy: what the server hears is released when its blob is, and what was
 * sent is released by the library. */
static void released(void *flag)
{
    __atomic_store_n((bool *)flag, true, __ATOMIC_SEQ_CST);
}

static void sending_neither_copies_nor_keeps(void **state)
{
    (void)state;
    static uint8_t bytes[65536];
    static bool gone;
    gone = false;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, false, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL));
    struct blob *frame = blob_wrap(bytes, sizeof bytes, released, &gone);
    assert_non_null(frame);
    assert_int_equal(bus_client_send(c, frame), 0);
    assert_false(__atomic_load_n(&gone, __ATOMIC_SEQ_CST));
    blob_free(frame);
    wait_until(h.messages == 1 && __atomic_load_n(&gone, __ATOMIC_SEQ_CST));
    bus_client_close(c);
}

static void a_user_has_a_limited_number_of_sessions(void **state)
{
    (void)state;
    struct bus_client *c[9];
    for (unsigned i = 0; i < 9; i++) {
        c[i] = client_open(&g, server, &server_key, &alice, false, NULL);
        wait_until(bus_client_is_up(c[i], BUS_PULL));
        send_text(c[i], "hello");
        wait_until(h.messages == i + 1);
        if (i == 0)
            h.gone_session = 0;
    }
    assert_int_equal(h.gone, 1);
    struct bus_server_stats stats;
    bus_server_stats(server, &stats);
    assert_int_equal(stats.sessions, 8);
    /* The first one was pushed out; it goes on under a new number. */
    uint32_t last = h.session;
    send_text(c[0], "again");
    wait_until(h.messages == 10);
    assert_true(h.session > last);
    assert_int_equal(h.gone, 2);
    bus_server_forget(server, h.session);
    assert_null(bus_server_user(server, h.session));
    for (unsigned i = 0; i < 9; i++)
        bus_client_close(c[i]);
}

static void a_flood_of_strangers_stalls_nothing(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET,
        .sin_port = htons(bus_server_port(server, BUS_PULL)),
        .sin_addr.s_addr = htonl(0x7f000001)};
    struct bus_server_stats stats;
    struct bus_client *c = client_open(&g, server, &server_key, &alice, false, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL));
    /* Nothing turns the loop meanwhile: more events than the monitor's default limits hold. */
    for (int i = 0; i < 1000; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
        if (i % 2)
            assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
        close(fd);
    }
    send_text(c, "are you there?");
    wait_until(h.messages == 1);
    wait_until((bus_server_stats(server, &stats), stats.accepted >= 1001));
    wait_until((bus_server_stats(server, &stats), stats.disconnected >= 1000));
    assert_true(stats.handshakes_failed > 0); /* not every way to go counts as one */
    assert_int_equal(stats.accept_failed, 0);
    assert_int_equal(stats.handshakes, 1);
    bus_client_close(c);
}

static void moving_to_another_parent_takes_new_sockets(void **state)
{
    (void)state;
    struct heard second = {0};
    struct bus_server *s = server_open(&second, &bob, "127.0.0.1:0", "127.0.0.1:0");
    struct bus_client *c = client_open(&g, server, &server_key, &alice, true, NULL);
    wait_until(bus_client_is_up(c, BUS_PULL) && bus_client_is_up(c, BUS_HINT));
    struct bus_place place = {0};
    memcpy(place.key, bob.public, 32);
    snprintf(place.pull, sizeof place.pull, "%s", bus_server_endpoint(s, BUS_PULL));
    snprintf(place.hints, sizeof place.hints, "%s", bus_server_endpoint(s, BUS_HINT));
    assert_int_equal(bus_client_move(c, &place), 0);
    assert_false(bus_client_is_up(c, BUS_PULL));
    wait_until(bus_client_is_up(c, BUS_PULL) && second.subscriptions == 2);
    send_text(c, "hello, second");
    wait_until(second.messages == 1);
    assert_int_equal(h.messages, 0);
    snprintf(place.pull, sizeof place.pull, "no port");
    assert_int_equal(bus_client_move(c, &place), ERR_CONFIG);
    bus_client_close(c);
    bus_server_close(s);
    heard_done(&second);
}

static void addresses_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "host", "127.0.0.1:", "127.0.0.1:99999", "::1:77", "a b:1", "tcp://x:1", "x:1x"};
    struct bus_server_options o;
    struct bus_server_events ev = {0};
    struct bus_server *s = NULL;
    bus_server_options_default(&o);
    o.key = server_key;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        o.pull = bad[i];
        assert_int_equal(bus_server_open(bus, loop, &o, &ev, &s), ERR_CONFIG);
    }
    /* Another server has it. */
    o.pull = bus_server_endpoint(server, BUS_PULL);
    assert_int_equal(bus_server_open(bus, loop, &o, &ev, &s), -EADDRINUSE);
    assert_non_null(strstr(err_text(-EADDRINUSE), "pull lane: cannot listen on 127.0.0.1:"));
    o.pull = "192.0.2.1:0"; /* an address that no machine has */
    assert_int_equal(bus_server_open(bus, loop, &o, &ev, &s), ERR_CONFIG);
    assert_null(s);
}

static void ipv6_works(void **state)
{
    (void)state;
    struct heard other = {0};
    struct bus_server *s = server_open(&other, &server_key, "[::1]:0", NULL);
    struct bus_place place = {0};
    struct bus_client_options o;
    bus_client_options_default(&o);
    assert_true(strncmp(bus_server_endpoint(s, BUS_PULL), "[::1]:", 6) == 0);
    struct bus_client *c = client_open(&g, s, &server_key, &alice, false, &o);
    memcpy(place.key, server_key.public, 32);
    snprintf(place.pull, sizeof place.pull, "%s", bus_server_endpoint(s, BUS_PULL));
    assert_int_equal(bus_client_move(c, &place), 0);
    wait_until(bus_client_is_up(c, BUS_PULL));
    send_text(c, "six");
    wait_until(other.messages == 1);
    bus_client_close(c);
    bus_server_close(s);
    heard_done(&other);
}

/* A child that does not keep to the limits loses its message and its connection, and goes on. */
static void an_oversized_message_is_dropped_and_the_sender_recovers(void **state)
{
    (void)state;
    char endpoint[64];
    void *socket;
    struct socket_options o = {.type = ZMQ_DEALER,
        .hwm = 10,
        .key = &alice,
        .server_key = server_key.public,
        .reconnect_ms = 20,
        .immediate = true};
    uint8_t *big = calloc(1, BUS_RECEIVE_MAX + 1);
    snprintf(endpoint, sizeof endpoint, "%s", bus_server_endpoint(server, BUS_PULL));
    assert_int_equal(socket_open(bus, &o, &socket), 0);
    assert_int_equal(socket_connect(socket, endpoint), 0);
    wait_until(zmq_send(socket, "a", 1, ZMQ_DONTWAIT) == 1);
    wait_until(h.messages == 1);
    assert_int_equal(zmq_send(socket, big, BUS_RECEIVE_MAX + 1, 0), BUS_RECEIVE_MAX + 1);
    struct bus_server_stats stats;
    wait_until((bus_server_stats(server, &stats), stats.disconnected >= 1));
    wait_until((bus_server_stats(server, &stats), stats.handshakes == 2));
    wait_until(zmq_send(socket, "b", 1, ZMQ_DONTWAIT) == 1);
    wait_until(h.messages == 2);
    assert_true(frame_is(h.frame, "b"));
    /* More parts than a message has: dropped as a whole, the next one is in step. */
    assert_int_equal(zmq_send(socket, "x", 1, ZMQ_SNDMORE), 1);
    assert_int_equal(zmq_send(socket, "y", 1, ZMQ_SNDMORE), 1);
    assert_int_equal(zmq_send(socket, "z", 1, 0), 1);
    assert_int_equal(zmq_send(socket, "c", 1, 0), 1);
    wait_until(h.messages == 3);
    assert_true(frame_is(h.frame, "c"));
    bus_server_stats(server, &stats);
    assert_int_equal(stats.malformed, 1);
    socket_close(socket);
    free(big);
}

/* libzmq 4.3.4 never connects again after this; the watchdog does. */
static void a_client_that_got_an_oversized_message_is_replaced(void **state)
{
    (void)state;
    char endpoint[SOCKET_ENDPOINT_MAX], id[16];
    void *socket;
    struct bus_client_options o;
    bus_client_options_default(&o);
    struct socket_options so = {.type = ZMQ_ROUTER, .hwm = 10, .key = &bob, .zap_domain = SOCKET_ZAP_DOMAIN};
    struct bus_place place = {0};
    uint8_t *big = calloc(1, BUS_RECEIVE_MAX + 1);
    assert_int_equal(socket_open(bus, &so, &socket), 0);
    assert_int_equal(socket_bind(socket, "127.0.0.1:0", endpoint), 0);
    struct bus_client *c = client_open(&g, server, &server_key, &alice, false, &o);
    memcpy(place.key, bob.public, 32);
    snprintf(place.pull, sizeof place.pull, "%.200s", endpoint + strlen("tcp://"));
    assert_int_equal(bus_client_move(c, &place), 0);
    wait_until(bus_client_is_up(c, BUS_PULL));
    send_text(c, "give");
    int len = -1;
    wait_until((len = zmq_recv(socket, id, sizeof id, ZMQ_DONTWAIT)) > 0);
    assert_int_equal(zmq_send(socket, id, (size_t)len, ZMQ_SNDMORE), len);
    assert_int_equal(zmq_send(socket, big, BUS_RECEIVE_MAX + 1, 0), BUS_RECEIVE_MAX + 1);
    unsigned replaced = g.states[BUS_PULL][BUS_REPLACED], up = g.states[BUS_PULL][BUS_UP];
    wait_until(g.states[BUS_PULL][BUS_REPLACED] > replaced && g.states[BUS_PULL][BUS_UP] > up);
    assert_int_equal(g.messages, 0);
    assert_string_equal(g.why, "the old socket had given up");
    bus_client_close(c);
    socket_close(socket);
    free(big);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_allowed_key_passes_and_its_user_arrives),
        T(a_wrong_key_is_refused_and_counted),
        T(a_wrong_server_key_is_refused_by_the_client),
        T(the_self_test_is_not_counted),
        T(a_removed_key_still_says_who_it_is),
        T(later_admission_is_noticed),
        T(hints_reach_those_who_may_hear_them),
        T(rebinding_the_hints_cuts_off_a_removed_key),
        T(the_client_comes_back_after_a_restart_of_the_server),
        T(a_session_that_left_is_an_error_of_the_sender),
        T(a_full_queue_is_told),
        T(large_frames_pass_and_larger_ones_are_refused_here),
        T(an_oversized_message_is_dropped_and_the_sender_recovers),
        T(a_client_that_got_an_oversized_message_is_replaced),
        T(sending_neither_copies_nor_keeps),
        T(a_user_has_a_limited_number_of_sessions),
        T(a_flood_of_strangers_stalls_nothing),
        T(moving_to_another_parent_takes_new_sockets),
        T(addresses_are_checked),
        T(ipv6_works),
    };
    return cmocka_run_group_tests_name("contract bus", tests, fixture_setup, fixture_teardown);
}

/* The bus on loopback: who comes in, what arrives, and what heals by itself. */
#include "tests/contract/bus_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_allowed_key_passes_and_its_user_arrives, setup, teardown),
    };
    return cmocka_run_group_tests_name("contract bus", tests, fixture_setup, fixture_teardown);
}

/* One context, one loop, a server and clients on loopback with ports that the system picks; everything that
 * arrives is written down. wait_until turns the loop until a condition holds or the deadline passes. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bus/bus_client.h"
#include "common/bus/bus_server.h"
#include "common/bus/ipc.h"

#define WAIT_NS (15 * NS_PER_S)

/* Of a server: what came last and how much of it. */
struct heard {
    unsigned messages, gone, troubles, subscriptions;
    uint32_t session, gone_session;
    char user[64];
    struct blob *frame;
    char subscriber[64];
    bool echo;
    struct bus_server *server;
};

/* Of a client. */
struct got {
    unsigned messages, hints;
    size_t bytes;
    struct blob *frame;
    char topic[256];
    unsigned states[BUS_LANES][BUS_REPLACED + 1];
    char why[160];
};

extern struct bus *bus;
extern struct loop *loop;

#define wait_until(condition)                                                                                \
    do {                                                                                                     \
        int64_t end_ = clock_mono(&clock_real).ns + WAIT_NS;                                                 \
        while (!(condition)) {                                                                               \
            if (clock_mono(&clock_real).ns > end_)                                                           \
                fail_msg("waited in vain for: %s", #condition);                                              \
            assert_int_equal(loop_turn(loop, 20 * NS_PER_MS), 0);                                            \
        }                                                                                                    \
    } while (0)
/* Turns the loop for so long: for what must not happen. */
void run_for(int64_t ns);

struct bus_server *server_open(
    struct heard *h, const struct link_key *key, const char *pull, const char *hints);
/* hints: whether with a hint lane. o may be NULL. */
struct bus_client *client_open(struct got *g, struct bus_server *s, const struct link_key *server_key,
    const struct link_key *own, bool hints, const struct bus_client_options *o);
struct blob *text_frame(const char *text);
bool frame_is(struct blob *frame, const char *text);
void heard_done(struct heard *h);
void got_done(struct got *g);

int fixture_setup(void **state);
int fixture_teardown(void **state);

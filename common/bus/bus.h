/* The process's one ZeroMQ context and its door-keeper: a thread that answers ZAP from a table of keys and
 * refuses everything else. Servers (bus_server.h), clients (bus_client.h) and the ipc of node and workers
 * (ipc.h) stand on it. Ownership: a bus outlives all sockets made on it. Threading: bus_keys_* from any
 * thread; the rest from the loop's. Sources: RFC 27 (ZAP); libzmq 4.3.4 accepts every CURVE key while no
 * handler is bound. */
#pragma once
#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/id.h"
#include "common/bus/loop.h"
#include "common/crypto/crypto.h"
#include "common/wire/frame.h"

struct bus;

#define BUS_USER_MAX 63
/* The largest frame that is sent, and what a receiver takes: CURVE adds 33 bytes, and the limit must never be
 * hit (an oversized message kills a connecting socket of libzmq 4.3.4 for good). */
#define BUS_MESSAGE_MAX (FRAME_MAX + FRAME_HEADER_LEN)
#define BUS_RECEIVE_MAX (FRAME_MAX + 64 * 1024)
#define BUS_TOPIC_MAX 199

enum bus_lane { BUS_PULL, BUS_HINT, BUS_LANES };

/* io_threads: 1 for a worker, 2 for a node: the second serves the sockets toward the parent, so that a slow
 * name look-up or a busy parent does not hold up the children. One bus per process for its whole life
 * (libzmq 4.3.4 closes libsodium's random source when a context ends). -ENOMEM, -errno. */
int bus_open(unsigned io_threads, struct bus **ret_bus) MUST_CHECK;
/* All servers, clients and ipc ends must be closed before. Takes NULL. */
void bus_close(struct bus *b);

/* Which keys come in, as whom, and to which lane. user: 1 to BUS_USER_MAX characters; it comes with every
 * message of that key. Setting a key again replaces what it was. A change holds for handshakes from now on: a
 * connection that is there stays, so the receiver checks the user of each request, and
 * bus_server_rebind_hints cuts the hint lane. -ENOMEM; ERR_MALFORMED for a bad user. */
enum { BUS_MAY_PULL = 1, BUS_MAY_HINT = 2 };
int bus_keys_set(struct bus *b, const uint8_t key[32], const char *user, unsigned lanes) MUST_CHECK;
void bus_keys_del(struct bus *b, const uint8_t key[32]); /* a key that is not there is fine */
void bus_keys_clear(struct bus *b);

struct bus_door {
    uint64_t accepted, refused;
    size_t keys;
    bool has_refused;     /* the next three are set */
    uint8_t last_key[32]; /* of the last refusal */
    char last_address[64];
    struct mono last_at;
};
void bus_door_get(struct bus *b, struct bus_door *ret_door);
/* "4f2a-91c0-77be" of a link key, as the refusals show it; out needs 15 bytes. */
char *bus_key_text(const uint8_t key[32], char out[15]);

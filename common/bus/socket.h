/* Inside common/bus only: the one place that makes ZeroMQ sockets (all options are set here, before bind and
 * connect), monitors of sockets, and the passage between ZeroMQ messages and blobs without a copy. Ownership:
 * told at each. Threading: a socket belongs to one thread. */
#pragma once
#include <zmq.h>

#include "common/bus/bus.h"

#define SOCKET_ZAP_DOMAIN "sitetree" /* hint lane: the second one, so that the door can tell them apart */
#define SOCKET_ZAP_DOMAIN_HINT "sitetree-hint"
#define SOCKET_ENDPOINT_MAX 320

/* The I/O threads of a bus that has two; with one they mean the same. */
enum { SOCKET_DOWNWARD = 1, SOCKET_UPWARD = 2 };

struct socket_options {
    int type;
    int hwm;              /* of each direction */
    int send_buffer;      /* 0: leave */
    int64_t heartbeat_ns; /* 0: off; the time-out is half of it, at least 10 s */
    unsigned side;        /* SOCKET_DOWNWARD or SOCKET_UPWARD; 0: any */
    int reconnect_ms, reconnect_max_ms, connect_timeout_ms; /* 0: leave */
    const struct link_key *key;                             /* CURVE */
    const uint8_t *server_key; /* CURVE client; NULL: CURVE server, with zap_domain */
    const char *zap_domain;
    int linger_ms; /* how long the library goes on sending after the close */
    bool mandatory, immediate, verbose;
};
/* -errno with the option's name. */
int socket_open(struct bus *b, const struct socket_options *o, void **ret_socket) MUST_CHECK;
void socket_close(void *socket); /* takes NULL */
/* Binds or connects tcp://<host:port>. ERR_CONFIG with the reason, -EADDRINUSE. */
int socket_bind(void *socket, const char *host_port, char ret_endpoint[SOCKET_ENDPOINT_MAX]) MUST_CHECK;
int socket_connect(void *socket, const char *host_port) MUST_CHECK;
/* "host:port" into a tcp endpoint; ERR_CONFIG when it is none. */
int socket_address(const char *host_port, bool bind, char ret_endpoint[SOCKET_ENDPOINT_MAX]) MUST_CHECK;

/* A message becomes a blob (the message is empty afterwards); NULL on no memory. */
struct blob *message_take(zmq_msg_t *msg);
/* A message that holds a reference of its own to the blob. -ENOMEM. */
int message_wrap(zmq_msg_t *msg, struct blob *frame) MUST_CHECK;
/* Receives what is left of a multipart message and drops it; true when there was something. */
bool message_skip_rest(void *socket, zmq_msg_t *last);
/* The user id that the door gave; NULL without one. libzmq 4.3.4 has it on the last part only. Until the
 * message is closed. */
const char *message_user(zmq_msg_t *last);

/* A monitor is always drained: one that nobody reads blocks the I/O thread and with it the whole context. */
struct monitor;
typedef void monitor_fn(void *ctx, unsigned event, unsigned value, const char *endpoint);
int monitor_open(struct bus *b, struct loop *l, void *socket, monitor_fn *fn, void *ctx,
    struct monitor **ret_monitor) MUST_CHECK;
void monitor_close(struct monitor *m); /* before its socket; not from its callback; takes NULL */
/* Without a loop, for the self-test: the next event within max_ms, or 0. */
int monitor_open_raw(struct bus *b, void *socket, void **ret_reader) MUST_CHECK;
unsigned monitor_next(void *reader, int max_ms, unsigned *ret_value);
void monitor_close_raw(void *socket, void *reader);

/* bus.c */
void *bus_context(struct bus *b);
unsigned bus_io_threads(const struct bus *b);
unsigned bus_number(struct bus *b); /* a new one each time, for inproc names */
void bus_door_ignore(
    struct bus *b, const uint8_t key[32]); /* the self-test's key is not counted; NULL ends it */

/* bus_check.c: binds the socket to a loopback port for a moment and proves that a stranger's key is refused.
 */
int bus_check_door(struct bus *b, void *socket, const struct link_key *server) MUST_CHECK;

/* The two public sockets of a site: ROUTER for the pull lane, XPUB for the hint lane, both CURVE with ZAP
 * enforced. Opening proves with a throw-away key that strangers are refused, before anything is reachable
 * from outside. Ownership: frames given to callbacks are borrowed (blob_ref to keep); frames given to send
 * are borrowed too (it takes a reference of its own). Threading: the loop's thread. Who may hear hints is
 * decided at the door (BUS_MAY_HINT) and not per subscription: XPUB_MANUAL of libzmq 4.3.4 keeps a pointer to
 * a peer that may be gone when its subscription is accepted. */
#pragma once
#include "common/bus/bus.h"

struct bus_server;

struct bus_server_events {
    /* A message of a session. user is what its key stands for now or stood for at the handshake: check it on
     * every request. The session number is new for each connection and never 0. */
    void (*on_message)(void *ctx, uint32_t session, const char *user, struct blob *frame);
    /* The session can no longer be sent to: found unreachable, silent for session_idle, or pushed out by
     * newer ones of the same user. May be NULL. Not called for bus_server_forget. */
    void (*on_gone)(void *ctx, uint32_t session);
    /* user subscribed to topic on the hint lane (a good moment to tell the head again: it is idempotent). May
     * be NULL. */
    void (*on_subscribe)(void *ctx, const char *user, struct view topic);
    /* Something an operator should know: accepting failed (file descriptors), the hint lane could not be
     * bound again. */
    void (*on_trouble)(void *ctx, int err, const char *text);
    void *ctx;
};

struct bus_server_options {
    const char *pull,
        *hints; /* host:port to bind; "*" for all addresses, port 0 picks one; hints NULL: no such lane */
    struct link_key key;
    int pull_hwm;    /* frames that wait for one child in the library; default 256 */
    int hint_hwm;    /* default 512 */
    int send_buffer; /* SO_SNDBUF bytes of the pull lane, so that classes overtake early; 0: the kernel's
                        choice */
    int64_t pull_heartbeat_ns;  /* ZMTP heartbeat; default 0 (off): the link has its own */
    int64_t hint_heartbeat_ns;  /* default 0: the child's side does it */
    int64_t session_idle_ns;    /* a session that says nothing for so long is forgotten; default 30 min */
    unsigned sessions_per_user; /* the least recently heard goes first; default 8 */
};
void bus_server_options_default(struct bus_server_options *o);

/* ERR_CONFIG: an address that cannot be bound (with the reason); ERR_INTERNAL: the self-test failed, nothing
 * was bound. */
int bus_server_open(struct bus *b, struct loop *l, const struct bus_server_options *o,
    const struct bus_server_events *ev, struct bus_server **ret_server) MUST_CHECK;
void bus_server_close(struct bus_server *s); /* not from its own callbacks; takes NULL */

/* host:port as bound, until the server closes (IPv6 as [addr]:port); the port as a number. */
const char *bus_server_endpoint(const struct bus_server *s, enum bus_lane lane);
uint16_t bus_server_port(const struct bus_server *s, enum bus_lane lane);

/* -EAGAIN: this child's queue is full, try later (there is no event for it: use the link's credit or a
 * timer). ERR_NETWORK: no such connection any more (on_gone is not called again). ERR_TOO_LARGE. -ENOMEM. */
int bus_server_send(struct bus_server *s, uint32_t session, struct blob *frame) MUST_CHECK;
/* NULL when there is no such session. */
const char *bus_server_user(const struct bus_server *s, uint32_t session);
/* The link above is through with it; a later message on the same connection begins a new session. */
void bus_server_forget(struct bus_server *s, uint32_t session);

/* To all who subscribed to a prefix of topic. Loss is silent, by design. ERR_MALFORMED: topic too long;
 * ERR_TOO_LARGE; ERR_NETWORK while the lane is being bound again. */
int bus_server_publish(struct bus_server *s, const char *topic, struct blob *frame) MUST_CHECK;
/* Closes the hint lane and binds it again at the same port: everybody connects anew and passes the door
 * again, or does not. Done in the background, tried until it works. May be called from callbacks. */
void bus_server_rebind_hints(struct bus_server *s);

struct bus_server_stats {
    uint64_t accepted, accept_failed, handshakes, handshakes_failed, disconnected; /* both lanes */
    uint64_t messages_in, messages_out, bytes_in, bytes_out;                       /* pull lane */
    uint64_t hints_out, hint_bytes_out;    /* published, not times receivers */
    uint64_t full, unreachable, malformed; /* EAGAIN, EHOSTUNREACH, bad shape */
    uint64_t rebinds;
    size_t sessions;
};
void bus_server_stats(const struct bus_server *s, struct bus_server_stats *ret_stats);

/* The sockets of a site toward its one parent: DEALER for the pull lane, SUB for the hint lane, each its own
 * connection that libzmq restores; a watchdog replaces a socket that libzmq 4.3.4 has given up (after a
 * refusal at the door or a protocol error it never tries again). Ownership: frames in callbacks are borrowed,
 * frames to send too; the place is copied. Threading: the loop's thread. */
#pragma once
#include "common/bus/bus.h"

struct bus_client;

struct bus_place {
    char pull[256];  /* host:port */
    char hints[256]; /* host:port; empty: no hint lane (a site that is joining) */
    uint8_t key[32]; /* the parent's link key */
};

enum bus_client_state {
    BUS_CONNECTING, /* no connection yet; libzmq tries */
    BUS_UP,         /* connected, both sides authenticated */
    BUS_DOWN,       /* the connection was lost; libzmq tries again */
    BUS_RETRYING,   /* a try failed (why tells); the next one follows by itself */
    BUS_REFUSED, /* the parent does not know our key, or has another one; a new socket follows after a backoff
                  */
    BUS_REPLACED, /* the watchdog made a new socket */
};
const char *bus_client_state_word(enum bus_client_state state);

struct bus_client_events {
    void (*on_message)(void *ctx, struct blob *frame);
    void (*on_hint)(void *ctx, struct view topic, struct blob *frame);
    void (*on_state)(
        void *ctx, enum bus_lane lane, enum bus_client_state state, const char *why); /* why may be "" */
    void *ctx;
};

struct bus_client_options {
    struct link_key key;
    const struct random_source *random; /* borrowed for its life */
    const char *const
        *topics; /* prefixes, NULL at the end; borrowed for its life; default metadata/, sync-request */
    int64_t reconnect_min_ns;   /* default 250 ms; each socket draws its own between this and twice this */
    int64_t reconnect_max_ns;   /* default 30 s */
    int64_t start_spread_ns;    /* the first connect comes at random within this; default 0 */
    int64_t dead_after_ns;      /* no sign that libzmq still tries: a new socket; default 2 x reconnect_max */
    int64_t connect_timeout_ns; /* of TCP; default 10 s */
    int64_t pull_heartbeat_ns;  /* ZMTP heartbeat; default 0 (off): the link has its own */
    int64_t hint_heartbeat_ns;  /* default 300 s: finds a dead path where nothing else is ever sent */
    int pull_hwm, hint_hwm;     /* default 256, 512 */
    int send_buffer;            /* SO_SNDBUF bytes; 0: the kernel's choice */
};
void bus_client_options_default(struct bus_client_options *o);

/* Starts to connect. ERR_CONFIG: an address that is none. -ENOMEM, -errno. */
int bus_client_open(struct bus *b, struct loop *l, const struct bus_client_options *o,
    const struct bus_place *place, const struct bus_client_events *ev,
    struct bus_client **ret_client) MUST_CHECK;
void bus_client_close(struct bus_client *c); /* not from its own callbacks; takes NULL */

/* New sockets, to another place or to the same one (fail-over; no head announced for three periods). Frames
 * that wait in the old ones are lost. May be called from callbacks; it happens in the next turn. ERR_CONFIG.
 */
int bus_client_move(struct bus_client *c, const struct bus_place *place) MUST_CHECK;
void bus_client_restart(struct bus_client *c);

/* -EAGAIN: the queue is full; ERR_NETWORK: not connected; ERR_TOO_LARGE; -ENOMEM. */
int bus_client_send(struct bus_client *c, struct blob *frame) MUST_CHECK;
bool bus_client_is_up(const struct bus_client *c, enum bus_lane lane);

struct bus_client_stats {
    uint64_t connected, lost, retried, refused, handshakes_failed, replaced; /* both lanes */
    uint64_t messages_in, messages_out, bytes_in, bytes_out;                 /* pull lane */
    uint64_t hints_in, hint_bytes_in, full, malformed;
};
void bus_client_stats(const struct bus_client *c, struct bus_client_stats *ret_stats);

/* The daemon's end of the control socket (docs/control.md): a Unix stream for the same user and root, framed
 * JSON, bounded in clients and bytes. It has one descriptor to poll and never blocks. Ownership: the server
 * dies with its owner and removes the socket. Threading: one thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"

#define CONTROL_REQUEST_MAX (1024 * 1024)
#define CONTROL_REPLY_MAX (4 * 1024 * 1024)
#define CONTROL_PENDING_MAX                                                                                  \
    (2 * CONTROL_REPLY_MAX) /* unread answers of one client; beyond it the client is dropped */
#define CONTROL_CLIENTS_MAX 64
#define CONTROL_SLOW_NS (30 * NS_PER_S) /* a half message, or unread answers, for this long: dropped */

struct control_server;

struct control_events {
    /* A whole request: json ends with NUL and is valid for the call. Answer with control_server_reply, now or
     * later. */
    void (*on_request)(void *ctx, uint64_t command, const char *json, size_t len);
    /* The client of a command that is still open has gone; further answers to it give ERR_NOT_FOUND. */
    void (*on_gone)(void *ctx, uint64_t command);
    void *ctx;
};

/* Makes the folder (0700) where it is missing, and the socket (0600). ERR_EXISTS when another process listens
 * there, ERR_CONFIG when others may write to the folder, errno values. */
int control_server_open(
    const char *path, const struct control_events *events, struct control_server **ret_server) MUST_CHECK;
void control_server_close(struct control_server *s); /* takes NULL; on_gone is not called */

/* Readable when a turn has something to do. */
int control_server_fd(const struct control_server *s);
/* Takes what is ready and calls the events. Call it when the descriptor is readable, and at least every few
 * seconds while clients are connected, so that slow ones are dropped. */
void control_server_turn(struct control_server *s, struct mono now);
/* Sends one answer. more: others to the same command follow. ERR_NOT_FOUND (the client has gone),
 * ERR_TOO_LARGE (the client gets that as an error instead, and the command ends), ERR_BUSY (it reads too
 * slowly and is dropped), -ENOMEM. */
int control_server_reply(
    struct control_server *s, uint64_t command, const char *json, size_t len, bool more) MUST_CHECK;
size_t control_server_clients(const struct control_server *s);

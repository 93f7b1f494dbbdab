#include "common/bus/socket.h"

#define CHECK_MS 5000

/* What a stranger meets: 0 for a refusal by the door, else why the door cannot be trusted. */
static int meet_stranger(void *reader)
{
    struct mono end = {clock_mono(&clock_real).ns + CHECK_MS * NS_PER_MS};
    for (int64_t left; (left = end.ns - clock_mono(&clock_real).ns) > 0;) {
        unsigned value = 0, event = monitor_next(reader, (int)(left / NS_PER_MS) + 1, &value);
        if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
            return value == 400
                       ? 0
                       : err_fail(ERR_INTERNAL, "self-test of the door: it answered %u, not 400", value);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            return err_fail(ERR_INTERNAL, "self-test of the door: an unknown key was let in");
        if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
            return err_fail(ERR_INTERNAL, "self-test of the door: protocol error %#x", value);
    }
    return err_fail(ERR_INTERNAL, "self-test of the door: no answer within %d s", CHECK_MS / 1000);
}

int bus_check_door(struct bus *b, void *socket, const struct link_key *server)
{
    char endpoint[SOCKET_ENDPOINT_MAX];
    struct link_key stranger;
    int type;
    size_t len = sizeof type;
    int rc = socket_bind(socket, "127.0.0.1:0", endpoint);
    if (rc)
        return err_wrap(rc, "self-test of the door");
    if (zmq_getsockopt(socket, ZMQ_TYPE, &type, &len))
        return err_fail(-errno, "self-test of the door: %s", zmq_strerror(errno));
    link_key_new(&stranger);
    bus_door_ignore(b, stranger.public);
    void *client = NULL, *reader = NULL;
    struct socket_options o = {.type = type == ZMQ_XPUB ? ZMQ_SUB : ZMQ_DEALER,
        .hwm = 1,
        .key = &stranger,
        .server_key = server->public,
        .side = SOCKET_DOWNWARD};
    rc = socket_open(b, &o, &client);
    if (!rc)
        rc = monitor_open_raw(b, client, &reader);
    if (!rc)
        rc = socket_connect(client, endpoint + strlen("tcp://"));
    if (!rc)
        rc = meet_stranger(reader);
    if (reader)
        monitor_close_raw(client, reader);
    socket_close(client);
    bus_door_ignore(b, NULL);
    secret_wipe(&stranger, sizeof stranger);
    if (zmq_unbind(socket, endpoint) && !rc)
        rc = err_fail(-errno, "self-test of the door: %s", zmq_strerror(errno));
    return rc;
}

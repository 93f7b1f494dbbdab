/* Addresses of Unix sockets, also for paths longer than the 107 bytes of sun_path. Internal to
 * common/control. */
#pragma once
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base/err.h"

struct socket_path {
    struct sockaddr_un address;
    socklen_t len;
    int folder; /* held open while the address goes through it; -1 otherwise */
};

/* errno values; socket_path_done in every case. */
int socket_path_make(const char *path, struct socket_path *ret_path) MUST_CHECK;
void socket_path_done(struct socket_path *p);

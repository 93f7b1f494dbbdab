#include "common/control/path.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"

int socket_path_make(const char *path, struct socket_path *ret_path)
{
    struct socket_path p = {.address.sun_family = AF_UNIX, .len = sizeof p.address, .folder = -1};
    if (strlen(path) < sizeof p.address.sun_path) {
        memcpy(p.address.sun_path, path, strlen(path));
        *ret_path = p;
        return 0;
    }
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *folder = slash ? strndup(path, (size_t)(slash - path)) : NULL;
    if (!folder)
        return slash ? -ENOMEM : -ENAMETOOLONG;
    p.folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p.folder < 0)
        return err_fail(-errno, "%s: %s", folder, strerrordesc_np(errno));
    int n = snprintf(p.address.sun_path, sizeof p.address.sun_path, "/proc/self/fd/%d%s", p.folder, slash);
    if (n < 0 || (size_t)n >= sizeof p.address.sun_path) {
        close(p.folder);
        return err_fail(-ENAMETOOLONG, "%s: name of the socket is too long", path);
    }
    *ret_path = p;
    return 0;
}

void socket_path_done(struct socket_path *p)
{
    if (p->folder >= 0)
        close(p->folder);
    p->folder = -1;
}

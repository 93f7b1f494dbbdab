#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/bus/ipc.h"
#include "common/bus/ipc_stream.h"

#define GUESTS_MAX 8 /* connections at a time, those included that have not said their name yet */

struct guest {
    struct ipc_node *node; /* NULL: free */
    struct ipc_stream stream;
    bool named;
    enum worker name;
};

struct ipc_node {
    struct loop *loop;
    struct ipc_node_events ev;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    int fd;
    struct loop_watch *watch;
    struct guest guests[GUESTS_MAX];
};

static struct guest *guest_of(struct ipc_node *n, enum worker name)
{
    for (unsigned i = 0; i < GUESTS_MAX; i++)
        if (n->guests[i].node && n->guests[i].named && n->guests[i].name == name)
            return &n->guests[i];
    return NULL;
}

static void guest_leave(struct guest *g)
{
    ipc_stream_done(&g->stream);
    g->node = NULL;
}

/* A worker that was started again may come before its old connection is seen to be gone. */
static bool take_name(struct guest *g, struct view name)
{
    enum worker who;
    if (worker_from_name(name, &who))
        return false;
    struct guest *before = guest_of(g->node, who);
    if (before)
        guest_leave(before);
    g->named = true;
    g->name = who;
    return true;
}

static bool on_record(void *ctx, struct view route, struct view bytes)
{
    struct guest *g = ctx;
    struct ipc_message m;
    if (!g->named)
        return route.len == 0 && take_name(g, bytes);
    if (ipc_route_parse(route, &m))
        return false;
    AUTO_BLOB *frame = blob_new(bytes.data, bytes.len);
    m.frame = frame;
    if (frame) /* without memory it is as if lost: it is asked for again */
        g->node->ev.on_message(g->node->ev.ctx, g->name, &m);
    return true;
}

static void on_closed(void *ctx)
{
    guest_leave(ctx);
}

static bool is_ours(int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
}

static void on_guest(void *ctx, int events)
{
    struct ipc_node *n = ctx;
    (void)events;
    int fd = accept4(n->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct guest *g = NULL;
    for (unsigned i = 0; i < GUESTS_MAX && !g; i++)
        if (!n->guests[i].node)
            g = &n->guests[i];
    if (!g || !is_ours(fd)) {
        close(fd);
        return;
    }
    struct ipc_stream_events ev = {on_record, on_closed, g};
    *g = (struct guest){.node = n};
    ipc_stream_init(&g->stream, n->loop, &ev);
    if (ipc_stream_start(&g->stream, fd))
        guest_leave(g);
}

/* The folder is the access control: whoever may connect is taken for a worker. */
static int check_folder(const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    snprintf(folder, sizeof folder, "%s", path);
    const char *dir = dirname(folder);
    if (stat(dir, &st))
        return err_fail(ERR_CONFIG, "%s: %s", dir, strerrordesc_np(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
        return err_fail(ERR_CONFIG, "%s must be a folder of this user with mode 0700 (it has %04o, owner %u)",
            dir, (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
    return 0;
}

int ipc_node_send(struct ipc_node *n, enum worker to, const struct ipc_message *m)
{
    if (m->topic.len > BUS_TOPIC_MAX || blob_view(m->frame).len > BUS_MESSAGE_MAX)
        return err_fail(ERR_TOO_LARGE, "ipc: a frame of %zu bytes, the limit is %d", blob_view(m->frame).len,
            BUS_MESSAGE_MAX);
    struct guest *g = guest_of(n, to);
    AUTO_BUF route = {0};
    ipc_route_pack(m, &route);
    int rc = route.err ? route.err
             : g       ? ipc_stream_send(&g->stream, buf_view(&route), m->frame)
                       : ERR_NETWORK;
    return rc == ERR_NETWORK ? err_fail(rc, "the %s worker is not there", worker_name(to)) : rc;
}

void ipc_node_reset(struct ipc_node *n, enum worker w)
{
    struct guest *g = guest_of(n, w);
    if (g) /* its last words are still read */
        ipc_stream_break(&g->stream);
}

static int listen_at(struct ipc_node *n)
{
    struct sockaddr_un a;
    int rc = ipc_address(n->path, &a);
    if (rc)
        return rc;
    n->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0)
        return -errno;
    (void)unlink(n->path); /* of a life before: the folder is ours alone */
    if (bind(n->fd, (const struct sockaddr *)&a, sizeof a) || listen(n->fd, GUESTS_MAX))
        return err_fail(ERR_CONFIG, "cannot bind %s: %s", n->path, strerrordesc_np(errno));
    return loop_add_fd(n->loop, n->fd, LOOP_IN, on_guest, n, &n->watch);
}

int ipc_node_open(
    struct loop *l, const char *path, const struct ipc_node_events *ev, struct ipc_node **ret_node)
{
    struct sockaddr_un a;
    int rc = ipc_address(path, &a);
    if (!rc)
        rc = check_folder(path);
    struct ipc_node *n = rc ? NULL : calloc(1, sizeof *n);
    if (!n)
        return rc ? rc : -ENOMEM;
    n->loop = l;
    n->ev = *ev;
    n->fd = -1;
    memcpy(n->path, a.sun_path, sizeof n->path);
    rc = listen_at(n);
    if (rc) {
        ipc_node_close(n);
        return rc;
    }
    *ret_node = n;
    return 0;
}

void ipc_node_close(struct ipc_node *n)
{
    if (!n)
        return;
    for (unsigned i = 0; i < GUESTS_MAX; i++)
        if (n->guests[i].node)
            guest_leave(&n->guests[i]);
    loop_del(n->watch);
    if (n->watch)
        (void)unlink(n->path);
    if (n->fd >= 0)
        close(n->fd);
    free(n);
}

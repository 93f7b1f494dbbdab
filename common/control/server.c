#include "common/control/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/control/path.h"

struct client {
    int fd; /* -1: the slot is free */
    bool dead;
    uint64_t command; /* the open one; 0: none */
    uint8_t head[4];
    size_t head_len;
    struct buf in;  /* the request so far */
    size_t want;    /* its length, once the head is whole */
    struct buf out; /* from sent on: not yet written */
    size_t sent;
    uint32_t watched;
    struct mono moved; /* the last progress of a half message or of unread answers, and the last use */
};

struct control_server {
    char *path;
    struct control_events events;
    int listener, poll;
    uint64_t commands;
    struct mono now;
    struct client clients[CONTROL_CLIENTS_MAX];
};

static int fail_errno(const char *what, const char *path)
{
    return err_fail(-errno, "control socket %s: %s: %s", path, what, strerrordesc_np(errno));
}

static void watch(struct control_server *s, struct client *c)
{
    /* One command at a time: the next request waits in the socket. */
    uint32_t wanted = EPOLLRDHUP | (c->command == 0 ? EPOLLIN : 0u) | (c->sent < c->out.len ? EPOLLOUT : 0u);
    if (wanted == c->watched || c->dead)
        return;
    struct epoll_event ev = {.events = wanted, .data.u32 = (uint32_t)(c - s->clients) + 1};
    if (epoll_ctl(s->poll, EPOLL_CTL_MOD, c->fd, &ev) == 0)
        c->watched = wanted;
}

/* Only marks: the sweep at the end of a turn frees the slot. The shutdown makes the descriptor readable. */
static void drop(struct client *c)
{
    c->dead = true;
    shutdown(c->fd, SHUT_RDWR);
}

static void flush(struct control_server *s, struct client *c)
{
    while (!c->dead && c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                drop(c);
            break;
        }
        c->sent += (size_t)n;
        c->moved = s->now;
    }
    if (c->sent == c->out.len) {
        c->sent = 0;
        if (c->out.cap > 64 * 1024)
            buf_done(&c->out);
        else
            buf_reset(&c->out);
    }
    watch(s, c);
}

static int queue(struct control_server *s, struct client *c, const char *json, size_t len)
{
    size_t pending = c->out.len - c->sent;
    if (pending + len + 4 > CONTROL_PENDING_MAX) {
        drop(c);
        return err_fail(ERR_BUSY, "control socket: a client leaves %zu bytes unread and is dropped", pending);
    }
    if (c->sent > CONTROL_REPLY_MAX) {
        memmove(c->out.data, c->out.data + c->sent, pending);
        c->out.len = pending;
        c->sent = 0;
    }
    buf_be32(&c->out, (uint32_t)len);
    buf_append(&c->out, json, len);
    if (c->out.err) {
        drop(c);
        return -ENOMEM;
    }
    flush(s, c);
    c->moved.ns = 0; /* the time of the last turn may be long past: counted from the next one on */
    return 0;
}

static struct client *client_of(struct control_server *s, uint64_t command)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (command && s->clients[i].fd >= 0 && !s->clients[i].dead && s->clients[i].command == command)
            return &s->clients[i];
    return NULL;
}

static void queue_error(struct control_server *s, struct client *c, int code, const char *message)
{
    char text[300];
    int n = snprintf(text, sizeof text,
        "{\"schema\":\"sitetree.error/"
        "1\",\"code\":\"%s\",\"message\":\"%s\",\"hint\":\"%s\",\"exit\":1,\"more\":false}",
        err_word(code), message, err_hint(code));
    /* A failure has dropped the client already. */
    if (queue(s, c, text, (size_t)n) != 0)
        err_clear();
}

int control_server_reply(struct control_server *s, uint64_t command, const char *json, size_t len, bool more)
{
    struct client *c = client_of(s, command);
    if (!c)
        return ERR_NOT_FOUND;
    if (len > CONTROL_REPLY_MAX) {
        c->command = 0;
        queue_error(s, c, ERR_TOO_LARGE, "the answer is larger than 4 MiB; ask for less (--limit, --below)");
        return err_fail(ERR_TOO_LARGE, "control socket: answer of %zu bytes", len);
    }
    if (!more)
        c->command = 0;
    return queue(s, c, json, len);
}

static void request_whole(struct control_server *s, struct client *c)
{
    struct buf in = c->in;
    c->in = (struct buf){0};
    c->head_len = c->want = 0;
    buf_u8(&in, 0);
    if (in.err) {
        drop(c);
    } else {
        c->command = ++s->commands;
        watch(s, c);
        s->events.on_request(s->events.ctx, c->command, (const char *)in.data, in.len - 1);
    }
    buf_done(&in);
}

/* Returns false when the socket has no more for now. */
static bool receive(struct control_server *s, struct client *c)
{
    uint8_t bytes[16384], *to = c->head + c->head_len;
    size_t room = sizeof c->head - c->head_len;
    if (room == 0) {
        to = bytes;
        room = c->want - c->in.len < sizeof bytes ? c->want - c->in.len : sizeof bytes;
    }
    ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);
    if (n < 0)
        return errno == EINTR ? true : errno == EAGAIN ? false : (drop(c), false);
    if (n == 0) {
        drop(c);
        return false;
    }
    if (c->head_len == 0 && c->in.len == 0)
        c->moved = s->now;
    if (c->head_len < sizeof c->head) {
        c->head_len += (size_t)n;
        if (c->head_len < sizeof c->head)
            return true;
        struct reader r = reader_of(view_of(c->head, sizeof c->head));
        c->want = read_be32(&r);
        if (c->want == 0 || c->want > CONTROL_REQUEST_MAX) {
            queue_error(s, c, c->want ? ERR_TOO_LARGE : ERR_MALFORMED, "a request has 1 byte to 1 MiB");
            drop(c);
        }
        return !c->dead;
    }
    buf_append(&c->in, bytes, (size_t)n);
    if (c->in.err)
        drop(c);
    else if (c->in.len == c->want)
        request_whole(s, c);
    return !c->dead;
}

static void serve(struct control_server *s, struct client *c, uint32_t events)
{
    if (events & EPOLLOUT)
        flush(s, c);
    for (int i = 0; i < 64 && (events & EPOLLIN) && !c->dead && c->command == 0; i++)
        if (!receive(s, c))
            break;
    /* With a command open nothing is read, so the end of the client shows here only. */
    if ((events & (EPOLLHUP | EPOLLERR)) || ((events & EPOLLRDHUP) && c->command))
        drop(c);
    watch(s, c);
}

static void free_slot(struct control_server *s, struct client *c)
{
    uint64_t command = c->command;
    close(c->fd);
    buf_done(&c->in);
    buf_done(&c->out);
    *c = (struct client){.fd = -1};
    if (command)
        s->events.on_gone(s->events.ctx, command);
}

static void sweep(struct control_server *s)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *c = &s->clients[i];
        if (c->fd < 0)
            continue;
        if (c->moved.ns == 0)
            c->moved = s->now;
        bool half = c->head_len > 0, unread = c->sent < c->out.len;
        if ((half || unread) && s->now.ns - c->moved.ns > CONTROL_SLOW_NS)
            c->dead = true;
        if (c->dead)
            free_slot(s, c);
    }
}

/* A free slot; where there is none, that of the client which has been idle for longest. */
static struct client *slot(struct control_server *s)
{
    struct client *idle = NULL;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *c = &s->clients[i];
        if (c->fd < 0)
            return c;
        bool busy = c->command || c->sent < c->out.len;
        if (!busy && (!idle || c->moved.ns < idle->moved.ns))
            idle = c;
    }
    if (idle)
        free_slot(s, idle);
    return idle;
}

static void refuse(int fd, int code, const char *message)
{
    char text[300];
    int n = snprintf(text + 4, sizeof text - 4,
        "{\"schema\":\"sitetree.error/"
        "1\",\"code\":\"%s\",\"message\":\"%s\",\"hint\":\"%s\",\"exit\":1,\"more\":false}",
        err_word(code), message, err_hint(code));
    uint8_t head[4] = {0, 0, (uint8_t)(n >> 8), (uint8_t)n};
    memcpy(text, head, sizeof head);
    ssize_t sent = send(fd, text, (size_t)n + 4, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent; /* it is refused either way */
    close(fd);
}

static void accept_one(struct control_server *s, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 ||
        (peer.uid != geteuid() && peer.uid != 0)) {
        refuse(fd, ERR_REFUSED, "only the user of the daemon and root may ask here");
        return;
    }
    struct client *c = slot(s);
    if (!c) {
        refuse(fd, ERR_BUSY, "too many commands are open at this daemon");
        return;
    }
    *c = (struct client){.fd = fd, .watched = EPOLLIN | EPOLLRDHUP, .moved = s->now};
    struct epoll_event ev = {.events = c->watched, .data.u32 = (uint32_t)(c - s->clients) + 1};
    if (epoll_ctl(s->poll, EPOLL_CTL_ADD, fd, &ev) != 0)
        free_slot(s, c);
}

void control_server_turn(struct control_server *s, struct mono now)
{
    struct epoll_event events[CONTROL_CLIENTS_MAX + 1];
    bool knocks = false;
    s->now = now;
    int n = epoll_wait(s->poll, events, COUNT_OF(events), 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == 0)
            knocks = true;
        else if (s->clients[events[i].data.u32 - 1].fd >= 0)
            serve(s, &s->clients[events[i].data.u32 - 1], events[i].events);
    }
    sweep(s);
    /* Last, so that no event of this turn meets a slot that has a new client. */
    for (int i = 0; knocks && i < CONTROL_CLIENTS_MAX; i++) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            break;
        accept_one(s, fd);
    }
}

static int folder_check(const char *path)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *folder =
        slash && slash > path ? strndup(path, (size_t)(slash - path)) : strdup(slash ? "/" : ".");
    struct stat st;
    if (!folder)
        return -ENOMEM;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return fail_errno("its folder cannot be made", path);
    if (stat(folder, &st) != 0)
        return fail_errno("its folder", path);
    if ((st.st_mode & 022) || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_fail(ERR_CONFIG, "control socket %s: others may write to its folder (mode %04o)", path,
            (unsigned)st.st_mode & 07777u);
    return 0;
}

/* A socket that nobody listens on is left over from an earlier life. */
static int remove_stale(const char *path, const struct socket_path *p)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail_errno("no socket", path);
    int rc = connect(fd, (const struct sockaddr *)&p->address, p->len) == 0 ? 0 : errno;
    close(fd);
    if (rc == 0 || rc == EAGAIN)
        return err_fail(ERR_EXISTS, "control socket %s: another process answers there", path);
    if (rc == ECONNREFUSED && unlink(path) != 0)
        return fail_errno("an old socket cannot be removed", path);
    return 0;
}

static int bind_and_listen(struct control_server *s)
{
    struct socket_path p;
    int rc = socket_path_make(s->path, &p);
    if (rc)
        return rc;
    rc = remove_stale(s->path, &p);
    if (rc)
        goto out;
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listener < 0 || bind(s->listener, (const struct sockaddr *)&p.address, p.len) != 0) {
        rc = fail_errno("cannot be bound", s->path);
        goto out;
    }
    /* Nobody can connect before listen, so the mode is right from the first connection on. */
    if (chmod(s->path, 0600) != 0 || listen(s->listener, CONTROL_CLIENTS_MAX) != 0)
        rc = fail_errno("cannot be listened on", s->path);
out:
    socket_path_done(&p);
    return rc;
}

int control_server_open(
    const char *path, const struct control_events *events, struct control_server **ret_server)
{
    struct control_server *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->events = *events;
    s->listener = s->poll = -1;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        s->clients[i].fd = -1;
    s->path = strdup(path);
    int rc = s->path ? folder_check(path) : -ENOMEM;
    if (rc == 0)
        rc = bind_and_listen(s);
    if (rc) {
        free(s->path); /* not ours to remove */
        s->path = NULL;
        goto out;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 0};
    s->poll = epoll_create1(EPOLL_CLOEXEC);
    if (s->poll < 0 || epoll_ctl(s->poll, EPOLL_CTL_ADD, s->listener, &ev) != 0)
        rc = fail_errno("epoll", path);
out:
    if (rc)
        control_server_close(s);
    else
        *ret_server = s;
    return rc;
}

void control_server_close(struct control_server *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *c = &s->clients[i];
        if (c->fd >= 0)
            close(c->fd);
        buf_done(&c->in);
        buf_done(&c->out);
    }
    if (s->path)
        unlink(s->path);
    if (s->listener >= 0)
        close(s->listener);
    if (s->poll >= 0)
        close(s->poll);
    free(s->path);
    free(s);
}

int control_server_fd(const struct control_server *s)
{
    return s->poll;
}

size_t control_server_clients(const struct control_server *s)
{
    size_t n = 0;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        n += s->clients[i].fd >= 0;
    return n;
}

#include "common/control/client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/control/path.h"
#include "common/control/server.h"

struct control {
    int fd; /* -1 once a call went wrong */
    int64_t timeout_ns;
    char *path;
};

static int64_t now_ns(void)
{
    return clock_mono(&clock_real).ns;
}

static int not_running(const char *path, const char *what)
{
    return err_fail(ERR_NOT_RUNNING, "no sitetreed answers at %s: %s", path, what);
}

static int wait_for(const struct control *c, short events, int64_t until)
{
    for (;;) {
        int64_t left = until - now_ns();
        if (until && left <= 0)
            return err_fail(ERR_TIMEOUT, "%s: no answer within the time", c->path);
        struct pollfd p = {.fd = c->fd, .events = events};
        int n = poll(&p, 1, until ? (int)(left / NS_PER_MS < 3600000 ? left / NS_PER_MS + 1 : 3600000) : -1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n < 0)
            return err_fail(-EINTR, "interrupted");
    }
}

static int64_t deadline(const struct control *c)
{
    return c->timeout_ns ? now_ns() + c->timeout_ns : 0;
}

static int dial(struct control *c)
{
    struct socket_path p;
    int rc = socket_path_make(c->path, &p);
    if (rc == -ENOENT || rc == -ENOTDIR)
        return not_running(c->path, "there is no such folder");
    if (rc)
        return rc;
    int64_t until = deadline(c);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        rc = -errno;
    /* A Unix socket connects at once, or says that its queue is full. */
    while (rc == 0 && connect(c->fd, (const struct sockaddr *)&p.address, p.len) != 0) {
        if (errno == EAGAIN && (until == 0 || now_ns() < until))
            poll(NULL, 0, 20);
        else if (errno == EAGAIN)
            rc = err_fail(ERR_TIMEOUT, "%s: sitetreed takes no connection", c->path);
        else if (errno == ENOENT || errno == ECONNREFUSED)
            rc = not_running(c->path, errno == ENOENT ? "there is no socket" : "nobody listens");
        else
            rc = err_fail(-errno, "%s: %s", c->path, strerrordesc_np(errno));
    }
    socket_path_done(&p);
    return rc;
}

int control_open(const char *path, int64_t timeout_ns, struct control **ret_control)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = (struct control){.fd = -1, .timeout_ns = timeout_ns, .path = strdup(path)};
    int rc = c->path ? dial(c) : -ENOMEM;
    if (rc)
        control_close(c);
    else
        *ret_control = c;
    return rc;
}

void control_close(struct control *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    free(c->path);
    free(c);
}

void control_set_timeout(struct control *c, int64_t timeout_ns)
{
    c->timeout_ns = timeout_ns;
}

static int send_all(struct control *c, struct view v)
{
    int64_t until = deadline(c);
    while (v.len) {
        ssize_t n = send(c->fd, v.data, v.len, MSG_NOSIGNAL);
        if (n >= 0) {
            v = view_of(v.data + n, v.len - (size_t)n);
        } else if (errno == EAGAIN) {
            int rc = wait_for(c, POLLOUT, until);
            if (rc)
                return rc;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return 0; /* a refusal may wait to be read */
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int receive_all(struct control *c, void *to, size_t len)
{
    uint8_t *p = to;
    int64_t until = deadline(c);
    while (len) {
        ssize_t n = recv(c->fd, p, len, 0);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            until = deadline(c);
        } else if (n == 0 || errno == ECONNRESET) {
            return not_running(c->path, "it ended before it had answered");
        } else if (errno == EAGAIN) {
            int rc = wait_for(c, POLLIN, until);
            if (rc)
                return rc;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int receive_reply(struct control *c, json_t **ret_reply)
{
    uint8_t head[4];
    int rc = receive_all(c, head, sizeof head);
    if (rc)
        return rc;
    struct reader r = reader_of(view_of(head, sizeof head));
    size_t len = read_be32(&r);
    if (len > CONTROL_REPLY_MAX)
        return err_fail(ERR_TOO_LARGE, "%s: an answer of %zu bytes", c->path, len);
    AUTO_FREE char *text = malloc(len + 1);
    if (!text)
        return -ENOMEM;
    rc = receive_all(c, text, len);
    if (rc)
        return rc;
    json_error_t e;
    json_t *reply = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(reply)) {
        json_decref(reply);
        return err_fail(ERR_MALFORMED, "%s: the answer is not a JSON object: %s", c->path, e.text);
    }
    *ret_reply = reply;
    return 0;
}

static int send_request(struct control *c, const char *command, json_t *args)
{
    json_t *request = json_pack("{s:s, s:O*}", "command", command, "args", args);
    AUTO_FREE char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text)
        return -ENOMEM;
    if (strlen(text) > CONTROL_REQUEST_MAX)
        return err_fail(ERR_TOO_LARGE, "the request has %zu bytes, more than 1 MiB", strlen(text));
    AUTO_BUF out = {0};
    buf_be32(&out, (uint32_t)strlen(text));
    buf_str(&out, text);
    return out.err ? out.err : send_all(c, buf_view(&out));
}

static void give_up(struct control *c)
{
    close(c->fd);
    c->fd = -1;
}

int control_call(struct control *c, const char *command, json_t *args, control_on_reply *on_reply, void *ctx,
    int *ret_exit)
{
    if (c->fd < 0)
        return not_running(c->path, "the connection is closed");
    int rc = send_request(c, command, args);
    for (bool more = rc == 0; more;) {
        json_t *reply = NULL;
        rc = receive_reply(c, &reply);
        if (rc)
            break;
        const json_t *code = json_object_get(reply, "exit");
        more = json_is_true(json_object_get(reply, "more"));
        *ret_exit = json_is_integer(code) ? (int)json_integer_value(code) & 0xff : 1;
        rc = on_reply ? on_reply(ctx, reply) : 0;
        json_decref(reply);
        if (rc)
            break;
    }
    if (rc)
        give_up(c);
    return rc;
}

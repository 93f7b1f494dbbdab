/* The control socket, both ends over a real one. 's': what a client writes to the daemon; a byte before each
 * piece says how long it is. Requests are taken apart and answered. 'c': what the daemon answers to the
 * command line, in one piece. Neither end hangs, and answers come one a request. */
#include "common/control/answer.h"
#include "common/control/client.h"
#include "common/control/path.h"
#include "common/control/server.h"
#include "tests/fuzz/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static char folder[] = "/tmp/sitetree-fuzz-control-XXXXXX";
static char path[64];
static struct control_server *server;
static unsigned requests, gone;

static void on_request(void *ctx, uint64_t command, const char *json, size_t len)
{
    struct control_request r;
    struct wall now = {1};
    struct blob *answer;
    (void)ctx;
    requests++;
    PROMISE(json[len] == 0);
    int rc = control_request_parse(view_of(json, len), &r);
    if (rc) {
        PROMISE(rc == ERR_MALFORMED || rc == -ENOMEM);
        answer = control_error(rc, NULL);
    } else {
        PROMISE(r.command && json_is_object(r.args));
        answer = control_answer("fuzz", now, json_incref(r.args), 0, false);
        control_request_done(&r);
    }
    PROMISE(answer != NULL);
    struct view v = blob_view(answer);
    (void)!control_server_reply(server, command, (const char *)v.data, v.len, false);
    blob_free(answer);
}

static void on_gone(void *ctx, uint64_t command)
{
    (void)ctx;
    (void)command;
    gone++;
}

static void clean_up(void)
{
    control_server_close(server);
    unlink(path);
    rmdir(folder);
}

static void start(void)
{
    struct control_events events = {on_request, on_gone, NULL};
    PROMISE(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/s", folder);
    PROMISE(control_server_open(path, &events, &server) == 0);
    (void)atexit(clean_up);
}

static int dial(void)
{
    struct socket_path p;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PROMISE(fd >= 0 && socket_path_make(path, &p) == 0);
    PROMISE(connect(fd, (const struct sockaddr *)&p.address, p.len) == 0);
    socket_path_done(&p);
    return fd;
}

static void turn(void)
{
    static int64_t now = NS_PER_S;
    control_server_turn(server, (struct mono){now += NS_PER_MS});
}

static void to_server(struct view v)
{
    struct reader r = reader_of(v);
    char answers[4096];
    int fd = dial();
    turn();
    PROMISE(control_server_clients(server) == 1);
    while (r.rest.len) {
        size_t n = read_u8(&r);
        struct view piece = read_bytes(&r, n < r.rest.len ? n : r.rest.len);
        if (send(fd, piece.data, piece.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        turn();
        while (recv(fd, answers, sizeof answers, MSG_DONTWAIT) > 0)
            ;
    }
    close(fd);
    turn();
    turn();
    PROMISE(control_server_clients(server) == 0);
}

static int on_reply(void *ctx, json_t *reply)
{
    unsigned *n = ctx;
    PROMISE(json_is_object(reply));
    (*n)++;
    return 0;
}

static void to_client(struct view v)
{
    struct socket_path p;
    struct control *c;
    unsigned n = 0;
    int exit_code = -1;
    char other[80];
    snprintf(other, sizeof other, "%s/c", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PROMISE(listener >= 0 && socket_path_make(other, &p) == 0);
    PROMISE(bind(listener, (const struct sockaddr *)&p.address, p.len) == 0 && listen(listener, 1) == 0);
    socket_path_done(&p);
    PROMISE(control_open(other, NS_PER_S, &c) == 0);
    int fd = accept(listener, NULL, NULL);
    PROMISE(fd >= 0 && send(fd, v.data, v.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)v.len);
    PROMISE(shutdown(fd, SHUT_WR) == 0);
    int rc = control_call(c, "status", NULL, on_reply, &n, &exit_code);
    PROMISE(rc == 0 || rc == ERR_NOT_RUNNING || rc == ERR_MALFORMED || rc == ERR_TOO_LARGE);
    PROMISE(rc != 0 || (n > 0 && exit_code >= 0 && exit_code <= 255));
    control_close(c);
    close(fd);
    close(listener);
    unlink(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    if (!server)
        start();
    struct view v = view_of(data + 1, len < 60000 ? len - 1 : 60000);
    if (data[0] == 'c')
        to_client(v);
    else
        to_server(v);
    return 0;
}

/* Both ends of the control socket: what a well-meaning client gets, and what the others cannot do to the
 * daemon. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/control/answer.h"
#include "common/control/client.h"
#include "common/control/server.h"

struct fixture {
    char dir[32], path[64];
    struct control_server *server;
    struct mono now;
    /* What the callbacks saw. */
    uint64_t command, gone;
    char request[200];
    size_t requests, goes;
    /* What on_request does. */
    bool answer_at_once;
    pthread_t thread;
    atomic_bool stop;
};

static void on_request(void *ctx, uint64_t command, const char *json, size_t len)
{
    struct fixture *f = ctx;
    f->requests++;
    f->command = command;
    snprintf(f->request, sizeof f->request, "%s", json);
    assert_int_equal(strlen(json), len);
    if (!f->answer_at_once)
        return;
    struct control_request r;
    if (control_request_parse(view_of(json, len), &r)) {
        struct blob *b = control_error(ERR_MALFORMED, NULL);
        assert_int_equal(control_server_reply(
                             f->server, command, (const char *)blob_view(b).data, blob_view(b).len, false),
            0);
        blob_free(b);
        return;
    }
    int n = (int)json_integer_value(json_object_get(r.args, "answers"));
    /* A client that has its fill closes between two answers: ERR_NOT_FOUND. */
    for (int i = 0, rc = 0; i < n && rc == 0; i++) {
        struct blob *b =
            control_answer("echo", (struct wall){1000000000}, json_integer(i), i == n - 1 ? 3 : 0, i < n - 1);
        rc = control_server_reply(
            f->server, command, (const char *)blob_view(b).data, blob_view(b).len, i < n - 1);
        blob_free(b);
    }
    control_request_done(&r);
}

static void on_gone(void *ctx, uint64_t command)
{
    struct fixture *f = ctx;
    f->goes++;
    f->gone = command;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/control_test.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/run/control.sock", f->dir);
    f->now.ns = NS_PER_S;
    struct control_events events = {on_request, on_gone, f};
    assert_int_equal(control_server_open(f->path, &events, &f->server), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char run[48];
    control_server_close(f->server);
    assert_int_not_equal(access(f->path, F_OK), 0);
    snprintf(run, sizeof run, "%s/run", f->dir);
    assert_int_equal(rmdir(run), 0);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static int dial(const struct fixture *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", f->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void turns(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++)
        control_server_turn(f->server, f->now);
}

static void put(int fd, uint32_t len, const char *text, size_t n)
{
    AUTO_BUF b = {0};
    buf_be32(&b, len);
    buf_append(&b, text, n);
    assert_int_equal(send(fd, b.data, b.len, MSG_NOSIGNAL), b.len);
}

static void request(int fd, const char *text)
{
    put(fd, (uint32_t)strlen(text), text, strlen(text));
}

/* The next answer as text, "" at the end of the stream. Static storage. */
static const char *take(int fd)
{
    static char text[4096];
    uint8_t head[4];
    struct pollfd p = {fd, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 5000), 1);
    if (recv(fd, head, 4, MSG_WAITALL) != 4)
        return "";
    struct reader r = reader_of(view_of(head, 4));
    size_t n = read_be32(&r);
    assert_true(n < sizeof text);
    assert_int_equal(recv(fd, text, n, MSG_WAITALL), n);
    text[n] = 0;
    return text;
}

static void a_request_is_answered(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    request(fd, "{\"command\":\"ping\"}");
    turns(f, 2);
    assert_string_equal(f->request, "{\"command\":\"ping\"}");
    assert_int_equal(control_server_reply(f->server, f->command, "{\"a\":1}", 7, true), 0);
    assert_int_equal(control_server_reply(f->server, f->command, "{\"a\":2}", 7, false), 0);
    assert_int_equal(control_server_reply(f->server, f->command, "{\"a\":3}", 7, false), ERR_NOT_FOUND);
    assert_string_equal(take(fd), "{\"a\":1}");
    assert_string_equal(take(fd), "{\"a\":2}");
    close(fd);
    turns(f, 2);
    assert_int_equal(control_server_clients(f->server), 0);
    assert_int_equal(f->goes, 0);
}

static void requests_of_one_client_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    request(fd, "1");
    request(fd, "2");
    turns(f, 4);
    assert_int_equal(f->requests, 1);
    assert_int_equal(control_server_reply(f->server, f->command, "a", 1, false), 0);
    turns(f, 2);
    assert_int_equal(f->requests, 2);
    assert_string_equal(f->request, "2");
    close(fd);
}

static void the_socket_is_for_its_owner(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    char run[48];
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    snprintf(run, sizeof run, "%s/run", f->dir);
    assert_int_equal(stat(run, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

static void a_second_daemon_is_refused_and_a_dead_one_replaced(void **state)
{
    struct fixture *f = *state;
    struct control_events events = {on_request, on_gone, f};
    struct control_server *other = NULL;
    assert_int_equal(control_server_open(f->path, &events, &other), ERR_EXISTS);
    assert_int_equal(access(f->path, F_OK), 0);
    turns(f, 2);
    /* What a killed daemon leaves: a socket that nobody listens on. */
    char left[64];
    snprintf(left, sizeof left, "%s/run/left.sock", f->dir);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", left);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    assert_int_equal(control_server_open(left, &events, &other), 0);
    control_server_close(other);
}

static void a_folder_that_others_write_to_is_refused(void **state)
{
    struct fixture *f = *state;
    struct control_events events = {on_request, on_gone, f};
    struct control_server *other = NULL;
    char path[64];
    assert_int_equal(chmod(f->dir, 0777), 0);
    snprintf(path, sizeof path, "%s/c.sock", f->dir);
    int rc = control_server_open(path, &events, &other);
    assert_int_equal(rc, ERR_CONFIG);
    assert_non_null(strstr(err_text(rc), "others may write to its folder (mode 0777)"));
}

static void a_path_of_any_length_works(void **state)
{
    struct fixture *f = *state;
    char folder[220], path[240];
    snprintf(folder, sizeof folder, "%s/%0150d", f->dir, 0);
    snprintf(path, sizeof path, "%s/c.sock", folder);
    struct control_events events = {on_request, on_gone, f};
    struct control_server *other = NULL;
    struct control *c = NULL;
    assert_int_equal(control_server_open(path, &events, &other), 0);
    assert_int_equal(control_open(path, NS_PER_S, &c), 0);
    control_server_turn(other, f->now);
    assert_int_equal(control_server_clients(other), 1);
    control_close(c);
    control_server_close(other);
    assert_int_equal(rmdir(folder), 0);
}

static void lengths_that_cannot_be_are_refused_at_once(void **state)
{
    struct fixture *f = *state;
    static const uint32_t lengths[] = {
        0, CONTROL_REQUEST_MAX + 1, UINT32_MAX, 0x7b22636f /* {"co: JSON without a length */};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        int fd = dial(f);
        put(fd, lengths[i], "", 0);
        turns(f, 3);
        const char *answer = take(fd);
        assert_non_null(strstr(answer, "sitetree.error/1"));
        assert_non_null(strstr(answer, i ? "too-large" : "malformed"));
        assert_string_equal(take(fd), "");
        assert_int_equal(control_server_clients(f->server), 0);
        close(fd);
    }
    assert_int_equal(f->requests, 0);
}

static void a_half_message_is_dropped_in_time(void **state)
{
    struct fixture *f = *state;
    int idle = dial(f), half = dial(f);
    put(half, 100, "{\"comm", 6);
    turns(f, 3);
    assert_int_equal(control_server_clients(f->server), 2);
    f->now.ns += CONTROL_SLOW_NS / 2;
    assert_int_equal(send(half, "a", 1, 0), 1); /* trickling does not help */
    turns(f, 2);
    f->now.ns += CONTROL_SLOW_NS / 2 + 1;
    turns(f, 2);
    assert_int_equal(control_server_clients(f->server), 1);
    assert_string_equal(take(half), "");
    close(half);
    close(idle);
}

static void bytes_one_at_a_time_make_a_request(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    static const char whole[] = "\0\0\0\2{}";
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(send(fd, whole + i, 1, 0), 1);
        turns(f, 2);
    }
    assert_int_equal(f->requests, 1);
    assert_string_equal(f->request, "{}");
    close(fd);
}

static void a_client_that_never_reads_is_dropped(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    request(fd, "{}");
    turns(f, 2);
    AUTO_FREE char *large = malloc(1024 * 1024);
    memset(large, 'x', 1024 * 1024);
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++)
        rc = control_server_reply(f->server, f->command, large, 1024 * 1024, true);
    assert_int_equal(rc, ERR_BUSY);
    assert_int_equal(control_server_reply(f->server, f->command, "a", 1, true), ERR_NOT_FOUND);
    turns(f, 1);
    assert_int_equal(control_server_clients(f->server), 0);
    assert_int_equal(f->gone, f->command);
    close(fd);
    /* One that leaves a little unread keeps its slot only for a while, counted from the next turn. */
    fd = dial(f);
    request(fd, "{}");
    turns(f, 3);
    f->now.ns += 10 * CONTROL_SLOW_NS;
    assert_int_equal(control_server_reply(f->server, f->command, large, 1024 * 1024, false), 0);
    turns(f, 2);
    assert_int_equal(control_server_clients(f->server), 1);
    f->now.ns += CONTROL_SLOW_NS + 1;
    turns(f, 2);
    assert_int_equal(control_server_clients(f->server), 0);
    close(fd);
}

static void an_answer_beyond_the_limit_becomes_an_error(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    request(fd, "{}");
    turns(f, 2);
    AUTO_FREE char *large = calloc(1, CONTROL_REPLY_MAX + 1);
    assert_int_equal(
        control_server_reply(f->server, f->command, large, CONTROL_REPLY_MAX + 1, true), ERR_TOO_LARGE);
    assert_non_null(strstr(take(fd), "\"code\":\"too-large\""));
    assert_int_equal(control_server_reply(f->server, f->command, "a", 1, false), ERR_NOT_FOUND);
    close(fd);
}

static void the_owner_of_a_command_learns_that_its_client_left(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    request(fd, "{}");
    turns(f, 2);
    close(fd);
    turns(f, 2);
    assert_int_equal(f->goes, 1);
    assert_int_equal(f->gone, f->command);
    assert_int_equal(control_server_reply(f->server, f->command, "a", 1, false), ERR_NOT_FOUND);
}

static void clients_are_bounded(void **state)
{
    struct fixture *f = *state;
    int fds[CONTROL_CLIENTS_MAX + 1];
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        fds[i] = dial(f);
        f->now.ns += NS_PER_MS;
        turns(f, 1);
    }
    /* The one that has idled for longest makes room. */
    fds[CONTROL_CLIENTS_MAX] = dial(f);
    turns(f, 2);
    assert_int_equal(control_server_clients(f->server), CONTROL_CLIENTS_MAX);
    assert_string_equal(take(fds[0]), "");
    for (int i = 1; i <= CONTROL_CLIENTS_MAX; i++)
        request(fds[i], "{}");
    turns(f, 2);
    assert_int_equal(f->requests, CONTROL_CLIENTS_MAX);
    int late = dial(f);
    turns(f, 1);
    assert_non_null(strstr(take(late), "\"code\":\"busy\""));
    close(late);
    for (int i = 0; i <= CONTROL_CLIENTS_MAX; i++)
        close(fds[i]);
}

static void *run(void *ctx)
{
    struct fixture *f = ctx;
    while (!f->stop) {
        struct pollfd p = {control_server_fd(f->server), POLLIN, 0};
        poll(&p, 1, 20);
        control_server_turn(f->server, clock_mono(&clock_real));
    }
    return NULL;
}

struct seen {
    int n, last;
    int stop_at;
};

static int on_reply(void *ctx, json_t *reply)
{
    struct seen *s = ctx;
    assert_string_equal(json_string_value(json_object_get(reply, "schema")), "sitetree.echo/1");
    assert_string_equal(json_string_value(json_object_get(reply, "as_of")), "1970-01-01T00:00:01Z");
    s->last = (int)json_integer_value(json_object_get(reply, "data"));
    return ++s->n == s->stop_at ? ERR_CANCELLED : 0;
}

static void the_client_takes_all_answers(void **state)
{
    struct fixture *f = *state;
    f->answer_at_once = true;
    pthread_create(&f->thread, NULL, run, f);
    struct control *c = NULL;
    assert_int_equal(control_open(f->path, 5 * NS_PER_S, &c), 0);
    json_t *args = json_pack("{s:i}", "answers", 500);
    struct seen s = {0};
    int exit_code = -1;
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(control_call(c, "echo", args, on_reply, &s, &exit_code), 0);
        assert_int_equal(s.n, 500 * i);
        assert_int_equal(s.last, 499);
        assert_int_equal(exit_code, 3);
    }
    s = (struct seen){.stop_at = 3};
    assert_int_equal(control_call(c, "echo", args, on_reply, &s, &exit_code), ERR_CANCELLED);
    assert_int_equal(s.n, 3);
    assert_int_equal(control_call(c, "echo", args, on_reply, &s, &exit_code), ERR_NOT_RUNNING);
    json_decref(args);
    control_close(c);
    f->stop = true;
    pthread_join(f->thread, NULL);
}

static void the_client_says_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct control *c = NULL;
    int exit_code;
    char path[64];
    assert_int_equal(control_open("/nonexistent/run/control.sock", NS_PER_S, &c), ERR_NOT_RUNNING);
    snprintf(path, sizeof path, "%s/none.sock", f->dir);
    int rc = control_open(path, NS_PER_S, &c);
    assert_int_equal(rc, ERR_NOT_RUNNING);
    assert_non_null(strstr(err_text(rc), "there is no socket"));
    assert_null(c);
    /* A daemon that takes the request and is silent. */
    assert_int_equal(control_open(f->path, 50 * NS_PER_MS, &c), 0);
    assert_int_equal(control_call(c, "x", NULL, NULL, NULL, &exit_code), ERR_TIMEOUT);
    control_close(c);
    turns(f, 3);
}

struct liar {
    int listener;
    const char *bytes;
    size_t len;
};

static void *lie(void *ctx)
{
    struct liar *l = ctx;
    int fd = accept(l->listener, NULL, NULL);
    char request_of_client[100];
    assert_true(recv(fd, request_of_client, sizeof request_of_client, 0) > 0);
    assert_int_equal(send(fd, l->bytes, l->len, MSG_NOSIGNAL), l->len);
    close(fd);
    return NULL;
}

static void the_client_bears_answers_of_any_kind(void **state)
{
    struct fixture *f = *state;
    struct {
        const char *bytes;
        size_t len;
        int rc;
    } cases[] = {
        {"", 0, ERR_NOT_RUNNING},
        {"\0\0", 2, ERR_NOT_RUNNING},
        {"\0\0\0\x09{\"a\"", 8, ERR_NOT_RUNNING},
        {"\xff\xff\xff\xff", 4, ERR_TOO_LARGE},
        {"\0\0\0\x03[1]", 7, ERR_MALFORMED},
        {"\0\0\0\x02{\xff", 6, ERR_MALFORMED},
        {"\0\0\0\0", 4, ERR_MALFORMED},
        {"\0\0\0\x02{}", 6, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s/liar.sock", f->dir);
        struct liar l = {socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), cases[i].bytes, cases[i].len};
        assert_int_equal(bind(l.listener, (struct sockaddr *)&a, sizeof a), 0);
        assert_int_equal(listen(l.listener, 1), 0);
        pthread_create(&f->thread, NULL, lie, &l);
        struct control *c = NULL;
        int exit_code = -1;
        assert_int_equal(control_open(a.sun_path, 5 * NS_PER_S, &c), 0);
        assert_int_equal(control_call(c, "x", NULL, NULL, NULL, &exit_code), cases[i].rc);
        if (cases[i].rc == 0)
            assert_int_equal(exit_code, 1); /* named none */
        control_close(c);
        pthread_join(f->thread, NULL);
        close(l.listener);
        unlink(a.sun_path);
    }
}

static void requests_are_taken_apart_and_errors_put_together(void **state)
{
    (void)state;
    struct control_request r;
    static const char *const bad[] = {"", "{", "[]", "{\"args\":{}}", "{\"command\":1}",
        "{\"command\":\"x\",\"args\":[]}", "{\"command\":\"x\",\"command\":\"y\"}",
        "{\"command\":\"a\\u0000b\"}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(control_request_parse(view_str(bad[i]), &r), ERR_MALFORMED);
    assert_int_equal(control_request_parse(view_str("{\"command\":\"x\",\"args\":null}"), &r), 0);
    assert_string_equal(r.command, "x");
    assert_true(json_is_object(r.args));
    control_request_done(&r);
    int rc = err_fail(ERR_TIMEOUT, "site \"b\\1\": x");
    struct blob *b = control_error(rc, "sitetree tree");
    assert_int_equal(blob_view(b).len,
        strlen("{\"schema\":\"sitetree.error/1\",\"code\":\"timeout\",\"message\":"
               "\"site \\\"b\\\\1\\\": x\",\"hint\":\"sitetree tree\",\"exit\":4,\"more\":false}"));
    blob_free(b);
    b = control_error(err_fail(ERR_TOKEN, "\xff"), NULL);
    assert_non_null(b);
    blob_free(b);
    assert_null(control_answer("x", (struct wall){0}, NULL, 0, false));
    assert_int_equal(control_exit_of(0), 0);
    assert_int_equal(control_exit_of(ERR_USAGE), 2);
    assert_int_equal(control_exit_of(ERR_TOKEN), 1);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_request_is_answered),
        T(requests_of_one_client_wait_for_each_other),
        T(the_socket_is_for_its_owner),
        T(a_second_daemon_is_refused_and_a_dead_one_replaced),
        T(a_folder_that_others_write_to_is_refused),
        T(a_path_of_any_length_works),
        T(lengths_that_cannot_be_are_refused_at_once),
        T(a_half_message_is_dropped_in_time),
        T(bytes_one_at_a_time_make_a_request),
        T(a_client_that_never_reads_is_dropped),
        T(an_answer_beyond_the_limit_becomes_an_error),
        T(the_owner_of_a_command_learns_that_its_client_left),
        T(clients_are_bounded),
        T(the_client_takes_all_answers),
        T(the_client_says_what_is_wrong),
        T(the_client_bears_answers_of_any_kind),
        cmocka_unit_test(requests_are_taken_apart_and_errors_put_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

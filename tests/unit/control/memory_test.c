/* A conversation over the control socket, and a configuration, with the n-th allocation failing: an error or
 * a dropped client, never a crash, a leak or a half answer. */
#include "tests/lib/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/config/config.h"
#include "common/control/answer.h"
#include "common/control/server.h"

#define STEPS_MAX 200

struct talk {
    struct control_server *server;
    uint64_t gone;
    int answered; /* 1: queued, or its error */
};

static void on_request(void *ctx, uint64_t command, const char *json, size_t len)
{
    struct talk *t = ctx;
    struct control_request r;
    struct blob *b;
    int rc = control_request_parse(view_of(json, len), &r);
    if (rc == 0) {
        b = control_answer("ping", (struct wall){NS_PER_S}, json_pack("{s:s}", "site", "CEN"), 0, false);
        control_request_done(&r);
    } else {
        b = control_error(rc, NULL);
    }
    t->answered =
        b ? control_server_reply(t->server, command, (const char *)blob_view(b).data, blob_view(b).len, false)
          : -ENOMEM;
    if (b && t->answered == 0)
        t->answered = 1;
    blob_free(b);
}

static void on_gone(void *ctx, uint64_t command)
{
    ((struct talk *)ctx)->gone = command;
}

static int dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Returns false once nothing failed any more. */
static bool talk_with_failure(const char *path, size_t n)
{
    static const char request[] = "\0\0\0\x12{\"command\":\"ping\"}";
    struct talk t = {0};
    struct control_events events = {on_request, on_gone, &t};
    char answer[300];
    memory_fail_at(n, false);
    int rc = control_server_open(path, &events, &t.server);
    if (rc) {
        assert_true(rc == -ENOMEM && memory_failed());
        memory_fail_at(0, false);
        assert_int_not_equal(access(path, F_OK), 0);
        return true;
    }
    int fd = dial(path);
    assert_int_equal(send(fd, request, sizeof request - 1, 0), sizeof request - 1);
    for (int i = 0; i < 4; i++)
        control_server_turn(t.server, (struct mono){NS_PER_S});
    bool failed = memory_failed();
    memory_fail_at(0, false);
    ssize_t got = recv(fd, answer, sizeof answer - 1, MSG_DONTWAIT);
    if (t.answered == 1) {
        assert_true(got > 4);
        answer[got] = 0;
        assert_int_equal((uint8_t)answer[3], got - 4); /* a whole one */
        assert_non_null(strstr(answer + 4, failed ? "\"schema\"" : "sitetree.ping/1"));
    } else {
        assert_true(failed);
    }
    close(fd);
    control_server_close(t.server);
    return failed;
}

static void a_conversation_without_memory(void **state)
{
    (void)state;
    char dir[] = "/tmp/memory_test.XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/control.sock", dir);
    json_set_alloc_funcs(malloc, free); /* so that jansson's fail as well */
    size_t n = 1;
    while (talk_with_failure(path, n))
        assert_true(++n < STEPS_MAX);
    assert_true(n > 5);
    assert_int_equal(rmdir(dir), 0);
}

static void a_configuration_without_memory(void **state)
{
    (void)state;
    static const char text[] = "listen = \"127.0.0.1:1\"\nwindow = 1MiB\napt_dir = \"/a\"\n";
    size_t n = 1;
    for (;; n++) {
        struct config *c = NULL;
        AUTO_BUF out = {0};
        memory_fail_at(n, false);
        int rc = config_parse_text(text, "t", &c);
        if (rc == 0)
            config_print(c, &out);
        bool failed = memory_failed();
        memory_fail_at(0, false);
        if (rc)
            assert_true(failed && !c);
        else if (failed)
            assert_int_equal(out.err, -ENOMEM);
        config_free(c);
        if (!failed)
            break;
        assert_true(n < STEPS_MAX);
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_without_memory),
        cmocka_unit_test(a_configuration_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A daemon that knows nothing: it answers the n-th request of a command on a control socket with the JSON in
 * FOLDER/COMMAND.n.json, where there is one, else in FOLDER/COMMAND.json; a list is several answers. It
 * prints each request on a line. Usage: fake_control SOCKET FOLDER; ends when its standard input does. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/control/answer.h"
#include "common/control/server.h"

struct fake {
    struct control_server *server;
    const char *folder;
    json_t *asked; /* command -> how often */
};

static void reply(struct fake *f, uint64_t command, const json_t *answer)
{
    bool more = json_is_true(json_object_get(answer, "more"));
    char *text = json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (!text || control_server_reply(f->server, command, text, strlen(text), more) != 0)
        fprintf(stderr, "fake_control: the answer could not be sent\n");
    free(text);
}

static json_t *answer_to(struct fake *f, const char *command)
{
    char path[4096];
    json_int_t n = json_integer_value(json_object_get(f->asked, command)) + 1;
    json_object_set_new(f->asked, command, json_integer(n));
    snprintf(path, sizeof path, "%s/%s.%d.json", f->folder, command, (int)n);
    json_t *answer = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    snprintf(path, sizeof path, "%s/%s.json", f->folder, command);
    if (!answer)
        answer = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!answer)
        answer = json_pack("{s:s, s:s, s:s, s:s, s:i, s:b}", "schema", "sitetree.error/1", "code",
            "not-found", "message", "no such command here", "hint", "sitetree help", "exit", 1, "more", 0);
    return answer;
}

static void on_request(void *ctx, uint64_t command, const char *json, size_t len)
{
    struct fake *f = ctx;
    struct control_request r;
    size_t i;
    json_t *one;
    printf("%s\n", json);
    fflush(stdout);
    if (control_request_parse(view_of(json, len), &r) != 0)
        abort();
    json_t *answer = answer_to(f, r.command);
    if (!json_is_array(answer))
        reply(f, command, answer);
    json_array_foreach(answer, i, one) reply(f, command, one);
    json_decref(answer);
    control_request_done(&r);
}

static void on_gone(void *ctx, uint64_t command)
{
    (void)ctx;
    (void)command;
}

int main(int argc, char **argv)
{
    struct fake f = {0};
    struct control_events events = {on_request, on_gone, &f};
    if (argc != 3)
        return 2;
    f.folder = argv[2];
    f.asked = json_object();
    int rc = control_server_open(argv[1], &events, &f.server);
    if (rc) {
        fprintf(stderr, "fake_control: %s\n", err_text(rc));
        return 1;
    }
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct pollfd p[2] = {{control_server_fd(f.server), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        poll(p, 2, 1000);
        control_server_turn(f.server, clock_mono(&clock_real));
        if (p[1].revents)
            break;
    }
    control_server_close(f.server);
    json_decref(f.asked);
    return 0;
}

/* A daemon that knows nothing: it answers each command on a control socket with the JSON in
 * FOLDER/COMMAND.json, and prints each request on a line. Usage: fake_control SOCKET FOLDER; ends when its
 * standard input does. */
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
};

static void reply(struct fake *f, uint64_t command, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    if (!text || control_server_reply(f->server, command, text, strlen(text), false) != 0)
        fprintf(stderr, "fake_control: the answer could not be sent\n");
    free(text);
    json_decref(answer);
}

static void on_request(void *ctx, uint64_t command, const char *json, size_t len)
{
    struct fake *f = ctx;
    struct control_request r;
    char path[4096];
    printf("%s\n", json);
    fflush(stdout);
    if (control_request_parse(view_of(json, len), &r) != 0)
        abort();
    snprintf(path, sizeof path, "%s/%s.json", f->folder, r.command);
    json_t *answer = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!answer)
        answer = json_pack("{s:s, s:s, s:s, s:s, s:i, s:b}", "schema", "sitetree.error/1", "code",
            "not-found", "message", "no such command here", "hint", "sitetree help", "exit", 1, "more", 0);
    reply(f, command, answer);
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
    return 0;
}

/* The bare loop beside the fanout bench: one XPUB socket with CURVE, many SUB sockets in several processes.
 * bare_fanout PEERS BYTES ROUNDS PER_PROCESS     Prints one JSON object: median and largest milliseconds from
 * the send until the last peer has the message. */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/bench/bare.h"

struct slot {
    atomic_int round;
    _Atomic double at;
};

static void peers_run(struct slot *slots, int n, const char *endpoint, struct link_keys keys)
{
    void *ctx = zmq_ctx_new();
    zmq_pollitem_t *items = grow(NULL, (size_t)n * sizeof *items);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < n; i++) {
        zmq_curve_keypair(keys.client_public, keys.client_secret);
        void *s = socket_new(ctx, ZMQ_SUB, &keys, 0);
        CHECK_ZMQ(zmq_setsockopt(s, ZMQ_SUBSCRIBE, "", 0));
        CHECK_ZMQ(zmq_connect(s, endpoint));
        items[i] = (zmq_pollitem_t){.socket = s, .events = ZMQ_POLLIN};
    }
    for (;;) {
        CHECK_ZMQ(zmq_poll(items, n, -1));
        for (int i = 0; i < n; i++) {
            zmq_msg_t m;
            if (!(items[i].revents & ZMQ_POLLIN))
                continue;
            zmq_msg_init(&m);
            CHECK_ZMQ(zmq_msg_recv(&m, items[i].socket, 0));
            slots[i].at = now_s();
            slots[i].round++;
            zmq_msg_close(&m);
        }
    }
}

/* Until all have had this round; the time of the last. */
static double last_of(struct slot *slots, int n, int round)
{
    double last = 0, give_up = now_s() + 30;
    for (int i = 0; i < n; i++) {
        while (slots[i].round < round) {
            if (now_s() > give_up)
                DIE("peer %d has not had message %d", i, round);
            usleep(200);
        }
        if (slots[i].at > last)
            last = slots[i].at;
    }
    return last;
}

int main(int argc, char **argv)
{
    struct link_keys keys;
    char endpoint[ENDPOINT_LEN];
    size_t len = sizeof endpoint;
    int one = 1;
    if (argc != 5) {
        fprintf(stderr, "usage: bare_fanout PEERS BYTES ROUNDS PER_PROCESS\n");
        return 2;
    }
    int n = atoi(argv[1]), rounds = atoi(argv[3]), per = atoi(argv[4]);
    size_t bytes = (size_t)atol(argv[2]);
    zmq_curve_keypair(keys.server_public, keys.server_secret);
    struct slot *slots =
        mmap(NULL, (size_t)n * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED)
        DIE("mmap");
    int fds[2];
    if (pipe(fds))
        DIE("pipe");
    for (int i = 0; i < n; i += per)
        if (fork() == 0) {
            if (read(fds[0], endpoint, sizeof endpoint) != (ssize_t)sizeof endpoint)
                DIE("pipe");
            peers_run(slots + i, n - i < per ? n - i : per, endpoint, keys);
        }
    void *ctx = zmq_ctx_new(), *pub = socket_new(ctx, ZMQ_XPUB, &keys, 1);
    CHECK_ZMQ(zmq_setsockopt(pub, ZMQ_XPUB_VERBOSE, &one, sizeof one));
    CHECK_ZMQ(zmq_bind(pub, "tcp://127.0.0.1:*"));
    memset(endpoint, 0, sizeof endpoint);
    CHECK_ZMQ(zmq_getsockopt(pub, ZMQ_LAST_ENDPOINT, endpoint, &len));
    for (int i = 0; i < n; i += per)
        if (write(fds[1], endpoint, sizeof endpoint) != (ssize_t)sizeof endpoint)
            DIE("pipe");
    for (int i = 0; i < n; i++) {
        char text[8];
        CHECK_ZMQ(zmq_recv(pub, text, sizeof text, 0));
    }
    double *ms = grow(NULL, (size_t)rounds * sizeof *ms);
    char *message = grow(NULL, bytes);
    memset(message, 'x', bytes);
    for (int i = 0; i < rounds; i++) {
        usleep(50000); /* everybody waits again */
        double start = now_s();
        CHECK_ZMQ(zmq_send(pub, message, bytes, 0));
        ms[i] = (last_of(slots, n, i + 1) - start) * 1e3;
    }
    qsort(ms, (size_t)rounds, sizeof *ms, cmp_double);
    printf("{\"median_ms\":%.3f,\"max_ms\":%.3f,\"rounds\":%d,\"rss_kib\":%ld}\n", ms[rounds / 2],
        ms[rounds - 1], rounds, rss_kib());
    return 0; /* the peers end with this one */
}

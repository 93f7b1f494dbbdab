/* The bare loop beside the cascade bench: single records down a chain of processes, each of which verifies
 * the Ed25519 signature and commits durably. bare_chain RECORDS FOLDER HOPS COUNT PER_SECOND store|cut store:
 * each hop commits, then forwards; cut: it forwards, then commits. The root signs and commits before it
 * sends, in both. Prints one JSON object with the times from before the signing to the commit at the last
 * hop. */
#include <signal.h>
#include <sodium.h>
#include <sys/wait.h>

#include "tests/bench/bare.h"

struct setup {
    struct records records;
    const char *dir;
    int hops, cut;
    long count;
    double interval;
    struct link_keys keys;
    uint8_t public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
};
/* A message: the time it was made (8 bytes), the signature (64), the record. */
enum { HOPS_MAX = 32, WARM_UP = 50, OVERHEAD = 8 + crypto_sign_BYTES };

static void commit_one(const struct table *t, uint64_t number, void *data, size_t len)
{
    MDB_txn *txn;
    CHECK_MDB(mdb_txn_begin(t->env, NULL, 0, &txn));
    table_append(t, txn, number, data, len);
    CHECK_MDB(mdb_txn_commit(txn));
}

/* in: tells the endpoint above; out: where to tell our own endpoint, -1 at the last hop; result: latencies.
 */
static void hop_run(const struct setup *s, int hop, int in, int out, int result)
{
    char name[16], subscription[64];
    snprintf(name, sizeof name, "hop%d", hop);
    struct table t = table_open(s->dir, name);
    void *ctx = zmq_ctx_new(), *up = socket_new(ctx, ZMQ_SUB, &s->keys, 0), *down = NULL;
    if (out >= 0) {
        down = socket_new(ctx, ZMQ_XPUB, &s->keys, 1);
        socket_bind(down, out);
        CHECK_ZMQ(zmq_recv(down, subscription, sizeof subscription, 0));
    }
    CHECK_ZMQ(zmq_setsockopt(up, ZMQ_SUBSCRIBE, "", 0));
    socket_connect(up, in);
    for (uint64_t number = 1;; number++) {
        zmq_msg_t m, forward;
        zmq_msg_init(&m);
        zmq_msg_init(&forward);
        CHECK_ZMQ(zmq_msg_recv(&m, up, 0));
        uint8_t *d = zmq_msg_data(&m);
        size_t len = zmq_msg_size(&m);
        if (len < OVERHEAD || crypto_sign_verify_detached(d + 8, d + OVERHEAD, len - OVERHEAD, s->public))
            DIE("signature");
        CHECK_ZMQ(zmq_msg_copy(&forward, &m));
        if (s->cut && down)
            CHECK_ZMQ(zmq_msg_send(&forward, down, 0));
        commit_one(&t, number, d, len);
        if (!s->cut && down)
            CHECK_ZMQ(zmq_msg_send(&forward, down, 0));
        if (!down) {
            double made, latency;
            memcpy(&made, d, sizeof made);
            latency = (now_s() - made) * 1e3;
            if (write(result, &latency, sizeof latency) != (ssize_t)sizeof latency)
                DIE("pipe");
        }
        zmq_msg_close(&m);
        zmq_msg_close(&forward);
    }
}

static double send_one(const struct setup *s, const struct table *t, void *out, uint64_t number, int result)
{
    static uint8_t buf[1 << 20];
    size_t r = number % s->records.n, len = s->records.len[r];
    double made = now_s(), latency;
    if (len > sizeof buf - OVERHEAD)
        DIE("record of %zu bytes", len);
    memcpy(buf, &made, sizeof made);
    crypto_sign_detached(buf + 8, NULL, s->records.data[r], len, s->secret);
    memcpy(buf + OVERHEAD, s->records.data[r], len);
    commit_one(t, number, buf, OVERHEAD + len);
    CHECK_ZMQ(zmq_send(out, buf, OVERHEAD + len, 0));
    if (read(result, &latency, sizeof latency) != (ssize_t)sizeof latency)
        DIE("a hop failed");
    double rest = made + s->interval - now_s();
    if (rest > 0)
        usleep((useconds_t)(rest * 1e6));
    return latency;
}

static void root_run(const struct setup *s, int endpoint, int result)
{
    char subscription[64];
    struct table t = table_open(s->dir, "root");
    void *out = socket_new(zmq_ctx_new(), ZMQ_XPUB, &s->keys, 1);
    socket_bind(out, endpoint);
    CHECK_ZMQ(
        zmq_recv(out, subscription, sizeof subscription, 0)); /* hops subscribe from the last one upward */
    double *v = grow(NULL, (size_t)s->count * sizeof *v);
    struct setup fast = *s;
    fast.interval = 0;
    for (long i = 0; i < WARM_UP; i++)
        send_one(&fast, &t, out, (uint64_t)i + 1, result);
    for (long i = 0; i < s->count; i++)
        v[i] = send_one(s, &t, out, (uint64_t)(WARM_UP + i) + 1, result);
    qsort(v, (size_t)s->count, sizeof *v, cmp_double);
    printf("{\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"min_ms\":%.4f,\"max_ms\":%.4f,\"count\":%ld,\"hops\":%d,"
           "\"mode\":\"%s\"}\n",
        v[s->count / 2], v[s->count * 99 / 100], v[0], v[s->count - 1], s->count, s->hops,
        s->cut ? "cut" : "store");
}

int main(int argc, char **argv)
{
    static struct setup s;
    int link[HOPS_MAX + 1][2], result[2];
    pid_t kid[HOPS_MAX];
    if (argc != 7 || sodium_init() < 0 || (strcmp(argv[6], "store") && strcmp(argv[6], "cut"))) {
        fprintf(stderr, "usage: bare_chain RECORDS FOLDER HOPS COUNT PER_SECOND store|cut\n");
        return 2;
    }
    s.records = records_load(argv[1]);
    s.dir = argv[2];
    s.hops = atoi(argv[3]);
    s.count = atol(argv[4]);
    s.interval = 1 / atof(argv[5]);
    s.cut = !strcmp(argv[6], "cut");
    if (s.hops < 1 || s.hops > HOPS_MAX || s.count < 1)
        DIE("1 to %d hops, at least one record", HOPS_MAX);
    zmq_curve_keypair(s.keys.server_public, s.keys.server_secret);
    zmq_curve_keypair(s.keys.client_public, s.keys.client_secret);
    crypto_sign_keypair(s.public, s.secret);
    for (int i = 0; i <= s.hops; i++)
        if (pipe(link[i]))
            DIE("pipe");
    if (pipe(result))
        DIE("pipe");
    for (int i = 0; i < s.hops; i++) {
        kid[i] = fork();
        if (kid[i] < 0)
            DIE("fork");
        if (kid[i] == 0)
            hop_run(&s, i + 1, link[i][0], i + 1 < s.hops ? link[i + 1][1] : -1, result[1]);
    }
    close(result[1]);
    root_run(&s, link[0][1], result[0]);
    for (int i = 0; i < s.hops; i++) {
        kill(kid[i], SIGKILL);
        waitpid(kid[i], NULL, 0);
    }
    return 0;
}

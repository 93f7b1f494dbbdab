/* The bare loop beside the bootstrap bench: a parent process sends records from its LMDB to a child that
 * keeps them. bare_bulk RECORDS FOLDER [FRAME [COMMIT [WINDOW]]] ROUTER and DEALER over CURVE, a credit
 * window in frames, one signature for each batch of FRAME bytes, zstd 3; the child verifies, appends and
 * commits durably every COMMIT records. Prints one JSON object. Time runs from the child's first request to
 * its last commit. */
#include <sodium.h>
#include <sys/wait.h>
#include <zstd.h>

#include "tests/bench/bare.h"
#include "tests/bench/bare.pb-c.h"

struct setup {
    struct records records;
    const char *dir;
    size_t frame;
    long commit, window;
    struct link_keys keys;
    uint8_t public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
};
enum { BATCH_RECORDS = 8192, FRAME_RAW_MAX = 4 << 20 };

static void batch_hash(const ProtobufCBinaryData *records, size_t n, uint8_t ret_hash[32])
{
    crypto_generichash_state h;
    crypto_generichash_init(&h, NULL, 0, 32);
    for (size_t i = 0; i < n; i++)
        crypto_generichash_update(&h, records[i].data, records[i].len);
    crypto_generichash_final(&h, ret_hash, 32);
}

static void fill_parent(const struct setup *s, const struct table *t)
{
    for (size_t i = 0; i < s->records.n;) {
        MDB_txn *txn;
        CHECK_MDB(mdb_txn_begin(t->env, NULL, 0, &txn));
        for (int k = 0; k < 5000 && i < s->records.n; k++, i++)
            table_append(t, txn, i + 1, s->records.data[i], s->records.len[i]);
        CHECK_MDB(mdb_txn_commit(txn));
    }
}

/* Waits for one message of the child; its credit, or -1 when it is done. */
static long parent_hear(void *sock, zmq_msg_t *ret_id)
{
    char text[64] = {0};
    CHECK_ZMQ(zmq_msg_recv(ret_id, sock, 0));
    CHECK_ZMQ(zmq_recv(sock, text, sizeof text - 1, 0));
    return text[0] == 'd' ? -1 : atol(text);
}

static void send_batch(void *sock, zmq_msg_t *id, ZSTD_CCtx *zc, const Bare__Batch *b)
{
    size_t raw = bare__batch__get_packed_size(b);
    uint8_t *plain = grow(NULL, raw), *packed = grow(NULL, ZSTD_compressBound(raw));
    bare__batch__pack(b, plain);
    size_t n = ZSTD_compressCCtx(zc, packed, ZSTD_compressBound(raw), plain, raw, 3);
    if (ZSTD_isError(n))
        DIE("zstd");
    zmq_msg_t copy;
    zmq_msg_init(&copy);
    CHECK_ZMQ(zmq_msg_copy(&copy, id));
    CHECK_ZMQ(zmq_msg_send(&copy, sock, ZMQ_SNDMORE));
    CHECK_ZMQ(zmq_send(sock, packed, n, 0));
    free(plain);
    free(packed);
}

static void parent_run(const struct setup *s, int wfd)
{
    struct table t = table_open(s->dir, "parent");
    fill_parent(s, &t);
    void *sock = socket_new(zmq_ctx_new(), ZMQ_ROUTER, &s->keys, 1);
    int one = 1;
    CHECK_ZMQ(zmq_setsockopt(sock, ZMQ_ROUTER_MANDATORY, &one, sizeof one));
    socket_bind(sock, wfd);

    zmq_msg_t id;
    zmq_msg_init(&id);
    long credit = parent_hear(sock, &id);
    double cpu = cpu_s();
    ZSTD_CCtx *zc = ZSTD_createCCtx();
    static ProtobufCBinaryData list[BATCH_RECORDS];
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    CHECK_MDB(mdb_txn_begin(t.env, NULL, MDB_RDONLY, &txn));
    CHECK_MDB(mdb_cursor_open(txn, t.dbi, &cursor));
    int more = mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0;
    for (uint64_t next = 1; more; credit--) {
        while (credit <= 0)
            credit += parent_hear(sock, &id);
        Bare__Batch b = BARE__BATCH__INIT;
        uint8_t hash[32], signature[crypto_sign_BYTES];
        b.first = next;
        b.records = list;
        for (size_t bytes = 0; more && bytes < s->frame && b.n_records < BATCH_RECORDS; next++) {
            list[b.n_records++] = (ProtobufCBinaryData){.data = v.mv_data, .len = v.mv_size};
            bytes += v.mv_size;
            more = mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0;
        }
        batch_hash(list, b.n_records, hash);
        crypto_sign_detached(signature, NULL, hash, sizeof hash, s->secret);
        b.signature = (ProtobufCBinaryData){.data = signature, .len = sizeof signature};
        send_batch(sock, &id, zc, &b);
    }
    while (parent_hear(sock, &id) >= 0)
        ;
    cpu = cpu_s() - cpu;
    if (write(wfd, &cpu, sizeof cpu) != (ssize_t)sizeof cpu)
        DIE("pipe");
    _exit(0);
}

static void child_run(const struct setup *s, int rfd)
{
    struct table t = table_open(s->dir, "child");
    void *sock = socket_new(zmq_ctx_new(), ZMQ_DEALER, &s->keys, 0);
    int unlimited = 0;
    CHECK_ZMQ(zmq_setsockopt(sock, ZMQ_RCVHWM, &unlimited, sizeof unlimited));
    socket_connect(sock, rfd);
    ZSTD_DCtx *zd = ZSTD_createDCtx();
    uint8_t *plain = grow(NULL, FRAME_RAW_MAX);
    MDB_txn *txn = NULL;
    char text[64];
    size_t got = 0, wire = 0;
    long open = 0;

    double start = now_s(), cpu = cpu_s();
    int n = snprintf(text, sizeof text, "%ld", s->window);
    CHECK_ZMQ(zmq_send(sock, text, (size_t)n + 1, 0));
    while (got < s->records.n) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        CHECK_ZMQ(zmq_msg_recv(&m, sock, 0));
        wire += zmq_msg_size(&m);
        size_t raw = ZSTD_decompressDCtx(zd, plain, FRAME_RAW_MAX, zmq_msg_data(&m), zmq_msg_size(&m));
        if (ZSTD_isError(raw))
            DIE("zstd");
        Bare__Batch *b = bare__batch__unpack(NULL, raw, plain);
        uint8_t hash[32];
        if (!b || b->first != got + 1)
            DIE("gap after record %zu", got);
        batch_hash(b->records, b->n_records, hash);
        if (b->signature.len != crypto_sign_BYTES ||
            crypto_sign_verify_detached(b->signature.data, hash, sizeof hash, s->public))
            DIE("signature");
        for (size_t i = 0; i < b->n_records; i++) {
            if (!txn)
                CHECK_MDB(mdb_txn_begin(t.env, NULL, 0, &txn));
            table_append(&t, txn, ++got, b->records[i].data, b->records[i].len);
            if (++open >= s->commit || got == s->records.n) {
                CHECK_MDB(mdb_txn_commit(txn));
                txn = NULL;
                open = 0;
            }
        }
        bare__batch__free_unpacked(b, NULL);
        zmq_msg_close(&m);
        CHECK_ZMQ(zmq_send(sock, "1", 2, 0));
    }
    double seconds = now_s() - start, parent_cpu = 0;
    cpu = cpu_s() - cpu;
    CHECK_ZMQ(zmq_send(sock, "d", 2, 0));
    if (read(rfd, &parent_cpu, sizeof parent_cpu) != (ssize_t)sizeof parent_cpu)
        DIE("the parent process failed");
    printf("{\"seconds\":%.6f,\"records\":%zu,\"payload\":%zu,\"wire\":%zu,\"child_cpu\":%.6f,\"parent_cpu\":"
           "%.6f}\n",
        seconds, s->records.n, s->records.bytes, wire, cpu, parent_cpu);
}

int main(int argc, char **argv)
{
    static struct setup s;
    int fds[2];
    if (argc < 3 || sodium_init() < 0) {
        fprintf(stderr, "usage: bare_bulk RECORDS FOLDER [FRAME [COMMIT [WINDOW]]]\n");
        return 2;
    }
    s.records = records_load(argv[1]);
    s.dir = argv[2];
    s.frame = argc > 3 ? (size_t)atol(argv[3]) : 65536;
    s.commit = argc > 4 ? atol(argv[4]) : 5000;
    s.window = argc > 5 ? atol(argv[5]) : 32;
    zmq_curve_keypair(s.keys.server_public, s.keys.server_secret);
    zmq_curve_keypair(s.keys.client_public, s.keys.client_secret);
    crypto_sign_keypair(s.public, s.secret);
    if (pipe(fds))
        DIE("pipe");
    pid_t kid = fork();
    if (kid < 0)
        DIE("fork");
    if (kid == 0)
        parent_run(&s, fds[1]);
    close(fds[1]);
    child_run(&s, fds[0]);
    waitpid(kid, NULL, 0);
    return 0;
}

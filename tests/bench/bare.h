/* What the bare reference loops share: a clock, records from a dump, an LMDB environment, CURVE sockets. A
 * bare loop does the least that the same libraries can do for the same guarantee; the benches set the product
 * beside it. Ownership: everything lives until the program ends. Threading: one thread. Any failure ends the
 * program. */
#pragma once
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define DIE(...)                                                                                             \
    do {                                                                                                     \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                      \
        fprintf(stderr, __VA_ARGS__);                                                                        \
        fputc('\n', stderr);                                                                                 \
        exit(1);                                                                                             \
    } while (0)
#define CHECK_MDB(call)                                                                                      \
    do {                                                                                                     \
        int check_rc = (call);                                                                               \
        if (check_rc)                                                                                        \
            DIE("%s: %s", #call, mdb_strerror(check_rc));                                                    \
    } while (0)
#define CHECK_ZMQ(call)                                                                                      \
    do {                                                                                                     \
        if ((call) < 0)                                                                                      \
            DIE("%s: %s", #call, zmq_strerror(zmq_errno()));                                                 \
    } while (0)

static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline double cpu_s(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static inline long rss_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        DIE("statm");
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static inline int cmp_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void *grow(void *p, size_t n)
{
    p = realloc(p, n);
    if (!p)
        DIE("no memory for %zu bytes", n);
    return p;
}

struct records {
    uint8_t **data;
    size_t *len;
    size_t n, bytes;
};

/* A dump is a row of [4-byte little-endian length][bytes]. */
static inline struct records records_load(const char *path)
{
    struct records r = {0};
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END))
        DIE("cannot read %s", path);
    size_t size = (size_t)ftell(f), cap = 0;
    rewind(f);
    uint8_t *all = grow(NULL, size + 1);
    if (fread(all, 1, size, f) != size)
        DIE("cannot read %s", path);
    fclose(f);
    for (size_t at = 0; at + 4 <= size;) {
        uint32_t len;
        memcpy(&len, all + at, 4);
        if (len > size - at - 4)
            DIE("%s: cut at byte %zu", path, at);
        if (r.n == cap) {
            cap = cap ? cap * 2 : 4096;
            r.data = grow(r.data, cap * sizeof *r.data);
            r.len = grow(r.len, cap * sizeof *r.len);
        }
        r.data[r.n] = all + at + 4;
        r.len[r.n++] = len;
        r.bytes += len;
        at += 4 + len;
    }
    if (!r.n)
        DIE("%s: no records", path);
    return r;
}

struct table {
    MDB_env *env;
    MDB_dbi dbi;
};

/* The environment dir/name: default flags, so each commit is two flushes. */
static inline struct table table_open(const char *dir, const char *name)
{
    struct table t = {0};
    char path[4096];
    MDB_txn *txn;
    mkdir(dir, 0700);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (mkdir(path, 0700))
        DIE("%s exists already, or its folder is missing", path);
    CHECK_MDB(mdb_env_create(&t.env));
    CHECK_MDB(mdb_env_set_mapsize(t.env, (size_t)4 << 30));
    CHECK_MDB(mdb_env_open(t.env, path, 0, 0600));
    CHECK_MDB(mdb_txn_begin(t.env, NULL, 0, &txn));
    CHECK_MDB(mdb_dbi_open(txn, NULL, 0, &t.dbi));
    CHECK_MDB(mdb_txn_commit(txn));
    return t;
}

static inline void table_append(const struct table *t, MDB_txn *txn, uint64_t number, void *data, size_t len)
{
    uint8_t key[8];
    for (int i = 0; i < 8; i++)
        key[i] = (uint8_t)(number >> (56 - 8 * i));
    MDB_val k = {sizeof key, key}, v = {len, data};
    CHECK_MDB(mdb_put(txn, t->dbi, &k, &v, MDB_APPEND));
}

/* CURVE keys of both ends, made before the fork. */
struct link_keys {
    char server_public[41], server_secret[41], client_public[41], client_secret[41];
};

static inline void *socket_new(void *ctx, int type, const struct link_keys *k, int server)
{
    void *s = zmq_socket(ctx, type);
    int zero = 0, one = 1;
    if (!s)
        DIE("zmq_socket: %s", zmq_strerror(zmq_errno()));
    CHECK_ZMQ(zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof zero));
    if (server) {
        CHECK_ZMQ(zmq_setsockopt(s, ZMQ_CURVE_SERVER, &one, sizeof one));
        CHECK_ZMQ(zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, k->server_secret, 41));
    } else {
        CHECK_ZMQ(zmq_setsockopt(s, ZMQ_CURVE_SERVERKEY, k->server_public, 41));
        CHECK_ZMQ(zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, k->client_public, 41));
        CHECK_ZMQ(zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, k->client_secret, 41));
    }
    return s;
}

#define ENDPOINT_LEN 256
/* Binds to a free port and tells it through the pipe. */
static inline void socket_bind(void *s, int fd)
{
    char endpoint[ENDPOINT_LEN] = {0};
    size_t n = sizeof endpoint;
    CHECK_ZMQ(zmq_bind(s, "tcp://127.0.0.1:*"));
    CHECK_ZMQ(zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, endpoint, &n));
    if (write(fd, endpoint, sizeof endpoint) != (ssize_t)sizeof endpoint)
        DIE("pipe");
}

static inline void socket_connect(void *s, int fd)
{
    char endpoint[ENDPOINT_LEN];
    if (read(fd, endpoint, sizeof endpoint) != (ssize_t)sizeof endpoint)
        DIE("pipe");
    CHECK_ZMQ(zmq_connect(s, endpoint));
}

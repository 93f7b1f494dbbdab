#include "common/bus/bus.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/bus/socket.h"

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(item) ((item)->failed = true)
#include <uthash.h>

struct key_row {
    uint8_t key[32];
    char user[BUS_USER_MAX + 1];
    unsigned lanes;
    bool failed; /* no memory in the table */
    UT_hash_handle hh;
};

struct bus {
    void *context;
    unsigned io_threads;
    void *door; /* REP; the thread's own once it runs */
    pthread_t thread;
    bool running;
    atomic_uint numbers;
    pthread_mutex_t mutex; /* for all below */
    struct key_row *keys;
    struct bus_door seen;
    bool ignoring;
    uint8_t ignored[32];
};

void *bus_context(struct bus *b)
{
    return b->context;
}

unsigned bus_io_threads(const struct bus *b)
{
    return b->io_threads;
}

unsigned bus_number(struct bus *b)
{
    return atomic_fetch_add(&b->numbers, 1);
}

/* The table of keys. */

int bus_keys_set(struct bus *b, const uint8_t key[32], const char *user, unsigned lanes)
{
    size_t len = strlen(user);
    if (len == 0 || len > BUS_USER_MAX)
        return err_fail(ERR_MALFORMED, "a user id has 1 to %d characters", BUS_USER_MAX);
    struct key_row *old, *row = calloc(1, sizeof *row);
    if (!row)
        return -ENOMEM;
    memcpy(row->key, key, 32);
    memcpy(row->user, user, len);
    row->lanes = lanes;
    pthread_mutex_lock(&b->mutex);
    HASH_FIND(hh, b->keys, key, 32, old);
    if (old) {
        memcpy(old->user, row->user, sizeof old->user);
        old->lanes = lanes;
    } else {
        HASH_ADD(hh, b->keys, key, 32, row);
    }
    pthread_mutex_unlock(&b->mutex);
    bool failed = row->failed;
    if (old || failed)
        free(row);
    return failed ? -ENOMEM : 0;
}

void bus_keys_del(struct bus *b, const uint8_t key[32])
{
    struct key_row *row;
    pthread_mutex_lock(&b->mutex);
    HASH_FIND(hh, b->keys, key, 32, row);
    if (row)
        HASH_DEL(b->keys, row);
    pthread_mutex_unlock(&b->mutex);
    free(row);
}

void bus_keys_clear(struct bus *b)
{
    struct key_row *row, *next;
    pthread_mutex_lock(&b->mutex);
    HASH_ITER(hh, b->keys, row, next)
    {
        HASH_DEL(b->keys, row);
        free(row);
    }
    pthread_mutex_unlock(&b->mutex);
}

void bus_door_get(struct bus *b, struct bus_door *ret_door)
{
    pthread_mutex_lock(&b->mutex);
    *ret_door = b->seen;
    ret_door->keys = HASH_COUNT(b->keys);
    pthread_mutex_unlock(&b->mutex);
}

void bus_door_ignore(struct bus *b, const uint8_t key[32])
{
    pthread_mutex_lock(&b->mutex);
    b->ignoring = key != NULL;
    if (key)
        memcpy(b->ignored, key, 32);
    pthread_mutex_unlock(&b->mutex);
}

char *bus_key_text(const uint8_t key[32], char out[15])
{
    struct hash h;
    memcpy(h.b, key, sizeof h.b);
    return fingerprint_text(&h, out);
}

/* The door: answers ZAP requests (RFC 27) one after the other. Nothing here waits for anything but the next
 * request. */

enum { ZAP_VERSION, ZAP_REQUEST, ZAP_DOMAIN, ZAP_ADDRESS, ZAP_ROUTING_ID, ZAP_MECHANISM, ZAP_KEY, ZAP_PARTS };

struct zap_request {
    uint8_t part[ZAP_PARTS][256];
    size_t len[ZAP_PARTS];
    unsigned parts;
    bool bad;
};

static int read_request(void *door, struct zap_request *q)
{
    int more = 1;
    *q = (struct zap_request){0};
    while (more) {
        uint8_t spill[256];
        bool fits = q->parts < ZAP_PARTS;
        int n = zmq_recv(door, fits ? q->part[q->parts] : spill, 256, 0);
        if (n < 0)
            return -errno;
        if (fits)
            q->len[q->parts++] = n < 256 ? (size_t)n : 256;
        if (!fits || n > 255)
            q->bad = true;
        size_t size = sizeof more;
        if (zmq_getsockopt(door, ZMQ_RCVMORE, &more, &size))
            return -errno;
    }
    return 0;
}

static bool part_is(const struct zap_request *q, unsigned part, const char *text)
{
    return q->len[part] == strlen(text) && memcmp(q->part[part], text, q->len[part]) == 0;
}

static unsigned lane_asked(const struct zap_request *q)
{
    if (q->bad || q->parts != ZAP_PARTS || !part_is(q, ZAP_VERSION, "1.0") ||
        !part_is(q, ZAP_MECHANISM, "CURVE") || q->len[ZAP_KEY] != 32)
        return 0;
    return part_is(q, ZAP_DOMAIN, SOCKET_ZAP_DOMAIN)        ? BUS_MAY_PULL
           : part_is(q, ZAP_DOMAIN, SOCKET_ZAP_DOMAIN_HINT) ? BUS_MAY_HINT
                                                            : 0;
}

static void note_refusal(struct bus *b, const struct zap_request *q)
{
    struct bus_door *d = &b->seen;
    if (b->ignoring && q->len[ZAP_KEY] == 32 && memcmp(q->part[ZAP_KEY], b->ignored, 32) == 0)
        return;
    d->refused++;
    d->has_refused = true;
    d->last_at = clock_mono(&clock_real);
    memset(d->last_key, 0, sizeof d->last_key);
    if (q->len[ZAP_KEY] == 32)
        memcpy(d->last_key, q->part[ZAP_KEY], 32);
    static const char mapped[] = "::ffff:"; /* an IPv4 address on a socket for both */
    snprintf(d->last_address, sizeof d->last_address, "%.*s", (int)q->len[ZAP_ADDRESS],
        (const char *)q->part[ZAP_ADDRESS]);
    if (strncmp(d->last_address, mapped, sizeof mapped - 1) == 0)
        memmove(d->last_address, d->last_address + sizeof mapped - 1,
            strlen(d->last_address) - sizeof mapped + 2);
}

/* Copies the user out, or leaves it empty for a refusal. */
static void decide(struct bus *b, const struct zap_request *q, char user[BUS_USER_MAX + 1])
{
    unsigned lane = lane_asked(q);
    struct key_row *row = NULL;
    user[0] = 0;
    pthread_mutex_lock(&b->mutex);
    if (lane)
        HASH_FIND(hh, b->keys, q->part[ZAP_KEY], 32, row);
    if (row && row->lanes & lane) {
        memcpy(user, row->user, sizeof row->user);
        b->seen.accepted++;
    } else {
        note_refusal(b, q);
    }
    pthread_mutex_unlock(&b->mutex);
}

static int answer(void *door, const struct zap_request *q, const char *user)
{
    bool yes = user[0] != 0;
    struct view parts[] = {view_str("1.0"), view_of(q->part[ZAP_REQUEST], q->len[ZAP_REQUEST]),
        view_str(yes ? "200" : "400"), view_str(yes ? "OK" : "unknown key"), view_str(user), view_str("")};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (zmq_send(door, parts[i].data, parts[i].len, i + 1 < COUNT_OF(parts) ? ZMQ_SNDMORE : 0) < 0)
            return -errno;
    return 0;
}

static void *door_run(void *arg)
{
    struct bus *b = arg;
    for (;;) {
        struct zap_request q;
        char user[BUS_USER_MAX + 1];
        int rc = read_request(b->door, &q);
        if (!rc) {
            decide(b, &q, user);
            rc = answer(b->door, &q, user);
        }
        /* Only the end of the context ends the door; after anything else the next request is another try. */
        if (rc == -ETERM || rc == -ENOTSOCK)
            break;
    }
    zmq_close(b->door);
    return NULL;
}

static int door_open(struct bus *b)
{
    int none = 0;
    b->door = zmq_socket(b->context, ZMQ_REP);
    if (!b->door || zmq_setsockopt(b->door, ZMQ_LINGER, &none, sizeof none) ||
        zmq_bind(b->door, "inproc://zeromq.zap.01"))
        return err_fail(-errno, "the ZAP handler: %s", zmq_strerror(errno));
    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&b->thread, &attr, door_run, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    b->running = rc == 0;
    return rc ? err_fail(-rc, "the ZAP handler's thread did not start") : 0;
}

int bus_open(unsigned io_threads, struct bus **ret_bus)
{
    int rc = crypto_init();
    struct bus *b = rc ? NULL : calloc(1, sizeof *b);
    if (!b)
        return rc ? rc : -ENOMEM;
    pthread_mutex_init(&b->mutex, NULL);
    b->io_threads = io_threads;
    b->context = zmq_ctx_new();
    if (!b->context || zmq_ctx_set(b->context, ZMQ_IO_THREADS, (int)io_threads) ||
        zmq_ctx_set(b->context, ZMQ_BLOCKY, 0))
        rc = err_fail(-errno, "ZeroMQ: %s", zmq_strerror(errno));
    if (!rc)
        rc = door_open(b);
    if (rc) {
        bus_close(b);
        return rc;
    }
    *ret_bus = b;
    return 0;
}

void bus_close(struct bus *b)
{
    if (!b)
        return;
    if (b->running) {
        zmq_ctx_shutdown(b->context);
        pthread_join(b->thread, NULL);
    } else if (b->door) {
        zmq_close(b->door);
    }
    if (b->context)
        zmq_ctx_term(b->context);
    bus_keys_clear(b);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

#include "common/bus/lane.h"

#include <stdlib.h>

#include "common/bus/fragment.h"
#include "common/wire/frame.h"

#define FRAME_COST 64 /* counted on top of a frame's bytes, so that many tiny frames fill a queue too */
#define CHUNK_PARTS 4 /* a piece is what the link carries in 1/4 s */
#define LATE_NS (50 * NS_PER_MS)

struct waiting {
    struct blob *frame;
    struct mono since;
};

struct queue {
    struct waiting *ring;
    size_t cap, first, n;
    size_t bytes;  /* of frames that have not left */
    uint32_t sent; /* of the first frame, when it is being cut */
    uint32_t stream;
    uint64_t earned; /* in 1/LANE_SHARE bytes */
    struct lane_stats stats;
};

struct lane_set {
    struct queue queues[CLASS_COUNT];
    size_t limit, bytes, frames;
    uint64_t rate;
    struct mono free_at; /* when the link has carried what left so far */
    uint32_t next_stream;
};

struct lane_set *lane_set_new(size_t limit)
{
    struct lane_set *s = calloc(1, sizeof *s);
    if (s)
        s->limit = limit;
    return s;
}

static struct waiting *first_of(struct queue *q)
{
    return &q->ring[q->first];
}

static void pop(struct lane_set *s, struct queue *q)
{
    size_t rest = blob_view(first_of(q)->frame).len - q->sent;
    q->bytes -= rest;
    s->bytes -= rest;
    s->frames--;
    q->first = (q->first + 1) % q->cap;
    q->n--;
    q->sent = 0;
}

void lane_clear(struct lane_set *s)
{
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        struct queue *q = &s->queues[i];
        while (q->n) {
            struct blob *frame = first_of(q)->frame;
            pop(s, q);
            blob_free(frame);
            q->stats.dropped++;
        }
        q->earned = 0;
    }
}

void lane_set_free(struct lane_set *s)
{
    if (!s)
        return;
    lane_clear(s);
    for (size_t i = 0; i < CLASS_COUNT; i++)
        free(s->queues[i].ring);
    free(s);
}

/* The time that n bytes take. n is at most some MiB: the product fits. */
static int64_t time_of(const struct lane_set *s, uint64_t n)
{
    return (int64_t)(n * (uint64_t)NS_PER_S / s->rate);
}

void lane_set_rate(struct lane_set *s, struct mono now, uint64_t bytes_per_s)
{
    uint64_t owed = 0;
    if (s->rate && s->free_at.ns > now.ns)
        owed = (uint64_t)((double)(s->free_at.ns - now.ns) / (double)NS_PER_S * (double)s->rate);
    s->rate = bytes_per_s;
    if (owed > 2 * LANE_CHUNK_MAX)
        owed = 2 * LANE_CHUNK_MAX;
    s->free_at.ns = bytes_per_s && owed ? now.ns + time_of(s, owed) : 0;
}

uint64_t lane_rate(const struct lane_set *s)
{
    return s->rate;
}

size_t lane_chunk(const struct lane_set *s)
{
    if (s->rate == 0 || s->rate / CHUNK_PARTS >= LANE_CHUNK_MAX)
        return LANE_CHUNK_MAX;
    size_t chunk = (size_t)(s->rate / CHUNK_PARTS);
    return chunk < LANE_CHUNK_MIN ? LANE_CHUNK_MIN : chunk;
}

static int grow(struct queue *q)
{
    if (q->n < q->cap)
        return 0;
    size_t cap = q->cap ? q->cap * 2 : 16;
    struct waiting *ring = malloc(cap * sizeof *ring);
    if (!ring)
        return -ENOMEM;
    for (size_t i = 0; i < q->n; i++)
        ring[i] = q->ring[(q->first + i) % q->cap];
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->first = 0;
    return 0;
}

int lane_push(struct lane_set *s, struct mono now, enum lane_class lane, struct blob *frame)
{
    if (!frame)
        return -ENOMEM;
    struct queue *q = &s->queues[lane];
    size_t len = blob_view(frame).len, used = s->bytes + s->frames * FRAME_COST;
    size_t limit = s->limit - s->limit / 8 * (size_t)lane;
    int rc = 0;
    if (len > FRAME_MAX + FRAME_HEADER_LEN)
        rc = err_fail(ERR_TOO_LARGE, "frame of %zu bytes", len);
    else if (q->n && (used > limit || len + FRAME_COST > limit - used))
        rc = err_fail(ERR_BUSY, "%zu bytes wait for the link already", s->bytes);
    else
        rc = grow(q);
    if (rc) {
        q->stats.dropped++;
        blob_free(frame);
        return rc;
    }
    q->ring[(q->first + q->n++) % q->cap] = (struct waiting){frame, now};
    q->bytes += len;
    s->bytes += len;
    s->frames++;
    return 0;
}

/* Bytes of the next piece of a queue that is not empty. */
static size_t piece_len(const struct lane_set *s, struct queue *q)
{
    size_t rest = blob_view(first_of(q)->frame).len - q->sent, chunk = lane_chunk(s);
    if (q->sent == 0 && rest <= chunk)
        return rest;
    size_t room = chunk - FRAGMENT_OVERHEAD;
    return FRAGMENT_OVERHEAD + (rest < room ? rest : room);
}

static struct queue *choose(struct lane_set *s)
{
    struct queue *best = NULL;
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        struct queue *q = &s->queues[i];
        if (!q->n)
            continue;
        if (q->earned >= (uint64_t)piece_len(s, q) * LANE_SHARE)
            return q;
        if (!best)
            best = q;
    }
    return best;
}

/* What the others earn while q sends, and what q pays when this was not its turn by order. */
static void settle(struct lane_set *s, struct queue *q, size_t len)
{
    uint64_t price = (uint64_t)len * LANE_SHARE;
    q->earned = q->earned > price ? q->earned - price : 0;
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        struct queue *other = &s->queues[i];
        if (!other->n)
            other->earned = 0; /* what does not wait earns nothing, and saves nothing up */
        else if (other != q)
            other->earned += len;
    }
}

static void count_left(struct queue *q, struct mono since, struct mono now)
{
    int64_t waited = now.ns > since.ns ? now.ns - since.ns : 0;
    q->stats.frames++;
    q->stats.waited_ns += waited;
    if (waited > q->stats.longest_ns)
        q->stats.longest_ns = waited;
}

/* The whole frame, or its next piece. */
static struct blob *take_piece(struct lane_set *s, enum lane_class lane, size_t len, struct mono now)
{
    struct queue *q = &s->queues[lane];
    struct waiting w = *first_of(q);
    struct view whole = blob_view(w.frame);
    if (q->sent == 0 && len == whole.len) {
        pop(s, q);
        count_left(q, w.since, now);
        return w.frame;
    }
    size_t data = len - FRAGMENT_OVERHEAD;
    uint32_t stream = q->sent ? q->stream : s->next_stream + 1;
    struct blob *piece = fragment_make(lane, stream, whole, q->sent, data);
    if (!piece)
        return NULL;
    s->next_stream = q->sent ? s->next_stream : stream;
    q->stream = stream;
    q->sent += (uint32_t)data;
    q->bytes -= data;
    s->bytes -= data;
    q->stats.fragments++;
    if (q->sent == whole.len) {
        pop(s, q);
        count_left(q, w.since, now);
        blob_free(w.frame);
    }
    return piece;
}

int lane_next(struct lane_set *s, struct mono now, struct blob **ret_blob, struct mono *ret_at)
{
    struct queue *q = choose(s);
    if (!q)
        return ERR_NOT_FOUND;
    if (s->rate && s->free_at.ns > now.ns) {
        *ret_at = s->free_at;
        return -EAGAIN;
    }
    size_t len = piece_len(s, q);
    struct blob *piece = take_piece(s, (enum lane_class)(q - s->queues), len, now);
    if (!piece)
        return -ENOMEM;
    settle(s, q, len);
    q->stats.bytes += len;
    if (s->rate) {
        if (s->free_at.ns < now.ns - LATE_NS)
            s->free_at.ns = now.ns - LATE_NS;
        s->free_at.ns += time_of(s, len);
    }
    *ret_blob = piece;
    return 0;
}

size_t lane_queued_bytes(const struct lane_set *s)
{
    return s->bytes;
}

void lane_stats(const struct lane_set *s, enum lane_class lane, struct lane_stats *ret_stats)
{
    const struct queue *q = &s->queues[lane];
    *ret_stats = q->stats;
    ret_stats->queued = q->n;
    ret_stats->queued_bytes = q->bytes;
}

/* A lane set with an assembler behind it. The input is a row of steps: frames of any size and class, changes
 * of rate, time, the link cut. Whatever is taken leaves whole, in order within its class, never faster than
 * the rate. */
#include "common/bus/fragment.h"
#include "tests/fuzz/target.h"

#define LIMIT ((size_t)1 << 20)

struct world {
    struct lane_set *set;
    struct assembler assembler;
    struct mono now;
    uint32_t pushed[CLASS_COUNT], left[CLASS_COUNT]; /* numbers of frames */
    int64_t budget_ns; /* time that the link must have taken since the rate was set */
    struct mono rate_at;
};

static uint64_t total_left(struct world *w)
{
    uint64_t n = 0;
    for (int c = 0; c < CLASS_COUNT; c++) {
        struct lane_stats st;
        lane_stats(w->set, (enum lane_class)c, &st);
        n += st.queued;
        PROMISE(st.frames == w->left[c]);
    }
    return n;
}

static void push(struct world *w, enum lane_class lane, size_t len)
{
    AUTO_BUF body = {0};
    buf_be32(&body, w->pushed[lane]);
    while (body.len < len)
        buf_append(&body, "0123456789abcdef", len - body.len < 16 ? len - body.len : 16);
    struct blob *f = frame_wrap(FRAME_HEAD, (uint8_t)lane, 0, NULL, buf_view(&body), false);
    PROMISE(f != NULL);
    int rc = lane_push(w->set, w->now, lane, f);
    PROMISE(rc == 0 || rc == ERR_BUSY);
    if (rc == 0)
        w->pushed[lane]++;
    PROMISE(lane_queued_bytes(w->set) <= LIMIT + CLASS_COUNT * (FRAME_MAX + FRAME_HEADER_LEN));
}

static void arrived(struct world *w, struct view whole)
{
    struct frame f;
    PROMISE(frame_parse(whole, &f) == 0 && f.type == FRAME_HEAD);
    struct reader r = reader_of(f.body);
    PROMISE(read_be32(&r) == w->left[f.lane]++);
}

static void next(struct world *w)
{
    struct blob *piece, *whole = NULL;
    struct mono at = {0};
    int rc = lane_next(w->set, w->now, &piece, &at);
    if (rc == -EAGAIN) {
        PROMISE(at.ns > w->now.ns && lane_rate(w->set) > 0);
        PROMISE(at.ns - w->now.ns <= (int64_t)(2 * LANE_CHUNK_MAX * (uint64_t)NS_PER_S / lane_rate(w->set)));
        w->now = at;
        rc = lane_next(w->set, w->now, &piece, &at);
    }
    if (rc == ERR_NOT_FOUND) {
        PROMISE(lane_queued_bytes(w->set) == 0);
        return;
    }
    PROMISE(rc == 0);
    struct view v = blob_view(piece);
    struct frame f;
    PROMISE(v.len <= lane_chunk(w->set) && frame_parse(v, &f) == 0);
    if (lane_rate(w->set))
        w->budget_ns += (int64_t)(v.len * (uint64_t)NS_PER_S / lane_rate(w->set));
    if (f.type == FRAME_FRAGMENT)
        PROMISE(assembler_push(&w->assembler, w->now, v, &whole) == 0);
    else
        arrived(w, v);
    if (whole)
        arrived(w, blob_view(whole));
    blob_free(whole);
    blob_free(piece);
}

static void check_rate(struct world *w)
{
    /* the last piece is still on its way, and 50 ms of lateness are made up for */
    if (lane_rate(w->set))
        PROMISE(w->budget_ns <= w->now.ns - w->rate_at.ns + 50 * NS_PER_MS +
                                    (int64_t)(LANE_CHUNK_MAX * (uint64_t)NS_PER_S / lane_rate(w->set)));
}

static void set_rate(struct world *w, uint64_t rate)
{
    check_rate(w);
    if (rate && rate < 100) /* a piece of each class takes longer than a half message is kept */
        rate = 100;
    lane_set_rate(w->set, w->now, rate);
    w->rate_at = w->now;
    w->budget_ns = 0;
}

static void cut(struct world *w)
{
    lane_clear(w->set);
    assembler_done(&w->assembler);
    for (int c = 0; c < CLASS_COUNT; c++)
        w->pushed[c] = w->left[c]; /* the numbers of what was dropped are given again */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world w = {.set = lane_set_new(LIMIT), .now = {NS_PER_S}, .rate_at = {NS_PER_S}};
    struct reader r = reader_of(view_of(data, len < 400 ? len : 400));
    PROMISE(w.set != NULL);
    while (r.rest.len && !r.bad) {
        uint8_t op = read_u8(&r);
        enum lane_class lane = (enum lane_class)(op & 3);
        switch (op >> 2 & 7) {
        case 0:
        case 1:
            push(&w, lane, 4 + read_u8(&r));
            break;
        case 2:
            push(&w, lane, 4 + read_be16(&r));
            break;
        case 3:
            push(&w, lane, 4 + (size_t)(read_u8(&r) * 4096));
            break;
        case 4:
        case 5:
            for (unsigned n = read_u8(&r) % 32 + 1; n > 0; n--)
                next(&w);
            break;
        case 6:
            if (op & 64)
                cut(&w);
            else
                set_rate(&w, op & 32 ? read_be32(&r) : read_be16(&r));
            break;
        case 7:
            w.now.ns += (int64_t)read_be16(&r) * NS_PER_MS;
            break;
        }
    }
    if (lane_rate(w.set) && lane_rate(w.set) < 1000)
        set_rate(&w, 1000);
    while (total_left(&w))
        next(&w);
    check_rate(&w);
    for (int c = 0; c < CLASS_COUNT; c++)
        PROMISE(w.left[c] == w.pushed[c]);
    assembler_done(&w.assembler);
    lane_set_free(w.set);
    return 0;
}

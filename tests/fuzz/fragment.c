/* The assembler against a simple model. The input is a row of steps; a step gives a fragment by its fields,
 * or whole as raw bytes, or lets time pass. What comes out must be what the model holds, and memory follows
 * what came in. */
#include "common/bus/fragment.h"
#include "tests/fuzz/target.h"

#define MOST (FRAME_MAX + FRAME_HEADER_LEN)

struct model {
    bool active;
    uint32_t stream, total;
    struct mono last;
    struct buf data;
};

static void forget(struct model *m)
{
    buf_done(&m->data);
    m->active = false;
}

/* What the assembler must answer. */
static int expect(
    struct model *m, struct mono now, uint32_t stream, uint32_t total, uint32_t offset, struct view data)
{
    if (data.len == 0)
        return ERR_MALFORMED;
    if (total > MOST)
        return ERR_TOO_LARGE;
    if ((uint64_t)offset + data.len > total)
        return ERR_MALFORMED;
    if (m->active && now.ns - m->last.ns > ASSEMBLER_IDLE_NS)
        forget(m);
    if (!m->active || m->stream != stream) {
        if (offset)
            return ERR_GAP;
        forget(m);
        m->active = true;
        m->stream = stream;
        m->total = total;
    } else if (offset != m->data.len || total != m->total) {
        forget(m);
        return ERR_MALFORMED;
    }
    buf_append_view(&m->data, data);
    m->last = now;
    if (m->data.len == total && total >= 6 && m->data.data[4] == 0 && m->data.data[5] == FRAME_FRAGMENT) {
        forget(m);
        return ERR_MALFORMED;
    }
    return 0;
}

static void step_fields(
    struct assembler *a, struct model models[CLASS_COUNT], struct mono now, struct reader *r)
{
    uint8_t head = read_u8(r);
    unsigned lane = head & 3;
    struct model *m = &models[lane];
    uint32_t stream = head >> 2 & 3, total = head & 16 ? read_be32(r) : read_be16(r);
    uint32_t offset = head & 32 ? read_be32(r) : (uint32_t)m->data.len; /* mostly the one that fits */
    size_t len = head & 64 ? read_be16(r) : read_u8(r);
    struct view data = read_bytes(r, len < r->rest.len ? len : r->rest.len);
    if (r->bad)
        return;
    if (head & 128)
        total = m->active ? m->total : (uint32_t)data.len;
    AUTO_BUF body = {0};
    buf_be32(&body, stream);
    buf_be32(&body, total);
    buf_be32(&body, offset);
    buf_append_view(&body, data);
    AUTO_BLOB *f = frame_wrap(FRAME_FRAGMENT, (uint8_t)lane, 0, NULL, buf_view(&body), false);
    PROMISE(f != NULL);
    struct blob *whole = NULL;
    int rc = assembler_push(a, now, blob_view(f), &whole);
    PROMISE(rc == expect(m, now, stream, total, offset, data));
    bool complete = rc == 0 && m->data.len == total;
    PROMISE((whole != NULL) == complete);
    if (whole) {
        PROMISE(view_eq(blob_view(whole), buf_view(&m->data)));
        forget(m);
    }
    blob_free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct assembler a = {0};
    struct model models[CLASS_COUNT] = {0};
    struct mono now = {NS_PER_S};
    struct reader r = reader_of(view_of(data, len));
    size_t fed = 0;
    while (r.rest.len && !r.bad) {
        size_t before = r.rest.len;
        uint8_t kind = read_u8(&r);
        if (kind < 240) {
            step_fields(&a, models, now, &r);
        } else if (kind < 248) {
            now.ns += (int64_t)read_u8(&r) * 2 * NS_PER_S;
        } else { /* raw bytes: must not end in a state that the model does not know, so into an assembler of
                    their own */
            struct assembler raw = {0};
            struct blob *whole = NULL;
            struct view v = read_bytes(&r, r.rest.len);
            if (assembler_push(&raw, now, v, &whole) == 0)
                PROMISE(assembler_bytes(&raw) <= v.len);
            blob_free(whole);
            assembler_done(&raw);
        }
        fed += before - r.rest.len;
        PROMISE(assembler_bytes(&a) <= 2 * fed + CLASS_COUNT);
    }
    size_t held = 0;
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        PROMISE(a.in[i].active == models[i].active);
        held += models[i].data.len;
        forget(&models[i]);
    }
    PROMISE(assembler_bytes(&a) >= held);
    assembler_done(&a);
    PROMISE(assembler_bytes(&a) == 0);
    return 0;
}

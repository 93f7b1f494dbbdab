#include "common/bus/fragment.h"

#include <stdlib.h>

struct blob *fragment_make(
    enum lane_class lane, uint32_t stream, struct view whole, size_t offset, size_t len)
{
    AUTO_BUF body = {0};
    buf_reserve(&body, FRAGMENT_HEADER_LEN + len);
    buf_be32(&body, stream);
    buf_be32(&body, (uint32_t)whole.len);
    buf_be32(&body, (uint32_t)offset);
    buf_append(&body, whole.data + offset, len);
    return body.err ? NULL : frame_wrap(FRAME_FRAGMENT, (uint8_t)lane, 0, NULL, buf_view(&body), false);
}

static void abandon(struct assembler *a, unsigned lane)
{
    if (!a->in[lane].active)
        return;
    buf_done(&a->in[lane].data);
    a->in[lane].active = false;
    a->abandoned++;
}

void assembler_done(struct assembler *a)
{
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        abandon(a, i);
    *a = (struct assembler){0};
}

static void expire(struct assembler *a, unsigned lane, struct mono now)
{
    if (a->in[lane].active && now.ns - a->in[lane].last.ns > ASSEMBLER_IDLE_NS)
        abandon(a, lane);
}

void assembler_expire(struct assembler *a, struct mono now)
{
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        expire(a, i, now);
}

size_t assembler_bytes(const struct assembler *a)
{
    size_t n = 0;
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        n += a->in[i].data.cap;
    return n;
}

/* Doubles the buffer, but never beyond what was announced. */
static int make_room(struct buf *b, size_t more, size_t total)
{
    size_t want = b->cap * 2 < total ? b->cap * 2 : total;
    if (want < b->len + more)
        want = b->len + more;
    if (b->cap >= b->len + more)
        return 0;
    uint8_t *data = realloc(b->data, want);
    if (!data)
        return -ENOMEM;
    b->data = data;
    b->cap = want;
    return 0;
}

static int finish(struct assembler *a, unsigned lane, struct blob **ret_frame)
{
    struct view whole = buf_view(&a->in[lane].data);
    struct reader r = reader_of(whole);
    (void)read_be32(&r);
    if (read_be16(&r) == FRAME_FRAGMENT) {
        abandon(a, lane);
        return err_fail(ERR_MALFORMED, "fragments of a fragment");
    }
    struct blob *frame = blob_take(&a->in[lane].data);
    a->in[lane].active = false;
    if (!frame)
        return -ENOMEM;
    a->finished++;
    *ret_frame = frame;
    return 0;
}

static int take(struct assembler *a, struct mono now, const struct frame *f, struct blob **ret_frame)
{
    struct reader r = reader_of(f->body);
    uint32_t stream = read_be32(&r), total = read_be32(&r), offset = read_be32(&r);
    if (r.bad || r.rest.len == 0 || f->lane >= CLASS_COUNT)
        return err_fail(ERR_MALFORMED, "fragment without data or of no class");
    if (total > FRAME_MAX + FRAME_HEADER_LEN)
        return err_fail(ERR_TOO_LARGE, "fragments of a frame of %u bytes", total);
    if (offset > total || r.rest.len > total - offset)
        return err_fail(ERR_MALFORMED, "fragment beyond the %u bytes of its frame", total);
    expire(a, f->lane, now);
    bool known = a->in[f->lane].active && a->in[f->lane].stream == stream;
    struct buf *data = &a->in[f->lane].data;
    if (!known && offset != 0)
        return err_fail(ERR_GAP, "fragment at %u of a frame whose beginning is not here", offset);
    if (known && (offset != data->len || total != a->in[f->lane].total)) {
        abandon(a, f->lane);
        return err_fail(ERR_MALFORMED, "fragment at %u does not continue its frame", offset);
    }
    if (!known) {
        abandon(a, f->lane);
        a->in[f->lane].active = true;
        a->in[f->lane].stream = stream;
        a->in[f->lane].total = total;
    }
    int rc = make_room(data, r.rest.len, total);
    if (rc) {
        abandon(a, f->lane);
        return rc;
    }
    buf_append_view(data, r.rest);
    a->in[f->lane].last = now;
    return data->len == total ? finish(a, f->lane, ret_frame) : 0;
}

int assembler_push(struct assembler *a, struct mono now, struct view fragment, struct blob **ret_frame)
{
    struct frame f;
    struct blob *whole = NULL;
    int rc = frame_parse(fragment, &f);
    if (!rc && (f.type != FRAME_FRAGMENT || f.flags))
        rc = err_fail(ERR_MALFORMED, "not a plain fragment");
    if (!rc)
        rc = take(a, now, &f, &whole);
    if (rc)
        a->refused++;
    else
        *ret_frame = whole;
    return rc;
}

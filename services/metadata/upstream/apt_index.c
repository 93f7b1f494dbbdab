#include "services/metadata/upstream/apt_index.h"

#include "common/crypto/crypto.h"

#include <fcntl.h>
#include <lzma.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#define INPUT_BYTES ((size_t)256 * 1024)
#define OUTPUT_BYTES ((size_t)512 * 1024)

static int open_file(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_fail(errno == ENOENT ? ERR_NOT_FOUND : -errno, "%s: %s", file, strerror(errno));
    return fd;
}

static ssize_t read_some(int fd, void *out, size_t len)
{
    ssize_t n;
    do
        n = read(fd, out, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_fail(errno == EIO ? ERR_DISK : -errno, "reading the cache: %s", strerror(errno)) : n;
}

static bool cancelled(atomic_bool *cancel)
{
    return cancel && atomic_load(cancel);
}

int index_check(const char *file, uint64_t size, const uint8_t sha256[32], atomic_bool *cancel)
{
    struct sha256_state s;
    struct hash h;
    uint64_t total = 0;
    int fd = open_file(file);
    if (fd < 0)
        return fd;
    AUTO_FREE uint8_t *piece = malloc(INPUT_BYTES);
    ssize_t n = piece ? 1 : -ENOMEM;
    sha256_start(&s);
    while (n > 0 && total <= size && !cancelled(cancel)) {
        n = read_some(fd, piece, INPUT_BYTES);
        if (n > 0) {
            sha256_more(&s, piece, (size_t)n);
            total += (uint64_t)n;
        }
    }
    close(fd);
    if (n < 0)
        return (int)n;
    if (cancelled(cancel))
        return err_fail(ERR_CANCELLED, "cancelled");
    sha256_end(&s, &h);
    return total == size && memcmp(h.b, sha256, 32) == 0 ? 0 : ERR_CORRUPT;
}

/* One decompressor: takes input, fills output; says when it is at the end. */
struct decoder {
    enum index_format format;
    lzma_stream xz;
    z_stream gz;
    bool gz_open, gz_between; /* between: after a whole member */
};

static int decoder_init(struct decoder *d, enum index_format format)
{
    *d = (struct decoder){.format = format, .xz = LZMA_STREAM_INIT};
    if (format == INDEX_XZ && lzma_stream_decoder(&d->xz, INDEX_XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
        return -ENOMEM;
    if (format == INDEX_GZ) {
        if (inflateInit2(&d->gz, 16 + MAX_WBITS) != Z_OK)
            return -ENOMEM;
        d->gz_open = true;
    }
    return 0;
}

static void decoder_done(struct decoder *d)
{
    if (d->format == INDEX_XZ)
        lzma_end(&d->xz);
    if (d->gz_open)
        inflateEnd(&d->gz);
}

static int fail_xz(lzma_ret r)
{
    if (r == LZMA_MEM_ERROR)
        return -ENOMEM;
    if (r == LZMA_MEMLIMIT_ERROR)
        return err_fail(ERR_UPSTREAM, "xz: needs more than %llu MiB to decompress",
            (unsigned long long)(INDEX_XZ_MEMORY >> 20));
    return err_fail(ERR_UPSTREAM, "xz: damaged or cut off");
}

static int decode_xz(
    struct decoder *d, struct view *in, bool last, uint8_t *out, size_t cap, size_t *ret_n, bool *ret_end)
{
    d->xz.next_in = in->data;
    d->xz.avail_in = in->len;
    d->xz.next_out = out;
    d->xz.avail_out = cap;
    lzma_ret r = lzma_code(&d->xz, last ? LZMA_FINISH : LZMA_RUN);
    *in = view_of(d->xz.next_in, d->xz.avail_in);
    *ret_n = cap - d->xz.avail_out;
    *ret_end = r == LZMA_STREAM_END;
    return r == LZMA_OK || r == LZMA_STREAM_END ? 0 : fail_xz(r);
}

static int decode_gz(
    struct decoder *d, struct view *in, bool last, uint8_t *out, size_t cap, size_t *ret_n, bool *ret_end)
{
    *ret_n = 0;
    *ret_end = false;
    *ret_end = in->len == 0 && last && d->gz_between;
    if (*ret_end)
        return 0;
    if (d->gz_between && inflateReset(&d->gz) != Z_OK)
        return err_fail(ERR_UPSTREAM, "gzip: damaged");
    d->gz.next_in = (uint8_t *)(uintptr_t)in->data;
    d->gz.avail_in = (unsigned)in->len;
    d->gz.next_out = out;
    d->gz.avail_out = (unsigned)cap;
    int r = inflate(&d->gz, Z_NO_FLUSH);
    *in = view_of(d->gz.next_in, d->gz.avail_in);
    *ret_n = cap - d->gz.avail_out;
    d->gz_between = r == Z_STREAM_END;
    if (r == Z_BUF_ERROR && last && *ret_n == 0)
        return err_fail(ERR_UPSTREAM, "gzip: cut off");
    if (r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR)
        return 0;
    return r == Z_MEM_ERROR ? -ENOMEM : err_fail(ERR_UPSTREAM, "gzip: damaged");
}

static int decode(
    struct decoder *d, struct view *in, bool last, uint8_t *out, size_t cap, size_t *ret_n, bool *ret_end)
{
    if (d->format == INDEX_XZ)
        return decode_xz(d, in, last, out, cap, ret_n, ret_end);
    if (d->format == INDEX_GZ)
        return decode_gz(d, in, last, out, cap, ret_n, ret_end);
    *ret_n = in->len < cap ? in->len : cap;
    if (*ret_n)
        memcpy(out, in->data, *ret_n);
    *in = view_of(in->data + *ret_n, in->len - *ret_n);
    *ret_end = last && in->len == 0;
    return 0;
}

/* The output: what the sink left over, and behind it what is new. */
struct window {
    uint8_t *data;
    size_t len, cap;
    uint64_t total, limit;
    bool exact;
};

static int window_flush(struct window *w, const struct index_sink *sink, bool last)
{
    size_t used = 0;
    int rc = sink->on_data(sink->ctx, view_of(w->data, w->len), last, &used);
    if (rc)
        return rc;
    w->len -= used;
    if (w->len > sink->carry_max)
        return err_fail(ERR_INTERNAL, "the reader left %zu bytes over", w->len);
    memmove(w->data, w->data + used, w->len);
    return 0;
}

static int pump(int fd, struct decoder *d, struct window *w, uint8_t *input, const struct index_sink *sink)
{
    struct view in = {0};
    bool last = false, end = false;
    while (!end) {
        if (cancelled(sink->cancel))
            return err_fail(ERR_CANCELLED, "cancelled");
        if (in.len == 0 && !last) {
            ssize_t n = read_some(fd, input, INPUT_BYTES);
            if (n < 0)
                return (int)n;
            in = view_of(input, (size_t)n);
            last = n == 0;
        }
        size_t n = 0;
        int rc = decode(d, &in, last, w->data + w->len, w->cap - w->len, &n, &end);
        if (rc)
            return rc;
        w->len += n;
        w->total += n;
        if (w->total > w->limit)
            return err_fail(ERR_UPSTREAM,
                "decompresses to more than the %llu bytes that the Release file lists or allows",
                (unsigned long long)w->limit);
        if (w->len == w->cap || end)
            rc = window_flush(w, sink, end);
        if (rc)
            return rc;
    }
    if (w->exact && w->total != w->limit)
        return err_fail(ERR_UPSTREAM, "decompresses to %llu bytes, but the Release file lists %llu",
            (unsigned long long)w->total, (unsigned long long)w->limit);
    return 0;
}

int index_read(
    const char *file, enum index_format format, const uint64_t *output_size, const struct index_sink *sink)
{
    struct decoder d;
    struct window w = {
        .cap = sink->carry_max + OUTPUT_BYTES,
        .limit = output_size ? *output_size : INDEX_OUTPUT_MAX,
        .exact = output_size != NULL,
    };
    int fd = open_file(file);
    if (fd < 0)
        return fd;
    uint8_t *input = malloc(INPUT_BYTES);
    w.data = malloc(w.cap);
    int rc = input && w.data ? decoder_init(&d, format) : -ENOMEM;
    if (!rc) {
        rc = pump(fd, &d, &w, input, sink);
        decoder_done(&d);
    }
    free(input);
    free(w.data);
    close(fd);
    return rc;
}

#include "tests/unit/upstream/fixture.h"

#include "common/crypto/crypto.h"
#include "services/metadata/upstream/apt_index.h"

#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

struct sunk {
    struct buf all;
    size_t calls, lasts, step; /* step: takes only so much of each call; 0: all */
    int answer;
};

static int sink(void *ctx, struct view data, bool last, size_t *ret_used)
{
    struct sunk *s = ctx;
    s->calls++;
    s->lasts += last;
    *ret_used = s->step && !last && data.len > s->step ? data.len - data.len % s->step : data.len;
    buf_append(&s->all, data.data, *ret_used);
    return s->answer;
}

static struct buf plain_text(size_t len)
{
    struct buf b = {0};
    while (b.len < len)
        buf_fmt(&b, "line %zu of a text that compresses well enough\n", b.len);
    b.len = len;
    return b;
}

static void save(struct fixture *f, const char *name, struct view v, char path[128])
{
    snprintf(path, 128, "%s/%s", f->dir, name);
    assert_int_equal(file_write_whole(path, v, 0600), 0);
}

static struct buf pack(enum index_format format, struct view v)
{
    struct buf out = {0};
    buf_reserve(&out, v.len + 65536);
    size_t n = 0;
    if (format == INDEX_XZ) {
        assert_int_equal(
            lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, v.data, v.len, out.data, &n, out.cap),
            LZMA_OK);
    } else if (format == INDEX_GZ) {
        z_stream z = {.next_in = (uint8_t *)(uintptr_t)v.data,
            .avail_in = (unsigned)v.len,
            .next_out = out.data,
            .avail_out = (unsigned)out.cap};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        n = z.total_out;
        deflateEnd(&z);
    } else {
        n = v.len;
        buf_append_view(&out, v);
    }
    out.len = n;
    return out;
}

static void reads_all_forms(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 100, 512 * 1024, 512 * 1024 + 1000, 3 * 1024 * 1024 + 17};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (enum index_format format = INDEX_XZ; format <= INDEX_PLAIN; format++)
            for (size_t step = 0; step <= 1000; step += 1000) {
                AUTO_BUF text = plain_text(sizes[i]);
                AUTO_BUF packed = pack(format, buf_view(&text));
                struct sunk s = {.step = step};
                const struct index_sink to = {sink, &s, 1000, NULL};
                uint64_t size = sizes[i];
                char path[128];
                save(f, "index", buf_view(&packed), path);
                assert_int_equal(index_read(path, format, &size, &to), 0);
                assert_true(view_eq(buf_view(&s.all), buf_view(&text)));
                assert_int_equal(s.lasts, 1);
                buf_reset(&s.all);
                assert_int_equal(index_read(path, format, NULL, &to), 0);
                assert_int_equal(s.all.len, sizes[i]);
                size++;
                assert_int_equal(index_read(path, format, &size, &to), ERR_UPSTREAM);
                if (size > 2) {
                    size -= 2;
                    assert_int_equal(index_read(path, format, &size, &to), ERR_UPSTREAM);
                }
                buf_done(&s.all);
            }
}

static void several_members_are_one_text(void **state)
{
    struct fixture *f = *state;
    for (enum index_format format = INDEX_XZ; format <= INDEX_GZ; format++) {
        AUTO_BUF text = plain_text(700000);
        AUTO_BUF one = pack(format, buf_view(&text));
        AUTO_BUF two = {0};
        struct sunk s = {0};
        const struct index_sink to = {sink, &s, 0, NULL};
        uint64_t size = 1400000;
        char path[128];
        buf_append_view(&two, buf_view(&one));
        buf_append_view(&two, buf_view(&one));
        save(f, "index", buf_view(&two), path);
        assert_int_equal(index_read(path, format, &size, &to), 0);
        assert_int_equal(s.all.len, 1400000);
        buf_done(&s.all);
    }
}

/* Cut anywhere, or with any byte changed: an error or the very same text, never other text. */
static void damage_is_found(void **state)
{
    struct fixture *f = *state;
    for (enum index_format format = INDEX_XZ; format <= INDEX_GZ; format++) {
        AUTO_BUF text = plain_text(5000);
        AUTO_BUF packed = pack(format, buf_view(&text));
        uint64_t size = text.len;
        char path[128];
        for (size_t at = 0; at < packed.len; at++) {
            struct sunk s = {0};
            const struct index_sink to = {sink, &s, 0, NULL};
            FILE *file;
            snprintf(path, sizeof path, "%s/cut", f->dir);
            assert_non_null(file = fopen(path, "w"));
            assert_int_equal(fwrite(packed.data, 1, at, file), at);
            fclose(file);
            assert_int_equal(index_read(path, format, &size, &to), ERR_UPSTREAM);
            buf_reset(&s.all);
            packed.data[at] ^= 0x41;
            assert_non_null(file = fopen(path, "w"));
            assert_int_equal(fwrite(packed.data, 1, packed.len, file), packed.len);
            fclose(file);
            int rc = index_read(path, format, &size, &to);
            assert_true(rc == ERR_UPSTREAM || (rc == 0 && view_eq(buf_view(&s.all), buf_view(&text))));
            packed.data[at] ^= 0x41;
            buf_done(&s.all);
        }
    }
}

static void a_bomb_stops_at_its_limit(void **state)
{
    struct fixture *f = *state;
    uint8_t *zeros = calloc(1, 64 << 20);
    for (enum index_format format = INDEX_XZ; format <= INDEX_GZ; format++) {
        AUTO_BUF packed = pack(format, view_of(zeros, 64 << 20));
        struct sunk s = {0};
        const struct index_sink to = {sink, &s, 0, NULL};
        uint64_t size = 1 << 20;
        char path[128];
        save(f, "bomb", buf_view(&packed), path);
        assert_int_equal(index_read(path, format, &size, &to), ERR_UPSTREAM);
        assert_non_null(strstr(err_text(ERR_UPSTREAM), "decompresses to more than the 1048576 bytes"));
        assert_true(s.all.len <= (2 << 20));
        buf_done(&s.all);
    }
    free(zeros);
}

static void too_much_memory_is_refused(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF packed = pack(INDEX_XZ, view_str("abc"));
    /* The first block's header says how much the reader would have to hold (xz format, 3.1 and 5.3.1): its
     * size, flags, two small sizes where the flags say so, the filter's number 0x21, the length and value of
     * its properties, padding, CRC. */
    uint8_t *block = packed.data + 12;
    size_t header = (block[0] + 1u) * 4, filter = 2 + (block[1] >> 6 & 1) + (block[1] >> 7);
    assert_int_equal(block[filter], 0x21);
    assert_int_equal(block[filter + 1], 1);
    block[filter + 2] = 36; /* 1 GiB */
    uint32_t crc = lzma_crc32(block, header - 4, 0);
    for (unsigned i = 0; i < 4; i++)
        block[header - 4 + i] = (uint8_t)(crc >> 8 * i);
    struct sunk s = {0};
    const struct index_sink to = {sink, &s, 0, NULL};
    char path[128];
    save(f, "memory.xz", buf_view(&packed), path);
    assert_int_equal(index_read(path, INDEX_XZ, NULL, &to), ERR_UPSTREAM);
    assert_string_equal(err_text(ERR_UPSTREAM), "xz: needs more than 128 MiB to decompress");
    buf_done(&s.all);
}

static void checks_size_and_digest(void **state)
{
    struct fixture *f = *state;
    char path[128];
    uint8_t digest[32];
    assert_int_equal(
        hex_decode("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", digest, 32), 0);
    save(f, "abc", view_str("abc"), path);
    assert_int_equal(index_check(path, 3, digest, NULL), 0);
    assert_int_equal(index_check(path, 4, digest, NULL), ERR_CORRUPT);
    assert_int_equal(index_check(path, 2, digest, NULL), ERR_CORRUPT);
    digest[0] ^= 1;
    assert_int_equal(index_check(path, 3, digest, NULL), ERR_CORRUPT);
    assert_int_equal(index_check("/nowhere/abc", 3, digest, NULL), ERR_NOT_FOUND);
    atomic_store(&f->cancel, true);
    assert_int_equal(index_check(path, 3, digest, &f->cancel), ERR_CANCELLED);
}

static void the_sink_decides(void **state)
{
    struct fixture *f = *state;
    struct sunk s = {.answer = ERR_BUSY};
    struct index_sink to = {sink, &s, 0, &f->cancel};
    char path[128];
    save(f, "abc", view_str("abc"), path);
    assert_int_equal(index_read(path, INDEX_PLAIN, NULL, &to), ERR_BUSY);
    s.answer = 0;
    atomic_store(&f->cancel, true);
    assert_int_equal(index_read(path, INDEX_PLAIN, NULL, &to), ERR_CANCELLED);
    buf_done(&s.all);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_up, fixture_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reads_all_forms),
        T(several_members_are_one_text),
        T(damage_is_found),
        T(a_bomb_stops_at_its_limit),
        T(too_much_memory_is_refused),
        T(checks_size_and_digest),
        T(the_sink_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

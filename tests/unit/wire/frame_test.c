#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "proto/worker.pb-c.h"

static const struct {
    enum frame_type type;
    uint32_t wire, raw;
} types[] = {
#define ROW(name, number, wire, raw, message) {name, wire, raw},
    FRAME_TABLE(ROW)
#undef ROW
};

/* A header as a stranger would make it; body bytes follow from the caller. */
static void header(struct buf *b, unsigned type, unsigned flags, uint32_t raw_len, uint32_t body_len)
{
    static const uint8_t epoch[16];
    buf_reset(b);
    buf_be16(b, 0x5354);
    buf_u8(b, FRAME_VERSION);
    buf_u8(b, 0);
    buf_be16(b, (uint16_t)type);
    buf_be16(b, (uint16_t)flags);
    buf_be64(b, 7);
    buf_be32(b, raw_len);
    buf_be32(b, body_len);
    buf_append(b, epoch, sizeof epoch);
    assert_int_equal(b->len, FRAME_HEADER_LEN);
}

static void body(struct buf *b, size_t len)
{
    buf_reserve(b, len);
    assert_int_equal(b->err, 0);
    memset(b->data + b->len, 0, len);
    b->len += len;
}

static void test_limits_of_every_type(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    struct frame f;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        assert_true(types[i].wire <= FRAME_MAX && types[i].raw >= types[i].wire);
        header(&b, types[i].type, 0, types[i].wire, types[i].wire);
        body(&b, types[i].wire);
        assert_int_equal(frame_parse(buf_view(&b), &f), 0);
        assert_int_equal(f.body.len, types[i].wire);
        header(&b, types[i].type, 0, types[i].wire + 1, types[i].wire + 1);
        body(&b, types[i].wire + 1);
        assert_int_equal(frame_parse(buf_view(&b), &f), ERR_TOO_LARGE);
        header(&b, types[i].type, FRAME_ZSTD, types[i].raw + 1, 8); /* announced, not there yet */
        body(&b, 8);
        assert_int_equal(frame_parse(buf_view(&b), &f), ERR_TOO_LARGE);
        AUTO_BUF big = {0};
        body(&big, types[i].raw + 1);
        assert_null(frame_wrap(types[i].type, 0, 1, NULL, buf_view(&big), true));
        assert_non_null(strstr(err_text(ERR_TOO_LARGE), frame_type_word(types[i].type)));
    }
    assert_string_equal(frame_type_word(9999), "unknown");
    assert_true(frame_type_is_catalogue(FRAME_HEAD_GET) && frame_type_is_catalogue(FRAME_SYNC_ACK));
    assert_false(frame_type_is_catalogue(FRAME_REPORTS) || frame_type_is_catalogue(FRAME_WORKER_READY));
}

static void test_unknown_type_can_be_refused(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    struct frame f = {0};
    header(&b, 59, 0, 3, 3);
    body(&b, 3);
    assert_int_equal(frame_parse(buf_view(&b), &f), ERR_UNKNOWN_TYPE);
    assert_int_equal(f.type, 59);
    assert_true(f.request == 7);
    AUTO_BLOB *refusal = frame_refusal(f.request, ERR_UNKNOWN_TYPE);
    assert_int_equal(frame_parse(blob_view(refusal), &f), 0);
    assert_int_equal(f.type, FRAME_REFUSAL);
    assert_true(f.request == 7);
    AUTO_ARENA a;
    arena_init(&a);
    int rc = 0;
    Sitetree__Refusal *m = FRAME_UNPACK(&a, &f, refusal, &rc);
    assert_non_null(m);
    assert_int_equal(m->code, ERR_UNKNOWN_TYPE);
    assert_string_equal(m->word, "unknown-type");
    assert_string_equal(m->text, "frame of unknown type 59");
}

static void test_truncated_anywhere(void **state)
{
    (void)state;
    Sitetree__Bye bye = SITETREE__BYE__INIT;
    bye.why = (char *)"stopping";
    AUTO_BLOB *b = frame_pack(FRAME_BYE, 1, 0, NULL, &bye.base, false);
    struct frame f;
    struct view v = blob_view(b);
    for (size_t len = 0; len < v.len; len++) {
        uint8_t *exact = malloc(len ? len : 1); /* so that a sanitizer sees a read beyond it */
        assert_non_null(exact);
        memcpy(exact, v.data, len);
        assert_int_equal(frame_parse(view_of(exact, len), &f), ERR_MALFORMED);
        free(exact);
    }
    AUTO_BUF more = {0};
    buf_append_view(&more, v);
    buf_u8(&more, 0);
    assert_int_equal(frame_parse(buf_view(&more), &f), ERR_MALFORMED);
    assert_string_equal(err_text(ERR_MALFORMED), "frame body of 11 bytes, 10 announced");
}

static void test_header_fields(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    struct frame f = {.type = 1234};
    header(&b, FRAME_BYE, 0, 0, 0);
    assert_int_equal(frame_parse(buf_view(&b), &f), 0);
    b.data[0] = 'X';
    assert_int_equal(frame_parse(buf_view(&b), &f), ERR_MALFORMED);
    header(&b, FRAME_BYE, 0, 0, 0);
    b.data[2] = FRAME_VERSION + 1;
    assert_int_equal(frame_parse(buf_view(&b), &f), ERR_VERSION);
    assert_string_equal(err_text(ERR_VERSION), "frame of version 2, this program speaks 1");
    header(&b, FRAME_BYE, 2, 0, 0);
    assert_int_equal(frame_parse(buf_view(&b), &f), ERR_MALFORMED);
    header(&b, FRAME_BYE, 0, 5, 0); /* not compressed, yet of another size */
    assert_int_equal(frame_parse(buf_view(&b), &f), ERR_MALFORMED);
    header(&b, FRAME_BYE, 0, 0xffffffff, 0xffffffff);
    assert_int_equal(frame_parse(buf_view(&b), &f), ERR_MALFORMED);
    assert_int_equal(frame_parse((struct view){0}, &f), ERR_MALFORMED);
}

static int unpack_zstd(struct view packed, uint32_t raw_len)
{
    AUTO_BUF b = {0};
    struct frame f;
    header(&b, FRAME_CONTROL_REPLY, FRAME_ZSTD, raw_len, (uint32_t)packed.len);
    buf_append_view(&b, packed);
    int rc = frame_parse(buf_view(&b), &f);
    if (rc)
        return rc;
    AUTO_ARENA a;
    arena_init(&a);
    void *m = FRAME_UNPACK(&a, &f, control_reply, &rc);
    assert_int_equal(m == NULL, rc != 0);
    return rc;
}

static void test_compressed(void **state)
{
    (void)state;
    Sitetree__ControlReply reply = SITETREE__CONTROL_REPLY__INIT;
    AUTO_BUF json = {0};
    for (int i = 0; i < 20000; i++)
        buf_fmt(&json, "{\"n\":%d},", i);
    reply.json = pb_bytes(buf_view(&json));
    reply.command = 5;
    AUTO_BLOB *b = frame_pack(FRAME_CONTROL_REPLY, 2, 9, NULL, &reply.base, true);
    assert_non_null(b);
    assert_true(blob_view(b).len < json.len / 3);
    struct frame f;
    assert_int_equal(frame_parse(blob_view(b), &f), 0);
    assert_int_equal(f.flags, FRAME_ZSTD);
    AUTO_ARENA a;
    arena_init(&a);
    int rc = 0;
    Sitetree__ControlReply *m = FRAME_UNPACK(&a, &f, control_reply, &rc);
    assert_non_null(m);
    assert_true(m->command == 5 && view_eq(pb_view(m->json), buf_view(&json)));

    struct view z = f.body;
    assert_int_equal(unpack_zstd(z, f.raw_len), 0);
    assert_int_equal(unpack_zstd(z, f.raw_len - 1), ERR_MALFORMED);
    assert_int_equal(unpack_zstd(z, f.raw_len + 1), ERR_MALFORMED);
    assert_int_equal(unpack_zstd(z, 0), ERR_MALFORMED);
    for (size_t len = 0; len < z.len; len += len < 32 ? 1 : 997)
        assert_int_equal(unpack_zstd(view_of(z.data, len), f.raw_len), ERR_MALFORMED);
    AUTO_BUF two = {0};
    buf_append_view(&two, z);
    assert_int_equal(zstd_pack((struct view){0}, 3, &two), 0); /* one more frame, of nothing */
    assert_int_equal(unpack_zstd(buf_view(&two), f.raw_len), ERR_MALFORMED);
}

/* What does not shrink is sent as it is. */
static void test_not_compressed_in_vain(void **state)
{
    (void)state;
    uint8_t noise[4096];
    unsigned seed = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(rand_r(&seed) >> 7);
    struct frame f;
    AUTO_BLOB *b = frame_wrap(FRAME_FRAGMENT, 3, 1, NULL, view_of(noise, sizeof noise), true);
    assert_int_equal(frame_parse(blob_view(b), &f), 0);
    assert_int_equal(f.flags, 0);
    AUTO_BLOB *small = frame_wrap(FRAME_FRAGMENT, 3, 1, NULL, view_of("aaaaaaaaaaaaaaaa", 16), true);
    assert_int_equal(frame_parse(blob_view(small), &f), 0);
    assert_int_equal(f.flags, 0);
}

/* 256 MiB of zeros shrink to less than 100 kB: refused by the announced size or by the real one, before
 * memory is taken. */
static void test_bomb(void **state)
{
    (void)state;
    AUTO_BUF packed = {0};
    size_t cap = 1 << 20, chunk = 1 << 16;
    buf_reserve(&packed, cap);
    uint8_t *zeros = calloc(1, chunk);
    ZSTD_CStream *z = ZSTD_createCStream();
    assert_true(zeros && z);
    ZSTD_outBuffer out = {packed.data, cap, 0};
    const size_t total = (size_t)1 << 28;
    ZSTD_CCtx_setPledgedSrcSize(z, total);
    for (size_t done = 0; done < total; done += chunk) {
        ZSTD_inBuffer in = {zeros, chunk, 0};
        size_t rest =
            ZSTD_compressStream2(z, &out, &in, done + chunk == total ? ZSTD_e_end : ZSTD_e_continue);
        assert_false(ZSTD_isError(rest));
        assert_int_equal(in.pos, chunk);
    }
    ZSTD_freeCStream(z);
    free(zeros);
    struct view bomb = view_of(packed.data, out.pos);
    assert_true(bomb.len < 100000);
    assert_int_equal(unpack_zstd(bomb, (uint32_t)total), ERR_TOO_LARGE);
    assert_int_equal(unpack_zstd(bomb, 4194304), ERR_MALFORMED);
    /* the size in its own header made small as well: what comes out is still more */
    AUTO_BUF lying = {0};
    buf_append_view(&lying, bomb);
    uint8_t *field; /* 4 bytes of content size, behind the descriptor and perhaps a window byte */
    bool found = false;
    for (size_t at = 5; at < 12 && !found; at++) {
        uint32_t size = (uint32_t)total, small = 1000;
        field = lying.data + at;
        if (memcmp(field, &size, 4) == 0) {
            memcpy(field, &small, 4);
            found = true;
        }
    }
    assert_true(found);
    assert_int_equal(unpack_zstd(buf_view(&lying), 1000), ERR_MALFORMED);
}

static void test_arena_cap(void **state)
{
    (void)state;
    /* 1 MiB of empty repeated strings: two bytes each on the wire, 42 MB without a cap */
    AUTO_BUF b = {0};
    for (int i = 0; i < 1 << 19; i++)
        buf_be16(&b, 7 << 11 | 2 << 8); /* Update.articles, length 0 */
    int rc = 0;
    AUTO_ARENA a;
    arena_init(&a);
    assert_null(MESSAGE_UNPACK(&a, buf_view(&b), 1 << 20, update, &rc));
    assert_int_equal(rc, ERR_MALFORMED);
    assert_true(a.used <= b.len * 8 + 65536);
    buf_reset(&b);
    for (int i = 0; i < 1 << 19; i++)
        buf_be16(&b, 1 << 11 | 2 << 8); /* empty messages: ScopeList.scopes */
    assert_null(MESSAGE_UNPACK(&a, buf_view(&b), 1 << 20, scope_list, &rc));
    assert_null(MESSAGE_UNPACK(&a, buf_view(&b), (1 << 20) - 1, bye, &rc));
    assert_int_equal(rc, ERR_TOO_LARGE);
}

static void test_unknown_fields_pass_and_are_capped(void **state)
{
    (void)state;
    int rc = 0;
    AUTO_ARENA a;
    arena_init(&a);
    AUTO_BUF b = {0}, again = {0};
    buf_append(
        &b, "\x0a\x02hi\xf8\x07\x05\x82\x08\x01x", 11); /* why, and fields 127 and 128 of a later version */
    ProtobufCMessage *m = MESSAGE_UNPACK(&a, buf_view(&b), 100, bye, &rc);
    assert_non_null(m);
    assert_string_equal(((Sitetree__Bye *)m)->why, "hi");
    message_pack(m, &again);
    assert_true(view_eq(buf_view(&b), buf_view(&again)));
    buf_reset(&b);
    for (int i = 0; i < 349525; i++)
        buf_append(&b, "\xf8\x07\x00", 3);
    assert_null(MESSAGE_UNPACK(&a, buf_view(&b), 1 << 20, bye, &rc));
    assert_int_equal(rc, ERR_MALFORMED);
    assert_true(a.used <= b.len * 8 + 65536 + 4096);
}

static void test_string_with_nul(void **state)
{
    (void)state;
    int rc = 0;
    AUTO_ARENA a;
    arena_init(&a);
    assert_non_null(MESSAGE_UNPACK(&a, view_of("\x0a\x03P01", 5), 100, bye, &rc));
    assert_null(MESSAGE_UNPACK(&a, view_of("\x0a\x04P01\0", 6), 100, bye, &rc));
    assert_int_equal(rc, ERR_MALFORMED);
    /* deeper, and repeated: Joined.parents[1].code, Update.articles[1] */
    assert_non_null(MESSAGE_UNPACK(&a, view_of("\x12\x03\x22\x01x\x12\x03\x22\x01y", 10), 100, joined, &rc));
    assert_null(MESSAGE_UNPACK(&a, view_of("\x12\x03\x22\x01x\x12\x03\x22\x01\0", 10), 100, joined, &rc));
    assert_null(MESSAGE_UNPACK(&a, view_of("\x3a\x01x\x3a\x02y\0", 7), 100, update, &rc));
    /* bytes may hold what they like */
    assert_non_null(MESSAGE_UNPACK(&a, view_of("\x2a\x02\0\0", 4), 100, hello, &rc));
}

static void test_empty_message(void **state)
{
    (void)state;
    Sitetree__Bye bye = SITETREE__BYE__INIT;
    AUTO_BUF b = {0};
    message_pack(&bye.base, &b);
    assert_int_equal(b.err, 0);
    assert_int_equal(b.len, 0);
    AUTO_ARENA a;
    arena_init(&a);
    int rc = 0;
    Sitetree__Bye *m = MESSAGE_UNPACK(&a, buf_view(&b), 0, bye, &rc);
    assert_non_null(m);
    assert_string_equal(m->why, "");
}

static void test_garbage(void **state)
{
    (void)state;
    unsigned seed = 42;
    AUTO_ARENA a;
    arena_init(&a);
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[96];
        size_t len = (size_t)rand_r(&seed) % sizeof bytes;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(rand_r(&seed) >> 5);
        int rc = 0;
        void *m = MESSAGE_UNPACK(&a, view_of(bytes, len), sizeof bytes, joined, &rc);
        assert_true(m || rc == ERR_MALFORMED);
        m = MESSAGE_UNPACK(&a, view_of(bytes, len), sizeof bytes, page_reply, &rc);
        assert_true(m || rc == ERR_MALFORMED);
        arena_reset(&a);
    }
    static const char *const broken[] = {"\x0a", "\x0a\x05hi", "\x0b",
        "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        "\x09\x01\x02"};
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        int rc = 0;
        assert_null(MESSAGE_UNPACK(&a, view_str(broken[i]), 100, bye, &rc));
        assert_int_equal(rc, ERR_MALFORMED);
    }
}

static void test_arena_is_reused_and_may_move(void **state)
{
    (void)state;
    struct arena first;
    arena_init(&first);
    int rc = 0;
    assert_non_null(MESSAGE_UNPACK(&first, view_of("\x0a\x03P01", 5), 100, bye, &rc));
    struct arena moved = first;
    memset(&first, 0xee, sizeof first);
    assert_non_null(MESSAGE_UNPACK(&moved, view_of("\x0a\x03P02", 5), 100, bye, &rc));
    arena_reset(&moved);
    assert_int_equal(moved.used, 0);
    for (int i = 0; i < 100; i++) {
        Sitetree__Bye *m = MESSAGE_UNPACK(&moved, view_of("\x0a\x03P03", 5), 100, bye, &rc);
        assert_string_equal(m->why, "P03");
        arena_reset(&moved);
    }
    assert_null(moved.allocator.alloc(moved.allocator.allocator_data, SIZE_MAX));
    assert_null(moved.allocator.alloc(moved.allocator.allocator_data, SIZE_MAX - 20));
    arena_done(&moved);
    arena_done(&moved);
}

static void test_refusal_of_a_long_text(void **state)
{
    (void)state;
    char big[2000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    AUTO_BLOB *b = frame_refusal(1, err_fail(ERR_TOKEN, "%s", big));
    struct frame f;
    assert_int_equal(frame_parse(blob_view(b), &f), 0);
    AUTO_BLOB *plain = frame_refusal(1, -EIO);
    assert_int_equal(frame_parse(blob_view(plain), &f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_of_every_type),
        cmocka_unit_test(test_unknown_type_can_be_refused),
        cmocka_unit_test(test_truncated_anywhere),
        cmocka_unit_test(test_header_fields),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_not_compressed_in_vain),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_arena_cap),
        cmocka_unit_test(test_unknown_fields_pass_and_are_capped),
        cmocka_unit_test(test_string_with_nul),
        cmocka_unit_test(test_empty_message),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_arena_is_reused_and_may_move),
        cmocka_unit_test(test_refusal_of_a_long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

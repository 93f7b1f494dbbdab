#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/base/buf.h"

static void test_append(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    buf_u8(&b, 0x01);
    buf_be16(&b, 0x0203);
    buf_be32(&b, 0x04050607);
    buf_be64(&b, 0x08090a0b0c0d0e0f);
    buf_str(&b, "ab");
    buf_append_view(&b, view_of("c\0d", 3));
    buf_append(&b, NULL, 0);
    buf_fmt(&b, "%s-%d", "x", 7);
    assert_int_equal(b.err, 0);
    assert_int_equal(b.len, 15 + 2 + 3 + 3);
    assert_memory_equal(b.data, "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17abc\0dx-7", 23);
    size_t cap = b.cap;
    buf_reset(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap);
}

static void test_grows(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    for (unsigned i = 0; i < 100000; i++)
        buf_be32(&b, i);
    assert_int_equal(b.err, 0);
    struct reader r = reader_of(buf_view(&b));
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(read_be32(&r), i);
    assert_false(r.bad);
    assert_int_equal(r.rest.len, 0);
}

static void test_failure_sticks(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    buf_str(&b, "kept");
    buf_reserve(&b, SIZE_MAX / 2);
    assert_int_equal(b.err, -ENOMEM);
    buf_reserve(&b, SIZE_MAX);
    buf_str(&b, "lost");
    buf_fmt(&b, "%d", 1);
    assert_int_equal(b.err, -ENOMEM);
    assert_int_equal(b.len, 4);
    assert_null(blob_take(&b)); /* and it is freed */
    assert_null(b.data);
    buf_str(&b, "again");
    assert_int_equal(b.err, 0);
    assert_int_equal(b.len, 5);
    buf_reserve(&b, SIZE_MAX - 2);
    assert_int_equal(b.err, -ENOMEM);
    buf_reset(&b);
    assert_int_equal(b.err, 0);
}

static void test_reader_stops(void **state)
{
    (void)state;
    struct reader r = reader_of(view_of("\1\2\3", 3));
    assert_int_equal(read_be16(&r), 0x0102);
    assert_int_equal(read_be16(&r), 0);
    assert_true(r.bad);
    assert_int_equal(read_u8(&r), 0); /* what is left is not read any more */
    struct view v = read_bytes(&r, 0);
    assert_null(v.data);
    r = reader_of(view_of("\xff\xff\xff\xff\xff\xff\xff\xff", 8));
    assert_true(read_be64(&r) == UINT64_MAX);
    assert_int_equal(read_bytes(&r, SIZE_MAX).len, 0);
    assert_true(r.bad);
}

static void test_views(void **state)
{
    (void)state;
    static const char *const ascending[] = {"", "a", "aa", "ab", "b", "\x80"};
    for (size_t i = 0; i < COUNT_OF(ascending); i++)
        for (size_t j = 0; j < COUNT_OF(ascending); j++) {
            int c = view_cmp(view_str(ascending[i]), view_str(ascending[j]));
            assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
            assert_int_equal(view_eq(view_str(ascending[i]), view_str(ascending[j])), i == j);
        }
    assert_true(view_eq((struct view){0}, view_str("")));
    assert_int_equal(view_cmp((struct view){0}, (struct view){0}), 0);
}

static void *drop(void *b)
{
    blob_free(b);
    return NULL;
}

static void note_release(void *flag)
{
    *(bool *)flag = true;
}

static void test_blobs(void **state)
{
    (void)state;
    blob_free(NULL);
    AUTO_BLOB *empty = blob_new(NULL, 0);
    assert_int_equal(blob_view(empty).len, 0);
    char source[] = "bytes";
    AUTO_BLOB *copy = blob_new(source, 5);
    source[0] = 'B';
    assert_memory_equal(blob_view(copy).data, "bytes", 5);
    struct buf b = {0};
    buf_str(&b, "taken");
    struct blob *taken = blob_take(&b);
    assert_null(b.data);
    assert_int_equal(b.cap, 0);
    pthread_t threads[8];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, drop, blob_ref(taken)), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    assert_memory_equal(blob_view(taken).data, "taken", 5);
    blob_free(taken);
    bool released = false;
    struct blob *wrapped = blob_wrap("elsewhere", 9, note_release, &released);
    assert_memory_equal(blob_view(wrapped).data, "elsewhere", 9);
    blob_free(blob_ref(wrapped));
    assert_false(released);
    blob_free(wrapped);
    assert_true(released);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_failure_sticks),
        cmocka_unit_test(test_reader_stops),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_blobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

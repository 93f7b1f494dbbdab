#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crypto/crypto.h"

static char folder[] = "/tmp/sitetree-keys-XXXXXX";
static char path[128], other[128];

static int set_up(void **state)
{
    (void)state;
    if (crypto_init() || !mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/site.key", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int files_in_folder(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int empty_folder(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    rmdir(path);
    return files_in_folder();
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void expect_refused(const char *kind, const char *why)
{
    uint8_t out[32];
    memset(out, 0xee, sizeof out);
    assert_int_equal(key_file_read(path, kind, out, sizeof out), ERR_KEY_FILE);
    if (!strstr(err_text(ERR_KEY_FILE), why) || !strstr(err_text(ERR_KEY_FILE), path))
        fail_msg("'%s' does not say '%s'", err_text(ERR_KEY_FILE), why);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 0xee); /* set on success only */
}

static void test_round_trip(void **state)
{
    (void)state;
    struct sign_key a, b;
    struct link_key c, d;
    struct stat st;
    sign_key_new(&a);
    assert_int_equal(sign_key_save(path, &a), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, strlen("sitetree-sign ") + 64 + 1);
    assert_int_equal(sign_key_load(path, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
    expect_refused("link", "not a link key file");
    link_key_new(&c);
    assert_int_equal(link_key_save(path, &c), 0); /* replaces */
    assert_int_equal(link_key_load(path, &d), 0);
    assert_memory_equal(&c, &d, sizeof c);
    assert_int_equal(sign_key_load(path, &b), ERR_KEY_FILE);
    assert_int_equal(files_in_folder(), 1);
}

static void test_missing(void **state)
{
    (void)state;
    expect_refused("sign", "No such file or directory");
}

static void test_readable_by_others(void **state)
{
    (void)state;
    struct sign_key a;
    sign_key_new(&a);
    assert_int_equal(sign_key_save(path, &a), 0);
    static const unsigned modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0777};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        expect_refused("sign", "chmod 600");
        expect_refused("sign", "readable by others");
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(sign_key_load(path, &a), 0);
}

static void test_of_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* only root can give a file away */
    struct sign_key a;
    sign_key_new(&a);
    assert_int_equal(sign_key_save(path, &a), 0);
    assert_int_equal(chown(path, 65534, (gid_t)-1), 0);
    expect_refused("sign", "chown 0");
}

static void test_not_a_file(void **state)
{
    (void)state;
    struct sign_key a;
    sign_key_new(&a);
    assert_int_equal(sign_key_save(other, &a), 0);
    assert_int_equal(symlink(other, path), 0);
    expect_refused("sign", "symbolic link");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused("sign", "not a regular file"); /* and does not wait for a writer */
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refused("sign", "not a regular file");
}

static void test_malformed(void **state)
{
    (void)state;
    char zeros[65] = "0000000000000000000000000000000000000000000000000000000000000000";
    char good[128], bad[2048];
    int n = snprintf(good, sizeof good, "sitetree-sign %s\n", zeros);
    assert_int_equal(file_write_whole(path, view_of(good, (size_t)n), 0600), 0);
    uint8_t out[32];
    assert_int_equal(key_file_read(path, "sign", out, sizeof out), 0);
    for (int len = 0; len < n - 1; len++) { /* cut anywhere */
        assert_int_equal(file_write_whole(path, view_of(good, (size_t)len), 0600), 0);
        expect_refused("sign", "not a sign key file");
    }
    for (int i = 0; i < n - 1; i++) { /* one byte turned into what cannot stand there */
        static const char wrong[] = {0, 'z', '\n'};
        for (size_t w = 0; w < COUNT_OF(wrong); w++) {
            memcpy(bad, good, (size_t)n);
            bad[i] = wrong[w];
            assert_int_equal(file_write_whole(path, view_of(bad, (size_t)n), 0600), 0);
            expect_refused("sign", "not a sign key file");
        }
    }
    memset(bad, 'a', sizeof bad);
    memcpy(bad, good, (size_t)n - 1);
    assert_int_equal(file_write_whole(path, view_of(bad, sizeof bad), 0600), 0);
    expect_refused("sign", "not a sign key file");
    assert_int_equal(file_write_whole(path, view_of(bad, (size_t)n + 1), 0600), 0);
    expect_refused("sign", "not a sign key file");
}

static void test_whole_or_not_at_all(void **state)
{
    (void)state;
    struct rlimit before, small = {16, 16};
    assert_int_equal(file_write_whole(path, view_str("first"), 0644), 0);
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = file_write_whole(path, view_str("this is longer than sixteen bytes"), 0644);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(rc, -EFBIG);
    AUTO_BUF b = {0};
    assert_int_equal(file_read_whole(path, 100, &b), 0);
    assert_true(view_eq(buf_view(&b), view_str("first")));
    assert_int_equal(files_in_folder(), 1);
    assert_int_equal(file_write_whole("/nonexistent-folder/x", view_str(""), 0600), -ENOENT);
}

static void test_read_limits(void **state)
{
    (void)state;
    AUTO_BUF b = {0};
    assert_int_equal(file_read_whole(path, 10, &b), ERR_NOT_FOUND);
    assert_int_equal(file_write_whole(path, view_str("0123456789"), 0600), 0);
    assert_int_equal(file_read_whole(path, 10, &b), 0);
    assert_int_equal(b.len, 10);
    assert_int_equal(file_read_whole(path, 9, &b), ERR_TOO_LARGE);
    assert_int_equal(file_read_whole(folder, 9, &b), -EISDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_round_trip, empty_folder),
        cmocka_unit_test_teardown(test_missing, empty_folder),
        cmocka_unit_test_teardown(test_readable_by_others, empty_folder),
        cmocka_unit_test_teardown(test_of_another_user, empty_folder),
        cmocka_unit_test_teardown(test_not_a_file, empty_folder),
        cmocka_unit_test_teardown(test_malformed, empty_folder),
        cmocka_unit_test_teardown(test_whole_or_not_at_all, empty_folder),
        cmocka_unit_test_teardown(test_read_limits, empty_folder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

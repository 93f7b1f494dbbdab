/* Backups of a site's folder: whole or not at all, and nothing altered comes back. */
#include "services/node/backup.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "services/node/setup.h"
#include "services/node/tables.h"

static char base[128], dir[160], backup[160], fresh[160];

static void shell(const char *format, ...) PRINTF_LIKE(1, 2);
static void shell(const char *format, ...)
{
    char command[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    assert_int_equal(0, system(command));
}

static struct store *node_store(const char *site, const char *name)
{
    char path[400];
    struct store *s;
    struct store_options so = {.tables = node_tables, .n_tables = node_n_tables, .map_size = 1 << 24};
    snprintf(path, sizeof path, "%s/%s", site, name);
    assert_int_equal(0, store_open_lmdb(path, &so, &s));
    return s;
}

/* A central site with a node store, and copies of the stores as the daemons make them. */
static int setup(void **state)
{
    (void)state;
    struct hash h;
    struct store_txn *t;
    struct store_copied copied;
    struct store_options so = {.tables = node_tables, .n_tables = node_n_tables, .map_size = 1 << 24};
    snprintf(base, sizeof base, "/tmp/node-backup-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    snprintf(dir, sizeof dir, "%s/CEN", base);
    snprintf(backup, sizeof backup, "%s/saved", base);
    snprintf(fresh, sizeof fresh, "%s/again", base);
    assert_int_equal(0, setup_init_central(dir, "CEN", &h));
    shell("echo 'heartbeat = \"5s\"' > '%s/sitetree.conf'", dir);
    struct store *s = node_store(dir, "node.mdb");
    assert_int_equal(0, store_begin(s, true, &t));
    table_number_put(t, "number", 42);
    assert_int_equal(0, store_commit(t));
    assert_int_equal(0, store_copy_beside(s, &so, dir, "node.mdb", &copied));
    assert_int_equal(1, copied.entries);
    assert_int_equal(0, store_copy_beside(s, &so, dir, "metadata", &copied)); /* any store does here */
    store_close(s);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shell("rm -rf '%s'", base);
    return 0;
}

static int make(bool root, struct backup_result *r)
{
    return backup_make(dir, backup, root, json_pack("{s:i}", "generation", 7), r);
}

static int restore(bool dry)
{
    struct backup_result r;
    int rc = backup_restore(backup, fresh, dry, &r);
    if (!rc)
        json_decref(r.manifest);
    return rc;
}

static bool there(const char *folder, const char *name)
{
    char path[400];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &st) == 0;
}

/* Nothing but what was there before lies in the base folder: no half of anything. */
static void no_halves(void)
{
    shell("test -z \"$(ls -d '%s'/*.part-* 2>/dev/null)\"", base);
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct backup_result r;
    assert_int_equal(0, make(false, &r));
    assert_string_equal("CEN", r.site.s);
    assert_int_equal(8, r.files);
    assert_false(r.root_key);
    assert_false(there(backup, "keys/root.key"));
    shell("cd '%s' && sha256sum --quiet -c SHA256SUMS", backup);
    shell("test -z \"$(find '%s' -type f ! -perm 0600)\" && test -z \"$(find '%s' -type d ! -perm 0700)\"",
        backup, backup);
    assert_int_equal(0, restore(true));
    assert_false(there(fresh, ""));
    assert_int_equal(0, backup_restore(backup, fresh, false, &r));
    assert_int_equal(7, json_integer_value(json_object_get(r.manifest, "generation")));
    json_decref(r.manifest);
    struct node_options opt;
    struct node_keys keys;
    AUTO_BUF chain = {0};
    node_options_default(&opt);
    assert_int_equal(0, setup_load(fresh, &opt, &keys, &chain));
    assert_true(keys.has_head);
    assert_true(there(fresh, "sitetree.conf"));
    assert_true(there(fresh, "metadata/data.mdb"));
    assert_false(there(fresh, "manifest.json"));
    struct store *s = node_store(fresh, "node.mdb");
    struct store_txn *t;
    uint64_t n = 0, marked = 0;
    assert_int_equal(0, store_begin(s, false, &t));
    assert_int_equal(0, table_number_get(t, "number", &n));
    assert_int_equal(0, table_number_get(t, RESTORED_WORD, &marked));
    store_abort(t);
    store_close(s);
    assert_int_equal(42, n);
    assert_true(marked != 0); /* a central site waits for its children */
    no_halves();
}

static void test_the_root_key_is_asked_for(void **state)
{
    (void)state;
    struct backup_result r;
    assert_int_equal(0, make(true, &r));
    assert_true(r.root_key);
    assert_true(there(backup, "keys/root.key"));
}

static void test_what_is_there_stays(void **state)
{
    (void)state;
    struct backup_result r;
    assert_int_equal(0, make(false, &r));
    assert_int_equal(ERR_EXISTS, make(false, &r));
    assert_int_equal(ERR_EXISTS, backup_restore(backup, dir, false, &r)); /* a site */
    shell("mkdir '%s'", fresh);
    assert_int_equal(0, restore(false)); /* an empty folder may be there */
    assert_int_equal(ERR_EXISTS, restore(false));
    no_halves();
}

static void test_bad_backups(void **state)
{
    (void)state;
    static const struct {
        const char *how, *word;
        int code;
    } cases[] = {
        {"truncate -s -1 node.mdb/data.mdb", "node.mdb/data.mdb", ERR_CORRUPT},
        {"truncate -s 0 metadata/data.mdb", "metadata/data.mdb", ERR_CORRUPT},
        {"printf x | dd of=metadata/data.mdb bs=1 seek=5000 conv=notrunc 2>/dev/null", "metadata/data.mdb",
            ERR_CORRUPT},
        {"sed -i 's/generation/Generation/' manifest.json", "manifest.json", ERR_CORRUPT},
        {"rm keys/site.key", "keys/site.key", ERR_NOT_FOUND},
        {"rm metadata/data.mdb", "metadata/data.mdb", ERR_NOT_FOUND},
        {"rm SHA256SUMS", "SHA256SUMS", ERR_NOT_FOUND},
        {"truncate -s -3 SHA256SUMS", "cut short", ERR_CORRUPT},
        {"sed -i '/link.key/d' SHA256SUMS", "keys/link.key", ERR_CORRUPT},
        {"sed -i '1s/^./z/' SHA256SUMS", "no line of a backup", ERR_CORRUPT},
        {"head -1 SHA256SUMS >> SHA256SUMS", "no line of a backup", ERR_CORRUPT},
        {"echo \"$(sha256sum /etc/hostname | cut -c1-64)  ../../etc/hostname\" >> SHA256SUMS",
            "no line of a backup", ERR_CORRUPT},
        {"rm site.chain && ln -s /etc/hostname site.chain", "site.chain", -ELOOP},
        {"rm -r keys && mkdir keys && mkdir keys/site.key", "keys/site.key", ERR_CORRUPT},
        /* whole in itself, but of two sites */
        {"printf 'sitetree-sign %064d\\n' 7 > keys/site.key && sha256sum $(cut -c67- SHA256SUMS) > S && mv S "
         "SHA256SUMS",
            "site.chain", ERR_KEY},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct backup_result r;
        shell("rm -rf '%s'", backup);
        assert_int_equal(0, make(false, &r));
        shell("cd '%s' && %s", backup, cases[i].how);
        int rc = restore(false);
        char text[1024];
        snprintf(text, sizeof text, "%s", err_text(rc));
        if (rc != cases[i].code || (i + 1 < COUNT_OF(cases) && !strstr(text, cases[i].word)))
            fail_msg("case %zu (%s): %d, %s", i, cases[i].how, rc, text);
        assert_false(there(fresh, ""));
        no_halves();
    }
}

static void test_a_site_that_is_not_whole(void **state)
{
    (void)state;
    struct backup_result r;
    shell("rm -r '%s/" STORE_COPY_FOLDER "/metadata'", dir);
    assert_int_equal(ERR_NOT_FOUND, make(false, &r)); /* the daemon has made no copies */
    assert_false(there(backup, ""));
    shell("rm '%s/site.chain'", dir);
    assert_int_equal(ERR_NOT_FOUND, make(false, &r));
    no_halves();
    backup_clear(dir);
    assert_false(there(dir, STORE_COPY_FOLDER));
}

/* A disk that takes no more, by the limit for files: nothing half made stays. */
static void test_a_full_disk(void **state)
{
    (void)state;
    struct backup_result r;
    struct rlimit before, small = {5000, 5000};
    assert_int_equal(0, make(false, &r));
    shell("mv '%s' '%s.good'", backup, backup);
    assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &before));
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &small));
    int rc = make(false, &r);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &before));
    assert_int_equal(-EFBIG, rc);
    assert_false(there(backup, ""));
    no_halves();
    shell("mv '%s.good' '%s'", backup, backup);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &small));
    rc = restore(false);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &before));
    assert_int_equal(-EFBIG, rc);
    assert_false(there(fresh, ""));
    no_halves();
    assert_int_equal(0, restore(false));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_there_and_back), T(test_the_root_key_is_asked_for),
        T(test_what_is_there_stays), T(test_bad_backups), T(test_a_site_that_is_not_whole),
        T(test_a_full_disk)};
    if (crypto_init())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

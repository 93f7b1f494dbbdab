/* Folders of sites: made once, completed after a crash, never taken over. Joining over the network is in
 * tests/system. */
#include "services/node/setup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[128], dir[160];

static int setup(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/node-setup-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    snprintf(dir, sizeof dir, "%s/CEN", base);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    return system(command);
}

static const char *in(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static unsigned mode_of(const char *name)
{
    struct stat st;
    return stat(in(name), &st) ? 0 : st.st_mode & 0777;
}

static void test_central(void **state)
{
    (void)state;
    struct hash h;
    assert_int_equal(0, setup_init_central(dir, "CEN", &h));
    assert_int_equal(0700, mode_of("."));
    assert_int_equal(0700, mode_of("keys"));
    static const char *const files[] = {
        "keys/root.key", "keys/head.key", "keys/site.key", "keys/link.key", "site.chain"};
    for (size_t i = 0; i < COUNT_OF(files); i++)
        assert_int_equal(0600, mode_of(files[i]));
    struct node_options opt;
    struct node_keys keys;
    AUTO_BUF chain = {0};
    node_options_default(&opt);
    assert_int_equal(0, unlink(in("keys/root.key"))); /* taken offline: the daemon does not need it */
    assert_int_equal(0, setup_load(dir, &opt, &keys, &chain));
    assert_true(hash_eq(&h, &opt.hierarchy));
    assert_string_equal("CEN", opt.site.s);
    assert_string_equal("central", opt.tier);
    assert_true(keys.has_head);
    struct hash again;
    assert_int_equal(ERR_EXISTS, setup_init_central(dir, "CEN", &again));
}

static void test_half_made_is_completed(void **state)
{
    (void)state;
    struct hash first, second;
    assert_int_equal(0, setup_init_central(dir, "CEN", &first));
    assert_int_equal(0, unlink(in("site.chain"))); /* as if it had crashed before the last write */
    assert_int_equal(0, unlink(in("keys/link.key")));
    assert_int_equal(0, setup_init_central(dir, "CEN", &second));
    assert_true(hash_eq(&first, &second)); /* with the keys that were there */
}

static void test_refusals(void **state)
{
    (void)state;
    struct hash h;
    struct node_options opt;
    struct node_keys keys;
    AUTO_BUF chain = {0};
    node_options_default(&opt);
    assert_int_equal(ERR_MALFORMED, setup_init_central(dir, "no code", &h));
    assert_int_equal(ERR_NOT_FOUND, setup_load(dir, &opt, &keys, &chain));
    assert_non_null(strstr(err_text(ERR_NOT_FOUND), "sitetree site init"));
    assert_int_equal(0, mkdir(dir, 0755));
    assert_int_equal(0, file_write_whole(in("photos"), view_str("x"), 0600));
    assert_int_equal(ERR_EXISTS, setup_init_central(dir, "CEN", &h));
    assert_non_null(strstr(err_text(ERR_EXISTS), "photos"));
    assert_int_equal(0, unlink(in("photos")));
    assert_int_equal(0, file_write_whole(in("sitetree.conf"), view_str(""), 0600)); /* may be there first */
    assert_int_equal(0, setup_init_central(dir, "CEN", &h));
    assert_int_equal(0700, mode_of("."));
    assert_int_equal(0, chmod(in("keys/site.key"), 0644));
    assert_int_equal(ERR_KEY_FILE, setup_load(dir, &opt, &keys, &chain));
    assert_non_null(strstr(err_text(ERR_KEY_FILE), "chmod 600"));
    assert_int_equal(ERR_TOKEN, setup_join(in("x"), "st1-abc", NS_PER_S, NULL, &(struct setup_result){0}));
    struct stat st;
    assert_int_not_equal(0, stat(in("x"), &st)); /* a bad token leaves no folder */
}

static int load(struct node_keys *keys, struct identity *id)
{
    struct node_options opt;
    AUTO_BUF chain = {0};
    node_options_default(&opt);
    int rc = setup_load(dir, &opt, keys, &chain);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&chain), &opt.hierarchy, id);
    return rc;
}

static void test_another_head_key(void **state)
{
    (void)state;
    struct hash h;
    struct node_keys first, now, later;
    struct identity id;
    uint64_t version = 0;
    char root[300], command[1100];
    assert_int_equal(0, setup_init_central(dir, "CEN", &h));
    assert_int_equal(0, load(&first, &id));
    assert_int_equal(0, setup_rotate_head(dir, NULL, 0, &version));
    assert_int_equal(2, version);
    assert_int_equal(0600, mode_of("site.chain"));
    assert_int_equal(0, load(&now, &id));
    assert_int_equal(2, id.trust_version);
    assert_memory_equal(id.head_key, now.head.public, 32);
    assert_memory_not_equal(first.head.public, now.head.public, 32);
    assert_memory_equal(first.site.public, now.site.public, 32); /* nothing else has changed */
    assert_int_equal(0, mode_of("keys/head.key.next"));          /* it has got its place */
    /* twice without a start in between: another key again */
    assert_int_equal(0, setup_rotate_head(dir, NULL, 0, &version));
    assert_int_equal(0, setup_rotate_head(dir, NULL, 9, &version));
    assert_int_equal(9, version);
    assert_int_equal(0, load(&later, &id));
    assert_int_equal(9, id.trust_version);
    assert_memory_not_equal(later.head.public, now.head.public, 32);
    /* ended before the statement was written: the key that was made then is taken, and nothing is in force */
    struct sign_key half;
    sign_key_new(&half);
    assert_int_equal(0, sign_key_save(in("keys/head.key.next"), &half));
    assert_int_equal(0, load(&now, &id));
    assert_memory_equal(later.head.public, now.head.public, 32);
    snprintf(root, sizeof root, "%s/away.key", base);
    snprintf(command, sizeof command, "mv '%s/keys/root.key' '%s'", dir, root);
    assert_int_equal(0, system(command));
    assert_int_equal(ERR_KEY_FILE, setup_rotate_head(dir, NULL, 0, &version)); /* it is kept elsewhere */
    assert_int_equal(0, setup_rotate_head(dir, root, 0, &version));
    assert_int_equal(0, load(&now, &id));
    assert_memory_equal(half.public, now.head.public, 32);
    /* another hierarchy's root key */
    struct sign_key other;
    sign_key_new(&other);
    snprintf(root, sizeof root, "%s/other.key", base);
    assert_int_equal(0, sign_key_save(root, &other));
    assert_int_equal(ERR_KEY, setup_rotate_head(dir, root, 0, &version));
    assert_int_equal(0, load(&now, &id));
    assert_int_equal(10, id.trust_version);
}

static void make_token(struct buf *out, int64_t expires)
{
    struct token t = {.tier = TIER_BRANCH, .expires = {expires}, .n_parents = 1};
    memset(&t.hierarchy, 7, 32);
    snprintf(t.code.s, sizeof t.code.s, "B11");
    snprintf(t.parent.s, sizeof t.parent.s, "P01");
    snprintf(t.parents[0].endpoint, 256, "127.0.0.1:9");
    snprintf(t.parents[0].hints, 256, "127.0.0.1:10");
    snprintf(t.parents[0].code.s, 32, "P01");
    memset(t.parents[0].link_key, 9, 32);
    assert_int_equal(0, token_encode(&t, out));
    buf_u8(out, 0);
}

static void test_join_without_a_parent(void **state)
{
    (void)state;
    AUTO_BUF late = {0};
    AUTO_BUF good = {0};
    struct setup_result r;
    struct hash h;
    struct stat st;
    int64_t now = clock_wall(&clock_real).ns;
    make_token(&late, now - NS_PER_S);
    make_token(&good, now + 3600 * NS_PER_S);
    assert_int_equal(ERR_TOKEN_EXPIRED, setup_join(dir, (const char *)late.data, NS_PER_S, NULL, &r));
    assert_int_not_equal(0, stat(dir, &st)); /* found before anything was touched */
    assert_int_equal(ERR_TIMEOUT, setup_join(dir, (const char *)good.data, 300 * NS_PER_MS, NULL, &r));
    struct sign_key one, two;
    assert_int_equal(0, sign_key_load(in("keys/site.key"), &one));
    assert_int_equal(ERR_TIMEOUT, setup_join(dir, (const char *)good.data, 300 * NS_PER_MS, NULL, &r));
    assert_int_equal(0, sign_key_load(in("keys/site.key"), &two));
    assert_memory_equal(one.public, two.public, 32); /* the second try joins with the same keys */
    assert_int_equal(ERR_EXISTS, setup_init_central(dir, "CEN", &h));
    snprintf(dir, sizeof dir, "%s/other", base);
    assert_int_equal(0, setup_init_central(dir, "CEN", &h));
    assert_int_equal(ERR_EXISTS, setup_join(dir, (const char *)good.data, NS_PER_S, NULL, &r));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_central), T(test_half_made_is_completed), T(test_refusals),
        T(test_another_head_key), T(test_join_without_a_parent)};
    if (crypto_init())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

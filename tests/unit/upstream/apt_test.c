/* The apt adapter on generated repositories: what it takes, and everything that it must refuse. */
#include "tests/unit/upstream/fixture.h"

#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct source_item *item_of(const struct source_set *s, const char *key)
{
    for (size_t i = 0; i < s->n; i++)
        if (view_eq(s->items[i].key, view_str(key)))
            return &s->items[i];
    return NULL;
}

static void takes_a_repository(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "--packages 20");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_int_equal(s->n, 20);
    assert_string_equal(s->scope, "debian/bookworm/main/amd64");
    assert_true(s->date.ns > 0 && s->valid_until.ns > s->date.ns);
    assert_int_equal(strlen(s->signer), 40);
    assert_true(s->bytes_fetched > 500);
    assert_false(s->unchanged);
    assert_string_equal(s->warning, "");
    for (size_t i = 1; i < s->n; i++)
        assert_true(view_cmp(s->items[i - 1].key, s->items[i].key) < 0);
    const struct source_item *it = item_of(s, "deb/sample-00003/1.3-1/all");
    assert_non_null(it);
    assert_string_equal(it->product, "debian-12");
    assert_string_equal(it->classification, "updates");
    assert_string_equal(it->architecture, "all");
    assert_true(view_eq(it->package, view_str("sample-00003")));
    assert_true(view_eq(it->version, view_str("1.3-1")));
    assert_true(it->package.data > it->value.data && it->version.data < it->value.data + it->value.len);
    assert_non_null(memmem(it->value.data, it->value.len, "sample package number 3", 23));
    source_free(s);
}

/* The record is what protobuf-c would have written, field by field. */
static void packs_what_others_read(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    AUTO_ARENA arena;
    int rc;
    arena_init(&arena);
    fixture_repo(f, "--packages 30");
    assert_int_equal(fixture_fetch(f, &s), 0);
    for (size_t i = 0; i < s->n; i++) {
        AUTO_BUF again = {0};
        arena_reset(&arena);
        Sitetree__Update *u = MESSAGE_UNPACK(&arena, s->items[i].value, 65536, update, &rc);
        assert_non_null(u);
        message_pack(&u->base, &again);
        assert_true(view_eq(buf_view(&again), s->items[i].value));
    }
    const struct source_item *it = item_of(s, "deb/sample-00012/1.2-1/amd64");
    assert_non_null(it);
    arena_reset(&arena);
    Sitetree__Update *u = MESSAGE_UNPACK(&arena, it->value, 65536, update, &rc);
    assert_string_equal(u->title, "sample-00012 1.2-1");
    assert_string_equal(u->description, "sample package number 12");
    assert_string_equal(u->publisher, "Debian");
    assert_string_equal(u->architecture, "amd64");
    assert_string_equal(u->depends, "libc6 (>= 2.36), sample-00011");
    assert_string_equal(u->severity, "");
    assert_int_equal(u->installed_size, 112 * 1024);
    assert_int_equal(u->n_files, 1);
    assert_string_equal(u->files[0]->name, "sample-00012_1.2-1_amd64.deb");
    assert_string_equal(u->files[0]->url, "pool/main/s/sample-00012/sample-00012_1.2-1_amd64.deb");
    assert_int_equal(u->files[0]->size, 1012);
    assert_int_equal(u->files[0]->sha256.len, 32);
    source_free(s);
}

static void names_by_suite_and_config(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "--suite bookworm-security --origin 'Acme  Corp.' --release-version 9.4");
    fixture_set(f, "suite", "bookworm-security");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_string_equal(s->scope, "acme-corp./bookworm-security/main/amd64");
    assert_string_equal(s->items[0].product, "acme-corp.-9");
    assert_string_equal(s->items[0].classification, "security");
    source_free(s);
    fixture_set(f, "product", "our-thing");
    fixture_set(f, "classification", "tools");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_string_equal(s->items[0].product, "our-thing");
    assert_string_equal(s->items[0].classification, "tools");
    source_free(s);
}

static void every_form_gives_the_same(void **state)
{
    struct fixture *f = *state;
    static const char *const forms[] = {"--formats xz", "--formats gz", "--formats plain",
        "--formats gz --no-by-hash", "--detached", "--formats plain --detached --no-by-hash"};
    char version[160] = "";
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        struct source_set *s;
        char options[128];
        snprintf(options, sizeof options, "--packages 50 %s", forms[i]);
        fixture_repo(f, options);
        f->request.version = "";
        assert_int_equal(fixture_fetch(f, &s), 0);
        assert_int_equal(s->n, 50);
        assert_false(s->unchanged);
        source_free(s);
        if (i) { /* the date moved, the content did not */
            f->request.version = version;
            assert_int_equal(fixture_fetch(f, &s), 0);
            assert_true(s->unchanged);
            assert_int_equal(s->n, 0);
            source_free(s);
        }
        f->request.version = "";
        assert_int_equal(fixture_fetch(f, &s), 0);
        strcpy(version, s->version);
        source_free(s);
    }
}

/* A mirror that promises the files by their hash and does not have them there (yet). */
static void takes_the_plain_name_where_the_hash_is_missing(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    char command[256];
    fixture_repo(f, "--packages 50");
    snprintf(command, sizeof command, "find %s -name by-hash -prune -exec rm -r {} +", f->repo);
    assert_int_equal(system(command), 0);
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_int_equal(s->n, 50);
    source_free(s);
}

static void sees_changes(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    char version[160];
    fixture_repo(f, "--packages 10");
    assert_int_equal(fixture_fetch(f, &s), 0);
    strcpy(version, s->version);
    f->request.seen_date = s->date;
    source_free(s);
    f->request.version = version;
    fixture_repo(f, "--packages 10 --change 2 --remove 1 --add 3 --date +5");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_false(s->unchanged);
    assert_int_equal(s->n, 12);
    assert_non_null(item_of(s, "deb/sample-00000/1.0-2/amd64"));
    assert_null(item_of(s, "deb/sample-00000/1.0-1/amd64"));
    assert_null(item_of(s, "deb/sample-00009/1.9-1/amd64"));
    assert_non_null(item_of(s, "deb/sample-00012/1.2-1/amd64"));
    source_free(s);
    /* other records from the same index are another version */
    fixture_set(f, "product", "x");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_false(s->unchanged);
    source_free(s);
}

static const struct {
    const char *options;
    int code;
    const char *part;
} refusals[] = {
    {"--fault unsigned", ERR_UPSTREAM_SIGNATURE, "upstream sample: InRelease: not signed"},
    {"--fault unsigned --detached", ERR_UPSTREAM_SIGNATURE,
        "Release: not signed (no InRelease and no Release.gpg)"},
    {"--fault other-key", ERR_UPSTREAM_SIGNATURE, "upstream sample: InRelease: signed by unknown key "},
    {"--fault other-key --detached", ERR_UPSTREAM_SIGNATURE, "Release: signed by unknown key "},
    {"--fault altered", ERR_UPSTREAM_SIGNATURE, "altered or damaged: the signature of key "},
    {"--fault altered --detached", ERR_UPSTREAM_SIGNATURE, "altered or damaged: the signature of key "},
    {"--fault second-message", ERR_UPSTREAM_SIGNATURE, "InRelease: not signed"},
    {"--fault expired", ERR_UPSTREAM_STALE, "InRelease: expired, it was valid until 20"},
    {"--fault no-date", ERR_UPSTREAM, "InRelease: no Date"},
    {"--say-suite trixie", ERR_UPSTREAM,
        "asked for suite bookworm, but it is of suite 'trixie', codename 'trixie'"},
    {"--component contrib", ERR_UPSTREAM, "InRelease: no component main; it has: contrib"},
    {"--arch riscv64", ERR_UPSTREAM, "InRelease: no architecture amd64; it has: all riscv64"},
    {"--fault wrong-hash", ERR_UPSTREAM,
        "main/binary-amd64/Packages.xz: does not match its SHA256 in InRelease"},
    {"--fault wrong-hash --formats plain", ERR_UPSTREAM, "Packages: does not match its SHA256 in InRelease"},
    {"--fault wrong-size", ERR_UPSTREAM, "longer than the "},
    {"--fault missing", ERR_UPSTREAM,
        "none of the Packages files that InRelease lists for main/amd64 is there"},
    {"--fault not-listed", ERR_UPSTREAM, "lists no Packages.xz, Packages.gz or Packages for main/amd64"},
    {"--fault huge-stanza", ERR_UPSTREAM, "Packages.xz: stanza 2: longer than 1048576 bytes"},
    {"--fault huge-stanza --formats plain --huge-mib 3", ERR_UPSTREAM,
        "Packages: stanza 2: longer than 1048576 bytes"},
    {"--fault long-line", ERR_UPSTREAM, "stanza 2: a line longer than 262144 bytes"},
    {"--fault nul", ERR_UPSTREAM, "Packages.xz: stanza 2: a NUL byte"},
    {"--fault bad-utf8", ERR_UPSTREAM, "stanza 2: text that is not UTF-8"},
    {"--fault no-package", ERR_UPSTREAM, "stanza 2: no Package"},
    {"--fault no-version", ERR_UPSTREAM, "stanza 2: package sample-00001: no Version"},
    {"--fault no-architecture", ERR_UPSTREAM, "stanza 2: package sample-00001: no Architecture"},
    {"--fault bad-name", ERR_UPSTREAM, "stanza 2: package sample/../1: Package is not valid: 'sample/../1'"},
    {"--fault bad-sha256", ERR_UPSTREAM, "SHA256 is not valid"},
    {"--fault bad-path", ERR_UPSTREAM, "Filename is not valid: 'pool/../../etc/passwd'"},
    {"--fault twice", ERR_UPSTREAM, "the field Version twice"},
    {"--fault no-colon", ERR_UPSTREAM, "a line without a field name and colon: 'no colon here'"},
    {"--fault bomb", ERR_UPSTREAM, "decompresses to more than the "},
    {"--fault bomb --formats gz", ERR_UPSTREAM, "decompresses to more than the "},
    {"--fault cut", ERR_UPSTREAM, "Packages.xz: xz: damaged or cut off"},
    {"--fault cut --formats gz", ERR_UPSTREAM, "Packages.gz: gzip: cut off"},
};

/* A refusal leaves nothing half done: the good repository is taken right after. */
static void refuses(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct source_set *s;
        fixture_repo(f, refusals[i].options);
        fixture_refused(f, refusals[i].code, refusals[i].part);
        char command[256];
        snprintf(command, sizeof command, "rm -rf %s/dists %s", f->repo, f->cache);
        assert_int_equal(system(command), 0);
        if (i % 8 == 0) {
            fixture_repo(f, "");
            assert_int_equal(fixture_fetch(f, &s), 0);
            assert_int_equal(s->n, 20);
            source_free(s);
            assert_int_equal(system(command), 0);
        }
    }
    fixture_refused(f, ERR_UPSTREAM, "no InRelease and no Release in file://");
}

static void refuses_to_go_back(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "--date 2026-05-02T00:00:00Z --valid-until none");
    assert_int_equal(fixture_fetch(f, &s), 0);
    f->request.seen_date = s->date;
    assert_int_equal(s->valid_until.ns, 0);
    source_free(s);
    assert_int_equal(fixture_fetch(f, &s), 0); /* the same again is fine */
    source_free(s);
    fixture_repo(f, "--date 2026-05-01T00:00:00Z --valid-until none");
    fixture_refused(f, ERR_UPSTREAM_STALE,
        "InRelease: of 2026-05-01T00:00:00Z, older than the one of 2026-05-02T00:00:00Z that was accepted "
        "before");
}

static void an_expired_one_only_when_configured(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "--date -172800 --fault expired");
    fixture_refused(f, ERR_UPSTREAM_STALE, "expired");
    json_object_set_new(f->request.config, "check_valid_until", json_false());
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_non_null(strstr(s->warning, "was valid until"));
    source_free(s);
}

static void warns_of_the_future(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "--date +86400");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_non_null(strstr(s->warning, "in the future"));
    source_free(s);
}

static void keyrings_in_all_forms(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    AUTO_BUF armored = {0};
    char path[256], list[512];
    fixture_repo(f, "");
    snprintf(path, sizeof path, "%s/keys/keyring.asc", f->repo);
    assert_int_equal(file_read_whole(path, 65536, &armored), 0);
    buf_u8(&armored, 0);
    snprintf(list, sizeof list, "%s,%s/keys/keyring.gpg", path, f->repo);
    const char *const forms[] = {path, list, (char *)armored.data};
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        fixture_set(f, "keyring", forms[i]);
        assert_int_equal(adapter_find("apt")->check(f->request.config), 0);
        assert_int_equal(fixture_fetch(f, &s), 0);
        source_free(s);
    }
    fixture_set(f, "keyring", "/nowhere/keyring.gpg");
    assert_int_equal(adapter_find("apt")->check(f->request.config), ERR_USAGE);
    assert_string_equal(err_text(ERR_USAGE), "keyring /nowhere/keyring.gpg: no such file");
    fixture_write(f, "empty.gpg", "");
    snprintf(path, sizeof path, "%s/empty.gpg", f->dir);
    fixture_set(f, "keyring", path);
    assert_int_equal(adapter_find("apt")->check(f->request.config), ERR_USAGE);
    fixture_write(f, "half.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n");
    snprintf(path, sizeof path, "%s/half.asc", f->dir);
    fixture_set(f, "keyring", path);
    assert_int_equal(adapter_find("apt")->check(f->request.config), ERR_USAGE);
    assert_non_null(strstr(err_text(ERR_USAGE), "an armored key without its end"));
    fixture_write(f, "junk.gpg", "this is no keyring");
    snprintf(path, sizeof path, "%s/junk.gpg", f->dir);
    fixture_set(f, "keyring", path);
    fixture_refused(f, ERR_UPSTREAM_SIGNATURE, "signed by unknown key");
}

static void only_the_named_keys(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "");
    assert_int_equal(fixture_fetch(f, &s), 0);
    char signer[80];
    strcpy(signer, s->signer);
    source_free(s);
    fixture_set(f, "fingerprints", signer);
    assert_int_equal(fixture_fetch(f, &s), 0);
    source_free(s);
    fixture_set(f, "fingerprints", "0123456789ABCDEF0123456789ABCDEF01234567");
    fixture_refused(f, ERR_UPSTREAM_SIGNATURE, "signed by unknown key");
}

static void damage(const char *dir, const char *begin)
{
    char path[512];
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;
    assert_non_null(d);
    while ((e = readdir(d)))
        if (strncmp(e->d_name, begin, strlen(begin)) == 0) {
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            FILE *file = fopen(path, "r+");
            assert_non_null(file);
            fseek(file, 100, SEEK_SET);
            fputc('#', file);
            fclose(file);
            n++;
        }
    closedir(d);
    assert_int_equal(n, 1);
}

static void the_cache_is_never_trusted(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    fixture_repo(f, "--packages 300");
    assert_int_equal(fixture_fetch(f, &s), 0);
    uint64_t first = s->bytes_fetched;
    source_free(s);
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_true(s->bytes_fetched < first); /* InRelease alone: the index was there */
    source_free(s);
    damage(f->cache, "index-");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_int_equal(s->bytes_fetched, first);
    assert_int_equal(s->n, 300);
    source_free(s);
}

/* No file may grow over 8 KiB: the index does not fit, and nothing of it stays. */
static void a_full_disk_is_told(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    struct rlimit old, low;
    fixture_repo(f, "--packages 400 --formats plain");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 8192;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    fixture_refused(f, -EFBIG, "by-hash/SHA256/");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    DIR *d = opendir(f->cache);
    for (struct dirent *e; (e = readdir(d));)
        assert_true(strncmp(e->d_name, "index-", 6) != 0);
    closedir(d);
    assert_int_equal(fixture_fetch(f, &s), 0);
    source_free(s);
}

static void cancels(void **state)
{
    struct fixture *f = *state;
    fixture_repo(f, "");
    atomic_store(&f->cancel, true);
    fixture_refused(f, ERR_CANCELLED, "upstream sample");
}

struct seen {
    unsigned calls, phases;
    const char *last;
    uint64_t items;
};

static void on_progress(void *ctx, const char *phase, uint64_t items, uint64_t bytes, uint64_t total)
{
    struct seen *seen = ctx;
    seen->calls++;
    seen->phases += seen->last != phase;
    seen->last = phase;
    seen->items = items;
    if (total && strcmp(phase, "parse") == 0)
        assert_true(bytes <= total);
}

static void tells_its_progress(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    struct source_set *s;
    f->request.progress = on_progress;
    f->request.ctx = &seen;
    fixture_repo(f, "--packages 5000");
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_true(seen.calls >= 5 && seen.phases >= 3);
    assert_string_equal(seen.last, "parse");
    assert_int_equal(seen.items, 5000);
    source_free(s);
}

static void checks_the_config(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *field, *text, *part;
    } rows[] = {
        {"uri", "", "uri: missing"},
        {"uri", "ftp://example.org/debian", "uri: 'ftp://example.org/debian' does not begin with"},
        {"uri", "file://relative/path", "names no absolute path"},
        {"uri", "http:///debian", "names no host"},
        {"uri", "http://example.org/a b", "with blanks"},
        {"suite", "", "suite: missing"},
        {"suite", "../../etc", "suite: '../../etc' is not the name of a suite"},
        {"suite", "a b", "is not the name of a suite"},
        {"components", "ma in", "components: 'ma in' is not"},
        {"architectures", "../x", "architectures: '../x' is not"},
        {"keyring", "", "keyring: missing"},
        {"keyring", "relative.gpg", "keyring relative.gpg: not an absolute path"},
        {"classification", "updatez", "classification: 'updatez' is not one of critical, security"},
        {"product", "a\tb\x01", "product: not a text"},
    };
    fixture_repo(f, "");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        fixture_config(f, NULL);
        fixture_set(f, rows[i].field, rows[i].text);
        assert_int_equal(adapter_find("apt")->check(f->request.config), ERR_USAGE);
        if (!strstr(err_text(ERR_USAGE), rows[i].part))
            fail_msg("%s: %s", rows[i].field, err_text(ERR_USAGE));
    }
    fixture_config(f, NULL);
    json_object_set_new(f->request.config, "components", json_pack("[s,s]", "main", "contrib"));
    assert_int_equal(adapter_find("apt")->check(f->request.config), ERR_USAGE);
    fixture_config(f, NULL);
    json_object_set_new(f->request.config, "suite", json_integer(3));
    assert_int_equal(adapter_find("apt")->check(f->request.config), ERR_USAGE);
    assert_string_equal(err_text(ERR_USAGE), "suite: not a text");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_up, fixture_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(takes_a_repository),
        T(packs_what_others_read),
        T(a_full_disk_is_told),
        T(names_by_suite_and_config),
        T(every_form_gives_the_same),
        T(takes_the_plain_name_where_the_hash_is_missing),
        T(sees_changes),
        T(refuses),
        T(refuses_to_go_back),
        T(an_expired_one_only_when_configured),
        T(warns_of_the_future),
        T(keyrings_in_all_forms),
        T(only_the_named_keys),
        T(the_cache_is_never_trusted),
        T(cancels),
        T(tells_its_progress),
        T(checks_the_config),
    };
    if (!has_program("gpg") || !has_program("gpgv") || !has_program("python3"))
        return 77; /* skipped: the sample repositories need them */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Fetching from a real HTTP server with the habits and faults of mirrors. */
#include "tests/unit/upstream/fixture.h"

#include "common/crypto/crypto.h"
#include "services/metadata/upstream/apt_fetch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void asks_only_for_what_changed(void **state)
{
    static const char *const habits[] = {"", "--no-etag", "--no-marks"};
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT_OF(habits); i++) {
        struct http h;
        struct source_set *s;
        bool marks = i < 2;
        fixture_repo(f, "--packages 200");
        http_up(&h, f, habits[i]);
        fixture_config(f, h.uri);
        assert_int_equal(fixture_fetch(f, &s), 0);
        assert_int_equal(s->n, 200);
        uint64_t first = s->bytes_fetched;
        source_free(s);
        assert_int_equal(fixture_fetch(f, &s), 0);
        assert_int_equal(s->n, 200);
        assert_true(marks ? s->bytes_fetched == 0 : s->bytes_fetched < first);
        source_free(s);
        assert_int_equal(http_count(&h, "304 0 /dists/bookworm/InRelease"), marks ? 1 : 0);
        assert_int_equal(http_count(&h, "by-hash/SHA256"), 1);
        char command[128];
        snprintf(command, sizeof command, "rm -rf %s", f->cache);
        assert_int_equal(system(command), 0);
        http_down(&h);
    }
}

/* The server says "not modified", but the copy here was damaged: fetched again, not an error. */
static void mends_a_damaged_copy(void **state)
{
    struct fixture *f = *state;
    struct http h;
    struct source_set *s;
    char path[256];
    fixture_repo(f, "");
    http_up(&h, f, "");
    fixture_config(f, h.uri);
    assert_int_equal(fixture_fetch(f, &s), 0);
    source_free(s);
    snprintf(path, sizeof path, "%s/InRelease", f->cache);
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(fixture_fetch(f, &s), 0);
    source_free(s);
    assert_int_equal(http_count(&h, "304 "), 1);
    assert_int_equal(http_count(&h, "/dists/bookworm/InRelease"), 3);
    http_down(&h);
}

/* A bad answer of the server is asked for again the next time. */
static void a_refused_file_is_forgotten(void **state)
{
    struct fixture *f = *state;
    struct http h;
    struct source_set *s;
    fixture_repo(f, "--fault altered");
    http_up(&h, f, "--no-etag"); /* its Last-Modified never changes */
    fixture_config(f, h.uri);
    fixture_refused(f, ERR_UPSTREAM_SIGNATURE, "altered or damaged");
    fixture_repo(f, "");
    assert_int_equal(fixture_fetch(f, &s), 0);
    source_free(s);
    assert_int_equal(http_count(&h, "304 "), 0);
    http_down(&h);
}

static void goes_on_after_a_cut(void **state)
{
    static const struct {
        const char *options, *second;
    } rows[] = {{"--cut 4000", "206 "}, {"--cut 4000 --no-range", "200 "}};
    struct fixture *f = *state;
    fixture_repo(f, "--packages 400"); /* more than 4,000 bytes of xz */
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct http h;
        struct source_set *s;
        char part[64];
        http_up(&h, f, rows[i].options);
        fixture_config(f, h.uri);
        fixture_refused(f, ERR_NETWORK, "upstream sample: dists/bookworm/main/binary-amd64/by-hash/SHA256/");
        assert_int_equal(fixture_fetch(f, &s), 0);
        assert_int_equal(s->n, 400);
        source_free(s);
        assert_int_equal(http_count(&h, "bytes=4000-"), 1);
        snprintf(part, sizeof part, "%s", rows[i].second);
        assert_true(http_count(&h, part) >= 1);
        http_down(&h);
        char command[128];
        snprintf(command, sizeof command, "rm -rf %s", f->cache);
        assert_int_equal(system(command), 0);
    }
}

/* What the cut left over is of something else: the digest finds it, and the whole file comes. */
static void a_wrong_beginning_costs_one_more_fetch(void **state)
{
    struct fixture *f = *state;
    struct http h;
    struct source_set *s;
    char command[512];
    fixture_repo(f, "--packages 400");
    http_up(&h, f, "--cut 4000");
    fixture_config(f, h.uri);
    fixture_refused(f, ERR_NETWORK, "by-hash");
    snprintf(command, sizeof command, "printf X | dd of=\"$(ls %s/index-*.part)\" conv=notrunc status=none",
        f->cache);
    assert_int_equal(system(command), 0);
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_int_equal(s->n, 400);
    source_free(s);
    assert_int_equal(http_count(&h, "by-hash/SHA256"), 3);
    http_down(&h);
}

static void follows_redirects(void **state)
{
    struct fixture *f = *state;
    struct http h;
    struct source_set *s;
    char uri[128];
    fixture_repo(f, "");
    http_up(&h, f, "--redirect");
    snprintf(uri, sizeof uri, "%s/old/", h.uri);
    fixture_config(f, uri);
    assert_int_equal(fixture_fetch(f, &s), 0);
    source_free(s);
    assert_int_equal(fixture_fetch(f, &s), 0); /* the mark is that of the file, not of the redirect */
    source_free(s);
    assert_int_equal(http_count(&h, "304 0 /dists/bookworm/InRelease"), 1);
    http_down(&h);
}

static void tells_what_the_server_says(void **state)
{
    struct fixture *f = *state;
    struct http h;
    fixture_repo(f, "");
    http_up(&h, f, "--status 503");
    fixture_config(f, h.uri);
    fixture_refused(f, ERR_UPSTREAM, "answers 503");
    http_down(&h);
    fixture_refused(f, ERR_NETWORK, "upstream sample: dists/bookworm/InRelease: "); /* nobody listens now */
}

static void *cancel_soon(void *ctx)
{
    struct fixture *f = ctx;
    struct http h;
    snprintf(h.log, sizeof h.log, "%s/http.log", f->dir);
    int64_t deadline = clock_mono(&clock_real).ns + 20 * NS_PER_S;
    while (access(h.log, F_OK) || http_count(&h, "stall 0") == 0) /* the request has arrived */
        if (clock_mono(&clock_real).ns > deadline)
            return NULL;
    atomic_store(&f->cancel, true);
    return NULL;
}

static void gives_up_when_told(void **state)
{
    struct fixture *f = *state;
    struct http h;
    pthread_t t;
    fixture_repo(f, "");
    http_up(&h, f, "--stall by-hash");
    fixture_config(f, h.uri);
    int64_t start = clock_mono(&clock_real).ns;
    assert_int_equal(pthread_create(&t, NULL, cancel_soon, f), 0);
    fixture_refused(f, ERR_CANCELLED, "by-hash");
    assert_true(clock_mono(&clock_real).ns - start < 15 * NS_PER_S);
    pthread_join(t, NULL);
    http_down(&h);
}

static void never_takes_more_than_allowed(void **state)
{
    struct fixture *f = *state;
    struct fetcher *fetcher;
    char uri[128], dest[128];
    bool unchanged;
    fixture_write(f, "www/big", "0123456789");
    snprintf(uri, sizeof uri, "file://%s/www", f->dir);
    snprintf(dest, sizeof dest, "%s/out", f->dir);
    assert_int_equal(fetcher_open(&f->request, uri, &fetcher), 0);
    assert_int_equal(fetch_small(fetcher, "big", dest, 9, true, &unchanged), ERR_TOO_LARGE);
    assert_int_equal(access(dest, F_OK), -1);
    assert_int_equal(fetch_small(fetcher, "big", dest, 10, true, &unchanged), 0);
    assert_false(unchanged);
    assert_int_equal(fetcher_bytes(fetcher), 10);
    bool continued;
    assert_int_equal(fetch_large(fetcher, "big", dest, 9, &continued), ERR_UPSTREAM);
    assert_int_equal(fetch_large(fetcher, "big", dest, 11, &continued), ERR_UPSTREAM);
    assert_non_null(strstr(err_text(ERR_UPSTREAM), "big: 10 bytes, but the Release file lists 11"));
    assert_int_equal(fetch_large(fetcher, "none", dest, 11, &continued), ERR_NOT_FOUND);
    assert_int_equal(fetch_small(fetcher, "big", "/nowhere/at/all", 10, true, &unchanged), -ENOENT);
    fetcher_close(fetcher);
    fetcher_close(NULL);
}

static void splits_uris(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *scheme, *host;
    } rows[] = {
        {"http://deb.example.org/debian", "http", "deb.example.org"},
        {"https://me:word@host.example:8080/x", "https", "host.example"},
        {"http://[::1]:80/x", "http", "::1"},
        {"file:///srv/repo", "file", ""},
        {"http://host", "http", "host"},
    };
    char scheme[16], host[256];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_true(uri_split(rows[i].uri, scheme, host));
        assert_string_equal(scheme, rows[i].scheme);
        assert_string_equal(host, rows[i].host);
    }
    assert_false(uri_split("no-uri", scheme, host));
    assert_false(uri_split("://x", scheme, host));
    assert_false(uri_split("a-scheme-of-many-letters://x", scheme, host));
}

/* A stand-in for apt-config on the path: the proxy of the host goes before the general one. */
static void reads_the_proxy_of_apt(void **state)
{
    struct fixture *f = *state;
    char path[4096], program[128], proxy[256];
    AUTO_FREE char *old = strdup(getenv("PATH"));
    fixture_write(f, "bin/apt-config",
        "#!/bin/sh\ncat <<END\nAcquire::http::Proxy \"http://cache:3142\";\n"
        "Acquire::http::Proxy::special.example \"DIRECT\";\nAcquire::https::Proxy::Verify \"x\";\nEND\n");
    snprintf(program, sizeof program, "%s/bin/apt-config", f->dir);
    assert_int_equal(chmod(program, 0755), 0);
    snprintf(path, sizeof path, "%s/bin:%s", f->dir, old);
    setenv("PATH", path, 1);
    assert_int_equal(apt_proxy_for("http", "deb.example.org", NULL, proxy), 0);
    assert_string_equal(proxy, "http://cache:3142");
    assert_int_equal(apt_proxy_for("http", "special.example", NULL, proxy), 0);
    assert_string_equal(proxy, "DIRECT");
    assert_int_equal(apt_proxy_for("https", "deb.example.org", NULL, proxy), 0);
    assert_string_equal(proxy, "");
    snprintf(path, sizeof path, "%s/nothing", f->dir);
    setenv("PATH", path, 1);
    assert_int_equal(apt_proxy_for("http", "deb.example.org", NULL, proxy), 0); /* no apt here */
    assert_string_equal(proxy, "");
    setenv("PATH", old, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_up, fixture_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(asks_only_for_what_changed),
        T(mends_a_damaged_copy),
        T(a_refused_file_is_forgotten),
        T(goes_on_after_a_cut),
        T(a_wrong_beginning_costs_one_more_fetch),
        T(follows_redirects),
        T(tells_what_the_server_says),
        T(gives_up_when_told),
        T(never_takes_more_than_allowed),
        T(splits_uris),
        T(reads_the_proxy_of_apt),
    };
    if (!has_program("gpg") || !has_program("gpgv") || !has_program("python3"))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

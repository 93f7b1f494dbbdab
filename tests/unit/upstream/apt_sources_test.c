#include "tests/unit/upstream/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static json_t *gather(struct fixture *f)
{
    json_t *list = NULL;
    char dir[128];
    snprintf(dir, sizeof dir, "%s/apt", f->dir);
    assert_int_equal(apt_system_sources(dir, &list), 0);
    return list;
}

static const char *text(json_t *list, const char *name, const char *field)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0) {
            json_t *v = json_object_get(one, field);
            v = json_is_array(v) && json_array_size(v) == 1 ? json_array_get(v, 0) : v;
            return json_is_string(v) ? json_string_value(v) : json_is_false(v) ? "false" : "";
        }
    }
    fail_msg("no upstream %s", name);
    return NULL;
}

static void reads_deb822(void **state)
{
    struct fixture *f = *state;
    fixture_write(f, "apt/trusted.gpg.d/a.gpg", "x");
    fixture_write(f, "apt/sources.list.d/debian.sources",
        "# a comment\nTypes: deb deb-src\n# another, inside\nURIs: http://deb.example.org/debian/\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n# in a list\n contrib\n"
        "Architectures: amd64\nSigned-By: /usr/share/keyrings/debian.gpg\n\n"
        "Types: deb\nURIs: http://deb.example.org/debian-security\nSuites: bookworm-security\nComponents: "
        "main\n"
        "Architectures: amd64\nsigned-by: /k/one.gpg, /k/two.asc\nCheck-Valid-Until: no\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://deb.example.org/off\nSuites: off\nComponents: main\n\n"
        "Types: deb-src\nURIs: http://deb.example.org/src\nSuites: src\nComponents: main\n\n"
        "Types: deb\nURIs: cdrom:[Debian]/ ftp://old.example.org/x\nSuites: other\nComponents: main\n\n"
        "Types: deb\nURIs: http://flat.example.org/\nSuites: ./\n\n");
    json_t *list = gather(f);
    assert_int_equal(json_array_size(list), 5);
    assert_string_equal(text(list, "bookworm", "kind"), "apt");
    assert_string_equal(text(list, "bookworm", "uri"), "http://deb.example.org/debian");
    assert_string_equal(text(list, "bookworm", "suite"), "bookworm");
    assert_string_equal(text(list, "bookworm", "components"), "main");
    assert_string_equal(text(list, "bookworm-contrib", "components"), "contrib");
    assert_string_equal(text(list, "bookworm-updates", "architectures"), "amd64");
    assert_string_equal(text(list, "bookworm-updates-contrib", "keyring"), "/usr/share/keyrings/debian.gpg");
    assert_string_equal(text(list, "bookworm-updates", "check_valid_until"), "");
    assert_string_equal(text(list, "bookworm-security", "keyring"), "/k/one.gpg,/k/two.asc");
    assert_string_equal(text(list, "bookworm-security", "check_valid_until"), "false");
    json_decref(list);
}

static void reads_one_line(void **state)
{
    struct fixture *f = *state;
    char want[256];
    fixture_write(f, "apt/trusted.gpg.d/a.gpg", "x");
    fixture_write(f, "apt/sources.list",
        "# deb http://commented.example.org x main\n\n"
        "deb http://a.example.org/debian bookworm main contrib # the rest is nothing\n"
        "deb-src http://a.example.org/debian bookworm main\n"
        "deb [arch=amd64,arm64 signed-by=/k/b.gpg] https://b.example.org/ stable main\n"
        "deb [ signed-by=/k/c.gpg check-valid-until=no arch=amd64 ] file:/srv/repo local main\n"
        "deb http://a.example.org/debian bookworm main\n"           /* twice is once */
        "deb https://mirror.example.org/pub/debian bookworm main\n" /* so is a mirror */
        "deb http://flat.example.org ./\n"                          /* no components */
        "deb [arch=amd64 http://broken.example.org x main\n");
    fixture_write(
        f, "apt/sources.list.d/more.list", "deb [arch=amd64] http://z.example.org/tools bookworm main");
    fixture_write(
        f, "apt/sources.list.d/off.list.disabled", "deb http://off.example.org/debian bookworm main\n");
    fixture_write(f, "apt/sources.list.d/bad name.list", "deb http://off.example.org/debian bookworm main\n");
    json_t *list = gather(f);
    assert_int_equal(json_array_size(list), 6);
    snprintf(want, sizeof want, "%s/apt/trusted.gpg.d", f->dir);
    assert_string_equal(text(list, "bookworm", "keyring"), want);
    assert_string_equal(text(list, "bookworm", "uri"), "http://a.example.org/debian");
    assert_string_equal(text(list, "bookworm-contrib", "components"), "contrib");
    assert_string_equal(
        text(list, "bookworm-2", "uri"), "http://z.example.org/tools"); /* the name was taken */
    assert_string_equal(text(list, "local", "uri"), "file:///srv/repo");
    assert_string_equal(text(list, "local", "check_valid_until"), "false");
    size_t b = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "uri")),
                "https://b.example.org") == 0)
            b++;
    assert_int_equal(b, 2);
    json_decref(list);
}

static void keys_in_every_form(void **state)
{
    struct fixture *f = *state;
    char want[256];
    fixture_write(f, "apt/trusted.gpg.d/a.gpg", "x");
    fixture_write(f, "apt/trusted.gpg", "x");
    fixture_write(f, "apt/sources.list",
        "deb [arch=amd64 "
        "signed-by=0123456789ABCDEF0123456789abcdef01234567!,0123456789ABCDEF0123456789abcdef01234568] "
        "http://a.example.org one main\n");
    fixture_write(f, "apt/sources.list.d/inside.sources",
        "Types: deb\nURIs: http://b.example.org\nSuites: two\nComponents: main\nArchitectures: "
        "amd64\nSigned-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEZabc\n =abcd\n -----END PGP PUBLIC KEY "
        "BLOCK-----\n");
    json_t *list = gather(f);
    assert_int_equal(json_array_size(list), 2);
    snprintf(want, sizeof want, "%s/apt/trusted.gpg.d,%s/apt/trusted.gpg", f->dir, f->dir);
    assert_string_equal(text(list, "one", "keyring"), want);
    assert_string_equal(text(list, "one", "fingerprints"),
        "0123456789ABCDEF0123456789abcdef01234567,0123456789ABCDEF0123456789abcdef01234568");
    assert_non_null(strstr(text(list, "two", "keyring"), "mDMEZabc"));
    assert_int_equal(adapter_find("apt")->check(json_array_get(list, 1)), 0); /* a key block is a keyring */
    json_decref(list);
}

static void without_keys_or_files_there_is_nothing(void **state)
{
    struct fixture *f = *state;
    json_t *list = gather(f);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    fixture_write(f, "apt/sources.list", "deb http://a.example.org one main\n");
    list = gather(f);
    assert_int_equal(json_array_size(list), 0); /* no keyring vouches for it */
    json_decref(list);
}

static void a_broken_file_is_named(void **state)
{
    struct fixture *f = *state;
    char dir[128];
    json_t *list = NULL;
    snprintf(dir, sizeof dir, "%s/apt", f->dir);
    fixture_write(f, "apt/sources.list.d/bad.sources", "Types: deb\nno colon\n");
    assert_int_equal(apt_system_sources(dir, &list), ERR_CONFIG);
    assert_non_null(strstr(err_text(ERR_CONFIG), "sources.list.d/bad.sources: a line without a field name"));
    fixture_write(f, "apt/sources.list.d/bad.sources", "Types: \x01\n");
    assert_int_equal(apt_system_sources(dir, &list), ERR_CONFIG);
    assert_null(list);
}

/* What a sources file names works as it is. */
static void its_configs_work(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    char line[512];
    if (!has_program("gpg"))
        skip();
    fixture_repo(f, "");
    snprintf(line, sizeof line, "deb [signed-by=%s/keys/keyring.asc arch=amd64] file:%s bookworm main\n",
        f->repo, f->repo);
    fixture_write(f, "apt/sources.list", line);
    json_t *list = gather(f);
    assert_int_equal(json_array_size(list), 1);
    json_decref(f->request.config);
    f->request.config = json_incref(json_array_get(list, 0));
    json_decref(list);
    assert_int_equal(adapter_find("apt")->check(f->request.config), 0);
    assert_int_equal(fixture_fetch(f, &s), 0);
    assert_int_equal(s->n, 20);
    source_free(s);
}

/* This machine's own mirror, when it has one and the network is there. */
static void the_real_mirror(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    json_t *list = NULL, *one = NULL;
    if (apt_system_sources("/etc/apt", &list))
        skip();
    for (size_t i = 0; i < json_array_size(list) && !one; i++)
        if (strstr(json_string_value(json_object_get(json_array_get(list, i), "suite")), "-updates"))
            one = json_incref(json_array_get(list, i));
    json_decref(list);
    if (!one || adapter_find("apt")->check(one)) {
        json_decref(one);
        skip();
    }
    f->request.config = one;
    int rc = fixture_fetch(f, &s);
    if (rc == ERR_NETWORK)
        skip();
    if (rc)
        fail_msg("%s", err_text(rc));
    assert_true(s->date.ns > 0 && s->signer[0]);
    source_free(s);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_up, fixture_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reads_deb822),
        T(reads_one_line),
        T(keys_in_every_form),
        T(without_keys_or_files_there_is_nothing),
        T(a_broken_file_is_named),
        T(its_configs_work),
        T(the_real_mirror),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

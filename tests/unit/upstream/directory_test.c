/* The local publisher: one update as JSON, and the folder. */
#include "tests/unit/upstream/fixture.h"

#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
static const char full[] =
    "{\"id\":\"fix-1\",\"revision\":3,\"title\":\"A fix\",\"description\":\"line one\\nline "
    "two\",\"classification\":\"security\","
    "\"product\":\"acme/"
    "app\",\"severity\":\"important\",\"articles\":[\"KB1\",\"KB2\"],\"cves\":[\"CVE-2026-1\"],"
    "\"publisher\":\"Acme "
    "J\\u00f6rg\",\"issued\":\"2026-11-20T06:10:20Z\",\"supersedes\":[\"fix-0\",\"deb/a/1/all\"],"
    "\"superseded_by\":\"local/acme/"
    "fix-2\",\"package\":\"app\",\"version\":\"1.2\",\"architecture\":\"amd64\","
    "\"files\":[{\"name\":\"app.msi\",\"size\":12,\"sha256\":\"" DIGEST
    "\",\"url\":\"https://example.org/app.msi\"},"
    "{\"name\":\"b\",\"size\":0,\"sha256\":\"" DIGEST "\"}],"
    "\"section\":\"net\",\"homepage\":\"https://"
    "example.org\",\"source\":\"src\",\"depends\":\"x\",\"priority\":\"high\","
    "\"installed_size\":4096}";

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    if (!j)
        fail_msg("not JSON: %s", text);
    return j;
}

static void packs_every_field(void **state)
{
    (void)state;
    struct source_set *s = source_new();
    json_t *j = parse(full);
    AUTO_ARENA arena;
    AUTO_BUF again = {0};
    int rc;
    arena_init(&arena);
    assert_int_equal(update_from_json(j, "acme", s), 0);
    json_decref(j);
    const struct source_item *it = &s->items[0];
    assert_true(view_eq(it->key, view_str("local/acme/fix-1")));
    assert_string_equal(it->product, "acme/app");
    assert_true(view_eq(it->package, view_str("app")) && view_eq(it->version, view_str("1.2")));
    Sitetree__Update *u = MESSAGE_UNPACK(&arena, it->value, 65536, update, &rc);
    assert_non_null(u);
    assert_int_equal(u->revision, 3);
    assert_string_equal(u->title, "A fix");
    assert_string_equal(u->description, "line one\nline two");
    assert_string_equal(u->publisher, "Acme J\xc3\xb6rg");
    assert_int_equal(u->issued, UINT64_C(1795155020) * 1000000000);
    assert_int_equal(u->n_articles, 2);
    assert_string_equal(u->supersedes[0], "local/acme/fix-0");
    assert_string_equal(u->supersedes[1], "deb/a/1/all");
    assert_int_equal(u->n_files, 2);
    assert_string_equal(u->files[0]->url, "https://example.org/app.msi");
    assert_int_equal(u->files[0]->sha256.len, 32);
    assert_int_equal(u->files[0]->sha256.data[1], 0x11);
    assert_int_equal(u->installed_size, 4096);
    /* our bytes are those that protobuf-c writes */
    message_pack(&u->base, &again);
    assert_true(view_eq(buf_view(&again), it->value));
    source_free(s);
}

static void fills_in_the_usual(void **state)
{
    (void)state;
    struct source_set *s = source_new();
    json_t *j = parse("{\"id\":\"local/acme/x\",\"title\":\"T\"}");
    AUTO_ARENA arena;
    int rc;
    arena_init(&arena);
    assert_int_equal(update_from_json(j, "acme", s), 0);
    json_decref(j);
    assert_true(view_eq(s->items[0].key, view_str("local/acme/x")));
    Sitetree__Update *u = MESSAGE_UNPACK(&arena, s->items[0].value, 65536, update, &rc);
    assert_string_equal(u->product, "local/acme");
    assert_string_equal(u->classification, "updates");
    assert_string_equal(u->architecture, "all");
    assert_string_equal(u->publisher, "acme");
    source_free(s);
}

static void names_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *json, *why;
    } rows[] = {
        {"[]", "an update is a JSON object"},
        {"{}", "id: missing"},
        {"{\"id\":1}", "id: not a text"},
        {"{\"id\":\"a b\"}", "id: 'a b' is not 1 to 100 of letters"},
        {"{\"id\":\"../x\"}", "id: '../x' is not"},
        {"{\"id\":\"\"}", "id: '' is not"},
        {"{\"id\":\"local/other/x\"}", "id: 'local/other/x' is not"},
        {"{\"id\":\"x\"}", "title: missing"},
        {"{\"id\":\"x\",\"title\":7}", "title: not a text"},
        {"{\"id\":\"x\",\"title\":\"a\\nb\"}", "title: control characters"},
        {"{\"id\":\"x\",\"title\":\"a\\u0007b\"}", "title: control characters"},
        {"{\"id\":\"x\",\"titel\":\"t\"}", "titel: unknown field"},
        {"{\"id\":\"x\",\"title\":\"t\",\"classification\":\"Security\"}",
            "classification: 'Security' is not one of critical"},
        {"{\"id\":\"x\",\"title\":\"t\",\"revision\":-1}", "revision: not a whole number"},
        {"{\"id\":\"x\",\"title\":\"t\",\"revision\":1.5}", "revision: not a whole number"},
        {"{\"id\":\"x\",\"title\":\"t\",\"issued\":\"yesterday\"}", "issued: not a time like"},
        {"{\"id\":\"x\",\"title\":\"t\",\"articles\":\"KB1\"}", "articles: not a list"},
        {"{\"id\":\"x\",\"title\":\"t\",\"cves\":[\"a\",3]}", "cves[1]: not a text"},
        {"{\"id\":\"x\",\"title\":\"t\",\"supersedes\":[\"\"]}", "supersedes[0]: empty"},
        {"{\"id\":\"x\",\"title\":\"t\",\"files\":[1]}", "files[0]: not an object"},
        {"{\"id\":\"x\",\"title\":\"t\",\"files\":[{\"name\":\"f\",\"size\":1}]}",
            "files[0].sha256: not a text"},
        {"{\"id\":\"x\",\"title\":\"t\",\"files\":[{\"name\":\"f\",\"size\":1,\"sha256\":\"abc\"}]}",
            "files[0].sha256: not 64 hex digits"},
        {"{\"id\":\"x\",\"title\":\"t\",\"files\":[{\"name\":\"f\",\"sha256\":\"" DIGEST "\"}]}",
            "files[0].size: missing"},
        {"{\"id\":\"x\",\"title\":\"t\",\"files\":[{\"name\":\"a/b\",\"size\":1,\"sha256\":\"" DIGEST "\"}]}",
            "files[0].name: empty, or with a slash"},
        {"{\"id\":\"x\",\"title\":\"t\",\"files\":[{\"name\":\"f\",\"sise\":1}]}",
            "files[0].sise: unknown field"},
    };
    struct source_set *s = source_new();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json_t *j = parse(rows[i].json);
        assert_int_equal(update_from_json(j, "acme", s), ERR_USAGE);
        if (strncmp(err_text(ERR_USAGE), rows[i].why, strlen(rows[i].why)) != 0)
            fail_msg("%s: %s", rows[i].json, err_text(ERR_USAGE));
        json_decref(j);
    }
    json_t *j = parse("{\"id\":\"x\",\"title\":\"t\"}");
    assert_int_equal(update_from_json(j, "a/b", s), ERR_USAGE);
    assert_int_equal(update_from_json(j, "", s), ERR_USAGE);
    char big[400];
    memset(big, 'x', 399);
    big[399] = 0;
    json_object_set_new(j, "title", json_string(big));
    assert_int_equal(update_from_json(j, "acme", s), ERR_USAGE);
    assert_string_equal(err_text(ERR_USAGE), "title: 399 bytes, over the limit of 300");
    json_decref(j);
    assert_int_equal(s->n, 0);
    source_free(s);
}

static void config(struct fixture *f, const char *publisher)
{
    char path[128];
    snprintf(path, sizeof path, "%s/folder", f->dir);
    json_decref(f->request.config);
    f->request.config = json_pack("{s:s,s:s}", "path", path, "publisher", publisher);
}

static int fetch(struct fixture *f, struct source_set **ret_set)
{
    return adapter_directory.fetch(&f->request, ret_set);
}

static void reads_a_folder(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    char version[160];
    fixture_write(
        f, "folder/b.json", "[{\"id\":\"two\",\"title\":\"2\"},{\"id\":\"three\",\"title\":\"3\"}]");
    fixture_write(f, "folder/a.json", "{\"id\":\"one\",\"title\":\"1\"}");
    fixture_write(f, "folder/notes.txt", "not ours");
    fixture_write(f, "folder/.hidden.json", "not ours");
    config(f, "acme");
    assert_int_equal(adapter_directory.check(f->request.config), 0);
    assert_int_equal(fetch(f, &s), 0);
    assert_int_equal(s->n, 3);
    assert_string_equal(s->scope, "local/acme");
    assert_string_equal(s->signer, "");
    assert_true(view_eq(s->items[0].key, view_str("local/acme/one")));
    strcpy(version, s->version);
    source_free(s);
    f->request.version = version;
    assert_int_equal(fetch(f, &s), 0);
    assert_true(s->unchanged && s->n == 0);
    source_free(s);
    fixture_write(f, "folder/a.json", "{\"id\":\"one\",\"title\":\"1!\"}");
    assert_int_equal(fetch(f, &s), 0);
    assert_true(!s->unchanged && s->n == 3);
    source_free(s);
    fixture_write(f, "folder/c.json", "{\"id\":\"one\",\"title\":\"last\"}");
    assert_int_equal(fetch(f, &s), 0);
    assert_int_equal(s->n, 3);
    assert_string_equal(s->warning, "1 ids stand more than once; of each the last one counts");
    assert_non_null(memmem(s->items[0].value.data, s->items[0].value.len, "last", 4));
    source_free(s);
}

static void names_file_and_field(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *json, *why;
    } rows[] = {
        {"{\"id\":\"x\"}", "upstream sample: bad.json: title: missing"},
        {"[{\"id\":\"x\",\"title\":\"t\"},{\"id\":\"y\"}]",
            "upstream sample: bad.json: update 2: title: missing"},
        {"{\"id\":\"x\",", "upstream sample: bad.json: line 1: "},
        {"{\"id\":\"x\",\"id\":\"y\"}", "upstream sample: bad.json: line 1: duplicate object key"},
        {"", "upstream sample: bad.json: line 1: "},
        {"{\"id\":\"x\",\"title\":\"a\\u0000b\"}", "upstream sample: bad.json: line 1: "},
        {"{\"id\":\"x\",\"title\":\"\xff\"}", "upstream sample: bad.json: line 1: "},
    };
    fixture_write(f, "folder/a.json", "{\"id\":\"one\",\"title\":\"1\"}");
    config(f, "acme");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct source_set *s = NULL;
        fixture_write(f, "folder/bad.json", rows[i].json);
        assert_int_equal(fetch(f, &s), ERR_UPSTREAM);
        if (strncmp(err_text(ERR_UPSTREAM), rows[i].why, strlen(rows[i].why)) != 0)
            fail_msg("%s: %s", rows[i].json, err_text(ERR_UPSTREAM));
        assert_null(s);
    }
    struct source_set *s;
    char path[512]; /* a pipe that nobody writes to must not hold the run up */
    snprintf(path, sizeof path, "%s/folder/bad.json", f->dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(fetch(f, &s), ERR_UPSTREAM);
    assert_non_null(strstr(err_text(ERR_UPSTREAM), "bad.json: not a regular file"));
    atomic_store(&f->cancel, true);
    assert_int_equal(fetch(f, &s), ERR_CANCELLED);
}

static void checks_its_config(void **state)
{
    struct fixture *f = *state;
    struct source_set *s;
    config(f, "acme");
    assert_int_equal(adapter_directory.check(f->request.config), ERR_USAGE); /* not there yet */
    assert_int_equal(fetch(f, &s), ERR_UPSTREAM);
    assert_non_null(strstr(err_text(ERR_UPSTREAM), "No such file or directory"));
    fixture_write(f, "folder", "a file");
    assert_int_equal(adapter_directory.check(f->request.config), ERR_USAGE);
    json_object_set_new(f->request.config, "path", json_string("relative"));
    assert_int_equal(adapter_directory.check(f->request.config), ERR_USAGE);
    json_object_set_new(f->request.config, "path", json_string("/tmp"));
    json_object_set_new(f->request.config, "publisher", json_string("a/b"));
    assert_int_equal(adapter_directory.check(f->request.config), ERR_USAGE);
    json_object_del(f->request.config, "publisher");
    assert_int_equal(adapter_directory.check(f->request.config), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_up, fixture_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(packs_every_field),
        T(fills_in_the_usual),
        T(names_the_field),
        T(reads_a_folder),
        T(names_file_and_field),
        T(checks_its_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The n-th allocation fails, for every n: an error each time, nothing half made, and success when none fails.
 */
#include "tests/unit/upstream/fixture.h"

#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);

static unsigned left; /* 0: none fails; 1: the next one */
static bool failed;

static bool fails(void)
{
    if (left == 0 || --left > 0)
        return false;
    failed = true;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, n, size);
}
char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

static void *json_malloc(size_t n)
{
    return __wrap_malloc(n);
}

/* Does the work with the n-th allocation failing, until none is left to fail. */
static void walk(struct fixture *f, int (*work)(struct fixture *), unsigned least)
{
    unsigned n = 0;
    do {
        failed = false;
        left = ++n;
        err_clear();
        int rc = work(f);
        left = 0;
        if (failed ? rc == 0 : rc != 0)
            fail_msg("allocation %u of %s: %s", n, failed ? "all failed" : "none failed",
                rc ? err_text(rc) : "success");
    } while (failed && n < 100000);
    assert_true(n > least); /* the walk was a real one */
    assert_int_equal(work(f), 0);
}

static int apt_work(struct fixture *f)
{
    struct source_set *s = NULL;
    int rc = fixture_fetch(f, &s);
    if (!rc && s->n != 1500)
        rc = ERR_INTERNAL;
    source_free(s);
    return rc;
}

static void apt_gives_up_whole(void **state)
{
    struct fixture *f = *state;
    if (!has_program("gpg"))
        skip();
    fixture_repo(f, "--packages 1500 --formats plain");
    walk(f, apt_work, 10);
}

static int directory_work(struct fixture *f)
{
    struct source_set *s = NULL;
    int rc = adapter_directory.fetch(&f->request, &s);
    if (!rc && s->n != 3)
        rc = ERR_INTERNAL;
    source_free(s);
    return rc;
}

static void the_folder_gives_up_whole(void **state)
{
    struct fixture *f = *state;
    fixture_write(f, "folder/a.json",
        "[{\"id\":\"one\",\"title\":\"1\",\"cves\":[\"x\"]},{\"id\":\"two\",\"title\":\"2\"}]");
    fixture_write(f, "folder/b.json", "{\"id\":\"three\",\"title\":\"3\"}");
    char path[128];
    snprintf(path, sizeof path, "%s/folder", f->dir);
    f->request.config = json_pack("{s:s,s:s}", "path", path, "publisher", "acme");
    walk(f, directory_work, 10);
}

static int sources_work(struct fixture *f)
{
    char dir[128];
    json_t *list = NULL;
    snprintf(dir, sizeof dir, "%s/apt", f->dir);
    int rc = apt_system_sources(dir, &list);
    if (!rc && json_array_size(list) != 3)
        rc = ERR_INTERNAL;
    json_decref(list);
    return rc;
}

static void sources_give_up_whole(void **state)
{
    struct fixture *f = *state;
    fixture_write(
        f, "apt/sources.list", "deb [arch=amd64 signed-by=/k] http://a.example.org one main contrib\n");
    fixture_write(f, "apt/sources.list.d/x.sources",
        "Types: deb\nURIs: http://b.example.org\nSuites: two\nComponents: main\nArchitectures: "
        "amd64\nSigned-By: /k\n");
    walk(f, sources_work, 10);
}

static int split_work(struct fixture *f)
{
    json_t *list = NULL;
    int rc = source_split(f->request.config, &list);
    json_decref(list);
    return rc;
}

static void splitting_gives_up_whole(void **state)
{
    struct fixture *f = *state;
    f->request.config =
        json_pack("{s:s,s:[s,s],s:[s,s]}", "name", "x", "components", "a", "b", "architectures", "c", "d");
    walk(f, split_work, 10);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_up, fixture_down)
int main(void)
{
    const struct CMUnitTest tests[] = {T(apt_gives_up_whole), T(the_folder_gives_up_whole),
        T(sources_give_up_whole), T(splitting_gives_up_whole)};
    json_set_alloc_funcs(json_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

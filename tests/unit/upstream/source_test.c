#include "tests/unit/upstream/fixture.h"

#include "services/metadata/upstream/source_arena.h"

#include <stdio.h>
#include <stdlib.h>

static int add(struct source_set *s, const char *key, const char *value)
{
    return source_add(
        s, view_str(key), view_str(value), "p", "updates", "all", (struct view){0}, (struct view){0});
}

static void keeps_copies(void **state)
{
    (void)state;
    struct source_set *s = source_new();
    char key[] = "local/a/1", value[] = "xx-name-1.0-xx", product[] = "debian-12";
    assert_int_equal(source_add(s, view_str(key), view_str(value), product, "updates", "all",
                         view_of(value + 3, 4), view_of(value + 8, 3)),
        0);
    memset(key, 'z', sizeof key - 1);
    memset(value, 'z', sizeof value - 1);
    memset(product, 'z', sizeof product - 1);
    const struct source_item *it = &s->items[0];
    assert_true(view_eq(it->key, view_str("local/a/1")));
    assert_true(view_eq(it->value, view_str("xx-name-1.0-xx")));
    assert_true(view_eq(it->package, view_str("name")));
    assert_true(view_eq(it->version, view_str("1.0")));
    assert_ptr_equal(it->package.data, it->value.data + 3);
    assert_string_equal(it->product, "debian-12");
    /* a package that is not part of the value is kept too */
    assert_int_equal(source_add(s, view_str("k"), view_str("v"), "debian-12", "updates", "all",
                         view_str("elsewhere"), view_str("2.0")),
        0);
    assert_true(view_eq(s->items[1].package, view_str("elsewhere")));
    assert_true(view_eq(s->items[1].version, view_str("2.0")));
    assert_ptr_equal(s->items[0].product, s->items[1].product);
    assert_int_equal(s->n_interned, 3);
    source_free(s);
    source_free(NULL);
}

static void sorts_and_keeps_the_last(void **state)
{
    (void)state;
    struct source_set *s = source_new();
    char key[32], value[32];
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%u", i * 7919 % 2500);
        snprintf(value, sizeof value, "%u", i);
        assert_int_equal(add(s, key, value), 0);
    }
    source_sort(s);
    assert_int_equal(s->n, 2500);
    for (size_t i = 0; i < s->n; i++) {
        assert_true(i == 0 || view_cmp(s->items[i - 1].key, s->items[i].key) < 0);
        char number[16]; /* the value does not end with NUL */
        snprintf(
            number, sizeof number, "%.*s", (int)s->items[i].value.len, (const char *)s->items[i].value.data);
        assert_true(atoi(number) >= 2500); /* the second time around */
    }
    assert_int_equal(add(s, "k1", "new"), 0);
    source_sort(s);
    assert_int_equal(s->n, 2500);
    assert_true(view_eq(s->items[1].key, view_str("k1")));
    assert_true(view_eq(s->items[1].value, view_str("new")));
    source_free(s);
    s = source_new();
    source_sort(s);
    assert_int_equal(s->n, 0);
    source_free(s);
}

static void refuses_what_is_not_clean(void **state)
{
    (void)state;
    struct source_set *s = source_new();
    char longest[SOURCE_KEY_MAX + 2];
    memset(longest, 'a', sizeof longest);
    struct view none = {0}, good = view_str("k"), v = view_str("v");
    const struct view bad[] = {none, view_str("a\nb"), view_str("a\tb"), view_of("a\0b", 3), view_str("\xff"),
        view_str("\x1b[31m"), view_of(longest, SOURCE_KEY_MAX + 1)};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(source_add(s, bad[i], v, "p", "c", "a", none, none), ERR_MALFORMED);
    for (size_t i = 1; i < 6; i++) {
        assert_int_equal(source_add(s, good, v, "p", "c", "a", bad[i], none), ERR_MALFORMED);
        assert_int_equal(source_add(s, good, v, "p", "c", "a", none, bad[i]), ERR_MALFORMED);
    }
    assert_int_equal(source_add(s, good, v, "p\n", "c", "a", none, none), ERR_MALFORMED);
    uint8_t *big = calloc(1, SOURCE_VALUE_MAX + 1);
    assert_int_equal(
        source_add(s, good, view_of(big, SOURCE_VALUE_MAX + 1), "p", "c", "a", none, none), ERR_MALFORMED);
    assert_int_equal(s->n, 0);
    assert_int_equal(source_add(s, view_of(longest, SOURCE_KEY_MAX), view_of(big, SOURCE_VALUE_MAX), "p", "c",
                         "a", none, none),
        0);
    free(big);
    source_free(s);
}

static void adapters_by_kind(void **state)
{
    (void)state;
    assert_ptr_equal(adapter_find("apt"), &adapter_apt);
    assert_ptr_equal(adapter_find("directory"), &adapter_directory);
    assert_null(adapter_find("yum"));
    assert_null(adapter_find(""));
}

static void splits_by_component_and_architecture(void **state)
{
    (void)state;
    json_t *list, *config = json_pack("{s:s,s:s,s:[s,s],s:[s,s],s:s}", "name", "bw", "uri", "http://x/",
                      "components", "main", "contrib", "architectures", "amd64", "arm64", "keyring", "/k");
    static const char *const names[] = {
        "bw-main-amd64", "bw-main-arm64", "bw-contrib-amd64", "bw-contrib-arm64"};
    assert_int_equal(source_split(config, &list), 0);
    assert_int_equal(json_array_size(list), 4);
    for (size_t i = 0; i < 4; i++) {
        json_t *one = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(one, "name")), names[i]);
        assert_int_equal(json_array_size(json_object_get(one, "components")), 1);
        assert_string_equal(json_string_value(json_object_get(one, "keyring")), "/k");
    }
    json_decref(list);
    json_object_del(config, "architectures");
    json_object_set_new(config, "components", json_pack("[s]", "main"));
    assert_int_equal(source_split(config, &list), 0);
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "bw");
    json_decref(list);
    json_object_set_new(config, "components", json_pack("[i]", 1));
    assert_int_equal(source_split(config, &list), ERR_USAGE);
    json_decref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_copies),
        cmocka_unit_test(sorts_and_keeps_the_last),
        cmocka_unit_test(refuses_what_is_not_clean),
        cmocka_unit_test(adapters_by_kind),
        cmocka_unit_test(splits_by_component_and_architecture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

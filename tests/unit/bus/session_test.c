#include "common/bus/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct session *add(struct session_table *t, uint32_t id, const char *user, int64_t heard)
{
    struct session *s;
    assert_int_equal(session_add(t, view_of(&id, sizeof id), user, &s), 0);
    s->heard.ns = heard;
    return s;
}

static void sessions_are_found_both_ways(void **state)
{
    (void)state;
    struct session_table *t;
    assert_int_equal(session_table_new(&t), 0);
    for (uint32_t i = 1; i <= 2000; i++)
        assert_int_equal(add(t, i, "A", i)->number, i);
    assert_int_equal(session_count(t), 2000);
    uint32_t id = 1234;
    struct session *s = session_find(t, view_of(&id, sizeof id));
    assert_ptr_equal(s, session_get(t, 1234));
    session_remove(t, s);
    assert_null(session_get(t, 1234));
    assert_null(session_find(t, view_of(&id, sizeof id)));
    assert_null(session_get(t, 0));
    assert_int_equal(add(t, id, "A", 1)->number, 2001); /* a number does not come again soon */
    session_table_free(t);
    session_table_free(NULL);
}

static void bad_ids_and_users_are_refused(void **state)
{
    (void)state;
    struct session_table *t;
    struct session *s;
    uint8_t id[ROUTING_ID_MAX + 1] = {0};
    char user[BUS_USER_MAX + 2];
    memset(user, 'u', sizeof user - 1);
    user[sizeof user - 1] = 0;
    assert_int_equal(session_table_new(&t), 0);
    assert_int_equal(session_add(t, view_of(id, 0), "A", &s), ERR_MALFORMED);
    assert_int_equal(session_add(t, view_of(id, sizeof id), "A", &s), ERR_MALFORMED);
    assert_int_equal(session_add(t, view_of(id, 5), user, &s), ERR_MALFORMED);
    user[BUS_USER_MAX] = 0;
    assert_int_equal(session_add(t, view_of(id, ROUTING_ID_MAX), user, &s), 0);
    assert_string_equal(s->user, user);
    assert_int_equal(session_count(t), 1);
    session_table_free(t);
}

static void the_oldest_of_a_user_is_surplus(void **state)
{
    (void)state;
    struct session_table *t;
    assert_int_equal(session_table_new(&t), 0);
    assert_null(session_surplus(t, "A", 2));
    add(t, 1, "A", 50);
    struct session *old = add(t, 2, "A", 40);
    add(t, 3, "B", 10);
    assert_null(session_surplus(t, "A", 3));
    assert_ptr_equal(session_surplus(t, "A", 2), old);
    assert_null(session_surplus(t, "B", 2));
    assert_null(session_stale(t, (struct mono){10}));
    assert_int_equal(session_stale(t, (struct mono){11})->heard.ns, 10);
    session_table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_are_found_both_ways),
        cmocka_unit_test(bad_ids_and_users_are_refused),
        cmocka_unit_test(the_oldest_of_a_user_is_surplus),
    };
    return cmocka_run_group_tests_name("unit bus session", tests, NULL, NULL);
}

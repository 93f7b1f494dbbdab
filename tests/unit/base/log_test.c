#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"

static char line[4096];

/* What the records write on the standard error, caught in a pipe. */
static int saved, ends[2];

static void catch_start(void)
{
    assert_int_equal(pipe(ends), 0);
    saved = dup(2);
    assert_true(saved >= 0 && dup2(ends[1], 2) == 2);
}

static void catch_end(void)
{
    assert_int_equal(dup2(saved, 2), 2);
    close(saved);
    close(ends[1]);
    ssize_t n = read(ends[0], line, sizeof line - 1);
    line[n > 0 ? n : 0] = 0;
    close(ends[0]);
}

#define CAUGHT(statement)                                                                                    \
    do {                                                                                                     \
        catch_start();                                                                                       \
        statement;                                                                                           \
        catch_end();                                                                                         \
    } while (0)

static void test_text(void **state)
{
    (void)state;
    log_init("sitetreed", LOG_TEXT, LOG_INFO);
    CAUGHT(log_record(LOG_WARNING, "link-down", "peer", "P01", "why", "reset by peer", "none", NULL, NULL));
    assert_non_null(strstr(line, "Z warning sitetreed - link-down peer=P01 why=\"reset by peer\" none=?\n"));
    log_set_site("CEN");
    CAUGHT(log_record(LOG_ERROR, "x", "a", "", "b", "say \"no\"", "c", "\x1b[2J\xff", NULL));
    assert_non_null(strstr(line, " CEN x a=\"\" b=\"say \\\"no\\\"\" c=?[2J?\n"));
    CAUGHT(log_record(LOG_INFO, "two", "a", "1\n2", NULL));
    assert_non_null(strstr(line, "a=\"1\\u000a2\"\n"));
    assert_int_equal(strcspn(line, "\n"), strlen(line) - 1); /* one record, one line */
    CAUGHT(log_record(LOG_DEBUG, "quiet", NULL));
    assert_string_equal(line, "");
}

static void test_json(void **state)
{
    (void)state;
    log_init("sitetreed", LOG_JSON, LOG_DEBUG);
    log_set_site("CEN");
    CAUGHT(log_record(LOG_DEBUG, "y", "k", "a\"b\\c\td\x01\xc3", NULL));
    assert_non_null(
        strstr(line, "\"level\":\"debug\",\"process\":\"sitetreed\",\"site\":\"CEN\",\"event\":\"y\""));
    assert_non_null(strstr(line, ",\"k\":\"a\\\"b\\\\c\\u0009d??\"}\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

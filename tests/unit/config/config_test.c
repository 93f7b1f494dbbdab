/* The configuration: what is accepted, what is refused with file and line, and what prints back. */
#include "common/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"

static void defaults_are_those_of_the_table(void **state)
{
    (void)state;
    AUTO_CONFIG *c = NULL;
    assert_int_equal(config_load(NULL, &c), 0);
    assert_string_equal(config_text(c, CONFIG_LISTEN), "0.0.0.0:7700");
    assert_string_equal(config_text(c, CONFIG_ADVERTISE), "");
    assert_int_equal(config_duration_ns(c, CONFIG_HEARTBEAT), 60 * NS_PER_S);
    assert_int_equal(config_duration_ns(c, CONFIG_NOT_HEARD_AFTER), 180 * NS_PER_S);
    assert_int_equal(config_bytes(c, CONFIG_CHUNK), 65536);
    assert_int_equal(config_number(c, CONFIG_DELTA_KEEP), 1000);
    assert_false(config_flag(c, CONFIG_INTERNET));
    assert_false(config_is_set(c, CONFIG_LISTEN));
}

static void every_form_of_value_is_read(void **state)
{
    (void)state;
    AUTO_CONFIG *c = NULL;
    assert_int_equal(config_parse_text("# a comment\n"
                                       "listen = \"127.0.0.1:0\"\n"
                                       "advertise = [fd00::1]:7700\n"
                                       "heartbeat=250ms // another\n"
                                       "schedule = 7200\n"
                                       "down_rate = 64KiB/s\n"
                                       "up_rate = '1MB'\n"
                                       "internet = yes\n"
                                       "log_level = debug\n"
                                       "apt_dir = \"/srv/a \\\"b\\\" $c\"\n",
                         "t", &c),
        0);
    assert_string_equal(config_text(c, CONFIG_LISTEN), "127.0.0.1:0");
    assert_string_equal(config_text(c, CONFIG_ADVERTISE), "[fd00::1]:7700");
    assert_int_equal(config_duration_ns(c, CONFIG_HEARTBEAT), 250 * NS_PER_MS);
    assert_int_equal(config_duration_ns(c, CONFIG_NOT_HEARD_AFTER), 750 * NS_PER_MS);
    assert_int_equal(config_duration_ns(c, CONFIG_SCHEDULE), 7200 * NS_PER_S);
    assert_int_equal(config_bytes(c, CONFIG_DOWN_RATE), 65536);
    assert_int_equal(config_bytes(c, CONFIG_UP_RATE), 1000000);
    assert_true(config_flag(c, CONFIG_INTERNET));
    assert_string_equal(config_text(c, CONFIG_LOG_LEVEL), "debug");
    assert_string_equal(config_text(c, CONFIG_APT_DIR), "/srv/a \"b\" $c");
    assert_true(config_is_set(c, CONFIG_LISTEN));
}

static void what_is_wrong_is_named_with_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"heartbeet = 5s\n", "t.conf:1: unknown key 'heartbeet', did you mean 'heartbeat'?"},
        {"\n\nqqqqqqqq = 5s\n", "t.conf:3: unknown key 'qqqqqqqq'"},
        {"window = 1MiB\nchunk = 1KiB\nwindow = 2MiB\n",
            "t.conf:3: window is set a second time (first on line 1)"},
        {"# one\n// two\n/* three\n four */\nlog_level = info # six\nheartbeat = soon\n",
            "t.conf:6: heartbeat: 'soon' is not a duration like 30s, 15m, 24h or 7d"},
        {"# \"one\napt_dir = \"/a#b\" # it's\n\n# two\nheartbeat = soon\n",
            "t.conf:5: heartbeat: 'soon' is not a duration like 30s, 15m, 24h or 7d"},
        {"\nheartbeat = soon\n", "t.conf:2: heartbeat: 'soon' is not a duration like 30s, 15m, 24h or 7d"},
        {"heartbeat = -5s\n", "t.conf:1: heartbeat: '-5s' is not a duration like 30s, 15m, 24h or 7d"},
        {"heartbeat = 2h\n", "t.conf:1: heartbeat: 2h is outside 100ms to 1h"},
        {"down_rate = 1KiB/h\n", "t.conf:1: down_rate: '1KiB/h' is not a size like 512, 64KiB, 4MiB or 1GB"},
        {"window = 99999999999999999999\n",
            "t.conf:1: window: '99999999999999999999' is not a size like 512, 64KiB, 4MiB or 1GB"},
        {"delta_keep = 1.5\n", "t.conf:1: delta_keep: '1.5' is not a whole number"},
        {"internet = maybe\n", "t.conf:1: internet: 'maybe' is neither yes nor no"},
        {"listen = \"host:70000\"\n",
            "t.conf:1: listen: 'host:70000' is not host:port with a port up to 65535"},
        {"listen = \"fd00::1:7700\"\n",
            "t.conf:1: listen: 'fd00::1:7700' is not host:port (an IPv6 address stands in [])"},
        {"log_format = xml\n", "t.conf:1: log_format: 'xml' is not text or json"},
        {"apt_dir = etc/apt\n", "t.conf:1: apt_dir: 'etc/apt' is not an absolute path"},
        {"chunk = 1MiB\nwindow = 64KiB\n", "t.conf:1: chunk is larger than window"},
        {"heartbeat = 60s\nnot_heard_after = 61s\n", "t.conf:2: not_heard_after is less than two heartbeats"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config *c = NULL;
        int rc = config_parse_text(cases[i].text, "t.conf", &c);
        assert_int_equal(rc, ERR_CONFIG);
        assert_string_equal(err_text(rc), cases[i].message);
        assert_null(c);
    }
}

static void garbage_is_an_error_with_a_line(void **state)
{
    (void)state;
    static const char *const cases[] = {"{", "=", "a", "window", "window =", "window = {1,2}", "window { }",
        "window += 1MiB", "window = \"1MiB", "/* open", "window = 1MiB 2MiB 3MiB", "\x01\xff",
        "include(\"/etc/passwd\")"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config *c = NULL;
        int rc = config_parse_text(cases[i], "t.conf", &c);
        if (rc == 0)
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(rc, ERR_CONFIG);
        assert_int_equal(strncmp(err_text(rc), "t.conf:", 7), 0);
    }
}

static void prints_back_to_the_same(void **state)
{
    (void)state;
    static const char *const cases[] = {"", "heartbeat = 1500ms\nwindow = 65537\nlisten = \":0\"\n",
        "apt_dir = \"/a\\\\b\\\"c${HOME}\"\ninternet = on\nup_rate = 3MB/s\n", "schedule = 0\n",
        "not_heard_after = 9m"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_CONFIG *a = NULL, *b = NULL;
        AUTO_BUF first = {0}, second = {0};
        enum config_key keys[CONFIG_COUNT];
        assert_int_equal(config_parse_text(cases[i], "a", &a), 0);
        config_print(a, &first);
        buf_u8(&first, 0);
        int rc = config_parse_text((const char *)first.data, "b", &b);
        if (rc)
            fail_msg("%s\n%s", err_text(rc), (const char *)first.data);
        assert_int_equal(config_changed(a, b, keys), 0);
        config_print(b, &second);
        buf_u8(&second, 0);
        assert_string_equal((const char *)first.data, (const char *)second.data);
    }
}

static void changes_are_listed_in_table_order(void **state)
{
    (void)state;
    AUTO_CONFIG *a = NULL, *b = NULL;
    enum config_key keys[CONFIG_COUNT];
    assert_int_equal(config_load(NULL, &a), 0);
    assert_int_equal(
        config_parse_text("down_rate = 1KiB\nlisten = \"0.0.0.0:1\"\nheartbeat = 60s", "b", &b), 0);
    assert_int_equal(config_changed(a, b, keys), 2);
    assert_int_equal(keys[0], CONFIG_LISTEN);
    assert_false(config_rows[keys[0]].reload);
    assert_int_equal(keys[1], CONFIG_DOWN_RATE);
    assert_true(config_rows[keys[1]].reload);
}

static void a_file_is_read_and_its_absence_named(void **state)
{
    (void)state;
    char path[] = "/tmp/config_test.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    AUTO_CONFIG *c = NULL;
    assert_int_equal(config_load(path, &c), 0); /* an empty file is the defaults */
    assert_int_equal(write(fd, "window = 1MiB\0", 14), 14);
    struct config *bad = NULL;
    assert_int_equal(config_load(path, &bad), ERR_CONFIG);
    close(fd);
    unlink(path);
    assert_int_equal(config_load(path, &bad), -ENOENT);
    assert_null(bad);
    assert_int_equal(config_load("/", &bad), -EISDIR);
}

static void the_shipped_example_is_the_table(void **state)
{
    (void)state;
    const char *path = getenv("SITETREE_EXAMPLE");
    assert_non_null(path);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    static char shipped[64 * 1024];
    size_t n = fread(shipped, 1, sizeof shipped - 1, f);
    fclose(f);
    shipped[n] = 0;
    AUTO_BUF out = {0};
    config_example(&out);
    buf_u8(&out, 0);
    assert_string_equal(shipped, (const char *)out.data);
    /* Without its comment signs it is the defaults, but for the derived keys, which are empty. */
    AUTO_CONFIG *c = NULL, *d = NULL;
    AUTO_BUF open = {0};
    for (char *line = strtok(shipped, "\n"); line; line = strtok(NULL, "\n"))
        if (line[0] == '#' && line[1] != ' ' && !strstr(line, "= \"\"") && line[strlen(line) - 2] != '=')
            buf_fmt(&open, "%s\n", line + 1);
    buf_u8(&open, 0);
    assert_int_equal(config_parse_text((const char *)open.data, path, &c), 0);
    assert_int_equal(config_load(NULL, &d), 0);
    enum config_key keys[CONFIG_COUNT];
    assert_int_equal(config_changed(c, d, keys), 0);
    assert_true(config_is_set(c, CONFIG_WINDOW));
}

int main(int argc, char **argv)
{
    if (argc == 2 &&
        strcmp(argv[1], "--example") == 0) { /* how deploy/config/sitetree.conf.example is made */
        AUTO_BUF out = {0};
        config_example(&out);
        return fwrite(out.data, 1, out.len, stdout) == out.len ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_table),
        cmocka_unit_test(every_form_of_value_is_read),
        cmocka_unit_test(what_is_wrong_is_named_with_file_and_line),
        cmocka_unit_test(garbage_is_an_error_with_a_line),
        cmocka_unit_test(prints_back_to_the_same),
        cmocka_unit_test(changes_are_listed_in_table_order),
        cmocka_unit_test(a_file_is_read_and_its_absence_named),
        cmocka_unit_test(the_shipped_example_is_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

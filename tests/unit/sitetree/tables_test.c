/* The tables of the command line against each other, and against answers of every command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tools/sitetree/run.h"

static char *words_of(char *line, char **argv, int *ret_argc)
{
    int n = 0;
    char *save = NULL;
    for (char *w = strtok_r(line, " ", &save); w && n < 15; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    argv[n] = NULL;
    *ret_argc = n;
    return line;
}

static int parse(const char *text, struct cli *cli, const char **ret_hint)
{
    static char line[400];
    static char *argv[16];
    int argc;
    snprintf(line, sizeof line, "%s", text);
    words_of(line, argv, &argc);
    memset(cli, 0, sizeof *cli);
    return command_parse(argc, argv, cli, ret_hint);
}

static struct cli cli; /* too large for a stack */

static void check_hint(const char *hint)
{
    const char *again;
    if (!hint || !hint[0] || strncmp(hint, "sitetreed", 9) == 0)
        return;
    if (parse(hint, &cli, &again) != 0)
        fail_msg("the hint '%s' does not parse", hint);
    /* A hint does something, or helps. */
    assert_true(cli.command || cli_has(&cli, OPT_HELP) || cli_has(&cli, OPT_VERSION));
}

static void every_hint_of_an_error_is_a_command(void **state)
{
    (void)state;
#define HINT_OF(name, number, word, text, hint) check_hint(err_hint(name));
    ERR_TABLE(HINT_OF)
#undef HINT_OF
    check_hint(err_hint(-EIO));
}

static void usage_errors_name_the_nearest_word_and_a_command_that_parses(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"sitetree snyc now", "'snyc' is no command; the nearest is 'sync'"},
        {"sitetree qqqqqq", "'qqqqqq' is no command"},
        {"sitetree site lst", "'lst' is none of its verbs; the nearest is 'list'"},
        {"sitetree store", "say what to do: stat, check"},
        {"sitetree sync qqqqqq",
            "'qqqqqq' is none of its verbs (now, status, list, show, cancel, approve, reject)"},
        {"sitetree site list --al l", "'l' is one word too many"},
        {"sitetree site list --alk", "there is no option --alk; the nearest is --all"},
        {"sitetree site list --ttl=3s", "option --ttl belongs to other commands, not to this one"},
        {"sitetree status --json=yes", "--json takes no value"},
        {"sitetree status -x", "there is no option -x"},
        {"sitetree site invite P01 --ttl", "--ttl needs a value"},
        {"sitetree site invite P01 --ttl soon", "--ttl: 'soon' is not a duration like 30s, 15m, 24h or 7d"},
        {"sitetree site invite", "SITE is missing"},
        {"sitetree catalogue list --limit -1", "--limit: '-1' is not a number"},
        {"sitetree catalogue count --by skope",
            "--by: 'skope' is not one of scope|product|classification|architecture|state; the nearest is "
            "'scope'"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *hint = NULL;
        char text[400], kept[200];
        int rc = parse(cases[i].line, &cli, &hint);
        snprintf(text, sizeof text, "%s", err_text(rc));
        if (rc != ERR_USAGE || strcmp(text, cases[i].text) != 0)
            fail_msg("%s: %d, %s", cases[i].line, rc, text);
        snprintf(kept, sizeof kept, "%s", hint);
        check_hint(kept);
    }
}

static void words_and_options_stand_in_any_order(void **state)
{
    (void)state;
    static const char *const lines[] = {"sitetree --dir D --json site invite P01 --tier branch",
        "sitetree site --json invite --tier=branch P01 --dir D",
        "sitetree site invite --dir D --tier branch --json -- P01"};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        const char *hint;
        assert_int_equal(parse(lines[i], &cli, &hint), 0);
        assert_ptr_equal(cli.command, command_find("site", "invite"));
        assert_int_equal(cli.n_args, 1);
        assert_string_equal(cli.args[0], "P01");
        assert_string_equal(cli.options[OPT_DIR], "D");
        assert_string_equal(cli.options[OPT_TIER], "branch");
        assert_true(cli_has(&cli, OPT_JSON));
    }
    const char *hint;
    assert_int_equal(parse("sitetree explain -- --strange", &cli, &hint), 0);
    assert_string_equal(cli.args[0], "--strange");
    assert_int_equal(parse("sitetree sync now -w --timeout 5m", &cli, &hint), 0);
    assert_true(cli_has(&cli, OPT_WAIT));
}

static void the_table_holds_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        bool noun = (c->flags & COMMAND_HIDDEN) != 0;
        for (size_t j = 0; j < nouns_count; j++)
            noun = noun || strcmp(nouns[j].name, c->noun) == 0;
        assert_true(noun);
        assert_ptr_equal(command_find(c->noun, c->verb), c); /* no two of a name */
        assert_true(strlen(c->sentence) > 10 && c->sentence[strlen(c->sentence) - 1] != '.');
        assert_true(c->run || c->control);
        if (c->flags & COMMAND_DESTROYS)
            assert_true(option_in(c->options, OPT_YES) && option_in(c->options, OPT_DRY_RUN) &&
                        (c->flags & COMMAND_NOT_FINE));
        if (option_in(c->options, OPT_TIMEOUT))
            assert_true(c->flags & COMMAND_WAITS);
        uint64_t set = c->options | OPT_EVERYWHERE;
        for (size_t a = 0; a < OPT_COUNT; a++)
            for (size_t b = a + 1; b < OPT_COUNT; b++)
                if (option_in(set, (enum option_id)a) && option_in(set, (enum option_id)b)) {
                    assert_string_not_equal(option_rows[a].name, option_rows[b].name);
                    assert_false(option_rows[a].letter && option_rows[a].letter == option_rows[b].letter);
                }
    }
}

static json_t *answer_of(const char *control)
{
    char path[4096];
    json_error_t e;
    snprintf(path, sizeof path, "%s/answers/%s.json", getenv("SITETREE_VECTORS"), control);
    json_t *answer = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!answer)
        fail_msg("%s: %s", path, e.text);
    return answer;
}

/* Present, though perhaps null. */
static bool is_there(const json_t *from, const char *path)
{
    char parent[128];
    const char *dot = strrchr(path, '.');
    if (!path[0])
        return from != NULL;
    snprintf(parent, sizeof parent, "%.*s", dot ? (int)(dot - path) : 0, path);
    return json_object_get(view_at(from, parent), dot ? dot + 1 : path) != NULL;
}

/* What one of the commands of a view leaves out, another one has. */
static bool another_has(const struct command *c, const struct section *s, const struct field *f)
{
    bool found = false;
    for (size_t i = 0; i < commands_count && !found; i++) {
        if (&commands[i] == c || commands[i].view != c->view || !commands[i].control)
            continue;
        json_t *answer = answer_of(commands[i].control);
        const json_t *part = view_at(json_object_get(answer, "data"), s->path);
        found = is_there(s->kind == SECTION_TABLE ? json_array_get(part, 0) : part, f->path);
        json_decref(answer);
    }
    return found;
}

static void check_section(const struct command *c, const struct section *s, const json_t *data)
{
    const json_t *part = view_at(data, s->path);
    if (!is_there(data, s->path))
        fail_msg("%s: no %s in the answer", c->control, s->path);
    if (s->kind == SECTION_TABLE)
        part = json_array_get(part, 0);
    for (const struct field *f = s->fields; f && f->title; f++)
        if (!is_there(part, f->path) && !((f->flags & FIELD_MAYBE) && another_has(c, s, f)))
            fail_msg("%s: column '%s': no %s in %s", c->control, f->title, f->path, s->path);
}

static void every_text_column_is_in_the_json(void **state)
{
    (void)state;
    size_t n = 0;
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        if (!c->control)
            continue;
        json_t *answer = answer_of(c->control);
        char schema[80];
        snprintf(schema, sizeof schema, "sitetree.%s/1", c->schema);
        assert_string_equal(json_string_value(json_object_get(answer, "schema")), schema);
        for (const struct section *s = c->view ? c->view->sections : NULL; s && s->kind != SECTION_END;
             s++, n++)
            check_section(c, s, json_object_get(answer, "data"));
        json_decref(answer);
    }
    assert_true(n > 30);
}

static const char *shown(enum format format, unsigned flags, const char *json)
{
    static char text[200];
    struct output o = {.as_of = {INT64_C(1763618400) * NS_PER_S}}; /* 2025-11-20T06:00:00Z */
    json_t *row = json_loads(json, 0, NULL);
    const struct field f = {"x", "x", format, flags};
    AUTO_BUF out = {0};
    assert_non_null(row);
    view_value(&o, &f, row, &out);
    buf_u8(&out, 0);
    snprintf(text, sizeof text, "%s", (const char *)out.data);
    json_decref(row);
    return text;
}

static void values_become_text(void **state)
{
    (void)state;
    static const struct {
        enum format format;
        unsigned flags;
        const char *json, *text;
    } cases[] = {
        {FORMAT_TEXT, 0, "{\"x\":\"a\\u001b[31mb\\u0007\\u009bc\"}", "a [31mb  c"},
        {FORMAT_TEXT, 0, "{\"x\":null}", "?"},
        {FORMAT_TEXT, 0, "{}", "?"},
        {FORMAT_TEXT, FIELD_MAYBE, "{\"x\":null}", "-"},
        {FORMAT_COUNT, 0, "{\"x\":66481}", "66,481"},
        {FORMAT_COUNT, 0, "{\"x\":1000000}", "1,000,000"},
        {FORMAT_COUNT, 0, "{\"x\":0}", "0"},
        {FORMAT_COUNT, 0, "{\"x\":null}", "?"},
        {FORMAT_COUNT, 0, "{\"x\":\"7\"}", "?"},
        {FORMAT_COUNT, 0, "{\"x\":-1}", "?"},
        {FORMAT_NUMBER, 0, "{\"x\":4714}", "4714"},
        {FORMAT_BYTES, 0, "{\"x\":1023}", "1023 B"},
        {FORMAT_BYTES, 0, "{\"x\":1153434}", "1.1 MiB"},
        {FORMAT_BYTES, 0, "{\"x\":13631488}", "13 MiB"},
        {FORMAT_RATE, 0, "{\"x\":8192}", "8.0 KiB/s"},
        {FORMAT_RATE, FIELD_LIMIT, "{\"x\":0}", "no limit"},
        {FORMAT_RATE, 0, "{\"x\":null}", "?"},
        {FORMAT_SECONDS, 0, "{\"x\":0}", "0 s"},
        {FORMAT_SECONDS, 0, "{\"x\":0.0004}", "1 ms"},
        {FORMAT_SECONDS, 0, "{\"x\":0.42}", "0.4 s"},
        {FORMAT_SECONDS, 0, "{\"x\":7440}", "2 h 04"},
        {FORMAT_SECONDS, 0, "{\"x\":null}", "?"},
        {FORMAT_SECONDS, 0, "{\"x\":\"2025-11-20T05:58:30Z\"}", "90 s"},
        {FORMAT_SIGNED, 0, "{\"x\":-0.012}", "-0.012 s"},
        {FORMAT_TIME, 0, "{\"x\":\"2025-11-20T05:59:59Z\"}", "05:59:59Z"},
        {FORMAT_TIME, 0, "{\"x\":\"2025-11-19T23:00:00Z\"}", "2025-11-19T23:00Z"},
        {FORMAT_TIME, 0, "{\"x\":\"yesterday\"}", "?"},
        {FORMAT_HASH, 0, "{\"x\":\"9c1e77aa01234567\"}", "9c1e77aa"},
        {FORMAT_YES, 0, "{\"x\":true}", "yes"},
        {FORMAT_YES, 0, "{\"x\":false}", "no"},
        {FORMAT_YES, 0, "{\"x\":null}", "?"},
        {FORMAT_LIST, 0, "{\"x\":[\"a\",\"b\"]}", "a, b"},
        {FORMAT_LIST, 0, "{\"x\":[]}", "-"},
        {FORMAT_LIST, 0, "{\"x\":null}", "?"},
        {FORMAT_PAIRS, 0, "{\"x\":{\"a\":1200,\"b\":\"c\"}}", "a 1,200, b c"},
        {FORMAT_PAIRS, 0, "{\"x\":{}}", "-"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(shown(cases[i].format, cases[i].flags, cases[i].json), cases[i].text);
}

static void names_for_completion(void *ctx, enum arg_kind kind, struct buf *out)
{
    (void)ctx;
    buf_str(out, kind == ARG_SITE ? "P01\nP02\n" : kind == ARG_RUN ? "r-1\n" : "");
}

static void completion_offers_what_fits(void **state)
{
    (void)state;
    static const struct {
        const char *line, *want;
    } cases[] = {
        {"st", "status\nstore\nstop\n"},
        {"upstream ", "add\nlist\ntest\nremove\n"},
        {"site remove ", "P01\nP02\n"},
        {"site remove P02 ", ""},
        {"--dir /x site remove P02", "P02\n"},
        {"sync show ", "r-1\n"},
        {"sync now --", "--dir\n--json\n--color\n--local\n--help\n--full\n--wait\n--timeout\n"},
        {"tree --below ", "P01\nP02\n"},
        {"wait P01 ", "P01\nP02\n"},
        {"status --color a", "auto\nalways\n"},
        {"help sy", "sync\n"},
        {"no such ", ""},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char line[100], *argv[16];
        int n;
        snprintf(line, sizeof line, "%s", cases[i].line);
        size_t len = strlen(line);
        bool open = len == 0 || line[len - 1] == ' ';
        words_of(line, argv, &n);
        if (open)
            argv[n++] = (char *)"";
        AUTO_BUF out = {0};
        complete_words((const char *const *)argv, (size_t)n, names_for_completion, NULL, &out);
        buf_u8(&out, 0);
        if (cases[i].want)
            assert_string_equal((const char *)out.data, cases[i].want);
        else
            assert_non_null(strstr((const char *)out.data, "site\n"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hint_of_an_error_is_a_command),
        cmocka_unit_test(usage_errors_name_the_nearest_word_and_a_command_that_parses),
        cmocka_unit_test(words_and_options_stand_in_any_order),
        cmocka_unit_test(the_table_holds_together),
        cmocka_unit_test(every_text_column_is_in_the_json),
        cmocka_unit_test(values_become_text),
        cmocka_unit_test(completion_offers_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

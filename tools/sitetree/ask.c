#include "tools/sitetree/run.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/sitetree/draw.h"
#include "tools/sitetree/views.h"

#define ASK_NS (30 * NS_PER_S)
#define ASK_LONG_NS (900 * NS_PER_S)
#define FILE_MAX (1000 * 1024) /* a request is at most 1 MiB, with its frame */

int ask_open(struct cli *c, int64_t timeout_ns, struct control **ret_control)
{
    struct stat st;
    const char *dir = cli_dir(c);
    int rc = control_open(cli_socket(c), timeout_ns, ret_control);
    if (rc != ERR_NOT_RUNNING)
        return rc;
    if (stat(dir, &st) != 0)
        return err_fail(ERR_NOT_RUNNING, "there is no site in %s; nothing was set up there", dir);
    char log[4096], time[32];
    snprintf(log, sizeof log, "%s/log", dir);
    if (stat(log, &st) == 0) {
        struct wall t = {st.st_mtim.tv_sec * NS_PER_S};
        return err_fail(ERR_NOT_RUNNING, "no sitetreed runs for %s; its last word in %s is of %s", dir, log,
            wall_text(t, time));
    }
    return err_fail(ERR_NOT_RUNNING, "no sitetreed runs for %s", dir);
}

/* The hint for an error of ask_open or a call. */
static const char *hint_of(struct cli *c, int rc)
{
    static char hint[4200];
    if (rc != ERR_NOT_RUNNING)
        return NULL;
    if (access(cli_dir(c), F_OK) != 0)
        return "sitetree help site init";
    snprintf(hint, sizeof hint, "sitetreed --dir %s", cli_dir(c));
    return hint;
}

int ask_fail(struct cli *c, int rc)
{
    return output_fail(&c->output, rc, hint_of(c, rc));
}

static json_t *list_of(const char *words)
{
    json_t *list = json_array();
    char *copy = strdup(words), *save = NULL;
    for (char *w = copy ? strtok_r(copy, ", ", &save) : NULL; w; w = strtok_r(NULL, ", ", &save))
        json_array_append_new(list, json_string(w));
    free(copy);
    return list;
}

/* Relative paths are meant from here, not from where the daemon is. A key block is no path. */
static json_t *paths_of(const char *text)
{
    AUTO_BUF out = {0};
    AUTO_FREE char *here = getcwd(NULL, 0);
    if (!here || strncmp(text, "-----", 5) == 0)
        return json_string(text);
    for (const char *p = text; *p; p += strspn(p, ",")) {
        size_t n = strcspn(p, ",");
        if (n)
            buf_fmt(&out, "%s%s%s%.*s", out.len ? "," : "", *p == '/' ? "" : here, *p == '/' ? "" : "/",
                (int)n, p);
        p += n;
    }
    return json_stringn((const char *)out.data, out.len);
}

static json_t *value_of(enum option_id id, const char *text)
{
    int64_t ns;
    switch (option_rows[id].kind) {
    case OPTION_FLAG: /* --no-x is false for x */
        return json_boolean(strncmp(option_rows[id].name, "no-", 3) != 0);
    case OPTION_LIST:
        return list_of(text);
    case OPTION_DURATION: /* checked when it was parsed */
        return duration_parse(text, &ns) ? NULL
               : ns % NS_PER_S           ? json_real((double)ns / 1e9)
                                         : json_integer(ns / NS_PER_S);
    case OPTION_NUMBER:
        return json_integer(atoll(text));
    case OPTION_FILE:
        return paths_of(text);
    case OPTION_TEXT:
    case OPTION_CHOICE:
        break;
    }
    return json_string(text);
}

json_t *ask_args(const struct cli *c)
{
    json_t *args = json_object();
    for (size_t i = 0; i < c->n_args && i < COUNT_OF(c->command->args); i++)
        if (c->command->args[i].key)
            json_object_set_new(args, c->command->args[i].key, json_string(c->args[i]));
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (c->options[i] && option_rows[i].key)
            json_object_set_new(args, option_rows[i].key, value_of((enum option_id)i, c->options[i]));
    return args;
}

static int keep_reply(void *ctx, json_t *reply)
{
    json_t **kept = ctx;
    json_decref(*kept);
    *kept = json_incref(reply);
    return 0;
}

int ask_once(struct control *control, const char *command, json_t *args, json_t **ret_reply, int *ret_exit)
{
    json_t *reply = NULL;
    int rc = control_call(control, command, args, keep_reply, &reply, ret_exit);
    if (rc)
        json_decref(reply);
    else
        *ret_reply = reply;
    return rc;
}

bool ask_is_error(const json_t *reply)
{
    const char *schema = json_string_value(json_object_get(reply, "schema"));
    return schema && strcmp(schema, "sitetree.error/1") == 0;
}

static void take_time(struct output *o, const json_t *reply)
{
    struct wall t;
    const char *as_of = json_string_value(json_object_get(reply, "as_of"));
    o->as_of = as_of && wall_parse(as_of, &t) == 0 ? t : clock_wall(&clock_real);
}

static const char *text_or(const json_t *from, const char *key, const char *other)
{
    const char *s = json_string_value(json_object_get(from, key));
    return s ? s : other;
}

/* The daemon does not know which words were typed: where they are off, their own help; where a thing is not
 * there or is there already, the list of such things. */
static const char *better_hint(const struct cli *c, const char *code, const char *hint)
{
    static char out[96];
    char name[64];
    const char *control = c->command->control ? c->command->control : "";
    if (strcmp(code, "usage") == 0) {
        snprintf(out, sizeof out, "sitetree help %s", command_name(c->command, name));
        return out;
    }
    if (strcmp(code, "not-found") != 0 && strcmp(code, "exists") != 0)
        return hint;
    if (strcmp(control, "site.revoke") == 0)
        return "sitetree site invites";
    if (strncmp(control, "update.", 7) == 0)
        return "sitetree catalogue list";
    if (!command_find(c->noun, "list"))
        return strcmp(hint, "sitetree --help") == 0 ? "sitetree status" : hint;
    snprintf(out, sizeof out, "sitetree %s list", c->noun);
    return out;
}

void ask_show(struct cli *c, json_t *reply)
{
    struct output *o = &c->output;
    if (ask_is_error(reply)) {
        const char *code = text_or(reply, "code", "internal");
        output_error(o, code, text_or(reply, "message", "?"),
            better_hint(c, code, text_or(reply, "hint", "sitetree status")));
    } else if (o->json) {
        output_reply(o, reply);
    } else {
        take_time(o, reply);
        const json_t *data = json_object_get(reply, "data");
        if (c->command->view)
            view_show(o, c->command->view, data);
    }
}

static int64_t silence_of(const struct cli *c)
{
    return c->command->flags & COMMAND_LONG ? ASK_LONG_NS : ASK_NS;
}

/* Opens, asks once with these arguments (taken), gives the reply. */
static int ask(struct cli *c, json_t *args, json_t **ret_reply, int *ret_exit)
{
    struct control *control = NULL;
    int rc = args ? ask_open(c, silence_of(c), &control) : -ENOMEM;
    if (rc == 0)
        rc = ask_once(control, c->command->control, args, ret_reply, ret_exit);
    control_close(control);
    json_decref(args);
    return rc;
}

static int show_and_exit(struct cli *c, json_t *reply, int exit_code)
{
    ask_show(c, reply);
    json_decref(reply);
    return exit_code;
}

int run_ask(struct cli *c)
{
    json_t *reply = NULL;
    int exit_code = 1;
    int rc = ask(c, ask_args(c), &reply, &exit_code);
    return rc ? ask_fail(c, rc) : show_and_exit(c, reply, exit_code);
}

int run_upstream_add(struct cli *c)
{
    json_t *reply = NULL, *args = ask_args(c);
    int exit_code = 1;
    bool system = cli_has(c, OPT_FROM_SYSTEM), path = cli_has(c, OPT_PATH), uri = cli_has(c, OPT_URI);
    if (system + path + uri != 1 || (!system && c->n_args == 0)) {
        json_decref(args);
        return output_fail(&c->output,
            err_fail(ERR_USAGE, "say where from: NAME with --uri or with --path, or --from-system alone"),
            "sitetree help upstream add");
    }
    if (!system && !cli_has(c, OPT_KIND))
        json_object_set_new(args, "kind", json_string(path ? "directory" : "apt"));
    int rc = ask(c, args, &reply, &exit_code);
    return rc ? ask_fail(c, rc) : show_and_exit(c, reply, exit_code);
}

static bool confirmed(struct cli *c)
{
    char answer[8] = "";
    (void)c;
    fprintf(stderr, "go on? [y/N] ");
    fflush(stderr);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int run_destroy(struct cli *c)
{
    char name[64];
    int exit_code = 1;
    json_t *reply = NULL;
    if (cli_has(c, OPT_YES) || cli_has(c, OPT_DRY_RUN))
        return run_ask(c);
    if (!isatty(STDIN_FILENO) || c->output.json) {
        char hint[512];
        snprintf(
            hint, sizeof hint, "sitetree %s %.200s --dry-run", command_name(c->command, name), c->args[0]);
        return output_fail(&c->output,
            err_fail(ERR_USAGE, "this destroys something, and nobody can be asked here; say --yes"), hint);
    }
    json_t *args = ask_args(c);
    json_object_set_new(args, "dry_run", json_true());
    int rc = ask(c, args, &reply, &exit_code);
    if (rc)
        return ask_fail(c, rc);
    bool error = ask_is_error(reply);
    if (!error)
        fprintf(stderr, "sitetree %s will %s:\n", command_name(c->command, name), c->command->sentence);
    ask_show(c, reply);
    json_decref(reply);
    if (error)
        return exit_code;
    if (!confirmed(c)) {
        output_note(&c->output, "nothing was changed");
        return 1;
    }
    return run_ask(c);
}

int run_tree(struct cli *c)
{
    json_t *reply = NULL;
    int exit_code = 1;
    int rc = ask(c, ask_args(c), &reply, &exit_code);
    if (rc)
        return ask_fail(c, rc);
    if (c->output.json || ask_is_error(reply))
        return show_and_exit(c, reply, exit_code);
    take_time(&c->output, reply);
    draw_tree(&c->output, json_object_get(reply, "data"), cli_has(c, OPT_PROBLEMS),
        cli_has(c, OPT_DEPTH) ? atol(c->options[OPT_DEPTH]) : -1);
    json_decref(reply);
    return exit_code;
}

static const char *sort_key;

/* The largest first; what is unknown before all others, since it is the most worth a look. */
static int by_number(const void *a, const void *b)
{
    const json_t *x = view_at(*(json_t *const *)a, sort_key), *y = view_at(*(json_t *const *)b, sort_key);
    double p = json_is_number(x) ? json_number_value(x) : 1e300,
           q = json_is_number(y) ? json_number_value(y) : 1e300;
    return (p < q) - (p > q);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(text_or(*(json_t *const *)a, "link", ""), text_or(*(json_t *const *)b, "link", ""));
}

static void sort_links(json_t *links, const char *order)
{
    size_t n = json_array_size(links);
    json_t **rows = n ? calloc(n, sizeof(json_t *)) : NULL;
    if (!rows)
        return;
    for (size_t i = 0; i < n; i++)
        rows[i] = json_incref(json_array_get(links, i));
    sort_key = strcmp(order, "lag") == 0   ? "seen_by_parent"
               : strcmp(order, "rtt") == 0 ? "rtt"
                                           : "queue_bytes";
    qsort(rows, n, sizeof(json_t *), strcmp(order, "link") == 0 ? by_name : by_number);
    for (size_t i = 0; i < n; i++)
        json_array_set_new(links, i, rows[i]);
    free(rows);
}

int run_links(struct cli *c)
{
    json_t *reply = NULL;
    int exit_code = 1;
    int rc = ask(c, ask_args(c), &reply, &exit_code);
    if (rc)
        return ask_fail(c, rc);
    if (cli_has(c, OPT_SORT))
        sort_links(json_object_get(json_object_get(reply, "data"), "links"), c->options[OPT_SORT]);
    return show_and_exit(c, reply, exit_code);
}

struct follow {
    struct cli *c;
    bool more;
};

static int on_events(void *ctx, json_t *reply)
{
    struct follow *f = ctx;
    const json_t *events = view_at(reply, "data.events");
    if (f->c->output.json || ask_is_error(reply) || !f->more) {
        /* An empty first answer of a stream says nothing. */
        if (f->c->output.json || ask_is_error(reply) || json_array_size(events) > 0 ||
            !cli_has(f->c, OPT_FOLLOW)) {
            ask_show(f->c, reply);
            f->more = true;
        }
    } else {
        take_time(&f->c->output, reply);
        view_table(&f->c->output, view_events.sections, events, true);
    }
    fflush(f->c->output.out);
    return ferror(f->c->output.out) ? -EPIPE : 0;
}

int run_events(struct cli *c)
{
    struct follow f = {c, false};
    struct control *control = NULL;
    json_t *args = ask_args(c);
    int exit_code = 1;
    const char *since = c->options[OPT_SINCE];
    int64_t ns;
    if (since && duration_parse(since, &ns) == 0) {
        char time[32];
        struct wall t = {clock_wall(&clock_real).ns - ns};
        json_object_set_new(args, "since", json_string(wall_text(t, time)));
    }
    int rc = ask_open(c, cli_has(c, OPT_FOLLOW) ? 0 : ASK_NS, &control);
    if (rc == 0)
        rc = control_call(control, c->command->control, args, on_events, &f, &exit_code);
    control_close(control);
    json_decref(args);
    return rc == -EPIPE ? 0 : rc ? ask_fail(c, rc) : exit_code;
}

static int read_file(const char *path, struct buf *out)
{
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_fail(-errno, "%s: %s", path, strerrordesc_np(errno));
    for (;;) {
        buf_reserve(out, 65536);
        ssize_t n = out->err ? -1 : read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        int rc = n < 0 ? err_fail(-errno, "%s: %s", path, strerrordesc_np(errno)) : 0;
        if (n > 0)
            out->len += (size_t)n;
        if (n > 0 && out->len > FILE_MAX)
            rc = err_fail(ERR_TOO_LARGE, "%s: more than %d KiB; publish it in parts", path, FILE_MAX / 1024);
        if (n <= 0 || rc) {
            close(fd);
            return rc;
        }
    }
}

int run_publish(struct cli *c)
{
    AUTO_BUF text = {0};
    json_error_t e;
    json_t *reply = NULL;
    int exit_code = 1;
    int rc = read_file(c->args[0], &text);
    if (rc)
        return output_fail(&c->output, rc, "sitetree help update publish");
    json_t *json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &e);
    if (!json) {
        rc = err_fail(ERR_MALFORMED, "%s:%d:%d: %s", c->args[0], e.line, e.column, e.text);
        return output_fail(&c->output, rc, "sitetree help update publish");
    }
    json_decref(json);
    json_t *args = ask_args(c);
    json_object_set_new(args, "json", json_stringn((const char *)text.data, text.len));
    rc = ask(c, args, &reply, &exit_code);
    return rc ? ask_fail(c, rc) : show_and_exit(c, reply, exit_code);
}

/* The word is the id of an invitation, or the site that it was made for. */
int run_revoke(struct cli *c)
{
    struct control *control = NULL;
    json_t *list = NULL, *reply = NULL, *row;
    size_t i;
    int exit_code = 1;
    const char *key = "site";
    int rc = ask_open(c, ASK_NS, &control);
    if (rc == 0)
        rc = ask_once(control, "site.invites", NULL, &list, &exit_code);
    if (rc == 0) {
        json_array_foreach(view_at(list, "data.invites"), i,
            row) if (strcmp(text_or(row, "id", ""), c->args[0]) == 0) key = "id";
        json_t *args = json_pack("{s:s}", key, c->args[0]);
        rc = ask_once(control, c->command->control, args, &reply, &exit_code);
        json_decref(args);
    }
    json_decref(list);
    control_close(control);
    return rc ? ask_fail(c, rc) : show_and_exit(c, reply, exit_code);
}

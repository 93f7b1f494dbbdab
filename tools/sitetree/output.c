#include "tools/sitetree/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/control/answer.h"

#define PROGRESS_NS (5 * NS_PER_S)

static size_t terminal_width(FILE *f)
{
    struct winsize w;
    const char *columns = getenv("COLUMNS");
    if (!isatty(fileno(f)))
        return 0;
    if (ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return columns && atoi(columns) > 0 ? (size_t)atoi(columns) : 80;
}

void output_init(struct output *o, bool json, bool local, const char *choice)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    *o = (struct output){.out = stdout, .err = stderr, .json = json, .local = local, .command = ""};
    o->width = terminal_width(stdout);
    o->err_terminal = isatty(STDERR_FILENO) && (!term || strcmp(term, "dumb") != 0);
    if (choice && strcmp(choice, "auto") != 0)
        o->color = strcmp(choice, "always") == 0;
    else
        o->color =
            !(no_color && no_color[0]) && !(term && strcmp(term, "dumb") == 0) && isatty(STDOUT_FILENO);
    if (json)
        o->color = false;
}

const char *output_color(const struct output *o, enum color c)
{
    switch (o->color ? c : COLOR_NONE) {
    case COLOR_NONE:
        return "";
    case COLOR_GREEN:
        return "\033[32m";
    case COLOR_YELLOW:
        return "\033[33m";
    case COLOR_RED:
        return "\033[31m";
    case COLOR_BLUE:
        return "\033[34m";
    case COLOR_DIM:
        return "\033[2m";
    case COLOR_BOLD:
        return "\033[1m";
    }
    return "";
}

const char *output_plain(const struct output *o)
{
    return o->color ? "\033[0m" : "";
}

enum color output_class_color(const char *class_name)
{
    static const struct {
        const char *name;
        enum color color;
    } rows[] = {{"live", COLOR_GREEN}, {"working", COLOR_BLUE}, {"behind", COLOR_YELLOW},
        {"broken", COLOR_RED}, {"not-heard", COLOR_RED}, {"not heard", COLOR_RED}, {"silent", COLOR_RED},
        {"refused", COLOR_RED}, {"held", COLOR_DIM}, {"failed", COLOR_RED}, {"succeeded", COLOR_GREEN}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, class_name) == 0)
            return rows[i].color;
    return COLOR_NONE;
}

void output_text(struct output *o, struct view text)
{
    if (text.len)
        fwrite(text.data, 1, text.len, o->out);
}

static void print_json(struct output *o, json_t *object)
{
    json_dumpf(object, o->out, JSON_COMPACT | JSON_REAL_PRECISION(15));
    fputc('\n', o->out);
    fflush(o->out);
}

void output_reply(struct output *o, json_t *reply)
{
    json_t *line = json_object();
    static const char *const keys[] = {"schema", "as_of", "code", "message", "hint", "data"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (json_object_get(reply, keys[i]))
            json_object_set(line, keys[i], json_object_get(reply, keys[i]));
    print_json(o, line);
    json_decref(line);
}

void output_data(struct output *o, const char *schema, json_t *data)
{
    char name[80], time[32];
    snprintf(name, sizeof name, "sitetree.%s/1", schema);
    json_t *line = json_pack(
        "{s:s, s:s, s:o}", "schema", name, "as_of", wall_text(clock_wall(&clock_real), time), "data", data);
    print_json(o, line);
    json_decref(line);
}

/* A hint is pasted as it stands, so it must go to the site that was asked. */
static const char *hint_with_dir(const struct output *o, const char *hint, char *out, size_t size)
{
    if (!hint || !hint[0])
        return "";
    bool elsewhere = strcmp(o->command, "site join") == 0; /* what helps is done at the parent */
    if (!o->dir || elsewhere || strncmp(hint, "sitetree", 8) != 0 || strstr(hint, "--dir ") ||
        strstr(hint, "help") || strstr(hint, "--version"))
        return hint;
    snprintf(out, size, "%s --dir %s", hint, o->dir);
    return out;
}

void output_error(struct output *o, const char *code, const char *message, const char *hint)
{
    char whole[4400];
    hint = hint_with_dir(o, hint, whole, sizeof whole);
    output_progress(o, NULL, false);
    if (o->json) {
        json_t *line = json_pack("{s:s, s:s, s:s, s:s}", "schema", "sitetree.error/1", "code", code,
            "message", message, "hint", hint);
        print_json(o, line);
        json_decref(line);
        return;
    }
    fflush(o->out);
    fprintf(o->err, "sitetree%s%s: %s\n", o->command[0] ? " " : "", o->command, message);
    if (hint[0])
        fprintf(o->err, "try: %s\n", hint);
}

int output_fail(struct output *o, int code, const char *hint)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", err_text(code));
    output_error(o, err_word(code), text, hint ? hint : err_hint(code));
    return control_exit_of(code);
}

void output_progress(struct output *o, const char *text, bool always)
{
    if (o->err_terminal) {
        if (text) {
            struct winsize w;
            int width = ioctl(fileno(o->err), TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : 79;
            fprintf(o->err, "\r%.*s\033[K", width, text);
        } else if (o->progress_open) {
            fprintf(o->err, "\r\033[K");
        }
        o->progress_open = text != NULL;
        fflush(o->err);
        return;
    }
    struct mono now = clock_mono(&clock_real);
    if (!text || (!always && o->progress_at.ns && now.ns - o->progress_at.ns < PROGRESS_NS))
        return;
    o->progress_at = now;
    fprintf(o->err, "%s\n", text);
    fflush(o->err);
}

void output_note(struct output *o, const char *fmt, ...)
{
    va_list ap;
    output_progress(o, NULL, false);
    fflush(o->out);
    va_start(ap, fmt);
    vfprintf(o->err, fmt, ap);
    va_end(ap);
    fputc('\n', o->err);
}

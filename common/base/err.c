#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/id.h"

static __thread char text[1024];
static __thread int text_code;

struct row {
    int code;
    const char *word, *sentence, *hint;
};

static const struct row rows[] = {
#define ERR_ROW(name, number, word, text, hint) {number, word, text, hint},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

static const struct row *find(int code)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

const char *err_word(int code)
{
    const struct row *r = find(code);
    if (code == 0)
        return "ok";
    if (r)
        return r->word;
    const char *name = strerrorname_np(-code);
    return name ? name : "unknown";
}

const char *err_sentence(int code)
{
    const struct row *r = find(code);
    if (code == 0)
        return "done";
    if (r)
        return r->sentence;
    const char *s = strerrordesc_np(-code);
    return s ? s : "unknown error";
}

const char *err_hint(int code)
{
    const struct row *r = find(code);
    return r ? r->hint : "sitetree status";
}

int err_from_word(const char *word)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].word, word) == 0)
            return rows[i].code;
    return ERR_INTERNAL;
}

/* Formats into a local first: an argument may be err_text() itself. */
static void keep(int code, const char *before, const char *fmt, va_list ap)
{
    char line[sizeof text];
    int n = vsnprintf(line, sizeof line, fmt, ap);
    size_t used = n < 0 ? 0 : strnlen(line, sizeof line - 1);
    if (before && used + 3 < sizeof line) {
        size_t rest = strnlen(before, sizeof line - used - 3);
        memcpy(line + used, ": ", 2);
        memcpy(line + used + 2, before, rest);
        used += 2 + rest;
    }
    line[used] = 0;
    text_make_clean(line); /* it may quote what strangers sent, and ends on terminals and in messages */
    memcpy(text, line, used + 1);
    text_code = code;
}

int err_fail(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    keep(code, NULL, fmt, ap);
    va_end(ap);
    return code;
}

int err_wrap(int code, const char *fmt, ...)
{
    if (code == 0)
        return 0;
    va_list ap;
    va_start(ap, fmt);
    keep(code, err_text(code), fmt, ap);
    va_end(ap);
    return code;
}

const char *err_text(int code)
{
    return code && code == text_code ? text : err_sentence(code);
}

void err_clear(void)
{
    text_code = 0;
}

void err_abort(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: invariant broken: %s\n", file, line, what);
    abort();
}

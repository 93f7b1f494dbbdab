#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int err_fail(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_code = code;
    return code;
}

int err_wrap(int code, const char *fmt, ...)
{
    if (code == 0)
        return 0;
    char before[sizeof text];
    snprintf(before, sizeof before, "%s", err_text(code));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n + 3 < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ": %s", before);
    text_code = code;
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

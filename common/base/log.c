#include "common/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/id.h"

static const char *process_name = "sitetree";
static char site_name[64];
static enum log_format form;
static enum log_level most_level = LOG_INFO;

static const char *const level_words[] = {"error", "warning", "info", "debug"};

void log_init(const char *process, enum log_format format, enum log_level most)
{
    process_name = process;
    form = format;
    most_level = most;
}

void log_set_site(const char *site)
{
    snprintf(site_name, sizeof site_name, "%s", site);
}

static void quoted(struct buf *b, const char *s)
{
    buf_u8(b, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            buf_u8(b, '\\');
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            buf_fmt(b, "\\u%04x", (unsigned char)*s);
        else
            buf_u8(b, (uint8_t)*s);
    }
    buf_u8(b, '"');
}

static void pair(struct buf *b, const char *key, const char *value)
{
    AUTO_FREE char *copy = NULL;
    /* A value that is not clean must reach neither a terminal nor a JSON reader as it is. */
    if (!text_is_clean(view_str(value)) && (copy = strdup(value)))
        value = text_make_clean(copy);
    if (form == LOG_JSON) {
        buf_fmt(b, ",\"%s\":", key);
        quoted(b, value);
    } else {
        buf_fmt(b, " %s=", key);
        if (*value && !strpbrk(value, " \"\\=\n\t"))
            buf_str(b, value);
        else
            quoted(b, value);
    }
}

void log_record(enum log_level level, const char *event, ...)
{
    if (level > most_level)
        return;
    AUTO_BUF b = {0};
    char t[32];
    wall_text(clock_wall(&clock_real), t);
    if (form == LOG_JSON)
        buf_fmt(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"site\":\"%s\",\"event\":\"%s\"",
            t, level_words[level], process_name, site_name, event);
    else
        buf_fmt(&b, "%s %-7s %s %s %s", t, level_words[level], process_name, site_name[0] ? site_name : "-",
            event);
    va_list ap;
    va_start(ap, event);
    for (const char *k; (k = va_arg(ap, const char *));) {
        const char *v = va_arg(ap, const char *);
        pair(&b, k, v ? v : "?");
    }
    va_end(ap);
    buf_str(&b, form == LOG_JSON ? "}\n" : "\n");
    if (!b.err && write(STDERR_FILENO, b.data, b.len) < 0)
        return; /* nowhere left to say so */
}

#include "common/config/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/id.h"

static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};

const char *config_type_text(enum config_type type)
{
    switch (type) {
    case CONFIG_TYPE_TEXT:
        return "text";
    case CONFIG_TYPE_PATH:
        return "absolute path";
    case CONFIG_TYPE_ENDPOINT:
        return "host:port";
    case CONFIG_TYPE_DURATION:
        return "duration";
    case CONFIG_TYPE_BYTES:
        return "bytes";
    case CONFIG_TYPE_RATE:
        return "bytes/s";
    case CONFIG_TYPE_NUMBER:
        return "number";
    case CONFIG_TYPE_FLAG:
        return "yes or no";
    case CONFIG_TYPE_LOG_FORMAT:
        return "text or json";
    case CONFIG_TYPE_LOG_LEVEL:
        return "error, warning, info or debug";
    }
    return "text";
}

bool value_is_text(enum config_type type)
{
    return type == CONFIG_TYPE_TEXT || type == CONFIG_TYPE_PATH || type == CONFIG_TYPE_ENDPOINT ||
           type == CONFIG_TYPE_LOG_FORMAT || type == CONFIG_TYPE_LOG_LEVEL;
}

int bytes_parse(const char *text, uint64_t *ret_bytes)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"", 1}, {"B", 1}, {"KiB", UINT64_C(1) << 10}, {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30}, {"TiB", UINT64_C(1) << 40}, {"kB", 1000}, {"MB", 1000000},
        {"GB", 1000000000}, {"TB", UINT64_C(1000000000000)}};
    char *end = NULL;
    errno = 0;
    unsigned long long n = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (end && errno == 0)
        for (size_t i = 0; i < COUNT_OF(units); i++)
            if (strcmp(end, units[i].unit) == 0 && n <= UINT64_MAX / units[i].bytes) {
                *ret_bytes = n * units[i].bytes;
                return 0;
            }
    return err_fail(ERR_MALFORMED, "'%.40s' is not a size like 512, 64KiB, 4MiB or 1GB", text);
}

static int rate_parse(const char *text, uint64_t *ret_bytes)
{
    char plain[64];
    size_t n = strlen(text);
    if (n > 2 && strcmp(text + n - 2, "/s") == 0)
        n -= 2;
    if (n >= sizeof plain)
        n = sizeof plain - 1;
    memcpy(plain, text, n);
    plain[n] = 0;
    return bytes_parse(plain, ret_bytes);
}

static int number_parse(const char *text, uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long n = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno)
        return err_fail(ERR_MALFORMED, "'%.40s' is not a whole number", text);
    *ret_number = n;
    return 0;
}

static int flag_parse(const char *text, uint64_t *ret_flag)
{
    static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false", "off"};
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret_flag = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return err_fail(ERR_MALFORMED, "'%.40s' is neither yes nor no", text);
}

static int endpoint_check(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || strlen(text) > 255 || number_parse(colon + 1, &port) || port > 65535)
        return err_fail(ERR_MALFORMED, "'%.60s' is not host:port with a port up to 65535", text);
    size_t n = (size_t)(colon - text);
    bool bracket = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool fits = isalnum(c) || strchr("-._*", c) || (bracket && strchr("[]:%", c));
        if (!fits)
            return err_fail(ERR_MALFORMED, "'%.60s' is not host:port (an IPv6 address stands in [])", text);
    }
    return 0;
}

static int choice_check(const char *const *words, const char *text, const char *all)
{
    for (size_t i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return 0;
    return err_fail(ERR_MALFORMED, "'%.40s' is not %s", text, all);
}

static int text_check(const struct config_row *row, const char *text)
{
    if (!text_is_clean(view_str(text)) || strchr(text, '\n') || strlen(text) > 4000)
        return err_fail(ERR_MALFORMED, "the text is too long or has control characters");
    switch (row->type) {
    case CONFIG_TYPE_PATH:
        return text[0] == '/' ? 0 : err_fail(ERR_MALFORMED, "'%.60s' is not an absolute path", text);
    case CONFIG_TYPE_ENDPOINT:
        return endpoint_check(text);
    case CONFIG_TYPE_LOG_FORMAT:
        return choice_check(log_formats, text, config_type_text(row->type));
    case CONFIG_TYPE_LOG_LEVEL:
        return choice_check(log_levels, text, config_type_text(row->type));
    default:
        return 0;
    }
}

static int number_of(const struct config_row *row, const char *text, uint64_t *ret_number)
{
    int64_t ns;
    int rc;
    switch (row->type) {
    case CONFIG_TYPE_DURATION:
        rc = isdigit((unsigned char)text[0])
                 ? duration_parse(text, &ns)
                 : err_fail(ERR_MALFORMED, "'%.40s' is not a duration like 30s, 15m, 24h or 7d", text);
        if (rc == 0)
            *ret_number = (uint64_t)ns;
        return rc;
    case CONFIG_TYPE_BYTES:
        return bytes_parse(text, ret_number);
    case CONFIG_TYPE_RATE:
        return rate_parse(text, ret_number);
    case CONFIG_TYPE_FLAG:
        return flag_parse(text, ret_number);
    default:
        return number_parse(text, ret_number);
    }
}

static int range_check(const struct config_row *row, const char *text, uint64_t number)
{
    uint64_t least, most;
    if (!row->least[0])
        return 0;
    if (number_of(row, row->least, &least) || number_of(row, row->most, &most))
        return ERR_INTERNAL;
    if (number < least || number > most)
        return err_fail(ERR_CONFIG, "%s: %.40s is outside %s to %s", row->name, text, row->least, row->most);
    return 0;
}

int value_parse(const struct config_row *row, const char *text, struct config_value *ret_value)
{
    struct config_value v = {0};
    int rc = value_is_text(row->type) ? text_check(row, text) : number_of(row, text, &v.number);
    if (rc)
        return err_fail(ERR_CONFIG, "%s: %s", row->name, err_text(rc));
    if (value_is_text(row->type)) {
        v.text = strdup(text);
        if (!v.text)
            return -ENOMEM;
    } else if ((rc = range_check(row, text, v.number))) {
        return rc;
    }
    *ret_value = v;
    return 0;
}

static void print_quoted(const char *text, struct buf *out)
{
    buf_u8(out, '"');
    for (const char *p = text; *p; p++) {
        if (strchr("\"\\$", *p))
            buf_u8(out, '\\');
        buf_u8(out, (uint8_t)*p);
    }
    buf_u8(out, '"');
}

static void print_unit(
    uint64_t number, const char *const *units, const uint64_t *sizes, size_t n, struct buf *out)
{
    size_t i = 0;
    while (i + 1 < n && (number == 0 || number % sizes[i]))
        i++;
    buf_fmt(out, "%" PRIu64 "%s", number / sizes[i], units[i]);
}

void value_print(const struct config_row *row, const struct config_value *v, struct buf *out)
{
    static const char *const times[] = {"d", "h", "m", "s", "ms"};
    static const uint64_t time_sizes[] = {UINT64_C(86400000000000), UINT64_C(3600000000000),
        UINT64_C(60000000000), UINT64_C(1000000000), UINT64_C(1000000)};
    static const char *const sizes[] = {"TiB", "GiB", "MiB", "KiB", ""};
    static const uint64_t size_sizes[] = {
        UINT64_C(1) << 40, UINT64_C(1) << 30, UINT64_C(1) << 20, UINT64_C(1) << 10, 1};
    switch (row->type) {
    case CONFIG_TYPE_DURATION:
        print_unit(v->number, times, time_sizes, v->number ? COUNT_OF(times) : 4, out);
        break;
    case CONFIG_TYPE_BYTES:
    case CONFIG_TYPE_RATE:
        print_unit(v->number, sizes, size_sizes, COUNT_OF(sizes), out);
        break;
    case CONFIG_TYPE_NUMBER:
        buf_fmt(out, "%" PRIu64, v->number);
        break;
    case CONFIG_TYPE_FLAG:
        buf_str(out, v->number ? "yes" : "no");
        break;
    case CONFIG_TYPE_LOG_FORMAT:
    case CONFIG_TYPE_LOG_LEVEL:
        buf_str(out, v->text);
        break;
    default:
        print_quoted(v->text ? v->text : "", out);
    }
}

#include "common/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct mono real_mono(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (struct mono){t.tv_sec * NS_PER_S + t.tv_nsec};
}

static struct wall real_wall(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (struct wall){t.tv_sec * NS_PER_S + t.tv_nsec};
}

const struct clock clock_real = {real_mono, real_wall, NULL};

char *wall_text(struct wall t, char out[32])
{
    time_t s = (time_t)(t.ns / NS_PER_S);
    struct tm tm;
    if (t.ns == 0 || !gmtime_r(&s, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(out, 32, "?");
    return out;
}

int wall_parse(const char *text, struct wall *ret_time)
{
    struct tm tm = {0};
    char back[32];
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t s = end && strcmp(end, "Z") == 0 ? (int64_t)timegm(&tm) : INT64_MAX;
    /* Written back it must be the same: strptime lets blanks, signs and a 31st of February pass. */
    if (s > INT64_MAX / NS_PER_S || s < INT64_MIN / NS_PER_S || s == 0 ||
        strcmp(wall_text((struct wall){s * NS_PER_S}, back), text) != 0)
        return err_fail(ERR_MALFORMED, "'%.40s' is not a time like 2026-11-20T06:10:20Z", text);
    ret_time->ns = s * NS_PER_S;
    return 0;
}

char *duration_text(int64_t ns, char out[24])
{
    int64_t s = ns / NS_PER_S;
    if (ns < 0)
        snprintf(out, 24, "?");
    else if (s < 10)
        snprintf(out, 24, "%.1f s", (double)ns / NS_PER_S);
    else if (s < 120)
        snprintf(out, 24, "%" PRId64 " s", s);
    else if (s < 7200)
        snprintf(out, 24, "%" PRId64 " min", s / 60);
    else if (s < 172800)
        snprintf(out, 24, "%" PRId64 " h %02d", s / 3600, (int)(s % 3600 / 60));
    else
        snprintf(out, 24, "%" PRId64 " d %d h", s / 86400, (int)(s % 86400 / 3600));
    return out;
}

int duration_parse(const char *text, int64_t *ret_ns)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"", NS_PER_S}, {"ms", NS_PER_MS}, {"s", NS_PER_S}, {"m", 60 * NS_PER_S},
        {"min", 60 * NS_PER_S}, {"h", 3600 * NS_PER_S}, {"d", 86400 * NS_PER_S}};
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && errno == 0)
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (strcmp(end, units[i].unit) == 0 && n <= INT64_MAX / units[i].ns) {
                *ret_ns = n * units[i].ns;
                return 0;
            }
    return err_fail(ERR_MALFORMED, "'%.40s' is not a duration like 30s, 15m, 24h or 7d", text);
}

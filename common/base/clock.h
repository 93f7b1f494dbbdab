/* Two kinds of time that never mix, behind an interface, and randomness behind another: the logic has neither
 * clock nor random source of its own, so the tests and the simulator can drive both. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct mono {
    int64_t ns; /* since an arbitrary start; never goes back; 0 means "never" */
};
struct wall {
    int64_t ns; /* since 1970-01-01T00:00:00Z; may jump; 0 means "unknown" */
};

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

struct clock {
    struct mono (*mono)(void *ctx);
    struct wall (*wall)(void *ctx);
    void *ctx;
};
extern const struct clock clock_real;
static inline struct mono clock_mono(const struct clock *c)
{
    return c->mono(c->ctx);
}
static inline struct wall clock_wall(const struct clock *c)
{
    return c->wall(c->ctx);
}

struct random_source {
    void (*fill)(void *ctx, void *out, size_t len);
    void *ctx;
};

/* RFC 3339 in UTC, "2026-11-20T06:10:20Z"; "?" for 0. out needs 32 bytes. */
char *wall_text(struct wall t, char out[32]);
/* "2026-11-20T06:10:20Z" to a time; ERR_MALFORMED. */
int wall_parse(const char *text, struct wall *ret_time) MUST_CHECK;
/* A duration for people: "0.4 s", "41 s", "12 min", "2 h 04", "6 d 23 h". out needs 24 bytes. */
char *duration_text(int64_t ns, char out[24]);
/* "30s", "15m", "24h", "7d", "250ms" or a bare number of seconds, to ns; ERR_MALFORMED. */
int duration_parse(const char *text, int64_t *ret_ns) MUST_CHECK;

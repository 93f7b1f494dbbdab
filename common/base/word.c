#include "common/base/word.h"

#include <string.h>

#define WORD_MAX 63

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t word_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX + 1;
    size_t before[WORD_MAX + 1], last[WORD_MAX + 1], now[WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        last[j] = j;
    memset(before, 0, sizeof before);
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t cost = a[i - 1] != b[j - 1];
            now[j] = least(least(last[j] + 1, now[j - 1] + 1), last[j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        memcpy(before, last, sizeof before);
        memcpy(last, now, sizeof last);
    }
    return last[m];
}

const char *word_nearest(const char *word, const char *const *words, size_t n)
{
    const char *best = NULL;
    size_t limit = strlen(word) / 3 + 1, distance = limit + 1, len = strlen(word);
    for (size_t i = 0; i < n; i++) {
        if (!words[i])
            continue;
        size_t d = word_distance(word, words[i]);
        /* A beginning of three letters or more is near, whatever is missing of the end. */
        if (len >= 3 && strncmp(word, words[i], len) == 0)
            d = least(d, 1);
        if (d < distance) {
            distance = d;
            best = words[i];
        }
    }
    return best;
}

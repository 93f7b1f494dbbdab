/* Nearness of words, for "did you mean": how many letters must be changed, added, dropped or swapped. */
#pragma once
#include <stddef.h>

/* Edit distance with swaps of neighbours; words longer than 63 bytes count as far away (64). */
size_t word_distance(const char *a, const char *b);
/* The nearest of n words (NULL entries are passed over), or NULL when none is near enough to be meant. */
const char *word_nearest(const char *word, const char *const *words, size_t n);

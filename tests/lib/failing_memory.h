/* Memory that fails on the n-th allocation, for programs linked with failing_memory_args (--wrap): only what
 * our own objects ask for, not what shared libraries do. Threading: one thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* The n-th allocation from now on fails, counted from 1, and all later ones when all is set; 0: none. */
void memory_fail_at(size_t n, bool all);
/* Whether one has failed since. */
bool memory_failed(void);

/* One fuzz target: takes any bytes, and aborts where a promise is broken. The same file is linked with
 * libFuzzer (option fuzz) and with replay.c, which runs it over a folder of inputs as an ordinary test. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PROMISE(cond) ((cond) ? (void)0 : abort())

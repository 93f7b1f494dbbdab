/* Values of the configuration: text to value, value to text, for each type. Internal to common/config. */
#pragma once
#include "common/config/config.h"

struct config_value {
    char *text;      /* texts, paths, endpoints, choices; owned by the configuration */
    uint64_t number; /* nanoseconds, bytes, numbers, flags */
    bool set;
    int line;
};

/* Parses and checks the range; ERR_CONFIG with a text that has neither file nor line; -ENOMEM. Text is owned
 * by the caller. */
int value_parse(const struct config_row *row, const char *text, struct config_value *ret_value) MUST_CHECK;
/* Appends the value as the file would have it, quoted where needed. */
void value_print(const struct config_row *row, const struct config_value *v, struct buf *out);
bool value_is_text(enum config_type type);

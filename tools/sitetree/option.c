#include "tools/sitetree/option.h"

#include <stddef.h>

const struct option_row option_rows[OPT_COUNT] = {
#define OPTION_ROW(id, name, letter, kind, meta, key, sentence)                                              \
    [id] = {name, letter, kind, meta, key, sentence},
    OPTION_TABLE(OPTION_ROW)
#undef OPTION_ROW
};

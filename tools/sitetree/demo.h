/* `sitetree demo`: a tree of sites on this machine. */
#pragma once
#include "tools/sitetree/command.h"

extern const struct screen demo_view;
/* Returns the exit code. */
int demo_run(struct cli *c);

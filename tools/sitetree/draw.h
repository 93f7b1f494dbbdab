/* Parts of the drawn views that commands with their own loop use. */
#pragma once
#include "tools/sitetree/view.h"

/* Appends one line, without its end, about a run: phase n of m, items, bytes, rate, time left. */
void draw_progress(const json_t *run, struct buf *line);
/* problems: only what is not fine and the way to it; depth -1: all levels. */
void draw_tree(struct output *o, const json_t *data, bool problems, long depth);

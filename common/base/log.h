/* One log record: time, level, process, site, event name, then key=value. Text and JSON are renderings of it.
 * Only programs log (io.c and main.c); libraries return errors. Never log keys or bodies. Threading: safe. */
#pragma once
#include "common/base/err.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/* process is borrowed for the life of the program. */
void log_init(const char *process, enum log_format format, enum log_level most);
void log_set_site(const char *site);
/* event: lower case with dashes, never changes. Pairs follow as key, value strings, and end with NULL:
 * log_record(LOG_INFO, "link-up", "peer", code, "after", dur, NULL); */
void log_record(enum log_level level, const char *event, ...) __attribute__((sentinel));

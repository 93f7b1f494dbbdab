/* Starting sitetreed for a folder: by systemd where its unit is there, else as a process of its own. */
#pragma once
#include "tools/sitetree/run.h"

/* Returns when the daemon answers and is ready, or had been running. ERR_NOT_RUNNING with the last line of
 * its log when it ends, ERR_TIMEOUT. ret_how (static storage): "was running", "by systemd", "process 4711".
 */
int start_daemon(struct cli *c, int64_t timeout_ns, const char **ret_how) MUST_CHECK;

/* Starting sitetreed for a folder: by systemd where its unit is there, else as a process of its own. */
#pragma once
#include "tools/sitetree/run.h"

/* Returns when the daemon answers and is ready, or had been running. ERR_NOT_RUNNING with the last line of
 * its log when it ends, ERR_TIMEOUT. ret_how (static storage): "was running", "by systemd", "process 4711".
 */
int start_daemon(struct cli *c, int64_t timeout_ns, const char **ret_how) MUST_CHECK;
/* Where the unit runs this site: its folder belongs to the unit's user from now on. */
int start_give(struct cli *c) MUST_CHECK;
/* The command that starts the daemon of this site. Static storage. */
const char *start_how(struct cli *c);

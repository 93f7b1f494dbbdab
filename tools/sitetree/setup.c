/* Beginning a tree, and joining one. */
#include "tools/sitetree/run.h"

int run_init(struct cli *c)
{
    return output_fail(&c->output, err_fail(ERR_INTERNAL, "this build has no node library"), NULL);
}

int run_join(struct cli *c)
{
    return output_fail(&c->output, err_fail(ERR_INTERNAL, "this build has no node library"), NULL);
}

/* What commands do that is more than asking and showing. Each returns the exit code. */
#pragma once
#include "common/control/client.h"
#include "tools/sitetree/command.h"

/* ask.c: the daemon */
int run_ask(struct cli *c);     /* the general case */
int run_destroy(struct cli *c); /* says what will happen, asks, and does it */
int run_tree(struct cli *c);
int run_links(struct cli *c);
int run_events(struct cli *c);
int run_publish(struct cli *c);
int run_revoke(struct cli *c);
int run_upstream_add(struct cli *c);

/* Opens the socket of the site; an error text that names the folder. */
int ask_open(struct cli *c, int64_t timeout_ns, struct control **ret_control) MUST_CHECK;
/* The arguments of the command line as those of the control command. NULL on no memory. */
json_t *ask_args(const struct cli *c);
/* One call with one answer. 0 and the reply, which is the caller's, also when it is an error of the daemon.
 */
int ask_once(
    struct control *control, const char *command, json_t *args, json_t **ret_reply, int *ret_exit) MUST_CHECK;
/* Shows an error of the two above, with the command that helps. Returns the exit code. */
int ask_fail(struct cli *c, int rc);
/* Shows a reply, or the error that it is. */
void ask_show(struct cli *c, json_t *reply);
bool ask_is_error(const json_t *reply);

/* wait.c */
int run_wait(struct cli *c);
int run_sync_now(struct cli *c);
/* Shows the progress of a run until it ends; NULL run: whatever runs. 0 with the last sync.show in ret_reply
 * (owned), ERR_TIMEOUT, errors of the call. */
int wait_run(
    struct cli *c, struct control *control, const char *run, int64_t until_ns, json_t **ret_reply) MUST_CHECK;

/* recall.c */
int run_recall(struct cli *c);

/* setup.c: what is done without a daemon */
int run_init(struct cli *c);
int run_join(struct cli *c);
int run_move(struct cli *c);

/* trust.c */
int run_trust_show(struct cli *c);
int run_trust_rotate(struct cli *c);

/* backup.c */
int run_backup(struct cli *c);
int run_restore(struct cli *c);

/* help.c */
int run_help(struct cli *c);
int run_version(struct cli *c);
void help_overview(struct buf *out);
void help_noun(const char *noun, struct buf *out);
void help_command(const struct command *command, struct buf *out);
/* "sitetree site invite SITE [--tier primary|...]" */
void help_usage(const struct command *command, struct buf *out);

/* complete.c */
int run_complete(struct cli *c);
/* Candidates for the last of n words (without "sitetree"), one a line; names(ctx, kind, out) appends those of
 * a kind. */
void complete_words(const char *const *words, size_t n,
    void (*names)(void *ctx, enum arg_kind kind, struct buf *out), void *ctx, struct buf *out);

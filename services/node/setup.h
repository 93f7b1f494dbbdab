/* Making a site's folder: a new hierarchy (central site), or joining a tree with a token. Linked by the CLI
 * and the daemon. Everything is written so that a crash at any point can be repeated with the same command.
 * Ownership: results are values. Threading: none shared. */
#pragma once
#include "services/node/join.h"

/* What the daemon needs from DIR: keys, chain, parents. keys->chain borrows from ret_chain. Fills site, tier,
 * hierarchy and parents of *opt. ERR_NOT_FOUND (no site in this folder: init or join), ERR_KEY_FILE, ERR_KEY,
 * ERR_SIGNATURE. */
int setup_load(
    const char *dir, struct node_options *opt, struct node_keys *ret_keys, struct buf *ret_chain) MUST_CHECK;

/* A new hierarchy in dir (made when it is not there). The root key is needed by nobody afterwards and can be
 * taken offline. A folder that such a call left half made is completed. ERR_EXISTS: there is a site in it, or
 * it holds other things; ERR_MALFORMED: a bad code. */
int setup_init_central(const char *dir, const char *code, struct hash *ret_hierarchy) MUST_CHECK;

struct setup_progress {
    /* step: "parent" (reached), "identity" (matches the token), "clock" (offset_ns: parent's minus ours; not
     * known yet when 0), "admitted"; text is for people. May be NULL. */
    void (*on_step)(void *ctx, const char *step, const char *text);
    void *ctx;
};
struct setup_result {
    struct site_code site, parent;
    enum tier tier;
    struct hash hierarchy;
    uint64_t generation, records; /* at the parent */
    bool again;                   /* the folder had joined with this token before */
};
/* Joins with a token. ERR_TOKEN, ERR_TOKEN_EXPIRED and ERR_EXISTS are found before the network is touched.
 * ERR_TIMEOUT: the parent did not answer; ERR_TOKEN_USED and what else the parent refuses; ERR_KEY,
 * ERR_SIGNATURE: its answer does not lead to the hierarchy of the token. After any of them the same call may
 * be made again. */
int setup_join(const char *dir, const char *token, int64_t timeout_ns, const struct setup_progress *progress,
    struct setup_result *ret_result) MUST_CHECK;

/* The site in dir goes below the parent that made the token (`site invite CODE --move`): with its keys, its
 * data and all that is below it. The daemon may run; it takes the new place with its next reload or start.
 * Repeating it is safe. Errors as of setup_join; ERR_NOT_FOUND: there is no site in dir. */
int setup_move(const char *dir, const char *token, int64_t timeout_ns, const struct setup_progress *progress,
    struct setup_result *ret_result) MUST_CHECK;

/* A new head key for the hierarchy of the central site in dir, vouched for by the root key in root_path
 * (NULL: the one in the folder), under the version after the one in force, at least `least`. A daemon takes
 * it over when it is told to load its trust again, or at its next start; every site with the first head.
 * Repeating it after a crash is safe. ERR_NOT_CENTRAL, ERR_KEY_FILE, ERR_KEY (not the root key of this
 * hierarchy), ERR_BUSY. */
int setup_rotate_head(
    const char *dir, const char *root_path, uint64_t least, uint64_t *ret_version) MUST_CHECK;

/* The sites of a demo: which there are, their folders, ports and processes. Every process is a child of this
 * one, in a group of its own, and ends with it. Ownership: demo_tree owns all. Threading: one thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/id.h"

#define DEMO_SITES_MAX 200

struct demo_site {
    char code[SITE_CODE_MAX + 1];
    const char *tier;
    int parent; /* index, -1 at the central site */
    int depth;
    unsigned port, hint_port;
    pid_t pid;       /* of its sitetreed, 0 when none runs */
    int exit_status; /* as wait gave it, once it ended by itself */
    bool ended;
    json_t *seen;  /* its own row of `tree`, as last heard; NULL before */
    json_t *run;   /* its sync.status, as last heard */
    bool verified; /* recomputed from its stored bytes, and equal */
};

struct demo_tree {
    char self[4096];   /* the sitetree program */
    char daemon[4096]; /* sitetreed */
    char sample[4096]; /* the script that makes the sample repository, "" where there is none */
    char dir[4096];
    bool made_dir; /* remove it in the end */
    size_t n;
    struct demo_site sites[DEMO_SITES_MAX];
};

/* Plans n sites (2 to DEMO_SITES_MAX): one central, about the square root of n primaries, branches below
 * them. Finds the programs beside this one. dir: a folder that is missing or empty, or NULL for a temporary
 * one. ERR_USAGE, ERR_EXISTS, ERR_NOT_FOUND (a program), errno values. */
int demo_tree_init(struct demo_tree *t, size_t n, const char *dir) MUST_CHECK;
/* Stops what runs (SIGTERM, and SIGKILL after 10 s) and removes the folder if it was made here. */
void demo_tree_done(struct demo_tree *t);

/* Free ports on loopback below the ephemeral ones, and a sitetree.conf for each site. */
int demo_tree_prepare(struct demo_tree *t) MUST_CHECK;
/* Writes the path of a file in the site's folder. */
const char *demo_site_path(
    const struct demo_tree *t, const struct demo_site *s, const char *file, char out[4200]);

/* Runs `sitetree --dir FOLDER words... --json` to its end. ret_data: the data of its answer, the caller's
 * (may be NULL). What it said is the text of the error when its exit code is not 0. */
int demo_command(const struct demo_tree *t, const struct demo_site *s, const char *const words[],
    json_t **ret_data) MUST_CHECK;
/* Runs any program to its end with its output in ret_output. ERR_UPSTREAM with its last line when it fails.
 */
int demo_program(const char *const argv[], struct buf *ret_output) MUST_CHECK;

int demo_site_start(struct demo_tree *t, struct demo_site *s) MUST_CHECK;
/* Notes which daemons ended; ERR_INTERNAL with the end of its log for the first that ended by itself. */
int demo_tree_check(struct demo_tree *t) MUST_CHECK;
/* One command over the site's control socket. ret_data is the caller's. The code of its error, when it
 * refuses. */
int demo_control(const struct demo_tree *t, const struct demo_site *s, const char *command, json_t *args,
    int64_t timeout_ns, json_t **ret_data) MUST_CHECK;

/* Waits so long, less after SIGINT or SIGTERM; true once one of them came. demo_signals_init first. */
void demo_signals_init(void);
bool demo_pause(int64_t ns);

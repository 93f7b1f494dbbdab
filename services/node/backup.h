/* A backup of a site: a plain folder with the files of the site, their digests (SHA256SUMS, as sha256sum
 * reads it) and a manifest. Made from copies of the stores that the running daemon puts into the site's
 * folder; restored into a folder that is missing or empty. Linked by the command line. Either a whole folder
 * appears under the name that was asked for, or none. Ownership: results are values. Threading: none shared.
 */
#pragma once
#include <jansson.h>

#include "services/node/trust.h"

#define BACKUP_SUMS "SHA256SUMS"
#define BACKUP_MANIFEST "manifest.json"

struct backup_result {
    struct site_code site;
    enum tier tier;
    struct hash hierarchy;
    uint64_t trust_version, bytes;
    unsigned files;
    bool root_key;    /* it is in it */
    char made[32];    /* restore: when the backup was made, as its manifest says */
    json_t *manifest; /* restore: owned by the caller; may be NULL */
};
/* dir: the site's folder, with copies of its stores in STORE_COPY_FOLDER. more: fields for the manifest
 * (taken). Every file is read back and compared before the folder gets its name. ERR_EXISTS (target),
 * ERR_NOT_FOUND (no copies, no site), ERR_DISK, ERR_CORRUPT (what was read back differs), -errno. */
int backup_make(const char *dir, const char *target, bool with_root_key, json_t *more,
    struct backup_result *ret_result) MUST_CHECK;
/* Checks every digest, and that chain and keys belong together; with dry nothing is written. A central site
 * is marked: it signs nothing in the epoch of the backup before it was released (restored.c). ERR_EXISTS (dir
 * holds something), ERR_NOT_FOUND (no backup, or a file of it), ERR_CORRUPT, ERR_KEY, ERR_DISK, -errno. */
int backup_restore(
    const char *backup, const char *dir, bool dry, struct backup_result *ret_result) MUST_CHECK;
/* Removes the copies of the stores from a site's folder. */
void backup_clear(const char *dir);

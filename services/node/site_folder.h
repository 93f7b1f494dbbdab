/* The folder of a site while it is made: names in it, its lock, keys that an earlier, broken call left. For
 * setup.c and setup_join.c. Ownership: a folder is a value. Threading: none shared. */
#pragma once
#include "common/crypto/crypto.h"

#define CHAIN_FILE "site.chain" /* written last: with it there is a site in the folder */
#define PARENTS_FILE "parents"
#define TOKEN_FILE "join.token" /* of a join that has begun and not ended */

struct site_folder {
    char dir[4096 - 64];
    char path[4096];
};

int site_folder_init(struct site_folder *p, const char *dir) MUST_CHECK;
/* Borrowed until the next call that takes a name. */
const char *site_folder_path(struct site_folder *p, const char *name);
bool site_folder_has(struct site_folder *p, const char *name);
int site_folder_make(const char *path) MUST_CHECK; /* 0700, or made so; -errno */
int site_folder_sync(const char *path) MUST_CHECK;
/* Only what a site puts there may lie in it; ERR_EXISTS names the other thing. */
int site_folder_check_empty(struct site_folder *p) MUST_CHECK;
/* Makes it, and holds it until *ret_lock is closed; ERR_BUSY when somebody else does. */
int site_folder_lock(struct site_folder *p, const char *dir, int *ret_lock) MUST_CHECK;
/* Those of an earlier, broken call are taken up again: nobody has seen them. */
int site_folder_sign_key(struct site_folder *p, const char *name, struct sign_key *ret_key) MUST_CHECK;
int site_folder_link_key(struct site_folder *p, const char *name, struct link_key *ret_key) MUST_CHECK;
void site_folder_unlock(int *lock); /* for CLEANUP; takes -1 */

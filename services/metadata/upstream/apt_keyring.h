/* The keyrings of a trust as files that gpgv reads: armored ones are decoded first. Ownership: paths belong
 * to the list; keyrings_done frees them. Threading: none shared. */
#pragma once
#include "common/base/buf.h"

#define KEYRINGS_MAX 64
#define KEYRING_FILE_MAX ((size_t)16 * 1024 * 1024)

struct keyrings {
    char *path[KEYRINGS_MAX];
    size_t n;
};
/* spec as in apt_trust.keyring; decoded keyrings are written to dir. With dir NULL nothing is decoded: only
 * checked. ERR_CONFIG names the part. */
int keyrings_open(const char *spec, const char *dir, struct keyrings *ret_list) MUST_CHECK;
void keyrings_done(struct keyrings *k);
/* All key blocks of an armored text as binary (RFC 4880, 6.2). ERR_MALFORMED. */
int armor_decode(struct view text, struct buf *ret_keys) MUST_CHECK;

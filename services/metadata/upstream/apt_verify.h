/* Checks who signed a Release file, with gpgv and the named keyring alone, and hands out the signed text and
 * nothing else. Ownership: a trust borrows its texts. Threading: one thread per folder. */
#pragma once
#include <stdatomic.h>

#include "common/base/buf.h"

struct apt_trust {
    const char
        *keyring; /* files and folders (their *.gpg and *.asc), comma between, or one armored key block */
    const char *fingerprints; /* comma between; only these keys count; NULL or "": every key of the keyring */
    const char *dir;          /* of ours alone, for what gpgv reads and writes */
    atomic_bool *cancel;
};
/* Verifies the clear-signed file, or with signature != NULL the file with its detached signature. ret_text is
 * the text that was signed, ret_signer the fingerprint of the primary key. ERR_UPSTREAM_SIGNATURE says why
 * not; ERR_CONFIG for a keyring that cannot be read; ERR_CANCELLED, ERR_TIMEOUT. label names the file in
 * texts. */
int apt_verify(const struct apt_trust *t, const char *label, const char *file, const char *signature,
    struct buf *ret_text, char ret_signer[80]) MUST_CHECK;
/* ERR_USAGE when a part of the keyring list is not there or not readable. */
int apt_keyring_check(const char *keyring) MUST_CHECK;

/* The parts of it that read what others wrote, for tests. A file that apt_verify would hand to gpgv as
 * clear-signed: one message and nothing besides; ERR_UPSTREAM_SIGNATURE. */
int apt_verify_form(const char *label, struct view file) MUST_CHECK;
/* What the status lines of gpgv say (status is altered): the fingerprint of the first key that counts, or
 * ERR_UPSTREAM_SIGNATURE. */
int apt_verify_judge(
    const struct apt_trust *t, const char *label, struct buf *status, char ret_signer[80]) MUST_CHECK;

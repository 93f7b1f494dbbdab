/* The configuration of one apt upstream, read from what `upstream add` stored (docs/control.md). Ownership:
 * texts borrow from the JSON object. Threading: none shared. */
#pragma once
#include "services/metadata/source.h"

struct apt_config {
    const char *uri, *suite, *component, *keyring;
    const char *fingerprints;             /* "" : every key of the keyring */
    const char *product, *classification; /* "": from the Release file and the suite */
    char architecture[32];
    bool ignore_expiry; /* the machine's own sources say so: Check-Valid-Until: no */
};
/* ERR_USAGE names the field. deep: also whether the keyring is there, and asks dpkg for the architecture. */
int apt_config_parse(
    json_t *config, bool deep, atomic_bool *cancel, struct apt_config *ret_config) MUST_CHECK;
/* True for the words of Update.classification. */
bool classification_is_known(const char *word);
/* The architecture of this machine in Debian's words; as dpkg prints it, else from uname. -ENOMEM,
 * ERR_CANCELLED. */
int apt_architecture(atomic_bool *cancel, char ret_name[32]) MUST_CHECK;

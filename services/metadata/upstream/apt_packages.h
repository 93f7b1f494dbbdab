/* From the Packages index in the cache to the updates of a source_set: one package version is one update.
 * Ownership: the set is the caller's; it is not whole after a failure. Threading: none shared. */
#pragma once
#include "services/metadata/source.h"
#include "services/metadata/upstream/apt_index.h"

struct packages_job {
    const struct source_request *r;
    struct source_set *set;
    const char *product, *classification;
    struct view publisher;
};
/* ERR_UPSTREAM names the stanza by its number, the package where it is known, and the fault. */
int packages_read(const struct packages_job *job, const char *file, enum index_format format,
    const uint64_t *output_size) MUST_CHECK;

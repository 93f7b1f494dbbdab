/* Packs a sitetree.Update straight from views into reserved space, in the order of its field numbers, byte
 * for byte what protobuf-c would write; without an allocation per field. Ownership: a draft borrows
 * everything. */
#pragma once
#include "common/base/buf.h"

struct update_file {
    struct view name, url;
    uint64_t size;
    uint8_t sha256[32];
};
struct update_draft {
    uint64_t revision, issued, installed_size;
    struct view title[2]; /* joined with a blank where both are there */
    struct view description, classification, product, severity, publisher, superseded_by, package, version,
        architecture, section, homepage, source, depends, priority;
    const struct view *articles, *cves, *supersedes;
    size_t n_articles, n_cves, n_supersedes;
    const struct update_file *files;
    size_t n_files;
};

/* Bytes that update_write will write. */
size_t update_size(const struct update_draft *d);
/* Writes update_size bytes; says where package and version ended up. Returns the end. */
uint8_t *update_write(
    const struct update_draft *d, uint8_t *out, struct view *ret_package, struct view *ret_version);

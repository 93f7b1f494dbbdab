/* The list of certificates that were taken back, as bytes: entries of 24, each 16 that name a pair of keys
 * (the site's and the one that certified it) and the serial up to which their certificates no longer count.
 * Central site: kept by the node, sent to the worker, which puts it into every head. Source:
 * docs/protocol.md, Trust. */
#pragma once
#include "common/base/buf.h"

#define REVOKED_LEN 24
#define REVOKED_MAX 256 /* the oldest goes: a bound for the heads */

bool revoked_has(struct view list, const uint8_t sign_key[32], const uint8_t parent_key[32], uint64_t serial);
/* Adds or raises an entry; it is the newest then. Errors wait in the buffer. */
void revoked_put(struct buf *list, const uint8_t sign_key[32], const uint8_t parent_key[32], uint64_t serial);
void revoked_drop(struct buf *list, const uint8_t sign_key[32], const uint8_t parent_key[32]);

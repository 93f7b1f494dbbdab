/* The node's tables: the only place that builds or splits a key. Values are the messages of proto/node.proto.
 * Ownership: a key is a value of its own; rows that were read live in the caller's arena. */
#pragma once
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/store/store.h"
#include "common/wire/frame.h"
#include "proto/node.pb-c.h"

enum node_table {
    TABLE_META,     /* word -> number (8 bytes) or a message */
    TABLE_SITES,    /* site code -> StoredSite */
    TABLE_INVITES,  /* invitation id -> StoredInvite */
    TABLE_REPORTS,  /* site code -> StoredReport */
    TABLE_EVENTS,   /* serial -> StoredEvent */
    TABLE_REFUSALS, /* serial -> StoredRefusal */
    TABLE_RINGS,    /* number of the five minutes since 1970 -> one class (a byte) per site number */
    TABLE_COUNT,
};

/* META number that `sitetree restore` leaves for a central site: when it was restored. */
#define RESTORED_WORD "restored"

struct key {
    uint8_t b[64];
    size_t len;
};
struct key key_text(const char *s);                             /* at most 63 bytes: codes, ids, words */
struct key key_number(uint64_t n);                              /* ordered as numbers are */
int key_to_number(struct view key, uint64_t *ret_n) MUST_CHECK; /* ERR_CORRUPT */
static inline struct view key_view(const struct key *k)
{
    return view_of(k->b, k->len);
}

/* META numbers; 0 where there is none yet. */
int table_number_get(struct store_txn *t, const char *word, uint64_t *ret_n) MUST_CHECK;
void table_number_put(struct store_txn *t, const char *word, uint64_t n);
/* Any message; the error of a write waits in the transaction. */
void table_put(struct store_txn *t, enum node_table table, const struct key *key, const ProtobufCMessage *m);
/* ERR_NOT_FOUND, ERR_CORRUPT, or the store's. */
int table_get(struct store_txn *t, enum node_table table, const struct key *key, struct arena *a,
    const ProtobufCMessageDescriptor *d, void *ret_message) MUST_CHECK;
/* Unpacks a value met on a walk; ERR_CORRUPT. */
int table_read(
    struct view value, struct arena *a, const ProtobufCMessageDescriptor *d, void *ret_message) MUST_CHECK;
/* The greatest serial of a numbered table, 0 when it is empty. */
int table_last_number(struct store_txn *t, enum node_table table, uint64_t *ret_n) MUST_CHECK;
/* Deletes from the beginning of a numbered table what is below `keep`, at most `most` entries. */
void table_trim(struct store_txn *t, enum node_table table, uint64_t keep, unsigned most);

/* Inside common/bus only: the sessions of a pull lane, by number and by the routing id that ROUTER gave to
 * the connection. Ownership: the table owns its sessions; a session is borrowed until it is removed.
 * Threading: one thread. */
#pragma once
#include "common/bus/bus.h"

#define ROUTING_ID_MAX 255

struct session {
    uint32_t number;
    uint8_t id_len, id[ROUTING_ID_MAX];
    char user[BUS_USER_MAX + 1];
    struct mono heard;
    struct session_links *links; /* of the tables */
};

struct session_table;
int session_table_new(struct session_table **ret_table) MUST_CHECK; /* -ENOMEM */
void session_table_free(struct session_table *t);                   /* takes NULL */
size_t session_count(const struct session_table *t);
struct session *session_get(struct session_table *t, uint32_t number);
struct session *session_find(struct session_table *t, struct view id);
int session_add(
    struct session_table *t, struct view id, const char *user, struct session **ret_session) MUST_CHECK;
void session_remove(struct session_table *t, struct session *s);
/* The least recently heard session of the user when it has at least `most`; NULL otherwise. */
struct session *session_surplus(struct session_table *t, const char *user, unsigned most);
/* Any session that was last heard before `before`; NULL when there is none. */
struct session *session_stale(struct session_table *t, struct mono before);

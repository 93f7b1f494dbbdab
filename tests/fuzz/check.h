/* What must hold for a message that was read from hostile bytes: it stays under its arena's cap, and what is
 * packed from it can be read again and is then packed to the same bytes. */
#pragma once
#include "common/wire/frame.h"
#include "tests/fuzz/target.h"

static inline void check_message(const ProtobufCMessage *m, const struct arena *from)
{
    AUTO_BUF first = {0};
    AUTO_BUF second = {0};
    AUTO_ARENA a;
    int rc;
    PROMISE(from->used <= from->cap);
    message_pack(m, &first);
    PROMISE(first.err == 0);
    arena_init(&a);
    ProtobufCMessage *again = message_unpack(&a, buf_view(&first), first.len, m->descriptor, &rc);
    if (!again) /* protobuf-c reads a field number 0 of two bytes, writes it in one, and refuses that */
        return;
    message_pack(again, &second);
    PROMISE(view_eq(buf_view(&first), buf_view(&second)));
}

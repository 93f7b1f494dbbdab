/* What a stranger's frame may do: every byte string is parsed, and its body decoded as the message of its
 * type. */
#include <stdint.h>
#include <stdlib.h>

#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "proto/node.pb-c.h"
#include "proto/trust.pb-c.h"
#include "proto/worker.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const others[] = {&sitetree__token__descriptor,
    &sitetree__trust__descriptor, &sitetree__chain__descriptor, &sitetree__head__descriptor,
    &sitetree__scope_list__descriptor, &sitetree__update__descriptor, &sitetree__site_report__descriptor,
    &sitetree__stored_site__descriptor};

#define sitetree__NONE__descriptor sitetree__bye__descriptor /* a fragment's body is not a message */
static const struct {
    enum frame_type type;
    const ProtobufCMessageDescriptor *body;
} types[] = {
#define ROW(name, number, wire, raw, message) {name, &sitetree__##message##__descriptor},
    FRAME_TABLE(ROW)
#undef ROW
};

static void decode(const ProtobufCMessageDescriptor *d, void *message, const struct arena *a, size_t len)
{
    INVARIANT(a->used <= a->cap && a->cap <= len * 8 + 65536);
    if (!message)
        return;
    INVARIANT(protobuf_c_message_check(message));
    AUTO_BUF again = {0};
    message_pack(message, &again); /* what was read can be written */
    INVARIANT(again.err == 0 && ((ProtobufCMessage *)message)->descriptor == d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame f;
    int rc = frame_parse(view_of(data, size), &f);
    for (size_t i = 0; rc == 0 && i < COUNT_OF(types); i++) {
        if (types[i].type != (enum frame_type)f.type)
            continue;
        AUTO_ARENA a;
        arena_init(&a);
        void *m = frame_unpack(&a, &f, types[i].body, &rc);
        decode(types[i].body, m, &a, f.flags & FRAME_ZSTD ? f.raw_len : f.body.len);
        break;
    }
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        AUTO_ARENA a;
        arena_init(&a);
        void *m = message_unpack(&a, view_of(data, size), 1 << 20, others[i], &rc);
        decode(others[i], m, &a, size);
    }
    return 0;
}

/* Any bytes as a frame: parsed, decompressed and unpacked as the message of its type. */
#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "proto/trust.pb-c.h"
#include "proto/worker.pb-c.h"
#include "tests/fuzz/check.h"

static const ProtobufCMessageDescriptor sitetree__NONE__descriptor; /* a body that is no message */

static const ProtobufCMessageDescriptor *descriptor_of(unsigned type)
{
    static const struct {
        unsigned type;
        const ProtobufCMessageDescriptor *d;
    } rows[] = {
#define ROW(name, number, wire, raw, message) {number, &sitetree__##message##__descriptor},
        FRAME_TABLE(ROW)
#undef ROW
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (rows[i].type == type && rows[i].d != &sitetree__NONE__descriptor)
            return rows[i].d;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct frame f;
    int rc = frame_parse(view_of(data, len), &f);
    if (rc == ERR_UNKNOWN_TYPE) {
        AUTO_BLOB *refusal = frame_refusal(f.request, rc); /* what the sender gets */
        PROMISE(refusal != NULL);
    }
    if (rc)
        return 0;
    PROMISE(f.body.data >= data && f.body.data + f.body.len == data + len);
    const ProtobufCMessageDescriptor *d = descriptor_of(f.type);
    if (!d)
        return 0;
    AUTO_ARENA a;
    arena_init(&a);
    ProtobufCMessage *m = frame_unpack(&a, &f, d, &rc);
    PROMISE((m != NULL) == (rc == 0));
    if (m)
        check_message(m, &a);
    arena_reset(&a); /* and the arena serves the next frame */
    m = frame_unpack(&a, &f, d, &rc);
    PROMISE((m != NULL) == (rc == 0));
    return 0;
}

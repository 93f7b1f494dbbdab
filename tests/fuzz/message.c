/* Any bytes as any message that is not a frame's: signed payloads, tokens, values of records, rows of the
 * node. The first byte chooses which. */
#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "proto/node.pb-c.h"
#include "proto/trust.pb-c.h"
#include "tests/fuzz/check.h"

static const ProtobufCMessageDescriptor *const kinds[] = {
    &sitetree__update__descriptor,
    &sitetree__head__descriptor,
    &sitetree__scope_list__descriptor,
    &sitetree__head_bytes__descriptor,
    &sitetree__signed__descriptor,
    &sitetree__trust__descriptor,
    &sitetree__site_certificate__descriptor,
    &sitetree__chain__descriptor,
    &sitetree__token__descriptor,
    &sitetree__site_report__descriptor,
    &sitetree__removal__descriptor,
    &sitetree__stored_site__descriptor,
    &sitetree__stored_invite__descriptor,
    &sitetree__stored_report__descriptor,
    &sitetree__stored_event__descriptor,
    &sitetree__stored_refusal__descriptor,
    &sitetree__stored_signing__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct view bytes = view_of(data + 1, len - 1);
    const ProtobufCMessageDescriptor *d = kinds[data[0] % COUNT_OF(kinds)];
    AUTO_ARENA a;
    int rc;
    arena_init(&a);
    PROMISE(bytes.len == 0 || !message_unpack(&a, bytes, bytes.len - 1, d, &rc));
    ProtobufCMessage *m = message_unpack(&a, bytes, bytes.len, d, &rc);
    PROMISE((m != NULL) == (rc == 0));
    if (m)
        check_message(m, &a);
    return 0;
}

/* The whole core of the node, at a central site with one site below, under what others send: the operator's
 * JSON, frames from children, strangers with an invitation, the parent and the worker, reports with the right
 * signature and any content. Steps: a byte for the kind, two arguments, be16 length and bytes. No input ends
 * it. */
#include <stdlib.h>

#include "common/wire/frame.h"
#include "tests/fuzz/target.h"
#include "tests/unit/node/pump.h"

#define STEPS_MAX 24

static struct pump p;

static void one_report(struct view payload)
{
    uint8_t signature[64];
    Sitetree__Signed s = SITETREE__SIGNED__INIT, *list = &s;
    Sitetree__Reports m = SITETREE__REPORTS__INIT;
    sign_detached(&p.nodes[1].keys.site, "report", payload, signature);
    s.payload = pb_bytes(payload);
    s.signature = pb_bytes(view_of(signature, 64));
    m.reports = &list;
    m.n_reports = 1;
    struct blob *b = frame_pack(FRAME_REPORTS, CLASS_STATE, 0, NULL, &m.base, false);
    if (b)
        PROMISE(pump_frame(&p, 0, p.nodes[1].session, "P01", b) == 0);
}

static void from_above(struct blob *frame, bool hint)
{
    struct input in = {.kind = INPUT_FRAME, .from = {hint ? PEER_CHILDREN : PEER_PARENT, 0}, .frame = frame};
    in.body = blob_view(frame);
    if (hint)
        in.topic = view_str("metadata/local/acme");
    PROMISE(pump_input(&p, 1, &in) == 0);
    blob_free(frame);
}

static void run(struct reader *r)
{
    uint8_t kind = read_u8(r), a = read_u8(r), b = read_u8(r);
    struct view v = read_bytes(r, read_be16(r));
    struct blob *frame;
    int who = b & 1;
    if (r->bad)
        return;
    if (kind % 8 == 0) {
        struct input in = {.kind = INPUT_COMMAND, .command = 1, .body = v};
        PROMISE(pump_input(&p, who, &in) == 0);
        return;
    }
    if (kind % 8 == 5) {
        one_report(v);
        return;
    }
    if (kind % 8 == 6) {
        pump_run(&p, (int64_t)a * NS_PER_S);
        return;
    }
    if (kind % 8 == 7) {
        if (b & 2)
            pump_ready(&p, who);
        else
            pump_restart(&p, who);
        return;
    }
    if (strcmp(frame_type_word(a), "unknown") == 0)
        return;
    frame = frame_wrap((enum frame_type)a, CLASS_STATE, b, NULL, v, false);
    if (!frame)
        return;
    if (kind % 8 == 1)
        PROMISE(pump_frame(&p, 0, p.nodes[1].session, "P01", frame) == 0);
    else if (kind % 8 == 2)
        PROMISE(pump_frame(&p, 0, 77, "invite:1", frame) == 0);
    else if (kind % 8 == 3)
        from_above(frame, b & 2);
    else
        PROMISE(pump_worker(&p, who,
                    b & 2 ? (struct peer){PEER_NODE, 0} : (struct peer){b & 4 ? PEER_PARENT : PEER_CHILD, b},
                    "metadata/local/acme", frame) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct reader r = reader_of(view_of(data, len));
    pump_init(&p);
    PROMISE(pump_join(&p, 0, "P01", "primary") == 1);
    pump_settle(&p);
    for (int i = 0; i < STEPS_MAX && r.rest.len && !r.bad; i++)
        run(&r);
    pump_done(&p);
    return 0;
}

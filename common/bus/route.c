#include "common/bus/route.h"

void route_encode(const struct route *r, struct buf *out)
{
    buf_u8(out, (uint8_t)r->peer.kind);
    buf_u8(out, (uint8_t)r->lane);
    buf_u8(out, r->early);
    buf_be32(out, r->peer.id);
    buf_append_view(out, r->topic);
}

int route_decode(struct view bytes, struct route *ret_route)
{
    struct reader rd = reader_of(bytes);
    uint8_t kind = read_u8(&rd), lane = read_u8(&rd), early = read_u8(&rd);
    uint32_t id = read_be32(&rd);
    if (rd.bad || bytes.len > ROUTE_MAX || kind > PEER_NODE || lane >= CLASS_COUNT || early > 1)
        return err_fail(ERR_MALFORMED, "not a route");
    *ret_route = (struct route){
        .peer = {(enum peer_kind)kind, id}, .lane = (enum lane_class)lane, .early = early, .topic = rd.rest};
    return 0;
}

#include "common/bus/ipc.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "common/bus/ipc_stream.h"

static const char *const names[WORKER_COUNT] = {"metadata", "state", "policy"};

const char *worker_name(enum worker w)
{
    return (unsigned)w < WORKER_COUNT ? names[w] : "?";
}

int worker_from_name(struct view name, enum worker *ret_worker)
{
    for (unsigned i = 0; i < WORKER_COUNT; i++)
        if (view_eq(name, view_str(names[i]))) {
            *ret_worker = (enum worker)i;
            return 0;
        }
    return ERR_NOT_FOUND;
}

enum { ROUTE_VERSION = 1, ROUTE_EARLY = 1 };

void ipc_route_pack(const struct ipc_message *m, struct buf *out)
{
    buf_reserve(out, IPC_ROUTE_LEN + m->topic.len);
    buf_u8(out, ROUTE_VERSION);
    buf_u8(out, (uint8_t)m->peer.kind);
    buf_u8(out, (uint8_t)m->lane);
    buf_u8(out, m->early ? ROUTE_EARLY : 0);
    buf_be32(out, m->peer.id);
    buf_be16(out, (uint16_t)m->topic.len);
    buf_be16(out, 0);
    buf_append_view(out, m->topic);
}

int ipc_route_parse(struct view bytes, struct ipc_message *ret_message)
{
    struct reader r = reader_of(bytes);
    unsigned version = read_u8(&r), kind = read_u8(&r), lane = read_u8(&r), flags = read_u8(&r);
    uint32_t id = read_be32(&r);
    size_t topic_len = read_be16(&r);
    unsigned zero = read_be16(&r);
    if (r.bad || version != ROUTE_VERSION || kind > PEER_NODE || lane >= CLASS_COUNT ||
        flags & ~(unsigned)ROUTE_EARLY || zero || topic_len > BUS_TOPIC_MAX || r.rest.len != topic_len)
        return err_fail(ERR_MALFORMED, "not a route of version %d (%zu bytes)", ROUTE_VERSION, bytes.len);
    *ret_message = (struct ipc_message){.peer = {(enum peer_kind)kind, id},
        .lane = (enum lane_class)lane,
        .early = flags & ROUTE_EARLY,
        .topic = r.rest};
    return 0;
}

int ipc_address(const char *path, struct sockaddr_un *ret_address)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof a.sun_path)
        return err_fail(ERR_CONFIG, "'%s': a local socket needs an absolute path of at most %zu bytes", path,
            sizeof a.sun_path - 1);
    memcpy(a.sun_path, path, strlen(path));
    *ret_address = a;
    return 0;
}

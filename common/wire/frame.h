/* Frames: the one form of every message on a link and on the ipc between node and worker, and the bounded
 * protobuf codec. A frame is a 40-byte header and a protobuf body, which may be one zstd frame of a declared
 * size. Everything is checked against the limit of its type before anything is allocated. The only callers of
 * *_unpack are here. Threading: none shared; an arena belongs to its user. Source: protocol.md, Lanes;
 * docs/protocol.md, Frames. */
#pragma once
#include <protobuf-c/protobuf-c.h>

#include "common/base/buf.h"
#include "common/base/id.h"

#define FRAME_HEADER_LEN 40
#define FRAME_VERSION 1
/* version range that this program speaks, for Hello */
#define PROTOCOL_LOW 1
#define PROTOCOL_HIGH 1
/* The largest frame of any type; ZMQ_MAXMSGSIZE is this and 64 KiB. */
#define FRAME_MAX (1024 * 1024)

/* name, number, limit of the body on the wire, limit uncompressed, message */
#define FRAME_TABLE(X)                                                                                       \
    X(FRAME_HELLO, 1, 1024, 1024, hello)                                                                     \
    X(FRAME_WELCOME, 2, 16384, 16384, welcome)                                                               \
    X(FRAME_REFUSAL, 3, 2048, 2048, refusal)                                                                 \
    X(FRAME_HEARTBEAT, 4, 256, 256, heartbeat)                                                               \
    X(FRAME_BYE, 5, 512, 512, bye)                                                                           \
    X(FRAME_REPORTS, 6, 262144, 1048576, reports)                                                            \
    X(FRAME_JOIN, 7, 1024, 1024, join)                                                                       \
    X(FRAME_JOINED, 8, 65536, 65536, joined)                                                                 \
    X(FRAME_FRAGMENT, 9, 65600, 65600, NONE)                                                                 \
    X(FRAME_HEAD_GET, 20, 64, 64, head_get)                                                                  \
    X(FRAME_HEAD, 21, 1048576, 4194304, head_bytes)                                                          \
    X(FRAME_HINT, 22, 1048576, 4194304, hint)                                                                \
    X(FRAME_DELTA_GET, 23, 512, 512, delta_get)                                                              \
    X(FRAME_DELTA_REPLY, 24, 1048576, 1048576, delta_reply)                                                  \
    X(FRAME_PAGE_GET, 25, 131072, 131072, page_get)                                                          \
    X(FRAME_PAGE_REPLY, 26, 1048576, 1048576, page_reply)                                                    \
    X(FRAME_SYNC_REQUEST, 27, 1024, 1024, sync_request)                                                      \
    X(FRAME_SYNC_ACK, 28, 256, 256, sync_ack)                                                                \
    X(FRAME_WORKER_READY, 60, 1024, 1024, worker_ready)                                                      \
    X(FRAME_SITE_INFO, 61, 16384, 16384, site_info)                                                          \
    X(FRAME_LINK_STATE, 62, 1024, 1024, link_state)                                                          \
    X(FRAME_SIGN_HEAD, 63, 1024, 1024, sign_head)                                                            \
    X(FRAME_SIGNED_HEAD, 64, 2048, 2048, signed)                                                             \
    X(FRAME_EVENT_NOTE, 65, 8192, 8192, event_note)                                                          \
    X(FRAME_WORKER_STATUS, 66, 16384, 16384, worker_status)                                                  \
    X(FRAME_CONTROL, 67, 1048576, 1048576, control)                                                          \
    X(FRAME_CONTROL_REPLY, 68, 1048576, 4194304, control_reply)

enum frame_type {
#define FRAME_ENUM(name, number, wire, raw, message) name = number,
    FRAME_TABLE(FRAME_ENUM)
#undef FRAME_ENUM
};
const char *frame_type_word(unsigned type);  /* "hello", "page_get", or "unknown" */
bool frame_type_is_catalogue(unsigned type); /* 20 to 39: passed on to the metadata worker */

#define FRAME_ZSTD 1 /* flag: the body is one zstd frame of raw_len bytes */

struct frame {
    uint8_t version, lane; /* lane: enum lane_class as the sender meant it */
    uint16_t type, flags;
    uint64_t request;   /* 0: no answer expected; an answer carries the number of its request */
    uint32_t raw_len;   /* of the body, uncompressed */
    struct epoch epoch; /* that the sender has applied; zeros for none */
    struct view body;   /* as it came; borrowed */
};

/* Checks magic, version, type, flags and limits. ERR_MALFORMED, ERR_VERSION, ERR_UNKNOWN_TYPE, ERR_TOO_LARGE.
 * On ERR_UNKNOWN_TYPE ret_frame is filled in, so that the request can be refused by number. */
int frame_parse(struct view bytes, struct frame *ret_frame) MUST_CHECK;

/* Packs a message into a new frame; body is compressed when that helps and compress is set. NULL on no memory
 * or when the message is over its type's limit (then err_text tells). epoch may be NULL. */
struct blob *frame_pack(enum frame_type type, uint8_t lane, uint64_t request, const struct epoch *epoch,
    const ProtobufCMessage *message, bool compress);
/* The same for body bytes that exist already. */
struct blob *frame_wrap(enum frame_type type, uint8_t lane, uint64_t request, const struct epoch *epoch,
    struct view body, bool compress);
/* FRAME_REFUSAL with the code, its word and the current err_text(). */
struct blob *frame_refusal(uint64_t request, int code);

/* An arena with a cap: unpacked messages live in it until arena_done or arena_reset; no single frees. */
struct arena {
    ProtobufCAllocator allocator;
    struct arena_chunk *chunks;
    size_t used, cap;
};
void arena_init(struct arena *a);
void arena_reset(struct arena *a);
void arena_done(struct arena *a);
static inline void arena_cleanup(struct arena *a)
{
    arena_done(a);
}
#define AUTO_ARENA CLEANUP(arena_cleanup) struct arena

/* Unpacks the body of a parsed frame (decompressing under the type's limit) with a cap of 8 times its size
 * and 64 KiB; a string with a NUL in it is malformed. NULL with *ret_err = ERR_MALFORMED or ERR_TOO_LARGE.
 * The result is borrowed from the arena. The descriptor must be the one of the frame's type: use
 * FRAME_UNPACK, as in Sitetree__Hello *h = FRAME_UNPACK(&arena, &frame, hello, &rc); */
void *frame_unpack(struct arena *a, const struct frame *f, const ProtobufCMessageDescriptor *d, int *ret_err);
#define FRAME_UNPACK(arena, frame, message, ret_err)                                                         \
    frame_unpack((arena), (frame), &sitetree__##message##__descriptor, (ret_err))
/* Any other protobuf bytes (signed payloads, tokens, record values) of at most limit bytes. */
void *message_unpack(
    struct arena *a, struct view bytes, size_t limit, const ProtobufCMessageDescriptor *d, int *ret_err);
#define MESSAGE_UNPACK(arena, view, limit, message, ret_err)                                                 \
    message_unpack((arena), (view), (limit), &sitetree__##message##__descriptor, (ret_err))
void message_pack(const ProtobufCMessage *m, struct buf *out);

/* One zstd frame of src, appended to out; level 1 to 19. */
int zstd_pack(struct view src, int level, struct buf *out) MUST_CHECK;
/* Exactly raw_len bytes into out (appended), or ERR_MALFORMED; raw_len was checked by the caller. */
int zstd_unpack(struct view src, size_t raw_len, struct buf *out) MUST_CHECK;

static inline struct view pb_view(ProtobufCBinaryData b)
{
    return view_of(b.data, b.len);
}
static inline ProtobufCBinaryData pb_bytes(struct view v)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)v.data, .len = v.len};
}

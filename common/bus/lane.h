/* The egress scheduler of one direction of a link: four classes in order, each with a share that none can
 * take, a byte rate, and large frames cut so that small ones pass between. And the assembler of the other
 * side. Ownership: a lane set owns the frames that wait in it. Threading: one thread. No clock of its own:
 * time is given.
 *
 * Order. RECALL goes before HEAD before STATE before BULK; but a class that waits earns 1/16 of each byte
 * that others send, and goes first once it has earned its next piece. So each class that waits gets at least
 * 1/16 of the link. Pieces. At most what the link carries in 0.25 s, from 1 to 64 KiB (64 KiB where no rate
 * is set), leave in one piece; larger frames leave as FRAME_FRAGMENT frames, one after the other within their
 * class. What becomes urgent waits for at most the piece that is on its way, and one that had earned its
 * turn. Rate. Counted in bytes of frames; what is late by up to 50 ms is made up for, and no more: no bursts.
 * Source: protocol.md, Lanes; P10, P11. */
#pragma once
#include "common/bus/step.h"

struct lane_set;

#define LANE_CHUNK_MIN 1024
#define LANE_CHUNK_MAX 65536
#define LANE_SHARE 16 /* 1/16 of the link at least, for each class that waits */

/* limit: bytes that may wait, 64 counted on top of each frame. BULK is refused above 5/8 of it, STATE above
 * 6/8, HEAD above 7/8, RECALL above all of it; an empty class takes one frame in any case. NULL on no memory.
 */
struct lane_set *lane_set_new(size_t limit);
void lane_set_free(struct lane_set *s); /* takes NULL; frees what waits */
/* Drops what waits, as when the link is gone; the statistics count it as dropped, the rate stays. */
void lane_clear(struct lane_set *s);

/* bytes per second, 0 for unlimited. What is owed to the old rate is owed to the new one. */
void lane_set_rate(struct lane_set *s, struct mono now, uint64_t bytes_per_s);
uint64_t lane_rate(const struct lane_set *s);
size_t lane_chunk(const struct lane_set *s); /* the largest piece of now */

/* Takes the frame, in any case. ERR_BUSY: too much waits, the frame is dropped and counted. -ENOMEM. NULL:
 * -ENOMEM. */
int lane_push(struct lane_set *s, struct mono now, enum lane_class lane, struct blob *frame) MUST_CHECK;

/* The next piece, handed over to the caller. ERR_NOT_FOUND: nothing waits. -EAGAIN: the rate says not before
 * *ret_at (only then set). -ENOMEM: nothing has changed, ask again. */
int lane_next(struct lane_set *s, struct mono now, struct blob **ret_blob, struct mono *ret_at) MUST_CHECK;

size_t lane_queued_bytes(const struct lane_set *s); /* what has not left yet, without headers of fragments */
struct lane_stats {
    uint64_t frames, bytes; /* left: whole frames; bytes with headers of fragments */
    uint64_t fragments;     /* pieces that frames were cut into */
    uint64_t dropped;       /* refused, or cleared */
    uint64_t queued, queued_bytes;
    int64_t waited_ns, longest_ns; /* from push until the last byte left */
};
void lane_stats(const struct lane_set *s, enum lane_class lane, struct lane_stats *ret_stats);

/* The other side. One frame per class is in the making, in order: the sender cuts one at a time. Memory
 * follows what has come, at most FRAME_MAX and a header for each class. */
#define ASSEMBLER_IDLE_NS (300 * NS_PER_S)

struct assembler {
    struct {
        bool active;
        uint32_t stream, total;
        struct mono last;
        struct buf data;
    } in[CLASS_COUNT];
    uint64_t finished, refused, abandoned;
};

void assembler_done(struct assembler *a); /* an assembler starts as zeros; this makes it so again */
/* One frame of type FRAME_FRAGMENT, whole, as it came. *ret_frame is the original frame when this was its
 * last piece, else NULL. A first piece replaces an unfinished frame of its class. ERR_MALFORMED: overlap,
 * gap, beyond the total, a fragment in fragments; what there was of the stream is dropped. ERR_TOO_LARGE: the
 * total; checked before anything is kept. ERR_GAP: the beginning of the stream is not here (harmless after a
 * reconnect: its request is asked again). -ENOMEM. */
int assembler_push(
    struct assembler *a, struct mono now, struct view fragment, struct blob **ret_frame) MUST_CHECK;
/* Drops what got no further piece for ASSEMBLER_IDLE_NS; push does so for its class by itself. */
void assembler_expire(struct assembler *a, struct mono now);
size_t assembler_bytes(const struct assembler *a);

/* The form of a FRAME_FRAGMENT: stream, total and offset (each 32 bits, big-endian), then data. The stream is
 * a number that the sender does not use again soon; total is the length of the whole original frame with its
 * header. Ownership and threading as in lane.h, whose two halves share this. Source: docs/protocol.md,
 * Frames. */
#pragma once
#include "common/bus/lane.h"
#include "common/wire/frame.h"

#define FRAGMENT_HEADER_LEN 12
#define FRAGMENT_OVERHEAD (FRAME_HEADER_LEN + FRAGMENT_HEADER_LEN)

/* The piece of len bytes at offset of a frame; NULL on no memory. */
struct blob *fragment_make(
    enum lane_class lane, uint32_t stream, struct view whole, size_t offset, size_t len);

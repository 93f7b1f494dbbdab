/* What a program asks of a disk, and what the disk may hold after the power went: the writes and barriers of
 * one file are recorded (by taking the place of the C library's calls, so link disk_log.c into the program
 * that opens the store), and every image that is possible at any moment is made from them.
 *
 * A write is sure once a later fdatasync or fsync of the file has returned, or when it went through a
 * descriptor with O_DSYNC. Of the others any may be there or not, and of one that is longer than a sector any
 * sectors (512 bytes). Ownership: a log owns its bytes. Threading: one thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_event_kind { DISK_WRITE, DISK_SYNC, DISK_MARK };
struct disk_event {
    enum disk_event_kind kind;
    bool sure; /* a write through O_DSYNC */
    uint64_t at;
    size_t len;
    uint8_t *data;
    int state; /* of a mark */
};
struct disk_log {
    const char *path; /* of the file; borrowed */
    struct disk_event *list;
    size_t n, cap;
    struct disk_log *next;
};
/* From now on calls on files of this path are recorded. */
void disk_log_start(struct disk_log *log, const char *path);
/* What the program has said up to here is state number `state`: it must survive. */
void disk_log_mark(struct disk_log *log, int state);
void disk_log_stop(struct disk_log *log);
void disk_log_free(struct disk_log *log);

struct disk_image {
    const uint8_t *data;
    size_t len;
    int state; /* the last one that was marked before; -1: none yet. This one or the next must be there. */
    size_t at; /* how many events had happened */
    const char *how; /* "prefix", "dropped", "alone", "subset", "torn" */
};
typedef void disk_image_fn(void *ctx, const struct disk_image *image);
struct disk_plan {
    unsigned subsets; /* random ones for each barrier; each also as one with torn writes */
    unsigned torn;    /* random ways to tear each write */
    uint64_t seed;
};
/* Every prefix; before each barrier every single write missing, every single one alone, random subsets. */
uint64_t disk_images(const struct disk_log *log, const struct disk_plan *plan, disk_image_fn *fn, void *ctx);

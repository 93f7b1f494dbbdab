#include "tests/lib/disk_log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECTOR 512u

static struct disk_log *logs;

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* --- recording ----------------------------------------------------------------------------------------- */

static struct disk_log *log_of(int fd)
{
    char link[64], path[PATH_MAX];
    if (!logs)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return NULL;
    path[n] = 0;
    for (struct disk_log *l = logs; l; l = l->next)
        if (strcmp(l->path, path) == 0)
            return l;
    return NULL;
}

static struct disk_event *event_add(struct disk_log *log, enum disk_event_kind kind)
{
    if (log->n == log->cap) {
        log->cap = log->cap ? log->cap * 2 : 256;
        log->list = must(realloc(log->list, log->cap * sizeof *log->list));
    }
    struct disk_event *e = &log->list[log->n++];
    *e = (struct disk_event){.kind = kind};
    return e;
}

static void on_write(int fd, const void *data, ssize_t len, off_t at)
{
    struct disk_log *log = len > 0 ? log_of(fd) : NULL;
    if (!log)
        return;
    struct disk_event *e = event_add(log, DISK_WRITE);
    e->sure = fcntl(fd, F_GETFL) & O_DSYNC;
    e->at = (uint64_t)at;
    e->len = (size_t)len;
    e->data = must(malloc(e->len));
    memcpy(e->data, data, e->len);
}

/* In the place of the C library's: this program's symbols come first, also for the libraries it uses. */
ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    ssize_t n = syscall(SYS_pwrite64, fd, data, len, at);
    on_write(fd, data, n, at);
    return n;
}

/* With large files that was pwrite64; LMDB is built without, which is the same on 64 bits. */
ssize_t pwrite_plain(int fd, const void *data, size_t len, off_t at) __asm__("pwrite");
ssize_t pwrite_plain(int fd, const void *data, size_t len, off_t at)
{
    return pwrite(fd, data, len, at);
}

ssize_t write(int fd, const void *data, size_t len)
{
    off_t at = logs ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t n = syscall(SYS_write, fd, data, len);
    on_write(fd, data, n, at);
    return n;
}

ssize_t writev(int fd, const struct iovec *list, int count)
{
    off_t at = logs ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t n = syscall(SYS_writev, fd, list, count), left = n;
    for (int i = 0; i < count && left > 0; i++) { /* the parts may reach the disk one without the other */
        ssize_t part = (size_t)left < list[i].iov_len ? left : (ssize_t)list[i].iov_len;
        on_write(fd, list[i].iov_base, part, at);
        at += part;
        left -= part;
    }
    return n;
}

static void on_sync(int fd, int rc)
{
    struct disk_log *log = rc == 0 ? log_of(fd) : NULL;
    if (log)
        event_add(log, DISK_SYNC);
}

int fdatasync(int fd)
{
    int rc = (int)syscall(SYS_fdatasync, fd);
    on_sync(fd, rc);
    return rc;
}

int fsync(int fd)
{
    int rc = (int)syscall(SYS_fsync, fd);
    on_sync(fd, rc);
    return rc;
}

/* What the model does not know must not be used on the file. */
int ftruncate(int fd, off_t len)
{
    if (log_of(fd))
        abort();
    return (int)syscall(SYS_ftruncate, fd, len);
}

int ftruncate_plain(int fd, off_t len) __asm__("ftruncate");
int ftruncate_plain(int fd, off_t len)
{
    return ftruncate(fd, len);
}

int msync(void *start, size_t len, int flags)
{
    if (logs)
        abort();
    return (int)syscall(SYS_msync, start, len, flags);
}

void disk_log_start(struct disk_log *log, const char *path)
{
    *log = (struct disk_log){.path = path, .next = logs};
    logs = log;
}

void disk_log_mark(struct disk_log *log, int state)
{
    event_add(log, DISK_MARK)->state = state;
}

void disk_log_stop(struct disk_log *log)
{
    struct disk_log **p = &logs;
    while (*p != log)
        p = &(*p)->next;
    *p = log->next;
}

void disk_log_free(struct disk_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        free(log->list[i].data);
    free(log->list);
    *log = (struct disk_log){0};
}

/* --- images -------------------------------------------------------------------------------------------- */

struct bytes {
    uint8_t *data;
    size_t len, cap;
};
struct maker {
    struct bytes sure, image;
    const struct disk_event **waiting; /* written, and not sure yet */
    size_t n_waiting;
    uint64_t random, made;
    int state;
    size_t at;
    disk_image_fn *fn;
    void *ctx;
};

static uint32_t draw(struct maker *m, uint32_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((m->random >> 33) % below);
}

static void put(struct bytes *b, uint64_t at, const uint8_t *data, size_t len)
{
    size_t end = (size_t)at + len;
    if (end > b->cap) {
        b->data = must(realloc(b->data, end * 2));
        b->cap = end * 2;
    }
    if (end > b->len) { /* what was never written reads as zeros */
        memset(b->data + b->len, 0, end - b->len);
        b->len = end;
    }
    memcpy(b->data + at, data, len);
}

/* Of a torn write: its first sectors, or any of them. */
static void put_torn(struct maker *m, const struct disk_event *e)
{
    bool first_only = draw(m, 2);
    uint32_t sectors = (uint32_t)((e->len + SECTOR - 1) / SECTOR), keep = sectors ? draw(m, sectors) : 0;
    for (uint32_t i = 0; i < sectors; i++) {
        size_t from = i * SECTOR, len = e->len - from < SECTOR ? e->len - from : SECTOR;
        if (first_only ? i < keep : draw(m, 2))
            put(&m->image, e->at + from, e->data + from, len);
    }
}

static void begin(struct maker *m)
{
    m->image.len = 0;
    if (m->sure.len)
        put(&m->image, 0, m->sure.data, m->sure.len);
}

static void give(struct maker *m, const char *how)
{
    struct disk_image i = {m->image.data, m->image.len, m->state, m->at, how};
    m->made++;
    m->fn(m->ctx, &i);
}

static void prefix(struct maker *m)
{
    begin(m);
    for (size_t i = 0; i < m->n_waiting; i++)
        put(&m->image, m->waiting[i]->at, m->waiting[i]->data, m->waiting[i]->len);
    give(m, "prefix");
}

static void one_missing_and_one_alone(struct maker *m)
{
    for (size_t skip = 0; skip < m->n_waiting; skip++) {
        begin(m);
        for (size_t i = 0; i < m->n_waiting; i++)
            if (i != skip)
                put(&m->image, m->waiting[i]->at, m->waiting[i]->data, m->waiting[i]->len);
        give(m, "dropped");
        begin(m);
        put(&m->image, m->waiting[skip]->at, m->waiting[skip]->data, m->waiting[skip]->len);
        give(m, "alone");
    }
}

static void subset(struct maker *m, bool torn)
{
    begin(m);
    for (size_t i = 0; i < m->n_waiting; i++) {
        if (torn && draw(m, 3) == 0)
            put_torn(m, m->waiting[i]);
        else if (draw(m, 2))
            put(&m->image, m->waiting[i]->at, m->waiting[i]->data, m->waiting[i]->len);
    }
    give(m, torn ? "torn" : "subset");
}

static void last_one_torn(struct maker *m)
{
    begin(m);
    for (size_t i = 0; i + 1 < m->n_waiting; i++)
        put(&m->image, m->waiting[i]->at, m->waiting[i]->data, m->waiting[i]->len);
    put_torn(m, m->waiting[m->n_waiting - 1]);
    give(m, "torn");
}

static void before_barrier(struct maker *m, const struct disk_plan *plan)
{
    if (m->n_waiting > 1) {
        one_missing_and_one_alone(m);
        for (unsigned i = 0; i < plan->subsets; i++) {
            subset(m, false);
            subset(m, true);
        }
    }
}

static void on_event(struct maker *m, const struct disk_plan *plan, const struct disk_event *e)
{
    switch (e->kind) {
    case DISK_MARK:
        m->state = e->state;
        break;
    case DISK_SYNC:
        before_barrier(m, plan);
        for (size_t i = 0; i < m->n_waiting; i++)
            put(&m->sure, m->waiting[i]->at, m->waiting[i]->data, m->waiting[i]->len);
        m->n_waiting = 0;
        break;
    case DISK_WRITE:
        m->waiting[m->n_waiting++] = e;
        prefix(m);
        for (unsigned i = 0; i < plan->torn; i++)
            if (e->at / SECTOR != (e->at + e->len - 1) / SECTOR)
                last_one_torn(m);
        if (e->sure) { /* it says nothing of those before it */
            before_barrier(m, plan);
            put(&m->sure, e->at, e->data, e->len);
            m->n_waiting--;
        }
        break;
    }
}

uint64_t disk_images(const struct disk_log *log, const struct disk_plan *plan, disk_image_fn *fn, void *ctx)
{
    struct maker m = {.random = plan->seed, .state = -1, .fn = fn, .ctx = ctx};
    m.waiting = must(calloc(log->n + 1, sizeof *m.waiting));
    prefix(&m); /* nothing at all */
    for (m.at = 0; m.at < log->n;) {
        const struct disk_event *e = &log->list[m.at++];
        on_event(&m, plan, e);
    }
    before_barrier(&m, plan); /* what was never made sure */
    free(m.waiting);
    free(m.sure.data);
    free(m.image.data);
    return m.made;
}

/* A disk that fails once: for system tests, loaded into real daemons with LD_PRELOAD. The test shares a file
 * with them, named in BAD_DISK, that says which call fails (struct orders); the n-th of them on a data file
 * below a certain folder does, with a certain error. What the process that met it then still syncs is
 * counted.
 *
 * A write of less than a page is LMDB's pointer to the newest tree (its meta page): a kind of its own. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NOTHING, SYNC, WRITE, META };
struct orders { /* all 32 bits; tests/lib/sites.py has the same */
    _Atomic int32_t kind, countdown, error;
    _Atomic int32_t hits, hit_life, syncs_after; /* told by the library */
    _Atomic int32_t lives;
    char folder[256];
};

static struct orders *orders;
static int32_t life;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("BAD_DISK");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return;
    orders = p;
    life = atomic_fetch_add(&orders->lives, 1) + 1;
}

static int is_ours(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 9)
        return 0;
    path[n] = 0;
    return strcmp(path + n - 9, "/data.mdb") == 0 && strstr(path, orders->folder);
}

/* Non-zero: this call fails with errno set. */
static int fails(enum kind kind, int fd)
{
    if (!orders || atomic_load(&orders->kind) == NOTHING || !is_ours(fd))
        return 0;
    if (kind == SYNC && atomic_load(&orders->hit_life) == life)
        atomic_fetch_add(&orders->syncs_after, 1);
    if (atomic_load(&orders->kind) != (int32_t)kind || atomic_fetch_sub(&orders->countdown, 1) != 1)
        return 0;
    atomic_store(&orders->hit_life, life);
    atomic_fetch_add(&orders->hits, 1);
    errno = atomic_load(&orders->error);
    return 1;
}

/* Under both names: with large files, as here and in our programs, the first one is pwrite64. */
ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return fails(len < 4096 ? META : WRITE, fd) ? -1 : syscall(SYS_pwrite64, fd, data, len, at);
}
ssize_t pwrite_plain(int fd, const void *data, size_t len, off_t at) __asm__("pwrite");
ssize_t pwrite_plain(int fd, const void *data, size_t len, off_t at)
{
    return pwrite(fd, data, len, at);
}

ssize_t writev(int fd, const struct iovec *list, int count)
{
    return fails(WRITE, fd) ? -1 : syscall(SYS_writev, fd, list, count);
}

int fdatasync(int fd)
{
    return fails(SYNC, fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

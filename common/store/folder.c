#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/store/impl.h"

/* Where locks between processes or shared maps do not hold what they promise. */
static const char *network_file_system(long type)
{
    static const struct {
        long type;
        const char *name;
    } bad[] = {{0x6969, "NFS"}, {0x01021997, "9p"}, {0x517B, "SMB"}, {0xFF534D42, "CIFS"},
        {0xFE534D42, "SMB"}, {0x00C36400, "Ceph"}, {0x5346414F, "AFS"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if ((unsigned long)type == (unsigned long)bad[i].type)
            return bad[i].name;
    return NULL;
}

static int check_folder(const char *dir, int fd, bool read_only)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0)
        return err_fail(-errno, "store %s: %s", dir, strerror(errno));
    const char *name = network_file_system((long)fs.f_type);
    if (name)
        return err_fail(-EOPNOTSUPP, "store %s: on %s; a store needs a local disk", dir, name);
    if (read_only)
        return 0;
    if (st.st_uid != geteuid())
        return err_fail(-EACCES, "store %s: belongs to user %u, this process is user %u", dir,
            (unsigned)st.st_uid, (unsigned)geteuid());
    if ((st.st_mode & 0777) != 0700 && fchmod(fd, 0700) != 0)
        return err_fail(-errno, "store %s: mode 0700: %s", dir, strerror(errno));
    return 0;
}

/* flock belongs to the open file, so it keeps out a second opener in this very process as well, which LMDB
 * itself does not notice. It is on a file of its own: opening and closing LMDB's own files would drop LMDB's
 * locks. */
static int lock_owner(const char *dir, int dirfd, bool read_only, int *ret_lock_fd)
{
    int fd = openat(dirfd, "owner", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EROFS && read_only) { /* nobody can write there */
        *ret_lock_fd = -1;
        return 0;
    }
    if (fd < 0)
        return err_fail(-errno, "store %s/owner: %s", dir, strerror(errno));
    char pid[24] = {0};
    int rc = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        rc = errno;
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        long owner = n > 0 ? strtol(pid, NULL, 10) : 0;
        if (rc != EWOULDBLOCK)
            rc = err_fail(-rc, "store %s/owner: %s", dir, strerror(rc));
        else if (owner == (long)getpid())
            rc = err_fail(ERR_BUSY, "store %s: opened already in this process", dir);
        else
            rc = err_fail(ERR_BUSY, "store %s: in use by process %ld", dir, owner);
    } else {
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        /* only for the message above: a full disk must not keep anybody from reading */
        if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
            rc = 0;
    }
    if (rc)
        close(fd);
    else
        *ret_lock_fd = fd;
    return rc;
}

int folder_open(const char *dir, bool read_only, int *ret_lock_fd)
{
    if (!read_only && mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_fail(-errno, "store %s: cannot be made: %s", dir, strerror(errno));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return err_fail(-errno, "store %s: not a folder (symbolic links are not followed)", dir);
    if (fd < 0)
        return err_fail(-errno, "store %s: %s", dir, strerror(errno));
    int rc = check_folder(dir, fd, read_only);
    if (!rc)
        rc = lock_owner(dir, fd, read_only, ret_lock_fd);
    close(fd);
    return rc;
}

int folder_check_file(const char *dir, const char *name, bool *ret_there)
{
    char path[4096];
    struct stat st;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return -ENAMETOOLONG;
    if (lstat(path, &st) != 0) {
        *ret_there = false;
        return errno == ENOENT ? 0 : err_fail(-errno, "store %s: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return err_fail(-EPERM, "store %s: not a plain file with one name", path);
    if ((st.st_mode & 0777) != 0600 && st.st_uid == geteuid() && chmod(path, 0600) != 0)
        return err_fail(-errno, "store %s: mode 0600: %s", path, strerror(errno));
    *ret_there = true;
    return 0;
}

int folder_sync(const char *dir)
{
    static const char *const which[] = {".", ".."};
    for (size_t i = 0; i < COUNT_OF(which); i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, which[i]);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && i == 1)
            return 0; /* the folder above may be closed to us; then it is not ours to make durable */
        if (fd < 0)
            return err_fail(-errno, "store %s: %s", path, strerror(errno));
        int rc = fsync(fd) == 0 ? 0 : errno;
        close(fd);
        if (rc && rc != EINVAL)
            return err_fail(ERR_DISK, "store %s: %s", path, strerror(rc));
    }
    return 0;
}

/* One of the few names in a store's folder. */
static int name_path(const char *dir, const char *name, char ret_path[4096])
{
    return snprintf(ret_path, 4096, "%s/%s", dir, name) < 4096 ? 0 : -ENAMETOOLONG;
}

static int remove_name(const char *dir, const char *name)
{
    char path[4096];
    int rc = name_path(dir, name, path);
    if (rc)
        return rc;
    return unlink(path) == 0 || errno == ENOENT ? 0 : err_fail(-errno, "store %s: %s", path, strerror(errno));
}

int folder_clear(const char *dir)
{
    char path[4096];
    struct stat st;
    int rc = name_path(dir, "unfinished", path);
    if (rc || lstat(path, &st) != 0)
        return rc;
    rc = remove_name(dir, "data.mdb");
    return rc ? rc : remove_name(dir, "lock.mdb");
}

int folder_begin(const char *dir)
{
    char path[4096];
    int rc = name_path(dir, "unfinished", path);
    if (rc)
        return rc;
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_fail(-errno, "store %s: %s", path, strerror(errno));
    close(fd);
    return folder_sync(dir);
}

int folder_finish(const char *dir)
{
    int rc = folder_sync(dir); /* the store's name, before it counts */
    if (!rc)
        rc = remove_name(dir, "unfinished");
    return rc ? rc : folder_sync(dir);
}

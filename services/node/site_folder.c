#include "services/node/site_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int site_folder_init(struct site_folder *p, const char *dir)
{
    if (snprintf(p->dir, sizeof p->dir, "%s", dir) >= (int)sizeof p->dir || !*dir)
        return err_fail(-ENAMETOOLONG, "%.80s: not a folder's name", dir);
    return 0;
}

const char *site_folder_path(struct site_folder *p, const char *name)
{
    snprintf(p->path, sizeof p->path, "%s/%s", p->dir, name);
    return p->path;
}

bool site_folder_has(struct site_folder *p, const char *name)
{
    struct stat st;
    return lstat(site_folder_path(p, name), &st) == 0;
}

static void close_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static void dir_cleanup(DIR **d)
{
    if (*d)
        closedir(*d);
}

int site_folder_make(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    if (stat(path, &st) < 0)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_fail(-ENOTDIR, "%s: not a folder", path);
    if (st.st_uid != geteuid())
        return err_fail(-EPERM, "%s: belongs to another user", path);
    if ((st.st_mode & 077) && chmod(path, 0700) < 0)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    return 0;
}

int site_folder_sync(const char *path)
{
    CLEANUP(close_cleanup) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_fail(ERR_DISK, "%s: %s", path, strerror(errno));
    return 0;
}

/* Only what a site puts there may lie in a folder that is to become one. */
int site_folder_check_empty(struct site_folder *p)
{
    static const char *const ours[] = {".", "..", "sitetree.conf", "run", "keys", TOKEN_FILE, PARENTS_FILE,
        CHAIN_FILE ".new", PARENTS_FILE ".new", TOKEN_FILE ".new"};
    CLEANUP(dir_cleanup) DIR *d = opendir(p->dir);
    if (!d)
        return err_fail(-errno, "%s: %s", p->dir, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(ours); i++)
            known = known || strcmp(e->d_name, ours[i]) == 0;
        if (!known)
            return err_fail(
                ERR_EXISTS, "%s is in use: it holds %s. A site needs a folder of its own", p->dir, e->d_name);
    }
    return 0;
}

/* Makes the folders, and locks the outer one until *ret_lock is closed. */
int site_folder_lock(struct site_folder *p, const char *dir, int *ret_lock)
{
    int rc = site_folder_init(p, dir);
    if (!rc)
        rc = site_folder_make(p->dir);
    if (rc)
        return rc;
    CLEANUP(close_cleanup) int fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_fail(-errno, "%s: %s", p->dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return err_fail(ERR_BUSY, "%s: another command is setting it up at this moment", p->dir);
    *ret_lock = fd;
    fd = -1;
    return 0;
}

/* Keys that an earlier, broken call made are taken up again: nobody has seen them. */
int site_folder_sign_key(struct site_folder *p, const char *name, struct sign_key *ret_key)
{
    if (site_folder_has(p, name))
        return sign_key_load(p->path, ret_key);
    sign_key_new(ret_key);
    return sign_key_save(site_folder_path(p, name), ret_key);
}

int site_folder_link_key(struct site_folder *p, const char *name, struct link_key *ret_key)
{
    if (site_folder_has(p, name))
        return link_key_load(p->path, ret_key);
    link_key_new(ret_key);
    return link_key_save(site_folder_path(p, name), ret_key);
}

void site_folder_unlock(int *lock)
{
    close_cleanup(lock);
}

#include "services/node/backup.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/node/setup.h"
#include "services/node/site_folder.h"
#include "services/node/tables.h"

#define SUMS_MAX 65536
#define PIECE (1u << 20)

/* Everything that a backup may hold; whatever else a list names is refused. */
static const struct backup_file {
    const char *name, *from; /* from: where it lies in the site's folder, when that is elsewhere */
    bool always;
} backup_files[] = {
    {"site.chain", NULL, true},
    {"keys/site.key", NULL, true},
    {"keys/link.key", NULL, true},
    {"keys/head.key", NULL, false},
    {"keys/root.key", NULL, false},
    {"parents", NULL, false},
    {"sitetree.conf", NULL, false},
    {"node.mdb/data.mdb", STORE_COPY_FOLDER "/node.mdb/data.mdb", true},
    {"metadata/data.mdb", STORE_COPY_FOLDER "/metadata/data.mdb", true},
    {BACKUP_MANIFEST, NULL, true},
};
#define FILES COUNT_OF(backup_files)
static const char *const folders[] = {"keys", "node.mdb", "metadata"};

struct sums {
    bool there[FILES];
    struct hash digest[FILES];
    uint64_t size[FILES];
};

static void close_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD CLEANUP(close_cleanup) int

static int join_path(char out[4096], const char *dir, const char *name)
{
    return snprintf(out, 4096, "%s/%s", dir, name) < 4096
               ? 0
               : err_fail(-ENAMETOOLONG, "%.80s: the name is too long", dir);
}

static int failed(const char *path)
{
    int code = errno == ENOSPC || errno == EIO || errno == EDQUOT ? ERR_DISK
               : errno == ENOENT                                  ? ERR_NOT_FOUND
                                                                  : -errno;
    return err_fail(code, "%s: %s", path, strerror(errno));
}

/* Reads a regular file; to < 0: only its digest. */
static int stream(const char *from, int to, const char *to_name, struct hash *ret_digest, uint64_t *ret_size)
{
    struct stat st;
    struct sha256_state sha;
    uint64_t size = 0;
    AUTO_FD fd = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_FREE uint8_t *piece = malloc(PIECE);
    if (!piece)
        return -ENOMEM;
    if (fd < 0 || fstat(fd, &st) < 0)
        return failed(from);
    if (!S_ISREG(st.st_mode))
        return err_fail(ERR_CORRUPT, "%s: not a regular file", from);
    if (to < 0) /* from the disk, as far as the kernel lets us have that */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    sha256_start(&sha);
    for (ssize_t n; (n = read(fd, piece, PIECE)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(from);
        sha256_more(&sha, piece, (size_t)n);
        size += (uint64_t)n;
        for (ssize_t done = 0; to >= 0 && done < n;) {
            ssize_t w = write(to, piece + done, (size_t)(n - done));
            if (w < 0 && errno != EINTR)
                return failed(to_name);
            done += w > 0 ? w : 0;
        }
    }
    sha256_end(&sha, ret_digest);
    *ret_size = size;
    return 0;
}

static int copy_file(const char *from, const char *to, struct hash *ret_digest, uint64_t *ret_size)
{
    AUTO_FD fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(to);
    int rc = stream(from, fd, to, ret_digest, ret_size);
    return rc ? rc : fsync(fd) < 0 ? failed(to) : 0;
}

static void remove_names(const char *dir, const char *const *names, size_t n)
{
    char path[4096];
    for (size_t i = 0; i < n; i++)
        if (join_path(path, dir, names[i]) == 0 && unlink(path) < 0 && errno == EISDIR)
            (void)!rmdir(path);
}

/* A folder of ours, with nothing in it but what these functions put there. */
static void remove_half(const char *dir)
{
    static const char *const beside[] = {BACKUP_SUMS, "node.mdb/lock.mdb", "node.mdb/owner"};
    char path[4096];
    for (size_t i = 0; i < FILES; i++)
        if (join_path(path, dir, backup_files[i].name) == 0)
            unlink(path);
    remove_names(dir, beside, COUNT_OF(beside));
    for (size_t i = 0; i < COUNT_OF(folders); i++)
        if (join_path(path, dir, folders[i]) == 0)
            (void)!rmdir(path);
    (void)!rmdir(dir);
}

void backup_clear(const char *dir)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "owner"}, *const stores[] = {
                                                                              "node.mdb", "metadata"};
    char copies[4096], store[4096];
    if (join_path(copies, dir, STORE_COPY_FOLDER))
        return;
    for (size_t i = 0; i < COUNT_OF(stores); i++)
        if (join_path(store, copies, stores[i]) == 0) {
            remove_names(store, files, COUNT_OF(files));
            (void)!rmdir(store);
        }
    (void)!rmdir(copies);
}

/* A new folder beside the one that it will become. */
static int half_make(const char *name, char ret_half[4096])
{
    size_t n = strlen(name);
    while (n > 1 && name[n - 1] == '/')
        n--;
    if (n == 0 || snprintf(ret_half, 4096, "%.*s.part-XXXXXX", (int)n, name) >= 4096)
        return err_fail(-ENAMETOOLONG, "%.80s: not a folder's name", name);
    if (!mkdtemp(ret_half))
        return failed(name);
    char path[4096];
    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        int rc = join_path(path, ret_half, folders[i]);
        if (rc || mkdir(path, 0700) < 0) {
            rc = rc ? rc : failed(path);
            remove_half(ret_half);
            return rc;
        }
    }
    return 0;
}

static int sync_folders(const char *dir)
{
    char path[4096];
    int rc = site_folder_sync(dir);
    for (size_t i = 0; i < COUNT_OF(folders) && !rc; i++) {
        rc = join_path(path, dir, folders[i]);
        if (!rc)
            rc = site_folder_sync(path);
    }
    return rc;
}

/* The name it was asked for; durable. */
static int half_finish(const char *half, const char *name)
{
    char parent[4096];
    int rc = sync_folders(half);
    if (rc)
        return rc;
    if (rename(half, name) < 0)
        return errno == ENOTEMPTY || errno == EEXIST
                   ? err_fail(ERR_EXISTS, "%s: there is something in it", name)
                   : failed(name);
    snprintf(parent, sizeof parent, "%s", name);
    return site_folder_sync(dirname(parent));
}

static void sums_text(const struct sums *s, struct buf *out)
{
    char hex[65];
    for (size_t i = 0; i < FILES; i++)
        if (s->there[i])
            buf_fmt(out, "%s  %s\n", hex_encode(s->digest[i].b, 32, hex), backup_files[i].name);
}

static int manifest_write(const char *half, const struct backup_result *r, json_t *more, struct sums *s)
{
    char hex[65], path[4096], time[32];
    json_t *files = json_array();
    for (size_t i = 0; i < FILES; i++)
        if (s->there[i])
            json_array_append_new(
                files, json_pack("{s:s, s:I, s:s}", "name", backup_files[i].name, "size",
                           (json_int_t)s->size[i], "sha256", hex_encode(s->digest[i].b, 32, hex)));
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:o}", "schema", "sitetree.backup/1", "site",
        r->site.s, "tier", tier_word(r->tier), "hierarchy", hex_encode(r->hierarchy.b, 32, hex),
        "trust_version", (json_int_t)r->trust_version, "made", wall_text(clock_wall(&clock_real), time),
        "software", SITETREE_VERSION, "files", files);
    if (j && more)
        json_object_update(j, more);
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    json_decref(j);
    int rc = text ? join_path(path, half, BACKUP_MANIFEST) : -ENOMEM;
    if (!rc)
        rc = file_write_whole(path, view_str(text), 0600);
    free(text);
    if (!rc)
        rc = stream(path, -1, NULL, &s->digest[FILES - 1], &s->size[FILES - 1]);
    s->there[FILES - 1] = rc == 0;
    return rc;
}

/* Every file again, from the disk. */
static int read_back(const char *dir, const struct sums *s)
{
    char path[4096];
    for (size_t i = 0; i < FILES; i++) {
        struct hash digest;
        uint64_t size;
        if (!s->there[i])
            continue;
        int rc = join_path(path, dir, backup_files[i].name);
        if (!rc)
            rc = stream(path, -1, NULL, &digest, &size);
        if (rc)
            return rc;
        if (!hash_eq(&digest, &s->digest[i]))
            return err_fail(ERR_CORRUPT, "%s: its SHA-256 is not the one in " BACKUP_SUMS, path);
    }
    return 0;
}

static int copy_all(const char *dir, const char *half, bool with_root_key, struct sums *s)
{
    char from[4096], to[4096];
    for (size_t i = 0; i + 1 < FILES; i++) {
        const struct backup_file *f = &backup_files[i];
        struct stat st;
        int rc = join_path(from, dir, f->from ? f->from : f->name);
        if (!rc)
            rc = join_path(to, half, f->name);
        if (rc)
            return rc;
        bool root = strcmp(f->name, "keys/root.key") == 0;
        if ((root && !with_root_key) || (!f->always && !root && lstat(from, &st) < 0 && errno == ENOENT))
            continue;
        rc = copy_file(from, to, &s->digest[i], &s->size[i]);
        if (rc)
            return rc;
        s->there[i] = true;
    }
    return 0;
}

static int identity_load(const char *dir, struct backup_result *r)
{
    char path[4096];
    AUTO_BUF chain = {0};
    struct identity id;
    int rc = join_path(path, dir, CHAIN_FILE);
    if (!rc)
        rc = file_read_whole(path, TRUST_BYTES_MAX, &chain);
    if (!rc)
        rc = chain_hierarchy(buf_view(&chain), &r->hierarchy);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&chain), &r->hierarchy, &id);
    if (rc)
        return err_wrap(rc, "%s", path);
    r->site = identity_site(&id)->code;
    r->tier = identity_site(&id)->tier;
    r->trust_version = id.trust_version;
    return 0;
}

static void count(const struct sums *s, struct backup_result *r)
{
    for (size_t i = 0; i < FILES; i++)
        if (s->there[i]) {
            r->root_key = r->root_key || strcmp(backup_files[i].name, "keys/root.key") == 0;
            r->files++;
            r->bytes += s->size[i];
        }
}

/* The site as the daemon will load it: chain, keys and parents belong together. */
static int load_check(const char *half)
{
    struct node_options opt;
    struct node_keys keys;
    AUTO_BUF chain = {0};
    node_options_default(&opt);
    struct identity id;
    int rc = setup_load(half, &opt, &keys, &chain);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&chain), &opt.hierarchy, &id);
    if (!rc && (memcmp(identity_site(&id)->sign_key, keys.site.public, 32) != 0 ||
                   memcmp(identity_site(&id)->link_key, keys.link.public, 32) != 0))
        rc = err_fail(ERR_KEY, "%s: the keys are not those that " CHAIN_FILE " names", half);
    secret_wipe(&keys, sizeof keys);
    return rc;
}

static int fill_backup(
    const char *dir, const char *half, bool with_root_key, json_t *more, struct backup_result *r)
{
    struct sums s = {0};
    AUTO_BUF text = {0};
    char path[4096];
    int rc = copy_all(dir, half, with_root_key, &s);
    if (!rc)
        rc = manifest_write(half, r, more, &s);
    if (!rc)
        rc = join_path(path, half, BACKUP_SUMS);
    sums_text(&s, &text);
    if (!rc)
        rc = text.err ? text.err : file_write_whole(path, buf_view(&text), 0600);
    if (!rc)
        rc = read_back(half, &s);
    if (!rc)
        rc = load_check(half); /* keys and chain of one moment */
    count(&s, r);
    return rc;
}

int backup_make(
    const char *dir, const char *target, bool with_root_key, json_t *more, struct backup_result *ret_result)
{
    struct backup_result r = {0};
    struct stat st;
    char half[4096];
    int rc = crypto_init();
    if (!rc && lstat(target, &st) == 0)
        rc = err_fail(ERR_EXISTS, "%s is there already: a backup gets a folder of its own", target);
    AUTO_FD lock = rc ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!rc && lock < 0)
        rc = failed(dir);
    if (!rc && flock(lock, LOCK_EX | LOCK_NB) < 0)
        rc = err_fail(ERR_BUSY, "%s: another command is changing or copying it at this moment", dir);
    if (!rc)
        rc = identity_load(dir, &r);
    if (!rc)
        rc = half_make(target, half);
    if (!rc) {
        rc = fill_backup(dir, half, with_root_key, more, &r);
        if (!rc)
            rc = half_finish(half, target);
        if (rc)
            remove_half(half);
    }
    json_decref(more);
    if (!rc)
        *ret_result = r;
    return rc;
}

static int sums_line(const char *line, size_t len, struct sums *s)
{
    for (size_t i = 0; i < FILES; i++) {
        size_t n = strlen(backup_files[i].name);
        if (len != 66 + n || memcmp(line + 66, backup_files[i].name, n) != 0 ||
            memcmp(line + 64, "  ", 2) != 0)
            continue;
        char hex[65];
        memcpy(hex, line, 64);
        hex[64] = 0;
        if (s->there[i] || hex_decode(hex, s->digest[i].b, 32))
            break;
        s->there[i] = true;
        return 0;
    }
    return err_fail(
        ERR_CORRUPT, BACKUP_SUMS ": '%.*s' is no line of a backup", (int)(len < 80 ? len : 80), line);
}

static int sums_load(const char *backup, struct sums *s)
{
    char path[4096];
    AUTO_BUF text = {0};
    int rc = join_path(path, backup, BACKUP_SUMS);
    if (!rc)
        rc = file_read_whole(path, SUMS_MAX, &text);
    if (rc)
        return rc == ERR_NOT_FOUND || rc == -ENOTDIR
                   ? err_fail(ERR_NOT_FOUND, "%s: no backup: " BACKUP_SUMS " is not in it", backup)
                   : err_wrap(rc, "%s", path);
    const char *p = (const char *)text.data, *end = text.len ? p + text.len : p;
    while (p < end && !rc) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol)
            return err_fail(ERR_CORRUPT, "%s is cut short", path);
        rc = sums_line(p, (size_t)(eol - p), s);
        p = eol + 1;
    }
    for (size_t i = 0; i < FILES && !rc; i++)
        if (backup_files[i].always && !s->there[i])
            rc = err_fail(ERR_CORRUPT, "%s does not name %s", path, backup_files[i].name);
    return rc;
}

/* What the manifest says must be what the chain proves. */
static int manifest_check(const char *backup, struct backup_result *r)
{
    char path[4096], hex[65];
    AUTO_BUF text = {0};
    int rc = join_path(path, backup, BACKUP_MANIFEST);
    if (!rc)
        rc = file_read_whole(path, SUMS_MAX, &text);
    if (rc)
        return rc;
    json_t *j = json_loadb((const char *)text.data, text.len, 0, NULL);
    const char *schema = json_string_value(json_object_get(j, "schema")),
               *site = json_string_value(json_object_get(j, "site")),
               *hierarchy = json_string_value(json_object_get(j, "hierarchy")),
               *made = json_string_value(json_object_get(j, "made"));
    if (!schema || strcmp(schema, "sitetree.backup/1") != 0)
        rc = err_fail(ERR_VERSION, "%s: not a backup that this program knows", path);
    else if (!site || !hierarchy || strcmp(site, r->site.s) != 0 ||
             strcmp(hierarchy, hex_encode(r->hierarchy.b, 32, hex)) != 0)
        rc = err_fail(ERR_KEY, "%s: it is of another site than the keys beside it", path);
    snprintf(r->made, sizeof r->made, "%s", made ? made : "");
    r->manifest = rc ? NULL : json_incref(j);
    json_decref(j);
    return rc;
}

static bool is_free(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = true;
    if (!d)
        return errno == ENOENT;
    for (struct dirent *e; (e = readdir(d));)
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    closedir(d);
    return empty;
}

/* Of a central site: restored.c looks for it. It also shows that the store can be opened. */
static int mark(const char *half, bool central)
{
    char path[4096];
    struct store *store;
    struct store_txn *t;
    struct store_options so = {.tables = node_tables, .n_tables = node_n_tables};
    int rc = join_path(path, half, "node.mdb");
    if (!rc)
        rc = store_open_lmdb(path, &so, &store);
    if (rc)
        return rc;
    rc = store_begin(store, true, &t);
    if (!rc) {
        if (central)
            table_number_put(t, RESTORED_WORD, (uint64_t)clock_wall(&clock_real).ns);
        rc = store_commit(t);
    }
    store_close(store);
    return rc;
}

static int fill_site(const char *backup, const char *half, struct sums *s)
{
    char from[4096], to[4096];
    for (size_t i = 0; i + 1 < FILES; i++) { /* the manifest stays behind */
        struct hash digest;
        if (!s->there[i])
            continue;
        int rc = join_path(from, backup, backup_files[i].name);
        if (!rc)
            rc = join_path(to, half, backup_files[i].name);
        if (!rc)
            rc = copy_file(from, to, &digest, &s->size[i]);
        if (rc)
            return rc;
        if (!hash_eq(&digest, &s->digest[i]))
            return err_fail(ERR_CORRUPT, "%s: its SHA-256 is not the one in " BACKUP_SUMS, from);
    }
    return 0;
}

int backup_restore(const char *backup, const char *dir, bool dry, struct backup_result *ret_result)
{
    struct backup_result r = {0};
    struct sums s = {0};
    char half[4096];
    int rc = crypto_init();
    if (!rc && !is_free(dir))
        rc = err_fail(ERR_EXISTS,
            "%s: there is something in it already; a backup is restored into a folder of its own", dir);
    if (!rc)
        rc = sums_load(backup, &s);
    if (!rc)
        rc = read_back(backup, &s);
    if (!rc)
        rc = identity_load(backup, &r);
    if (!rc)
        rc = manifest_check(backup, &r);
    if (!rc && !dry) {
        rc = half_make(dir, half);
        if (!rc) {
            rc = fill_site(backup, half, &s);
            if (!rc)
                rc = load_check(half);
            if (!rc)
                rc = mark(half, r.tier == TIER_CENTRAL);
            if (!rc)
                rc = half_finish(half, dir);
            if (rc)
                remove_half(half);
        }
    }
    count(&s, &r);
    if (rc)
        json_decref(r.manifest);
    else
        *ret_result = r;
    return rc;
}

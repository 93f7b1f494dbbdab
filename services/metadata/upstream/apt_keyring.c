#include "services/metadata/upstream/apt_keyring.h"

#include "common/crypto/crypto.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char begin_key[] = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
static const char end_key[] = "-----END PGP PUBLIC KEY BLOCK-----";

static struct view line_next(struct view *rest)
{
    const uint8_t *nl = memchr(rest->data, '\n', rest->len);
    size_t len = nl ? (size_t)(nl - rest->data) : rest->len, used = nl ? len + 1 : len;
    struct view line = view_of(rest->data, len);
    *rest = view_of(rest->data + used, rest->len - used);
    while (line.len && strchr(" \t\r", line.data[line.len - 1]))
        line.len--;
    while (line.len && (*line.data == ' ' || *line.data == '\t'))
        line = view_of(line.data + 1, line.len - 1);
    return line;
}

/* Lines of the common base64 alphabet, in the alphabet of ours and without padding. */
static void add_line(struct buf *text, struct view line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] != '=')
            buf_u8(text, line.data[i] == '+' ? '-' : line.data[i] == '/' ? '_' : line.data[i]);
}

static int block_decode(struct view *rest, struct buf *out)
{
    AUTO_BUF text = {0};
    AUTO_BUF bytes = {0};
    bool body = false;
    while (rest->len) {
        struct view line = line_next(rest);
        if (view_eq(line, view_str(end_key))) {
            if (text.err)
                return text.err;
            if (text.len == 0)
                return err_fail(ERR_MALFORMED, "an armored key with nothing in it");
            int rc = base64_decode(buf_view(&text), &bytes);
            buf_append_view(out, buf_view(&bytes));
            return rc ? rc : out->err;
        }
        bool header = !body && line.len && memmem(line.data, line.len, ": ", 2);
        if (!body && !header && line.len == 0) {
            body = true;
        } else if (!header && line.len && *line.data != '=' && !view_eq(line, view_str("."))) {
            body = true; /* "." is the empty line of a key inside a sources file */
            add_line(&text, line);
        }
    }
    return err_fail(ERR_MALFORMED, "an armored key without its end");
}

int armor_decode(struct view text, struct buf *ret_keys)
{
    bool any = false;
    buf_reset(ret_keys);
    while (text.len) {
        struct view line = line_next(&text);
        if (!view_eq(line, view_str(begin_key)))
            continue;
        any = true;
        int rc = block_decode(&text, ret_keys);
        if (rc)
            return rc;
    }
    return any ? 0 : err_fail(ERR_MALFORMED, "no armored public key");
}

static bool is_armored(struct view v)
{
    return v.len && memmem(v.data, v.len, begin_key, sizeof begin_key - 1);
}

static int add_path(struct keyrings *k, const char *path)
{
    if (k->n == KEYRINGS_MAX)
        return err_fail(ERR_CONFIG, "keyring: more than %d files", KEYRINGS_MAX);
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    k->path[k->n++] = copy;
    return 0;
}

static int add_armored(struct keyrings *k, struct view text, const char *dir)
{
    AUTO_BUF keys = {0};
    char path[4096];
    int rc = armor_decode(text, &keys);
    if (rc || !dir)
        return rc;
    if (snprintf(path, sizeof path, "%s/keyring-%zu.gpg", dir, k->n) >= (int)sizeof path)
        return err_fail(-ENAMETOOLONG, "%s: name too long", dir);
    rc = file_write_whole(path, buf_view(&keys), 0600);
    return rc ? rc : add_path(k, path);
}

static int add_file(struct keyrings *k, const char *path, const char *dir)
{
    AUTO_BUF content = {0};
    int rc = file_read_whole(path, KEYRING_FILE_MAX, &content);
    if (rc)
        return err_fail(
            ERR_CONFIG, "keyring %s: %s", path, rc == ERR_NOT_FOUND ? "no such file" : err_sentence(rc));
    if (content.len == 0)
        return err_fail(ERR_CONFIG, "keyring %s: empty", path);
    if (is_armored(buf_view(&content)))
        return err_wrap(add_armored(k, buf_view(&content), dir), "keyring %s", path);
    return add_path(k, path);
}

static int is_keyring_name(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return d->d_name[0] != '.' && dot && (strcmp(dot, ".gpg") == 0 || strcmp(dot, ".asc") == 0);
}

static int add_folder(struct keyrings *k, const char *path, const char *dir)
{
    struct dirent **names;
    int rc = 0, n = scandir(path, &names, is_keyring_name, alphasort);
    if (n < 0)
        return err_fail(ERR_CONFIG, "keyring %s: %s", path, strerror(errno));
    if (n == 0)
        rc = err_fail(ERR_CONFIG, "keyring %s: no *.gpg and no *.asc in this folder", path);
    for (int i = 0; i < n; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (!rc)
            rc = add_file(k, file, dir);
        free(names[i]);
    }
    free(names);
    return rc;
}

static int add_part(struct keyrings *k, const char *part, const char *dir)
{
    struct stat st;
    if (part[0] != '/')
        return err_fail(ERR_CONFIG, "keyring %s: not an absolute path", part);
    if (stat(part, &st) == 0 && S_ISDIR(st.st_mode))
        return add_folder(k, part, dir);
    return add_file(k, part, dir);
}

void keyrings_done(struct keyrings *k)
{
    for (size_t i = 0; i < k->n; i++)
        free(k->path[i]);
    k->n = 0;
}

int keyrings_open(const char *spec, const char *dir, struct keyrings *ret_list)
{
    struct keyrings k = {.n = 0};
    int rc = 0;
    if (is_armored(view_str(spec))) {
        rc = err_wrap(add_armored(&k, view_str(spec), dir), "keyring");
    } else {
        char copy[8192], *at = copy, *part;
        if (strlen(spec) >= sizeof copy)
            return err_fail(ERR_CONFIG, "keyring: list of more than %zu bytes", sizeof copy);
        strcpy(copy, spec);
        while (!rc && (part = strsep(&at, ",")))
            if (*part)
                rc = add_part(&k, part, dir);
        if (!rc && dir && k.n == 0)
            rc = err_fail(ERR_CONFIG, "keyring: none named");
    }
    if (rc == ERR_MALFORMED)
        rc = err_fail(ERR_CONFIG, "%s", err_text(rc));
    if (rc || !dir)
        keyrings_done(&k);
    if (!rc)
        *ret_list = k;
    return rc;
}

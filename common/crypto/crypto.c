#include "common/crypto/crypto.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(crypto_generichash_blake2b_state) <= sizeof(struct hash_state), "hash_state too small");
_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256_state), "sha256_state too small");

int crypto_init(void)
{
    return sodium_init() < 0 ? err_fail(ERR_INTERNAL, "libsodium did not start") : 0;
}

static void random_fill(void *ctx, void *out, size_t len)
{
    (void)ctx;
    randombytes_buf(out, len);
}

const struct random_source random_real = {random_fill, NULL};

static void personal(const char *domain, uint8_t out[16])
{
    size_t n = strlen(domain);
    INVARIANT(n <= 16);
    memset(out, 0, 16);
    memcpy(out, domain, n);
}

void hash_start(struct hash_state *s, const char *domain, const uint8_t salt[16])
{
    uint8_t p[16];
    personal(domain, p);
    crypto_generichash_blake2b_init_salt_personal((void *)s->opaque, NULL, 0, 32, salt, p);
}

void hash_more(struct hash_state *s, const void *data, size_t len)
{
    crypto_generichash_blake2b_update((void *)s->opaque, data, len);
}

void hash_end(struct hash_state *s, struct hash *ret_hash)
{
    crypto_generichash_blake2b_final((void *)s->opaque, ret_hash->b, 32);
}

void hash_bytes(const char *domain, const uint8_t salt[16], struct view data, struct hash *ret_hash)
{
    uint8_t p[16];
    personal(domain, p);
    crypto_generichash_blake2b_salt_personal(ret_hash->b, 32, data.data, data.len, NULL, 0, salt, p);
}

void sha256_start(struct sha256_state *s)
{
    crypto_hash_sha256_init((void *)s->opaque);
}
void sha256_more(struct sha256_state *s, const void *data, size_t len)
{
    crypto_hash_sha256_update((void *)s->opaque, data, len);
}
void sha256_end(struct sha256_state *s, struct hash *ret_hash)
{
    crypto_hash_sha256_final((void *)s->opaque, ret_hash->b);
}

void sign_key_new(struct sign_key *ret_key)
{
    crypto_sign_keypair(ret_key->public, ret_key->secret);
}

void sign_key_from_seed(const uint8_t seed[32], struct sign_key *ret_key)
{
    crypto_sign_seed_keypair(ret_key->public, ret_key->secret, seed);
}

void link_key_new(struct link_key *ret_key)
{
    uint8_t seed[32];
    randombytes_buf(seed, sizeof seed);
    link_key_from_seed(seed, ret_key);
    sodium_memzero(seed, sizeof seed);
}

void link_key_from_seed(const uint8_t seed[32], struct link_key *ret_key)
{
    memcpy(ret_key->secret, seed, 32);
    crypto_scalarmult_curve25519_base(ret_key->public, ret_key->secret);
}

static void start_signing(
    crypto_generichash_blake2b_state *s, const char *domain, struct view payload, uint8_t out[64])
{
    static const char prefix[] = "sitetree/1 ";
    crypto_generichash_blake2b_init(s, NULL, 0, 64);
    crypto_generichash_blake2b_update(s, (const uint8_t *)prefix, sizeof prefix - 1);
    crypto_generichash_blake2b_update(s, (const uint8_t *)domain, strlen(domain) + 1);
    crypto_generichash_blake2b_update(s, payload.data, payload.len);
    crypto_generichash_blake2b_final(s, out, 64);
}

/* What is signed is the 64-byte BLAKE2b of prefix, domain, NUL and payload: one pass over the payload at any
 * size. */
void sign_detached(
    const struct sign_key *key, const char *domain, struct view payload, uint8_t ret_signature[64])
{
    crypto_generichash_blake2b_state s;
    uint8_t digest[64];
    start_signing(&s, domain, payload, digest);
    crypto_sign_detached(ret_signature, NULL, digest, sizeof digest, key->secret);
}

int sign_verify(const uint8_t public[32], const char *domain, struct view payload, struct view signature)
{
    crypto_generichash_blake2b_state s;
    uint8_t digest[64];
    if (signature.len != 64)
        return err_fail(ERR_SIGNATURE, "signature of %zu bytes, not 64", signature.len);
    start_signing(&s, domain, payload, digest);
    if (crypto_sign_verify_detached(signature.data, digest, sizeof digest, public))
        return err_fail(ERR_SIGNATURE, "the %s signature does not match its key", domain);
    return 0;
}

void hierarchy_id(const uint8_t root_public[32], struct hash *ret_id)
{
    hash_bytes("hierarchy", NULL, view_of(root_public, 32), ret_id);
}

bool secret_eq(const void *a, const void *b, size_t len)
{
    return sodium_memcmp(a, b, len) == 0;
}

void secret_wipe(void *p, size_t len)
{
    sodium_memzero(p, len);
}

static void close_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static int sync_folder_of(const char *path)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    else
        snprintf(dir, sizeof dir, ".");
    CLEANUP(close_cleanup) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_fail(-errno, "%s: %s", dir, strerror(errno));
    return 0;
}

int file_write_whole(const char *path, struct view content, unsigned mode)
{
    char tmp[4096];
    if (snprintf(tmp, sizeof tmp, "%s.new", path) >= (int)sizeof tmp)
        return err_fail(-ENAMETOOLONG, "%s: name too long", path);
    unlink(tmp);
    int rc = 0;
    {
        CLEANUP(close_cleanup) int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0)
            return err_fail(-errno, "%s: %s", tmp, strerror(errno));
        for (size_t done = 0; done < content.len && !rc;) {
            ssize_t n = write(fd, content.data + done, content.len - done);
            if (n < 0 && errno != EINTR)
                rc = -errno;
            else if (n > 0)
                done += (size_t)n;
        }
        if (!rc && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
            rc = -errno;
    }
    if (!rc && rename(tmp, path) < 0)
        rc = -errno;
    if (rc) {
        unlink(tmp);
        return err_fail(
            rc == -EIO || rc == -ENOSPC || rc == -EDQUOT ? ERR_DISK : rc, "%s: %s", path, strerror(-rc));
    }
    return sync_folder_of(path);
}

static int read_fd(int fd, const char *path, size_t max, struct buf *out)
{
    for (;;) {
        buf_reserve(out, 4096);
        if (out->err)
            return out->err;
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return err_fail(-errno, "%s: %s", path, strerror(errno));
        if (n > 0)
            out->len += (size_t)n;
        if (out->len > max)
            return err_fail(ERR_TOO_LARGE, "%s: larger than %zu bytes", path, max);
    }
}

int file_read_whole(const char *path, size_t max, struct buf *ret_content)
{
    struct stat st;
    CLEANUP(close_cleanup) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_fail(errno == ENOENT ? ERR_NOT_FOUND : -errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) /* a pipe or a device would make the reader wait for ever */
        return err_fail(S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, "%s: not a regular file", path);
    buf_reset(ret_content);
    return read_fd(fd, path, max, ret_content);
}

int key_file_write(const char *path, const char *kind, const void *secret, size_t len)
{
    char line[256], hex[129];
    INVARIANT(len <= 64);
    int n = snprintf(line, sizeof line, "sitetree-%s %s\n", kind, hex_encode(secret, len, hex));
    int rc = file_write_whole(path, view_of(line, (size_t)n), 0600);
    secret_wipe(line, sizeof line);
    secret_wipe(hex, sizeof hex);
    return rc;
}

static int key_file_check(int fd, const char *path)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_fail(ERR_KEY_FILE, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_fail(ERR_KEY_FILE, "%s: not a regular file", path);
    if (st.st_uid != geteuid())
        return err_fail(ERR_KEY_FILE, "%s: belongs to another user; mend it with: chown %u %s", path,
            (unsigned)geteuid(), path);
    if (st.st_mode & 077)
        return err_fail(ERR_KEY_FILE, "%s: readable by others (mode %03o); mend it with: chmod 600 %s", path,
            (unsigned)(st.st_mode & 0777), path);
    return 0;
}

int key_file_read(const char *path, const char *kind, void *ret_secret, size_t len)
{
    CLEANUP(close_cleanup) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_fail(ERR_KEY_FILE, "%s: %s", path,
            errno == ELOOP ? "a symbolic link, not a regular file" : strerror(errno));
    int rc = key_file_check(fd, path);
    if (rc)
        return rc;
    char line[512], want[64]; /* not on the heap: wiped below, and never copied by a growing buffer */
    ssize_t got = read(fd, line, sizeof line - 1);
    int n = snprintf(want, sizeof want, "sitetree-%s ", kind);
    if (got < 0) {
        rc = err_fail(ERR_KEY_FILE, "%s: %s", path, strerror(errno));
    } else {
        while (got > 0 && (line[got - 1] == '\n' || line[got - 1] == ' '))
            got--;
        line[got] = 0;
        if (strlen(line) != (size_t)got || strncmp(line, want, (size_t)n) != 0 ||
            hex_decode(line + n, ret_secret, len))
            rc = err_fail(ERR_KEY_FILE, "%s: not a %s key file", path, kind);
    }
    secret_wipe(line, sizeof line);
    return rc;
}

int sign_key_save(const char *path, const struct sign_key *key)
{
    uint8_t seed[32];
    crypto_sign_ed25519_sk_to_seed(seed, key->secret);
    int rc = key_file_write(path, "sign", seed, sizeof seed);
    secret_wipe(seed, sizeof seed);
    return rc;
}

int sign_key_load(const char *path, struct sign_key *ret_key)
{
    uint8_t seed[32];
    int rc = key_file_read(path, "sign", seed, sizeof seed);
    if (!rc)
        sign_key_from_seed(seed, ret_key);
    secret_wipe(seed, sizeof seed);
    return rc;
}

int link_key_save(const char *path, const struct link_key *key)
{
    return key_file_write(path, "link", key->secret, sizeof key->secret);
}

int link_key_load(const char *path, struct link_key *ret_key)
{
    uint8_t seed[32];
    int rc = key_file_read(path, "link", seed, sizeof seed);
    if (!rc)
        link_key_from_seed(seed, ret_key);
    secret_wipe(seed, sizeof seed);
    return rc;
}

void base64_encode(struct view v, struct buf *out)
{
    size_t need = sodium_base64_encoded_len(v.len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    buf_reserve(out, need);
    if (out->err)
        return;
    sodium_bin2base64(
        (char *)out->data + out->len, need, v.data, v.len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    out->len += need - 1;
}

int base64_decode(struct view text, struct buf *ret_bytes)
{
    size_t n = 0;
    buf_reset(ret_bytes);
    buf_reserve(ret_bytes, text.len + 1);
    if (ret_bytes->err)
        return ret_bytes->err;
    /* Checked here: libsodium 1.0.18 takes some bytes above 127 for letters. */
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                c == '_'))
            return err_fail(ERR_MALFORMED, "not base64");
    }
    const char *end;
    if (sodium_base642bin(ret_bytes->data, ret_bytes->cap, (const char *)text.data, text.len, NULL, &n, &end,
            sodium_base64_VARIANT_URLSAFE_NO_PADDING) ||
        end != (const char *)text.data + text.len)
        return err_fail(ERR_MALFORMED, "not base64");
    ret_bytes->len = n;
    return 0;
}

uint32_t checksum32(struct view v)
{
    struct hash h;
    hash_bytes("checksum", NULL, v, &h);
    return (uint32_t)h.b[0] << 24 | (uint32_t)h.b[1] << 16 | (uint32_t)h.b[2] << 8 | h.b[3];
}

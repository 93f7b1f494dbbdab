/* Digests, signatures, link keys and key files: the only user of <sodium.h>. Every hash and signature carries
 * a domain, so that bytes made for one purpose can never stand for another. Threading: safe after
 * crypto_init(). */
#pragma once
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/id.h"

int crypto_init(void) MUST_CHECK; /* once, first */
extern const struct random_source random_real;

struct sign_key {
    uint8_t public[32], secret[64];
};
struct link_key { /* X25519, for CURVE */
    uint8_t public[32], secret[32];
};

/* BLAKE2b-256 with a 16-byte personalisation (domain, zero padded) and a 16-byte salt (NULL: zeros). */
void hash_bytes(const char *domain, const uint8_t salt[16], struct view data, struct hash *ret_hash);
/* In pieces. */
struct hash_state {
    _Alignas(64) uint8_t opaque[384];
};
void hash_start(struct hash_state *s, const char *domain, const uint8_t salt[16]);
void hash_more(struct hash_state *s, const void *data, size_t len);
void hash_end(struct hash_state *s, struct hash *ret_hash);
/* SHA-256 of a stream, for what upstreams name by it. */
struct sha256_state {
    _Alignas(64) uint8_t opaque[128];
};
void sha256_start(struct sha256_state *s);
void sha256_more(struct sha256_state *s, const void *data, size_t len);
void sha256_end(struct sha256_state *s, struct hash *ret_hash);

void sign_key_new(struct sign_key *ret_key);
void sign_key_from_seed(const uint8_t seed[32], struct sign_key *ret_key);
void link_key_new(struct link_key *ret_key);
void link_key_from_seed(const uint8_t seed[32], struct link_key *ret_key);

/* Ed25519 over "sitetree/1 <domain>" NUL payload. */
void sign_detached(
    const struct sign_key *key, const char *domain, struct view payload, uint8_t ret_signature[64]);
int sign_verify(const uint8_t public[32], const char *domain, struct view payload,
    struct view signature) MUST_CHECK; /* ERR_SIGNATURE */

/* The id of a hierarchy: BLAKE2b-256 of its root public key. */
void hierarchy_id(const uint8_t root_public[32], struct hash *ret_id);

/* Constant time, for secrets only. */
bool secret_eq(const void *a, const void *b, size_t len);
void secret_wipe(void *p, size_t len);

/* Key files: one line "sitetree-<kind> <hex>", 0600, ours, a regular file; written by temporary file, fsync,
 * rename. kind is "sign" or "link". ERR_KEY_FILE with the reason and the chmod or chown that mends it. */
int key_file_write(const char *path, const char *kind, const void *secret, size_t len) MUST_CHECK;
int key_file_read(const char *path, const char *kind, void *ret_secret, size_t len) MUST_CHECK;
/* The same for whole structs (the secret seed is stored, the public part recomputed). */
int sign_key_save(const char *path, const struct sign_key *key) MUST_CHECK;
int sign_key_load(const char *path, struct sign_key *ret_key) MUST_CHECK;
int link_key_save(const char *path, const struct link_key *key) MUST_CHECK;
int link_key_load(const char *path, struct link_key *ret_key) MUST_CHECK;
/* Writes any file so that it is there whole or not at all, and durable. mode e.g. 0600. */
int file_write_whole(const char *path, struct view content, unsigned mode) MUST_CHECK;
/* Reads a whole file of at most max bytes. ERR_NOT_FOUND, ERR_TOO_LARGE, -errno. */
int file_read_whole(const char *path, size_t max, struct buf *ret_content) MUST_CHECK;

/* URL-safe base64 without padding. */
void base64_encode(struct view v, struct buf *out);
int base64_decode(struct view text, struct buf *ret_bytes) MUST_CHECK;
uint32_t checksum32(struct view v); /* first 4 bytes of a hash: finds typing errors, is no protection */

/* The bare loop beside the import bench: reads apt indexes from disk and keeps the stanzas.
 *     bare_import FOLDER PACKAGES.xz...
 * xz decompression, SHA-256 over the plain bytes, one LMDB append a stanza, one durable commit. Prints one
 * JSON object. */
#include <lzma.h>
#include <sodium.h>

#include "tests/bench/bare.h"

static uint8_t *file_load(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END))
        DIE("cannot read %s", path);
    *ret_len = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = grow(NULL, *ret_len);
    if (fread(p, 1, *ret_len, f) != *ret_len)
        DIE("cannot read %s", path);
    fclose(f);
    return p;
}

/* The plain bytes of one file, hashed on the way. */
static uint8_t *unpack(const char *path, size_t *ret_len)
{
    size_t packed_len, cap = 64 << 20, len = 0;
    uint8_t *packed = file_load(path, &packed_len), *plain = grow(NULL, cap);
    uint8_t digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_state h;
    lzma_stream z = LZMA_STREAM_INIT;
    crypto_hash_sha256_init(&h);
    if (lzma_stream_decoder(&z, UINT64_MAX, 0) != LZMA_OK)
        DIE("lzma");
    z.next_in = packed;
    z.avail_in = packed_len;
    for (lzma_ret r = LZMA_OK; r != LZMA_STREAM_END;) {
        size_t piece = 1 << 20;
        if (cap - len < piece)
            plain = grow(plain, cap *= 2);
        z.next_out = plain + len;
        z.avail_out = piece;
        r = lzma_code(&z, LZMA_FINISH);
        if (r != LZMA_OK && r != LZMA_STREAM_END)
            DIE("%s: not a valid xz file", path);
        crypto_hash_sha256_update(&h, plain + len, piece - z.avail_out);
        len += piece - z.avail_out;
    }
    lzma_end(&z);
    crypto_hash_sha256_final(&h, digest);
    free(packed);
    *ret_len = len;
    return plain;
}

int main(int argc, char **argv)
{
    if (argc < 3 || sodium_init() < 0) {
        fprintf(stderr, "usage: bare_import FOLDER PACKAGES.xz...\n");
        return 2;
    }
    struct table t = table_open(argv[1], "import");
    MDB_txn *txn;
    uint64_t n = 0;
    size_t bytes = 0;
    double start = now_s();
    CHECK_MDB(mdb_txn_begin(t.env, NULL, 0, &txn));
    for (int i = 2; i < argc; i++) {
        size_t len;
        uint8_t *plain = unpack(argv[i], &len);
        for (size_t at = 0; at < len;) {
            const uint8_t *end = memmem(plain + at, len - at, "\n\n", 2);
            size_t l = end ? (size_t)(end - plain) + 2 - at : len - at;
            table_append(&t, txn, ++n, plain + at, l);
            at += l;
        }
        bytes += len;
        free(plain);
    }
    CHECK_MDB(mdb_txn_commit(txn));
    printf("{\"seconds\":%.6f,\"records\":%llu,\"payload\":%zu}\n", now_s() - start, (unsigned long long)n,
        bytes);
    return 0;
}

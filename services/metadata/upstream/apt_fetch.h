/* Brings files of a repository (http, https, file) into a folder of ours with libcurl: conditionally where
 * the server gave a mark, continued where a download was cut. Nothing fetched here is trusted: the caller
 * checks it. Ownership: a fetcher borrows the request and dies before it. Threading: one thread per fetcher
 * and folder. */
#pragma once
#include "services/metadata/source.h"

struct fetcher;
int fetcher_open(const struct source_request *r, const char *uri, struct fetcher **ret_fetcher) MUST_CHECK;
void fetcher_close(struct fetcher *f);           /* takes NULL */
uint64_t fetcher_bytes(const struct fetcher *f); /* received so far, bodies only */

/* Fetches uri/path to the file dest (replaced whole, or left as it was). dest with ".http" behind keeps the
 * marks for the next time: when conditional and dest is there, "not modified" leaves dest and sets
 * *ret_unchanged. ERR_NOT_FOUND: the repository has no such file; ERR_TOO_LARGE: more than max bytes;
 * ERR_NETWORK: not reached, or stalled; ERR_UPSTREAM: any other answer; ERR_DISK; ERR_CANCELLED. */
int fetch_small(struct fetcher *f, const char *path, const char *dest, size_t max, bool conditional,
    bool *ret_unchanged) MUST_CHECK;
/* Fetches uri/path of exactly size bytes to dest. The file dest with ".part" behind keeps what came before a
 * cut, and the next call goes on from there (then ret_continued). Errors as above; ERR_UPSTREAM when the
 * length is another. */
int fetch_large(
    struct fetcher *f, const char *path, const char *dest, uint64_t size, bool *ret_continued) MUST_CHECK;
/* The proxy that apt of this machine would use for a host: "" none named, "DIRECT" none wanted. */
int apt_proxy_for(const char *scheme, const char *host, atomic_bool *cancel, char ret_proxy[256]) MUST_CHECK;
/* The scheme and host part of a URI; false when it has none. out is cut to its size. */
bool uri_split(const char *uri, char scheme[16], char host[256]);

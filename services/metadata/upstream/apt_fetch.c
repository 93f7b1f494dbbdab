#include "services/metadata/upstream/apt_fetch.h"

#include "common/crypto/crypto.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_S 20L
#define STALL_BYTES_PER_S 500L
#define STALL_S 30L

struct fetcher {
    const struct source_request *r;
    CURL *curl;
    char uri[1024], error[CURL_ERROR_SIZE];
    uint64_t bytes;
};

/* One transfer into a file. */
struct transfer {
    struct fetcher *f;
    int fd;
    uint64_t at, max; /* bytes in the file */
    uint64_t expect;  /* for the progress; 0 unknown */
    int err;
    char etag[256], modified[64];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode started;

static void start_curl(void)
{
    started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t on_data(char *data, size_t one, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = one * n;
    if (len > t->max - t->at) {
        t->err = ERR_TOO_LARGE;
        return 0;
    }
    for (size_t done = 0; done < len;) {
        ssize_t w = write(t->fd, data + done, len - done);
        if (w < 0 && errno != EINTR) {
            t->err = errno == ENOSPC || errno == EIO || errno == EDQUOT ? ERR_DISK : -errno;
            return 0;
        }
        if (w > 0)
            done += (size_t)w;
    }
    t->at += len;
    t->f->bytes += len;
    return len;
}

static void take_mark(const char *line, size_t len, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    if (len <= n || strncasecmp(line, name, n) != 0)
        return;
    while (n < len && line[n] == ' ')
        n++;
    while (len > n && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
        len--;
    for (size_t i = n; i < len; i++)
        if (line[i] < 0x20 || line[i] == 0x7f)
            return;
    if (len - n < cap)
        snprintf(out, cap, "%.*s", (int)(len - n), line + n);
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    if (one * n > 5 && strncasecmp(line, "HTTP/", 5) == 0)
        t->etag[0] = t->modified[0] = 0; /* of a redirect before */
    take_mark(line, one * n, "ETag:", t->etag, sizeof t->etag);
    take_mark(line, one * n, "Last-Modified:", t->modified, sizeof t->modified);
    return one * n;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    struct transfer *t = ctx;
    const struct source_request *r = t->f->r;
    (void)total, (void)now, (void)up_total, (void)up_now;
    if (r->progress)
        r->progress(r->ctx, "fetch", 0, t->at, t->expect);
    return r->cancel && atomic_load(r->cancel);
}

bool uri_split(const char *uri, char scheme[16], char host[256])
{
    const char *colon = strstr(uri, "://");
    if (!colon || colon == uri || colon - uri >= 16)
        return false;
    snprintf(scheme, 16, "%.*s", (int)(colon - uri), uri);
    const char *from = colon + 3, *end = from + strcspn(from, "/?#"),
               *at = memrchr(from, '@', (size_t)(end - from));
    if (at)
        from = at + 1;
    if (*from == '[')
        snprintf(host, 256, "%.*s", (int)strcspn(from + 1, "]/"), from + 1);
    else
        snprintf(host, 256, "%.*s", (int)strcspn(from, ":/?#"), from);
    return true;
}

static bool is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

static int set_proxy(struct fetcher *f, const char *scheme, const char *host)
{
    char proxy[256];
    if (strcmp(scheme, "file") == 0)
        return 0;
    if (is_loopback(host)) {
        curl_easy_setopt(f->curl, CURLOPT_NOPROXY, "*");
        return 0;
    }
    int rc = apt_proxy_for(scheme, host, f->r->cancel, proxy);
    if (rc)
        return rc;
    if (strcmp(proxy, "DIRECT") == 0)
        curl_easy_setopt(f->curl, CURLOPT_NOPROXY, "*");
    else if (proxy[0])
        curl_easy_setopt(f->curl, CURLOPT_PROXY, proxy); /* else libcurl follows http_proxy and its kin */
    return 0;
}

int fetcher_open(const struct source_request *r, const char *uri, struct fetcher **ret_fetcher)
{
    char scheme[16], host[256];
    pthread_once(&once, start_curl);
    if (started)
        return err_fail(ERR_INTERNAL, "libcurl did not start");
    struct fetcher *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->r = r;
    f->curl = curl_easy_init();
    int rc = f->curl ? 0 : -ENOMEM;
    if (!rc &&
        (!uri_split(uri, scheme, host) || snprintf(f->uri, sizeof f->uri, "%s", uri) >= (int)sizeof f->uri))
        rc = err_fail(ERR_USAGE, "uri: '%.80s' is not a URI", uri);
    if (!rc)
        rc = set_proxy(f, scheme, host);
    if (rc) {
        fetcher_close(f);
        return rc;
    }
    for (size_t n = strlen(f->uri); n && f->uri[n - 1] == '/'; n--)
        f->uri[n - 1] = 0;
    curl_easy_setopt(f->curl, CURLOPT_PROTOCOLS_STR, "http,https,file");
    curl_easy_setopt(
        f->curl, CURLOPT_REDIR_PROTOCOLS_STR, strcmp(scheme, "https") == 0 ? "https" : "http,https");
    curl_easy_setopt(f->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(f->curl, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(f->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(f->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(f->curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    curl_easy_setopt(f->curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    curl_easy_setopt(f->curl, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(f->curl, CURLOPT_USERAGENT, "sitetree/" SITETREE_VERSION);
    curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, f->error);
    curl_easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(f->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(f->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(f->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(f->curl, CURLOPT_FAILONERROR, 1L);
    *ret_fetcher = f;
    return 0;
}

void fetcher_close(struct fetcher *f)
{
    if (!f)
        return;
    if (f->curl)
        curl_easy_cleanup(f->curl);
    free(f);
}

uint64_t fetcher_bytes(const struct fetcher *f)
{
    return f->bytes;
}

static int fail_curl(const struct transfer *t, const char *path, CURLcode code, long http)
{
    const char *why = t->f->error[0] ? t->f->error : curl_easy_strerror(code);
    if (t->err == ERR_TOO_LARGE)
        return err_fail(ERR_TOO_LARGE, "%s: more than %llu bytes", path, (unsigned long long)t->max);
    if (t->err)
        return err_fail(t->err, "%s: writing the cache: %s", path, err_sentence(t->err));
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
        return err_fail(ERR_CANCELLED, "%s: cancelled", path);
    case CURLE_FILE_COULDNT_READ_FILE:
        return err_fail(ERR_NOT_FOUND, "%s: no such file in %s", path, t->f->uri);
    case CURLE_HTTP_RETURNED_ERROR:
        if (http == 404 || http == 410)
            return err_fail(ERR_NOT_FOUND, "%s: %s answers %ld, no such file", path, t->f->uri, http);
        return err_fail(ERR_UPSTREAM, "%s: %s answers %ld", path, t->f->uri, http);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
        return err_fail(ERR_NETWORK, "%s: %s", path, why);
    case CURLE_OPERATION_TIMEDOUT:
        return err_fail(ERR_NETWORK, "%s: no answer, or less than %ld bytes/s for %ld s (%s)", path,
            STALL_BYTES_PER_S, STALL_S, why);
    default:
        return err_fail(ERR_UPSTREAM, "%s: %s", path, why);
    }
}

/* Runs the transfer; ret_code is what libcurl says, for the caller that can go on from it. */
static int transfer(struct transfer *t, const char *path, struct curl_slist *headers, uint64_t from,
    CURLcode *ret_code, long *ret_http)
{
    struct fetcher *f = t->f;
    char url[2048];
    if (snprintf(url, sizeof url, "%s/%s", f->uri, path) >= (int)sizeof url)
        return err_fail(ERR_USAGE, "uri: longer than %zu bytes", sizeof url);
    f->error[0] = 0;
    curl_easy_setopt(f->curl, CURLOPT_URL, url);
    curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(f->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)from);
    curl_easy_setopt(f->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(f->curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(f->curl, CURLOPT_XFERINFODATA, t);
    CURLcode code = curl_easy_perform(f->curl);
    *ret_http = 0;
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, ret_http);
    curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, NULL);
    *ret_code = code;
    return code ? fail_curl(t, path, code, *ret_http) : 0;
}

static int open_part(const char *part, int flags)
{
    int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    return fd < 0 ? err_fail(
                        errno == ENOSPC || errno == EIO ? ERR_DISK : -errno, "%s: %s", part, strerror(errno))
                  : fd;
}

/* The marks of the file, when they are of the same URL: url, ETag, Last-Modified, a line each. */
static struct curl_slist *condition(
    const struct fetcher *f, const char *path, const char *dest, const char *marks)
{
    AUTO_BUF b = {0};
    char line[2304];
    struct stat st;
    if (stat(dest, &st) < 0 || file_read_whole(marks, 4096, &b))
        return NULL;
    buf_u8(&b, 0);
    if (b.err)
        return NULL;
    char *at = (char *)b.data, *url = strsep(&at, "\n"), *etag = at ? strsep(&at, "\n") : NULL;
    char *modified = at ? strsep(&at, "\n") : NULL;
    snprintf(line, sizeof line, "%s/%s", f->uri, path);
    if (!modified || strcmp(url, line) != 0)
        return NULL;
    struct curl_slist *list = NULL;
    if (*etag) {
        snprintf(line, sizeof line, "If-None-Match: %s", etag);
        list = curl_slist_append(list, line);
    } else if (*modified) {
        snprintf(line, sizeof line, "If-Modified-Since: %s", modified);
        list = curl_slist_append(list, line);
    }
    return list;
}

static int save_marks(const struct fetcher *f, const struct transfer *t, const char *path, const char *marks)
{
    AUTO_BUF b = {0};
    if (!t->etag[0] && !t->modified[0]) {
        unlink(marks);
        return 0;
    }
    buf_fmt(&b, "%s/%s\n%s\n%s\n", f->uri, path, t->etag, t->modified);
    return b.err ? b.err : file_write_whole(marks, buf_view(&b), 0600);
}

int fetch_small(
    struct fetcher *f, const char *path, const char *dest, size_t max, bool conditional, bool *ret_unchanged)
{
    char part[4096], marks[4096];
    if (snprintf(part, sizeof part, "%s.part", dest) >= (int)sizeof part)
        return err_fail(-ENAMETOOLONG, "%s: name too long", dest);
    snprintf(marks, sizeof marks, "%.4000s.http", dest);
    struct transfer t = {.f = f, .max = max};
    if ((t.fd = open_part(part, O_TRUNC)) < 0)
        return t.fd;
    struct curl_slist *headers = conditional ? condition(f, path, dest, marks) : NULL;
    CURLcode code;
    long http = 0;
    int rc = transfer(&t, path, headers, 0, &code, &http);
    bool unchanged = !rc && headers && http == 304;
    curl_slist_free_all(headers);
    close(t.fd);
    if (!rc && !unchanged) {
        unlink(marks); /* marks never stand beside bytes that they are not of */
        if (rename(part, dest) < 0)
            rc = err_fail(-errno, "%s: %s", dest, strerror(errno));
        else
            rc = save_marks(f, &t, path, marks);
    } else {
        unlink(part);
    }
    if (!rc)
        *ret_unchanged = unchanged;
    return rc;
}

int fetch_large(struct fetcher *f, const char *path, const char *dest, uint64_t size, bool *ret_continued)
{
    char part[4096];
    struct stat st;
    if (snprintf(part, sizeof part, "%s.part", dest) >= (int)sizeof part)
        return err_fail(-ENAMETOOLONG, "%s: name too long", dest);
    uint64_t from = stat(part, &st) == 0 && (uint64_t)st.st_size < size ? (uint64_t)st.st_size : 0;
    for (;; from = 0) {
        struct transfer t = {.f = f, .at = from, .max = size, .expect = size};
        if ((t.fd = open_part(part, from ? O_APPEND : O_TRUNC)) < 0)
            return t.fd;
        CURLcode code = CURLE_OK;
        long http = 0;
        int rc = transfer(&t, path, NULL, from, &code, &http);
        close(t.fd);
        /* A server that cannot go on from there: once more from the start. */
        if (rc && from &&
            (code == CURLE_RANGE_ERROR || code == CURLE_BAD_DOWNLOAD_RESUME || http == 416 ||
                rc == ERR_TOO_LARGE))
            continue;
        if (rc == ERR_TOO_LARGE)
            rc = err_fail(ERR_UPSTREAM, "%s: longer than the %llu bytes that the Release file lists", path,
                (unsigned long long)size);
        else if (!rc && t.at != size)
            rc = err_fail(ERR_UPSTREAM, "%s: %llu bytes, but the Release file lists %llu", path,
                (unsigned long long)t.at, (unsigned long long)size);
        else if (!rc && rename(part, dest) < 0)
            rc = err_fail(-errno, "%s: %s", dest, strerror(errno));
        /* Only what a cut left over is worth going on from. */
        if (rc && rc != ERR_NETWORK && rc != ERR_CANCELLED)
            unlink(part);
        if (!rc)
            *ret_continued = from > 0;
        return rc;
    }
}

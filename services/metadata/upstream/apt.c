/* The apt adapter: one suite, component and architecture of a signed repository. In order: the Release file
 * and who signed it, whether it is of what was asked and still holds, the index by its digest, its packages.
 * Whatever fails leaves no set behind. */
#include "services/metadata/upstream/apt_config.h"
#include "services/metadata/upstream/apt_fetch.h"
#include "services/metadata/upstream/apt_packages.h"
#include "services/metadata/upstream/apt_release.h"
#include "services/metadata/upstream/apt_verify.h"

#include "common/crypto/crypto.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Changes when the same index would become other records. */
#define RECORD_FORMAT "1"

struct apt_run {
    const struct source_request *r;
    struct apt_config config;
    struct fetcher *fetcher;
    struct buf text; /* the signed text; the release borrows from it */
    struct release release;
    const char *label; /* InRelease or Release */
    char signer[80], origin[48], product[112];
    const char *classification;
    char version[160];
    struct source_set *set;
};

static void tell(const struct source_request *r, const char *phase)
{
    if (r->progress)
        r->progress(r->ctx, phase, 0, 0, 0);
}

/* DIR/name; names of ours are short. */
static int cache_path(const struct source_request *r, const char *name, char ret_path[4096])
{
    return snprintf(ret_path, 4096, "%s/%s", r->cache_dir, name) < 4000
               ? 0
               : err_fail(-ENAMETOOLONG, "%s: name too long", r->cache_dir);
}

static int dists_path(const struct apt_run *a, const char *name, char ret_path[512])
{
    return snprintf(ret_path, 512, "dists/%s/%s", a->config.suite, name) < 512
               ? 0
               : err_fail(ERR_USAGE, "suite: too long");
}

static int verify(struct apt_run *a, const char *file, const char *signature)
{
    const struct apt_trust t = {a->config.keyring, a->config.fingerprints, a->r->cache_dir, a->r->cancel};
    return apt_verify(&t, a->label, file, signature, &a->text, a->signer);
}

static void forget(const char *file)
{
    char marks[4200];
    snprintf(marks, sizeof marks, "%s.http", file);
    unlink(file);
    unlink(marks);
}

static int get_detached(struct apt_run *a)
{
    char path[512], file[4096], signature[4096];
    bool unchanged;
    a->label = "Release";
    int rc = dists_path(a, "Release", path);
    rc = rc ? rc : cache_path(a->r, "Release", file);
    rc = rc ? rc : fetch_small(a->fetcher, path, file, RELEASE_MAX, false, &unchanged);
    if (rc == ERR_NOT_FOUND)
        return err_fail(
            ERR_UPSTREAM, "no InRelease and no Release in %s/dists/%s", a->config.uri, a->config.suite);
    rc = rc ? rc : dists_path(a, "Release.gpg", path);
    rc = rc ? rc : cache_path(a->r, "Release.gpg", signature);
    rc = rc ? rc : fetch_small(a->fetcher, path, signature, RELEASE_MAX, false, &unchanged);
    if (rc == ERR_NOT_FOUND)
        return err_fail(ERR_UPSTREAM_SIGNATURE, "Release: not signed (no InRelease and no Release.gpg)");
    return rc ? rc : verify(a, file, signature);
}

/* A copy in the cache that the server calls current but that does not verify may be damaged here: then once
 * more. */
static int get_release(struct apt_run *a)
{
    char path[512], file[4096];
    bool unchanged;
    tell(a->r, "release");
    a->label = "InRelease";
    int rc = dists_path(a, "InRelease", path);
    rc = rc ? rc : cache_path(a->r, "InRelease", file);
    if (rc)
        return rc;
    for (bool conditional = true;; conditional = false) {
        rc = fetch_small(a->fetcher, path, file, RELEASE_MAX, conditional, &unchanged);
        if (rc == ERR_NOT_FOUND)
            return get_detached(a);
        if (rc)
            return rc;
        rc = verify(a, file, NULL);
        if (rc == ERR_UPSTREAM_SIGNATURE)
            forget(file);
        if (rc != ERR_UPSTREAM_SIGNATURE || !unchanged)
            return rc;
    }
}

static bool is_text(struct view v, const char *text)
{
    return view_eq(v, view_str(text));
}

static int check_what(const struct apt_run *a)
{
    const struct release *r = &a->release;
    const struct apt_config *c = &a->config;
    if (!is_text(r->suite, c->suite) && !is_text(r->codename, c->suite))
        return err_fail(ERR_UPSTREAM, "%s: asked for suite %s, but it is of suite '%.*s', codename '%.*s'",
            a->label, c->suite, (int)r->suite.len, r->suite.data, (int)r->codename.len, r->codename.data);
    if (r->components.len && !release_lists(r->components, c->component))
        return err_fail(ERR_UPSTREAM, "%s: no component %s; it has: %.*s", a->label, c->component,
            (int)r->components.len, r->components.data);
    if (r->architectures.len && !release_lists(r->architectures, c->architecture))
        return err_fail(ERR_UPSTREAM, "%s: no architecture %s; it has: %.*s", a->label, c->architecture,
            (int)r->architectures.len, r->architectures.data);
    return 0;
}

static int check_when(struct apt_run *a)
{
    const struct release *r = &a->release;
    char date[32], other[32];
    struct wall now = a->r->now.ns ? a->r->now : clock_wall(&clock_real);
    if (r->date.ns < a->r->seen_date.ns)
        return err_fail(ERR_UPSTREAM_STALE, "%s: of %s, older than the one of %s that was accepted before",
            a->label, wall_text(r->date, date), wall_text(a->r->seen_date, other));
    if (r->valid_until.ns && r->valid_until.ns < now.ns) {
        if (!a->config.ignore_expiry)
            return err_fail(ERR_UPSTREAM_STALE, "%s: expired, it was valid until %s (of %s)", a->label,
                wall_text(r->valid_until, other), wall_text(r->date, date));
        snprintf(a->set->warning, sizeof a->set->warning,
            "%s: was valid until %s; accepted, as this upstream is configured to ignore it", a->label,
            wall_text(r->valid_until, other));
    } else if (r->date.ns > now.ns + 600 * NS_PER_S) {
        snprintf(a->set->warning, sizeof a->set->warning,
            "%s: of %s, which is in the future: is the clock right?", a->label, wall_text(r->date, date));
    }
    return 0;
}

/* Origin in small letters, as a part of names. */
static void slug(struct view v, const char *fallback, char *out, size_t cap)
{
    size_t n = 0;
    if (!v.len)
        v = view_str(fallback);
    for (size_t i = 0; i < v.len && n + 1 < cap; i++) {
        uint8_t c = v.data[i];
        if (c >= 'A' && c <= 'Z')
            c = (uint8_t)(c + 'a' - 'A');
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '+';
        if (plain || (n && out[n - 1] != '-'))
            out[n++] = plain ? (char)c : '-';
    }
    out[n] = 0;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

static void name_things(struct apt_run *a)
{
    const struct release *r = &a->release;
    char component[80];
    size_t digits = 0;
    slug(r->origin, a->r->name, a->origin, sizeof a->origin);
    while (digits < r->version.len && r->version.data[digits] >= '0' && r->version.data[digits] <= '9')
        digits++;
    if (*a->config.product)
        snprintf(a->product, sizeof a->product, "%s", a->config.product);
    else if (digits && digits < 12)
        snprintf(a->product, sizeof a->product, "%s-%.*s", a->origin, (int)digits, r->version.data);
    else
        snprintf(a->product, sizeof a->product, "%s-%.60s", a->origin, a->config.suite);
    a->classification = a->config.classification;
    if (!*a->classification)
        a->classification = ends_with(a->config.suite, "-security") || is_text(r->label, "Debian-Security")
                                ? "security"
                                : "updates";
    snprintf(component, sizeof component, "%s", a->config.component);
    for (char *p = component; *p; p++)
        if (*p == '/')
            *p = '-';
    char suite[80];
    snprintf(suite, sizeof suite, "%s", a->config.suite);
    for (char *p = suite; *p; p++)
        if (*p == '/')
            *p = '-';
    snprintf(a->set->scope, sizeof a->set->scope, "%s/%.40s/%.20s/%.16s", a->origin, suite, component,
        a->config.architecture);
}

struct index_choice {
    enum index_format format;
    struct release_entry entry, plain;
    bool plain_known;
    char path[256]; /* below dists/SUITE */
};

static const struct {
    enum index_format format;
    const char *ending;
} formats[] = {{INDEX_XZ, ".xz"}, {INDEX_GZ, ".gz"}, {INDEX_PLAIN, ""}};

/* The i-th format, when the Release file lists it. */
static int choose(const struct apt_run *a, size_t i, struct index_choice *ret_choice)
{
    struct index_choice c = {.format = formats[i].format};
    char plain[256];
    snprintf(plain, sizeof plain, "%s/binary-%s/Packages", a->config.component, a->config.architecture);
    snprintf(c.path, sizeof c.path, "%.240s%s", plain, formats[i].ending);
    int rc = release_find(&a->release, c.path, &c.entry);
    if (rc)
        return rc;
    rc = release_find(&a->release, plain, &c.plain);
    if (rc && rc != ERR_NOT_FOUND)
        return rc;
    c.plain_known = rc == 0;
    *ret_choice = c;
    return 0;
}

/* Equal when the records would be equal: the date in front is for people. */
static int name_version(struct apt_run *a, const struct index_choice *c)
{
    char date[32], hex[65];
    struct hash h;
    AUTO_BUF b = {0};
    const uint8_t *digest = c->plain_known ? c->plain.sha256 : c->entry.sha256;
    buf_fmt(
        &b, "%s\n%s\n%s\n%s\n%s\n", RECORD_FORMAT, a->set->scope, a->product, a->classification, a->origin);
    if (b.err)
        return b.err;
    hash_bytes("apt-version", NULL, buf_view(&b), &h);
    snprintf(a->version, sizeof a->version, "%s sha256:%s", wall_text(a->release.date, date),
        hex_encode(digest, 32, hex));
    size_t n = strlen(a->version);
    snprintf(a->version + n, sizeof a->version - n, " %s", hex_encode(h.b, 8, hex));
    return 0;
}

static bool is_same_version(const char *a, const char *b)
{
    const char *x = strchr(a, ' '), *y = strchr(b, ' ');
    return x && y && strcmp(x, y) == 0;
}

static void index_name(const struct index_choice *c, char out[64])
{
    char hex[65];
    snprintf(out, 64, "index-%.40s%s", hex_encode(c->entry.sha256, 32, hex), formats[c->format].ending);
}

static int fetch_index(struct apt_run *a, const struct index_choice *c, const char *file, bool *ret_continued)
{
    char path[512], by_hash[512], hex[65];
    int rc = ERR_NOT_FOUND;
    if (a->release.by_hash) {
        snprintf(by_hash, sizeof by_hash, "%.*s/by-hash/SHA256/%s", (int)(strrchr(c->path, '/') - c->path),
            c->path, hex_encode(c->entry.sha256, 32, hex));
        rc = dists_path(a, by_hash, path);
        rc = rc ? rc : fetch_large(a->fetcher, path, file, c->entry.size, ret_continued);
    }
    if (rc != ERR_NOT_FOUND)
        return rc;
    rc = dists_path(a, c->path, path);
    return rc ? rc : fetch_large(a->fetcher, path, file, c->entry.size, ret_continued);
}

/* The index in the cache, with the digest that the Release file lists. */
static int get_index(struct apt_run *a, const struct index_choice *c, char ret_file[4096])
{
    char name[64];
    index_name(c, name);
    int rc = cache_path(a->r, name, ret_file);
    if (rc)
        return rc;
    rc = index_check(ret_file, c->entry.size, c->entry.sha256, a->r->cancel);
    if (rc != ERR_NOT_FOUND && rc != ERR_CORRUPT)
        return rc;
    tell(a->r, "fetch");
    for (;;) {
        bool continued = false;
        rc = fetch_index(a, c, ret_file, &continued);
        rc = rc ? rc : index_check(ret_file, c->entry.size, c->entry.sha256, a->r->cancel);
        if (rc != ERR_CORRUPT)
            return rc;
        unlink(ret_file);
        if (!continued)
            return err_fail(ERR_UPSTREAM,
                "%s: does not match its SHA256 in %s (altered, or the mirror is in the middle of an update)",
                c->path, a->label);
    }
}

/* What other runs left: only the index in use stays. */
static void clean_cache(const struct source_request *r, const char *keep)
{
    const char *name = strrchr(keep, '/') + 1;
    DIR *d = opendir(r->cache_dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, "index-", 6) == 0 && strcmp(e->d_name, name) != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

static int read_packages(struct apt_run *a, const struct index_choice *c, const char *file)
{
    const struct packages_job job = {a->r, a->set, a->product, a->classification, a->release.origin};
    tell(a->r, "parse");
    int rc = packages_read(&job, file, c->format, c->plain_known ? &c->plain.size : NULL);
    if (rc)
        return err_wrap(rc, "%s", c->path);
    source_sort(a->set);
    return 0;
}

static int get_packages(struct apt_run *a)
{
    struct index_choice c;
    char file[4096];
    bool listed = false;
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        int rc = choose(a, i, &c);
        if (rc == ERR_NOT_FOUND)
            continue;
        if (rc)
            return err_wrap(rc, "%s", a->label);
        if (!listed && (rc = name_version(a, &c)))
            return rc;
        listed = true;
        snprintf(a->set->version, sizeof a->set->version, "%s", a->version);
        if (a->r->version && is_same_version(a->version, a->r->version)) {
            a->set->unchanged = true;
            return 0;
        }
        rc = get_index(a, &c, file);
        if (rc == ERR_NOT_FOUND)
            continue;
        rc = rc ? rc : read_packages(a, &c, file);
        if (!rc)
            clean_cache(a->r, file);
        return rc;
    }
    if (listed)
        return err_fail(ERR_UPSTREAM, "none of the Packages files that %s lists for %s/%s is there", a->label,
            a->config.component, a->config.architecture);
    return err_fail(ERR_UPSTREAM, "%s: lists no Packages.xz, Packages.gz or Packages for %s/%s", a->label,
        a->config.component, a->config.architecture);
}

static int run(struct apt_run *a)
{
    int rc = apt_config_parse(a->r->config, true, a->r->cancel, &a->config);
    if (rc)
        return rc;
    if (mkdir(a->r->cache_dir, 0700) < 0 && errno != EEXIST)
        return err_fail(-errno, "%s: %s", a->r->cache_dir, strerror(errno));
    if ((rc = fetcher_open(a->r, a->config.uri, &a->fetcher)) || (rc = get_release(a)))
        return rc;
    rc = release_parse(buf_view(&a->text), &a->release);
    if (rc)
        return err_wrap(rc, "%s", a->label);
    if ((rc = check_what(a)) || (rc = check_when(a)))
        return rc;
    name_things(a);
    a->set->date = a->release.date;
    a->set->valid_until = a->release.valid_until;
    memcpy(a->set->signer, a->signer, sizeof a->set->signer);
    return get_packages(a);
}

static int apt_fetch(const struct source_request *r, struct source_set **ret_set)
{
    struct apt_run a = {.r = r, .set = source_new()};
    err_clear();
    int rc = a.set ? run(&a) : -ENOMEM;
    if (a.fetcher && a.set)
        a.set->bytes_fetched = fetcher_bytes(a.fetcher);
    fetcher_close(a.fetcher);
    buf_done(&a.text);
    if (rc == ERR_MALFORMED || rc == ERR_TOO_LARGE) /* whose fault it is, for the command that helps */
        rc = err_fail(ERR_UPSTREAM, "%s", err_text(rc));
    if (rc) {
        source_free(a.set);
        return err_wrap(rc, "upstream %s", r->name);
    }
    *ret_set = a.set;
    return 0;
}

static int apt_check(json_t *config)
{
    struct apt_config c;
    return apt_config_parse(config, true, NULL, &c);
}

const struct adapter adapter_apt = {"apt", apt_check, apt_fetch};

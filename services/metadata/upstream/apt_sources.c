/* The signed repositories that this machine's own apt sources name, in both forms of sources.list(5). */
#include "common/base/id.h"
#include "common/crypto/crypto.h"
#include "services/metadata/upstream/apt_config.h"
#include "services/metadata/upstream/apt_stanza.h"
#include "services/metadata/upstream/child.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#define SOURCES_MAX ((size_t)1024 * 1024)
#define UPSTREAMS_MAX 256

/* One entry of either form; the lists are words with blanks between. */
struct entry {
    struct view uris, suites, components, architectures, signed_by;
    bool deb, disabled, ignore_expiry;
    struct view key_block; /* of Signed-By, when the key itself stands there */
};
struct gathering {
    const char *dir;
    json_t *list;
    char architecture[32];
    bool ignore_expiry; /* for the whole machine */
};

static bool word_eq(struct view w, const char *text)
{
    return w.len == strlen(text) && strncasecmp((const char *)w.data, text, w.len) == 0;
}

static bool is_no(struct view v)
{
    return word_eq(v, "no") || word_eq(v, "false") || word_eq(v, "0") || word_eq(v, "off") ||
           word_eq(v, "without") || word_eq(v, "disable");
}

static void join(struct buf *b, struct view v)
{
    if (b->len)
        buf_u8(b, ',');
    buf_append_view(b, v);
}

static bool has_file(const char *dir, const char *name, bool folder)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0 && (folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode) && st.st_size > 0);
}

/* The machine's general keyrings: trusted.gpg.d, and trusted.gpg where it holds anything. */
static void add_general(const struct gathering *g, struct buf *keyring)
{
    static const char *const names[] = {"trusted.gpg.d", "trusted.gpg"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (has_file(g->dir, names[i], i == 0)) {
            AUTO_BUF path = {0};
            buf_fmt(&path, "%s/%s", g->dir, names[i]);
            join(keyring, buf_view(&path));
        }
}

static bool is_fingerprint(struct view w)
{
    size_t n = w.len && w.data[w.len - 1] == '!' ? w.len - 1 : w.len;
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdefABCDEF", w.data[i]))
            return false;
    return n == 40;
}

/* Signed-By: files, fingerprints of general keys, or nothing. Commas and blanks may both stand between. */
static void sort_keys(
    const struct gathering *g, const struct entry *e, struct buf *keyring, struct buf *fingerprints)
{
    AUTO_BUF list = {0};
    buf_append_view(&list, e->signed_by);
    for (size_t i = 0; i < list.len; i++)
        if (list.data[i] == ',')
            list.data[i] = ' ';
    struct view rest = buf_view(&list), w;
    while ((w = word_next(&rest)).len) {
        if (*w.data == '/')
            join(keyring, w);
        else if (is_fingerprint(w))
            join(fingerprints, view_of(w.data, 40));
    }
    if (!keyring->len)
        add_general(g, keyring);
}

static json_t *text_json(struct view v)
{
    return json_stringn((const char *)v.data, v.len);
}

/* Two mirrors of one repository differ before the last part of the path, as /debian. */
static bool same_repository(json_t *a, json_t *b)
{
    const char *x = strrchr(json_string_value(json_object_get(a, "uri")), '/'),
               *y = strrchr(json_string_value(json_object_get(b, "uri")), '/');
    return x && y && strcmp(x, y) == 0;
}

/* The machine's first mirror is taken: each scope has one upstream. */
static bool is_listed(json_t *list, json_t *one, bool by_name)
{
    static const char *const fields[] = {"suite", "components", "architectures"};
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *other = json_array_get(list, i);
        bool same = by_name || same_repository(one, other);
        for (size_t k = 0; k < COUNT_OF(fields) && !by_name; k++)
            same = same && json_equal(json_object_get(other, fields[k]), json_object_get(one, fields[k]));
        if (by_name)
            same = json_equal(json_object_get(other, "name"), json_object_get(one, "name"));
        if (same)
            return true;
    }
    return false;
}

/* The suite, and the component and architecture where they are not the usual ones; a number where that is
 * taken. */
static int set_name(
    struct gathering *g, json_t *one, struct view suite, struct view component, struct view architecture)
{
    char name[160], tried[176];
    int n = snprintf(name, sizeof name, "%.*s", (int)suite.len, suite.data);
    if (!word_eq(component, "main"))
        n += snprintf(name + n, sizeof name - (size_t)n, "-%.*s", (int)component.len, component.data);
    if (!word_eq(architecture, g->architecture))
        snprintf(name + n, sizeof name - (size_t)n, "-%.*s", (int)architecture.len, architecture.data);
    for (char *p = name; *p; p++)
        if (*p == '/')
            *p = '-';
    snprintf(tried, sizeof tried, "%s", name);
    for (int i = 2; i < UPSTREAMS_MAX; i++) {
        if (json_object_set_new(one, "name", json_string(tried)))
            return -ENOMEM;
        if (!is_listed(g->list, one, true))
            break;
        snprintf(tried, sizeof tried, "%s-%d", name, i);
    }
    return 0;
}

/* file:/path is file:///path; other ways than ours are not for us. */
static bool uri_text(struct view v, struct buf *out)
{
    static const char *const ours[] = {"http://", "https://", "file:///"};
    bool known = false;
    if (v.len > 6 && memcmp(v.data, "file:/", 6) == 0 && v.data[6] != '/') {
        buf_str(out, "file://");
        v = view_of(v.data + 5, v.len - 5);
        known = true;
    }
    for (size_t i = 0; i < COUNT_OF(ours); i++)
        known = known || (v.len > strlen(ours[i]) && memcmp(v.data, ours[i], strlen(ours[i])) == 0);
    while (v.len && v.data[v.len - 1] == '/')
        v.len--;
    buf_append_view(out, v);
    return known;
}

static int add_one(struct gathering *g, const struct entry *e, struct view uri, struct view suite,
    struct view component, struct view architecture)
{
    AUTO_BUF keyring = {0};
    AUTO_BUF fingerprints = {0};
    AUTO_BUF address = {0};
    if (!uri_text(uri, &address) || suite.data[suite.len - 1] == '/' || suite.len > 64 ||
        component.len > 64 || architecture.len > 24)
        return address.err;
    if (e->key_block.len)
        buf_append_view(&keyring, e->key_block);
    else
        sort_keys(g, e, &keyring, &fingerprints);
    if (keyring.err || fingerprints.err || address.err)
        return -ENOMEM;
    if (!keyring.len || json_array_size(g->list) == UPSTREAMS_MAX)
        return 0;
    json_t *one = json_pack("{s:s,s:o,s:o,s:[o],s:[o],s:o}", "kind", "apt", "uri",
        text_json(buf_view(&address)), "suite", text_json(suite), "components", text_json(component),
        "architectures", text_json(architecture), "keyring", text_json(buf_view(&keyring)));
    if (!one)
        return -ENOMEM;
    int rc = is_listed(g->list, one, false) ? ERR_EXISTS : 0;
    if (!rc)
        rc = set_name(g, one, suite, component, architecture);
    if (!rc && fingerprints.len &&
        json_object_set_new(one, "fingerprints", text_json(buf_view(&fingerprints))))
        rc = -ENOMEM;
    if (!rc && (e->ignore_expiry || g->ignore_expiry) &&
        json_object_set_new(one, "check_valid_until", json_false()))
        rc = -ENOMEM;
    if (!rc && json_array_append(g->list, one))
        rc = -ENOMEM;
    json_decref(one);
    return rc == ERR_EXISTS ? 0 : rc;
}

static int add_entry(struct gathering *g, const struct entry *e)
{
    struct view uris = e->uris, uri;
    if (!e->deb || e->disabled)
        return 0;
    while ((uri = word_next(&uris)).len) {
        struct view suites = e->suites, suite;
        while ((suite = word_next(&suites)).len) {
            struct view components = e->components, component;
            while ((component = word_next(&components)).len) {
                struct view list = e->architectures.len ? e->architectures : view_str(g->architecture), one;
                while ((one = word_next(&list)).len) {
                    int rc = add_one(g, e, uri, suite, component, one);
                    if (rc)
                        return rc;
                }
            }
        }
    }
    return 0;
}

/* [ arch=amd64,arm64 signed-by=/a.gpg ] ; commas become blanks, in place. */
static void take_options(struct entry *e, uint8_t *text, size_t len)
{
    struct view rest = view_of(text, len), w;
    while ((w = word_next(&rest)).len) {
        uint8_t *eq = memchr(w.data, '=', w.len);
        if (!eq)
            continue;
        struct view name = view_of(w.data, (size_t)(eq - w.data)),
                    value = view_of(eq + 1, w.len - name.len - 1);
        if (word_eq(name, "arch")) {
            for (uint8_t *p = eq + 1; p < eq + 1 + value.len; p++)
                if (*p == ',')
                    *p = ' ';
            e->architectures = value;
        } else if (word_eq(name, "signed-by")) {
            e->signed_by = value;
        } else if (word_eq(name, "check-valid-until")) {
            e->ignore_expiry = is_no(value);
        }
    }
}

/* deb [options] uri suite component ... # comment */
static int take_line(struct gathering *g, uint8_t *line, size_t len)
{
    struct entry e = {0};
    uint8_t *hash = memchr(line, '#', len);
    if (hash)
        len = (size_t)(hash - line);
    struct view rest = view_of(line, len), type = word_next(&rest);
    e.deb = word_eq(type, "deb");
    while (rest.len && (*rest.data == ' ' || *rest.data == '\t'))
        rest = view_of(rest.data + 1, rest.len - 1);
    if (rest.len && *rest.data == '[') {
        const uint8_t *close = memchr(rest.data, ']', rest.len);
        if (!close)
            return 0;
        take_options(&e, line + (rest.data + 1 - line), (size_t)(close - rest.data - 1));
        rest = view_of(close + 1, (size_t)(line + len - close - 1));
    }
    e.uris = word_next(&rest);
    e.suites = word_next(&rest);
    e.components = rest;
    return add_entry(g, &e);
}

static int take_list(struct gathering *g, struct buf *b)
{
    uint8_t *p = b->data, *end = b->len ? p + b->len : p;
    int rc = 0;
    while (p < end && !rc) {
        uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            nl = end;
        rc = take_line(g, p, (size_t)(nl - p));
        p = nl + 1;
    }
    return rc;
}

/* Comment lines may stand anywhere in deb822 sources, between continuation lines too: taken out, in place. */
static void drop_comments(struct buf *b)
{
    size_t to = 0;
    for (size_t at = 0; at < b->len;) {
        uint8_t *nl = memchr(b->data + at, '\n', b->len - at);
        size_t len = nl ? (size_t)(nl + 1 - (b->data + at)) : b->len - at;
        if (b->data[at] != '#') {
            memmove(b->data + to, b->data + at, len);
            to += len;
        }
        at += len;
    }
    b->len = to;
}

static int take_paragraph(struct gathering *g, struct view stanza)
{
    struct entry e = {0};
    struct field f;
    struct buf text[5] = {{0}};
    struct view *const views[5] = {&e.uris, &e.suites, &e.components, &e.architectures, &e.signed_by};
    static const char *const names[5] = {"URIs", "Suites", "Components", "Architectures", "Signed-By"};
    int rc;
    while ((rc = field_next(&stanza, &f)) == 0) {
        for (size_t i = 0; i < COUNT_OF(names); i++)
            if (field_is(&f, names[i])) {
                buf_reset(&text[i]);
                field_unfold(&f, &text[i]);
                *views[i] = buf_view(&text[i]);
                rc = text[i].err;
            }
        if (field_is(&f, "Signed-By") && f.more.len && memmem(f.more.data, f.more.len, "-----BEGIN", 10))
            e.key_block = f.more;
        else if (field_is(&f, "Types"))
            while (f.value.len)
                e.deb = word_eq(word_next(&f.value), "deb") || e.deb;
        else if (field_is(&f, "Enabled"))
            e.disabled = is_no(f.value);
        else if (field_is(&f, "Check-Valid-Until"))
            e.ignore_expiry = is_no(f.value);
        if (rc)
            break;
    }
    if (rc == ERR_NOT_FOUND)
        rc = add_entry(g, &e);
    for (size_t i = 0; i < COUNT_OF(text); i++)
        buf_done(&text[i]);
    return rc;
}

static int take_deb822(struct gathering *g, struct buf *b)
{
    drop_comments(b);
    struct view rest = buf_view(b), stanza;
    int rc;
    while ((rc = stanza_next(&rest, true, &stanza)) == 0)
        if ((rc = take_paragraph(g, stanza)))
            return rc;
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int take_text(struct gathering *g, bool deb822, struct buf *b)
{
    if (!text_is_clean(buf_view(b)))
        return err_fail(ERR_MALFORMED, "not clean text");
    return deb822 ? take_deb822(g, b) : take_list(g, b);
}

int apt_sources_take(const char *dir, const char *architecture, bool deb822, struct buf *text, json_t *into)
{
    struct gathering g = {.dir = dir, .list = into};
    snprintf(g.architecture, sizeof g.architecture, "%s", architecture);
    return take_text(&g, deb822, text);
}

static int take_file(struct gathering *g, const char *path)
{
    AUTO_BUF b = {0};
    const char *dot = strrchr(path, '.');
    int rc = file_read_whole(path, SOURCES_MAX, &b);
    if (rc)
        return rc;
    rc = take_text(g, dot && strcmp(dot, ".sources") == 0, &b);
    return rc ? err_wrap(rc == ERR_MALFORMED ? err_fail(ERR_CONFIG, "%s", err_text(rc)) : rc, "%s", path) : 0;
}

/* apt reads no other names (sources.list(5)). */
static int is_source_name(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    for (const char *p = d->d_name; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                strchr("_-.", *p)))
            return 0;
    return d->d_name[0] != '.' && dot && (strcmp(dot, ".list") == 0 || strcmp(dot, ".sources") == 0);
}

static int take_folder(struct gathering *g, const char *folder)
{
    struct dirent **names;
    int rc = 0, n = scandir(folder, &names, is_source_name, alphasort);
    if (n < 0)
        return errno == ENOENT ? 0 : err_fail(-errno, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        AUTO_BUF path = {0};
        buf_fmt(&path, "%s/%s", folder, names[i]->d_name);
        if (!rc)
            rc = path.err ? path.err : take_file(g, (const char *)path.data);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* Acquire::Check-Valid-Until "false"; of the machine's own apt. */
static bool machine_ignores_expiry(const char *dir)
{
    AUTO_BUF out = {0};
    static const char *const argv[] = {"apt-config", "dump", NULL};
    static const char want[] = "Acquire::Check-Valid-Until \"";
    int exit_code;
    if (strcmp(dir, "/etc/apt") != 0 || child_run(argv, 1024 * 1024, 10 * NS_PER_S, NULL, &out, &exit_code) ||
        exit_code)
        return false;
    const uint8_t *at = memmem(out.data, out.len, want, sizeof want - 1);
    if (!at)
        return false;
    at += sizeof want - 1;
    const uint8_t *quote = memchr(at, '"', (size_t)(out.data + out.len - at));
    return quote && is_no(view_of(at, (size_t)(quote - at)));
}

int apt_system_sources(const char *dir, json_t **ret_list)
{
    char path[4096];
    struct gathering g = {.dir = dir, .list = json_array()};
    if (!g.list)
        return -ENOMEM;
    int rc = apt_architecture(NULL, g.architecture);
    g.ignore_expiry = machine_ignores_expiry(dir);
    snprintf(path, sizeof path, "%s/sources.list", dir);
    rc = rc ? rc : take_file(&g, path);
    if (rc == ERR_NOT_FOUND)
        rc = 0;
    snprintf(path, sizeof path, "%s/sources.list.d", dir);
    if (!rc)
        rc = take_folder(&g, path);
    if (rc) {
        json_decref(g.list);
        return rc;
    }
    *ret_list = g.list;
    return 0;
}

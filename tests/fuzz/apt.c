/* What strangers' repositories and operators' files hold. The first byte chooses the reader, the rest is the
 * text. Whatever is read lies inside the input, and what is refused says why. */
#include "services/metadata/source.h"
#include "services/metadata/upstream/apt_keyring.h"
#include "services/metadata/upstream/apt_release.h"
#include "services/metadata/upstream/apt_stanza.h"
#include "tests/fuzz/target.h"

static void inside(struct view part, struct view a, struct view b)
{
    PROMISE(part.len == 0 || (part.data >= a.data && part.data + part.len <= a.data + a.len) ||
            (part.data >= b.data && part.data + part.len <= b.data + b.len));
}

static void packages(struct view v)
{
    AUTO_BUF fold = {0};
    struct view rest = v, stanza;
    size_t before = rest.len + 1;
    while (stanza_next(&rest, true, &stanza) == 0) {
        struct package p;
        PROMISE(rest.len < before && stanza.len <= STANZA_MAX);
        before = rest.len;
        inside(stanza, v, v);
        if (stanza_check(stanza) || package_parse(stanza, &fold, &p))
            continue;
        PROMISE(p.name.len && p.version.len && p.architecture.len && p.architecture.len <= 24);
        PROMISE(!memchr(p.name.data, '/', p.name.len) && !memchr(p.version.data, '/', p.version.len));
        const struct view views[] = {p.name, p.version, p.architecture, p.description, p.section, p.priority,
            p.homepage, p.source, p.depends, p.urgency, p.filename};
        for (size_t i = 0; i < COUNT_OF(views); i++)
            inside(views[i], v, buf_view(&fold));
    }
}

static void release(struct view v)
{
    struct release r;
    struct release_entry e;
    if (release_parse(v, &r))
        return;
    PROMISE(r.date.ns && r.sha256.len);
    const struct view views[] = {
        r.origin, r.label, r.suite, r.codename, r.version, r.architectures, r.components, r.sha256};
    for (size_t i = 0; i < COUNT_OF(views); i++)
        inside(views[i], v, v);
    (void)release_lists(r.components, "main");
    int rc = release_find(&r, "main/binary-amd64/Packages.xz", &e);
    PROMISE(rc == 0 || rc == ERR_NOT_FOUND || rc == ERR_MALFORMED);
}

static void versions(struct view v)
{
    const uint8_t *nl = v.len ? memchr(v.data, '\n', v.len) : NULL;
    size_t n = nl ? (size_t)(nl - v.data) : v.len / 2;
    struct view a = view_of(v.data, n), b = view_of(v.data + n, v.len - n);
    int x = deb_version_cmp(a, b), y = deb_version_cmp(b, a);
    PROMISE((x < 0) == (y > 0) && (x > 0) == (y < 0));
    PROMISE(deb_version_cmp(a, a) == 0);
}

static void update(struct view v)
{
    json_t *j = json_loadb((const char *)v.data, v.len, 0, NULL);
    struct source_set *s = source_new();
    if (j && s) {
        int rc = update_from_json(j, "acme", s);
        PROMISE(rc == 0 ? s->n == 1 : rc == ERR_USAGE && s->n == 0);
        PROMISE(rc == 0 || err_text(rc)[0]);
    }
    source_free(s);
    json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct view v = view_of(data + 1, len - 1);
    AUTO_BUF keys = {0};
    switch (data[0]) {
    case 'p':
        packages(v);
        break;
    case 'r':
        release(v);
        break;
    case 'v':
        versions(v);
        break;
    case 'u':
        update(v);
        break;
    case 'k':
        (void)!armor_decode(v, &keys);
        break;
    default:
        break;
    }
    return 0;
}

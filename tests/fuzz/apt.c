/* What strangers' repositories and operators' files hold. The first byte chooses the reader, the rest is the
 * text. Whatever is read lies inside the input, and what is refused says why. */
#include "services/metadata/source.h"
#include "services/metadata/upstream/apt_config.h"
#include "services/metadata/upstream/apt_keyring.h"
#include "services/metadata/upstream/apt_release.h"
#include "services/metadata/upstream/apt_stanza.h"
#include "services/metadata/upstream/apt_verify.h"
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

/* What `upstream add` stores: split into one config a scope, each of which is read or refused. */
static void upstream(struct view v)
{
    json_t *j = json_loadb((const char *)v.data, v.len, JSON_REJECT_DUPLICATES, NULL), *list = NULL, *one;
    size_t i;
    struct apt_config c;
    if (json_is_object(j) && source_split(j, &list) == 0)
        json_array_foreach(list, i, one) if (apt_config_parse(one, false, NULL, &c) == 0)
            PROMISE(c.uri && c.uri[0] && c.suite && c.suite[0] && c.component && c.keyring);
    json_decref(list);
    json_decref(j);
}

static void sources(struct view v, bool deb822)
{
    json_t *list = json_array(), *one;
    size_t i;
    struct apt_config c;
    AUTO_BUF text = {0};
    buf_append_view(&text, v);
    PROMISE(list != NULL && text.err == 0);
    int rc = apt_sources_take("/nowhere", "amd64", deb822, &text, list);
    PROMISE(rc == 0 || rc == ERR_MALFORMED || rc == ERR_TOO_LARGE);
    json_array_foreach(list, i, one)
    {
        json_t *parts = NULL;
        PROMISE(json_string_value(json_object_get(one, "name")) &&
                json_string_value(json_object_get(one, "uri")));
        if (source_split(one, &parts) == 0)
            (void)!apt_config_parse(json_array_get(parts, 0), false, NULL, &c);
        json_decref(parts);
    }
    json_decref(list);
}

static void verdict(struct view v)
{
    static const struct apt_trust any = {.keyring = "/k"},
                                  one = {.keyring = "/k",
                                      .fingerprints = "0123456789ABCDEF0123456789ABCDEF01234567"};
    for (int i = 0; i < 2; i++) {
        AUTO_BUF status = {0};
        char signer[80] = "";
        buf_append_view(&status, v);
        int rc = apt_verify_judge(i ? &one : &any, "InRelease", &status, signer);
        PROMISE(rc == 0 || (rc == ERR_UPSTREAM_SIGNATURE && err_text(rc)[0]));
        PROMISE(rc != 0 || memmem(v.data, v.len, signer, strlen(signer)));
    }
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
    case 'c':
        upstream(v);
        break;
    case 'l':
    case 'd':
        sources(v, data[0] == 'd');
        break;
    case 'f':
        (void)!apt_verify_form("InRelease", v);
        break;
    case 'g':
        verdict(v);
        break;
    case 'k':
        (void)!armor_decode(v, &keys);
        break;
    default:
        break;
    }
    return 0;
}

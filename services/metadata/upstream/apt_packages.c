#include "services/metadata/upstream/apt_packages.h"

#include "services/metadata/upstream/apt_stanza.h"
#include "services/metadata/upstream/source_arena.h"
#include "services/metadata/upstream/update_pack.h"

#include <stdio.h>
#include <strings.h>

/* How often the operator's figures move, in stanzas. */
#define PROGRESS_EVERY 2048

struct reading {
    const struct packages_job *job;
    const char *product, *classification, *architecture; /* interned */
    uint64_t stanzas, bytes, total;
    struct buf fold;
};

static const char *architecture_of(struct reading *rd, struct view name)
{
    char text[32];
    if (rd->architecture && strlen(rd->architecture) == name.len &&
        memcmp(rd->architecture, name.data, name.len) == 0)
        return rd->architecture;
    memcpy(text, name.data, name.len); /* package_parse allows 24 bytes */
    text[name.len] = 0;
    return rd->architecture = source_intern(rd->job->set, text);
}

static struct view severity_of(struct view urgency)
{
    static const char *const words[] = {"low", "medium", "high", "emergency", "critical"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strlen(words[i]) == urgency.len &&
            strncasecmp(words[i], (const char *)urgency.data, urgency.len) == 0)
            return view_str(words[i]);
    return (struct view){0};
}

static struct view base_name(struct view path)
{
    const uint8_t *slash = memrchr(path.data, '/', path.len);
    return slash ? view_of(slash + 1, path.len - (size_t)(slash + 1 - path.data)) : path;
}

static uint8_t *part(uint8_t *out, struct view v, char after)
{
    memcpy(out, v.data, v.len);
    out[v.len] = (uint8_t)after;
    return out + v.len + 1;
}

static int add_package(struct reading *rd, const struct package *p)
{
    struct update_file file = {.name = {0}, .url = p->filename, .size = p->size};
    struct update_draft d = {
        .title = {p->name, p->version},
        .description = p->description,
        .classification = view_str(rd->classification),
        .product = view_str(rd->product),
        .severity = severity_of(p->urgency),
        .publisher = rd->job->publisher,
        .package = p->name,
        .version = p->version,
        .architecture = p->architecture,
        .section = p->section,
        .homepage = p->homepage,
        .source = p->source,
        .depends = p->depends,
        .priority = p->priority,
        .installed_size = p->installed_kib * 1024,
        .files = &file,
        .n_files = p->filename.len ? 1 : 0,
    };
    if (p->filename.len) {
        file.name = base_name(p->filename);
        memcpy(file.sha256, p->sha256, sizeof file.sha256);
    }
    size_t size = update_size(&d), key = 4 + p->name.len + 1 + p->version.len + 1 + p->architecture.len;
    if (size > SOURCE_VALUE_MAX)
        return err_fail(
            ERR_TOO_LARGE, "an update of %zu bytes, over the limit of %zu", size, SOURCE_VALUE_MAX);
    struct source_item it = {
        .product = rd->product,
        .classification = rd->classification,
        .architecture = architecture_of(rd, p->architecture),
    };
    uint8_t *at = source_reserve(rd->job->set, key + 1 + size);
    if (!at || !it.architecture)
        return -ENOMEM;
    memcpy(at, "deb/", 4);
    part(part(part(at + 4, p->name, '/'), p->version, '/'), p->architecture, 0);
    it.key = view_of(at, key);
    it.value = view_of(at + key, size);
    update_write(&d, at + key, &it.package, &it.version);
    return source_push(rd->job->set, &it, key + size);
}

/* For the text of a failure, when the stanza's bytes are good. */
static struct view name_of(struct view stanza)
{
    struct field f;
    while (field_next(&stanza, &f) == 0)
        if (field_is(&f, "Package"))
            return view_of(f.value.data, f.value.len < 80 ? f.value.len : 80);
    return (struct view){0};
}

static int take_stanza(struct reading *rd, struct view stanza)
{
    struct package p;
    int rc = stanza_check(stanza);
    if (rc)
        return rc;
    rc = package_parse(stanza, &rd->fold, &p);
    if (!rc)
        rc = add_package(rd, &p);
    if (rc == ERR_MALFORMED || rc == ERR_TOO_LARGE) {
        char text[512]; /* looking for the name may fail in its turn */
        snprintf(text, sizeof text, "%s", err_text(rc));
        struct view name = name_of(stanza);
        if (name.len)
            return err_fail(rc, "package %.*s: %s", (int)name.len, name.data, text);
        return err_fail(rc, "%s", text);
    }
    return rc;
}

static int on_data(void *ctx, struct view data, bool last, size_t *ret_used)
{
    struct reading *rd = ctx;
    const struct source_request *r = rd->job->r;
    struct view rest = data, stanza;
    int rc;
    for (;;) {
        rc = stanza_next(&rest, last, &stanza);
        if (rc != ERR_NOT_FOUND)
            rd->stanzas++;
        if (!rc)
            rc = take_stanza(rd, stanza);
        if (rc)
            break;
        if (rd->stanzas % PROGRESS_EVERY == 0 && r->progress)
            r->progress(r->ctx, "parse", rd->stanzas, rd->bytes + (data.len - rest.len), rd->total);
    }
    if (rc != ERR_NOT_FOUND) {
        bool ours = rc == ERR_MALFORMED || rc == ERR_TOO_LARGE;
        return err_fail(
            ours ? ERR_UPSTREAM : rc, "stanza %llu: %s", (unsigned long long)rd->stanzas, err_text(rc));
    }
    *ret_used = data.len - rest.len;
    rd->bytes += *ret_used;
    return 0;
}

int packages_read(
    const struct packages_job *job, const char *file, enum index_format format, const uint64_t *output_size)
{
    struct reading rd = {
        .job = job,
        .product = source_intern(job->set, job->product),
        .classification = source_intern(job->set, job->classification),
        .total = output_size ? *output_size : 0,
    };
    if (!rd.product || !rd.classification)
        return -ENOMEM;
    const struct index_sink sink = {on_data, &rd, STANZA_MAX, job->r->cancel};
    int rc = index_read(file, format, output_size, &sink);
    if (!rc && job->r->progress)
        job->r->progress(job->r->ctx, "parse", rd.stanzas, rd.bytes, rd.total);
    buf_done(&rd.fold);
    return rc;
}

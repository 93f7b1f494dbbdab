/* `sitetree demo`: a whole tree on this machine, from the keys to the equal roots, by the commands that an
 * operator would type (operators.md, U12). Reading order: demo_run at the end, then what it calls, upward. */
#include "tools/sitetree/demo.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/crypto/crypto.h"
#include "tools/sitetree/demo_site.h"

#define TICK_NS (250 * NS_PER_MS)
#define PLAIN_NS (5 * NS_PER_S)
#define READY_NS (30 * NS_PER_S)
#define ANSWER_NS (5 * NS_PER_S)
#define VERIFY_NS (120 * NS_PER_S)
#define SILENCE_NS                                                                                           \
    (180 * NS_PER_S) /* nothing changes anywhere for so long: give up, and say where it stands */
#define SAMPLE_PACKAGES "2000"
#define BYTES_PER_SITE (200u << 20) /* of disk, for a real catalogue of 66,000 records */

struct demo {
    struct demo_tree tree;
    struct output *o;
    bool offline, stay;
    struct mono started, changed, plain_at;
    double up_seconds, seconds; /* until every site was ready, until all were equal; -1 before */
    size_t equal;               /* sites at the generation and root of the central one */
    uint64_t seen;              /* sum over what is shown: changes when anything does */
    size_t lines;               /* of progress that stand on the terminal */
    const char *run;            /* id of the sync run */
};

static double since(struct mono t)
{
    return (double)(clock_mono(&clock_real).ns - t.ns) / NS_PER_S;
}

static const char *text_at(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "?";
}

static uint64_t number_at(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* --- the tree comes up
 * -------------------------------------------------------------------------------------------- */

static int wait_ready(struct demo *d, struct demo_site *s)
{
    struct mono from = clock_mono(&clock_real);
    for (;;) {
        json_t *data = NULL;
        int rc = demo_tree_check(&d->tree);
        if (rc)
            return rc;
        rc = demo_control(&d->tree, s, "ping", NULL, ANSWER_NS, &data);
        bool ready = !rc && json_is_true(json_object_get(data, "ready"));
        json_decref(data);
        if (ready)
            return 0;
        if (since(from) > (double)READY_NS / NS_PER_S)
            return err_wrap(
                rc ? rc : ERR_TIMEOUT, "%s is not ready after %d s", s->code, (int)(READY_NS / NS_PER_S));
        if (demo_pause(20 * NS_PER_MS))
            return ERR_CANCELLED;
    }
}

static int join(struct demo *d, struct demo_site *s)
{
    struct demo_site *parent = &d->tree.sites[s->parent];
    const char *const invite[] = {"site", "invite", s->code, "--tier", s->tier, NULL};
    json_t *data = NULL;
    int rc = wait_ready(d, parent);
    if (!rc)
        rc = demo_command(&d->tree, parent, invite, &data);
    if (!rc) {
        const char *const join_words[] = {"site", "join", text_at(data, "token"), "--no-start", NULL};
        rc = demo_command(&d->tree, s, join_words, NULL);
    }
    json_decref(data);
    return rc ? rc : demo_site_start(&d->tree, s);
}

static int start_tree(struct demo *d)
{
    struct demo_site *central = &d->tree.sites[0];
    const char *const init[] = {"site", "init", "--central", central->code, "--no-start", NULL};
    int rc = demo_tree_prepare(&d->tree);
    if (!rc)
        rc = demo_command(&d->tree, central, init, NULL);
    if (!rc)
        rc = demo_site_start(&d->tree, central);
    for (size_t i = 1; i < d->tree.n && !rc; i++)
        rc = join(d, &d->tree.sites[i]);
    for (size_t i = 0; i < d->tree.n && !rc; i++)
        rc = wait_ready(d, &d->tree.sites[i]);
    d->up_seconds = since(d->started);
    return rc;
}

/* --- what it replicates
 * ------------------------------------------------------------------------------------------- */

static int codename(char out[64])
{
    static const char key[] = "\nVERSION_CODENAME=";
    AUTO_BUF b = {0};
    buf_u8(&b, '\n');
    AUTO_BUF file = {0};
    int rc = file_read_whole("/etc/os-release", 65536, &file);
    buf_append_view(&b, buf_view(&file));
    buf_u8(&b, 0);
    const char *at = rc || b.err ? NULL : strstr((const char *)b.data, key);
    if (!at || sscanf(at + strlen(key) + (at[strlen(key)] == '"'), "%63[a-z]", out) != 1)
        return err_fail(ERR_UPSTREAM, "/etc/os-release names no release whose apt sources could be taken");
    return 0;
}

static int add_real(struct demo *d)
{
    char name[64], suites[256];
    int rc = codename(name);
    if (rc)
        return rc;
    snprintf(suites, sizeof suites, "%s,%s-updates,%s-security", name, name, name);
    const char *const words[] = {"upstream", "add", "--from-system", "--suites", suites, "--components",
        "main", "--architectures", "amd64", NULL};
    return demo_command(&d->tree, &d->tree.sites[0], words, NULL);
}

static int add_sample(struct demo *d)
{
    AUTO_BUF output = {0};
    char folder[4200];
    if (!d->tree.sample[0])
        return err_fail(ERR_NOT_FOUND, "the program that makes the sample repository is not installed");
    snprintf(folder, sizeof folder, "%s/sample", d->tree.dir);
    const char *const make[] = {d->tree.sample, folder, "--packages", SAMPLE_PACKAGES, NULL};
    int rc = demo_program(make, &output);
    if (rc)
        return rc;
    const char *object = strchr((const char *)output.data, '{');
    json_t *made = object ? json_loads(object, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    const char *const add[] = {"upstream", "add", "sample", "--kind", "apt", "--uri", text_at(made, "uri"),
        "--suite", text_at(made, "suite"), "--components", "main", "--architectures", "amd64", "--keyring",
        text_at(made, "keyring"), NULL};
    rc = demo_command(&d->tree, &d->tree.sites[0], add, NULL);
    json_decref(made);
    return rc;
}

static int start_sync(struct demo *d)
{
    static const char *const words[] = {"sync", "now", "--full", NULL};
    int rc = d->offline ? add_sample(d) : add_real(d);
    return rc ? rc : demo_command(&d->tree, &d->tree.sites[0], words, NULL);
}

/* --- watching
 * ----------------------------------------------------------------------------------------------------- */

/* The run first: when it has succeeded, the generation that is read after it is the new one. What is applied
 * is asked of the worker itself; the node's own row, with the rest, may be a moment old. */
static void look_at_site(struct demo *d, struct demo_site *s)
{
    static const char *const applied[] = {"generation", "root", "records"};
    json_t *data = NULL, *run = NULL, *head = NULL;
    if (demo_control(&d->tree, s, "sync.status", NULL, ANSWER_NS, &run) == 0) {
        json_decref(s->run);
        s->run = run;
    }
    if (demo_control(&d->tree, s, "catalogue.show", NULL, ANSWER_NS, &head) == 0 &&
        demo_control(&d->tree, s, "tree", NULL, ANSWER_NS, &data) == 0) {
        json_t *own = json_array_get(json_object_get(data, "sites"), 0);
        for (size_t i = 0; json_is_object(own) && i < COUNT_OF(applied); i++)
            json_object_set(own, applied[i], json_object_get(head, applied[i]));
        if (json_is_object(own)) {
            json_decref(s->seen);
            s->seen = json_incref(own);
        }
    }
    json_decref(head);
    json_decref(data);
}

static bool is_equal(const struct demo *d, const struct demo_site *s)
{
    const json_t *top = d->tree.sites[0].seen, *own = s->seen;
    return number_at(own, "generation") > 0 && number_at(own, "generation") == number_at(top, "generation") &&
           json_equal(json_object_get(own, "root"), json_object_get(top, "root")) &&
           strcmp(text_at(own, "state"), "live") == 0;
}

/* 1 when all are equal, 0 when not yet, or why the run cannot get there. */
static int look(struct demo *d)
{
    uint64_t seen = 0;
    int rc = demo_tree_check(&d->tree);
    if (rc)
        return rc;
    d->equal = 0;
    for (size_t i = 0; i < d->tree.n; i++) {
        struct demo_site *s = &d->tree.sites[i];
        look_at_site(d, s);
        d->equal += is_equal(d, s);
        seen = seen * 31 + number_at(s->seen, "generation") + number_at(s->seen, "bytes_in") +
               number_at(s->run, "items") + number_at(s->run, "bytes") + number_at(s->run, "phase_number");
    }
    if (seen != d->seen)
        d->changed = clock_mono(&clock_real);
    d->seen = seen;
    const json_t *run = d->tree.sites[0].run;
    const char *result = text_at(run, "result");
    if (strcmp(result, "failed") == 0 || strcmp(result, "cancelled") == 0)
        return err_fail(ERR_UPSTREAM, "the sync run %s: %s", result, text_at(run, "reason"));
    if (since(d->changed) > (double)SILENCE_NS / NS_PER_S)
        return err_fail(ERR_STALLED, "nothing changed for %d s; %zu of %zu sites hold the signed root",
            (int)(SILENCE_NS / NS_PER_S), d->equal, d->tree.n);
    return d->equal == d->tree.n && strcmp(result, "succeeded") == 0;
}

static void site_line(const struct demo *d, const struct demo_site *s, struct buf *b)
{
    const json_t *run = s->run;
    const char *state = is_equal(d, s) ? "equal" : text_at(s->seen, "state");
    if (s->parent < 0 && json_is_string(json_object_get(run, "phase")) &&
        !json_is_string(json_object_get(run, "result")))
        state = text_at(run, "phase");
    buf_fmt(b, "%*s%-*s  %-10.20s", 2 * s->depth, "", 12 - 2 * s->depth, s->code, state);
    uint64_t items = number_at(run, "items"), total = number_at(run, "items_total");
    if (!is_equal(d, s) && items) {
        buf_str(b, "  ");
        view_count((int64_t)items, b);
        if (total) {
            buf_str(b, " of ");
            view_count((int64_t)total, b);
        }
    } else if (number_at(s->seen, "generation")) {
        buf_fmt(b, "  generation %ju  ", (uintmax_t)number_at(s->seen, "generation"));
        view_count((int64_t)number_at(s->seen, "records"), b);
        buf_str(b, " records");
    }
    if (s->parent >= 0 && number_at(s->seen, "bytes_in")) {
        buf_str(b, "  ");
        view_bytes((double)number_at(s->seen, "bytes_in"), b);
        buf_str(b, " in");
    }
}

/* As many sites as the terminal has lines for, and one line about all. */
static void progress_in_place(struct demo *d)
{
    struct winsize w = {0};
    size_t rows = ioctl(fileno(d->o->err), TIOCGWINSZ, &w) == 0 && w.ws_row > 4 ? w.ws_row - 2u : 22;
    int width = w.ws_col ? w.ws_col : 80;
    AUTO_BUF b = {0};
    if (d->lines)
        buf_fmt(&b, "\033[%zuA", d->lines);
    d->lines = 0;
    for (size_t i = 0; i < d->tree.n && d->lines + 1 < rows; i++, d->lines++) {
        AUTO_BUF line = {0};
        site_line(d, &d->tree.sites[i], &line);
        buf_u8(&line, 0);
        buf_fmt(&b, "%.*s\033[K\n", width - 1, line.err ? "" : (const char *)line.data);
    }
    buf_fmt(
        &b, "%zu of %zu sites hold the signed root  %.0f s\033[K\n", d->equal, d->tree.n, since(d->started));
    d->lines++;
    if (!b.err)
        fwrite(b.data, 1, b.len, d->o->err);
    fflush(d->o->err);
}

static void progress_plain(struct demo *d, bool last)
{
    if (!last && d->plain_at.ns && since(d->plain_at) < (double)PLAIN_NS / NS_PER_S)
        return;
    d->plain_at = clock_mono(&clock_real);
    AUTO_BUF b = {0};
    buf_fmt(&b, "%.0f s  %zu of %zu sites hold the signed root;  ", since(d->started), d->equal, d->tree.n);
    site_line(d, &d->tree.sites[0], &b);
    buf_u8(&b, 0);
    if (!b.err)
        fprintf(d->o->err, "%s\n", (const char *)b.data);
}

static int watch(struct demo *d)
{
    d->changed = clock_mono(&clock_real);
    for (;;) {
        int rc = look(d);
        if (d->o->err_terminal)
            progress_in_place(d);
        else
            progress_plain(d, rc != 0);
        if (rc)
            return rc < 0 ? rc : 0;
        if (demo_pause(TICK_NS))
            return ERR_CANCELLED;
    }
}

/* Reports may be wrong; the stored bytes are not asked kindly but hashed again. */
static int verify(struct demo *d)
{
    const char *root = text_at(d->tree.sites[0].seen, "root");
    for (size_t i = 0; i < d->tree.n; i++) {
        struct demo_site *s = &d->tree.sites[i];
        json_t *data = NULL;
        int rc = demo_control(&d->tree, s, "verify", NULL, VERIFY_NS, &data);
        s->verified = !rc && json_is_true(json_object_get(data, "ok")) &&
                      strcmp(text_at(data, "recomputed"), root) == 0;
        json_decref(data);
        if (rc)
            return err_wrap(rc, "%s: verify", s->code);
        if (!s->verified)
            return err_fail(ERR_ROOT, "%s: its stored bytes do not make the signed root", s->code);
        if (demo_pause(0))
            return ERR_CANCELLED;
    }
    return 0;
}

/* --- the answer
 * --------------------------------------------------------------------------------------------------- */

static const struct field columns[] = {
    {"site", "site", FORMAT_TEXT, FIELD_KEEP | FIELD_TREE},
    {"parent", "parent", FORMAT_TEXT, FIELD_MAYBE},
    {"generation", "generation", FORMAT_NUMBER, FIELD_KEEP},
    {"records", "records", FORMAT_COUNT, FIELD_KEEP},
    {"root", "root", FORMAT_HASH, FIELD_KEEP},
    {"lag", "lag", FORMAT_SECONDS, 0},
    {"bytes in", "bytes_in", FORMAT_BYTES, 0},
    {0},
};
static const struct field figures[] = {
    {"sites", "sites", FORMAT_COUNT, 0},
    {"records", "records", FORMAT_COUNT, 0},
    {"equal", "roots_equal", FORMAT_YES, 0},
    {"time", "seconds", FORMAT_SECONDS, 0},
    {0},
};
static const struct section sections[] = {
    {SECTION_TABLE, "sites_detail", NULL, columns, "no sites"},
    {SECTION_RECORD, "", NULL, figures, NULL},
    {SECTION_END, NULL, NULL, NULL, NULL},
};
const struct screen demo_view = {sections, NULL};

static json_t *answer(const struct demo *d)
{
    json_t *rows = json_array();
    bool verified = true;
    for (size_t i = 0; i < d->tree.n; i++) {
        const struct demo_site *s = &d->tree.sites[i];
        static const char *const keys[] = {
            "state", "generation", "records", "root", "lag", "bytes_in", "bytes_out"};
        json_t *row = json_pack("{s:s, s:o, s:s, s:i}", "site", s->code, "parent",
            s->parent < 0 ? json_null() : json_string(d->tree.sites[s->parent].code), "tier", s->tier,
            "depth", s->depth);
        for (size_t k = 0; k < COUNT_OF(keys); k++) {
            json_t *v = json_object_get(s->seen, keys[k]);
            json_object_set_new(row, keys[k], v ? json_deep_copy(v) : json_null());
        }
        json_object_set_new(row, "equal", json_boolean(is_equal(d, s)));
        json_object_set_new(row, "verified", json_boolean(s->verified));
        json_array_append_new(rows, row);
        verified &= s->verified;
    }
    json_t *records = json_object_get(d->tree.sites[0].seen, "records");
    bool all = d->equal == d->tree.n;
    return json_pack("{s:I, s:o, s:b, s:b, s:o, s:f, s:b, s:s, s:o}", "sites", (json_int_t)d->tree.n,
        "records", records ? json_deep_copy(records) : json_null(), "converged", all && d->seconds >= 0,
        "roots_equal", all && verified, "seconds", d->seconds < 0 ? json_null() : json_real(d->seconds),
        "up_seconds", d->up_seconds, "offline", d->offline, "dir", d->tree.dir, "sites_detail", rows);
}

/* The fields stand at the top as well as under data: one look from a script, and the form of every other
 * answer. */
static void show(struct demo *d, json_t *data)
{
    if (!d->o->json) {
        view_show(d->o, &demo_view, data);
        return;
    }
    char now[32];
    json_t *whole = json_pack("{s:s, s:s, s:O}", "schema", "sitetree.demo/1", "as_of",
        wall_text(clock_wall(&clock_real), now), "data", data);
    json_object_update(whole, data);
    json_dumpf(whole, d->o->out, JSON_COMPACT);
    fputc('\n', d->o->out);
    fflush(d->o->out);
    json_decref(whole);
}

static void say_what_to_try(const struct demo *d)
{
    const struct demo_site *last = &d->tree.sites[d->tree.n - 1];
    FILE *f = d->o->out;
    fprintf(f, "\nThe tree runs until Ctrl-C. Next, in another terminal:\n");
    fprintf(f, "  %s --dir %s/CEN status\n", d->tree.self, d->tree.dir);
    fprintf(f, "  %s --dir %s/CEN tree\n", d->tree.self, d->tree.dir);
    fprintf(f, "  %s --dir %s/%s catalogue %s\n", d->tree.self, d->tree.dir, last->code,
        d->offline ? "list --limit 5" : "search openssl");
    fprintf(f, "  kill -9 %d   (%s; it is started again and catches up)\n", (int)last->pid, last->code);
    fflush(f);
}

/* A daemon that ends meanwhile is started again, as a service manager would. */
static void stay(struct demo *d)
{
    say_what_to_try(d);
    while (!demo_pause(NS_PER_S)) {
        int ended = demo_tree_check(&d->tree); /* marks them; why stands in their logs */
        for (size_t i = 0; ended && i < d->tree.n; i++) {
            struct demo_site *s = &d->tree.sites[i];
            if (!s->ended)
                continue;
            s->ended = false;
            int rc = demo_site_start(&d->tree, s);
            output_note(d->o, "%s: sitetreed ended; %s", s->code, rc ? err_text(rc) : "started again");
        }
    }
}

static int disk_is_enough(const struct demo *d)
{
    struct statvfs v;
    uint64_t need = d->offline ? 16u << 20 : (uint64_t)BYTES_PER_SITE * d->tree.n;
    if (statvfs(d->tree.dir, &v) < 0)
        return err_fail(-errno, "%s: %s", d->tree.dir, strerror(errno));
    uint64_t have = (uint64_t)v.f_bavail * v.f_frsize;
    return have >= need ? 0
                        : err_fail(ERR_DISK, "%s has %ju MiB free, and %zu sites need about %ju", d->tree.dir,
                              (uintmax_t)(have >> 20), d->tree.n, (uintmax_t)(need >> 20));
}

static const char *hint_for(const struct demo *d, int rc)
{
    if (rc == ERR_USAGE)
        return "sitetree demo --help";
    if (rc == ERR_UPSTREAM && !d->offline)
        return "sitetree demo --offline";
    return rc == ERR_DISK || rc == ERR_EXISTS ? "sitetree demo --dir FOLDER" : NULL;
}

int demo_run(struct cli *c)
{
    const char *sites = c->options[OPT_SITES];
    struct demo *d = calloc(1, sizeof *d);
    if (!d)
        return output_fail(&c->output, -ENOMEM, NULL);
    d->o = &c->output;
    d->offline = cli_has(c, OPT_OFFLINE);
    d->stay = !cli_has(c, OPT_EXIT) && !c->output.json && isatty(STDOUT_FILENO);
    d->started = clock_mono(&clock_real);
    d->seconds = d->up_seconds = -1;
    demo_signals_init();
    int rc = crypto_init();
    if (!rc)
        rc = demo_tree_init(&d->tree, sites ? strtoul(sites, NULL, 10) : 7, c->options[OPT_DIR]);
    if (!rc)
        rc = disk_is_enough(d);
    if (!rc) {
        output_note(d->o, "starting %zu sites in %s", d->tree.n, d->tree.dir);
        rc = start_tree(d);
    }
    if (!rc) {
        output_note(d->o, "%zu sites run after %.1f s; %s", d->tree.n, d->up_seconds,
            d->offline ? "making a sample repository" : "reading this machine's apt sources");
        rc = start_sync(d);
    }
    if (!rc)
        rc = watch(d);
    if (!rc) {
        d->seconds = since(d->started);
        rc = verify(d);
    }
    if (d->tree.n && d->tree.sites[0].seen) {
        json_t *data = answer(d);
        if (!rc || !c->output.json)
            show(d, data);
        json_decref(data);
    }
    if (rc)
        rc = output_fail(d->o, rc, hint_for(d, rc));
    else if (d->stay)
        stay(d);
    demo_tree_done(&d->tree);
    free(d);
    return rc;
}

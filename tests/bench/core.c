/* The catalogue's core without network and processes: import of an apt repository, bootstrap of a child,
 * catch-up. For profiling; the figures that count come from run.py with the real daemons. core CACHE-DIR
 * STORE-DIR CONFIG-JSON...     (each as for `upstream add`: kind, uri, suite, keyring, ...) */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/crypto/crypto.h"
#include "proto/worker.pb-c.h"
#include "services/metadata/core.h"

struct site {
    const char *name;
    struct store *store;
    struct metadata *core;
    struct site *parent, *child;
    uint64_t bytes_in;
    double cpu;
    struct queue {
        struct effect *list;
        size_t n, cap;
    } inbox; /* frames for this site */
};
static struct sign_key head_key;
static struct hash hierarchy;
static struct source_set *sets[8];
static char *configs[8];
static int n_configs;
static const char *cache;

static double now_s(void)
{
    return (double)clock_mono(&clock_real).ns / NS_PER_S;
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what, int rc)
{
    fprintf(stderr, "%s: %s\n", what, err_text(rc));
    exit(1);
}

static void push(struct site *to, struct effect e)
{
    if (to->inbox.n == to->inbox.cap) {
        to->inbox.cap = to->inbox.cap ? to->inbox.cap * 2 : 64;
        to->inbox.list = realloc(to->inbox.list, to->inbox.cap * sizeof e);
    }
    to->inbox.list[to->inbox.n++] = e;
}

static void give(struct site *s, struct input in, struct effects *fx, struct store_txn *t)
{
    in.now = clock_mono(&clock_real);
    in.wall = clock_wall(&clock_real);
    int rc = metadata_step(s->core, t, &in, fx);
    if (rc)
        die(s->name, rc);
}

static struct blob *answer_of_node(struct site *s, struct view frame)
{
    struct frame f;
    struct arena a;
    int rc;
    arena_init(&a);
    if (frame_parse(frame, &f))
        return NULL;
    struct blob *b = NULL;
    if (f.type == FRAME_WORKER_READY) {
        Sitetree__SiteInfo i = SITETREE__SITE_INFO__INIT;
        i.hierarchy = pb_bytes(view_of(hierarchy.b, 32));
        i.site = (char *)(uintptr_t)s->name;
        i.parent = (char *)(uintptr_t)(s->parent ? s->parent->name : "");
        i.central = !s->parent;
        i.head_key = pb_bytes(view_of(head_key.public, 32));
        b = frame_pack(FRAME_SITE_INFO, 1, 0, NULL, &i.base, false);
    } else if (f.type == FRAME_SIGN_HEAD) {
        Sitetree__SignHead *sign = FRAME_UNPACK(&a, &f, sign_head, &rc);
        uint8_t sig[64];
        Sitetree__Signed out = SITETREE__SIGNED__INIT;
        sign_detached(&head_key, "head", pb_view(sign->payload), sig);
        out.payload = sign->payload;
        out.signature = pb_bytes(view_of(sig, 64));
        out.key = pb_bytes(view_of(head_key.public, 32));
        b = frame_pack(FRAME_SIGNED_HEAD, 1, f.request, NULL, &out.base, false);
    } else if (f.type == FRAME_EVENT_NOTE && getenv("EVENTS")) {
        Sitetree__EventNote *e = FRAME_UNPACK(&a, &f, event_note, &rc);
        fprintf(stderr, "%s: %s: %s\n", s->name, e->name, e->text);
    } else if (f.type == FRAME_CONTROL_REPLY) {
        Sitetree__ControlReply *r = FRAME_UNPACK(&a, &f, control_reply, &rc);
        fprintf(stderr, "%s: %.*s\n", s->name, (int)(r->json.len < 600 ? r->json.len : 600),
            (char *)r->json.data);
    }
    arena_done(&a);
    return b;
}

/* One turn: everything that waits, one commit, then what it gave. */
static bool turn(struct site *s)
{
    struct queue q = s->inbox;
    s->inbox = (struct queue){0};
    if (q.n == 0)
        return false;
    struct effects fx = {0};
    struct store_txn *t;
    double t0 = cpu_s();
    int rc = store_begin(s->store, true, &t);
    if (rc)
        die("begin", rc);
    for (size_t i = 0; i < q.n; i++) {
        struct effect *e = &q.list[i];
        struct input in = {.kind = e->kind == EFFECT_JOB ? INPUT_JOB : INPUT_FRAME,
            .from = e->to,
            .frame = e->frame,
            .topic = view_str(e->topic),
            .timer = e->timer};
        if (e->kind == EFFECT_JOB) {
            for (int k = 0; k < n_configs; k++)
                if (sets[k] && strstr((const char *)blob_view(e->frame).data, configs[k])) {
                    in.result = sets[k];
                    sets[k] = NULL;
                    break;
                }
        } else {
            in.body = blob_view(e->frame);
            if (in.from.kind == PEER_PARENT)
                s->bytes_in += in.body.len;
        }
        give(s, in, &fx, t);
        blob_free(e->frame);
    }
    free(q.list);
    rc = store_commit(t);
    if (rc)
        die("commit", rc);
    s->cpu += cpu_s() - t0;
    metadata_on_commit(s->core, clock_wall(&clock_real));
    for (size_t i = 0; i < fx.n; i++) {
        struct effect e = fx.list[i];
        if (e.kind == EFFECT_JOB) {
            fx.list[i].frame = NULL;
            push(s, e);
        } else if (e.kind == EFFECT_TIMER && e.at.ns && e.at.ns <= clock_mono(&clock_real).ns + NS_PER_MS) {
            struct effects again = {0};
            struct store_txn *t2;
            if (store_begin(s->store, true, &t2))
                die("begin", -1);
            while (clock_mono(&clock_real).ns < e.at.ns)
                continue;
            give(s, (struct input){.kind = INPUT_TIMER, .timer = e.timer}, &again, t2);
            if (store_commit(t2))
                die("commit", -1);
            for (size_t k = 0; k < again.n; k++)
                if (again.list[k].kind == EFFECT_SEND && again.list[k].to.kind == PEER_PARENT && s->parent) {
                    again.list[k].to = (struct peer){PEER_CHILD, 1};
                    push(s->parent, again.list[k]);
                    again.list[k].frame = NULL;
                }
            effects_done(&again);
        }
        if (e.kind != EFFECT_SEND)
            continue;
        if (e.to.kind == PEER_NODE) {
            struct blob *b = answer_of_node(s, blob_view(e.frame));
            if (b)
                push(s, (struct effect){.kind = EFFECT_SEND, .to = {PEER_NODE, 0}, .frame = b});
        } else if (e.to.kind == PEER_PARENT && s->parent) {
            fx.list[i].frame = NULL;
            e.to = (struct peer){PEER_CHILD, 1};
            push(s->parent, e);
        } else if ((e.to.kind == PEER_CHILD || e.to.kind == PEER_CHILDREN) && s->child) {
            fx.list[i].frame = NULL;
            if (e.to.kind == PEER_CHILD)
                e.to = (struct peer){PEER_PARENT, 0};
            push(s->child, e);
        }
    }
    effects_done(&fx);
    return true;
}

static void run(struct site *a, struct site *b)
{
    for (int idle = 0; idle < 2;) {
        bool did = turn(a);
        if (b && turn(b))
            did = true;
        idle = did ? 0 : idle + 1;
    }
}

static void link_state(struct site *s, bool parent, bool up, const char *other)
{
    Sitetree__LinkState l = SITETREE__LINK_STATE__INIT;
    l.parent = parent;
    l.session = 1;
    l.up = up;
    l.site = (char *)(uintptr_t)other;
    push(s, (struct effect){.kind = EFFECT_SEND,
                .to = {PEER_NODE, 0},
                .frame = frame_pack(FRAME_LINK_STATE, 1, 0, NULL, &l.base, false)});
}

static void command(struct site *s, const char *json)
{
    Sitetree__Control c = SITETREE__CONTROL__INIT;
    c.command = 1;
    c.json = pb_bytes(view_str(json));
    push(s, (struct effect){.kind = EFFECT_SEND,
                .to = {PEER_NODE, 0},
                .frame = frame_pack(FRAME_CONTROL, 1, 0, NULL, &c.base, false)});
}

static void site_open(struct site *s, const char *name, const char *dir)
{
    char path[4096];
    struct store_options o = {.tables = metadata_tables, .n_tables = metadata_n_tables};
    struct metadata_options mo;
    s->name = name;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    mkdir(dir, 0700);
    int rc = store_open_lmdb(path, &o, &s->store);
    metadata_options_default(&mo);
    if (!rc)
        rc = metadata_new(&mo, s->store, &random_real, &s->core);
    if (rc)
        die(path, rc);
    struct effects fx = {0};
    struct store_txn *t;
    if (store_begin(s->store, true, &t))
        die("begin", -1);
    give(s, (struct input){.kind = INPUT_START}, &fx, t);
    if (store_commit(t))
        die("commit", -1);
    for (size_t i = 0; i < fx.n; i++)
        if (fx.list[i].kind == EFFECT_SEND)
            push(s, (struct effect){.kind = EFFECT_SEND,
                        .to = {PEER_NODE, 0},
                        .frame = answer_of_node(s, blob_view(fx.list[i].frame))});
    effects_done(&fx);
}

/* The set as it was (part 0) and as it is (part 1): 3,041 added, 1,000 changed, 500 removed in between. */
static struct source_set *variant(const struct source_set *all, int part)
{
    struct source_set *s = source_new();
    snprintf(s->scope, sizeof s->scope, "%s", all->scope);
    snprintf(s->version, sizeof s->version, "%d", part);
    size_t step = all->n / 4541, k = 0;
    for (size_t i = 0; i < all->n; i++) {
        const struct source_item *it = &all->items[i];
        bool special = step && i % step == 0 && k < 4541;
        size_t nth = special ? k++ : 0;
        struct buf changed = {0};
        struct view value = it->value;
        if (special && (part == 0 ? nth < 3041 : nth >= 4041))
            continue;
        if (special && part == 1 && nth >= 3041) { /* a new revision: field 1, fixed64; the last one counts */
            static const uint8_t revision[] = {0x09, 2, 0, 0, 0, 0, 0, 0, 0};
            buf_append_view(&changed, value);
            buf_append(&changed, revision, sizeof revision);
            value = buf_view(&changed);
        }
        if (source_add(s, it->key, value, it->product, it->classification, it->architecture, it->package,
                it->version))
            exit(1);
        buf_done(&changed);
    }
    source_sort(s);
    return s;
}

static void progress(void *ctx, const char *phase, uint64_t items, uint64_t bytes, uint64_t total)
{
    (void)ctx, (void)phase, (void)items, (void)bytes, (void)total;
}

/* {"name":"x","kind":"directory","path":"/tmp","synthetic":1000000}: made-up records of about the usual size.
 */
static struct source_set *synthetic(size_t n)
{
    struct source_set *s = source_new();
    snprintf(s->scope, sizeof s->scope, "debian/synthetic/main/amd64");
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        char key[64], title[64], about[200];
        uint8_t sha[32];
        for (size_t k = 0; k < sizeof sha; k++)
            sha[k] = (uint8_t)(x = x * 6364136223846793005u + 1442695040888963407u, x >> 56);
        struct buf value = {0};
        Sitetree__Update u = SITETREE__UPDATE__INIT;
        Sitetree__UpdateFile f = SITETREE__UPDATE_FILE__INIT, *files = &f;
        snprintf(key, sizeof key, "deb/package-%zu/1.%zu-1/amd64", i, i % 97);
        snprintf(title, sizeof title, "package-%zu 1.%zu-1", i, i % 97);
        snprintf(about, sizeof about,
            "package number %zu does what its %zu siblings of section %zu do, only %llu times better", i,
            i % 1000, i % 61, (unsigned long long)(x % 1000));
        u.title = title;
        u.description = about;
        u.classification = (char *)(uintptr_t) "updates";
        u.product = (char *)(uintptr_t) "synthetic-1";
        u.publisher = (char *)(uintptr_t) "Synthetic";
        u.depends = (char *)(uintptr_t) "libc6 (>= 2.36), libgcc-s1 (>= 3.0), libstdc++6 (>= 12)";
        f.name = title;
        f.size = x % 10000000;
        f.sha256 = pb_bytes(view_of(sha, 32));
        f.url = key;
        u.files = &files;
        u.n_files = 1;
        message_pack(&u.base, &value);
        if (source_add(s, view_str(key), buf_view(&value), "synthetic-1", "updates", "amd64", view_str(title),
                view_str("1")))
            exit(1);
        buf_done(&value);
    }
    source_sort(s);
    return s;
}

static struct source_set *fetch(const char *json)
{
    char dir[4096];
    atomic_bool cancel = false;
    struct source_set *set = NULL;
    json_t *config = json_loads(json, 0, NULL);
    const char *name = json_string_value(json_object_get(config, "name"));
    size_t made_up = (size_t)json_integer_value(json_object_get(config, "synthetic"));
    if (made_up) {
        json_decref(config);
        return synthetic(made_up);
    }
    snprintf(dir, sizeof dir, "%s/%s", cache, name);
    mkdir(cache, 0700);
    mkdir(dir, 0700);
    struct source_request r = {.name = name,
        .config = config,
        .cache_dir = dir,
        .version = "",
        .now = clock_wall(&clock_real),
        .cancel = &cancel,
        .progress = progress};
    int rc = adapter_find(json_string_value(json_object_get(config, "kind")))->fetch(&r, &set);
    if (rc)
        die(json, rc);
    json_decref(config);
    return set;
}

int main(int argc, char **argv)
{
    if (argc < 4 || crypto_init())
        return 2;
    sign_key_new(&head_key);
    hierarchy_id(head_key.public, &hierarchy);
    cache = argv[1];
    struct site top = {0}, leaf = {0};
    double t0 = now_s();
    site_open(&top, "CEN", argv[2]);
    run(&top, NULL);
    for (int i = 3; i < argc && n_configs < 8; i++) {
        json_t *j = json_loads(argv[i], 0, NULL);
        char line[8192];
        json_t *add = json_deep_copy(j);
        json_object_del(add, "synthetic");
        char *text = json_dumps(add, 0);
        snprintf(line, sizeof line, "{\"command\":\"upstream.add\",\"args\":%s}", text);
        free(text);
        json_decref(add);
        command(&top, line);
        run(&top, NULL);
        double f0 = now_s();
        sets[n_configs] = fetch(argv[i]);
        char name[128];
        snprintf(name, sizeof name, "\"name\":\"%s\"", json_string_value(json_object_get(j, "name")));
        configs[n_configs] = strdup(name);
        fprintf(stderr, "source %s: %zu items in %.3f s\n", name, sets[n_configs]->n, now_s() - f0);
        n_configs++;
        json_decref(j);
    }
    struct source_set *all = sets[0];
    sets[0] = variant(all, 0);
    t0 = now_s();
    top.cpu = 0;
    command(&top, "{\"command\":\"sync.now\",\"args\":{\"full\":true}}");
    run(&top, NULL);
    fprintf(stderr, "view and publish: %.3f s, %u records, %.1f MB\n", now_s() - t0,
        (unsigned)top.core->applied->records, (double)top.core->applied->scopes[0].tree.bytes / 1e6);
    leaf.parent = &top;
    top.child = &leaf;
    site_open(&leaf, "B11", argv[2]);
    run(&top, &leaf);
    leaf.cpu = top.cpu = 0;
    t0 = now_s();
    link_state(&leaf, true, true, "CEN");
    link_state(&top, false, true, "B11");
    run(&top, &leaf);
    fprintf(stderr, "bootstrap: %.3f s (child %.3f, parent %.3f), %.2f MB, generation %u, state %s\n",
        now_s() - t0, leaf.cpu, top.cpu, (double)leaf.bytes_in / 1e6,
        (unsigned)(leaf.core->applied ? leaf.core->applied->generation : 0), state_word(leaf.core->state));
    command(&leaf, "{\"command\":\"verify\"}");
    t0 = now_s();
    run(&top, &leaf);
    fprintf(stderr, "verify: %.3f s\n", now_s() - t0);
    for (int i = 0; i < 3; i++) {
        char line[512];
        snprintf(line, sizeof line,
            "{\"command\":\"update.publish\",\"args\":{\"json\":\"{\\\"id\\\":\\\"x-%d\\\",\\\"title\\\":"
            "\\\"an update\\\"}\"}}",
            i);
        t0 = now_s();
        command(&top, line);
        run(&top, &leaf);
        fprintf(stderr, "publish: %.1f ms, leaf at %u of %u\n", (now_s() - t0) * 1e3,
            (unsigned)leaf.core->applied->generation, (unsigned)top.core->applied->generation);
    }
    sets[0] = variant(all, 1);
    source_free(all);
    link_state(&leaf, true, false, "CEN");
    run(&leaf, NULL);
    struct site *below = top.child;
    top.child = NULL;
    t0 = now_s();
    command(&top, "{\"command\":\"sync.now\",\"args\":{\"full\":true}}");
    run(&top, NULL);
    const struct scope_entry *e = &top.core->applied->scopes[0];
    fprintf(stderr, "second sync: %.3f s, %u deltas of %.3f MB\n", now_s() - t0,
        (unsigned)(e->serial - e->delta_floor), (double)e->delta_bytes / 1e6);
    top.child = below;
    leaf.cpu = top.cpu = 0;
    uint64_t before = leaf.bytes_in;
    t0 = now_s();
    link_state(&leaf, true, true, "CEN");
    run(&top, &leaf);
    fprintf(stderr, "catch-up: %.3f s (child %.3f, parent %.3f), %.3f MB, leaf at %u of %u\n", now_s() - t0,
        leaf.cpu, top.cpu, (double)(leaf.bytes_in - before) / 1e6, (unsigned)leaf.core->applied->generation,
        (unsigned)top.core->applied->generation);
    metadata_free(leaf.core);
    metadata_free(top.core);
    store_close(leaf.store);
    store_close(top.store);
    return 0;
}

#include "services/node/setup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bus/bus_client.h"
#include "proto/link.pb-c.h"

#define CHAIN_FILE "site.chain"        /* written last: with it there is a site in the folder */
#define HEAD_NEXT "keys/head.key.next" /* until the trust statement names it */
#define PARENTS_FILE "parents"
#define TOKEN_FILE "join.token" /* of a join that has begun and not ended */

struct place_names {
    char dir[4096 - 64];
    char path[4096];
};

static int names_init(struct place_names *p, const char *dir)
{
    if (snprintf(p->dir, sizeof p->dir, "%s", dir) >= (int)sizeof p->dir || !*dir)
        return err_fail(-ENAMETOOLONG, "%.80s: not a folder's name", dir);
    return 0;
}

static const char *file_in(struct place_names *p, const char *name)
{
    snprintf(p->path, sizeof p->path, "%s/%s", p->dir, name);
    return p->path;
}

static bool file_is_there(struct place_names *p, const char *name)
{
    struct stat st;
    return lstat(file_in(p, name), &st) == 0;
}

static void close_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static void dir_cleanup(DIR **d)
{
    if (*d)
        closedir(*d);
}

static int folder_make(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    if (stat(path, &st) < 0)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_fail(-ENOTDIR, "%s: not a folder", path);
    if (st.st_uid != geteuid())
        return err_fail(-EPERM, "%s: belongs to another user", path);
    if ((st.st_mode & 077) && chmod(path, 0700) < 0)
        return err_fail(-errno, "%s: %s", path, strerror(errno));
    return 0;
}

static int folder_sync(const char *path)
{
    CLEANUP(close_cleanup) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_fail(ERR_DISK, "%s: %s", path, strerror(errno));
    return 0;
}

/* Only what a site puts there may lie in a folder that is to become one. */
static int folder_check(struct place_names *p)
{
    static const char *const ours[] = {".", "..", "sitetree.conf", "run", "keys", TOKEN_FILE, PARENTS_FILE,
        CHAIN_FILE ".new", PARENTS_FILE ".new", TOKEN_FILE ".new"};
    CLEANUP(dir_cleanup) DIR *d = opendir(p->dir);
    if (!d)
        return err_fail(-errno, "%s: %s", p->dir, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(ours); i++)
            known = known || strcmp(e->d_name, ours[i]) == 0;
        if (!known)
            return err_fail(
                ERR_EXISTS, "%s is in use: it holds %s. A site needs a folder of its own", p->dir, e->d_name);
    }
    return 0;
}

/* Makes the folders, and locks the outer one until *ret_lock is closed. */
static int folder_open(struct place_names *p, const char *dir, int *ret_lock)
{
    int rc = names_init(p, dir);
    if (!rc)
        rc = folder_make(p->dir);
    if (rc)
        return rc;
    CLEANUP(close_cleanup) int fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_fail(-errno, "%s: %s", p->dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return err_fail(ERR_BUSY, "%s: another command is setting it up at this moment", p->dir);
    *ret_lock = fd;
    fd = -1;
    return 0;
}

/* Keys that an earlier, broken call made are taken up again: nobody has seen them. */
static int sign_key_have(struct place_names *p, const char *name, struct sign_key *ret_key)
{
    if (file_is_there(p, name))
        return sign_key_load(p->path, ret_key);
    sign_key_new(ret_key);
    return sign_key_save(file_in(p, name), ret_key);
}

static int link_key_have(struct place_names *p, const char *name, struct link_key *ret_key)
{
    if (file_is_there(p, name))
        return link_key_load(p->path, ret_key);
    link_key_new(ret_key);
    return link_key_save(file_in(p, name), ret_key);
}

struct central_keys {
    struct sign_key root, head, site;
    struct link_key link;
};

static int central_make(
    struct place_names *p, const char *code, struct central_keys *k, struct hash *ret_hierarchy)
{
    int rc = folder_make(file_in(p, "keys"));
    if (!rc)
        rc = folder_sync(p->dir);
    if (!rc)
        rc = sign_key_have(p, "keys/root.key", &k->root);
    if (!rc)
        rc = sign_key_have(p, "keys/head.key", &k->head);
    if (!rc)
        rc = sign_key_have(p, "keys/site.key", &k->site);
    if (!rc)
        rc = link_key_have(p, "keys/link.key", &k->link);
    if (rc)
        return rc;
    struct certificate cert = {.tier = TIER_CENTRAL, .serial = 1, .issued = clock_wall(&clock_real)};
    snprintf(cert.code.s, sizeof cert.code.s, "%s", code);
    memcpy(cert.sign_key, k->site.public, 32);
    memcpy(cert.link_key, k->link.public, 32);
    AUTO_BUF chain = {0};
    rc = trust_make(&k->root, 1, k->head.public, &cert, &chain);
    if (!rc)
        rc = file_write_whole(file_in(p, CHAIN_FILE), buf_view(&chain), 0600);
    if (!rc)
        hierarchy_id(k->root.public, ret_hierarchy);
    return rc;
}

int setup_init_central(const char *dir, const char *code, struct hash *ret_hierarchy)
{
    struct place_names p;
    CLEANUP(close_cleanup) int lock = -1;
    if (!site_code_valid(code))
        return err_fail(ERR_MALFORMED, "'%.40s' is not a site code (letters, digits, - _ . and at most %d)",
            code, SITE_CODE_MAX);
    int rc = crypto_init();
    if (!rc)
        rc = folder_open(&p, dir, &lock);
    if (rc)
        return rc;
    if (file_is_there(&p, CHAIN_FILE))
        return err_fail(ERR_EXISTS, "%s: there is a site in it already", p.dir);
    if (file_is_there(&p, TOKEN_FILE))
        return err_fail(ERR_EXISTS, "%s: a join has begun in it; finish that, or take another folder", p.dir);
    rc = folder_check(&p);
    if (rc)
        return rc;
    struct central_keys k;
    rc = central_make(&p, code, &k, ret_hierarchy);
    secret_wipe(&k, sizeof k);
    return rc;
}

/* The head key that the trust names: after a change that was cut short it still has its first name. */
static int head_key_load(struct place_names *p, const uint8_t head_public[32], struct sign_key *ret_key)
{
    struct sign_key next;
    if (file_is_there(p, HEAD_NEXT) && sign_key_load(p->path, &next) == 0 &&
        memcmp(next.public, head_public, 32) == 0) {
        char from[sizeof p->path];
        snprintf(from, sizeof from, "%s", p->path);
        if (rename(from, file_in(p, "keys/head.key")) < 0)
            return err_fail(-errno, "%s: %s", from, strerror(errno));
        *ret_key = next;
        return 0;
    }
    int rc = sign_key_load(file_in(p, "keys/head.key"), ret_key);
    if (!rc && memcmp(ret_key->public, head_public, 32) != 0)
        rc = err_fail(ERR_KEY, "%s is not the head key that the trust statement names", p->path);
    return rc;
}

static int load_keys(struct place_names *p, const struct identity *id, struct node_keys *k)
{
    int rc = sign_key_load(file_in(p, "keys/site.key"), &k->site);
    if (!rc)
        rc = link_key_load(file_in(p, "keys/link.key"), &k->link);
    if (!rc && id->depth == 0) {
        rc = head_key_load(p, id->head_key, &k->head);
        k->has_head = rc == 0;
    }
    return rc;
}

int setup_rotate_head(const char *dir, const char *root_path, uint64_t *ret_version)
{
    struct place_names p;
    struct identity id;
    struct hash hierarchy, mine;
    struct sign_key root, head;
    CLEANUP(close_cleanup) int lock = -1;
    AUTO_BUF chain = {0};
    AUTO_BUF next = {0};
    int rc = crypto_init();
    if (!rc)
        rc = folder_open(&p, dir, &lock);
    if (!rc)
        rc = file_read_whole(file_in(&p, CHAIN_FILE), TRUST_BYTES_MAX, &chain);
    if (!rc)
        rc = chain_hierarchy(buf_view(&chain), &hierarchy);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&chain), &hierarchy, &id);
    if (!rc && id.depth)
        rc = err_fail(ERR_NOT_CENTRAL, "the head key is changed at the central site %s; this is %s",
            id.path[0].code.s, identity_site(&id)->code.s);
    if (!rc)
        rc = sign_key_load(root_path ? root_path : file_in(&p, "keys/root.key"), &root);
    if (rc)
        return rc;
    hierarchy_id(root.public, &mine);
    if (!hash_eq(&mine, &hierarchy))
        rc = err_fail(ERR_KEY, "%s is not the root key of this hierarchy", root_path ? root_path : p.path);
    if (!rc)
        rc = sign_key_have(&p, HEAD_NEXT, &head);
    if (!rc)
        rc = trust_make(&root, id.trust_version + 1, head.public, &id.path[0], &next);
    secret_wipe(&root, sizeof root);
    secret_wipe(&head, sizeof head);
    if (!rc) /* from here on the new key is the one that counts; head_key_load puts it into its place */
        rc = file_write_whole(file_in(&p, CHAIN_FILE), buf_view(&next), 0600);
    if (!rc)
        *ret_version = id.trust_version + 1;
    return rc;
}

int setup_load(const char *dir, struct node_options *opt, struct node_keys *ret_keys, struct buf *ret_chain)
{
    struct place_names p;
    struct identity id;
    AUTO_BUF parents = {0};
    int rc = names_init(&p, dir);
    if (rc)
        return rc;
    rc = file_read_whole(file_in(&p, CHAIN_FILE), TRUST_BYTES_MAX, ret_chain);
    if (rc == ERR_NOT_FOUND)
        return err_fail(ERR_NOT_FOUND,
            "%s: there is no site in it yet; make one: sitetree site init --central CODE, or sitetree site "
            "join TOKEN",
            p.dir);
    if (!rc)
        rc = chain_hierarchy(buf_view(ret_chain), &opt->hierarchy);
    if (!rc)
        rc = chain_verify_bytes(buf_view(ret_chain), &opt->hierarchy, &id);
    if (rc)
        return err_wrap(rc, "%s/" CHAIN_FILE, p.dir);
    struct node_keys k = {.chain = buf_view(ret_chain)};
    rc = load_keys(&p, &id, &k);
    if (!rc && id.depth) {
        rc = file_read_whole(file_in(&p, PARENTS_FILE), TRUST_BYTES_MAX, &parents);
        if (!rc)
            rc = joined_places(buf_view(&parents), opt->parents, &opt->n_parents);
        if (rc)
            rc = err_wrap(rc, "%s/" PARENTS_FILE, p.dir);
    }
    if (rc)
        return rc;
    opt->site = identity_site(&id)->code;
    snprintf(opt->tier, sizeof opt->tier, "%s", tier_word(identity_site(&id)->tier));
    *ret_keys = k;
    return 0;
}

/* ---- joining ---- */

struct joining {
    const struct token *token;
    struct sign_key sign;
    struct link_key link;
    const struct setup_progress *progress;
    struct loop *loop;
    struct bus_client *client;
    struct blob *request;
    bool told; /* that the parent was reached */
    bool done;
    int rc;
    char text[512];
    struct buf answer; /* Joined, packed */
};

static void tell(struct joining *j, const char *step, const char *text)
{
    if (j->progress && j->progress->on_step)
        j->progress->on_step(j->progress->ctx, step, text);
}

static void finish(struct joining *j, int rc, const char *text)
{
    j->done = true;
    j->rc = rc;
    snprintf(j->text, sizeof j->text, "%s", text);
}

static void on_message(void *ctx, struct blob *frame)
{
    struct joining *j = ctx;
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc = frame_parse(blob_view(frame), &f);
    if (rc || j->done)
        return;
    if (f.type == FRAME_JOINED) {
        buf_reset(&j->answer);
        buf_append_view(&j->answer, f.body);
        finish(j, j->answer.err, "no memory");
    } else if (f.type == FRAME_REFUSAL) {
        Sitetree__Refusal *r = FRAME_UNPACK(&a, &f, refusal, &rc);
        if (r)
            finish(j, r->code < 0 ? r->code : ERR_REFUSED, r->text);
    }
}

static void on_state(void *ctx, enum bus_lane lane, enum bus_client_state state, const char *why)
{
    struct joining *j = ctx;
    char text[512];
    const char *endpoint = j->token->parents[0].endpoint;
    if (lane != BUS_PULL || j->done)
        return;
    if (state == BUS_UP) {
        snprintf(text, sizeof text, "%s", endpoint);
        if (!j->told)
            tell(j, "parent", text);
        j->told = true;
        if (bus_client_send(j->client, j->request))
            bus_client_restart(j->client);
    } else if (state == BUS_REFUSED) {
        snprintf(text, sizeof text,
            "%s does not let this token in: another site answers there, or the invitation is long gone (%s)",
            endpoint, why);
        finish(j, ERR_KEY, text);
    } else if (state == BUS_RETRYING || state == BUS_DOWN) {
        snprintf(j->text, sizeof j->text, "%s", why);
    }
}

/* Runs the loop until the answer is there. */
static int join_talk(struct joining *j, int64_t timeout_ns)
{
    struct bus_place place = {0};
    struct bus_client_options o;
    struct bus_client_events ev = {.on_message = on_message, .on_state = on_state, .ctx = j};
    bus_client_options_default(&o);
    link_key_from_seed(j->token->secret, &o.key);
    o.random = &random_real;
    snprintf(place.pull, sizeof place.pull, "%s", j->token->parents[0].endpoint);
    memcpy(place.key, j->token->parents[0].link_key, 32);
    struct bus *bus = NULL;
    int rc = loop_new(&clock_real, &j->loop);
    if (!rc)
        rc = bus_open(1, &bus);
    if (!rc)
        rc = bus_client_open(bus, j->loop, &o, &place, &ev, &j->client);
    int64_t end = clock_mono(&clock_real).ns + timeout_ns;
    while (!rc && !j->done) {
        int64_t left = end - clock_mono(&clock_real).ns;
        if (left <= 0)
            rc = err_fail(ERR_TIMEOUT, "%s (%s) did not answer%s%s; the same command can be given again",
                j->token->parent.s, place.pull, j->text[0] ? ": " : "", j->text);
        else
            rc = loop_turn(j->loop, left);
    }
    if (!rc)
        rc = j->rc ? err_fail(j->rc, "%s", j->text) : 0;
    char text[1024]; /* closing may fail inside and change the thread's text */
    snprintf(text, sizeof text, "%s", err_text(rc));
    bus_client_close(j->client);
    if (bus)
        bus_close(bus);
    loop_free(j->loop);
    secret_wipe(&o, sizeof o);
    return rc ? err_fail(rc, "%s", text) : 0;
}

/* Keys and token first, so that a second try joins with the same keys; the chain last. */
static int join_prepare(struct place_names *p, const char *token, struct joining *j)
{
    int rc = folder_make(file_in(p, "keys"));
    if (!rc)
        rc = folder_sync(p->dir);
    if (!rc)
        rc = sign_key_have(p, "keys/site.key", &j->sign);
    if (!rc)
        rc = link_key_have(p, "keys/link.key", &j->link);
    if (!rc)
        rc = file_write_whole(file_in(p, TOKEN_FILE), view_str(token), 0600);
    if (rc)
        return rc;
    j->request = join_request_make(1, j->token, &j->sign, &j->link);
    return j->request ? 0 : -ENOMEM;
}

static int join_finish(struct place_names *p, struct joining *j, struct joined *ret_joined)
{
    AUTO_BUF chain = {0};
    int rc = joined_check(buf_view(&j->answer), j->token, &j->sign, &j->link, ret_joined, &chain);
    if (rc)
        return err_wrap(rc, "the answer of %s", j->token->parent.s);
    char print[15], text[64];
    snprintf(text, sizeof text, "%s", fingerprint_text(&j->token->hierarchy, print));
    tell(j, "identity", text);
    rc = file_write_whole(file_in(p, PARENTS_FILE), buf_view(&j->answer), 0600);
    if (!rc)
        rc = file_write_whole(file_in(p, CHAIN_FILE), buf_view(&chain), 0600);
    return rc;
}

/* The folder holds a site: it may be the one that this token made. */
static int joined_before(struct place_names *p, const struct token *t, struct setup_result *ret)
{
    AUTO_BUF chain = {0};
    struct identity id;
    int rc = file_read_whole(file_in(p, CHAIN_FILE), TRUST_BYTES_MAX, &chain);
    if (rc)
        return rc;
    if (chain_verify_bytes(buf_view(&chain), &t->hierarchy, &id) ||
        strcmp(identity_site(&id)->code.s, t->code.s) != 0 ||
        strcmp(identity_site(&id)->parent.s, t->parent.s) != 0)
        return err_fail(ERR_EXISTS, "%s: there is another site in it already", p->dir);
    unlink(file_in(p, TOKEN_FILE));
    ret->again = true;
    return 0;
}

static void result_fill(struct setup_result *r, const struct token *t)
{
    r->site = t->code;
    r->parent = t->parent;
    r->tier = t->tier;
    r->hierarchy = t->hierarchy;
}

static int join_run(
    const char *dir, const char *text, struct joining *j, int64_t timeout_ns, struct setup_result *ret)
{
    struct place_names p;
    struct joined joined;
    CLEANUP(close_cleanup) int lock = -1;
    int rc = folder_open(&p, dir, &lock);
    if (rc)
        return rc;
    result_fill(ret, j->token);
    if (file_is_there(&p, CHAIN_FILE))
        return joined_before(&p, j->token, ret);
    rc = folder_check(&p);
    if (!rc && file_is_there(&p, "keys/root.key"))
        rc = err_fail(
            ERR_EXISTS, "%s: a central site was begun in it; finish that, or take another folder", p.dir);
    if (!rc)
        rc = join_prepare(&p, text, j);
    if (!rc)
        rc = join_talk(j, timeout_ns);
    if (!rc)
        rc = join_finish(&p, j, &joined);
    if (rc)
        return rc;
    unlink(file_in(&p, TOKEN_FILE));
    ret->generation = joined.generation;
    ret->records = joined.records;
    char admitted[96];
    snprintf(admitted, sizeof admitted, "%s, %s below %s", ret->site.s, tier_word(ret->tier), ret->parent.s);
    tell(j, "admitted", admitted);
    return 0;
}

/* Expired by this clock: but a join that was admitted in time may still fetch its answer again. */
static int expiry_check(const char *dir, const struct token *t)
{
    struct place_names p;
    char at[32];
    if (clock_wall(&clock_real).ns < t->expires.ns)
        return 0;
    if (names_init(&p, dir) == 0 && (file_is_there(&p, TOKEN_FILE) || file_is_there(&p, CHAIN_FILE)))
        return 0;
    return err_fail(ERR_TOKEN_EXPIRED, "the token for %s was good until %s; ask at %s for another one",
        t->code.s, wall_text(t->expires, at), t->parent.s);
}

int setup_join(const char *dir, const char *token, int64_t timeout_ns, const struct setup_progress *progress,
    struct setup_result *ret_result)
{
    struct token t;
    struct setup_result result = {0};
    int rc = crypto_init();
    if (!rc)
        rc = token_decode(token, &t);
    if (rc)
        return rc;
    struct joining j = {.token = &t, .progress = progress};
    rc = expiry_check(dir, &t);
    if (!rc)
        rc = join_run(dir, token, &j, timeout_ns, &result);
    blob_free(j.request);
    buf_done(&j.answer);
    secret_wipe(&j.sign, sizeof j.sign);
    secret_wipe(&j.link, sizeof j.link);
    token_done(&t);
    if (!rc)
        *ret_result = result;
    return rc;
}

#include <stdio.h>
#include <unistd.h>

#include "common/bus/bus_client.h"
#include "proto/link.pb-c.h"
#include "services/node/setup.h"
#include "services/node/site_folder.h"

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
static int join_prepare(struct site_folder *p, const char *token, struct joining *j)
{
    int rc = site_folder_make(site_folder_path(p, "keys"));
    if (!rc)
        rc = site_folder_sync(p->dir);
    if (!rc)
        rc = site_folder_sign_key(p, "keys/site.key", &j->sign);
    if (!rc)
        rc = site_folder_link_key(p, "keys/link.key", &j->link);
    if (!rc)
        rc = file_write_whole(site_folder_path(p, TOKEN_FILE), view_str(token), 0600);
    if (rc)
        return rc;
    j->request = join_request_make(1, 0, j->token, &j->sign, &j->link);
    return j->request ? 0 : -ENOMEM;
}

static int join_finish(struct site_folder *p, struct joining *j, struct joined *ret_joined)
{
    AUTO_BUF chain = {0};
    int rc = joined_check(buf_view(&j->answer), j->token, &j->sign, &j->link, ret_joined, &chain);
    if (rc)
        return err_wrap(rc, "the answer of %s", j->token->parent.s);
    char print[15], text[64];
    snprintf(text, sizeof text, "%s", fingerprint_text(&j->token->hierarchy, print));
    tell(j, "identity", text);
    rc = file_write_whole(site_folder_path(p, PARENTS_FILE), buf_view(&j->answer), 0600);
    if (!rc)
        rc = file_write_whole(site_folder_path(p, CHAIN_FILE), buf_view(&chain), 0600);
    return rc;
}

/* The folder holds a site: it may be the one that this token made. */
static int joined_before(struct site_folder *p, const struct token *t, struct setup_result *ret)
{
    AUTO_BUF chain = {0};
    struct identity id;
    int rc = file_read_whole(site_folder_path(p, CHAIN_FILE), TRUST_BYTES_MAX, &chain);
    if (rc)
        return rc;
    if (chain_verify_bytes(buf_view(&chain), &t->hierarchy, &id) ||
        strcmp(identity_site(&id)->code.s, t->code.s) != 0 ||
        strcmp(identity_site(&id)->parent.s, t->parent.s) != 0)
        return err_fail(ERR_EXISTS, "%s: there is another site in it already", p->dir);
    unlink(site_folder_path(p, TOKEN_FILE));
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
    struct site_folder p;
    struct joined joined;
    CLEANUP(site_folder_unlock) int lock = -1;
    int rc = site_folder_lock(&p, dir, &lock);
    if (rc)
        return rc;
    result_fill(ret, j->token);
    if (site_folder_has(&p, CHAIN_FILE))
        return joined_before(&p, j->token, ret);
    rc = site_folder_check_empty(&p);
    if (!rc && site_folder_has(&p, "keys/root.key"))
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
    unlink(site_folder_path(&p, TOKEN_FILE));
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
    struct site_folder p;
    char at[32];
    if (clock_wall(&clock_real).ns < t->expires.ns)
        return 0;
    if (site_folder_init(&p, dir) == 0 &&
        (site_folder_has(&p, TOKEN_FILE) || site_folder_has(&p, CHAIN_FILE)))
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
    if (!rc && t.move) {
        rc = err_fail(ERR_TOKEN, "the token is for %s, which moves: sitetree site move", t.code.s);
        token_done(&t);
    }
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

/* ---- a site that is in the tree already ---- */

static int move_check(const struct identity *id, const struct token *t)
{
    const struct certificate *own = identity_site(id);
    if (!t->move)
        return err_fail(ERR_TOKEN,
            "the token is for a new site; one for a move is made by: sitetree site invite %s --move",
            t->code.s);
    if (strcmp(own->code.s, t->code.s) != 0)
        return err_fail(ERR_TOKEN, "the token is for %s, this is %s", t->code.s, own->code.s);
    if (id->depth == 0)
        return err_fail(ERR_TOKEN, "%s is the central site", own->code.s);
    if (own->tier != t->tier)
        return err_fail(ERR_TOKEN,
            "the token is for a %s site, this is a %s one: sitetree site invite %s --move --tier %s",
            tier_word(t->tier), tier_word(own->tier), t->code.s, tier_word(own->tier));
    return 0;
}

static int move_run(struct site_folder *p, struct joining *j, int64_t timeout_ns, struct setup_result *ret)
{
    AUTO_BUF chain = {0};
    AUTO_BUF fresh = {0};
    struct identity id;
    struct joined joined;
    int rc = file_read_whole(site_folder_path(p, CHAIN_FILE), TRUST_BYTES_MAX, &chain);
    if (rc == ERR_NOT_FOUND)
        return err_fail(rc, "%s: there is no site in it yet: sitetree site join", p->dir);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&chain), &j->token->hierarchy, &id);
    if (!rc)
        rc = move_check(&id, j->token);
    if (rc)
        return rc;
    result_fill(ret, j->token);
    if (strcmp(identity_site(&id)->parent.s, j->token->parent.s) == 0) {
        ret->again = true;
        return 0;
    }
    rc = sign_key_load(site_folder_path(p, "keys/site.key"), &j->sign);
    if (!rc)
        rc = link_key_load(site_folder_path(p, "keys/link.key"), &j->link);
    if (rc)
        return rc;
    uint64_t now = (uint64_t)clock_wall(&clock_real).ns, last = identity_site(&id)->move;
    j->request = join_request_make(1, now > last ? now : last + 1, j->token, &j->sign, &j->link);
    rc = j->request ? join_talk(j, timeout_ns) : -ENOMEM;
    if (!rc)
        rc = join_finish(p, j, &joined);
    if (rc)
        return rc;
    ret->generation = joined.generation;
    ret->records = joined.records;
    return 0;
}

int setup_move(const char *dir, const char *token, int64_t timeout_ns, const struct setup_progress *progress,
    struct setup_result *ret_result)
{
    struct token t;
    struct site_folder p;
    struct setup_result result = {0};
    CLEANUP(site_folder_unlock) int lock = -1;
    int rc = crypto_init();
    if (!rc)
        rc = token_decode(token, &t);
    if (rc)
        return rc;
    struct joining j = {.token = &t, .progress = progress};
    rc = site_folder_lock(&p, dir, &lock);
    if (!rc)
        rc = move_run(&p, &j, timeout_ns, &result);
    blob_free(j.request);
    buf_done(&j.answer);
    secret_wipe(&j.sign, sizeof j.sign);
    secret_wipe(&j.link, sizeof j.link);
    token_done(&t);
    if (!rc)
        *ret_result = result;
    return rc;
}

#include "services/node/core.h"

#include <stdio.h>
#include <stdlib.h>

#define PENDING_MAX 256

json_t *json_safe(const char *s)
{
    char clean[1024];
    json_t *j = json_string(s);
    if (j)
        return j;
    COPY_TEXT(clean, s);
    j = json_string(clean);
    return j ? j : json_null();
}

json_t *json_text_or_null(const char *s)
{
    return s && *s ? json_safe(s) : json_null();
}

json_t *json_wall(struct wall t)
{
    char text[32];
    return t.ns ? json_string(wall_text(t, text)) : json_null();
}

json_t *json_seconds(int64_t ns)
{
    return ns < 0 ? json_null() : json_real((double)ns / NS_PER_S);
}

json_t *json_hex(const void *data, size_t len)
{
    char text[65];
    INVARIANT(len <= 32);
    return json_string(hex_encode(data, len, text));
}

const char *args_text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static void reply(struct step *s, uint64_t command, json_t *envelope, bool more)
{
    char *text = envelope ? json_dumps(envelope, JSON_COMPACT) : NULL;
    effects_reply(s->fx, command, more, text ? blob_new(text, strlen(text)) : NULL);
    free(text);
    json_decref(envelope);
}

void reply_data(struct step *s, uint64_t command, const char *schema, json_t *data, int exit_code, bool more)
{
    char name[64];
    snprintf(name, sizeof name, "sitetree.%s/1", schema);
    reply(s, command,
        json_pack("{s:s, s:o, s:o, s:i, s:b}", "schema", name, "as_of", json_wall(s->in->wall), "data", data,
            "exit", exit_code, "more", more),
        more);
}

void reply_error(struct step *s, uint64_t command, int code)
{
    reply(s, command,
        json_pack("{s:s, s:o, s:s, s:o, s:s, s:i, s:b}", "schema", "sitetree.error/1", "as_of",
            json_wall(s->in->wall), "code", err_word(code), "message", json_safe(err_text(code)), "hint",
            err_hint(code), "exit", code == ERR_USAGE ? 2 : 1, "more", 0),
        false);
}

static int ping(struct step *s)
{
    const struct node *n = s->n;
    reply_data(s, s->in->command, "ping",
        json_pack("{s:s, s:s, s:I, s:b}", "site", n->opt.site.s, "version", SITETREE_VERSION, "pid",
            (json_int_t)n->opt.pid, "ready", n->worker_ready && n->worker_full),
        0, false);
    return 0;
}

static json_t *member_json(const struct node *n, const struct site *site, struct wall now)
{
    struct wall seen = site == &n->self ? now
                       : site->session  ? site->session->heard_wall
                       : site->seen.ns  ? site->seen
                                        : site->heard;
    const char *endpoint = NULL;
    if (site == &n->self)
        endpoint = n->opt.advertise;
    bool in_tree = !site->removed.ns;
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o}", "site", site->cert.code.s, "tier",
        tier_word(site->cert.tier), "parent", json_text_or_null(site->cert.parent.s), "state",
        in_tree ? "joined" : "removed", "joined", json_wall(site->joined), "seen", json_wall(seen),
        "endpoint", json_text_or_null(endpoint), "class",
        in_tree ? json_string(site_class_word(site_class_of(n, site, now, NULL))) : json_null());
}

static int site_list(struct step *s, json_t *args)
{
    const struct node *n = s->n;
    bool all = json_is_true(json_object_get(args, "all"));
    json_t *list = json_array();
    for (size_t i = 0; i < n->n_sites; i++) {
        const struct site *site = n->sites[i];
        if (site->known && (all || site->up == &n->self))
            json_array_append_new(list, member_json(n, site, s->in->wall));
    }
    reply_data(s, s->in->command, "site-list", json_pack("{s:o}", "sites", list), 0, false);
    return 0;
}

/* The site that args name; absent: the own one. */
static int site_arg(struct step *s, json_t *args, struct site **ret_site)
{
    const char *code = args_text(args, "site");
    struct site *site = code ? site_look(s->n, code) : &s->n->self;
    if (!site || (!site->known && !site->removed.ns))
        return err_fail(ERR_UNKNOWN_SITE, "no site %.31s at or below %s", code ? code : "", s->n->opt.site.s);
    *ret_site = site;
    return 0;
}

static int site_show(struct step *s, json_t *args)
{
    const struct node *n = s->n;
    struct site *site;
    int rc = site_arg(s, args, &site);
    if (rc)
        return rc;
    char fingerprint[15];
    struct hash key;
    memcpy(key.b, site->cert.sign_key, 32);
    json_t *data = member_json(n, site, s->in->wall);
    json_object_set_new(data, "fingerprint", json_string(fingerprint_text(&key, fingerprint)));
    json_object_set_new(data, "sign_key", json_hex(site->cert.sign_key, 32));
    json_object_set_new(data, "link_key", json_hex(site->cert.link_key, 32));
    json_object_set_new(data, "serial", json_integer((json_int_t)site->cert.serial));
    json_object_set_new(data, "hierarchy", json_hex(n->id.hierarchy.b, 32));
    json_object_set_new(data, "report", site->reported ? site_json(n, site, s->in->wall) : json_null());
    reply_data(s, s->in->command, "site-show", data, 0, false);
    return 0;
}

static int remove_site(struct step *s, json_t *args)
{
    struct node *n = s->n;
    struct site *site;
    const char *code = args_text(args, "site");
    if (!code)
        return err_fail(ERR_USAGE, "site is needed");
    int rc = site_arg(s, args, &site);
    if (rc)
        return rc;
    if (site == &n->self)
        return err_fail(ERR_USAGE, "%s is this site itself: remove it at its parent", code);
    if (site->up && site->up != &n->self)
        return err_fail(ERR_USAGE, "%s is a child of %s: remove it there", code, site->cert.parent.s);
    if (site->removed.ns)
        return err_fail(ERR_REMOVED, "%s was removed before", code);
    bool dry = json_is_true(json_object_get(args, "dry_run"));
    const struct site **list;
    size_t count;
    rc = sites_in_order(n, site, &list, &count);
    if (rc)
        return rc;
    json_t *codes = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(codes, json_string(list[i]->cert.code.s));
    free(list);
    if (!dry)
        rc = site_remove(s, site);
    if (rc) {
        json_decref(codes);
        return rc;
    }
    reply_data(s, s->in->command, "site-remove", json_pack("{s:s, s:o}", "site", code, "removed", codes),
        dry ? 3 : 0, false);
    return 0;
}

static int stop(struct step *s)
{
    struct node *n = s->n;
    Sitetree__Bye m = SITETREE__BYE__INIT;
    m.why = (char *)(uintptr_t) "stop";
    n->stopping = true;
    if (n->up.state == UPLINK_LIVE)
        uplink_send(s, CLASS_HEAD, frame_pack(FRAME_BYE, CLASS_HEAD, 0, NULL, &m.base, false));
    for (size_t i = 0; i < n->n_sessions; i++)
        session_send(
            s, n->sessions[i], CLASS_HEAD, frame_pack(FRAME_BYE, CLASS_HEAD, 0, NULL, &m.base, false));
    EVENT(s, "node.stopped");
    if (s->in->command)
        reply_data(s, s->in->command, "stop", json_object(), 0, false);
    effects_stop(s->fx);
    return 0;
}

static int site_command(struct step *s, const char *verb, json_t *args)
{
    if (strcmp(verb, "list") == 0)
        return site_list(s, args);
    if (strcmp(verb, "show") == 0)
        return site_show(s, args);
    if (strcmp(verb, "remove") == 0)
        return remove_site(s, args);
    if (strcmp(verb, "invite") == 0 || strcmp(verb, "invites") == 0 || strcmp(verb, "revoke") == 0)
        return invite_command(s, verb, args);
    return err_fail(ERR_USAGE, "no command site.%.40s", verb);
}

/* After node_set_trust. */
static int trust_reload(struct step *s)
{
    struct node *n = s->n;
    char text[64], key[15];
    struct hash head;
    node_take_trust(n);
    memcpy(head.b, n->id.head_key, 32);
    fingerprint_text(&head, key);
    snprintf(
        text, sizeof text, "trust version %llu, head key %s", (unsigned long long)n->id.trust_version, key);
    EVENT(s, "trust.changed", .text = text);
    relay_site_info(s, 0);
    reply_data(s, s->in->command, "trust-reload",
        json_pack("{s:I, s:s}", "version", (json_int_t)n->id.trust_version, "head_key", key), 0, false);
    return 0;
}

static bool is_workers(const char *command)
{
    static const char *const nouns[] = {"sync.", "upstream.", "update.", "catalogue.", "filter.", "store.",
        "verify", "plan", "repair", "epoch.", "recall", "trust.show"};
    for (size_t i = 0; i < COUNT_OF(nouns); i++)
        if (strncmp(command, nouns[i], strlen(nouns[i])) == 0)
            return true;
    return false;
}

static int forward(struct step *s, const char *command, json_t *args)
{
    struct node *n = s->n;
    const char *site = args_text(args, "site");
    if (site && (!site_look(n, site) || !site_look(n, site)->known))
        return err_fail(ERR_UNKNOWN_SITE, "no site %.31s at or below %s", site, n->opt.site.s);
    if (!n->worker_ready) {
        char since[32];
        return err_fail(ERR_NOT_RUNNING,
            "the metadata worker of %s is not ready since %s; it is started again by itself", n->opt.site.s,
            wall_text(n->worker_since, since));
    }
    if (n->n_pending == PENDING_MAX)
        return err_fail(ERR_BUSY, "%d commands wait for the worker already", PENDING_MAX);
    if (n->n_pending == n->cap_pending) {
        size_t cap = n->cap_pending ? n->cap_pending * 2 : 8;
        struct pending *list = realloc(n->pending, cap * sizeof *list);
        if (!list)
            return -ENOMEM;
        n->pending = list;
        n->cap_pending = cap;
    }
    json_t *request = json_pack("{s:s, s:O}", "command", command, "args", args);
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text)
        return -ENOMEM;
    Sitetree__Control m = SITETREE__CONTROL__INIT;
    m.command = s->in->command;
    m.json = pb_bytes(view_str(text));
    struct blob *frame = frame_pack(FRAME_CONTROL, CLASS_HEAD, 0, NULL, &m.base, false);
    free(text);
    if (!frame)
        return err_fail(ERR_TOO_LARGE, "the command is too long");
    struct pending *p = &n->pending[n->n_pending++];
    *p = (struct pending){.command = s->in->command, .add = answer_addition(command, args)};
    copy_text(p->site, sizeof p->site, args_text(args, "site") ? args_text(args, "site") : "");
    effects_worker(s->fx, WORKER_METADATA, (struct peer){PEER_NODE, 0}, (struct view){0}, frame);
    return 0;
}

static int dispatch(struct step *s, const char *command, json_t *args)
{
    if (strcmp(command, "ping") == 0)
        return ping(s);
    if (strcmp(command, "status") == 0 || strcmp(command, "tree") == 0 || strcmp(command, "links") == 0)
        return tree_command(s, command, args);
    if (strncmp(command, "site.", 5) == 0)
        return site_command(s, command + 5, args);
    if (strcmp(command, "events") == 0)
        return events_command(s, args);
    if (strcmp(command, "explain") == 0)
        return explain_command(s, args);
    if (strcmp(command, "stop") == 0)
        return stop(s);
    if (strcmp(command, "trust.reload") == 0)
        return trust_reload(s);
    if (is_workers(command))
        return forward(s, command, args);
    return err_fail(ERR_USAGE, "no command '%.40s'", command);
}

int command_on_input(struct step *s)
{
    json_error_t e;
    int rc;
    json_t *request = json_loadb((const char *)s->in->body.data, s->in->body.len, 0, &e);
    const char *command = args_text(request, "command");
    json_t *args = json_object_get(request, "args");
    args = json_is_object(args) ? json_incref(args) : json_object();
    if (!command)
        rc = err_fail(ERR_USAGE, "not a command: %.100s", request ? "no name" : e.text);
    else
        rc = dispatch(s, command, args);
    json_decref(args);
    json_decref(request);
    if (rc == ERR_CORRUPT || rc == ERR_DISK || rc == ERR_MAP_FULL || rc == -ENOMEM || store_txn_error(s->txn))
        return rc; /* the node's own trouble, not the command's */
    if (rc)
        reply_error(s, s->in->command, rc);
    return 0;
}

static bool pending_take(struct node *n, uint64_t command, struct pending *ret)
{
    for (size_t i = 0; i < n->n_pending; i++)
        if (n->pending[i].command == command) {
            *ret = n->pending[i];
            n->pending[i] = n->pending[--n->n_pending];
            return true;
        }
    return false;
}

int command_on_reply(struct step *s, const struct frame *f)
{
    struct node *n = s->n;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    Sitetree__ControlReply *m = FRAME_UNPACK(&a, f, control_reply, &rc);
    if (!m)
        return 0;
    struct pending asked;
    if (!pending_take(n, m->command, &asked))
        return 0; /* whoever asked is gone */
    if (m->more)
        n->pending[n->n_pending++] = asked;
    struct blob *answer = m->more ? NULL : answer_with(s, &asked, pb_view(m->json));
    effects_reply(s->fx, m->command, m->more, answer ? answer : blob_new(m->json.data, m->json.len));
    return 0;
}

void command_worker_gone(struct step *s, int code, const char *why)
{
    struct node *n = s->n;
    for (size_t i = 0; i < n->n_pending; i++)
        reply_error(s, n->pending[i].command,
            code ? err_fail(code, "%.300s; the metadata worker of %s began again before it answered", why,
                       n->opt.site.s)
                 : err_fail(ERR_NOT_RUNNING,
                       "the metadata worker of %s ended before it answered; it is started again by itself",
                       n->opt.site.s));
    n->n_pending = 0;
}

void command_gone(struct node *n, uint64_t command)
{
    struct pending asked;
    (void)pending_take(n, command, &asked);
    events_unfollow(n, command);
}

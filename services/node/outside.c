/* Callbacks: everything that happens outside becomes an input of the core. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/control/answer.h"
#include "services/node/driver.h"
#include "services/node/setup.h"
#include "services/node/site_folder.h"
#include "services/node/trust.h"

#define TICK_NS (5 * NS_PER_S)
#define WORKER_GRACE_NS (10 * NS_PER_S)
#define GOODBYE_NS (200 * NS_PER_MS) /* for the goodbyes to leave */
/* Few enough that what is urgent overtakes bulk before the library has it, enough to keep a fast link busy.
 */
#define PULL_HWM 16
#define SEND_BUFFER (128 * 1024)

/* ---- children ---- */

static void on_child_message(void *ctx, uint32_t session, const char *user, struct blob *frame)
{
    struct driver *d = ctx;
    struct link *l = link_of(d, session, true);
    struct blob *whole = l ? link_receive(l, frame) : NULL;
    if (!whole)
        return;
    struct input in = {
        .kind = INPUT_FRAME, .from = {PEER_CHILD, session}, .user = view_str(user), .frame = whole};
    driver_input(d, &in);
    blob_free(whole);
}

static void on_child_gone(void *ctx, uint32_t session)
{
    struct driver *d = ctx;
    struct input in = {.kind = INPUT_LINK, .from = {PEER_CHILD, session}, .status = ERR_NETWORK};
    link_drop(d, session);
    driver_input(d, &in);
}

static void on_trouble(void *ctx, int err, const char *text)
{
    (void)ctx;
    log_record(LOG_WARNING, "listen-trouble", "code", err_word(err), "why", text, NULL);
}

/* ---- the parent ---- */

static void on_parent_message(void *ctx, struct blob *frame)
{
    struct driver *d = ctx;
    struct blob *whole = link_receive(&d->up, frame);
    if (!whole)
        return;
    struct input in = {
        .kind = INPUT_FRAME, .from = {PEER_PARENT, 0}, .frame = whole, .command = d->client_number};
    driver_input(d, &in);
    blob_free(whole);
}

static void on_hint(void *ctx, struct view topic, struct blob *frame)
{
    struct input in = {.kind = INPUT_FRAME, .from = {PEER_CHILDREN, 0}, .topic = topic, .frame = frame};
    driver_input(ctx, &in);
}

/* False: nothing that the core has to know. */
static bool state_status(enum bus_client_state state, int *ret_status)
{
    *ret_status = state == BUS_UP ? 0 : state == BUS_REFUSED ? ERR_KEY : ERR_NETWORK;
    return state != BUS_CONNECTING && state != BUS_REPLACED;
}

static void on_parent_state(void *ctx, enum bus_lane lane, enum bus_client_state state, const char *why)
{
    struct driver *d = ctx;
    log_record(LOG_DEBUG, "parent-socket", "lane", lane == BUS_PULL ? "pull" : "hint", "state",
        bus_client_state_word(state), "why", why, NULL);
    if (lane != BUS_PULL || d->stopping)
        return;
    struct input in = {
        .kind = INPUT_LINK, .from = {PEER_PARENT, 0}, .body = view_str(why), .command = d->client_number};
    if (!state_status(state, &in.status))
        return;
    lane_clear(d->up.lanes);
    assembler_done(&d->up.in);
    driver_input(d, &in);
}

static int dial(struct driver *d, const struct node_place *p, bool hints, const struct bus_client_events *ev,
    struct bus_client **ret_client)
{
    struct bus_place to = {0};
    snprintf(to.pull, sizeof to.pull, "%s", p->endpoint);
    if (hints)
        snprintf(to.hints, sizeof to.hints, "%s", p->hints);
    memcpy(to.key, p->link_key, 32);
    if (*ret_client)
        return bus_client_move(*ret_client, &to);
    struct bus_client_options o;
    bus_client_options_default(&o);
    o.key = d->keys.link;
    o.random = &random_real;
    o.pull_hwm = PULL_HWM;
    o.send_buffer = SEND_BUFFER;
    int rc = bus_client_open(d->bus, d->loop, &o, &to, ev, ret_client);
    secret_wipe(&o.key, sizeof o.key);
    return rc;
}

int outside_connect(struct driver *d, uint64_t number, const struct node_place *place)
{
    struct bus_client_events ev = {
        .on_message = on_parent_message, .on_hint = on_hint, .on_state = on_parent_state, .ctx = d};
    d->client_number = number;
    if (!place) {
        bus_client_close(d->client);
        d->client = NULL;
        return 0;
    }
    int rc = d->up.lanes ? 0 : link_init(&d->up, d, 0);
    if (rc)
        return rc;
    lane_clear(d->up.lanes);
    assembler_done(&d->up.in);
    return dial(d, place, true, &ev, &d->client);
}

/* ---- another site above: is it well? ---- */

static void on_probe_message(void *ctx, struct blob *frame)
{
    struct driver *d = ctx;
    struct input in = {
        .kind = INPUT_FRAME, .from = {PEER_PARENT, PROBE}, .frame = frame, .command = d->probe_number};
    driver_input(d, &in);
}

static void on_probe_state(void *ctx, enum bus_lane lane, enum bus_client_state state, const char *why)
{
    struct driver *d = ctx;
    struct input in = {
        .kind = INPUT_LINK, .from = {PEER_PARENT, PROBE}, .body = view_str(why), .command = d->probe_number};
    if (lane == BUS_PULL && !d->stopping && state_status(state, &in.status))
        driver_input(d, &in);
}

int outside_probe(struct driver *d, uint64_t number, const struct node_place *place)
{
    struct bus_client_events ev = {.on_message = on_probe_message, .on_state = on_probe_state, .ctx = d};
    bus_client_close(d->probe);
    d->probe = NULL;
    d->probe_number = number;
    return place ? dial(d, place, false, &ev, &d->probe) : 0;
}

int outside_serve(struct driver *d)
{
    char hints[300];
    struct bus_server_options o;
    struct bus_server_events ev = {
        .on_message = on_child_message, .on_gone = on_child_gone, .on_trouble = on_trouble, .ctx = d};
    bus_server_options_default(&o);
    o.pull = config_text(d->config, CONFIG_LISTEN);
    o.hints = options_hints_address(d->config, hints);
    o.key = d->keys.link;
    o.pull_hwm = PULL_HWM;
    o.send_buffer = SEND_BUFFER;
    int rc = bus_server_open(d->bus, d->loop, &o, &ev, &d->server);
    secret_wipe(&o.key, sizeof o.key);
    if (rc)
        return rc;
    options_advertise(
        d->config, bus_server_port(d->server, BUS_PULL), bus_server_port(d->server, BUS_HINT), &d->opt);
    node_set_options(d->node, &d->opt);
    log_record(LOG_INFO, "listening", "pull", bus_server_endpoint(d->server, BUS_PULL), "hints",
        bus_server_endpoint(d->server, BUS_HINT), "advertise", d->opt.advertise, NULL);
    return 0;
}

/* ---- the worker ---- */

static void on_worker_message(void *ctx, enum worker from, const struct ipc_message *m)
{
    struct input in = {.kind = INPUT_FRAME,
        .from = {PEER_WORKER, from},
        .via = m->peer,
        .lane = m->lane,
        .early = m->early,
        .topic = m->topic,
        .frame = m->frame};
    driver_input(ctx, &in);
}

static void on_worker_started(void *ctx, struct child *c)
{
    struct child_info info;
    char pid[16];
    (void)ctx;
    child_info_get(c, &info);
    snprintf(pid, sizeof pid, "%d", (int)info.pid);
    log_record(LOG_INFO, "worker-started", "worker", info.name, "pid", pid, NULL);
}

static void on_worker_ended(void *ctx, struct child *c, const char *why, int64_t restart_ns)
{
    struct driver *d = ctx;
    char again[24];
    (void)c;
    if (restart_ns >= 0)
        log_record(LOG_WARNING, "worker-ended", "worker", "metadata", "why", why, "again-in",
            duration_text(restart_ns, again), NULL);
    if (d->ipc)
        ipc_node_reset(d->ipc, WORKER_METADATA);
    struct input in = {.kind = INPUT_LINK,
        .from = {PEER_WORKER, WORKER_METADATA},
        .status = ERR_NETWORK,
        .body = view_str(why)};
    driver_input(d, &in);
}

static int worker_start(struct driver *d)
{
    const char *argv[12];
    size_t n = 0;
    argv[n++] = d->worker_path;
    argv[n++] = "--dir";
    argv[n++] = d->dir;
    argv[n++] = "--run";
    argv[n++] = d->run;
    if (d->config_path) {
        argv[n++] = "--config";
        argv[n++] = d->config_path;
    }
    argv[n] = NULL;
    struct child_options o = {.name = "metadata",
        .argv = argv,
        .events = {.on_started = on_worker_started, .on_ended = on_worker_ended, .ctx = d}};
    return supervisor_add(d->supervisor, &o, &d->worker);
}

void outside_ready(struct driver *d)
{
    struct node_view view;
    node_look(d->node, &view);
    if (!view.ready)
        return;
    d->ready = true;
    (void)process_notify("READY=1");
    log_record(LOG_INFO, "ready", "version", SITETREE_VERSION, NULL);
}

/* ---- operators ---- */

/* `site move` has written another chain of certificates: the process begins anew with it. */
static void identity_reload(struct driver *d)
{
    AUTO_BUF chain = {0};
    char path[4200];
    struct input stop = {.kind = INPUT_COMMAND, .body = view_str("{\"command\":\"stop\"}")};
    struct identity now, next;
    snprintf(path, sizeof path, "%s/" CHAIN_FILE, d->dir);
    if (file_read_whole(path, TRUST_BYTES_MAX, &chain) ||
        chain_verify_bytes(buf_view(&chain), &d->opt.hierarchy, &next) ||
        chain_verify_bytes(buf_view(&d->chain), &d->opt.hierarchy, &now) ||
        strcmp(identity_site(&next)->parent.s, identity_site(&now)->parent.s) == 0)
        return;
    log_record(LOG_INFO, "place-changed", "next", "the node begins anew", NULL);
    d->again = true;
    driver_input(d, &stop);
}

static void reload(struct driver *d, uint64_t command)
{
    AUTO_BUF json = {0};
    AUTO_BLOB *answer = NULL;
    int rc = options_reload(d, &json);
    if (!rc)
        identity_reload(d);
    if (rc)
        log_record(LOG_ERROR, "reload-refused", "why", err_text(rc), "next",
            "the configuration of before stays", NULL);
    if (!command)
        return;
    if (rc)
        answer = control_error(rc, NULL);
    else
        answer = control_answer("reload", clock_wall(&clock_real),
            json_loadb((const char *)json.data, json.len, 0, NULL), 0, false);
    if (!answer)
        return;
    struct view v = blob_view(answer);
    if (control_server_reply(d->control, command, (const char *)v.data, v.len, false))
        return; /* whoever asked has gone */
}

/* The folder has another trust statement since. The core takes it over, and then answers the command itself.
 */
static int trust_load(struct driver *d)
{
    struct node_options opt = d->opt;
    struct node_keys keys;
    struct buf chain = {0};
    int rc = setup_load(d->dir, &opt, &keys, &chain);
    if (!rc)
        rc = node_set_trust(d->node, &keys);
    if (!rc) {
        buf_done(&d->chain);
        d->chain = chain;
        d->keys = keys;
        return 0;
    }
    buf_done(&chain);
    secret_wipe(&keys, sizeof keys);
    log_record(LOG_ERROR, "trust-refused", "why", err_text(rc), "next", "the trust of before stays", NULL);
    return rc;
}

static void refuse_request(struct driver *d, uint64_t command, int rc)
{
    AUTO_BLOB *answer = control_error(rc, NULL);
    if (!answer)
        return;
    struct view v = blob_view(answer);
    if (control_server_reply(d->control, command, (const char *)v.data, v.len, false))
        return; /* whoever asked has gone */
}

/* The node's own store, for a backup. What it holds is committed at the end of each turn. */
static void copy_store(struct driver *d, uint64_t command)
{
    struct store_copied copied;
    struct store_options so = {.tables = node_tables,
        .n_tables = node_n_tables,
        .map_size = (size_t)config_bytes(d->config, CONFIG_MAP_SIZE)};
    driver_flush(d);
    int rc = store_copy_beside(d->store, &so, d->dir, "node.mdb", &copied);
    if (rc) {
        refuse_request(d, command, rc);
        return;
    }
    AUTO_BLOB *answer = control_answer("store-copy", clock_wall(&clock_real),
        json_pack("{s:s, s:I, s:I}", "store", "node", "entries", (json_int_t)copied.entries, "bytes",
            (json_int_t)copied.bytes),
        0, false);
    struct view v = answer ? blob_view(answer) : (struct view){0};
    if (answer && control_server_reply(d->control, command, (const char *)v.data, v.len, false))
        return; /* whoever asked has gone */
}

static bool is_own_copy(const struct control_request *r)
{
    const char *store = json_string_value(json_object_get(r->args, "store"));
    return strcmp(r->command, "store.copy") == 0 && store && strcmp(store, "node") == 0;
}

static void on_request(void *ctx, uint64_t command, const char *json, size_t len)
{
    struct driver *d = ctx;
    struct control_request r;
    if (control_request_parse(view_of(json, len), &r) == 0) {
        bool mine = strcmp(r.command, "reload") == 0;
        bool copy = is_own_copy(&r);
        int rc = strcmp(r.command, "trust.reload") == 0 ? trust_load(d) : 0;
        control_request_done(&r);
        if (mine) {
            reload(d, command);
            return;
        }
        if (copy) {
            copy_store(d, command);
            return;
        }
        if (rc) {
            refuse_request(d, command, rc);
            return;
        }
    }
    struct input in = {.kind = INPUT_COMMAND, .command = command, .body = view_of(json, len)};
    driver_input(d, &in);
}

static void on_client_gone(void *ctx, uint64_t command)
{
    struct input in = {.kind = INPUT_GONE, .command = command};
    driver_input(ctx, &in);
}

static void on_control(void *ctx, int events)
{
    struct driver *d = ctx;
    (void)events;
    control_server_turn(d->control, loop_now(d->loop));
}

static void on_signal(void *ctx, int events)
{
    struct driver *d = ctx;
    struct input stop = {.kind = INPUT_COMMAND, .body = view_str("{\"command\":\"stop\"}")};
    (void)events;
    for (;;)
        switch (process_signal_next(d->signals)) {
        case PROCESS_NONE:
            return;
        case PROCESS_STOP:
            driver_input(d, &stop);
            break;
        case PROCESS_RELOAD:
            reload(d, 0);
            break;
        case PROCESS_CHILD:
            supervisor_reap(d->supervisor);
            break;
        }
}

static int64_t tick_ns(void)
{
    int64_t watchdog = process_watchdog_ns();
    return watchdog && watchdog < TICK_NS ? watchdog : TICK_NS;
}

static void on_tick(void *ctx)
{
    struct driver *d = ctx;
    if (process_watchdog_ns())
        (void)process_notify("WATCHDOG=1");
    if (control_server_clients(d->control))
        control_server_turn(d->control, loop_now(d->loop));
    if (process_watchdog_ns() || control_server_clients(d->control))
        loop_timer_in(&d->tick, tick_ns());
    else
        loop_timer_in(&d->tick, 4 * TICK_NS);
}

static void on_core_timer(void *ctx)
{
    struct driver_timer *t = ctx;
    struct input in = {.kind = INPUT_TIMER, .timer = t->number};
    driver_input(t->driver, &in);
}

/* ---- all of it ---- */

static int timers_open(struct driver *d)
{
    int rc = loop_timer_init(d->loop, &d->tick, on_tick, d);
    for (unsigned i = 0; i < DRIVER_TIMERS && !rc; i++) {
        d->timers[i].driver = d;
        d->timers[i].number = i;
        rc = loop_timer_init(d->loop, &d->timers[i].timer, on_core_timer, &d->timers[i]);
    }
    if (!rc)
        loop_timer_in(&d->tick, tick_ns());
    return rc;
}

int outside_open(struct driver *d)
{
    char path[4200];
    struct loop_watch *watch;
    struct control_events control = {.on_request = on_request, .on_gone = on_client_gone, .ctx = d};
    struct ipc_node_events ipc = {.on_message = on_worker_message, .ctx = d};
    int rc = timers_open(d);
    snprintf(path, sizeof path, "%s/control.sock", d->run);
    if (!rc)
        rc = control_server_open(path, &control, &d->control);
    if (!rc)
        rc = loop_add_fd(d->loop, control_server_fd(d->control), LOOP_IN, on_control, d, &watch);
    if (!rc)
        rc = loop_add_fd(d->loop, d->signals, LOOP_IN, on_signal, d, &watch);
    snprintf(path, sizeof path, "%s/node.ipc", d->run);
    if (!rc)
        rc = ipc_node_open(d->loop, path, &ipc, &d->ipc);
    if (!rc)
        rc = supervisor_new(d->loop, &d->supervisor);
    return rc ? rc : worker_start(d);
}

static void on_goodbyes_left(void *ctx)
{
    struct driver *d = ctx;
    d->stopped = true;
}

static void on_workers_stopped(void *ctx)
{
    struct driver *d = ctx;
    loop_timer_done(&d->tick);
    d->tick = (struct loop_timer){0};
    if (loop_timer_init(d->loop, &d->tick, on_goodbyes_left, d))
        d->stopped = true;
    else
        loop_timer_in(&d->tick, GOODBYE_NS);
}

void outside_stop(struct driver *d)
{
    if (d->stopping)
        return;
    d->stopping = true;
    (void)process_notify("STOPPING=1");
    log_record(LOG_INFO, "stopping", NULL);
    supervisor_stop(d->supervisor, WORKER_GRACE_NS, on_workers_stopped, d);
}

void outside_close(struct driver *d)
{
    supervisor_free(d->supervisor);
    bus_client_close(d->client);
    bus_client_close(d->probe);
    bus_server_close(d->server);
    ipc_node_close(d->ipc);
    control_server_close(d->control);
    link_drop_all(d);
    if (d->up.lanes)
        link_done(&d->up);
    for (unsigned i = 0; i < DRIVER_TIMERS; i++)
        loop_timer_done(&d->timers[i].timer);
    loop_timer_done(&d->tick);
}

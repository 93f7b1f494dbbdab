#include "services/metadata/io.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/log.h"
#include "common/bus/ipc.h"
#include "common/bus/loop.h"
#include "common/control/answer.h"
#include "common/crypto/crypto.h"
#include "common/process/process.h"
#include "common/wire/frame.h"
#include "proto/worker.pb-c.h"
#include "services/metadata/job.h"

#define STEPS_PER_COMMIT 128u
#define BYTES_PER_COMMIT (8u * 1024u * 1024u)
#define GROUP_NS (10 * NS_PER_MS) /* no answer waits longer than this for the commit it shares */
#define TRIM_AFTER_NS (2 * NS_PER_S)
#define RESTARTS_MOST 5u /* of the core, within a minute */
#define TIMERS 16u

struct io {
    struct loop *loop;
    struct ipc_worker *node;
    struct store *store;
    size_t map_size;
    struct metadata *core;
    struct metadata_options options;
    const struct io_options *opt;
    struct jobs *jobs;
    int signals;
    struct loop_timer timers[TIMERS];
    struct timer_ctx {
        struct io *io;
        unsigned id;
    } timer_ctx[TIMERS];
    struct loop_timer trim;
    /* the group under way */
    struct store_txn *txn;
    struct effects late, step; /* late: what leaves after the commit */
    unsigned steps;
    size_t bytes;
    struct mono group_started;
    bool flush_posted;
    size_t heavy;
    unsigned restarts;
    struct mono restarts_since;
    int status;
};

void io_metadata_options(const struct config *c, struct metadata_options *o)
{
    metadata_options_default(o);
    o->stopwatch = &clock_real;
    o->poll_interval_ns = config_duration_ns(c, CONFIG_POLL_INTERVAL);
    o->retry_interval_ns = config_duration_ns(c, CONFIG_RETRY_INTERVAL);
    o->retry_strict = config_flag(c, CONFIG_RETRY_STRICT);
    o->stall_ns = config_duration_ns(c, CONFIG_STALL_TIME);
    o->schedule_ns = config_duration_ns(c, CONFIG_SCHEDULE);
    o->head_lifetime_ns = config_duration_ns(c, CONFIG_HEAD_LIFETIME);
    o->request_timeout_ns = config_duration_ns(c, CONFIG_REQUEST_TIMEOUT);
    o->window_bytes = (uint32_t)config_bytes(c, CONFIG_WINDOW);
    o->chunk_bytes = (uint32_t)config_bytes(c, CONFIG_CHUNK);
    o->delta_keep_bytes = config_bytes(c, CONFIG_DELTA_KEEP_BYTES);
    o->delta_keep = (uint32_t)config_number(c, CONFIG_DELTA_KEEP);
    o->rehash_ns = config_duration_ns(c, CONFIG_REHASH_INTERVAL);
    o->guard_percent = (uint32_t)config_number(c, CONFIG_GUARD);
    o->expired_keep_ns = config_duration_ns(c, CONFIG_EXPIRED_KEEP);
    o->internet = config_flag(c, CONFIG_INTERNET);
    o->runs_keep = (uint32_t)config_number(c, CONFIG_RUNS_KEEP);
    snprintf(o->apt_dir, sizeof o->apt_dir, "%s", config_text(c, CONFIG_APT_DIR));
}

static void io_step(struct io *io, struct input *in);

/* The last word of this life: the node shows it as the cause for as long as nobody else is here. */
static void tell_why(struct io *io, int code)
{
    char text[256];
    snprintf(text, sizeof text, "%s", err_text(code));
    Sitetree__EventNote note = SITETREE__EVENT_NOTE__INIT;
    note.name = (char *)(uintptr_t) "worker.failed";
    note.code = code;
    note.text = text;
    AUTO_BLOB *frame = frame_pack(FRAME_EVENT_NOTE, CLASS_HEAD, 0, NULL, &note.base, false);
    struct ipc_message m = {.peer = {PEER_NODE, 0}, .lane = CLASS_HEAD, .frame = frame};
    if (frame && ipc_worker_send(io->node, &m) == 0 && ipc_worker_flush(io->node, 200 * NS_PER_MS))
        log_record(LOG_WARNING, "node-not-told", NULL);
    (void)err_fail(code, "%s", text);
}

static void stop(struct io *io, int status)
{
    if (!io->status && status)
        tell_why(io, status);
    if (!io->status)
        io->status = status;
    loop_stop(io->loop);
}

static void on_timer(void *ctx)
{
    struct timer_ctx *t = ctx;
    struct input in = {.kind = INPUT_TIMER, .timer = t->id};
    io_step(t->io, &in);
}

static void send_effect(struct io *io, struct effect *e)
{
    struct ipc_message m = {
        .peer = e->to, .lane = e->lane, .early = e->early, .topic = view_str(e->topic), .frame = e->frame};
    int rc = ipc_worker_send(io->node, &m);
    if (rc) /* the other side asks again for what it needs */
        log_record(LOG_WARNING, "frame-dropped", "why", err_word(rc), NULL);
}

static void perform(struct io *io, struct effect *e)
{
    switch (e->kind) {
    case EFFECT_SEND:
        send_effect(io, e);
        break;
    case EFFECT_TIMER:
        INVARIANT(e->timer < TIMERS);
        loop_timer_set(&io->timers[e->timer], e->at);
        break;
    case EFFECT_JOB:
        jobs_start(io->jobs, e->timer, blob_view(e->frame));
        break;
    case EFFECT_STOP:
        stop(io, 0);
        break;
    case EFFECT_REPLY:
    case EFFECT_DROP_LINKS:
    case EFFECT_ACCESS:
    case EFFECT_CONNECT:
    case EFFECT_CLOSE:
        break; /* of the node alone */
    }
}

/* The store could not keep what the steps made: nothing of them is told, and the core starts again from the
 * store. */
static void restart_core(struct io *io, int code)
{
    char why[256];
    snprintf(why, sizeof why, "%s", err_text(code));
    struct mono now = loop_now(io->loop);
    log_record(LOG_ERROR, "step-failed", "why", err_text(code), "next",
        "the core starts again from the store", NULL);
    store_abort(io->txn);
    io->txn = NULL;
    effects_reset(&io->late);
    effects_reset(&io->step);
    if (now.ns - io->restarts_since.ns > 60 * NS_PER_S) {
        io->restarts = 0;
        io->restarts_since = now;
    }
    if (code == ERR_DISK || ++io->restarts > RESTARTS_MOST) {
        stop(io, code); /* after a failed sync only a new process may read on; the node starts it */
        return;
    }
    metadata_free(io->core);
    io->core = NULL;
    for (unsigned i = 0; i < TIMERS; i++)
        loop_timer_set(&io->timers[i], (struct mono){0});
    io->options.store_refused = code == ERR_MAP_FULL;
    int rc = metadata_new(&io->options, io->store, &random_real, &io->core);
    if (rc) {
        stop(io, rc);
        return;
    }
    struct input in = {.kind = INPUT_START, .status = code, .body = view_str(why)};
    io_step(io, &in);
}

static void flush(struct io *io)
{
    if (!io->txn)
        return;
    struct store_txn *txn = io->txn;
    io->txn = NULL;
    int rc = store_commit(txn);
    if (rc) {
        restart_core(io, rc);
        return;
    }
    metadata_on_commit(io->core, clock_wall(&clock_real));
    struct effects late = io->late;
    io->late = (struct effects){0};
    for (size_t i = 0; i < late.n; i++)
        perform(io, &late.list[i]);
    effects_done(&late);
    io->steps = 0;
    io->bytes = 0;
}

static void on_flush(void *ctx)
{
    struct io *io = ctx;
    io->flush_posted = false;
    flush(io);
}

/* Early sends go out now; the rest moves over to what waits for the commit. */
static int sort_effects(struct io *io)
{
    for (size_t i = 0; i < io->step.n; i++) {
        struct effect *e = &io->step.list[i];
        if (e->kind == EFFECT_SEND && e->early) {
            send_effect(io, e);
            continue;
        }
        if (io->late.n == io->late.cap) {
            size_t cap = io->late.cap ? io->late.cap * 2 : 64;
            struct effect *list = realloc(io->late.list, cap * sizeof *list);
            if (!list)
                return -ENOMEM;
            io->late.list = list;
            io->late.cap = cap;
        }
        io->late.list[io->late.n++] = *e;
        e->frame = NULL;
    }
    effects_reset(&io->step);
    return 0;
}

static void io_step(struct io *io, struct input *in)
{
    if (loop_stopping(io->loop) || !io->core)
        return;
    in->now = clock_mono(&clock_real);
    in->wall = clock_wall(&clock_real);
    int rc = 0;
    if (!io->txn) {
        rc = store_begin(io->store, true, &io->txn);
        io->group_started = in->now;
    }
    if (!rc)
        rc = metadata_step(io->core, io->txn, in, &io->step);
    if (!rc)
        rc = sort_effects(io);
    if (rc) {
        restart_core(io, rc);
        return;
    }
    io->bytes += in->body.len;
    io->heavy += in->body.len;
    if (++io->steps >= STEPS_PER_COMMIT || io->bytes >= BYTES_PER_COMMIT ||
        in->now.ns - io->group_started.ns > GROUP_NS)
        flush(io);
    else if (!io->flush_posted)
        io->flush_posted = loop_post(io->loop, on_flush, io) == 0;
    if (io->txn && !io->flush_posted)
        flush(io);
    if (io->heavy > (1u << 20)) {
        io->heavy = 0;
        loop_timer_in(&io->trim, TRIM_AFTER_NS);
    }
}

static void on_trim(void *ctx)
{
    (void)ctx;
    malloc_trim(0); /* a worker that has caught up holds no more than it needs */
}

/* The operator's `store.copy`, for a backup; anything else gives 0. Commands are rare: taking one apart twice
 * costs nothing. */
static uint64_t copy_command(const struct ipc_message *m)
{
    struct frame f;
    struct control_request r;
    AUTO_ARENA a;
    arena_init(&a);
    int rc;
    if (m->peer.kind != PEER_NODE || frame_parse(blob_view(m->frame), &f) || f.type != FRAME_CONTROL)
        return 0;
    Sitetree__Control *c = FRAME_UNPACK(&a, &f, control, &rc);
    if (!c || control_request_parse(pb_view(c->json), &r))
        return 0;
    uint64_t command = strcmp(r.command, "store.copy") == 0 ? c->command : 0;
    control_request_done(&r);
    return command;
}

/* Between two transactions; nothing else is done meanwhile. */
static void copy_store(struct io *io, uint64_t command)
{
    struct store_copied copied;
    struct store_options so = {
        .tables = metadata_tables, .n_tables = metadata_n_tables, .map_size = io->map_size};
    flush(io);
    if (loop_stopping(io->loop))
        return;
    int rc = store_copy_beside(io->store, &so, io->opt->dir, "metadata", &copied);
    AUTO_BLOB *text = rc ? control_error(rc, NULL)
                         : control_answer("store-copy", clock_wall(&clock_real),
                               json_pack("{s:s, s:I, s:I}", "store", "metadata", "entries",
                                   (json_int_t)copied.entries, "bytes", (json_int_t)copied.bytes),
                               0, false);
    if (!text)
        return;
    Sitetree__ControlReply reply = SITETREE__CONTROL_REPLY__INIT;
    reply.command = command;
    reply.json = pb_bytes(blob_view(text));
    AUTO_BLOB *frame = frame_pack(FRAME_CONTROL_REPLY, CLASS_HEAD, 0, NULL, &reply.base, false);
    struct ipc_message m = {.peer = {PEER_NODE, 0}, .lane = CLASS_HEAD, .frame = frame};
    if (frame && ipc_worker_send(io->node, &m))
        log_record(LOG_WARNING, "frame-dropped", NULL);
}

static void on_message(void *ctx, const struct ipc_message *m)
{
    uint64_t copy = copy_command(m);
    if (copy) {
        copy_store(ctx, copy);
        return;
    }
    struct input in = {.kind = INPUT_FRAME,
        .from = m->peer,
        .topic = m->topic,
        .frame = m->frame,
        .body = blob_view(m->frame),
        .lane = m->lane};
    io_step(ctx, &in);
}

static void on_job(void *ctx, unsigned id, int status, const char *text, struct source_set *result)
{
    struct io *io = ctx;
    struct input in = {
        .kind = INPUT_JOB, .timer = id, .status = status, .result = result, .body = view_str(text)};
    if (loop_stopping(io->loop) || !io->core) {
        source_free(result);
        return;
    }
    io_step(io, &in);
    if (status <= 0)
        loop_timer_in(&io->trim, TRIM_AFTER_NS);
}

static void on_dead(void *ctx, const char *why)
{
    log_record(LOG_WARNING, "node-gone", "why", why, NULL);
    stop(ctx, ERR_NETWORK);
}

static void reload(struct io *io)
{
    CLEANUP(config_cleanup) struct config *c = NULL;
    int rc = config_load(io->opt->config_path, &c);
    if (rc) {
        log_record(
            LOG_ERROR, "reload-refused", "why", err_text(rc), "next", "the old configuration stays", NULL);
        return;
    }
    io_metadata_options(c, &io->options);
    metadata_set_options(io->core, &io->options);
    log_record(LOG_INFO, "reloaded", NULL);
}

static void on_signal(void *ctx, int events)
{
    struct io *io = ctx;
    (void)events;
    for (enum process_signal s; (s = process_signal_next(io->signals)) != PROCESS_NONE;) {
        if (s == PROCESS_STOP)
            stop(io, 0);
        else if (s == PROCESS_RELOAD)
            reload(io);
    }
}

static int open_store(struct io *io, const struct config *c)
{
    char dir[4096];
    struct store_options so = {.tables = metadata_tables,
        .n_tables = metadata_n_tables,
        .map_size = (size_t)config_bytes(c, CONFIG_MAP_SIZE)};
    io->map_size = so.map_size;
    snprintf(dir, sizeof dir, "%s/metadata", io->opt->dir);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_fail(-errno, "%s: %s", dir, strerror(errno));
    return err_wrap(store_open_lmdb(dir, &so, &io->store), "%s", dir);
}

static int set_up(struct io *io)
{
    CLEANUP(config_cleanup) struct config *c = NULL;
    struct loop_watch *w;
    char path[4096];
    int rc = config_load(io->opt->config_path, &c);
    if (rc)
        return rc;
    log_init("sitetree-metadata",
        strcmp(config_text(c, CONFIG_LOG_FORMAT), "json") == 0 ? LOG_JSON : LOG_TEXT, LOG_INFO);
    io_metadata_options(c, &io->options);
    struct ipc_worker_events ev = {on_message, on_dead, io};
    struct job_events jev = {on_job, io};
    snprintf(path, sizeof path, "%s/node.ipc", io->opt->run_dir);
    if ((rc = loop_new(&clock_real, &io->loop)) || (rc = process_signals_open(&io->signals)) ||
        (rc = loop_add_fd(io->loop, io->signals, LOOP_IN, on_signal, io, &w)) || (rc = open_store(io, c)) ||
        (rc = jobs_new(io->loop, io->opt->dir, &jev, &io->jobs)) ||
        (rc = loop_timer_init(io->loop, &io->trim, on_trim, io)))
        return rc;
    for (unsigned i = 0; i < TIMERS; i++) {
        io->timer_ctx[i] = (struct timer_ctx){io, i};
        rc = loop_timer_init(io->loop, &io->timers[i], on_timer, &io->timer_ctx[i]);
        if (rc)
            return rc;
    }
    if ((rc = metadata_new(&io->options, io->store, &random_real, &io->core)) ||
        (rc = ipc_worker_open(io->loop, path, WORKER_METADATA, &ev, &io->node)))
        return rc;
    return 0;
}

static void tear_down(struct io *io)
{
    jobs_free(io->jobs);
    store_abort(io->txn);
    effects_done(&io->late);
    effects_done(&io->step);
    metadata_free(io->core);
    store_close(io->store);
    if (io->node)
        ipc_worker_close(io->node);
    for (unsigned i = 0; i < TIMERS; i++)
        loop_timer_done(&io->timers[i]);
    loop_timer_done(&io->trim);
    loop_free(io->loop);
}

int io_run(const struct io_options *o)
{
    struct io io = {.opt = o, .signals = -1};
    int rc = set_up(&io);
    if (!rc) {
        struct input in = {.kind = INPUT_START};
        io_step(&io, &in);
        rc = loop_run(io.loop);
        if (!rc && !io.status)
            flush(&io); /* what was taken is kept */
        if (!rc)
            (void)!ipc_worker_flush(io.node, NS_PER_S / 2); /* the node may be gone already */
    }
    if (!rc)
        rc = io.status;
    tear_down(&io);
    return rc;
}

/* The daemon around the node's core: sockets, lanes, worker, control socket, store. main.c starts it, io.c
 * performs effects, links.c feeds the links, outside.c is what comes from outside (callbacks), options.c the
 * configuration. Ownership: the driver owns everything in it. Threading: the loop's thread. */
#pragma once
#include "common/bus/bus_client.h"
#include "common/bus/bus_server.h"
#include "common/bus/ipc.h"
#include "common/bus/lane.h"
#include "common/config/config.h"
#include "common/control/server.h"
#include "common/process/process.h"
#include "common/process/supervisor.h"
#include "services/node/node.h"

#define DRIVER_TIMERS 8
#define GROUP_MAX 512 /* inputs of one transaction */

struct driver;
/* One direction of a link, and what comes in over it. session 0: toward the parent. */
struct link {
    struct driver *driver;
    uint32_t session;
    struct lane_set *lanes;
    struct assembler in;
    struct blob *stuck; /* the socket did not take it yet */
    struct loop_timer timer;
    enum lane_class last;
};

/* An input and the bytes that it points to. */
struct item {
    struct item *next;
    struct input in;
    char bytes[];
};

struct driver_timer {
    struct driver *driver;
    unsigned number;
    struct loop_timer timer;
};

struct driver {
    const char *dir, *config_path; /* config_path: NULL where there is no file */
    char run[4096], worker_path[4096];
    struct config *config;
    struct node_options opt;
    struct node_keys keys;
    struct buf chain;
    struct store *store;
    struct node *node;

    struct loop *loop;
    struct bus *bus;
    struct bus_server *server;
    struct bus_client *client;
    struct bus_client *probe; /* looks whether another site above is well */
    uint64_t client_number, probe_number;
    struct ipc_node *ipc;
    struct supervisor *supervisor;
    struct child *worker;
    struct control_server *control;
    int signals;
    struct driver_timer timers[DRIVER_TIMERS];
    struct loop_timer tick; /* of the control socket's slow clients, and the service manager's watchdog */

    struct item *first, *last; /* inputs that wait for the end of the turn */
    size_t n_items;
    struct effects fx;
    struct link up;
    struct link **links; /* ascending by session */
    size_t n_links, cap_links;
    struct blob **backlog; /* requests of children while the worker is away */
    uint32_t *backlog_from;
    size_t n_backlog, cap_backlog, backlog_bytes;
    uint64_t backlog_lost;
    bool ready, stopping, stopped;
    bool again; /* after the stop the same program begins anew: its place in the tree is another one */
    int failed; /* enum err that ends this life; the process starts again from the store */
};

/* options.c */
int options_load(const char *path, struct config **ret_config) MUST_CHECK;
/* Level and format of the log. */
void options_log(const struct config *c);
void options_apply(const struct config *c, struct node_options *opt);
/* Fills the advertised addresses where the configuration leaves them open; ports as bound. */
void options_advertise(const struct config *c, uint16_t port, uint16_t hints_port, struct node_options *opt);
/* The address of the hint lane: that of listen where it has none of its own. out needs 300 bytes. */
char *options_hints_address(const struct config *c, char out[300]);
/* Reads the file again and takes over what may change at run time. Appends a JSON object
 * {"changed":[..],"restart":[..]} where ret_json is not NULL. ERR_CONFIG: nothing is changed. */
int options_reload(struct driver *d, struct buf *ret_json) MUST_CHECK;

/* links.c */
int link_init(struct link *l, struct driver *d, uint32_t session) MUST_CHECK;
void link_done(struct link *l);
/* The link of a session; made where there is none and make is set. NULL: none, or no memory. */
struct link *link_of(struct driver *d, uint32_t session, bool make);
void link_drop(struct driver *d, uint32_t session);
void link_drop_all(struct driver *d);
void link_send(struct link *l, enum lane_class lane, struct blob *frame); /* takes the frame */
/* A frame that came in: fragments are put together. NULL when nothing is whole yet; else the caller's to
 * free. */
struct blob *link_receive(struct link *l, struct blob *frame);
void link_rates(struct driver *d);
void links_stats(void *ctx, struct peer peer, struct link_stats *ret_stats);

/* io.c */
/* Copies what the input points to; a frame is referenced. Performed at the end of the turn. */
void driver_input(struct driver *d, const struct input *in);
void driver_flush(struct driver *d); /* steps, commits and performs what waits */

/* outside.c */
int outside_open(
    struct driver *d) MUST_CHECK; /* worker's ipc, control socket, signals, timers; then the worker */
int outside_serve(struct driver *d) MUST_CHECK; /* the public sockets: after the doors are known */
/* The connections upward, made anew; place NULL: only ended. */
int outside_connect(struct driver *d, uint64_t number, const struct node_place *place) MUST_CHECK;
int outside_probe(struct driver *d, uint64_t number, const struct node_place *place) MUST_CHECK;
void outside_close(struct driver *d);
void outside_stop(struct driver *d);
void outside_ready(struct driver *d);

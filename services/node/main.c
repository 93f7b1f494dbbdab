/* sitetreed: the node of a site. It owns the two public sockets, the keys, the table of sites and the events,
 * and starts the workers. Reading order: node.h (the core and its contract), driver.h, then io.c. usage:
 * sitetreed --dir DIR [--config FILE] [--check] [--print-config] [--version] */
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "services/node/driver.h"
#include "services/node/setup.h"

#define RESTARTS_VARIABLE                                                                                    \
    "SITETREED_RESTARTS" /* "count first-seconds", handed to the next life of this process */
#define RESTARTS_MAX 3
#define RESTARTS_WITHIN_S 60

struct arguments {
    const char *dir, *config;
    bool check, print, version, help;
};

static int usage(FILE *to)
{
    fprintf(to, "usage: sitetreed --dir DIR [--config FILE] [--check] [--print-config] [--version]\n");
    return to == stdout ? 0 : 2;
}

static int arguments_parse(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"print-config", no_argument, NULL, 'p'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct arguments a = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd':
            a.dir = optarg;
            break;
        case 'c':
            a.config = optarg;
            break;
        case 'k':
            a.check = true;
            break;
        case 'p':
            a.print = true;
            break;
        case 'v':
            a.version = true;
            break;
        case 'h':
            a.help = true;
            break;
        default:
            return 2;
        }
    if (optind < argc || (!a.dir && !a.version && !a.help && !(a.print && a.config)))
        return 2;
    *ret = a;
    return 0;
}

/* What goes wrong is said once, here. */
static int complain(const char *what, int rc)
{
    const char *hint = err_hint(rc);
    fprintf(stderr, "sitetreed: %s: %s (%s)\n", what, err_text(rc), err_word(rc));
    if (hint[0])
        fprintf(stderr, "try: %s\n", hint);
    return 1;
}

static int store_open(struct driver *d)
{
    char path[4200];
    struct store_options so = {.tables = node_tables,
        .n_tables = node_n_tables,
        .map_size = (size_t)config_bytes(d->config, CONFIG_MAP_SIZE)};
    snprintf(path, sizeof path, "%s/node.mdb", d->dir);
    return store_open_lmdb(path, &so, &d->store);
}

/* The worker lies beside this program, or where a build or an installation puts it. */
static void worker_find(struct driver *d)
{
    static const char *const places[] = {"sitetree-metadata", "../metadata/sitetree-metadata",
        "../libexec/sitetree/sitetree-metadata", "../lib/sitetree/sitetree-metadata"};
    char self[2048], path[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        n = 0;
    self[n] = 0;
    const char *folder = dirname(self);
    snprintf(path, sizeof path, "%s/%s", folder, places[0]);
    for (size_t i = 1; i < COUNT_OF(places) && access(path, X_OK) != 0; i++)
        snprintf(path, sizeof path, "%s/%s", folder, places[i]);
    if (access(path, X_OK) != 0) /* the log shall name the likeliest place */
        snprintf(path, sizeof path, "%s/%s", folder, places[0]);
    snprintf(d->worker_path, sizeof d->worker_path, "%s", path);
}

static int run_folder(struct driver *d)
{
    struct stat st;
    char lock[4200];
    const char *run = config_text(d->config, CONFIG_RUN_DIR);
    if (run[0])
        snprintf(d->run, sizeof d->run, "%s", run);
    else
        snprintf(d->run, sizeof d->run, "%s/run", d->dir);
    if (mkdir(d->run, 0700) < 0 && errno != EEXIST)
        return err_fail(-errno, "%s: %s", d->run, strerror(errno));
    if (stat(d->run, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_fail(ERR_CONFIG, "%s: not a folder of this user", d->run);
    if ((st.st_mode & 077) && chmod(d->run, 0700) < 0)
        return err_fail(-errno, "%s: %s", d->run, strerror(errno));
    snprintf(lock, sizeof lock, "%s/node.lock", d->run);
    return process_lock(lock);
}

static int core_start(struct driver *d)
{
    d->opt.pid = (unsigned)getpid();
    d->opt.link_stats = links_stats;
    d->opt.link_stats_ctx = d;
    int rc = node_new(&d->opt, &d->keys, d->store, &random_real, &d->node);
    if (rc)
        return rc;
    struct input in = {.kind = INPUT_START};
    driver_input(d, &in);
    driver_flush(d);
    return d->failed;
}

static int driver_start(struct driver *d)
{
    worker_find(d);
    int rc = run_folder(d);
    if (!rc)
        rc = store_open(d);
    if (!rc)
        rc = process_signals_open(&d->signals);
    if (!rc)
        rc = loop_new(&clock_real, &d->loop);
    if (!rc)
        rc = bus_open(2, &d->bus);
    if (!rc)
        rc = outside_open(d);
    if (!rc)
        rc = core_start(d);
    if (!rc)
        rc = outside_serve(d);
    return rc;
}

static int driver_run(struct driver *d)
{
    while (!d->stopped && !d->failed) {
        int rc = loop_turn(d->loop, -1);
        if (rc)
            return rc;
        driver_flush(d);
    }
    return d->failed;
}

static void driver_done(struct driver *d)
{
    outside_close(d);
    node_free(d->node);
    store_close(d->store);
    if (d->bus)
        bus_close(d->bus);
    loop_free(d->loop);
    effects_done(&d->fx);
    for (struct item *i = d->first; i;) {
        struct item *next = i->next;
        blob_free(i->in.frame);
        free(i);
        i = next;
    }
    for (size_t i = 0; i < d->n_backlog; i++)
        blob_free(d->backlog[i]);
    free(d->backlog);
    free(d->backlog_from);
    buf_done(&d->chain);
    config_free(d->config);
    secret_wipe(&d->keys, sizeof d->keys);
}

/* After a failed step nothing in memory is believed any more: the same program is started afresh in this
 * process, from the store. Not more than a few times in a minute: then the service manager takes over. */
static void start_again(char **argv)
{
    long count = 0, first = (long)(clock_mono(&clock_real).ns / NS_PER_S), before;
    const char *past = getenv(RESTARTS_VARIABLE);
    if (past && sscanf(past, "%ld %ld", &count, &before) == 2 && first - before < RESTARTS_WITHIN_S)
        first = before;
    else
        count = 0;
    if (count >= RESTARTS_MAX) {
        log_record(LOG_ERROR, "giving-up", "why", "the store failed again and again", NULL);
        return;
    }
    char text[64];
    snprintf(text, sizeof text, "%ld %ld", count + 1, first);
    setenv(RESTARTS_VARIABLE, text, 1);
    sleep((unsigned)count); /* a disk may get over it */
    execv("/proc/self/exe", argv);
}

static int check_only(struct driver *d)
{
    printf("ok  site %s, %s below %s; configuration %s\n", d->opt.site.s, d->opt.tier,
        d->opt.n_parents ? d->opt.parents[0].code.s : "none", d->config_path ? d->config_path : "(defaults)");
    return 0;
}

static int print_config(const struct config *c)
{
    AUTO_BUF out = {0};
    config_print(c, &out);
    return out.err || fwrite(out.data, 1, out.len, stdout) != out.len;
}

/* Without --config: sitetree.conf in the folder of the site, where there is one. */
static const char *config_find(const struct arguments *a, char path[4200])
{
    if (a->config)
        return a->config;
    snprintf(path, 4200, "%s/sitetree.conf", a->dir);
    return access(path, F_OK) == 0 ? path : NULL;
}

static int serve(struct driver *d, char **argv)
{
    int rc = process_start(4096);
    if (rc)
        return complain("start", rc);
    options_log(d->config);
    log_set_site(d->opt.site.s);
    rc = driver_start(d);
    if (rc && !d->failed) {
        int code = complain("start", rc);
        driver_done(d);
        return code;
    }
    if (!rc)
        rc = driver_run(d);
    driver_done(d);
    if (rc == 0 && d->again) {
        execv("/proc/self/exe", argv);
        rc = complain("start again", -errno);
    }
    if (rc == 0) {
        log_record(LOG_INFO, "stopped", NULL);
        return 0;
    }
    start_again(argv);
    return 1;
}

int main(int argc, char **argv)
{
    struct arguments a;
    static struct driver d;
    char path[4200], dir[4096];
    if (arguments_parse(argc, argv, &a))
        return usage(stderr);
    if (a.help)
        return usage(stdout);
    if (a.version) {
        printf("sitetreed " SITETREE_VERSION "\n");
        return 0;
    }
    if (a.dir && !realpath(a.dir, dir))
        return complain(a.dir, err_fail(ERR_NOT_FOUND, "%s", strerror(errno)));
    d.dir = a.dir ? dir : NULL;
    a.dir = d.dir;
    d.config_path = config_find(&a, path);
    node_options_default(&d.opt);
    int rc = options_load(d.config_path, &d.config);
    if (rc)
        return complain("configuration", rc);
    if (a.print)
        return print_config(d.config);
    rc = crypto_init();
    if (!rc)
        rc = setup_load(d.dir, &d.opt, &d.keys, &d.chain);
    if (rc)
        return complain("site", rc);
    options_apply(d.config, &d.opt);
    return a.check ? check_only(&d) : serve(&d, argv);
}

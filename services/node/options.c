#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "services/node/driver.h"

int options_load(const char *path, struct config **ret_config)
{
    return config_load(path, ret_config);
}

void options_apply(const struct config *c, struct node_options *opt)
{
    opt->heartbeat_ns = config_duration_ns(c, CONFIG_HEARTBEAT);
    opt->report_ns = config_duration_ns(c, CONFIG_REPORT_INTERVAL);
    opt->not_heard_ns = config_duration_ns(c, CONFIG_NOT_HEARD_AFTER);
    opt->hello_timeout_ns = config_duration_ns(c, CONFIG_HELLO_TIMEOUT);
    opt->orphan_ns = config_duration_ns(c, CONFIG_ORPHAN_AFTER);
    opt->down_rate = config_bytes(c, CONFIG_DOWN_RATE);
    opt->up_rate = config_bytes(c, CONFIG_UP_RATE);
}

/* host:port apart; the host without the port may be empty. */
static void split(const char *endpoint, char *host, size_t size)
{
    const char *colon = strrchr(endpoint, ':');
    snprintf(host, size, "%.*s", (int)(colon ? colon - endpoint : 0), endpoint);
}

char *options_hints_address(const struct config *c, char out[300])
{
    const char *hints = config_text(c, CONFIG_LISTEN_HINTS);
    char host[256];
    if (hints[0] != ':') {
        snprintf(out, 300, "%s", hints);
        return out;
    }
    split(config_text(c, CONFIG_LISTEN), host, sizeof host);
    snprintf(out, 300, "%.250s%.40s", host, hints);
    return out;
}

void options_advertise(const struct config *c, uint16_t port, uint16_t hints_port, struct node_options *opt)
{
    static const char *const any[] = {"", "*", "0.0.0.0", "[::]", "::"};
    char host[256];
    const char *advertise = config_text(c, CONFIG_ADVERTISE), *hints = config_text(c, CONFIG_ADVERTISE_HINTS);
    split(config_text(c, CONFIG_LISTEN), host, sizeof host);
    for (size_t i = 0; i < COUNT_OF(any); i++)
        if (strcmp(host, any[i]) == 0 && gethostname(host, sizeof host - 1) != 0)
            snprintf(host, sizeof host, "localhost");
    if (advertise[0])
        split(advertise, host, sizeof host);
    if (advertise[0])
        snprintf(opt->advertise, sizeof opt->advertise, "%s", advertise);
    else
        snprintf(opt->advertise, sizeof opt->advertise, "%.240s:%u", host, port);
    if (hints[0])
        snprintf(opt->advertise_hints, sizeof opt->advertise_hints, "%s", hints);
    else
        snprintf(opt->advertise_hints, sizeof opt->advertise_hints, "%.240s:%u", host, hints_port);
}

void options_log(const struct config *c)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    enum log_level most = LOG_INFO;
    for (unsigned i = 0; i < COUNT_OF(levels); i++)
        if (strcmp(config_text(c, CONFIG_LOG_LEVEL), levels[i]) == 0)
            most = (enum log_level)i;
    log_init("sitetreed", strcmp(config_text(c, CONFIG_LOG_FORMAT), "json") == 0 ? LOG_JSON : LOG_TEXT, most);
}

static void pass_on(struct driver *d)
{
    struct child_info info;
    if (!d->worker)
        return;
    child_info_get(d->worker, &info);
    if (info.pid > 0)
        (void)kill(info.pid, SIGHUP); /* it reads the same file */
}

int options_reload(struct driver *d, struct buf *ret_json)
{
    struct config *fresh;
    enum config_key keys[CONFIG_COUNT];
    int rc = options_load(d->config_path, &fresh);
    if (rc)
        return rc;
    size_t n = config_changed(d->config, fresh, keys);
    json_t *changed = json_array(), *restart = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct config_row *row = &config_rows[keys[i]];
        json_array_append_new(row->reload ? changed : restart, json_string(row->name));
        log_record(row->reload ? LOG_INFO : LOG_WARNING,
            row->reload ? "option-changed" : "option-needs-restart", "key", row->name, NULL);
    }
    config_free(d->config);
    d->config = fresh;
    options_log(fresh);
    options_apply(fresh, &d->opt);
    node_set_options(d->node, &d->opt);
    link_rates(d);
    if (n)
        pass_on(d);
    json_t *j = json_pack("{s:o, s:o}", "changed", changed, "restart", restart);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (!text)
        return -ENOMEM;
    buf_str(ret_json, text);
    free(text);
    return ret_json->err;
}

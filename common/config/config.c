#include "common/config/config.h"

#include <confuse.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/word.h"
#include "common/config/value.h"

#define FILE_MAX (256 * 1024)

const struct config_row config_rows[CONFIG_COUNT] = {
#define CONFIG_ROW(key, name, type, def, least, most, reload, text)                                          \
    [key] = {name, type, def, least, most, reload, text},
    CONFIG_TABLE(CONFIG_ROW)
#undef CONFIG_ROW
};

struct config {
    struct config_value values[CONFIG_COUNT];
};

/* What the callbacks of libconfuse fill: they carry no pointer of ours. */
static struct parse {
    struct config *config;
    const char *name;
    int rc; /* the first failure; its text is in err_text */
} parse;

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        free(c->values[i].text);
    free(c);
}

static int key_of(const char *name)
{
    for (int i = 0; i < CONFIG_COUNT; i++)
        if (strcmp(config_rows[i].name, name) == 0)
            return i;
    return -1;
}

static int unknown_key(int line, const char *name)
{
    const char *names[CONFIG_COUNT];
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        names[i] = config_rows[i].name;
    const char *near = word_nearest(name, names, CONFIG_COUNT);
    return err_fail(ERR_CONFIG, "%s:%d: unknown key '%.60s'%s%s%s", parse.name, line, name,
        near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The messages of libconfuse may be translated, so the key is taken from between the quotes. */
static void on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
    char text[400], key[80] = "";
    int line = cfg ? cfg->line : 0;
    if (parse.rc)
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    if (sscanf(text, "%*[^']'%79[A-Za-z0-9_.-]'", key) == 1 && key_of(key) < 0 && strstr(fmt, "%s"))
        parse.rc = unknown_key(line, key);
    else
        parse.rc = err_fail(ERR_CONFIG, "%s:%d: %s", parse.name, line, text);
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    int key = key_of(cfg_opt_name(opt));
    *(const char **)result = value;
    if (parse.rc || key < 0)
        return parse.rc ? -1 : 0;
    struct config_value *v = &parse.config->values[key];
    if (v->set) {
        parse.rc = err_fail(ERR_CONFIG, "%s:%d: %s is set a second time (first on line %d)", parse.name,
            cfg->line, config_rows[key].name, v->line);
        return -1;
    }
    parse.rc = value_parse(&config_rows[key], value, v);
    if (parse.rc) {
        parse.rc = err_wrap(parse.rc, "%s:%d", parse.name, cfg->line);
        return -1;
    }
    v->set = true;
    v->line = cfg->line;
    return 0;
}

/* libconfuse takes a comment that is never closed for the end of the file, and what it hides is not read in
 * silence: a last key behind the text must be seen. */
static bool end_is_seen(const char *text)
{
    AUTO_BUF whole = {0};
    buf_fmt(&whole, "%s\nend_of_text = x\n", text);
    cfg_opt_t opts[CONFIG_COUNT + 2];
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        opts[i] = (cfg_opt_t)CFG_STR(config_rows[i].name, NULL, CFGF_NODEFAULT);
    opts[CONFIG_COUNT] = (cfg_opt_t)CFG_STR("end_of_text", NULL, CFGF_NODEFAULT);
    opts[CONFIG_COUNT + 1] = (cfg_opt_t)CFG_END();
    buf_u8(&whole, 0);
    cfg_t *cfg = whole.err ? NULL : cfg_init(opts, CFGF_NONE);
    if (!cfg)
        return false;
    cfg_set_error_function(cfg, on_error);
    bool seen = cfg_parse_buf(cfg, (const char *)whole.data) == CFG_SUCCESS && cfg_getstr(cfg, "end_of_text");
    cfg_free(cfg);
    return seen;
}

static int last_line(const char *text)
{
    int line = 1;
    for (; *text; text++)
        line += *text == '\n' && text[1];
    return line;
}

/* libconfuse counts the lines after a comment wrong, and the operator goes by the number: comments become
 * blanks before it reads. One that is not closed stays, and is found by end_is_seen. */
static void blank_comments(char *text)
{
    char before = '\n';
    for (char *p = text, *end; *p; before = p[-1]) {
        bool starts = strchr(" \t\r\n=", before) != NULL;
        if (*p == '"' || *p == '\'') {
            char quote = *p++;
            while (*p && *p != quote)
                p += *p == '\\' && p[1] ? 2 : 1;
            p += *p != 0;
            continue;
        }
        if (*p == '#' || (starts && p[0] == '/' && p[1] == '/'))
            end = p + strcspn(p, "\n");
        else if (starts && p[0] == '/' && p[1] == '*' && (end = strstr(p + 2, "*/")) != NULL)
            end += 2;
        else
            end = ++p;
        for (; p < end; p++)
            if (*p != '\n')
                *p = ' ';
    }
}

static int scan(const char *commented)
{
    AUTO_FREE char *text = strdup(commented);
    if (!text)
        return -ENOMEM;
    blank_comments(text);
    cfg_opt_t opts[CONFIG_COUNT + 1];
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        opts[i] = (cfg_opt_t)CFG_STR_CB(config_rows[i].name, NULL, CFGF_NODEFAULT, on_value);
    opts[CONFIG_COUNT] = (cfg_opt_t)CFG_END();
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);
    if (!cfg)
        return -ENOMEM;
    cfg_set_error_function(cfg, on_error);
    /* libconfuse takes an empty text for a failure. */
    int rc = text[strspn(text, " \t\r\n")] ? cfg_parse_buf(cfg, text) : CFG_SUCCESS;
    if (rc != CFG_SUCCESS && parse.rc == 0)
        parse.rc = err_fail(ERR_CONFIG, "%s:%d: not a line of the form key = value", parse.name, cfg->line);
    cfg_free(cfg);
    if (parse.rc == 0 && !end_is_seen(text))
        parse.rc = err_fail(ERR_CONFIG, "%s:%d: a comment is not closed", parse.name, last_line(text));
    return parse.rc;
}

static int fill_defaults(struct config *c)
{
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        if (c->values[i].set || !row->def[0])
            continue;
        int rc = value_parse(row, row->def, &c->values[i]);
        if (rc)
            return err_wrap(rc, "default of %s", row->name);
    }
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        if (value_is_text(config_rows[i].type) && !c->values[i].text && !(c->values[i].text = strdup("")))
            return -ENOMEM;
    struct config_value *v = c->values;
    if (!v[CONFIG_NOT_HEARD_AFTER].set)
        v[CONFIG_NOT_HEARD_AFTER].number = 3 * v[CONFIG_HEARTBEAT].number;
    return 0;
}

static int check_together(const struct config *c, const char *name)
{
    const struct config_value *v = c->values;
    if (v[CONFIG_CHUNK].number > v[CONFIG_WINDOW].number)
        return err_fail(ERR_CONFIG, "%s:%d: chunk is larger than window", name, v[CONFIG_CHUNK].line);
    if (v[CONFIG_NOT_HEARD_AFTER].number < 2 * v[CONFIG_HEARTBEAT].number)
        return err_fail(ERR_CONFIG, "%s:%d: not_heard_after is less than two heartbeats", name,
            v[CONFIG_NOT_HEARD_AFTER].line);
    return 0;
}

int config_parse_text(const char *text, const char *name, struct config **ret_config)
{
    struct config *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    parse = (struct parse){c, name, 0};
    int rc = scan(text);
    if (rc == 0)
        rc = fill_defaults(c);
    if (rc == 0)
        rc = check_together(c, name);
    parse = (struct parse){0};
    if (rc) {
        config_free(c);
        return rc;
    }
    *ret_config = c;
    return 0;
}

static int read_whole(int fd, const char *path, struct buf *out)
{
    for (;;) {
        buf_reserve(out, 4096);
        if (out->err)
            return out->err;
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_fail(-errno, "%s: %s", path, strerrordesc_np(errno));
        if (n == 0)
            break;
        out->len += (size_t)n;
        if (out->len > FILE_MAX)
            return err_fail(ERR_CONFIG, "%s:1: larger than %d KiB", path, FILE_MAX / 1024);
    }
    const uint8_t *nul = out->len ? memchr(out->data, 0, out->len) : NULL;
    if (nul)
        return err_fail(ERR_CONFIG, "%s:1: byte %zu is NUL: not a text", path, (size_t)(nul - out->data));
    buf_u8(out, 0);
    return out->err;
}

int config_load(const char *path, struct config **ret_config)
{
    if (!path)
        return config_parse_text("", "defaults", ret_config);
    AUTO_BUF text = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_fail(-errno, "%s: %s", path, strerrordesc_np(errno));
    int rc = read_whole(fd, path, &text);
    close(fd);
    return rc ? rc : config_parse_text((const char *)text.data, path, ret_config);
}

const char *config_text(const struct config *c, enum config_key key)
{
    INVARIANT(value_is_text(config_rows[key].type));
    return c->values[key].text;
}

int64_t config_duration_ns(const struct config *c, enum config_key key)
{
    INVARIANT(config_rows[key].type == CONFIG_TYPE_DURATION);
    return (int64_t)c->values[key].number;
}

uint64_t config_bytes(const struct config *c, enum config_key key)
{
    INVARIANT(config_rows[key].type == CONFIG_TYPE_BYTES || config_rows[key].type == CONFIG_TYPE_RATE);
    return c->values[key].number;
}

uint64_t config_number(const struct config *c, enum config_key key)
{
    INVARIANT(config_rows[key].type == CONFIG_TYPE_NUMBER);
    return c->values[key].number;
}

bool config_flag(const struct config *c, enum config_key key)
{
    INVARIANT(config_rows[key].type == CONFIG_TYPE_FLAG);
    return c->values[key].number != 0;
}

bool config_is_set(const struct config *c, enum config_key key)
{
    return c->values[key].set;
}

void config_print_value(const struct config *c, enum config_key key, struct buf *out)
{
    value_print(&config_rows[key], &c->values[key], out);
}

void config_print(const struct config *c, struct buf *out)
{
    for (int i = 0; i < CONFIG_COUNT; i++) {
        bool derived = !c->values[i].set && !config_rows[i].def[0];
        buf_fmt(out, "%s%s", derived ? "# " : "", config_rows[i].name);
        if (derived && value_is_text(config_rows[i].type)) {
            buf_str(out, " is derived\n");
            continue;
        }
        buf_str(out, " = ");
        config_print_value(c, (enum config_key)i, out);
        buf_u8(out, '\n');
    }
}

void config_example(struct buf *out)
{
    buf_str(out, "# sitetree.conf: the configuration of one site. Every key is shown with its default; see "
                 "sitetree.conf(5).\n"
                 "# A changed file is checked with `sitetreed --check` and takes effect with `systemctl "
                 "reload sitetreed`,\n"
                 "# except for the keys that say \"at the next start\".\n");
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        buf_fmt(out, "\n# %s\n# %s", row->sentence, config_type_text(row->type));
        if (row->least[0])
            buf_fmt(out, ", %s to %s", row->least, row->most);
        buf_fmt(out, "%s\n", row->reload ? "" : "; at the next start");
        const char *quote = value_is_text(row->type) && row->type < CONFIG_TYPE_DURATION ? "\"" : "";
        buf_fmt(out, "#%s = %s%s%s\n", row->name, quote, row->def, quote);
    }
}

size_t config_changed(
    const struct config *before, const struct config *after, enum config_key ret_keys[CONFIG_COUNT])
{
    size_t n = 0;
    for (int i = 0; i < CONFIG_COUNT; i++) {
        const struct config_value *a = &before->values[i], *b = &after->values[i];
        if (value_is_text(config_rows[i].type) ? strcmp(a->text, b->text) != 0 : a->number != b->number)
            ret_keys[n++] = (enum config_key)i;
    }
    return n;
}

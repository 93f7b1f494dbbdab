/* The views that draw themselves: status, tree, explain, runs in progress, lists that go on, verification,
 * invitations. */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/sitetree/draw.h"
#include "tools/sitetree/views.h"

#define FIELDS(...)                                                                                          \
    (const struct field[])                                                                                   \
    {                                                                                                        \
        __VA_ARGS__,                                                                                         \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }
#define SECTIONS(...)                                                                                        \
    (const struct section[])                                                                                 \
    {                                                                                                        \
        __VA_ARGS__,                                                                                         \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

#define TREE_LINES 60 /* more sites than this, and healthy subtrees are folded into one line */

static const char *text_of(const json_t *from, const char *path)
{
    const char *s = json_string_value(view_at(from, path));
    return s ? s : "?";
}

static void put_number(const json_t *from, const char *path, struct buf *line)
{
    const json_t *v = view_at(from, path);
    if (json_is_integer(v))
        buf_fmt(line, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else
        buf_u8(line, '?');
}

static void put_count(const json_t *from, const char *path, struct buf *line)
{
    const json_t *v = view_at(from, path);
    if (json_is_integer(v))
        view_count(json_integer_value(v), line);
    else
        buf_u8(line, '?');
}

static void put_line(struct output *o, struct buf *line)
{
    buf_u8(line, '\n');
    output_text(o, buf_view(line));
    buf_reset(line);
}

static void put_as_of(struct output *o, struct buf *line)
{
    char time[32];
    buf_str(line, "as of ");
    view_time(o, wall_text(o->as_of, time), line);
}

static void put_age(const struct output *o, const char *rfc3339, struct buf *line)
{
    char text[24];
    double age = view_age(o, rfc3339);
    buf_str(line, age < 0 ? "?" : duration_text((int64_t)(age * 1e9), text));
}

/* --- status
 * --------------------------------------------------------------------------------------------------- */

static void status_site(struct output *o, const json_t *data, struct buf *line)
{
    char text[24];
    const json_t *parent = view_at(data, "parent");
    buf_fmt(line, "%s   %s", text_of(data, "site"), text_of(data, "tier"));
    if (parent)
        buf_fmt(line, " below %s", json_string_value(parent));
    buf_str(line, "   generation ");
    put_number(data, "generation", line);
    const char *signed_at = json_string_value(view_at(data, "signed"));
    buf_str(line, "   signed ");
    view_time(o, signed_at, line);
    buf_str(line, " (");
    put_age(o, signed_at, line);
    buf_str(line, ")   ");
    double left = -view_age(o, json_string_value(view_at(data, "expires")));
    if (!view_at(data, "expires"))
        buf_str(line, "expires ?");
    else if (left >= 0)
        buf_fmt(line, "expires in %s", duration_text((int64_t)(left * 1e9), text));
    else
        buf_fmt(line, "%sEXPIRED%s for %s", output_color(o, COLOR_RED), output_plain(o),
            duration_text((int64_t)(-left * 1e9), text));
    put_line(o, line);
    buf_str(line, "data  ");
    put_count(data, "records", line);
    buf_fmt(line, " records   root %.8s   %s%s%s", text_of(data, "root"), text_of(data, "state"),
        view_at(data, "cause") ? "   " : "", view_at(data, "cause") ? text_of(data, "cause") : "");
    if (view_at(data, "text"))
        buf_fmt(line, ": %s", text_of(data, "text"));
    put_line(o, line);
}

static void status_sites(struct output *o, const json_t *data, struct buf *line)
{
    static const struct {
        const char *path, *word;
    } classes[] = {{"sites.live", "live"}, {"sites.working", "working"}, {"sites.behind", "behind"},
        {"sites.broken", "broken"}, {"sites.not_heard", "not heard"}, {"sites.held", "held"}};
    buf_str(line, "tree  ");
    put_count(data, "sites.total", line);
    buf_str(line, "   ");
    for (size_t i = 0; i < COUNT_OF(classes); i++) {
        const json_t *v = view_at(data, classes[i].path);
        bool none = json_is_integer(v) && json_integer_value(v) == 0;
        buf_str(line, "  ");
        buf_str(line, none ? "" : output_color(o, output_class_color(classes[i].word)));
        put_count(data, classes[i].path, line);
        buf_fmt(line, " %s%s", classes[i].word, none ? "" : output_plain(o));
    }
    buf_str(line, "      ");
    put_as_of(o, line);
    put_line(o, line);
    buf_str(line, "lag   p50 ");
    view_seconds(view_at(data, "lag_p50"), line);
    buf_str(line, "  p99 ");
    view_seconds(view_at(data, "lag_p99"), line);
    buf_str(line, "  max ");
    view_seconds(view_at(data, "lag_max"), line);
    if (view_at(data, "lag_max_site"))
        buf_fmt(line, " (%s)", text_of(data, "lag_max_site"));
    buf_str(line, "   here ");
    view_seconds(view_at(data, "lag"), line);
    put_line(o, line);
}

/* "phase 3 of 6  63,440 of 66,481 items  12 MiB of 13 MiB  4.2 MiB/s  4 s left" */
void draw_progress(const json_t *run, struct buf *line)
{
    buf_fmt(line, "%s  phase ", text_of(run, "phase"));
    put_number(run, "phase_number", line);
    buf_str(line, " of ");
    put_number(run, "phases_total", line);
    buf_str(line, "  ");
    put_count(run, "items", line);
    if (json_integer_value(view_at(run, "items_total")) > 0) {
        buf_str(line, " of ");
        put_count(run, "items_total", line);
    }
    buf_str(line, " items");
    if (json_is_number(view_at(run, "bytes"))) {
        buf_str(line, "  ");
        view_bytes(json_number_value(view_at(run, "bytes")), line);
        if (json_number_value(view_at(run, "bytes_total")) > 0) {
            buf_str(line, " of ");
            view_bytes(json_number_value(view_at(run, "bytes_total")), line);
        }
    }
    if (json_number_value(view_at(run, "rate")) > 0) {
        buf_str(line, "  ");
        view_bytes(json_number_value(view_at(run, "rate")), line);
        buf_str(line, "/s");
    }
    if (json_is_number(view_at(run, "left"))) {
        buf_str(line, "  ");
        view_seconds(view_at(run, "left"), line);
        buf_str(line, " left");
    }
}

static void run_line(struct output *o, const json_t *run, struct buf *line)
{
    const char *result = json_string_value(view_at(run, "result"));
    buf_str(line, "run   ");
    if (!view_at(run, "run")) {
        buf_str(line, "none yet");
        put_line(o, line);
        return;
    }
    buf_fmt(line, "%s ", text_of(run, "run"));
    if (!view_at(run, "kind")) { /* the short form in a report */
        buf_fmt(line, "%s%s%s   sitetree sync show %s",
            output_color(o, output_class_color(result ? result : "")), result ? result : "active",
            output_plain(o), text_of(run, "run"));
        put_line(o, line);
        return;
    }
    buf_fmt(line, "%s by %s   ", text_of(run, "kind"), text_of(run, "by"));
    if (result) {
        buf_fmt(line, "%s%s%s", output_color(o, output_class_color(result)), result, output_plain(o));
        if (json_string_length(view_at(run, "phase")))
            buf_fmt(line, " in phase %s", text_of(run, "phase"));
    } else {
        draw_progress(run, line);
    }
    buf_str(line, "   started ");
    view_time(o, json_string_value(view_at(run, "started")), line);
    put_line(o, line);
    if (view_at(run, "reason")) {
        buf_fmt(line, "      %s", text_of(run, "reason"));
        put_line(o, line);
    }
    if (view_at(run, "next_retry")) {
        buf_str(line, "      next try ");
        view_time(o, text_of(run, "next_retry"), line);
        put_line(o, line);
    }
}

static void status_causes(struct output *o, const json_t *causes, struct buf *line)
{
    size_t i;
    json_t *cause;
    if (json_array_size(causes) == 0)
        return;
    output_text(o, view_str("\nneed you, by cause                            since       sites\n"));
    json_array_foreach(causes, i, cause)
    {
        const json_t *sites = view_at(cause, "sites");
        const char *first = json_string_value(json_array_get(sites, 0));
        const json_t *count = view_at(cause, "count");
        json_int_t n =
            json_is_integer(count) ? json_integer_value(count) : (json_int_t)json_array_size(sites);
        if (i == 8) {
            buf_fmt(line, "%zu more causes   sitetree tree --problems", json_array_size(causes) - i);
            put_line(o, line);
            break;
        }
        char who[64];
        AUTO_BUF since = {0};
        if (n > 1)
            snprintf(who, sizeof who, "%s and %" PRId64 " more", first ? first : "?", (int64_t)n - 1);
        else
            snprintf(who, sizeof who, "%s", first ? first : "?");
        put_age(o, json_string_value(view_at(cause, "since")), &since);
        buf_u8(&since, 0);
        buf_fmt(line, "%-18s  %-24s  %-10s  %5" PRId64 "  sitetree explain %s", text_of(cause, "cause"), who,
            (const char *)since.data, (int64_t)n, first ? first : "");
        put_line(o, line);
    }
}

static void draw_status(struct output *o, const json_t *data)
{
    AUTO_BUF line = {0};
    status_site(o, data, &line);
    status_sites(o, data, &line);
    run_line(o, view_at(data, "run"), &line);
    status_causes(o, view_at(data, "causes"), &line);
}

const struct screen view_status = {
    SECTIONS({SECTION_RECORD, "", NULL,
                 FIELDS({"site", "site", FORMAT_TEXT}, {"tier", "tier", FORMAT_TEXT},
                     {"parent", "parent", FORMAT_TEXT}, {"generation", "generation", FORMAT_NUMBER},
                     {"signed", "signed", FORMAT_TIME}, {"expires", "expires", FORMAT_TIME},
                     {"records", "records", FORMAT_COUNT}, {"root", "root", FORMAT_HASH},
                     {"state", "state", FORMAT_TEXT}, {"cause", "cause", FORMAT_TEXT},
                     {"text", "text", FORMAT_TEXT}, {"tree", "sites.total", FORMAT_COUNT},
                     {"live", "sites.live", FORMAT_COUNT}, {"working", "sites.working", FORMAT_COUNT},
                     {"behind", "sites.behind", FORMAT_COUNT}, {"broken", "sites.broken", FORMAT_COUNT},
                     {"not heard", "sites.not_heard", FORMAT_COUNT}, {"held", "sites.held", FORMAT_COUNT},
                     {"lag p50", "lag_p50", FORMAT_SECONDS}, {"lag p99", "lag_p99", FORMAT_SECONDS},
                     {"lag max", "lag_max", FORMAT_SECONDS}, {"lag max site", "lag_max_site", FORMAT_TEXT},
                     {"lag here", "lag", FORMAT_SECONDS}, {"run", "run", FORMAT_TEXT})},
        {SECTION_TABLE, "causes", NULL,
            FIELDS({"cause", "cause", FORMAT_TEXT}, {"sites", "sites", FORMAT_LIST},
                {"since", "since", FORMAT_TIME}, {"count", "count", FORMAT_COUNT})}),
    draw_status};

/* --- runs in progress
 * -------------------------------------------------------------------------------------------- */

static void draw_sync_status(struct output *o, const json_t *data)
{
    AUTO_BUF line = {0};
    put_as_of(o, &line);
    put_line(o, &line);
    run_line(o, data, &line);
    buf_fmt(&line, "site  %s   generation ", text_of(data, "state"));
    put_number(data, "generation", &line);
    put_line(o, &line);
    buf_str(&line, "next  ");
    if (view_at(data, "next_scheduled"))
        view_time(o, text_of(data, "next_scheduled"), &line);
    else
        buf_str(&line, "none by schedule");
    put_line(o, &line);
    buf_str(&line, "last  by schedule ");
    view_time(o, json_string_value(view_at(data, "last_scheduled")), &line);
    buf_str(&line, "   any ");
    view_time(o, json_string_value(view_at(data, "last_any")), &line);
    put_line(o, &line);
}

const struct screen view_sync_status = {
    SECTIONS({SECTION_RECORD, "", NULL,
        FIELDS({"run", "run", FORMAT_TEXT}, {"kind", "kind", FORMAT_TEXT}, {"by", "by", FORMAT_TEXT},
            {"phase", "phase", FORMAT_TEXT}, {"phase number", "phase_number", FORMAT_NUMBER},
            {"phases", "phases_total", FORMAT_NUMBER}, {"items", "items", FORMAT_COUNT},
            {"of", "items_total", FORMAT_COUNT}, {"bytes", "bytes", FORMAT_BYTES},
            {"of", "bytes_total", FORMAT_BYTES}, {"rate", "rate", FORMAT_RATE},
            {"left", "left", FORMAT_SECONDS}, {"started", "started", FORMAT_TIME},
            {"result", "result", FORMAT_TEXT}, {"reason", "reason", FORMAT_TEXT},
            {"next try", "next_retry", FORMAT_TIME}, {"next", "next_scheduled", FORMAT_TIME},
            {"site", "state", FORMAT_TEXT}, {"generation", "generation", FORMAT_NUMBER},
            {"last by schedule", "last_scheduled", FORMAT_TIME}, {"last", "last_any", FORMAT_TIME})}),
    draw_sync_status};

/* --- tree
 * ---------------------------------------------------------------------------------------------------------
 */

#define TREE_SECTION                                                                                         \
    {                                                                                                        \
        SECTION_TABLE, "sites", NULL,                                                                        \
            FIELDS({"site", "site", FORMAT_TEXT, FIELD_TREE},                                                \
                {"class", "class", FORMAT_TEXT, FIELD_KEEP | FIELD_CLASS},                                   \
                {"generation", "generation", FORMAT_NUMBER, FIELD_KEEP}, {"lag", "lag", FORMAT_SECONDS},     \
                {"seen", "seen", FORMAT_SECONDS}, {"records", "records", FORMAT_COUNT},                      \
                {"root", "root", FORMAT_HASH}, {"in", "bytes_in", FORMAT_BYTES},                             \
                {"out", "bytes_out", FORMAT_BYTES}, {"state", "state", FORMAT_TEXT},                         \
                {"below", "below", FORMAT_COUNT}, {"live", "below_live", FORMAT_COUNT},                      \
                {"clock", "clock_offset", FORMAT_SIGNED}, {"tier", "tier", FORMAT_TEXT},                     \
                {"version", "version", FORMAT_TEXT},                                                         \
                {"cause", "cause", FORMAT_TEXT, FIELD_KEEP | FIELD_MAYBE},                                   \
                {"via", "via", FORMAT_TEXT, FIELD_MAYBE}),                                                   \
            "no sites\n"                                                                                     \
    }
static const struct section tree_section = TREE_SECTION;

static bool is_fine(const json_t *site)
{
    const char *class_name = text_of(site, "class");
    return strcmp(class_name, "live") == 0 || strcmp(class_name, "held") == 0;
}

static bool all_below_fine(const json_t *sites, size_t from, size_t *ret_end)
{
    json_int_t depth = json_integer_value(view_at(json_array_get(sites, from), "depth"));
    bool fine = is_fine(json_array_get(sites, from));
    size_t i = from + 1;
    for (; i < json_array_size(sites); i++) {
        const json_t *site = json_array_get(sites, i);
        if (json_integer_value(view_at(site, "depth")) <= depth)
            break;
        fine = fine && is_fine(site);
    }
    *ret_end = i;
    return fine;
}

/* Sites in depth-first order: a subtree is a run of deeper rows. Takes rows out of a copy. */
static json_t *tree_fold(const json_t *sites, bool problems, json_int_t depth, size_t *ret_folded)
{
    json_t *rows = json_array();
    bool fold = json_array_size(sites) > TREE_LINES;
    size_t end;
    *ret_folded = 0;
    for (size_t i = 0; i < json_array_size(sites); i++) {
        json_t *site = json_array_get(sites, i);
        if (depth >= 0 && json_integer_value(view_at(site, "depth")) > depth) {
            ++*ret_folded;
            continue;
        }
        bool fine = all_below_fine(sites, i, &end);
        if (fine && problems && i > 0) {
            *ret_folded += end - i;
            i = end - 1;
            continue;
        }
        json_array_append(rows, site);
        if (fine && fold && i > 0) {
            *ret_folded += end - i - 1;
            i = end - 1;
        }
    }
    return rows;
}

void draw_tree(struct output *o, const json_t *data, bool problems, long depth)
{
    const json_t *sites = view_at(data, "sites");
    size_t folded;
    json_t *rows = tree_fold(sites, problems, depth, &folded);
    if (json_array_size(rows) == 0)
        output_text(o, view_str(tree_section.empty));
    else
        view_table(o, &tree_section, rows, false);
    json_decref(rows);
    fflush(o->out);
    if (folded)
        output_note(
            o, "not shown: %zu%s; sitetree tree --below SITE", folded, depth >= 0 ? "" : " that are fine");
}

static void draw_whole_tree(struct output *o, const json_t *data)
{
    draw_tree(o, data, false, -1);
}

const struct screen view_tree = {SECTIONS(TREE_SECTION), draw_whole_tree};

/* --- explain
 * ------------------------------------------------------------------------------------------------------- */

static void explain_head(struct output *o, const json_t *data, struct buf *line)
{
    const json_t *current = view_at(data, "current");
    buf_fmt(line, "%s: ", text_of(data, "site"));
    if (json_is_true(current)) {
        buf_str(line, "current, at generation ");
        put_number(data, "generation", line);
    } else {
        buf_str(line, json_is_false(current) ? "not current" : "not known to be current");
        buf_str(line, ", last known at generation ");
        put_number(data, "generation", line);
        buf_str(line, " of ");
        put_number(data, "newest", line);
    }
    buf_str(line, "      ");
    put_as_of(o, line);
    put_line(o, line);
}

static void explain_hops(struct output *o, const json_t *hops, struct buf *line)
{
    size_t i;
    json_t *hop;
    if (json_array_size(hops) == 0)
        return;
    buf_fmt(line, "%-9s", "hop");
    json_array_foreach(hops, i, hop)
    {
        const char *class_name = text_of(hop, "class");
        buf_fmt(line, "%s%s ", i ? "  ->  " : "", text_of(hop, "site"));
        put_number(hop, "generation", line);
        buf_fmt(
            line, " %s%s%s (", output_color(o, output_class_color(class_name)), class_name, output_plain(o));
        const json_t *seen = view_at(hop, "seen");
        view_seconds(seen, line);
        buf_str(line, seen ? " ago)" : ")");
    }
    put_line(o, line);
}

static const struct section explain_lines[] = {{SECTION_LINES, "seen", "seen"},
    {SECTION_LINES, "sure", "sure"}, {SECTION_LINES, "effect", "effect"}, {SECTION_LINES, "now", "now"},
    {SECTION_LINES, "try", "try"}, {0}};

static void draw_explain(struct output *o, const json_t *data)
{
    AUTO_BUF line = {0};
    explain_head(o, data, &line);
    if (view_at(data, "cause")) {
        buf_fmt(&line, "%-9s%s", "cause", text_of(data, "cause"));
        if (view_at(data, "since")) {
            buf_str(&line, ", since ");
            view_time(o, text_of(data, "since"), &line);
            buf_str(&line, " (");
            put_age(o, text_of(data, "since"), &line);
            buf_str(&line, ")");
        }
        put_line(o, &line);
    }
    explain_hops(o, view_at(data, "hop"), &line);
    view_draw_sections(o, explain_lines, data);
}

const struct screen view_explain = {
    SECTIONS({SECTION_RECORD, "", NULL,
                 FIELDS({"site", "site", FORMAT_TEXT}, {"current", "current", FORMAT_YES},
                     {"generation", "generation", FORMAT_NUMBER}, {"newest", "newest", FORMAT_NUMBER},
                     {"cause", "cause", FORMAT_TEXT}, {"since", "since", FORMAT_TIME})},
        {SECTION_TABLE, "hop", NULL,
            FIELDS({"site", "site", FORMAT_TEXT}, {"generation", "generation", FORMAT_NUMBER},
                {"class", "class", FORMAT_TEXT}, {"seen", "seen", FORMAT_SECONDS})},
        {SECTION_LINES, "seen", "seen"}, {SECTION_LINES, "sure", "sure"}, {SECTION_LINES, "effect", "effect"},
        {SECTION_LINES, "now", "now"}, {SECTION_LINES, "try", "try"}),
    draw_explain};

/* --- lists that go on, verification, invitations
 * ---------------------------------------------------------------------- */

#define UPDATES_SECTION                                                                                      \
    {                                                                                                        \
        SECTION_TABLE, "updates", NULL,                                                                      \
            FIELDS({"update", "id", FORMAT_TEXT}, {"classification", "classification", FORMAT_TEXT},         \
                {"severity", "severity", FORMAT_TEXT, FIELD_MAYBE}, {"state", "state", FORMAT_TEXT},         \
                {"product", "product", FORMAT_TEXT}, {"scope", "scope", FORMAT_TEXT},                        \
                {"title", "title", FORMAT_TEXT, FIELD_KEEP}),                                                \
            "no updates\n"                                                                                   \
    }
static const struct section updates_section = UPDATES_SECTION;

static void draw_updates(struct output *o, const json_t *data)
{
    AUTO_BUF line = {0};
    size_t n = json_array_size(view_at(data, "updates"));
    if (n == 0)
        output_text(o, view_str(updates_section.empty));
    else
        view_table(o, &updates_section, view_at(data, "updates"), false);
    if (!view_at(data, "next"))
        return;
    fflush(o->out);
    put_count(data, "total", &line);
    buf_u8(&line, 0);
    output_note(o, "%zu of %s; further ones: --after %s", n, (const char *)line.data, text_of(data, "next"));
}

const struct screen view_updates = {
    SECTIONS(UPDATES_SECTION,
        {SECTION_RECORD, "", NULL, FIELDS({"total", "total", FORMAT_COUNT}, {"next", "next", FORMAT_TEXT})}),
    draw_updates};

static const struct field verify_fields[] = {{"equal to the signed root", "ok", FORMAT_YES},
    {"generation", "generation", FORMAT_NUMBER}, {"signed root", "root", FORMAT_TEXT},
    {"computed", "recomputed", FORMAT_TEXT}, {"pages", "pages", FORMAT_COUNT},
    {"records", "records", FORMAT_COUNT}, {"deltas", "deltas", FORMAT_COUNT, FIELD_MAYBE},
    {"took", "seconds", FORMAT_SECONDS, FIELD_MAYBE}, {"bad", "bad", FORMAT_LIST, FIELD_MAYBE}, {0}};

const struct screen view_verify = {
    SECTIONS({SECTION_RECORD, "", NULL, verify_fields},
        {SECTION_TABLE, "sites", NULL,
            FIELDS({"site", "site", FORMAT_TEXT}, {"equal", "equal", FORMAT_YES, FIELD_KEEP},
                {"generation", "generation", FORMAT_NUMBER}, {"seen", "seen", FORMAT_SECONDS},
                {"root", "root", FORMAT_TEXT})}),
    NULL};

static void draw_invite(struct output *o, const json_t *data)
{
    AUTO_BUF line = {0};
    buf_fmt(&line, "%s   one use, until ", text_of(data, "site"));
    view_time(o, json_string_value(view_at(data, "expires")), &line);
    buf_fmt(&line, ", for tier %s, below %s", text_of(data, "tier"), text_of(data, "endpoint"));
    put_line(o, &line);
    buf_fmt(&line, "paste at %s:  sitetree site %s %s", text_of(data, "site"),
        json_is_true(view_at(data, "move")) ? "move" : "join", text_of(data, "token"));
    put_line(o, &line);
}

const struct screen view_invite = {
    SECTIONS({SECTION_RECORD, "", NULL,
        FIELDS({"site", "site", FORMAT_TEXT}, {"tier", "tier", FORMAT_TEXT},
            {"expires", "expires", FORMAT_TIME}, {"endpoint", "endpoint", FORMAT_TEXT},
            {"token", "token", FORMAT_TEXT})}),
    draw_invite};

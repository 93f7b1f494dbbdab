#include "tools/sitetree/views.h"

/* What follows is the mapping from text to JSON: title, path, format. */
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
#define TABLE(path, empty, ...)                                                                              \
    {                                                                                                        \
        SECTION_TABLE, path, NULL, FIELDS(__VA_ARGS__), empty                                                \
    }
#define RECORD(path, ...)                                                                                    \
    {                                                                                                        \
        SECTION_RECORD, path, NULL, FIELDS(__VA_ARGS__), NULL                                                \
    }
#define LINES(path, title)                                                                                   \
    {                                                                                                        \
        SECTION_LINES, path, title, NULL, NULL                                                               \
    }

const struct screen view_links = {SECTIONS(TABLE("links",
    "no links: this site has neither a parent nor children yet\n", {"link", "link", FORMAT_TEXT},
    {"state", "state", FORMAT_TEXT, FIELD_KEEP | FIELD_CLASS}, {"class", "class", FORMAT_TEXT, FIELD_MAYBE},
    {"rtt", "rtt", FORMAT_SECONDS}, {"down", "down_rate", FORMAT_RATE}, {"up", "up_rate", FORMAT_RATE},
    {"limit", "rate_limit", FORMAT_RATE, FIELD_LIMIT | FIELD_MAYBE}, {"queue", "queue", FORMAT_COUNT},
    {"bytes", "queue_bytes", FORMAT_BYTES}, {"lost", "lost", FORMAT_COUNT}, {"floor", "floor", FORMAT_FLOOR},
    {"by parent", "seen_by_parent", FORMAT_SECONDS}, {"by child", "seen_by_child", FORMAT_SECONDS},
    {"path", "path", FORMAT_TEXT, FIELD_MAYBE}, {"last error", "last_error", FORMAT_TEXT, FIELD_MAYBE},
    {"at", "last_error_at", FORMAT_TIME, FIELD_MAYBE}))};

const struct screen view_site_list = {
    SECTIONS(TABLE("sites", "no sites below this one; sitetree site invite CODE lets one in\n",
        {"site", "site", FORMAT_TEXT}, {"tier", "tier", FORMAT_TEXT},
        {"parent", "parent", FORMAT_TEXT, FIELD_MAYBE}, {"state", "state", FORMAT_TEXT},
        {"class", "class", FORMAT_TEXT, FIELD_KEEP | FIELD_CLASS}, {"seen", "seen", FORMAT_SECONDS},
        {"joined", "joined", FORMAT_TIME}, {"endpoint", "endpoint", FORMAT_TEXT}))};

const struct screen view_site_show = {SECTIONS(
    RECORD("", {"site", "site", FORMAT_TEXT}, {"tier", "tier", FORMAT_TEXT},
        {"parent", "parent", FORMAT_TEXT, FIELD_MAYBE}, {"state", "state", FORMAT_TEXT},
        {"class", "class", FORMAT_TEXT}, {"seen", "seen", FORMAT_SECONDS}, {"joined", "joined", FORMAT_TIME},
        {"endpoint", "endpoint", FORMAT_TEXT}, {"fingerprint", "fingerprint", FORMAT_TEXT},
        {"sign key", "sign_key", FORMAT_TEXT}, {"link key", "link_key", FORMAT_TEXT},
        {"serial", "serial", FORMAT_NUMBER}),
    RECORD("report", {"state", "state", FORMAT_TEXT}, {"cause", "cause", FORMAT_TEXT, FIELD_MAYBE},
        {"text", "text", FORMAT_TEXT, FIELD_MAYBE}, {"generation", "generation", FORMAT_NUMBER},
        {"records", "records", FORMAT_COUNT}, {"root", "root", FORMAT_TEXT}, {"lag", "lag", FORMAT_SECONDS},
        {"applied", "applied_at", FORMAT_TIME}, {"verified", "verified_at", FORMAT_TIME},
        {"backlog", "backlog", FORMAT_COUNT}, {"in", "bytes_in", FORMAT_BYTES},
        {"out", "bytes_out", FORMAT_BYTES}, {"round trip", "rtt", FORMAT_SECONDS},
        {"clock", "clock_offset", FORMAT_SIGNED}, {"refusals", "refusals", FORMAT_COUNT},
        {"last refusal", "last_refusal", FORMAT_TEXT, FIELD_MAYBE}, {"version", "version", FORMAT_TEXT}))};

const struct screen view_invites = {SECTIONS(TABLE("invites", "no invitations\n", {"id", "id", FORMAT_TEXT},
    {"site", "site", FORMAT_TEXT}, {"state", "state", FORMAT_TEXT, FIELD_KEEP}, {"tier", "tier", FORMAT_TEXT},
    {"created", "created", FORMAT_TIME}, {"expires", "expires", FORMAT_TIME},
    {"used", "used_at", FORMAT_TIME, FIELD_MAYBE}))};

const struct screen view_revoke = {SECTIONS(
    RECORD("", {"id", "id", FORMAT_TEXT}, {"site", "site", FORMAT_TEXT}, {"state", "state", FORMAT_TEXT}))};

const struct screen view_site_removed = {
    SECTIONS(RECORD("", {"site", "site", FORMAT_TEXT}, {"removed", "removed", FORMAT_LIST}))};

const struct screen view_events = {
    SECTIONS(TABLE("events", "no events\n", {"at", "at", FORMAT_TIME}, {"site", "site", FORMAT_TEXT},
        {"event", "name", FORMAT_TEXT, FIELD_KEEP}, {"level", "level", FORMAT_TEXT},
        {"number", "legacy", FORMAT_NUMBER, FIELD_MAYBE}, {"run", "run", FORMAT_TEXT, FIELD_MAYBE},
        {"phase", "phase", FORMAT_TEXT, FIELD_MAYBE}, {"code", "code", FORMAT_TEXT, FIELD_MAYBE},
        {"serial", "serial", FORMAT_NUMBER, FIELD_MAYBE}, {"text", "text", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_sync_list = {SECTIONS(TABLE("runs", "no runs yet; sitetree sync now starts one\n",
    {"run", "run", FORMAT_TEXT}, {"kind", "kind", FORMAT_TEXT}, {"by", "by", FORMAT_TEXT},
    {"result", "result", FORMAT_TEXT, FIELD_KEEP | FIELD_MAYBE | FIELD_CLASS},
    {"started", "started", FORMAT_TIME}, {"ended", "ended", FORMAT_TIME, FIELD_MAYBE},
    {"phase", "phase", FORMAT_TEXT}, {"from", "generation_before", FORMAT_NUMBER},
    {"to", "generation_after", FORMAT_NUMBER}, {"added", "added", FORMAT_COUNT},
    {"changed", "changed", FORMAT_COUNT}, {"removed", "removed", FORMAT_COUNT},
    {"expired", "expired", FORMAT_COUNT}, {"code", "code", FORMAT_TEXT, FIELD_MAYBE},
    {"reason", "reason", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_sync_show = {SECTIONS(
    RECORD("", {"run", "run", FORMAT_TEXT}, {"kind", "kind", FORMAT_TEXT}, {"by", "by", FORMAT_TEXT},
        {"result", "result", FORMAT_TEXT, FIELD_MAYBE}, {"waits for", "waits_for", FORMAT_TEXT, FIELD_MAYBE},
        {"code", "code", FORMAT_TEXT, FIELD_MAYBE}, {"reason", "reason", FORMAT_TEXT, FIELD_MAYBE},
        {"phase", "phase", FORMAT_TEXT}, {"started", "started", FORMAT_TIME},
        {"ended", "ended", FORMAT_TIME, FIELD_MAYBE},
        {"generation before", "generation_before", FORMAT_NUMBER},
        {"generation after", "generation_after", FORMAT_NUMBER}, {"added", "added", FORMAT_COUNT},
        {"changed", "changed", FORMAT_COUNT}, {"removed", "removed", FORMAT_COUNT},
        {"expired", "expired", FORMAT_COUNT}),
    TABLE("phases", NULL, {"phase", "phase", FORMAT_TEXT}, {"started", "started", FORMAT_TIME},
        {"took", "seconds", FORMAT_SECONDS, FIELD_KEEP}, {"items", "items", FORMAT_COUNT},
        {"bytes", "bytes", FORMAT_BYTES}),
    RECORD("hop", {"requested", "requested", FORMAT_TIME, FIELD_MAYBE},
        {"first byte", "first_byte", FORMAT_TIME, FIELD_MAYBE},
        {"last byte", "last_byte", FORMAT_TIME, FIELD_MAYBE},
        {"verified", "verified", FORMAT_TIME, FIELD_MAYBE},
        {"committed", "committed", FORMAT_TIME, FIELD_MAYBE}, {"waited", "wait", FORMAT_PAIRS, FIELD_MAYBE},
        {"bytes", "bytes", FORMAT_BYTES, FIELD_MAYBE}))};

const struct screen view_sync_now = {
    SECTIONS(RECORD("", {"run", "run", FORMAT_TEXT}, {"kind", "kind", FORMAT_TEXT},
        {"queued", "queued", FORMAT_YES, FIELD_MAYBE}, {"next", "try", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_sync_cancel = {
    SECTIONS(RECORD("", {"run", "run", FORMAT_TEXT}, {"result", "result", FORMAT_TEXT}))};

const struct screen view_upstream_added = {
    SECTIONS(TABLE("added", "nothing was added: all of them are there already\n",
        {"upstream", "name", FORMAT_TEXT}, {"scope", "scope", FORMAT_TEXT}, {"uri", "uri", FORMAT_TEXT}))};

const struct screen view_upstream_list = {SECTIONS(
    TABLE("upstreams", "no upstreams; sitetree upstream add --from-system takes those of this machine\n",
        {"upstream", "name", FORMAT_TEXT}, {"kind", "kind", FORMAT_TEXT},
        {"records", "records", FORMAT_COUNT, FIELD_KEEP}, {"bytes", "bytes", FORMAT_BYTES},
        {"enabled", "enabled", FORMAT_YES}, {"last good", "last_ok", FORMAT_TIME},
        {"suite", "suite", FORMAT_TEXT, FIELD_MAYBE}, {"scope", "scope", FORMAT_TEXT},
        {"uri", "uri", FORMAT_TEXT}, {"last error", "last_error", FORMAT_TEXT, FIELD_MAYBE},
        {"version", "version", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_upstream_removed = {SECTIONS(RECORD("", {"upstream", "name", FORMAT_TEXT},
    {"records that leave with the next full run", "records", FORMAT_COUNT}))};

const struct screen view_upstream_test = {SECTIONS(RECORD("", {"upstream", "name", FORMAT_TEXT},
    {"good", "ok", FORMAT_YES}, {"version", "version", FORMAT_TEXT, FIELD_MAYBE},
    {"date", "date", FORMAT_TIME, FIELD_MAYBE}, {"valid until", "valid_until", FORMAT_TIME, FIELD_MAYBE},
    {"signed by", "signer", FORMAT_TEXT, FIELD_MAYBE}, {"records", "records", FORMAT_COUNT},
    {"bytes", "bytes", FORMAT_BYTES}, {"took", "seconds", FORMAT_SECONDS}))};

const struct screen view_filter = {SECTIONS(RECORD("", {"products", "products", FORMAT_LIST, FIELD_ALL},
    {"classifications", "classifications", FORMAT_LIST, FIELD_ALL},
    {"architectures", "architectures", FORMAT_LIST, FIELD_ALL}, {"version", "version", FORMAT_NUMBER},
    {"changed", "changed", FORMAT_YES, FIELD_MAYBE}))};

const struct screen view_published = {
    SECTIONS(RECORD("", {"updates", "ids", FORMAT_LIST}, {"generation", "generation", FORMAT_NUMBER}))};

const struct screen view_update_changed = {SECTIONS(
    RECORD("", {"update", "id", FORMAT_TEXT}, {"generation", "generation", FORMAT_NUMBER, FIELD_MAYBE}))};

const struct screen view_update = {SECTIONS(
    RECORD("", {"update", "id", FORMAT_TEXT}, {"title", "title", FORMAT_TEXT},
        {"state", "state", FORMAT_TEXT}, {"classification", "classification", FORMAT_TEXT},
        {"product", "product", FORMAT_TEXT}, {"severity", "severity", FORMAT_TEXT, FIELD_MAYBE},
        {"publisher", "publisher", FORMAT_TEXT, FIELD_MAYBE}, {"issued", "issued", FORMAT_TEXT, FIELD_MAYBE},
        {"revision", "revision", FORMAT_NUMBER, FIELD_MAYBE},
        {"description", "description", FORMAT_TEXT, FIELD_MAYBE},
        {"articles", "articles", FORMAT_LIST, FIELD_MAYBE}, {"cves", "cves", FORMAT_LIST, FIELD_MAYBE},
        {"supersedes", "supersedes", FORMAT_LIST, FIELD_MAYBE},
        {"superseded by", "superseded_by", FORMAT_TEXT, FIELD_MAYBE}, {"scope", "scope", FORMAT_TEXT},
        {"serial", "serial", FORMAT_NUMBER}, {"hash", "hash", FORMAT_TEXT}),
    TABLE("files", NULL, {"file", "name", FORMAT_TEXT}, {"size", "size", FORMAT_BYTES},
        {"url", "url", FORMAT_TEXT, FIELD_MAYBE}, {"sha256", "sha256", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_catalogue = {SECTIONS(RECORD("", {"generation", "generation", FORMAT_NUMBER},
    {"root", "root", FORMAT_TEXT}, {"head", "head", FORMAT_TEXT}, {"issued", "issued", FORMAT_TIME},
    {"expires", "expires", FORMAT_TIME}, {"scopes", "scopes", FORMAT_COUNT},
    {"records", "records", FORMAT_COUNT}, {"bytes", "bytes", FORMAT_BYTES}, {"epoch", "epoch", FORMAT_TEXT},
    {"epoch number", "epoch_counter", FORMAT_NUMBER}))};

const struct screen view_scopes = {SECTIONS(TABLE("scopes", "no scopes yet\n",
    {"scope", "scope", FORMAT_TEXT}, {"records", "records", FORMAT_COUNT, FIELD_KEEP},
    {"live", "live", FORMAT_COUNT}, {"expired", "expired", FORMAT_COUNT},
    {"tombstones", "tombstones", FORMAT_COUNT}, {"bytes", "bytes", FORMAT_BYTES},
    {"serial", "serial", FORMAT_NUMBER}, {"root", "root", FORMAT_HASH},
    {"delta floor", "delta_floor", FORMAT_NUMBER}, {"tombstone floor", "tombstone_floor", FORMAT_NUMBER}))};

const struct screen view_counts = {
    SECTIONS(TABLE("counts", "nothing to count\n", {"value", "value", FORMAT_TEXT},
                 {"records", "records", FORMAT_COUNT}),
        RECORD("", {"total", "total", FORMAT_COUNT}))};

const struct screen view_store = {SECTIONS(TABLE("stores", NULL, {"store", "store", FORMAT_TEXT},
    {"used", "used", FORMAT_BYTES, FIELD_KEEP}, {"limit", "limit", FORMAT_BYTES},
    {"readers", "readers", FORMAT_COUNT}, {"commits", "commits", FORMAT_COUNT},
    {"slowest commit", "slowest_commit", FORMAT_SECONDS}, {"tables", "tables", FORMAT_PAIRS}))};

const struct screen view_findings = {
    SECTIONS(TABLE("findings", NULL, {"store", "store", FORMAT_TEXT},
                 {"finding", "finding", FORMAT_TEXT, FIELD_KEEP}, {"count", "count", FORMAT_COUNT}),
        RECORD("", {"sound", "ok", FORMAT_YES}))};

const struct screen view_reload = {SECTIONS(RECORD("", {"changed", "changed", FORMAT_LIST}))};

const struct screen view_sync_decided = {
    SECTIONS(RECORD("", {"run", "run", FORMAT_TEXT}, {"decision", "decision", FORMAT_TEXT}))};

const struct screen view_plan = {
    SECTIONS(TABLE("scopes", "no scope would change\n", {"scope", "scope", FORMAT_TEXT},
                 {"add", "add", FORMAT_COUNT}, {"change", "change", FORMAT_COUNT},
                 {"expire", "expire", FORMAT_COUNT}, {"remove", "remove", FORMAT_COUNT},
                 {"items", "items", FORMAT_COUNT, FIELD_KEEP}, {"bytes", "bytes", FORMAT_BYTES, FIELD_KEEP}),
        TABLE("sites", NULL, {"site", "site", FORMAT_TEXT}, {"items", "items", FORMAT_COUNT},
            {"bytes", "bytes", FORMAT_BYTES, FIELD_KEEP}, {"backlog", "backlog", FORMAT_BYTES},
            {"generation", "generation", FORMAT_NUMBER}, {"heard", "heard", FORMAT_YES}),
        RECORD("", {"items", "items", FORMAT_COUNT}, {"bytes", "bytes", FORMAT_BYTES},
            {"waits for approval", "guarded", FORMAT_YES}, {"because", "guard", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_repair = {SECTIONS(
    TABLE("scopes", NULL, {"scope", "scope", FORMAT_TEXT}, {"pages", "pages", FORMAT_COUNT, FIELD_KEEP},
        {"of", "of", FORMAT_COUNT}, {"records", "records", FORMAT_COUNT}, {"bytes", "bytes", FORMAT_BYTES},
        {"ranges", "ranges", FORMAT_LIST}),
    RECORD("", {"site", "site", FORMAT_TEXT}, {"damaged pages", "bad", FORMAT_COUNT},
        {"damaged deltas", "deltas", FORMAT_COUNT}, {"records", "records", FORMAT_COUNT},
        {"bytes to fetch", "bytes", FORMAT_BYTES}, {"about", "seconds", FORMAT_SECONDS},
        {"fetching", "fetching", FORMAT_YES}))};

const struct screen view_trust = {SECTIONS(RECORD("", {"site", "site", FORMAT_TEXT},
    {"trust version", "version", FORMAT_NUMBER}, {"hierarchy", "hierarchy", FORMAT_TEXT},
    {"head key", "head_key", FORMAT_TEXT}, {"central site", "central", FORMAT_TEXT, FIELD_MAYBE},
    {"generation", "generation", FORMAT_NUMBER, FIELD_MAYBE},
    {"signed under version", "head_version", FORMAT_NUMBER, FIELD_MAYBE},
    {"newest version seen", "seen", FORMAT_NUMBER}, {"root key", "root_key", FORMAT_TEXT, FIELD_MAYBE}))};

const struct screen view_trust_rotated = {SECTIONS(RECORD("", {"trust version", "version", FORMAT_NUMBER},
    {"head key", "head_key", FORMAT_TEXT, FIELD_MAYBE},
    {"generation", "generation", FORMAT_NUMBER, FIELD_MAYBE}, {"state", "state", FORMAT_TEXT}))};
const struct screen view_recall = {SECTIONS(
    TABLE("sites", "", {"site", "site", FORMAT_TEXT},
        {"state", "state", FORMAT_TEXT, FIELD_KEEP | FIELD_CLASS},
        {"generation", "generation", FORMAT_NUMBER}, {"in force", "at", FORMAT_TIME, FIELD_MAYBE},
        {"cause", "cause", FORMAT_TEXT, FIELD_MAYBE}, {"seen", "seen", FORMAT_SECONDS}),
    RECORD("", {"update", "id", FORMAT_TEXT}, {"generation", "generation", FORMAT_NUMBER, FIELD_MAYBE},
        {"recalled", "at", FORMAT_TIME, FIELD_MAYBE}, {"in force at", "confirmed", FORMAT_COUNT, FIELD_MAYBE},
        {"offline", "offline", FORMAT_COUNT, FIELD_MAYBE}, {"sites", "of", FORMAT_COUNT, FIELD_MAYBE}))};

const struct screen view_recalls = {SECTIONS(TABLE("recalls", "nothing was recalled lately\n",
    {"update", "id", FORMAT_TEXT, FIELD_KEEP}, {"recalled", "at", FORMAT_TIME},
    {"generation", "generation", FORMAT_NUMBER}, {"in force at", "confirmed", FORMAT_COUNT},
    {"offline", "offline", FORMAT_COUNT}, {"sites", "of", FORMAT_COUNT}))};

const struct screen view_epoch = {
    SECTIONS(RECORD("", {"epoch", "id", FORMAT_TEXT}, {"generation", "generation", FORMAT_NUMBER}))};

const struct screen view_backup = {SECTIONS(RECORD("", {"site", "site", FORMAT_TEXT},
    {"folder", "folder", FORMAT_TEXT}, {"files", "files", FORMAT_COUNT}, {"bytes", "bytes", FORMAT_BYTES},
    {"generation", "generation", FORMAT_NUMBER, FIELD_MAYBE}, {"root key in it", "root_key", FORMAT_YES},
    {"verified", "verified", FORMAT_YES}))};

const struct screen view_restored = {SECTIONS(RECORD("", {"site", "site", FORMAT_TEXT},
    {"tier", "tier", FORMAT_TEXT}, {"folder", "folder", FORMAT_TEXT}, {"backup of", "made", FORMAT_TIME},
    {"generation", "generation", FORMAT_NUMBER, FIELD_MAYBE}, {"files", "files", FORMAT_COUNT},
    {"bytes", "bytes", FORMAT_BYTES}, {"restored", "restored", FORMAT_YES},
    {"next", "next", FORMAT_TEXT, FIELD_MAYBE}))};

/* The one table of options. Parser, help, completion and man pages come from it; which command takes which
 * stands in the command table. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_CHOICE, /* meta holds the words: "apt|directory" */
    OPTION_LIST,   /* words with commas between them */
    OPTION_FILE,   /* paths with commas between them; made absolute, since the daemon is in another folder */
    OPTION_DURATION, /* 30s, 15m, 24h, 7d */
    OPTION_NUMBER,
};

/* X(id, name, letter or 0, kind, meta, argument of the control command or NULL, sentence) */
/* clang-format off */
#define OPTION_TABLE(X)                                                                                      \
    X(OPT_DIR, "dir", 0, OPTION_TEXT, "DIR", NULL, "folder of the site; SITETREE_DIR, or /var/lib/sitetree") \
    X(OPT_JSON, "json", 0, OPTION_FLAG, "", NULL, "answer with one JSON object a line")                      \
    X(OPT_COLOR, "color", 0, OPTION_CHOICE, "auto|always|never", NULL, "colour; auto is on a terminal only") \
    X(OPT_LOCAL, "local", 0, OPTION_FLAG, "", NULL, "times of this machine's zone instead of UTC")           \
    X(OPT_HELP, "help", 'h', OPTION_FLAG, "", NULL, "what the command does and takes")                       \
    X(OPT_VERSION, "version", 0, OPTION_FLAG, "", NULL, "the version of the program")                        \
    X(OPT_YES, "yes", 'y', OPTION_FLAG, "", NULL, "do it without asking")                                    \
    X(OPT_DRY_RUN, "dry-run", 'n', OPTION_FLAG, "", "dry_run",                                               \
        "say what would happen, exit 3 if something would")                                                  \
    X(OPT_CENTRAL, "central", 0, OPTION_FLAG, "", NULL, "begin a new tree with this site at its top")        \
    X(OPT_NAME, "name", 0, OPTION_TEXT, "CODE", NULL, "code of this site, as the word CODE")                 \
    X(OPT_EVENT, "name", 0, OPTION_TEXT, "EVENT", "name", "only events of this name")                        \
    X(OPT_NO_START, "no-start", 0, OPTION_FLAG, "", NULL, "leave sitetreed to be started by hand")           \
    X(OPT_TIER, "tier", 0, OPTION_CHOICE, "primary|secondary|branch", "tier",                                \
        "place in the tree that the token is for")                                                           \
    X(OPT_MOVE, "move", 0, OPTION_FLAG, "", "move", "for a site of the tree that is to come here from its parent")   \
    X(OPT_TTL, "ttl", 0, OPTION_DURATION, "TIME", "ttl", "how long the token can be used; 24h without it")   \
    X(OPT_ALL, "all", 0, OPTION_FLAG, "", "all", "the sites below the children too")                         \
    X(OPT_FULL, "full", 0, OPTION_FLAG, "", "full", "look at everything, not only at what changed")          \
    X(OPT_WAIT, "wait", 'w', OPTION_FLAG, "", NULL, "show progress and end with the run")                    \
    X(OPT_TIMEOUT, "timeout", 0, OPTION_DURATION, "TIME", NULL, "give up after this time, with exit 4")      \
    X(OPT_FAILED, "failed", 0, OPTION_FLAG, "", "failed", "only runs that failed")                           \
    X(OPT_LIMIT, "limit", 0, OPTION_NUMBER, "N", "limit", "at most so many")                                 \
    X(OPT_KIND, "kind", 0, OPTION_CHOICE, "apt|directory", "kind",                                           \
        "kind of the upstream; directory with --path, else apt")                                             \
    X(OPT_URI, "uri", 0, OPTION_TEXT, "URI", "uri", "address of the repository: https, http or file")        \
    X(OPT_SUITE, "suite", 0, OPTION_TEXT, "SUITE", "suite", "suite of the repository, as bookworm-security") \
    X(OPT_COMPONENTS, "components", 0, OPTION_LIST, "LIST", "components",                                    \
        "components, with commas: main,contrib")                                                             \
    X(OPT_ARCHITECTURES, "architectures", 0, OPTION_LIST, "LIST", "architectures",                           \
        "architectures, with commas: amd64,arm64")                                                           \
    X(OPT_KEYRING, "keyring", 0, OPTION_FILE, "FILE", "keyring", "keys that may sign the repository")        \
    X(OPT_FINGERPRINTS, "fingerprints", 0, OPTION_TEXT, "LIST", "fingerprints",                              \
        "only these keys of the keyring, with commas")                                                       \
    X(OPT_NO_VALID_UNTIL, "no-check-valid-until", 0, OPTION_FLAG, "", "check_valid_until",                   \
        "take a repository whose Valid-Until has passed")                                                    \
    X(OPT_PUBLISHER, "publisher", 0, OPTION_TEXT, "NAME", "publisher", "publisher of the updates")           \
    X(OPT_PATH, "path", 0, OPTION_FILE, "DIR", "path", "folder with updates as JSON files")                  \
    X(OPT_PRODUCT, "product", 0, OPTION_TEXT, "PRODUCT", "product", "product of the updates")                \
    X(OPT_CLASSIFICATION, "classification", 0, OPTION_TEXT, "WORD", "classification",                        \
        "classification of the updates")                                                                     \
    X(OPT_FROM_SYSTEM, "from-system", 0, OPTION_FLAG, "", "from_system",                                     \
        "take the apt sources of this machine")                                                              \
    X(OPT_SUITES, "suites", 0, OPTION_LIST, "LIST", "suites",                                                \
        "only these suites of --from-system, with commas")                                                   \
    X(OPT_PRODUCTS, "products", 0, OPTION_LIST, "LIST", "products", "products, with commas; empty for all")  \
    X(OPT_CLASSIFICATIONS, "classifications", 0, OPTION_LIST, "LIST", "classifications",                     \
        "classifications, with commas; empty for all")                                                       \
    X(OPT_SCOPE, "scope", 0, OPTION_TEXT, "SCOPE", "scope", "only updates of this scope")                    \
    X(OPT_ARCHITECTURE, "architecture", 0, OPTION_TEXT, "WORD", "architecture",                              \
        "only updates for this architecture")                                                                \
    X(OPT_STATE, "state", 0, OPTION_CHOICE, "active|expired", "state", "only updates in this state")         \
    X(OPT_AFTER, "after", 0, OPTION_TEXT, "ID", "after", "go on behind this update")                         \
    X(OPT_BY, "by", 0, OPTION_CHOICE, "scope|product|classification|architecture|state", "by",               \
        "what to count by; scope without it")                                                                \
    X(OPT_BELOW, "below", 0, OPTION_TEXT, "SITE", "below", "only this site and those below it")              \
    X(OPT_DEPTH, "depth", 0, OPTION_NUMBER, "N", NULL, "only so many levels")                                \
    X(OPT_PROBLEMS, "problems", 0, OPTION_FLAG, "", NULL, "only what is not live, and the way to it")        \
    X(OPT_SORT, "sort", 0, OPTION_CHOICE, "link|lag|rtt|queue", NULL, "order of the links")                  \
    X(OPT_FOR, "for", 0, OPTION_TEXT, "GOAL", NULL, "current, live, joined, or run=ID")                      \
    X(OPT_FOLLOW, "follow", 'f', OPTION_FLAG, "", "follow", "go on with events as they come")                \
    X(OPT_WATCH, "watch", 0, OPTION_FLAG, "", NULL, "again every 2 s, until it is interrupted")              \
    X(OPT_SINCE, "since", 0, OPTION_TEXT, "TIME", "since",                                                   \
        "events from this time on: 1h ago as 1h, or 2026-11-20T06:00:00Z")                                   \
    X(OPT_VERIFY_ALL, "all", 0, OPTION_FLAG, "", "all", "compare the report of every site as well")          \
    X(OPT_DEEP, "deep", 0, OPTION_FLAG, "", "deep", "read and hash every stored record again")               \
    X(OPT_RECALL, "recall", 0, OPTION_TEXT, "ID", "recall", "what the recall of this update would move")     \
    X(OPT_SITES, "sites", 0, OPTION_NUMBER, "N", NULL, "number of sites, 2 to 200; 7 without it")            \
    X(OPT_OFFLINE, "offline", 0, OPTION_FLAG, "", NULL, "a small repository made on the spot, no network")   \
    X(OPT_WITH_ROOT_KEY, "with-root-key", 0, OPTION_FLAG, "", NULL,                                          \
        "also the root key of the tree, where it is in the folder of the site")                              \
    X(OPT_ROOT_KEY, "root-key", 0, OPTION_TEXT, "FILE", NULL,                                                \
        "root key of the tree; keys/root.key in the folder of the site without it")                          \
    X(OPT_EXIT, "exit", 0, OPTION_FLAG, "", NULL, "end when all sites are equal, also on a terminal")
/* clang-format on */

enum option_id {
#define OPTION_ENUM(id, name, letter, kind, meta, key, sentence) id,
    OPTION_TABLE(OPTION_ENUM)
#undef OPTION_ENUM
        OPT_COUNT
};

struct option_row {
    const char *name;
    char letter;
    enum option_kind kind;
    const char *meta, *key, *sentence;
};
extern const struct option_row option_rows[OPT_COUNT];

#define OPT(id) (UINT64_C(1) << (id))
/* Those that every command takes. */
#define OPT_EVERYWHERE (OPT(OPT_DIR) | OPT(OPT_JSON) | OPT(OPT_COLOR) | OPT(OPT_LOCAL) | OPT(OPT_HELP))
_Static_assert(OPT_COUNT <= 64, "the sets of options are 64 bits wide");

static inline bool option_in(uint64_t set, enum option_id id)
{
    return (set & OPT(id)) != 0;
}

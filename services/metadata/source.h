/* What an upstream adapter gives the catalogue: the whole set of updates that the upstream offers now.
 * Adapters live in upstream/, one file each, behind struct adapter; they fetch and parse in a thread of their
 * own, hold no key and open no store. Ownership: a source_set owns its bytes. Threading: an adapter call runs
 * in one job thread. */
#pragma once
#include <jansson.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

struct source_item {
    struct view key;   /* the update's id: deb/<name>/<version>/<arch>, local/<publisher>/<id> */
    struct view value; /* packed sitetree.Update, without supersedes of what the catalogue holds */
    const char *product, *classification, *architecture; /* interned in the set; for the filter */
    struct view package; /* within value's text: for supersedence; empty where it does not apply */
    struct view version;
    uint32_t order; /* of arrival: of equal keys the last one stays */
};
struct source_set {
    struct source_item *items; /* ascending by key after source_sort; keys are unique */
    size_t n, cap;
    struct source_chunk *chunks;
    char **interned;
    size_t n_interned;
    char version[160];       /* opaque, equal when the content is equal; kept as the cursor of the run */
    char scope[128];         /* debian/bookworm/main/amd64 */
    struct wall date;        /* of the upstream's index, as it says */
    struct wall valid_until; /* 0: none */
    char signer[80];         /* key id that vouched for it; empty for local */
    uint64_t bytes_fetched;
    bool unchanged;    /* nothing was read: the upstream still has the version of source_request.version */
    char warning[256]; /* worth telling, not a failure */
};
void source_free(struct source_set *s); /* takes NULL */
struct source_set *source_new(void);    /* NULL on no memory */
/* Copies everything; ERR_MALFORMED for a key or text that is not clean, -ENOMEM. */
int source_add(struct source_set *s, struct view key, struct view value, const char *product,
    const char *classification, const char *architecture, struct view package,
    struct view version) MUST_CHECK;
/* Sorts by key; of equal keys the last one stays. */
void source_sort(struct source_set *s);
/* The order of two Debian version strings, by the rules of Debian policy 5.6.12: <0, 0, >0. */
int deb_version_cmp(struct view a, struct view b);

/* One request to an adapter. All borrowed. */
struct source_request {
    const char *name;      /* of the upstream */
    json_t *config;        /* as `upstream add` stored it: docs/control.md */
    const char *cache_dir; /* of this upstream alone, 0700; kept between runs; losing it costs time only */
    const char *version;   /* unchanged is answered only for this one; "" : always read all */
    struct wall seen_date; /* the newest date accepted so far: an older one is refused (ERR_UPSTREAM_STALE) */
    struct wall now;
    atomic_bool *cancel; /* set by another thread: give up soon with ERR_CANCELLED */
    /* progress for the operator; called from the job thread; phase is a constant string; totals may be 0 */
    void (*progress)(void *ctx, const char *phase, uint64_t items, uint64_t bytes, uint64_t bytes_total);
    void *ctx;
};
struct adapter {
    const char *kind;                        /* "apt", "directory" */
    int (*check)(json_t *config) MUST_CHECK; /* at `upstream add`: ERR_USAGE with the field named */
    int (*fetch)(const struct source_request *r, struct source_set **ret_set) MUST_CHECK;
};
extern const struct adapter adapter_apt, adapter_directory;
const struct adapter *adapter_find(const char *kind); /* NULL: unknown */

/* One config per component and architecture, as one upstream is one scope: the names get "-<component>" and
 * "-<architecture>" behind where there are several. The configs share no object with the original. ERR_USAGE.
 */
int source_split(json_t *config, json_t **ret_list) MUST_CHECK;

/* The signed apt repositories that this machine's own sources name (deb822 and one-line files below dir,
 * usually /etc/apt), as a JSON list of configs for `upstream add`, one per suite and component; architecture
 * as dpkg prints it. Only deb (not deb-src) entries that name a keyring or fall under trusted.gpg.d. */
int apt_system_sources(const char *dir, json_t **ret_list) MUST_CHECK;
/* The same for the text of one file (altered), appended to a JSON list; dir as above, for its keyrings.
 * ERR_MALFORMED, ERR_TOO_LARGE, -ENOMEM. */
int apt_sources_take(
    const char *dir, const char *architecture, bool deb822, struct buf *text, json_t *into) MUST_CHECK;
/* One update as JSON (docs/control.md, update.publish) to key and packed value; ERR_USAGE names the field. */
int update_from_json(json_t *j, const char *publisher, struct source_set *into) MUST_CHECK;

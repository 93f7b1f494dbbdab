#include "tools/sitetree/demo.h"
#include "tools/sitetree/run.h"
#include "tools/sitetree/views.h"

#define SITE_ARG                                                                                             \
    {                                                                                                        \
        "SITE", "site", ARG_SITE, false, false                                                               \
    }
#define SITE_OR_OWN                                                                                          \
    {                                                                                                        \
        "SITE", "site", ARG_SITE, true, false                                                                \
    }
#define UPSTREAM_ARG                                                                                         \
    {                                                                                                        \
        "NAME", "name", ARG_UPSTREAM, false, false                                                           \
    }
#define UPDATE_ARG                                                                                           \
    {                                                                                                        \
        "ID", "id", ARG_UPDATE, false, false                                                                 \
    }
#define LISTING                                                                                              \
    OPT(OPT_SCOPE) | OPT(OPT_ARCHITECTURE) | OPT(OPT_PRODUCT) | OPT(OPT_CLASSIFICATION) | OPT(OPT_STATE) |   \
        OPT(OPT_LIMIT) | OPT(OPT_AFTER)

const struct noun nouns[] = {
    {"site", "sites of the tree: begin, invite, join, move, list, remove"},
    {"upstream", "where updates come from (central site)"},
    {"sync", "runs that bring the catalogue up to date"},
    {"update", "single updates: publish, expire, remove, show"},
    {"catalogue", "what this site holds"},
    {"filter", "which updates the central site takes in"},
    {"status", "this site and the tree below it, problems last"},
    {"tree", "the sites below, with class, generation and lag"},
    {"links", "the links of this site, seen from both ends"},
    {"recall", "expire an update everywhere, ahead of all else"},
    {"wait", "wait until sites, or a run, are there"},
    {"events", "what happened"},
    {"verify", "compare what is stored with the signed root"},
    {"plan", "what a full run would change"},
    {"repair", "fetch damaged pages again"},
    {"explain", "why a site is where it is, and what to do"},
    {"store", "the stores of this site"},
    {"backup", "the whole site, as a folder of files"},
    {"restore", "a site from its backup"},
    {"epoch", "another line of generations (central site)"},
    {"trust", "the head key that counts, and another one"},
    {"reload", "make sitetreed read its configuration again"},
    {"stop", "stop the sitetreed of this site"},
    {"demo", "a tree of seven sites on this machine"},
    {"help", "help for a noun or a command"},
    {"version", "the version of the program"},
};
const size_t nouns_count = COUNT_OF(nouns);

const struct command commands[] = {
    {"site", "init", {{"CODE", NULL, ARG_TEXT, true, false}},
        OPT(OPT_CENTRAL) | OPT(OPT_NAME) | OPT(OPT_NO_START), COMMAND_CHANGES, NULL, "site-init", NULL,
        run_init, "begin a new tree, with this site at its top",
        "Makes the keys of the tree and of the central site, prints the fingerprint, and starts sitetreed. "
        "The root key "
        "can be taken offline afterwards. CODE is CEN without one."},
    {"site", "join", {{"TOKEN", NULL, ARG_TEXT, false, false}}, OPT(OPT_NO_START) | OPT(OPT_TIMEOUT),
        COMMAND_CHANGES | COMMAND_WAITS, NULL, "site-join", NULL, run_join,
        "join the tree with a token of the parent",
        "Checks the token before the network is touched, makes the keys of this site, starts sitetreed and "
        "waits until "
        "the catalogue is there and verified."},
    {"site", "move", {{"TOKEN", NULL, ARG_TEXT, false, false}}, OPT(OPT_YES) | OPT(OPT_TIMEOUT),
        COMMAND_CHANGES | COMMAND_WAITS, NULL, "site-move", NULL, run_move,
        "put this site, with all that is below it, below another parent",
        "TOKEN is made at the new parent: sitetree site invite CODE --move. Keys, catalogue and children "
        "stay, and "
        "nothing is fetched again. Afterwards remove the site at its old parent: sitetree site remove CODE."},
    {"site", "invite", {SITE_ARG}, OPT(OPT_TIER) | OPT(OPT_TTL) | OPT(OPT_MOVE), COMMAND_CHANGES,
        "site.invite", "site-invite", &view_invite, NULL,
        "make a token with which one site can join below this one",
        "A token can be used once, and until it expires. With --move it is for a site that is in the tree "
        "already: "
        "sitetree site move, at that site, takes it."},
    {"site", "invites", {{0}}, 0, 0, "site.invites", "site-invites", &view_invites, NULL,
        "the tokens that were made", NULL},
    {"site", "revoke", {{"ID", NULL, ARG_TEXT, false, false}}, 0, COMMAND_CHANGES, "site.revoke",
        "site-revoke", &view_revoke, run_revoke,
        "make a token unusable; ID, or the site that it was made for", NULL},
    {"site", "list", {{0}}, OPT(OPT_ALL), 0, "site.list", "site-list", &view_site_list, NULL,
        "the children of this site", NULL},
    {"site", "show", {SITE_OR_OWN}, 0, 0, "site.show", "site-show", &view_site_show, NULL,
        "keys, place and last report of a site; without one of this site", NULL},
    {"site", "remove", {SITE_ARG}, OPT(OPT_YES) | OPT(OPT_DRY_RUN),
        COMMAND_CHANGES | COMMAND_DESTROYS | COMMAND_NOT_FINE, "site.remove", "site-remove",
        &view_site_removed, run_destroy, "cut a site, and those below it, off the tree",
        "A removed site is refused from then on; it keeps what it has. To come back it needs a new token."},

    {"upstream", "add", {{"NAME", "name", ARG_TEXT, true, false}},
        OPT(OPT_KIND) | OPT(OPT_URI) | OPT(OPT_SUITE) | OPT(OPT_COMPONENTS) | OPT(OPT_ARCHITECTURES) |
            OPT(OPT_KEYRING) | OPT(OPT_PATH) | OPT(OPT_FINGERPRINTS) | OPT(OPT_NO_VALID_UNTIL) |
            OPT(OPT_PUBLISHER) | OPT(OPT_PRODUCT) | OPT(OPT_CLASSIFICATION) | OPT(OPT_FROM_SYSTEM) |
            OPT(OPT_SUITES),
        COMMAND_CHANGES, "upstream.add", "upstream-add", &view_upstream_added, run_upstream_add,
        "take updates from a signed apt repository, or from a folder of JSON files", NULL},
    {"upstream", "list", {{0}}, 0, 0, "upstream.list", "upstream-list", &view_upstream_list, NULL,
        "the upstreams, and when they were read last", NULL},
    {"upstream", "test", {UPSTREAM_ARG}, 0, COMMAND_NOT_FINE | COMMAND_LONG, "upstream.test", "upstream-test",
        &view_upstream_test, NULL, "read an upstream and check its signature, and change nothing", NULL},
    {"upstream", "remove", {UPSTREAM_ARG}, OPT(OPT_YES) | OPT(OPT_DRY_RUN),
        COMMAND_CHANGES | COMMAND_DESTROYS | COMMAND_NOT_FINE, "upstream.remove", "upstream-remove",
        &view_upstream_removed, run_destroy, "forget an upstream; its updates leave with the next full run",
        NULL},

    {"sync", "now", {{0}}, OPT(OPT_FULL) | OPT(OPT_WAIT) | OPT(OPT_TIMEOUT), COMMAND_CHANGES | COMMAND_WAITS,
        "sync.now", "sync-now", &view_sync_now, run_sync_now, "start a run at the central site",
        "While a run is active, one more is queued behind it."},
    {"sync", "status", {{0}}, OPT(OPT_WATCH), COMMAND_NOT_FINE, "sync.status", "sync-status",
        &view_sync_status, NULL, "the run that is active, or the last one", NULL},
    {"sync", "list", {{0}}, OPT(OPT_FAILED) | OPT(OPT_LIMIT), 0, "sync.list", "sync-list", &view_sync_list,
        NULL, "the runs that were, newest first", NULL},
    {"sync", "show", {{"RUN", "run", ARG_RUN, true, false}}, 0, COMMAND_NOT_FINE, "sync.show", "sync-show",
        &view_sync_show, NULL, "one run, phase by phase; the last one without RUN", NULL},
    {"sync", "cancel", {{"RUN", "run", ARG_RUN, true, false}}, 0, COMMAND_CHANGES, "sync.cancel",
        "sync-cancel", &view_sync_cancel, NULL, "end a run; what it has stored and verified stays", NULL},

    {"sync", "approve", {{"RUN", "run", ARG_RUN, true, false}}, 0, COMMAND_CHANGES, "sync.approve",
        "sync-approve", &view_sync_decided, NULL,
        "let a run go on that waits because it takes an unusual share away",
        "A run that would expire or remove more than a set share of a scope waits for an operator: look at "
        "it with "
        "sitetree sync show, then approve or reject it."},
    {"sync", "reject", {{"RUN", "run", ARG_RUN, true, false}}, 0, COMMAND_CHANGES, "sync.reject",
        "sync-reject", &view_sync_decided, NULL,
        "end a run that waits for an operator, and keep everything as it is", NULL},

    {"update", "publish", {{"FILE", NULL, ARG_FILE, false, false}}, OPT(OPT_PUBLISHER), COMMAND_CHANGES,
        "update.publish", "update-publish", &view_published, run_publish,
        "publish updates from a JSON file (- is the standard input)",
        "The file holds one update, or a list of them."},
    {"update", "show", {UPDATE_ARG}, 0, 0, "update.show", "update-show", &view_update, NULL,
        "everything about one update", NULL},
    {"update", "expire", {UPDATE_ARG}, OPT(OPT_YES) | OPT(OPT_DRY_RUN),
        COMMAND_CHANGES | COMMAND_DESTROYS | COMMAND_NOT_FINE, "update.expire", "update-expire",
        &view_update_changed, run_destroy, "mark an update as expired, everywhere", NULL},
    {"update", "remove", {UPDATE_ARG}, OPT(OPT_YES) | OPT(OPT_DRY_RUN),
        COMMAND_CHANGES | COMMAND_DESTROYS | COMMAND_NOT_FINE, "update.remove", "update-remove",
        &view_update_changed, run_destroy, "take an update out of the catalogue, everywhere", NULL},

    {"catalogue", "show", {{0}}, 0, 0, "catalogue.show", "catalogue-show", &view_catalogue, NULL,
        "generation, root and size of the catalogue", NULL},
    {"catalogue", "scopes", {{0}}, 0, 0, "catalogue.scopes", "catalogue-scopes", &view_scopes, NULL,
        "the scopes, with serials and roots", NULL},
    {"catalogue", "count", {{0}}, OPT(OPT_BY), 0, "catalogue.count", "catalogue-count", &view_counts, NULL,
        "how many updates, by scope or something else", NULL},
    {"catalogue", "list", {{0}}, LISTING, 0, "catalogue.list", "catalogue-list", &view_updates, NULL,
        "the updates", NULL},
    {"catalogue", "search", {{"TEXT", "text", ARG_TEXT, false, false}}, LISTING, 0, "catalogue.search",
        "catalogue-search", &view_updates, NULL, "the updates whose id or title has a text", NULL},

    {"filter", "show", {{0}}, 0, 0, "filter.show", "filter-show", &view_filter, NULL, "what is taken in",
        NULL},
    {"filter", "set", {{0}},
        OPT(OPT_DRY_RUN) | OPT(OPT_PRODUCTS) | OPT(OPT_CLASSIFICATIONS) | OPT(OPT_ARCHITECTURES),
        COMMAND_CHANGES, "filter.set", "filter-set", &view_filter, NULL,
        "choose what is taken in, from the next run on",
        "What a wider filter lets in is fetched again, also where it did not change since. An empty list is "
        "all."},

    {"status", NULL, {{0}}, OPT(OPT_WATCH), COMMAND_NOT_FINE, "status", "status", &view_status, NULL,
        "this site and the tree below it, problems last", NULL},
    {"tree", NULL, {{0}}, OPT(OPT_BELOW) | OPT(OPT_DEPTH) | OPT(OPT_PROBLEMS) | OPT(OPT_WATCH),
        COMMAND_NOT_FINE, "tree", "tree", &view_tree, run_tree,
        "the sites below, with class, generation and lag",
        "With more than 60 sites, subtrees in which everything is fine are one line each."},
    {"links", NULL, {{0}}, OPT(OPT_SORT) | OPT(OPT_WATCH), COMMAND_NOT_FINE, "links", "links", &view_links,
        run_links, "the links of this site, seen from both ends", NULL},
    {"recall", NULL, {{"ID", "id", ARG_UPDATE, true, false}},
        OPT(OPT_WAIT) | OPT(OPT_TIMEOUT) | OPT(OPT_DRY_RUN),
        COMMAND_CHANGES | COMMAND_NOT_FINE | COMMAND_WAITS, "recall", "recall", &view_recall, run_recall,
        "expire an update everywhere, ahead of all else; without ID (or with list) the recalls of late",
        "At the central site. It passes whatever is on its way, waits for no run, and is in force at a site "
        "as "
        "soon as "
        "the site has heard of it, also where the catalogue in front of it will take hours: confirmed is a "
        "site that "
        "has applied it, ahead one that shows the update as expired and is still fetching. Asking again "
        "changes "
        "nothing and tells who has it now. With --wait each site is named as it follows; it ends when only "
        "sites are left "
        "that are offline (exit 3), or with the time (exit 4). Without ID the newest 32 recalls are listed, "
        "at "
        "any site."},
    {"wait", NULL, {{"SITE", NULL, ARG_SITE, true, true}}, OPT(OPT_FOR) | OPT(OPT_TIMEOUT),
        COMMAND_NOT_FINE | COMMAND_WAITS, NULL, "wait", NULL, run_wait,
        "wait until sites, or a run, are there",
        "current: at the generation that is the newest at the start, or a later one. live: heard and at "
        "work. joined: in "
        "the tree. run=ID: that run has ended. Without SITE it is every site of the tree. Ends at once, with "
        "exit 1, "
        "when the goal can no longer be reached; when the time runs out it names the sites that are not "
        "there, each "
        "with its cause."},
    {"events", NULL, {{0}}, OPT(OPT_FOLLOW) | OPT(OPT_SINCE) | OPT(OPT_LIMIT) | OPT(OPT_EVENT), 0, "events",
        "events", &view_events, run_events, "what happened, oldest first", NULL},
    {"verify", NULL, {SITE_OR_OWN}, OPT(OPT_VERIFY_ALL) | OPT(OPT_DEEP), COMMAND_NOT_FINE | COMMAND_LONG,
        "verify", "verify", &view_verify, NULL,
        "compute the root from what is stored, and compare it with the signed one", NULL},
    {"plan", NULL, {{0}},
        OPT(OPT_PRODUCTS) | OPT(OPT_CLASSIFICATIONS) | OPT(OPT_ARCHITECTURES) | OPT(OPT_RECALL),
        COMMAND_NOT_FINE | COMMAND_LONG, "plan", "plan", &view_plan, NULL,
        "what a full run would change and each site take in, with the filter of now or another one",
        "Reads the upstreams and changes nothing. With --recall it is about the recall of one update. Exit 3 "
        "when "
        "something would change. Bytes are those on the link of each site; backlog is what a site is behind "
        "by "
        "and takes in first."},
    {"repair", NULL, {{0}}, OPT(OPT_DRY_RUN), COMMAND_CHANGES | COMMAND_NOT_FINE | COMMAND_LONG, "repair",
        "repair", &view_repair, NULL, "fetch pages again whose bytes do not match their hash",
        "Reads and hashes everything that is stored; the site goes on serving meanwhile."},
    {"explain", NULL, {SITE_OR_OWN}, OPT(OPT_WATCH), COMMAND_NOT_FINE, "explain", "explain", &view_explain,
        NULL, "why a site is where it is, who saw it, and what to do", NULL},
    {"store", "stat", {{0}}, 0, 0, "store.stat", "store-stat", &view_store, NULL,
        "sizes and limits of the stores", NULL},
    {"store", "check", {{0}}, 0, COMMAND_NOT_FINE | COMMAND_LONG, "store.check", "store-check",
        &view_findings, NULL, "read everything that is stored and look for contradictions", NULL},
    {"backup", NULL, {{"FOLDER", NULL, ARG_FILE, false, false}}, OPT(OPT_WITH_ROOT_KEY), 0, NULL, "backup",
        &view_backup, run_backup, "copy the whole site into a new folder, while it works",
        "Stores, keys, chain, parents and configuration, with a manifest and the SHA-256 of each file; every "
        "file is "
        "read back before the folder gets its name. It holds the keys of the site: keep it where keys may "
        "lie. The "
        "root key of the tree is in it only with --with-root-key."},
    {"restore", NULL, {{"FOLDER", NULL, ARG_FILE, false, false}}, OPT(OPT_DRY_RUN),
        COMMAND_CHANGES | COMMAND_NOT_FINE, NULL, "restore", &view_restored, run_restore,
        "make the folder of a site from its backup",
        "The folder of the site (--dir) must be missing or empty; it appears whole or not at all, after "
        "every digest "
        "was checked. A restored central site publishes nothing before it has heard each of its children, or "
        "was told "
        "sitetree epoch open. sitetreed is not started. With --dry-run the backup is only checked."},
    {"epoch", "open", {{0}}, 0, COMMAND_CHANGES, "epoch.open", "epoch-open", &view_epoch, NULL,
        "publish what this site holds in a new epoch",
        "For a central site that was restored from a backup while the sites below hold newer generations: it "
        "publishes "
        "nothing until this is said. Every site then walks to what the central site holds and goes on "
        "serving "
        "meanwhile. Also for the one of two central sites that is to stay."},
    {"trust", "show", {{0}}, 0, 0, "trust.show", "trust-show", &view_trust, run_trust_show,
        "the head key and its version, fingerprints, and where the root key is",
        "The root key is needed for nothing but another head key: keep it offline."},
    {"trust", "rotate", {{0}}, OPT(OPT_ROOT_KEY), COMMAND_CHANGES, NULL, "trust-rotate", &view_trust_rotated,
        run_trust_rotate, "sign with another head key from now on (central site)",
        "Makes a head key and has the root key vouch for it under the next trust version. The catalogue is "
        "signed "
        "with it at once, in a new epoch, and every site takes the key over with that head; a head of the "
        "old key is "
        "refused from then on. This also ends what a stolen head key has signed."},
    {"reload", NULL, {{0}}, 0, COMMAND_CHANGES, "reload", "reload", &view_reload, NULL,
        "make sitetreed read its configuration again", NULL},
    {"stop", NULL, {{0}}, 0, COMMAND_CHANGES, "stop", "stop", NULL, NULL, "stop the sitetreed of this site",
        NULL},
    {"demo", NULL, {{0}}, OPT(OPT_SITES) | OPT(OPT_OFFLINE) | OPT(OPT_EXIT), 0, NULL, "demo", &demo_view,
        demo_run, "a tree of sites on this machine",
        "Starts a central site, primaries and branches as daemons on loopback, joins them by tokens, takes "
        "this "
        "machine's apt sources (with --offline a sample repository), runs a sync, and shows the catalogue "
        "travel until "
        "every site holds the signed root. On a terminal the tree then runs until Ctrl-C. --dir names a "
        "folder that is "
        "missing or empty and is kept; without it a temporary one is removed at the end. Exit 0 only when "
        "all sites are "
        "equal."},
    {"help", NULL, {{"COMMAND", NULL, ARG_COMMAND, true, true}}, 0, 0, NULL, "help", NULL, run_help,
        "help for a noun or a command", NULL},
    {"version", NULL, {{0}}, 0, 0, NULL, "version", NULL, run_version, "the version of the program", NULL},
    {"__complete", NULL, {{"WORD", NULL, ARG_TEXT, true, true}}, 0, COMMAND_HIDDEN | COMMAND_RAW, NULL, NULL,
        NULL, run_complete, "candidates for the shell", NULL},
};
const size_t commands_count = COUNT_OF(commands);

/* One enum of errors, each with a short word, a sentence and the command that helps, and a per-thread text
 * that is wrapped on its way up. Library code returns codes and never logs; the top shows err_text() once.
 * Threading: the text is per thread. */
#pragma once
#include <errno.h>
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* code, number, word, sentence, hint (a command line that parses).
 * Negative errno values are passed through unchanged; ours begin at -1000. Numbers never change. */
#define ERR_TABLE(X)                                                                                         \
    X(ERR_NOT_FOUND, -1000, "not-found", "no such thing", "sitetree --help")                                 \
    X(ERR_EXISTS, -1001, "exists", "it is there already", "sitetree site list")                              \
    X(ERR_CORRUPT, -1002, "corrupt", "stored bytes do not match their hash", "sitetree store check")         \
    X(ERR_MAP_FULL, -1003, "store-full", "the store is full", "sitetree store stat")                         \
    X(ERR_DISK, -1004, "disk", "the disk refused the write", "sitetree store stat")                          \
    X(ERR_MALFORMED, -1005, "malformed", "the bytes are not a valid message", "sitetree links")              \
    X(ERR_TOO_LARGE, -1006, "too-large", "larger than the limit for its kind", "sitetree links")             \
    X(ERR_UNKNOWN_TYPE, -1007, "unknown-type", "message of an unknown type", "sitetree links")               \
    X(ERR_VERSION, -1008, "version-too-old", "no common protocol version", "sitetree --version")             \
    X(ERR_SIGNATURE, -1009, "verify-refused", "the signature does not match", "sitetree verify")             \
    X(ERR_KEY, -1010, "key-not-trusted", "the key is not one that is trusted", "sitetree site list")         \
    X(ERR_KEY_FILE, -1011, "key-file", "a key file is missing, malformed or readable by others",             \
        "sitetree site show")                                                                                \
    X(ERR_EPOCH, -1012, "epoch", "another epoch than the one expected", "sitetree status")                   \
    X(ERR_ROLLBACK, -1013, "rollback", "an older generation than the one held", "sitetree status")           \
    X(ERR_EXPIRED, -1014, "expired", "past its expiry time", "sitetree sync now --full")                     \
    X(ERR_ROOT, -1015, "root-mismatch", "the data does not reach the signed root", "sitetree verify")        \
    X(ERR_GAP, -1016, "gap", "a step of the chain is missing", "sitetree sync status")                       \
    X(ERR_CHANGED, -1017, "changed", "replaced by something newer meanwhile", "sitetree sync status")        \
    X(ERR_LOOP, -1018, "path-loop", "the path of sites leads back to this site", "sitetree tree")            \
    X(ERR_REFUSED, -1019, "refused-by-parent", "the other side refused", "sitetree explain")                 \
    X(ERR_BUSY, -1020, "busy", "too much is waiting already", "sitetree status")                             \
    X(ERR_TIMEOUT, -1021, "timeout", "the time ran out", "sitetree links")                                   \
    X(ERR_TOKEN, -1022, "token", "the invitation token is not valid", "sitetree site invites")               \
    X(ERR_TOKEN_USED, -1023, "token-used", "the invitation was used already", "sitetree site invites")       \
    X(ERR_TOKEN_EXPIRED, -1024, "token-expired", "the invitation has expired", "sitetree site invites")      \
    X(ERR_NOT_CENTRAL, -1025, "not-central", "only the central site may do this", "sitetree status")         \
    X(ERR_NOT_RUNNING, -1026, "not-running", "no sitetreed answers for this site", "sitetreed --check")      \
    X(ERR_USAGE, -1027, "usage", "the words of the command are off", "sitetree --help")                      \
    X(ERR_CONFIG, -1028, "config", "the configuration is not valid", "sitetreed --check")                    \
    X(ERR_UPSTREAM, -1029, "upstream", "the upstream could not be read", "sitetree upstream list")           \
    X(ERR_UPSTREAM_SIGNATURE, -1030, "upstream-signature", "the upstream's signature is not good",           \
        "sitetree upstream list")                                                                            \
    X(ERR_UPSTREAM_STALE, -1031, "upstream-stale", "the upstream is expired or older than seen before",      \
        "sitetree upstream list")                                                                            \
    X(ERR_INTERNAL, -1032, "internal", "a rule of the program itself was broken", "sitetree store check")    \
    X(ERR_UNKNOWN_SITE, -1033, "unknown-site", "no such site", "sitetree site list")                         \
    X(ERR_REMOVED, -1034, "site-removed", "this site was removed from the tree", "sitetree site list")       \
    X(ERR_CANCELLED, -1035, "cancelled", "an operator cancelled it", "sitetree sync list")                   \
    X(ERR_STALLED, -1036, "stalled", "no progress within the stall time", "sitetree sync status")            \
    X(ERR_NETWORK, -1037, "network", "the network could not be reached", "sitetree links")                   \
    X(ERR_HOPELESS, -1038, "hopeless", "the goal can no longer be reached", "sitetree sync list")            \
    X(ERR_FENCED, -1039, "epoch-fence", "sites below hold a newer generation than the centre",               \
        "sitetree epoch open")

enum err {
    ERR_OK = 0,
#define ERR_ENUM(name, number, word, text, hint) name = number,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* Word, sentence and hint of a code; errno values give their own; never NULL. */
const char *err_word(int code);
const char *err_sentence(int code);
const char *err_hint(int code);
/* The code that belongs to a word, or ERR_INTERNAL. */
int err_from_word(const char *word);

/* Texts are cut at 1023 bytes and are always clean (id.h, text_is_clean). Arguments may be err_text() itself.
 * Starts the text of a failure and returns the code: return err_fail(ERR_TOKEN, "token: %s", why); */
int err_fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "fmt: " before the text (or before the sentence of the code, where nothing was said). 0 stays 0. */
int err_wrap(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The text of the last failure with this code in this thread; its sentence where nothing was said. */
const char *err_text(int code);
void err_clear(void);

/* A broken invariant: logs and aborts; the supervisor starts again from the store. */
#define INVARIANT(cond, ...) ((cond) ? (void)0 : err_abort(__FILE__, __LINE__, #cond))
void err_abort(const char *file, int line, const char *what) __attribute__((noreturn));

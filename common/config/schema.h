/* The one table of configuration keys. Parser, check, print-back, help, the shipped example, the man page and
 * reload come from it. X(key, name, type, default, least, most, reload, sentence). Default, least and most
 * are texts that the type's own parser reads; an empty default means "derived", as the sentence says. */
#pragma once

#define CONFIG_TABLE(X)                                                                                      \
    X(CONFIG_LISTEN, "listen", CONFIG_TYPE_ENDPOINT, "0.0.0.0:7700", "", "", false,                          \
        "Address and port on which children are answered; port 0 takes a free one.")                         \
    X(CONFIG_LISTEN_HINTS, "listen_hints", CONFIG_TYPE_ENDPOINT, ":7701", "", "", false,                     \
        "Address and port from which hints go to the children; without an address that of listen.")          \
    X(CONFIG_ADVERTISE, "advertise", CONFIG_TYPE_ENDPOINT, "", "", "", false,                                \
        "Name and port under which children reach this site; derived from the host name and listen.")        \
    X(CONFIG_ADVERTISE_HINTS, "advertise_hints", CONFIG_TYPE_ENDPOINT, "", "", "", false,                    \
        "The same for the hints; derived from advertise and the port of listen_hints.")                      \
    X(CONFIG_RUN_DIR, "run_dir", CONFIG_TYPE_PATH, "", "", "", false,                                        \
        "Folder of the sockets of this site; derived: run in the folder of the site.")                       \
    X(CONFIG_LOG_FORMAT, "log_format", CONFIG_TYPE_LOG_FORMAT, "text", "", "", true,                         \
        "How log records are written.")                                                                      \
    X(CONFIG_LOG_LEVEL, "log_level", CONFIG_TYPE_LOG_LEVEL, "info", "", "", true,                            \
        "The least urgent records that are written.")                                                        \
    X(CONFIG_HEARTBEAT, "heartbeat", CONFIG_TYPE_DURATION, "60s", "100ms", "1h", true,                       \
        "A link that is silent for this long sends a sign of life.")                                         \
    X(CONFIG_REPORT_INTERVAL, "report_interval", CONFIG_TYPE_DURATION, "5m", "100ms", "1d", true,            \
        "A site reports upward at least this often, also when nothing changed.")                             \
    X(CONFIG_NOT_HEARD_AFTER, "not_heard_after", CONFIG_TYPE_DURATION, "", "200ms", "7d", true,              \
        "A child that was silent for this long counts as not heard; derived: three heartbeats.")             \
    X(CONFIG_HELLO_TIMEOUT, "hello_timeout", CONFIG_TYPE_DURATION, "10s", "100ms", "10m", true,              \
        "A parent that does not answer the hello within this time is left for the next one.")                \
    X(CONFIG_DOWN_RATE, "down_rate", CONFIG_TYPE_RATE, "0", "0", "1TiB", true,                               \
        "Bytes a second to each child; 0 is unlimited.")                                                     \
    X(CONFIG_UP_RATE, "up_rate", CONFIG_TYPE_RATE, "0", "0", "1TiB", true,                                   \
        "Bytes a second to the parent; 0 is unlimited.")                                                     \
    X(CONFIG_POLL_INTERVAL, "poll_interval", CONFIG_TYPE_DURATION, "5m", "100ms", "1d", true,                \
        "How often a site asks its parent for the head while no heartbeat names the one it holds.")          \
    X(CONFIG_RETRY_INTERVAL, "retry_interval", CONFIG_TYPE_DURATION, "60m", "1s", "7d", true,                \
        "Time from the failure of a sync run to the next try.")                                              \
    X(CONFIG_RETRY_STRICT, "retry_strict", CONFIG_TYPE_FLAG, "no", "", "", true,                             \
        "Whether a failed run waits for retry_interval even when the link comes back before.")               \
    X(CONFIG_STALL_TIME, "stall_time", CONFIG_TYPE_DURATION, "15m", "1s", "7d", true,                        \
        "A sync run without progress for this long fails, and names its phase.")                             \
    X(CONFIG_SCHEDULE, "schedule", CONFIG_TYPE_DURATION, "24h", "0", "90d", true,                            \
        "Time between two scheduled sync runs at the central site; 0 runs none by itself.")                  \
    X(CONFIG_HEAD_LIFETIME, "head_lifetime", CONFIG_TYPE_DURATION, "7d", "1m", "366d", true,                 \
        "A signed generation is stale after this time; the central site signs it again at half of it.")      \
    X(CONFIG_REQUEST_TIMEOUT, "request_timeout", CONFIG_TYPE_DURATION, "20s", "100ms", "10m", true,          \
        "A request to the parent without an answer for this long is sent again.")                            \
    X(CONFIG_WINDOW, "window", CONFIG_TYPE_BYTES, "4MiB", "64KiB", "64MiB", true,                            \
        "Most bytes that a site asks for before it has taken the earlier ones.")                             \
    X(CONFIG_CHUNK, "chunk", CONFIG_TYPE_BYTES, "64KiB", "1KiB", "1MiB", true,                               \
        "Most bytes of bulk in one message; at most window.")                                                \
    X(CONFIG_DELTA_KEEP_BYTES, "delta_keep_bytes", CONFIG_TYPE_BYTES, "4MiB", "0", "64GiB", true,            \
        "Bytes of deltas that are kept for each scope.")                                                     \
    X(CONFIG_DELTA_KEEP, "delta_keep", CONFIG_TYPE_NUMBER, "1000", "0", "1000000", true,                     \
        "Number of deltas that are kept for each scope.")                                                    \
    X(CONFIG_REHASH_INTERVAL, "rehash_interval", CONFIG_TYPE_DURATION, "7d", "1m", "366d", true,             \
        "Within this time every stored page is read and hashed again.")                                      \
    X(CONFIG_GUARD, "guard", CONFIG_TYPE_NUMBER, "20", "0", "100", true,                                     \
        "A full run that takes away more percent of a scope waits for sync approve; 0 asks never.")          \
    X(CONFIG_EXPIRED_KEEP, "expired_keep", CONFIG_TYPE_DURATION, "90d", "0", "3660d", true,                  \
        "Expired updates stay in the catalogue for this long; 0 keeps them for ever.")                       \
    X(CONFIG_INTERNET, "internet", CONFIG_TYPE_FLAG, "no", "", "", true,                                     \
        "Whether a sync run has the phase INTERNET.")                                                        \
    X(CONFIG_RUNS_KEEP, "runs_keep", CONFIG_TYPE_NUMBER, "1000", "10", "1000000", true,                      \
        "Number of sync runs that are kept in the history.")                                                 \
    X(CONFIG_MAP_SIZE, "map_size", CONFIG_TYPE_BYTES, "64GiB", "16MiB", "16TiB", false,                      \
        "Most bytes that one store may grow to; only address space, not disk, is taken at once.")            \
    X(CONFIG_ORPHAN_AFTER, "orphan_after", CONFIG_TYPE_DURATION, "5m", "1s", "7d", true,                     \
        "A site that neither its parent nor any site above takes in for this long is shown as orphan.")      \
    X(CONFIG_APT_DIR, "apt_dir", CONFIG_TYPE_PATH, "/etc/apt", "", "", true,                                 \
        "Folder whose sources.list and sources.list.d upstream add --from-system reads.")

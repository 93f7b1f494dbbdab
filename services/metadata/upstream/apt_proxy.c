#include "services/metadata/upstream/apt_fetch.h"
#include "services/metadata/upstream/child.h"

#include <stdio.h>
#include <strings.h>

/* Acquire::http::Proxy "http://cache:3142"; */
static void take_line(char *line, const char *want, char ret_proxy[256])
{
    size_t n = strlen(want);
    if (strncasecmp(line, want, n) != 0 || strncmp(line + n, " \"", 2) != 0)
        return;
    char *value = line + n + 2, *end = strrchr(value, '"');
    if (end && end - value < 256)
        snprintf(ret_proxy, 256, "%.*s", (int)(end - value), value);
}

int apt_proxy_for(const char *scheme, const char *host, atomic_bool *cancel, char ret_proxy[256])
{
    AUTO_BUF out = {0};
    char general[64], special[384], proxy[256] = "", of_host[256] = "";
    static const char *const argv[] = {"apt-config", "dump", NULL};
    int exit_code;
    int rc = child_run(argv, 1024 * 1024, 10 * NS_PER_S, cancel, &out, &exit_code);
    buf_u8(&out, 0);
    if (rc == ERR_CANCELLED)
        return rc;
    ret_proxy[0] = 0;
    if (rc || exit_code || out.err)
        return 0; /* no apt here: the environment alone says */
    snprintf(general, sizeof general, "Acquire::%s::Proxy", scheme);
    snprintf(special, sizeof special, "Acquire::%s::Proxy::%s", scheme, host);
    char *at = (char *)out.data, *line;
    while ((line = strsep(&at, "\n"))) {
        take_line(line, general, proxy);
        take_line(line, special, of_host);
    }
    memcpy(ret_proxy, of_host[0] ? of_host : proxy, 256);
    return 0;
}

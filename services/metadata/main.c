/* sitetree-metadata: the worker that owns the catalogue of one site (catalogue store, upstream adapters). Its
 * node starts it and is the only one it talks to, over ipc; it holds no key and opens no network port of its
 * own, except outward to upstreams at the central site. Reading order: metadata.h, then io.c. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/crypto/crypto.h"
#include "common/process/process.h"
#include "services/metadata/io.h"

static int usage(void)
{
    fprintf(stderr, "sitetree-metadata is started by sitetreed: --dir DIR --run RUN [--config FILE]\n"
                    "try: sitetreed --help\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
        {"run", required_argument, NULL, 'r'}, {"config", required_argument, NULL, 'c'},
        {"version", no_argument, NULL, 'v'}, {0}};
    struct io_options o = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            o.dir = optarg;
        else if (c == 'r')
            o.run_dir = optarg;
        else if (c == 'c')
            o.config_path = optarg;
        else if (c == 'v')
            return puts("sitetree-metadata " SITETREE_VERSION) < 0;
        else
            return usage();
    }
    if (!o.dir || !o.run_dir || optind != argc)
        return usage();
    int rc = crypto_init();
    if (!rc)
        rc = process_start(256);
    if (!rc)
        rc = io_run(&o);
    if (!rc)
        return 0;
    log_record(LOG_ERROR, "stopped", "why", err_text(rc), "try", err_hint(rc), NULL);
    return 1;
}

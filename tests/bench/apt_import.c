/* Prints how long the apt adapter takes for one repository: apt_import URI SUITE KEYRING [COMPONENT [ARCH
 * [CACHE]]]. The second and third pass read the same cache again. */
#include "services/metadata/source.h"

#include <stdio.h>
#include <stdlib.h>

static int pass(const char *const argv[], int argc, const char *cache)
{
    struct source_set *set;
    json_t *config = json_pack("{s:s,s:s,s:s,s:[s]}", "uri", argv[1], "suite", argv[2], "keyring", argv[3],
        "components", argc > 4 ? argv[4] : "main");
    if (config && argc > 5)
        json_object_set_new(config, "architectures", json_pack("[s]", argv[5]));
    struct source_request r = {.name = argv[2], .config = config, .cache_dir = cache, .version = ""};
    r.now = clock_wall(&clock_real);
    int64_t start = clock_mono(&clock_real).ns;
    int rc = adapter_find("apt")->fetch(&r, &set);
    double seconds = (double)(clock_mono(&clock_real).ns - start) / NS_PER_S;
    json_decref(config);
    if (rc) {
        fprintf(stderr, "%s\n", err_text(rc));
        return 1;
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < set->n; i++)
        bytes += set->items[i].key.len + set->items[i].value.len;
    printf("{\"name\":\"apt-import\",\"seconds\":%.3f,\"records\":%zu,\"bytes\":%llu,\"fetched\":%llu,"
           "\"scope\":\"%s\","
           "\"version\":\"%s\",\"warning\":\"%s\"}\n",
        seconds, set->n, (unsigned long long)bytes, (unsigned long long)set->bytes_fetched, set->scope,
        set->version, set->warning);
    source_free(set);
    return 0;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/apt-import-XXXXXX";
    if (argc < 4) {
        fprintf(stderr, "usage: apt_import URI SUITE KEYRING [COMPONENT [ARCH [CACHE]]]\n");
        return 2;
    }
    const char *cache = argc > 6 ? argv[6] : mkdtemp(dir);
    int rc = cache ? 0 : 1;
    for (int i = 0; i < 3 && !rc; i++)
        rc = pass((const char *const *)argv, argc, cache);
    return rc;
}

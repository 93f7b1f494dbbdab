/* Small things of our own that come back from the disk or from the other process: key files ('f'), routes of
 * ipc frames ('i'), keys of tables and places of the trie ('k'), the list of digests of a backup ('s'). */
#include "common/bus/ipc.h"
#include "common/crypto/crypto.h"
#include "services/metadata/tables.h"
#include "services/node/backup.h"
#include "tests/fuzz/target.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/sitetree-fuzz-file-XXXXXX";
static char path[64], sums[64];

static void clean_up(void)
{
    unlink(path);
    unlink(sums);
    rmdir(folder);
}

static void put_file(const char *name, struct view v)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    PROMISE(fd >= 0 && write(fd, v.data, v.len) == (ssize_t)v.len && close(fd) == 0);
}

static void key_file(struct view v)
{
    uint8_t secret[32];
    struct sign_key key, again;
    put_file(path, v);
    int rc = key_file_read(path, "sign", secret, sizeof secret);
    PROMISE(rc == 0 || (rc == ERR_KEY_FILE && err_text(rc)[0]));
    int loaded = sign_key_load(path, &key);
    PROMISE((loaded == 0) == (rc == 0));
    if (rc)
        return;
    PROMISE(sign_key_save(path, &key) == 0 && sign_key_load(path, &again) == 0);
    PROMISE(memcmp(&key, &again, sizeof key) == 0);
}

/* The files that it names are not there, so no list is a backup. */
static void backup_list(struct view v)
{
    struct backup_result r;
    put_file(sums, v);
    int rc = backup_restore(folder, "/nowhere/at/all", true, &r);
    PROMISE(rc != 0 && err_text(rc)[0] && text_is_clean(view_str(err_text(rc))));
}

static void route(struct view v)
{
    struct ipc_message m = {0};
    AUTO_BUF out = {0};
    int rc = ipc_route_parse(v, &m);
    PROMISE(rc == 0 || rc == ERR_MALFORMED);
    if (rc)
        return;
    PROMISE(m.topic.len == 0 || (m.topic.data >= v.data && m.topic.data + m.topic.len <= v.data + v.len));
    PROMISE((unsigned)m.lane < CLASS_COUNT);
    ipc_route_pack(&m, &out);
    PROMISE(out.err == 0 && view_eq(buf_view(&out), v));
}

static void table_key(struct view v)
{
    struct place p;
    struct hash h;
    uint32_t scope;
    uint8_t packed[9];
    if (place_unpack(v, &p) == 0)
        PROMISE(place_pack(p, packed) == v.len && memcmp(packed, v.data, v.len) == 0);
    if (key_page_split(v, &scope, &p, &h) == 0) {
        struct page_key k = key_page(scope, p, &h);
        PROMISE(view_eq(KEY(k), v));
        PROMISE(p.depth <= PLACE_MAX); /* place_child and all that walks down rely on it */
    }
    (void)key_delta_serial(v);
    (void)key_u64_split(v);
    struct meta_name n = meta_of("cursor/any", v);
    PROMISE(strlen(n.s) < 512);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!path[0]) {
        PROMISE(crypto_init() == 0 && mkdtemp(folder) != NULL);
        snprintf(path, sizeof path, "%s/key", folder);
        snprintf(sums, sizeof sums, "%s/" BACKUP_SUMS, folder);
        (void)atexit(clean_up);
    }
    if (len == 0)
        return 0;
    struct view v = view_of(data + 1, len - 1);
    if (data[0] == 'f')
        key_file(v);
    else if (data[0] == 'i')
        route(v);
    else if (data[0] == 's')
        backup_list(v);
    else
        table_key(v);
    return 0;
}

/* The power goes at any moment. A central site publishes and a site below follows it, both with their real
 * cores on the real store; what each store asks of the disk is recorded, and every state that the disk may
 * then hold is opened: it is the last generation of rows that was committed, or the one that was being
 * committed, byte for byte (P5), and the core that starts on it recomputes the applied root from the stored
 * pages (P1, P3).
 *
 *     simulation_disk_test [SCALE]    more random subsets, torn writes and longer runs; 1 in ./dev test */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/simulation/two_sites.h"

static char folder[] = "/tmp/sitetree-disk-test-XXXXXX";
static unsigned scale = 1;

static const char *path_of(const char *name)
{
    static char paths[4][128];
    static unsigned n;
    char *p = paths[n++ % COUNT_OF(paths)];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir))
        if (e->d_name[0] != '.')
            (void)!unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(path);
}

static struct store *open_store(const char *dir, bool no_sync)
{
    struct store_options opt = {
        .tables = metadata_tables, .n_tables = metadata_n_tables, .map_size = 64u << 20, .no_sync = no_sync};
    struct store *s = NULL;
    return store_open_lmdb(dir, &opt, &s) ? NULL : s;
}

/* --- the script ----------------------------------------------------------------------------------------- */

static void publish(int first, int n, int revision)
{
    json_t *list = json_array(), *args;
    for (int i = first; i < first + n; i++) {
        char id[32], title[400];
        snprintf(id, sizeof id, "u-%d", i);
        memset(title, 'a' + (i + revision) % 26, sizeof title);
        title[40 + i * 7 % 250] = 0;
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i}", "id", id, "title", title, "revision", revision));
    }
    char *text = json_dumps(list, JSON_COMPACT);
    args = json_pack(
        "{s:s, s:{s:s, s:s}}", "command", "update.publish", "args", "json", text, "publisher", "acme");
    char *command = json_dumps(args, JSON_COMPACT);
    json_t *reply = site_ask(world.central, command);
    assert_non_null(json_object_get(json_object_get(reply, "data"), "generation"));
    free(command);
    free(text);
    json_decref(args);
    json_decref(list);
}

static void take_away(const char *verb, int i)
{
    char text[128];
    snprintf(text, sizeof text, "{\"command\":\"update.%s\",\"args\":{\"id\":\"local/acme/u-%d\"}}", verb, i);
    json_t *reply = site_ask(world.central, text);
    assert_non_null(json_object_get(json_object_get(reply, "data"), "generation"));
}

static void start_below(void)
{
    assert_int_equal(site_boot(world.below), 0);
    site_link(world.below, true);
    site_link(world.central, false);
    sites_settle();
    sites_pass(600 * NS_PER_S);
}

/* Generations from nothing, by walk, by deltas, by hint, with removals, past a restart, into a new epoch. */
static void script(bool no_sync)
{
    world.central->store = open_store(path_of("cen"), no_sync);
    world.below->store = open_store(path_of("p01"), no_sync);
    assert_non_null(world.central->store);
    assert_non_null(world.below->store);
    struct site *const sites[] = {world.central, world.below};
    for (size_t i = 0; i < COUNT_OF(sites); i++)
        site_note_state(sites[i]);
    assert_int_equal(site_boot(world.central), 0);
    sites_settle();
    publish(0, 100, 1);
    start_below();
    for (unsigned round = 0; round < 2 * scale; round++) {
        publish(3 * (int)round, 4, 2 + (int)round);
        take_away("expire", 5 + (int)round);
        take_away("remove", 50 + (int)round);
        sites_pass(400 * NS_PER_S);
    }
    metadata_free(world.below->m); /* asleep while much changes: catches up, or walks */
    world.below->m = NULL;
    publish(200, 90, 1);
    publish(0, 30, 9);
    start_below();
    site_ask(world.central, "{\"command\":\"epoch.new\",\"args\":{}}");
    publish(300, 2, 1);
    sites_pass(900 * NS_PER_S);
    assert_int_equal(sites_generation(world.central->store), sites_generation(world.below->store));
    assert_true(sites_generation(world.below->store) >= 8);
}

/* --- what the disk may hold ------------------------------------------------------------------------------
 */

struct check {
    const struct site *recorded;
    unsigned wrong, new_stores, older, newer;
    bool may_be_wrong; /* the process ends at the first one */
};

static void wrong(struct check *c, const struct disk_image *i, const char *what, int code)
{
    if (c->may_be_wrong)
        _exit(1);
    if (c->wrong++ < 10)
        print_error("%s after %zu calls, state %d, %s: %s: %s\n", c->recorded->central ? "central" : "below",
            i->at, i->state, i->how, what, code ? err_text(code) : "");
}

static bool write_image(const struct disk_image *i)
{
    remove_folder(path_of("image"));
    if (mkdir(path_of("image"), 0700))
        return false;
    int fd = open(path_of("image/data.mdb"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool fine = fd >= 0 && pwrite(fd, i->data, i->len, 0) == (ssize_t)i->len;
    if (fd >= 0)
        close(fd);
    /* before the store has been made, its folder says so (common/store/folder.c) */
    if (i->state < 0) {
        fd = open(path_of("image/unfinished"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        fine = fine && fd >= 0;
        if (fd >= 0)
            close(fd);
    }
    return fine;
}

static void check_core(struct check *c, const struct disk_image *i, struct store *store, uint64_t generation)
{
    struct site s = {.central = c->recorded->central, .store = store, .seed = 7};
    int rc = site_boot(&s);
    if (rc) {
        wrong(c, i, "the core does not start", rc);
    } else if (generation) {
        json_t *data =
            json_object_get(site_ask(&s, "{\"command\":\"verify\",\"args\":{\"deep\":true}}"), "data");
        if (!json_is_true(json_object_get(data, "ok")) ||
            (uint64_t)json_integer_value(json_object_get(data, "generation")) < generation)
            wrong(c, i, "the root does not recompute from the pages", 0);
    }
    sites_forget();
    s.store = NULL;
    site_end(&s);
}

static void check_image(void *ctx, const struct disk_image *i)
{
    struct check *c = ctx;
    const struct state *states = c->recorded->states;
    assert_true(write_image(i));
    struct store *store = open_store(path_of("image"), true);
    if (!store) {
        wrong(c, i, "does not open", ERR_CORRUPT);
        return;
    }
    struct hash rows;
    int rc = sites_hash_rows(store, &rows);
    if (rc) {
        wrong(c, i, "cannot be read", rc);
        store_close(store);
        return;
    }
    int now = i->state < 0 ? 0 : i->state, next = now + 1 < c->recorded->n_states ? now + 1 : now;
    bool is_now = hash_eq(&rows, &states[now].rows), is_next = hash_eq(&rows, &states[next].rows);
    c->new_stores += i->state < 0;
    c->older += is_now;
    c->newer += is_next && !is_now;
    if (!is_now && !is_next)
        wrong(c, i, "neither the last committed state nor the next", 0);
    else
        check_core(c, i, store, states[is_now ? now : next].generation);
    store_close(store);
}

static void record(struct site *sites, struct disk_log *logs, const char (*paths)[128], bool no_sync)
{
    sites_init();
    world.central = &sites[0];
    world.below = &sites[1];
    for (int i = 0; i < 2; i++) {
        sites[i] = (struct site){.central = i == 0, .seed = (uint64_t)i + 1, .log = &logs[i]};
        sites[i].states = calloc(SITE_STATES_MAX, sizeof *sites[i].states);
        disk_log_start(&logs[i], paths[i]);
    }
    script(no_sync);
    for (int i = 0; i < 2; i++) {
        site_end(&sites[i]);
        disk_log_stop(&logs[i]);
    }
    world.central = world.below = NULL;
    remove_folder(path_of("cen"));
    remove_folder(path_of("p01"));
}

static unsigned enumerate(bool no_sync)
{
    struct site sites[2];
    struct disk_log logs[2];
    char paths[2][128];
    struct disk_plan plan = {.subsets = 3 * scale, .torn = scale, .seed = 4711};
    unsigned bad = 0;
    snprintf(paths[0], sizeof paths[0], "%s/cen/data.mdb", folder);
    snprintf(paths[1], sizeof paths[1], "%s/p01/data.mdb", folder);
    record(sites, logs, (const char(*)[128])paths, no_sync);
    for (int i = 0; i < 2; i++) {
        struct check c = {.recorded = &sites[i], .may_be_wrong = no_sync};
        struct site keep = sites[i];
        uint64_t images = disk_images(&logs[i], &plan, check_image, &c);
        print_message(
            "%s: %d commits, %zu calls, %llu images: %u of the last state, %u of the next, %u of a store "
            "being made, %u wrong\n",
            keep.central ? "central" : "below", keep.n_states, logs[i].n, (unsigned long long)images, c.older,
            c.newer, c.new_stores, c.wrong);
        bad += c.wrong;
        if (!no_sync) /* it was about something */
            assert_true(images > 300 && c.older > 100 && c.newer > 10 && c.new_stores > 5);
        disk_log_free(&logs[i]);
        free(sites[i].states);
    }
    remove_folder(path_of("image"));
    return bad;
}

static void test_every_state_of_the_disk(void **state)
{
    (void)state;
    assert_int_equal(enumerate(false), 0);
}

/* The same without barriers is found out: the test can fail. */
static void test_without_barriers(void **state)
{
    (void)state;
    int status;
    fflush(NULL);
    pid_t pid = fork(); /* what LMDB does with a torn tree is its own affair */
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)enumerate(true);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        scale = (unsigned)atoi(argv[1]);
    if (scale == 0 || crypto_init() || !mkdtemp(folder))
        return 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_of_the_disk),
        cmocka_unit_test(test_without_barriers),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    remove_folder(path_of("image"));
    remove_folder(path_of("cen"));
    remove_folder(path_of("p01"));
    rmdir(folder);
    return rc;
}

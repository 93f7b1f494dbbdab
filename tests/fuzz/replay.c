/* Runs a fuzz target over every file of a folder, and over simple damage to each: cut short at every length,
 * and every byte altered (with STEP, every so manieth). So the corpus works without clang, in the ordinary
 * test run. */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/target.h"

#define DAMAGE_MAX 600 /* bytes from the start that are altered */

static size_t step = 1; /* every how manieth */
static char current[PATH_MAX];

static void on_death(int sig)
{
    static const char text[] = "died on ";
    ssize_t n = write(2, text, sizeof text - 1) + write(2, current, strlen(current)) + write(2, "\n", 1);
    (void)n;
    signal(sig, SIG_DFL);
    raise(sig);
}

static void run(const uint8_t *data, size_t len)
{
    uint8_t *exact =
        malloc(len ? len : 1); /* of exactly that size, so that a sanitizer sees a byte too many */
    PROMISE(exact != NULL);
    memcpy(exact, data, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static void run_damaged(uint8_t *data, size_t len)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    size_t most = len < DAMAGE_MAX ? len : DAMAGE_MAX;
    run(data, len);
    for (size_t i = 0; i < most; i += step) {
        run(data, i);
        for (size_t m = 0; m < sizeof masks; m++) {
            data[i] ^= masks[m];
            run(data, len);
            data[i] ^= masks[m];
        }
    }
}

static int run_file(const char *path)
{
    static uint8_t data[1 << 20];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t len = fread(data, 1, sizeof data, f);
    fclose(f);
    snprintf(current, sizeof current, "%s", path);
    run_damaged(data, len);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    int failed = 0;
    DIR *dir = argc == 2 || argc == 3 ? opendir(argv[1]) : NULL;
    step = argc == 3 ? (size_t)atoi(argv[2]) : 1;
    if (!dir || step == 0) {
        fprintf(stderr, "usage: %s FOLDER [STEP]\n", argv[0]);
        return 2;
    }
    signal(SIGABRT, on_death);
    signal(SIGSEGV, on_death);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[PATH_MAX];
        if (e->d_name[0] == '.' ||
            (size_t)snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name) >= sizeof path)
            continue;
        failed |= run_file(path);
        files++;
    }
    closedir(dir);
    printf("%u inputs\n", files);
    return files == 0 || failed;
}

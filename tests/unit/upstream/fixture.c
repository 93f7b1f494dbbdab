#include "tests/unit/upstream/fixture.h"

#include "common/crypto/crypto.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void run(const char *command)
{
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

int fixture_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(crypto_init(), 0);
    strcpy(f->dir, "/tmp/upstream-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->repo, sizeof f->repo, "%s/repo", f->dir);
    snprintf(f->cache, sizeof f->cache, "%s/cache", f->dir);
    f->request = (struct source_request){.name = "sample",
        .cache_dir = f->cache,
        .version = "",
        .now = clock_wall(&clock_real),
        .cancel = &f->cancel};
    *state = f;
    return 0;
}

int fixture_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    run(command);
    json_decref(f->request.config);
    free(f);
    return 0;
}

void fixture_repo(struct fixture *f, const char *options)
{
    char command[1024];
    snprintf(command, sizeof command, "%s %s %s >%s/made.json", SAMPLE_REPO, f->repo, options, f->dir);
    run(command);
    if (!f->request.config)
        fixture_config(f, NULL);
}

void fixture_config(struct fixture *f, const char *uri)
{
    char own[128], keyring[128];
    snprintf(own, sizeof own, "file://%s", f->repo);
    snprintf(keyring, sizeof keyring, "%s/keys/keyring.gpg", f->repo);
    json_decref(f->request.config);
    f->request.config = json_pack("{s:s,s:s,s:[s],s:[s],s:s}", "uri", uri ? uri : own, "suite", "bookworm",
        "components", "main", "architectures", "amd64", "keyring", keyring);
    assert_non_null(f->request.config);
}

void fixture_set(struct fixture *f, const char *field, const char *text)
{
    assert_int_equal(json_object_set_new(f->request.config, field, json_string(text)), 0);
}

int fixture_fetch(struct fixture *f, struct source_set **ret_set)
{
    return adapter_find("apt")->fetch(&f->request, ret_set);
}

void fixture_refused(struct fixture *f, int code, const char *part)
{
    struct source_set *set = NULL;
    int rc = fixture_fetch(f, &set);
    if (rc != code || !strstr(err_text(rc), part))
        fail_msg("wanted %s with '%s', got %s: %s", err_word(code), part, err_word(rc),
            rc ? err_text(rc) : "a set");
    assert_null(set);
}

void fixture_write(struct fixture *f, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    for (char *p = path + strlen(f->dir) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        mkdir(path, 0755);
    }
    assert_int_equal(file_write_whole(path, view_str(text), 0644), 0);
}

bool has_program(const char *name)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", name);
    return system(command) == 0;
}

void http_up(struct http *h, struct fixture *f, const char *options)
{
    int in[2], out[2];
    char command[512], port[16] = "";
    snprintf(h->log, sizeof h->log, "%s/http.log", f->dir);
    unlink(h->log);
    snprintf(command, sizeof command, "exec %s %s --log %s %s", HTTP_REPO, f->repo, h->log, options);
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    h->pid = fork();
    assert_true(h->pid >= 0);
    if (h->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        close(out[0]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    h->in = in[1];
    for (size_t n = 0; n + 1 < sizeof port && (n == 0 || port[n - 1] != '\n'); n++)
        assert_int_equal(read(out[0], port + n, 1), 1);
    close(out[0]);
    port[strcspn(port, "\n")] = 0;
    snprintf(h->uri, sizeof h->uri, "http://127.0.0.1:%s", port);
}

void http_down(struct http *h)
{
    close(h->in);
    kill(h->pid, SIGKILL);
    waitpid(h->pid, NULL, 0);
}

unsigned http_count(const struct http *h, const char *part)
{
    AUTO_BUF b = {0};
    assert_int_equal(file_read_whole(h->log, 1 << 20, &b), 0);
    unsigned n = 0;
    buf_u8(&b, 0);
    char *at = (char *)b.data, *line;
    while ((line = strsep(&at, "\n")))
        n += strstr(line, part) != NULL;
    return n;
}

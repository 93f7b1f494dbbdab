/* What the tests of the upstream adapters share: a folder of their own, sample repositories, an HTTP server,
 * requests. SAMPLE_REPO and HTTP_REPO name the scripts of tests/lib. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/metadata/source.h"

struct fixture {
    char dir[64]; /* of this test alone */
    char repo[80], cache[80];
    atomic_bool cancel;
    struct source_request request;
};
int fixture_up(void **state); /* cmocka setup and teardown */
int fixture_down(void **state);
/* Runs sample-repo on the fixture's repo with these options; fails the test when it fails. */
void fixture_repo(struct fixture *f, const char *options);
/* The config for it; uri NULL: file://. The request uses it. */
void fixture_config(struct fixture *f, const char *uri);
/* Changes one text field of the config. */
void fixture_set(struct fixture *f, const char *field, const char *text);
int fixture_fetch(struct fixture *f, struct source_set **ret_set);
/* Fails the test unless the fetch fails with this code and a text with this part. */
void fixture_refused(struct fixture *f, int code, const char *part);
void fixture_write(struct fixture *f, const char *name, const char *text); /* DIR/name; folders are made */
/* Whether a program is there. */
bool has_program(const char *name);

struct http {
    int pid, in;
    char uri[64], log[80];
};
void http_up(struct http *h, struct fixture *f, const char *options);
void http_down(struct http *h);
/* How many lines of the server's log have this part. */
unsigned http_count(const struct http *h, const char *part);

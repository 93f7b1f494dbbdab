/* Invitations and joining: one use, its own time, its own code; the same answer again when it was lost. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pump p;

static int setup(void **state)
{
    (void)state;
    pump_init(&p);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    pump_done(&p);
    return 0;
}

struct guest {
    struct token token;
    struct sign_key sign;
    struct link_key link;
    char user[64];
};

static void guest_init(struct guest *g, const char *code, int64_t ttl)
{
    uint8_t seed[32];
    json_t *j = pump_command(
        &p, 0, "{\"command\":\"site.invite\",\"args\":{\"site\":\"%s\",\"ttl\":%lld}}", code, (long long)ttl);
    assert_int_equal(
        0, token_decode(json_string_value(json_object_get(json_object_get(j, "data"), "token")), &g->token));
    struct link_key door;
    link_key_from_seed(g->token.secret, &door);
    const char *user = pump_user(&p, 0, door.public);
    assert_non_null(user);
    assert_memory_equal("invite:", user, 7);
    COPY_TEXT(g->user, user);
    p.random.fill(&p, seed, 32);
    sign_key_from_seed(seed, &g->sign);
    p.random.fill(&p, seed, 32);
    link_key_from_seed(seed, &g->link);
}

/* The refusal's code, or 0 and the answer in *out. */
static int knock(struct guest *g, struct joined *out)
{
    AUTO_BUF chain = {0};
    assert_int_equal(0,
        pump_frame(&p, 0, ++p.next_session, g->user, join_request_make(7, 0, &g->token, &g->sign, &g->link)));
    int rc = refusal_code(p.stray);
    if (rc)
        return rc;
    struct frame f;
    assert_int_equal(0, frame_parse(blob_view(p.stray), &f));
    assert_int_equal(FRAME_JOINED, f.type);
    assert_int_equal(7, f.request);
    assert_int_equal(0, joined_check(f.body, &g->token, &g->sign, &g->link, out, &chain));
    return 0;
}

static const char *invite_state(const char *code)
{
    json_t *list = json_object_get(
        json_object_get(pump_command(&p, 0, "{\"command\":\"site.invites\"}"), "data"), "invites");
    const char *state = "none";
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "site")), code) == 0)
            state = json_string_value(json_object_get(json_array_get(list, i), "state"));
    return state;
}

static void test_one_use(void **state)
{
    (void)state;
    struct guest g;
    struct joined one, two;
    guest_init(&g, "P01", 3600);
    assert_string_equal("open", invite_state("P01"));
    assert_int_equal(0, knock(&g, &one));
    assert_string_equal("used", invite_state("P01"));
    assert_non_null(pump_user(&p, 0, g.link.public)); /* let in at once */
    assert_string_equal("CEN", one.parents[0].code.s);
    struct blob *first = blob_ref(p.stray);
    assert_int_equal(0, knock(&g, &two)); /* the answer was lost: the very same */
    assert_true(view_eq(blob_view(first), blob_view(p.stray)));
    blob_free(first);
    pump_restart(&p, 0);
    assert_int_equal(0, knock(&g, &two)); /* also after a restart */
    struct guest thief = g;
    uint8_t seed[32] = {77};
    sign_key_from_seed(seed, &thief.sign);
    assert_int_equal(ERR_TOKEN_USED, knock(&thief, &two));
    thief = g;
    link_key_from_seed(seed, &thief.link);
    assert_int_equal(ERR_TOKEN_USED, knock(&thief, &two));
    assert_null(pump_user(&p, 0, thief.link.public));
    assert_int_equal(0, knock(&g, &two));
}

static void test_expired_and_revoked(void **state)
{
    (void)state;
    struct guest late, gone, kept;
    struct joined j;
    guest_init(&late, "P01", 60);
    guest_init(&gone, "P02", 3600);
    guest_init(&kept, "P03", 60);
    assert_int_equal(0, knock(&kept, &j));
    pump_run(&p, 61 * NS_PER_S);
    assert_int_equal(ERR_TOKEN_EXPIRED, knock(&late, &j));
    assert_string_equal("expired", invite_state("P01"));
    assert_int_equal(0, knock(&kept, &j)); /* was used in time */
    json_t *r = pump_command(&p, 0, "{\"command\":\"site.revoke\",\"args\":{\"site\":\"P02\"}}");
    assert_int_equal(0, json_integer_value(json_object_get(r, "exit")));
    assert_int_equal(ERR_TOKEN, knock(&gone, &j));
    assert_non_null(strstr(err_text(ERR_TOKEN), "revoked"));
    r = pump_command(&p, 0, "{\"command\":\"site.revoke\",\"args\":{\"site\":\"P02\"}}");
    assert_string_equal("not-found", json_string_value(json_object_get(r, "code")));
    pump_run(&p, 31 * 86400 * NS_PER_S);
    pump_restart(&p, 0); /* forgotten after a month */
    assert_null(pump_user(&p, 0, late.link.public));
    assert_string_equal("none", invite_state("P01"));
}

static void test_a_new_invitation_replaces(void **state)
{
    (void)state;
    struct guest old, new;
    struct joined j;
    guest_init(&old, "P01", 3600);
    guest_init(&new, "P01", 3600);
    assert_int_equal(ERR_TOKEN, knock(&old, &j));
    assert_int_equal(0, knock(&new, &j));
    json_t *r = pump_command(&p, 0, "{\"command\":\"site.invite\",\"args\":{\"site\":\"P01\"}}");
    assert_string_equal("exists", json_string_value(json_object_get(r, "code")));
}

static void test_requests_that_are_off(void **state)
{
    (void)state;
    struct guest g, bad;
    struct joined j;
    guest_init(&g, "P01", 3600);
    bad = g; /* another code than the invitation's */
    COPY_TEXT(bad.token.code.s, "P02");
    assert_int_equal(ERR_TOKEN, knock(&bad, &j));
    bad = g; /* another tree */
    bad.token.hierarchy.b[0] ^= 1;
    assert_int_equal(ERR_TOKEN, knock(&bad, &j));
    bad = g; /* a key that it does not have */
    bad.sign.public[0] ^= 1;
    assert_int_equal(ERR_SIGNATURE, knock(&bad, &j));
    bad = g;
    memset(bad.link.public, 0, 32);
    assert_int_equal(ERR_KEY, knock(&bad, &j));
    COPY_TEXT(bad.user, "invite:ffffffffffffffff");
    bad.link = g.link;
    assert_int_equal(ERR_TOKEN, knock(&bad, &j));
    Sitetree__Hello hello = SITETREE__HELLO__INIT; /* it may only join */
    hello.version_low = hello.version_high = 1;
    hello.site = (char *)(uintptr_t) "P01";
    assert_int_equal(
        0, pump_frame(&p, 0, 500, g.user, frame_pack(FRAME_HELLO, 1, 9, NULL, &hello.base, false)));
    assert_int_equal(ERR_REFUSED, refusal_code(p.stray));
    assert_string_equal("open", invite_state("P01"));
    assert_int_equal(0, knock(&g, &j));
}

static void test_the_answer_is_checked(void **state)
{
    (void)state;
    struct guest g;
    struct joined j;
    struct frame f;
    AUTO_BUF chain = {0};
    guest_init(&g, "P01", 3600);
    assert_int_equal(0, knock(&g, &j));
    assert_int_equal(0, frame_parse(blob_view(p.stray), &f));
    struct guest other = g;
    other.token.hierarchy.b[5] ^= 1;
    assert_int_equal(ERR_KEY, joined_check(f.body, &other.token, &g.sign, &g.link, &j, &chain));
    other = g;
    other.token.tier = TIER_BRANCH;
    assert_int_equal(ERR_KEY, joined_check(f.body, &other.token, &g.sign, &g.link, &j, &chain));
    other = g;
    COPY_TEXT(other.token.parent.s, "P99");
    assert_int_equal(ERR_KEY, joined_check(f.body, &other.token, &g.sign, &g.link, &j, &chain));
    other = g;
    other.link.public[0] ^= 1;
    assert_int_equal(ERR_KEY, joined_check(f.body, &g.token, &g.sign, &other.link, &j, &chain));
    for (size_t n = 0; n < f.body.len; n += 5)
        assert_int_not_equal(
            0, joined_check(view_of(f.body.data, n), &g.token, &g.sign, &g.link, &j, &chain));
}

static void test_an_admission_is_whole_or_not(void **state)
{
    (void)state;
    struct guest g;
    struct joined j;
    guest_init(&g, "P01", 3600);
    for (unsigned n = 1; n < 20; n++) { /* the n-th write fails */
        store_fail_after(p.nodes[0].store, n, ERR_MAP_FULL);
        int rc =
            pump_frame(&p, 0, ++p.next_session, g.user, join_request_make(7, 0, &g.token, &g.sign, &g.link));
        store_fail_after(p.nodes[0].store, 0, 0);
        if (rc == 0)
            break;
        assert_int_equal(ERR_MAP_FULL, rc);
        pump_restart(&p, 0);
        assert_string_equal("open", invite_state("P01"));
        assert_null(pump_user(&p, 0, g.link.public));
    }
    assert_int_equal(0, p.fail_code);
    assert_int_equal(0, knock(&g, &j));
    assert_int_equal(1, identity_site(&j.identity)->serial);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_one_use), T(test_expired_and_revoked),
        T(test_a_new_invitation_replaces), T(test_requests_that_are_off), T(test_the_answer_is_checked),
        T(test_an_admission_is_whole_or_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

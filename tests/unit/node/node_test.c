/* Two and more nodes that talk to each other without sockets: links, reports, removal, restarts. */
#include "tests/unit/node/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/catalogue.pb-c.h"

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

static const char *uplink(int i)
{
    struct node_view v;
    node_look(p.nodes[i].node, &v);
    return v.uplink;
}

static unsigned sessions(int i)
{
    struct node_view v;
    node_look(p.nodes[i].node, &v);
    return v.sessions;
}

static json_t *tree_row(int i, const char *site)
{
    json_t *list =
        json_object_get(json_object_get(pump_command(&p, i, "{\"command\":\"tree\"}"), "data"), "sites");
    for (size_t k = 0; k < json_array_size(list); k++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, k), "site")), site) == 0)
            return json_array_get(list, k);
    return NULL;
}

static const char *text_at(json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static void ready_all(uint64_t generation)
{
    for (unsigned i = 0; i < p.n; i++) {
        pump_ready(&p, (int)i);
        pump_status(&p, (int)i, generation, "live", "");
    }
    pump_run(&p, 3 * NS_PER_S);
}

static void test_links_come_up(void **state)
{
    (void)state;
    assert_string_equal("none", uplink(0));
    int p01 = pump_join(&p, 0, "P01", "primary"), b11 = pump_join(&p, p01, "B11", "branch");
    assert_true(p01 == 1 && b11 == 2);
    assert_string_equal("live", uplink(p01));
    assert_string_equal("live", uplink(b11));
    assert_int_equal(1, sessions(0));
    assert_int_equal(1, sessions(p01));
    assert_true(pump_event(&p, 0, "site.joined"));
    assert_true(pump_event(&p, b11, "parent.up"));
}

static void test_reports_reach_the_top(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary"), b11 = pump_join(&p, p01, "B11", "branch");
    ready_all(7);
    json_t *row = tree_row(0, "B11");
    assert_non_null(row);
    assert_string_equal("live", text_at(row, "class"));
    assert_string_equal("P01", text_at(row, "parent"));
    assert_int_equal(7, json_integer_value(json_object_get(row, "generation")));
    assert_int_equal(7000, json_integer_value(json_object_get(row, "records")));
    assert_int_equal(2, json_integer_value(json_object_get(row, "depth")));
    assert_int_equal(2, json_integer_value(json_object_get(tree_row(0, "CEN"), "below_live")));
    json_t *status = json_object_get(pump_command(&p, 0, "{\"command\":\"status\"}"), "data");
    assert_int_equal(3, json_integer_value(json_object_get(json_object_get(status, "sites"), "live")));
    assert_int_equal(0, json_integer_value(json_object_get(p.nodes[0].reply, "exit")));
    pump_status(&p, b11, 7, "stale", "verify-refused");
    pump_run(&p, 3 * NS_PER_S);
    row = tree_row(0, "B11");
    assert_string_equal("broken", text_at(row, "class"));
    assert_string_equal("verify-refused", text_at(row, "cause"));
    pump_command(&p, 0, "{\"command\":\"status\"}");
    assert_int_equal(3, json_integer_value(json_object_get(p.nodes[0].reply, "exit")));
}

static void test_silence_is_not_heard(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary"), b11 = pump_join(&p, p01, "B11", "branch");
    ready_all(7);
    p.nodes[p01].cut = true;
    pump_run(&p, 600 * NS_PER_S);
    assert_string_equal("not-heard", text_at(tree_row(0, "P01"), "class"));
    assert_string_equal("not-heard", text_at(tree_row(0, "B11"), "class"));
    assert_string_equal("live", uplink(b11));
    assert_true(pump_event(&p, 0, "link.silent"));
    assert_true(p.nodes[p01].connects > 1);
    json_t *e =
        json_object_get(pump_command(&p, 0, "{\"command\":\"explain\",\"args\":{\"site\":\"B11\"}}"), "data");
    assert_string_equal("parent-not-heard", text_at(e, "cause"));
    assert_string_equal("P01", text_at(e, "at"));
    assert_false(json_is_true(json_object_get(e, "current")));
    assert_int_equal(3, json_integer_value(json_object_get(p.nodes[0].reply, "exit")));
    e = json_object_get(pump_command(&p, p01, "{\"command\":\"explain\"}"), "data");
    assert_string_equal("parent-unreachable", text_at(e, "cause"));
    p.nodes[p01].cut = false;
    pump_run(&p, 60 * NS_PER_S);
    assert_string_equal("live", text_at(tree_row(0, "B11"), "class"));
    e = json_object_get(pump_command(&p, 0, "{\"command\":\"explain\",\"args\":{\"site\":\"B11\"}}"), "data");
    assert_true(json_is_true(json_object_get(e, "current")));
}

static double link_age(int node, const char *link, const char *end)
{
    json_t *list =
        json_object_get(json_object_get(pump_command(&p, node, "{\"command\":\"links\"}"), "data"), "links");
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row) if (strcmp(text_at(row, "link"), link) == 0)
    {
        json_t *age = json_object_get(row, end);
        return json_is_number(age) ? json_number_value(age) : -1;
    }
    return -2;
}

/* Both ends of a link tell when they heard the other, wherever it is asked. */
static void test_links_from_both_ends(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(7);
    pump_run(&p, 400 * NS_PER_S); /* a heartbeat was answered, and a report was sent */
    const int nodes[] = {0, p01};
    for (unsigned i = 0; i < 2; i++) {
        double by_parent = link_age(nodes[i], "CEN>P01", "seen_by_parent"),
               by_child = link_age(nodes[i], "CEN>P01", "seen_by_child");
        assert_true(by_parent >= 0 && by_parent <= 61);
        assert_true(by_child >= 0 && by_child <= 361);
    }
    p.nodes[p01].cut = true;
    pump_run(&p, 600 * NS_PER_S);
    assert_true(link_age(0, "CEN>P01", "seen_by_child") >= 600); /* grows while nothing is heard */
    assert_true(link_age(p01, "CEN>P01", "seen_by_parent") >= 600);
}

static void test_parent_restarts(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary"), b11 = pump_join(&p, p01, "B11", "branch");
    ready_all(7);
    pump_restart(&p, p01);
    assert_int_equal(0, sessions(p01));
    assert_non_null(pump_user(&p, p01, p.nodes[b11].keys.link.public));
    pump_run(&p, 61 * NS_PER_S); /* the next heartbeat finds no session: hello again, without an operator */
    assert_int_equal(1, sessions(p01));
    assert_string_equal("live", uplink(b11));
    pump_restart(&p, 0);
    pump_run(&p, 61 * NS_PER_S);
    json_t *row = tree_row(0, "B11"); /* known from the store */
    assert_non_null(row);
    assert_int_equal(7, json_integer_value(json_object_get(row, "generation")));
}

static void test_newer_session_replaces(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(1);
    uint32_t old = p.nodes[p01].session;
    unsigned closes = p.nodes[0].closes;
    p.nodes[p01].session = ++p.next_session; /* a new connection */
    struct input in = {.kind = INPUT_LINK, .from = {PEER_PARENT, 0}};
    assert_int_equal(0, pump_input(&p, p01, &in));
    assert_int_equal(1, sessions(0));
    assert_int_equal(closes + 1, p.nodes[0].closes);
    assert_string_equal("live", uplink(p01));
    Sitetree__Heartbeat m = SITETREE__HEARTBEAT__INIT;
    assert_int_equal(0, pump_frame(&p, 0, old, pump_user(&p, 0, p.nodes[p01].keys.link.public),
                            frame_pack(FRAME_HEARTBEAT, 1, NODE_REQUEST | 1, NULL, &m.base, false)));
    assert_int_equal(ERR_NOT_FOUND, refusal_code(p.stray)); /* the old one is nobody now */
}

static void test_removed_site_is_refused_at_once(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary"), b11 = pump_join(&p, p01, "B11", "branch");
    ready_all(1);
    char user[64];
    COPY_TEXT(user, pump_user(&p, p01, p.nodes[b11].keys.link.public));
    json_t *dry =
        pump_command(&p, p01, "{\"command\":\"site.remove\",\"args\":{\"site\":\"B11\",\"dry_run\":true}}");
    assert_int_equal(3, json_integer_value(json_object_get(dry, "exit")));
    assert_int_equal(1, sessions(p01));
    json_t *gone = pump_command(&p, p01, "{\"command\":\"site.remove\",\"args\":{\"site\":\"B11\"}}");
    assert_int_equal(0, json_integer_value(json_object_get(gone, "exit")));
    assert_int_equal(1, json_array_size(json_object_get(json_object_get(gone, "data"), "removed")));
    assert_int_equal(0, sessions(p01));
    assert_null(pump_user(&p, p01, p.nodes[b11].keys.link.public));
    assert_int_equal(1, p.nodes[p01].drops);
    pump_run(&p, NS_PER_S); /* CEN hears of the removal too */
    assert_string_not_equal("live", uplink(b11));
    assert_true(pump_event(&p, b11, "parent.refused"));
    /* its connection is still there: every frame on it is refused, also a hello */
    Sitetree__HeadGet get = SITETREE__HEAD_GET__INIT;
    Sitetree__Hello hello = SITETREE__HELLO__INIT;
    hello.version_low = hello.version_high = 1;
    hello.site = (char *)(uintptr_t) "B11";
    assert_int_equal(
        0, pump_frame(&p, p01, 99, user, frame_pack(FRAME_HEAD_GET, 1, 5, NULL, &get.base, false)));
    assert_int_equal(ERR_REMOVED, refusal_code(p.stray));
    assert_int_equal(
        0, pump_frame(&p, p01, 99, user, frame_pack(FRAME_HELLO, 1, 5, NULL, &hello.base, false)));
    assert_int_equal(ERR_REMOVED, refusal_code(p.stray));
    pump_restart(&p, p01);
    assert_null(pump_user(&p, p01, p.nodes[b11].keys.link.public));
    pump_run(&p, 5 * NS_PER_S);
    assert_null(tree_row(0, "B11")); /* the central site has heard of it */
    /* the same code again, with another key: the old connection stays out */
    p.nodes[b11].parent = -1;
    int again = pump_join(&p, p01, "B11", "branch");
    assert_true(again > 0);
    assert_int_equal(
        0, pump_frame(&p, p01, 99, user, frame_pack(FRAME_HELLO, 1, 5, NULL, &hello.base, false)));
    assert_int_equal(ERR_KEY, refusal_code(p.stray));
    pump_run(&p, 5 * NS_PER_S);
    assert_non_null(tree_row(0, "B11"));
}

static void test_loops_are_refused(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    struct input in = {.kind = INPUT_LINK, .from = {PEER_PARENT, 0}};
    p.nodes[p01].cut = true; /* the welcome comes from us */
    assert_int_equal(0, pump_input(&p, p01, &in));
    char *path[] = {(char *)(uintptr_t) "P01", (char *)(uintptr_t) "CEN"};
    Sitetree__Welcome w = SITETREE__WELCOME__INIT;
    w.version = 1;
    w.site = path[1];
    w.path = path;
    w.n_path = 2;
    struct blob *frame = frame_pack(FRAME_WELCOME, 1, p.nodes[p01].node->up.request, NULL, &w.base, false);
    struct input welcome = {
        .kind = INPUT_FRAME, .from = {PEER_PARENT, 0}, .frame = frame, .body = blob_view(frame)};
    assert_int_equal(0, pump_input(&p, p01, &welcome));
    blob_free(frame);
    assert_string_equal("wait", uplink(p01));
    assert_true(pump_event(&p, p01, "parent.loop"));
    json_t *e = json_object_get(pump_command(&p, p01, "{\"command\":\"explain\"}"), "data");
    assert_string_equal("path-loop", text_at(e, "cause"));
}

static void test_versions_must_meet(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    Sitetree__Hello hello = SITETREE__HELLO__INIT;
    hello.version_low = 7;
    hello.version_high = 9;
    hello.site = (char *)(uintptr_t) "P01";
    assert_int_equal(0, pump_frame(&p, 0, 77, pump_user(&p, 0, p.nodes[p01].keys.link.public),
                            frame_pack(FRAME_HELLO, 1, 5, NULL, &hello.base, false)));
    assert_int_equal(ERR_VERSION, refusal_code(p.stray));
}

static void test_catalogue_frames_pass(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(1);
    Sitetree__PageGet get = SITETREE__PAGE_GET__INIT;
    get.max_bytes = 65536;
    struct pump_node *cen = &p.nodes[0], *child = &p.nodes[p01];
    assert_int_equal(0, pump_worker(&p, p01, (struct peer){PEER_PARENT, 0}, "",
                            frame_pack(FRAME_PAGE_GET, 3, 21, NULL, &get.base, false)));
    struct pump_frame *last = &cen->to_worker[cen->n_to_worker - 1];
    struct frame f;
    assert_int_equal(0, frame_parse(blob_view(last->frame), &f));
    assert_int_equal(FRAME_PAGE_GET, f.type);
    assert_int_equal(PEER_CHILD, last->via.kind);
    assert_int_equal(child->session, last->via.id);
    Sitetree__PageReply reply = SITETREE__PAGE_REPLY__INIT;
    assert_int_equal(
        0, pump_worker(&p, 0, last->via, "", frame_pack(FRAME_PAGE_REPLY, 3, 21, NULL, &reply.base, false)));
    last = &child->to_worker[child->n_to_worker - 1];
    assert_int_equal(0, frame_parse(blob_view(last->frame), &f));
    assert_int_equal(FRAME_PAGE_REPLY, f.type);
    assert_int_equal(PEER_PARENT, last->via.kind);
    Sitetree__Hint hint = SITETREE__HINT__INIT;
    assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_CHILDREN, 0}, "metadata/local",
                            frame_pack(FRAME_HINT, 1, 0, NULL, &hint.base, false)));
    assert_int_equal(1, cen->n_published);
    assert_string_equal("metadata/local", cen->published[0].topic);
    struct input in = {.kind = INPUT_FRAME,
        .from = {PEER_CHILDREN, 0},
        .topic = view_str("metadata/local"),
        .frame = cen->published[0].frame,
        .body = blob_view(cen->published[0].frame)};
    assert_int_equal(0, pump_input(&p, p01, &in));
    last = &child->to_worker[child->n_to_worker - 1];
    assert_int_equal(PEER_CHILDREN, last->via.kind);
    assert_string_equal("metadata/local", last->topic);
}

static int offer(int child, uint64_t request)
{
    char user[64];
    COPY_TEXT(user, pump_user(&p, 0, p.nodes[child].keys.link.public));
    return pump_frame(&p, 0, p.nodes[child].session, user,
        frame_wrap(FRAME_HEAD, 1, request, NULL, view_str("head"), false));
}

/* A child offers its head to a parent that is behind: not too often, and whatever is wrong with it does not
 * end the link. */
static void test_a_head_from_below_passes(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(1);
    unsigned before = p.nodes[0].n_to_worker;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(0, offer(p01, 0));
    assert_int_equal(before + 1, p.nodes[0].n_to_worker);
    pump_run(&p, 2 * NS_PER_S);
    assert_int_equal(0, offer(p01, 77)); /* an answer to nothing */
    assert_int_equal(before + 1, p.nodes[0].n_to_worker);
    assert_int_equal(0, offer(p01, 0));
    assert_int_equal(before + 2, p.nodes[0].n_to_worker);
    struct node_view view;
    node_look(p.nodes[p01].node, &view);
    assert_string_equal("live", view.uplink);
}

static void test_a_greedy_child_has_a_limit(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(1);
    Sitetree__PageGet get = SITETREE__PAGE_GET__INIT;
    get.max_bytes = FRAME_MAX;
    char user[64];
    COPY_TEXT(user, pump_user(&p, 0, p.nodes[p01].keys.link.public));
    p.nodes[p01].cut = true; /* the answers are looked at here */
    struct pump_node *cen = &p.nodes[0];
    unsigned before = cen->n_to_worker, passed = 0;
    for (unsigned i = 1; i <= 20; i++) {
        assert_int_equal(0, pump_frame(&p, 0, p.nodes[p01].session, user,
                                frame_pack(FRAME_PAGE_GET, 3, i, NULL, &get.base, false)));
        passed = cen->n_to_worker - before;
    }
    assert_int_equal(8, passed); /* 8 MiB */
    Sitetree__PageReply reply = SITETREE__PAGE_REPLY__INIT;
    assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_CHILD, p.nodes[p01].session}, "",
                            frame_pack(FRAME_PAGE_REPLY, 3, 1, NULL, &reply.base, false)));
    assert_int_equal(0, pump_frame(&p, 0, p.nodes[p01].session, user,
                            frame_pack(FRAME_PAGE_GET, 3, 99, NULL, &get.base, false)));
    assert_int_equal(before + 9, cen->n_to_worker);
}

static void test_worker_away(void **state)
{
    (void)state;
    json_t *j = pump_command(&p, 0, "{\"command\":\"sync.status\"}");
    assert_string_equal("not-running", text_at(j, "code"));
    pump_ready(&p, 0);
    assert_null(pump_command(&p, 0, "{\"command\":\"sync.status\"}"));
    struct pump_frame *last = &p.nodes[0].to_worker[p.nodes[0].n_to_worker - 1];
    struct frame f;
    assert_int_equal(0, frame_parse(blob_view(last->frame), &f));
    assert_int_equal(FRAME_CONTROL, f.type);
    Sitetree__ControlReply m = SITETREE__CONTROL_REPLY__INIT;
    m.command = 1;
    m.json = pb_bytes(view_str("{\"exit\":0}"));
    assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_CONTROL_REPLY, 1, 0, NULL, &m.base, false)));
    assert_int_equal(0, json_integer_value(json_object_get(p.nodes[0].reply, "exit")));
    assert_null(pump_command(&p, 0, "{\"command\":\"update.publish\"}"));
    Sitetree__WorkerReady again = SITETREE__WORKER_READY__INIT; /* the same process, from the store */
    again.code = ERR_MAP_FULL;
    again.text = (char *)(uintptr_t) "store: full (16 MiB)";
    assert_int_equal(0, pump_worker(&p, 0, (struct peer){PEER_NODE, 0}, "",
                            frame_pack(FRAME_WORKER_READY, 1, 0, NULL, &again.base, false)));
    assert_string_equal("store-full", text_at(p.nodes[0].reply, "code"));
    assert_string_equal("sitetree store stat", text_at(p.nodes[0].reply, "hint"));
    assert_string_equal("store: full (16 MiB); the metadata worker of CEN began again before it answered",
        text_at(p.nodes[0].reply, "message"));
    assert_null(pump_command(&p, 0, "{\"command\":\"sync.status\"}"));
    struct input gone = {.kind = INPUT_LINK, .from = {PEER_WORKER, WORKER_METADATA}, .status = ERR_NETWORK};
    assert_int_equal(0, pump_input(&p, 0, &gone));
    assert_string_equal("not-running", text_at(p.nodes[0].reply, "code"));
    assert_true(pump_event(&p, 0, "worker.down"));
}

static void test_idle_traffic(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(1);
    uint64_t bytes = p.nodes[p01].bytes_up, frames = p.nodes[p01].frames_up;
    pump_run(&p, 24 * 3600 * NS_PER_S);
    bytes = p.nodes[p01].bytes_up - bytes;
    frames = p.nodes[p01].frames_up - frames;
    uint64_t answers = 24 * 60 * 58; /* a heartbeat's answer: header, clock, generation */
    uint64_t total = bytes + frames * 35 + answers + (uint64_t)24 * 60 * 35;
    print_message("a day: %llu frames up, %llu bytes; both ways with CURVE %llu\n",
        (unsigned long long)frames, (unsigned long long)bytes, (unsigned long long)total);
    assert_true(frames >= 24 * 60 && frames < 24 * 60 + 24 * 12 + 10);
    assert_true(total < 360 * 1024);
}

static void test_commands_that_are_off(void **state)
{
    (void)state;
    static const char *const off[] = {"", "[]", "{}", "{\"command\":7}", "{\"command\":\"fly\"}",
        "{\"command\":\"site.fly\"}", "{\"command\":\"site.invite\"}",
        "{\"command\":\"site.invite\",\"args\":{\"site\":\"../x\"}}",
        "{\"command\":\"site.invite\",\"args\":{\"site\":\"X\",\"tier\":\"central\"}}",
        "{\"command\":\"site.invite\",\"args\":{\"site\":\"X\",\"ttl\":0}}", "{\"command\":\"site.remove\"}",
        "{\"command\":\"site.remove\",\"args\":{\"site\":\"CEN\"}}", "{\"command\":\"site.revoke\"}",
        "{\"command\":\"events\",\"args\":{\"since\":\"never\"}}"};
    for (size_t i = 0; i < COUNT_OF(off); i++) {
        json_t *j = pump_command(&p, 0, "%s", off[i]);
        assert_string_equal("usage", text_at(j, "code"));
        assert_int_equal(2, json_integer_value(json_object_get(j, "exit")));
        assert_string_not_equal("", text_at(j, "hint"));
    }
    assert_string_equal("unknown-site",
        text_at(pump_command(&p, 0, "{\"command\":\"explain\",\"args\":{\"site\":\"X\"}}"), "code"));
    assert_string_equal("unknown-site",
        text_at(pump_command(&p, 0, "{\"command\":\"tree\",\"args\":{\"below\":\"X\"}}"), "code"));
    assert_string_equal("exists",
        text_at(pump_command(&p, 0, "{\"command\":\"site.invite\",\"args\":{\"site\":\"CEN\"}}"), "code"));
}

static void test_garbage_frames(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    char user[64];
    COPY_TEXT(user, pump_user(&p, 0, p.nodes[p01].keys.link.public));
    uint8_t junk[600];
    uint32_t at = p.nodes[p01].session;
    p.nodes[p01].cut = true;
    for (unsigned type = 0; type < 80; type++)
        for (unsigned len = 0; len < 300; len += 37) {
            p.random.fill(&p, junk, sizeof junk);
            struct buf b = {0};
            buf_be16(&b, 0x5354);
            buf_u8(&b, 1);
            buf_u8(&b, 1);
            buf_be16(&b, (uint16_t)type);
            buf_be16(&b, 0);
            buf_be64(&b, 3);
            buf_be32(&b, len);
            buf_be32(&b, len);
            buf_append(&b, junk, 16 + len);
            struct blob *frame = blob_take(&b);
            struct input up = {
                .kind = INPUT_FRAME, .from = {PEER_PARENT, 0}, .frame = frame, .body = blob_view(frame)};
            assert_int_equal(0, pump_input(&p, p01, &up));
            struct input worker = {.kind = INPUT_FRAME,
                .from = {PEER_WORKER, 0},
                .via = {PEER_NODE, 0},
                .frame = frame,
                .body = blob_view(frame)};
            assert_int_equal(0, pump_input(&p, p01, &worker));
            assert_int_equal(0, pump_frame(&p, 0, at, user, blob_ref(frame)));
            assert_int_equal(0, pump_frame(&p, 0, 1000 + type, "invite:0011223344556677", frame));
        }
    assert_int_equal(0, pump_frame(&p, 0, at, user, blob_new(junk, sizeof junk)));
    assert_int_equal(0, pump_frame(&p, 0, 5000, "nobody", blob_new(junk, sizeof junk)));
    assert_int_equal(ERR_KEY, refusal_code(p.stray));
}

static void test_store_failures(void **state)
{
    (void)state;
    int p01 = pump_join(&p, 0, "P01", "primary");
    ready_all(1);
    for (unsigned n = 1; n < 12; n++) { /* each write of an invitation fails once; nothing of it stays */
        store_fail_after(p.nodes[p01].store, n, ERR_MAP_FULL);
        struct input in = {.kind = INPUT_COMMAND,
            .command = 1,
            .body = view_str("{\"command\":\"site.invite\",\"args\":{\"site\":\"B11\"}}")};
        int rc = pump_input(&p, p01, &in);
        store_fail_after(p.nodes[p01].store, 0, 0);
        if (rc == 0)
            break;
        assert_int_equal(ERR_MAP_FULL, rc);
        pump_restart(&p, p01);
        json_t *list = json_object_get(
            json_object_get(pump_command(&p, p01, "{\"command\":\"site.invites\"}"), "data"), "invites");
        assert_int_equal(0, json_array_size(list));
    }
    assert_int_equal(0, p.fail_code);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_links_come_up), T(test_links_from_both_ends),
        T(test_reports_reach_the_top), T(test_silence_is_not_heard), T(test_parent_restarts),
        T(test_newer_session_replaces), T(test_removed_site_is_refused_at_once), T(test_loops_are_refused),
        T(test_versions_must_meet), T(test_catalogue_frames_pass), T(test_a_head_from_below_passes),
        T(test_a_greedy_child_has_a_limit), T(test_worker_away), T(test_idle_traffic),
        T(test_commands_that_are_off), T(test_garbage_frames), T(test_store_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

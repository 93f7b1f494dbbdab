/* Node and worker in one process, over a real socket file. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/contract/bus_fixture.h"

static char folder[64], path[96];
static struct ipc_node *node;

struct note {
    unsigned messages, dead;
    enum worker from;
    struct ipc_message last;
    char topic[256];
    struct blob *frame;
};
static struct note at_node, at_worker;

static void take(struct note *n, const struct ipc_message *m)
{
    n->messages++;
    n->last = *m;
    snprintf(n->topic, sizeof n->topic, "%.*s", (int)m->topic.len, (const char *)m->topic.data);
    blob_free(n->frame);
    n->frame = blob_ref(m->frame);
}

static void on_node_message(void *ctx, enum worker from, const struct ipc_message *m)
{
    struct note *n = ctx;
    n->from = from;
    take(n, m);
}

static void on_worker_message(void *ctx, const struct ipc_message *m)
{
    take(ctx, m);
}

static void on_dead(void *ctx, const char *why)
{
    struct note *n = ctx;
    n->dead++;
    assert_string_equal(why, "the node went away");
}

static struct ipc_worker *worker_open(enum worker self)
{
    struct ipc_worker_events ev = {on_worker_message, on_dead, &at_worker};
    struct ipc_worker *w = NULL;
    int rc = ipc_worker_open(loop, path, self, &ev, &w);
    if (rc)
        fail_msg("%s", err_text(rc));
    return w;
}

static void node_open(void)
{
    struct ipc_node_events ev = {on_node_message, &at_node};
    int rc = ipc_node_open(loop, path, &ev, &node);
    if (rc)
        fail_msg("%s", err_text(rc));
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sitetree-ipc-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/node.ipc", folder);
    node_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ipc_node_close(node);
    node = NULL;
    blob_free(at_node.frame);
    blob_free(at_worker.frame);
    at_node = at_worker = (struct note){0};
    unlink(path);
    return rmdir(folder);
}

/* The worker says something first: that is how the node's socket learns of it. */
static void greet(struct ipc_worker *w)
{
    unsigned before = at_node.messages;
    AUTO_BLOB *frame = text_frame("ready");
    struct ipc_message m = {.peer = {PEER_NODE, 0}, .lane = CLASS_HEAD, .frame = frame};
    assert_int_equal(ipc_worker_send(w, &m), 0);
    wait_until(at_node.messages == before + 1);
}

static void frames_go_both_ways_with_their_route(void **state)
{
    (void)state;
    struct ipc_worker *w = worker_open(WORKER_METADATA);
    AUTO_BLOB *frame = text_frame("page please");
    struct ipc_message m = {
        .peer = {PEER_CHILD, 4000000000u}, .lane = CLASS_BULK, .early = true, .frame = frame};
    assert_int_equal(ipc_worker_send(w, &m), 0);
    wait_until(at_node.messages == 1);
    assert_int_equal(at_node.from, WORKER_METADATA);
    assert_int_equal(at_node.last.peer.kind, PEER_CHILD);
    assert_int_equal(at_node.last.peer.id, 4000000000u);
    assert_int_equal(at_node.last.lane, CLASS_BULK);
    assert_true(at_node.last.early);
    assert_true(frame_is(at_node.frame, "page please"));
    struct ipc_message hint = {.peer = {PEER_CHILDREN, 0},
        .lane = CLASS_HEAD,
        .topic = view_str("metadata/local/acme"),
        .frame = frame};
    assert_int_equal(ipc_node_send(node, WORKER_METADATA, &hint), 0);
    wait_until(at_worker.messages == 1);
    assert_int_equal(at_worker.last.peer.kind, PEER_CHILDREN);
    assert_string_equal(at_worker.topic, "metadata/local/acme");
    assert_false(at_worker.last.early);
    ipc_worker_close(w);
}

static void a_worker_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct ipc_worker *w = worker_open(WORKER_METADATA);
    AUTO_BLOB *frame = text_frame("x");
    struct ipc_message m = {.peer = {PEER_NODE, 0}, .frame = frame};
    greet(w);
    assert_int_equal(ipc_node_send(node, WORKER_METADATA, &m), 0);
    assert_int_equal(ipc_node_send(node, WORKER_STATE, &m), ERR_NETWORK);
    assert_string_equal(err_text(ERR_NETWORK), "the state worker is not there");
    ipc_worker_close(w);
    int rc;
    wait_until((rc = ipc_node_send(node, WORKER_METADATA, &m)) != 0);
    assert_int_equal(rc, ERR_NETWORK);
}

static void a_worker_that_starts_again_takes_its_place(void **state)
{
    (void)state;
    struct ipc_worker *first = worker_open(WORKER_METADATA);
    greet(first);
    /* The old connection is still there when the new one comes. */
    struct ipc_worker *second = worker_open(WORKER_METADATA);
    greet(second);
    AUTO_BLOB *frame = text_frame("for the second");
    struct ipc_message m = {.peer = {PEER_NODE, 0}, .frame = frame};
    assert_int_equal(ipc_node_send(node, WORKER_METADATA, &m), 0);
    wait_until(at_worker.messages == 1);
    ipc_worker_close(first);
    assert_int_equal(ipc_node_send(node, WORKER_METADATA, &m), 0);
    wait_until(at_worker.messages == 2);
    ipc_worker_close(second);
}

static void the_worker_notices_that_the_node_died(void **state)
{
    (void)state;
    struct ipc_worker *w = worker_open(WORKER_METADATA);
    greet(w);
    ipc_node_close(node);
    node = NULL;
    wait_until(at_worker.dead == 1);
    ipc_worker_close(w);
}

/* More than the library takes: the rest waits here, nothing is lost, and there is an end to it. */
static void what_the_library_does_not_take_waits_within_bounds(void **state)
{
    (void)state;
    static uint8_t bytes[65536];
    struct ipc_worker *w = worker_open(WORKER_METADATA);
    greet(w);
    AUTO_BLOB *frame = blob_new(bytes, sizeof bytes);
    struct ipc_message m = {.peer = {PEER_CHILD, 1}, .lane = CLASS_BULK, .frame = frame};
    unsigned sent = 0;
    int rc;
    while ((rc = ipc_node_send(node, WORKER_METADATA, &m)) == 0 && sent < 100000)
        sent++;
    assert_int_equal(rc, ERR_BUSY);
    assert_true((size_t)sent * sizeof bytes > IPC_QUEUE_BYTES);
    wait_until(at_worker.messages == sent);
    assert_int_equal(ipc_node_send(node, WORKER_METADATA, &m), 0);
    wait_until(at_worker.messages == sent + 1);
    sent = 0;
    unsigned before = at_node.messages;
    while ((rc = ipc_worker_send(w, &m)) == 0 && sent < 100000)
        sent++;
    assert_int_equal(rc, ERR_BUSY);
    assert_true(ipc_worker_waiting(w) > 0);
    assert_int_equal(ipc_worker_flush(w, 0), ERR_TIMEOUT);
    wait_until(at_node.messages == before + sent);
    assert_int_equal(ipc_worker_waiting(w), 0);
    assert_int_equal(ipc_worker_flush(w, 0), 0);
    ipc_worker_close(w);
}

static void what_waits_for_a_dead_worker_is_dropped(void **state)
{
    (void)state;
    static uint8_t bytes[65536];
    struct ipc_worker *w = worker_open(WORKER_METADATA);
    greet(w);
    AUTO_BLOB *frame = blob_new(bytes, sizeof bytes);
    struct ipc_message m = {.peer = {PEER_NODE, 0}, .frame = frame};
    while (ipc_node_send(node, WORKER_METADATA, &m) == 0)
        ;
    assert_int_equal(ipc_node_send(node, WORKER_METADATA, &m), ERR_BUSY);
    ipc_worker_close(w);
    ipc_node_reset(node, WORKER_METADATA);
    int rc;
    wait_until((rc = ipc_node_send(node, WORKER_METADATA, &m)) == ERR_NETWORK);
}

/* What speaks to the node without being a worker of ours. */
static int stranger(const void *bytes, size_t len)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval none = {0, 1000};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
    return fd;
}

static bool is_closed(int fd)
{
    char c;
    return recv(fd, &c, 1, 0) == 0;
}

static const uint8_t name_record[] = {0, 0, 0, 0, 0, 0, 0, 8, 'm', 'e', 't', 'a', 'd', 'a', 't', 'a'};

static void what_is_no_record_closes_the_connection(void **state)
{
    (void)state;
    static const uint8_t no_name[] = {0, 0, 0, 0, 0, 0, 0, 3, 'x', 'y', 'z'};
    static const uint8_t with_route[] = {0, 0, 0, 1, 0, 0, 0, 1, 'x', 'y'};
    static const uint8_t long_route[] = {0, 0, 1, 0, 0, 0, 0, 0};
    static const uint8_t long_frame[] = {0, 0, 0, 12, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t bad_route[] = {0, 0, 0, 0, 0, 0, 0, 8, 'm', 'e', 't', 'a', 'd', 'a', 't', 'a', 0, 0,
        0, 12, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'f'};
    const struct view all[] = {view_of(no_name, sizeof no_name), view_of(with_route, sizeof with_route),
        view_of(long_route, sizeof long_route), view_of(long_frame, sizeof long_frame),
        view_of(bad_route, sizeof bad_route)};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        int fd = stranger(all[i].data, all[i].len);
        wait_until(is_closed(fd));
        close(fd);
    }
    assert_int_equal(at_node.messages, 0);
    struct ipc_worker *w = worker_open(WORKER_METADATA); /* and those that are fine come in */
    greet(w);
    ipc_worker_close(w);
}

static void records_may_come_in_any_pieces(void **state)
{
    (void)state;
    struct ipc_message m = {.peer = {PEER_CHILD, 7}, .lane = CLASS_STATE}, out;
    AUTO_BUF record = {0}, route = {0};
    static uint8_t frame[BUS_MESSAGE_MAX];
    memset(frame, 'f', sizeof frame);
    ipc_route_pack(&m, &route);
    assert_int_equal(ipc_route_parse(buf_view(&route), &out), 0);
    buf_append(&record, name_record, sizeof name_record);
    for (unsigned i = 0; i < 2; i++) {
        size_t len = i ? sizeof frame : 1;
        buf_be32(&record, (uint32_t)route.len);
        buf_be32(&record, (uint32_t)len);
        buf_append_view(&record, buf_view(&route));
        buf_append(&record, frame, len);
    }
    int fd = stranger(record.data, 1);
    size_t at = 1;
    for (; at < 60; at++) { /* byte by byte through lengths, name, route and the first frame */
        assert_int_equal(send(fd, record.data + at, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(loop_turn(loop, 0), 0);
    }
    wait_until(at_node.messages == 1);
    while (at < record.len) {
        ssize_t n = send(fd, record.data + at, record.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        at += n > 0 ? (size_t)n : 0;
        assert_int_equal(loop_turn(loop, 0), 0);
    }
    wait_until(at_node.messages == 2);
    assert_int_equal(at_node.last.peer.id, 7);
    assert_int_equal(blob_view(at_node.frame).len, sizeof frame);
    close(fd);
}

static void the_folder_must_be_ours_alone(void **state)
{
    (void)state;
    struct ipc_node_events ev = {on_node_message, &at_node};
    struct ipc_node *other = NULL;
    char long_path[200];
    assert_int_equal(chmod(folder, 0750), 0);
    assert_int_equal(ipc_node_open(loop, path, &ev, &other), ERR_CONFIG);
    assert_non_null(
        strstr(err_text(ERR_CONFIG), "must be a folder of this user with mode 0700 (it has 0750"));
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(ipc_node_open(loop, "/nowhere/at/all/node.ipc", &ev, &other), ERR_CONFIG);
    assert_int_equal(ipc_node_open(loop, "node.ipc", &ev, &other), ERR_CONFIG);
    memset(long_path, 'x', sizeof long_path);
    long_path[0] = '/';
    long_path[sizeof long_path - 1] = 0;
    assert_int_equal(ipc_node_open(loop, long_path, &ev, &other), ERR_CONFIG);
    assert_null(other);
}

static void routes_are_checked(void **state)
{
    (void)state;
    struct ipc_message m = {.peer = {PEER_CHILD, 7}, .lane = CLASS_STATE, .topic = view_str("t")}, out;
    AUTO_BUF good = {0};
    ipc_route_pack(&m, &good);
    static const uint8_t golden[] = {1, PEER_CHILD, CLASS_STATE, 0, 0, 0, 0, 7, 0, 1, 0, 0, 't'};
    assert_int_equal(good.len, sizeof golden);
    assert_memory_equal(good.data, golden, sizeof golden);
    assert_int_equal(ipc_route_parse(buf_view(&good), &out), 0);
    assert_int_equal(out.peer.id, 7);
    for (size_t len = 0; len < good.len; len++)
        assert_int_equal(ipc_route_parse(view_of(good.data, len), &out), ERR_MALFORMED);
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {
        {0, 2}, {1, PEER_NODE + 1}, {2, CLASS_COUNT}, {3, 2}, {8, 1}, {9, 0}, {9, 2}, {10, 1}, {11, 1}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        uint8_t copy[sizeof golden];
        memcpy(copy, golden, sizeof copy);
        copy[bad[i].at] = bad[i].value;
        assert_int_equal(ipc_route_parse(view_of(copy, sizeof copy), &out), ERR_MALFORMED);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(frames_go_both_ways_with_their_route),
        T(a_worker_that_is_not_there_is_an_error),
        T(a_worker_that_starts_again_takes_its_place),
        T(the_worker_notices_that_the_node_died),
        T(what_the_library_does_not_take_waits_within_bounds),
        T(what_waits_for_a_dead_worker_is_dropped),
        T(what_is_no_record_closes_the_connection),
        T(records_may_come_in_any_pieces),
        T(the_folder_must_be_ours_alone),
        cmocka_unit_test(routes_are_checked),
    };
    return cmocka_run_group_tests_name("contract ipc", tests, fixture_setup, fixture_teardown);
}

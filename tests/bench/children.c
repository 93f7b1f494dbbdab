/* Many children of one parent on one machine, for the fanout bench: each joins with a token and keys of its
 * own, says hello, keeps its heartbeat, and hears the hints; it holds no catalogue. children TOKENS
 * [FIRST_SPREAD_MS] TOKENS: a file with one invitation a line. The children live in several processes,
 * because one ZeroMQ context holds at most 1,023 sockets.
 *
 * Commands on stdin, an answer of one line each: "state GENERATION" -> {"joined","live","heard","last_ns"}:
 * how many have joined, have a session, have heard of that generation or a later one, and the monotonic time
 * at which the last of these did. The end of stdin ends it. */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bus/bus_client.h"
#include "common/process/process.h"
#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "services/node/join.h"

#define CHILDREN_MOST 4096u
#define PER_PROCESS 160u /* each has six sockets, with the monitors */

struct seen { /* shared with the first process */
    atomic_bool joined, live;
    atomic_ullong generation;
    atomic_llong at; /* when it heard of that */
};
static struct seen *all;
static char *tokens[CHILDREN_MOST];
static unsigned n_tokens;
static int64_t spread_ns = 2 * NS_PER_S;

struct child {
    struct seen *seen;
    struct token token;
    struct sign_key sign;
    struct link_key link;
    struct bus_client *client;
    struct loop_timer timer; /* joining: takes the new key; afterwards the heartbeat */
    bool joined;
    int64_t heartbeat_ns;
    uint64_t requests;
};
static struct loop *loop;
static struct bus *bus;
static struct buf last_hint; /* all get the same bytes: decoded once */
static uint64_t last_generation;

static void die(const char *what, int rc)
{
    fprintf(stderr, "children: %s: %s\n", what, err_text(rc));
    _exit(1);
}

static void say(struct child *c, struct blob *frame)
{
    AUTO_BLOB *b = frame;
    if (b && bus_client_send(c->client, b)) {
        /* not connected: the hello follows when it is */
    }
}

static void say_hello(struct child *c)
{
    Sitetree__Hello m = SITETREE__HELLO__INIT;
    m.version_low = PROTOCOL_LOW;
    m.version_high = PROTOCOL_HIGH;
    m.site = c->token.code.s;
    random_real.fill(random_real.ctx, &m.session, sizeof m.session);
    m.sent = (uint64_t)clock_wall(&clock_real).ns;
    m.software = (char *)(uintptr_t) "children";
    say(c, frame_pack(FRAME_HELLO, CLASS_HEAD, UINT64_C(1) << 63 | ++c->requests, NULL, &m.base, false));
}

static void on_state(void *ctx, enum bus_lane lane, enum bus_client_state state, const char *why)
{
    struct child *c = ctx;
    (void)why;
    if (lane != BUS_PULL)
        return;
    if (state != BUS_UP)
        c->seen->live = false;
    else if (c->joined)
        say_hello(c);
    else
        say(c, join_request_make(1, 0, &c->token, &c->sign, &c->link));
}

static void on_joined(struct child *c, struct view body)
{
    struct joined j;
    AUTO_BUF chain = {0};
    int rc = joined_check(body, &c->token, &c->sign, &c->link, &j, &chain);
    if (rc)
        die(c->token.code.s, rc);
    c->joined = true;
    loop_timer_in(&c->timer, NS_PER_MS); /* a client is not closed from its own callback */
}

static void on_message(void *ctx, struct blob *frame)
{
    struct child *c = ctx;
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc = frame_parse(blob_view(frame), &f);
    if (rc)
        return;
    if (f.type == FRAME_JOINED && !c->joined) {
        on_joined(c, f.body);
    } else if (f.type == FRAME_WELCOME) {
        Sitetree__Welcome *w = FRAME_UNPACK(&a, &f, welcome, &rc);
        if (!w)
            die("welcome", rc);
        c->heartbeat_ns = w->heartbeat_ms * NS_PER_MS;
        c->seen->live = true;
        loop_timer_in(&c->timer, c->heartbeat_ns);
    } else if (f.type == FRAME_REFUSAL) {
        Sitetree__Refusal *r = FRAME_UNPACK(&a, &f, refusal, &rc);
        if (r && r->code == ERR_NOT_FOUND && c->joined)
            say_hello(c); /* the parent has started again */
        else if (r)
            fprintf(stderr, "children: %s: %s\n", c->token.code.s, r->text);
    }
}

static uint64_t generation_of(struct view bytes)
{
    if (view_eq(bytes, buf_view(&last_hint)))
        return last_generation;
    struct frame f;
    AUTO_ARENA a;
    arena_init(&a);
    int rc = frame_parse(bytes, &f);
    if (rc || f.type != FRAME_HINT)
        return 0;
    Sitetree__Hint *h = FRAME_UNPACK(&a, &f, hint, &rc);
    if (!h || !h->head || !h->head->head)
        die("hint", rc);
    Sitetree__Head *head = MESSAGE_UNPACK(&a, pb_view(h->head->head->payload), 4096, head, &rc);
    if (!head)
        die("head", rc);
    buf_reset(&last_hint);
    buf_append_view(&last_hint, bytes);
    last_generation = head->generation;
    return last_generation;
}

static void on_hint(void *ctx, struct view topic, struct blob *frame)
{
    struct child *c = ctx;
    int64_t at = clock_mono(&clock_real).ns;
    (void)topic;
    uint64_t generation = generation_of(blob_view(frame));
    if (generation > c->seen->generation) {
        c->seen->at = at;
        c->seen->generation = generation;
    }
}

static void connect_as(struct child *c, const struct link_key *key, bool hints)
{
    struct bus_place place = {0};
    struct bus_client_options o;
    struct bus_client_events ev = {
        .on_message = on_message, .on_hint = on_hint, .on_state = on_state, .ctx = c};
    const struct node_place *p = &c->token.parents[0];
    bus_client_options_default(&o);
    o.key = *key;
    o.start_spread_ns = spread_ns;
    snprintf(place.pull, sizeof place.pull, "%s", p->endpoint);
    if (hints)
        snprintf(place.hints, sizeof place.hints, "%s", p->hints);
    memcpy(place.key, p->link_key, 32);
    int rc = bus_client_open(bus, loop, &o, &place, &ev, &c->client);
    if (rc)
        die(place.pull, rc);
}

static void on_timer(void *ctx)
{
    struct child *c = ctx;
    if (!c->seen->joined) {
        bus_client_close(c->client);
        connect_as(c, &c->link, true);
        c->seen->joined = true;
    } else if (c->seen->live) {
        Sitetree__Heartbeat m = SITETREE__HEARTBEAT__INIT;
        m.sent = (uint64_t)clock_wall(&clock_real).ns;
        m.generation = c->seen->generation;
        say(c,
            frame_pack(FRAME_HEARTBEAT, CLASS_HEAD, UINT64_C(1) << 63 | ++c->requests, NULL, &m.base, false));
        loop_timer_in(&c->timer, c->heartbeat_ns);
    }
}

static void run_some(unsigned first, unsigned n)
{
    static struct child some[PER_PROCESS];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int rc = loop_new(&clock_real, &loop);
    if (!rc)
        rc = bus_open(1, &bus);
    for (unsigned i = 0; i < n && !rc; i++) {
        struct child *c = &some[i];
        struct link_key key;
        c->seen = &all[first + i];
        sign_key_new(&c->sign);
        link_key_new(&c->link);
        rc = token_decode(tokens[first + i], &c->token);
        if (!rc)
            rc = loop_timer_init(loop, &c->timer, on_timer, c);
        if (!rc) {
            link_key_from_seed(c->token.secret, &key);
            connect_as(c, &key, false);
        }
    }
    if (!rc)
        rc = loop_run(loop);
    die("a process of children", rc);
}

static void print_state(uint64_t generation)
{
    unsigned joined = 0, live = 0, heard = 0;
    long long last = 0;
    for (unsigned i = 0; i < n_tokens; i++) {
        joined += all[i].joined;
        live += all[i].live;
        if (all[i].generation < generation)
            continue;
        heard++;
        if (all[i].at > last)
            last = all[i].at;
    }
    printf("{\"joined\":%u,\"live\":%u,\"heard\":%u,\"last_ns\":%lld}\n", joined, live, heard, last);
    fflush(stdout);
}

static void read_tokens(const char *path)
{
    static char line[4096];
    FILE *f = fopen(path, "r");
    if (!f)
        die(path, -errno);
    while (n_tokens < CHILDREN_MOST && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        tokens[n_tokens++] = strdup(line);
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc < 2) {
        fprintf(stderr, "usage: children TOKENS [FIRST_SPREAD_MS]\n");
        return 2;
    }
    process_raise_nofile(PER_PROCESS * 16);
    int rc = crypto_init();
    if (rc)
        die("start", rc);
    read_tokens(argv[1]);
    if (argc > 2)
        spread_ns = atol(argv[2]) * NS_PER_MS;
    all = mmap(NULL, CHILDREN_MOST * sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        die("memory", -errno);
    for (unsigned i = 0; i < n_tokens; i += PER_PROCESS) {
        pid_t kid = fork();
        if (kid < 0)
            die("fork", -errno);
        if (kid == 0)
            run_some(i, n_tokens - i < PER_PROCESS ? n_tokens - i : PER_PROCESS);
    }
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long generation;
        if (sscanf(line, "state %llu", &generation) == 1)
            print_state(generation);
    }
    return 0; /* the others end with this one */
}

/* A TCP proxy on loopback that makes slow, cut and silent links, and counts bytes: for system tests and
 * benches.
 *
 *     link_proxy [-r UP:DOWN] [-d DELAY_MS] [-t] LISTEN_PORT:TARGET_PORT...
 *
 * Up is from who connects to the target. Rates are bytes/s for the whole direction, 0 without a limit. -t: a
 * line on stderr for each piece that is read (ms, port, direction, bytes).
 *
 * It prints {"ready":true} and then takes one command a line on stdin, each answered with one line of JSON:
 *
 *     rate UP DOWN   delay MS   cut (drop all, refuse new)   hold (keep all open, move nothing)   heal
 *     drip BYTES     (writes of at most that many bytes; 0: as they come)
 *     count          {"up":..,"down":..,"connections":..,"accepted":..,"ports":{"7001":{"up":..,"down":..}}}
 *     quit           (so does the end of stdin)
 *
 * Counts are bytes handed to the kernel of the receiving side. One thread, one loop over poll(2). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORTS_MAX = 32, PAIRS_MAX = 512, QUEUE_MAX = 1 << 20, PIECE = 16 * 1024 };
enum side { UP, DOWN };

struct piece {
    struct piece *next;
    int64_t due; /* ns */
    size_t len, sent;
    uint8_t bytes[];
};
struct lane {
    struct piece *first, *last;
    size_t queued;
    bool ended, shut; /* the sender closed; we told the receiver */
};
struct pair {
    int fd[2]; /* fd[UP] is who connected, fd[DOWN] the target */
    bool connecting;
    unsigned port;
    struct lane lane[2]; /* lane[UP] moves from fd[UP] to fd[DOWN] */
};
struct port {
    int listen_port, target_port, fd;
    uint64_t count[2];
};
static struct {
    struct port port[PORTS_MAX];
    unsigned n_ports, n_pairs;
    struct pair pair[PAIRS_MAX];
    double rate[2], tokens[2];
    int64_t delay, refilled;
    size_t drip;
    bool cut, held, quit, trace;
    uint64_t accepted;
} p;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "link_proxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static void set_up_socket(int fd)
{
    int one = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void lane_clear(struct lane *l)
{
    while (l->first) {
        struct piece *next = l->first->next;
        free(l->first);
        l->first = next;
    }
    *l = (struct lane){0};
}

static void pair_close(unsigned i, bool reset)
{
    struct pair *q = &p.pair[i];
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    for (int s = 0; s < 2; s++) {
        if (reset)
            setsockopt(q->fd[s], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(q->fd[s]);
        lane_clear(&q->lane[s]);
    }
    p.pair[i] = p.pair[--p.n_pairs];
}

static void port_listen(struct port *t)
{
    int one = 1;
    struct sockaddr_in a = loopback(t->listen_port);
    t->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(t->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (t->fd < 0 || bind(t->fd, (struct sockaddr *)&a, sizeof a) || listen(t->fd, 64))
        die("listen");
    fcntl(t->fd, F_SETFL, O_NONBLOCK);
}

static void port_accept(unsigned port)
{
    int fd = accept4(p.port[port].fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (p.cut || p.n_pairs == PAIRS_MAX) {
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(fd);
        return;
    }
    struct pair *q = &p.pair[p.n_pairs];
    struct sockaddr_in a = loopback(p.port[port].target_port);
    *q = (struct pair){.port = port, .connecting = true};
    q->fd[UP] = fd;
    q->fd[DOWN] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (q->fd[DOWN] < 0)
        die("socket");
    set_up_socket(q->fd[UP]);
    set_up_socket(q->fd[DOWN]);
    p.n_pairs++;
    p.accepted++;
    if (connect(q->fd[DOWN], (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS)
        pair_close(p.n_pairs - 1, true);
}

/* False when the pair is to be closed. */
static bool lane_read(struct pair *q, enum side s)
{
    struct lane *l = &q->lane[s];
    struct piece *n = malloc(sizeof *n + PIECE);
    if (!n)
        die("memory");
    ssize_t got = recv(q->fd[s], n->bytes, PIECE, 0);
    if (got <= 0) {
        bool fine = got == 0 || errno == EAGAIN || errno == EINTR;
        l->ended = l->ended || got == 0;
        free(n);
        return fine;
    }
    *n = (struct piece){.due = now_ns() + p.delay, .len = (size_t)got};
    if (p.trace)
        fprintf(stderr, "%lld %d %s %zd\n", (long long)(now_ns() / 1000000), p.port[q->port].listen_port,
            s == UP ? "up" : "down", got);
    if (l->last && l->first)
        l->last->next = n;
    else
        l->first = n;
    l->last = n;
    l->queued += n->len;
    return true;
}

/* Bytes of this direction that may move now. */
static size_t allowance(enum side s)
{
    return p.rate[s] <= 0 ? SIZE_MAX : p.tokens[s] < 1 ? 0 : (size_t)p.tokens[s];
}

static bool lane_write(struct pair *q, enum side s)
{
    struct lane *l = &q->lane[s];
    int64_t now = now_ns();
    while (l->first && l->first->due <= now) {
        struct piece *n = l->first;
        size_t len = n->len - n->sent, most = allowance(s);
        if (p.drip && len > p.drip)
            len = p.drip;
        if (len > most)
            len = most;
        if (len == 0)
            return true;
        ssize_t sent = send(q->fd[!s], n->bytes + n->sent, len, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        n->sent += (size_t)sent;
        l->queued -= (size_t)sent;
        p.tokens[s] -= (double)sent;
        p.port[q->port].count[s] += (uint64_t)sent;
        if (n->sent < n->len)
            continue;
        l->first = n->next;
        free(n);
    }
    if (!l->first && l->ended && !l->shut) {
        l->shut = true;
        shutdown(q->fd[!s], SHUT_WR);
    }
    return true;
}

static void refill(void)
{
    int64_t now = now_ns();
    double seconds = (double)(now - p.refilled) * 1e-9;
    p.refilled = now;
    for (int s = 0; s < 2; s++) {
        double burst = p.rate[s] / 50 > 2048 ? p.rate[s] / 50 : 2048; /* 20 ms of the rate */
        p.tokens[s] += p.rate[s] * seconds;
        if (p.tokens[s] > burst)
            p.tokens[s] = burst;
    }
}

static void print_counts(void)
{
    uint64_t sum[2] = {0};
    for (unsigned i = 0; i < p.n_ports; i++) {
        sum[UP] += p.port[i].count[UP];
        sum[DOWN] += p.port[i].count[DOWN];
    }
    printf("{\"up\":%llu,\"down\":%llu,\"connections\":%u,\"accepted\":%llu,\"ports\":{",
        (unsigned long long)sum[UP], (unsigned long long)sum[DOWN], p.n_pairs,
        (unsigned long long)p.accepted);
    for (unsigned i = 0; i < p.n_ports; i++)
        printf("%s\"%d\":{\"up\":%llu,\"down\":%llu}", i ? "," : "", p.port[i].listen_port,
            (unsigned long long)p.port[i].count[UP], (unsigned long long)p.port[i].count[DOWN]);
    printf("}}\n");
}

static void command_run(const char *line)
{
    double up, down;
    unsigned long n;
    if (sscanf(line, "rate %lf %lf", &up, &down) == 2) {
        p.rate[UP] = up;
        p.rate[DOWN] = down;
        p.tokens[UP] = p.tokens[DOWN] = 0;
    } else if (sscanf(line, "delay %lf", &up) == 1) {
        p.delay = (int64_t)(up * 1e6);
    } else if (sscanf(line, "drip %lu", &n) == 1) {
        p.drip = n;
    } else if (!strcmp(line, "cut")) {
        p.cut = true;
        while (p.n_pairs)
            pair_close(p.n_pairs - 1, true);
    } else if (!strcmp(line, "hold")) {
        p.held = true;
    } else if (!strcmp(line, "heal")) {
        p.cut = p.held = false;
    } else if (!strcmp(line, "quit")) {
        p.quit = true;
    } else if (!strcmp(line, "count")) {
        print_counts();
        return;
    } else {
        printf("{\"error\":\"unknown command\"}\n");
        return;
    }
    printf("{\"ok\":true}\n");
}

static void commands_read(void)
{
    static char buf[4096];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, buf + len, sizeof buf - 1 - len);
    if (n <= 0) {
        p.quit = n == 0 || errno != EINTR;
        return;
    }
    len += (size_t)n;
    buf[len] = 0;
    for (char *end; (end = strchr(buf, '\n')) != NULL;) {
        *end = 0;
        command_run(buf);
        len -= (size_t)(end + 1 - buf);
        memmove(buf, end + 1, len + 1);
    }
    fflush(stdout);
}

/* Whether side s of a pair is to be read, and to be written to; shortens *wait to when the next piece is due.
 */
static short wanted(const struct pair *q, enum side s, int64_t *wait)
{
    const struct lane *from = &q->lane[s], *to = &q->lane[!s];
    int64_t now = now_ns();
    short events = 0;
    if (q->connecting)
        return s == DOWN ? POLLOUT : 0;
    if (!from->ended && from->queued < QUEUE_MAX)
        events |= POLLIN;
    if (to->first && to->first->due > now) {
        if (to->first->due - now < *wait)
            *wait = to->first->due - now;
    } else if (to->first && allowance(!s) == 0) {
        if (*wait > 2000000)
            *wait = 2000000;
    } else if (to->first || (to->ended && !to->shut)) {
        events |= POLLOUT;
    }
    return events;
}

static void pair_serve(unsigned i, const struct pollfd *f)
{
    struct pair *q = &p.pair[i];
    bool alive = true;
    if (q->connecting && f[DOWN].revents) {
        int err = 0;
        socklen_t len = sizeof err;
        getsockopt(q->fd[DOWN], SOL_SOCKET, SO_ERROR, &err, &len);
        q->connecting = false;
        alive = err == 0;
    } else if (!q->connecting) {
        for (int s = 0; s < 2 && alive; s++) {
            if (f[s].revents & (POLLIN | POLLHUP | POLLERR))
                alive = lane_read(q, s);
            if (alive)
                alive = lane_write(q, s);
        }
    }
    if (!alive || (q->lane[UP].shut && q->lane[DOWN].shut))
        pair_close(i, !alive);
}

static void loop(void)
{
    static struct pollfd f[1 + PORTS_MAX + 2 * PAIRS_MAX];
    while (!p.quit) {
        int64_t wait = 1000000000;
        unsigned n = 1 + p.n_ports, pairs = p.held ? 0 : p.n_pairs;
        refill();
        f[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        for (unsigned i = 0; i < p.n_ports; i++)
            f[1 + i] = (struct pollfd){.fd = p.port[i].fd, .events = p.held ? 0 : POLLIN};
        for (unsigned i = 0; i < pairs; i++)
            for (int s = 0; s < 2; s++) {
                short events = wanted(&p.pair[i], s, &wait);
                f[n++] = (struct pollfd){.fd = events ? p.pair[i].fd[s] : -1, .events = events};
            }
        struct timespec t = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (ppoll(f, n, &t, NULL) < 0 && errno != EINTR)
            die("poll");
        refill();
        for (unsigned i = pairs; i-- > 0;) /* downward: closing moves the last one into the gap */
            pair_serve(i, &f[1 + p.n_ports + 2 * i]);
        for (unsigned i = 0; i < p.n_ports; i++)
            if (f[1 + i].revents & POLLIN)
                port_accept(i);
        if (f[0].revents)
            commands_read();
    }
}

int main(int argc, char **argv)
{
    int option;
    signal(SIGPIPE, SIG_IGN);
    while ((option = getopt(argc, argv, "r:d:t")) != -1) {
        double up = 0, down = 0;
        if (option == 'r' && sscanf(optarg, "%lf:%lf", &up, &down) == 2) {
            p.rate[UP] = up;
            p.rate[DOWN] = down;
        } else if (option == 'd') {
            p.delay = (int64_t)(atof(optarg) * 1e6);
        } else if (option == 't') {
            p.trace = true;
        } else {
            return 2;
        }
    }
    for (; optind < argc && p.n_ports < PORTS_MAX; optind++) {
        struct port *t = &p.port[p.n_ports++];
        if (sscanf(argv[optind], "%d:%d", &t->listen_port, &t->target_port) != 2) {
            fprintf(stderr, "link_proxy: %s is not LISTEN_PORT:TARGET_PORT\n", argv[optind]);
            return 2;
        }
        port_listen(t);
    }
    p.refilled = now_ns();
    printf("{\"ready\":true}\n");
    fflush(stdout);
    loop();
    return 0;
}

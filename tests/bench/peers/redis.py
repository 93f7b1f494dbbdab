"""redis 7 with replicas, each writing its append-only file with a flush for every turn of its loop."""
import socket
import time

from peers.common import (HOPS, UPDATES, Result, cpu_seconds, disk, latencies, listening, memory, paced, through)
from sites import wait_for

NAME, PACKAGES, DURABLE = "redis", ["redis-server"], "appendfsync always, at each hop"


class Client:
    """As much of the protocol as is needed."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.file = self.socket.makefile("rb")

    @staticmethod
    def packed(*words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def answer(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:].strip()
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return rest

    def __call__(self, *words):
        self.socket.sendall(self.packed(*words))
        return self.answer()

    def many(self, commands, at_once=1000):
        for i in range(0, len(commands), at_once):
            part = commands[i:i + at_once]
            self.socket.sendall(b"".join(self.packed(*c) for c in part))
            for _ in part:
                self.answer()

    def info(self, section):
        lines = self("INFO", section).decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if ":" in line)


class Peer:
    def __init__(self, place, data):
        self.place, self.data = place, data

    def server(self, name, *options, fresh=True):
        port = self.place.ports.take()
        folder = self.place.folder(name) if fresh else self.place.dir / name
        server = self.place.start(name, ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", folder,
                                         "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                                         "--repl-diskless-sync-delay", "0", *options])
        listening(port, server)
        return server, port, folder

    def primary(self, records):
        server, port, _ = self.server("primary")
        client = Client(port)
        client.many([("SET", k, v) for k, v in records.items()])
        listen, proxy = self.place.proxy(port)
        return server, client, listen, proxy

    def replica(self, port, fresh=True):
        return self.server("replica", "--replicaof", "127.0.0.1 %d" % port, fresh=fresh)

    def follow(self, primary, first, listen, proxy, fresh):
        """Starts the replica; until it holds what the primary holds, on its disk too."""
        before, cpu, start = through(proxy), cpu_seconds(primary), time.monotonic()
        server, port, folder = self.replica(listen, fresh)
        client = Client(port)
        first("SET", "marker", str(start))

        def there():
            server.alive()
            state = client.info("replication")
            if state.get("master_link_status") != "up" or client("DBSIZE") != first("DBSIZE"):
                return False
            saved = client.info("persistence")
            return (client("GET", "marker") == str(start).encode() and saved["aof_rewrite_in_progress"] == "0" and
                    saved["aof_rewrite_scheduled"] == "0")
        wait_for(there, 60, "the replica has everything", interval=0.005)
        result = Result(time.monotonic() - start, wire=through(proxy) - before,
                        cpu=cpu_seconds(primary, server) - cpu, rss=memory(server), disk=disk(folder))
        return result, server, client

    def bootstrap(self):
        primary, first, listen, proxy = self.primary(self.data.all)
        return self.follow(primary, first, listen, proxy, True)[0]

    def catchup(self):
        primary, first, listen, proxy = self.primary(self.data.base)
        _, server, _ = self.follow(primary, first, listen, proxy, True)
        server.stop()
        first.many([("SET", k, v) for k, v in self.data.put.items()] + [("DEL", k) for k in self.data.gone])
        result, _, _ = self.follow(primary, first, listen, proxy, False)
        result.note = "a full copy: the backlog (1 MB) does not reach so far"
        return result

    def cascade(self):
        servers = [self.server("hop0")]
        first = Client(servers[0][1])
        for i in range(HOPS):
            servers.append(self.server("hop%d" % (i + 1), "--replicaof", "127.0.0.1 %d" % servers[-1][1]))
        leaf = Client(servers[-1][1])
        wait_for(lambda: leaf.info("replication").get("master_link_status") == "up", 30, "the chain is up")
        first("SET", "up", "1")
        wait_for(lambda: leaf("GET", "up") == b"1", 30, "the chain is through")
        leaf("CONFIG", "SET", "notify-keyspace-events", "K$")
        ears, arrived = Client(servers[-1][1]), {}
        ears("PSUBSCRIBE", "__keyspace@0__:u-*")

        def send(i):
            first("SET", "u-%d" % i, "x" * 600)
            key = ears.answer()[2]  # told after the leaf has flushed its file
            arrived[int(key.rsplit(b"-", 1)[1])] = time.monotonic()
        sent = paced(UPDATES, send)
        p50, p99 = latencies(sent, arrived)
        return Result(p50=p50, p99=p99, cpu=cpu_seconds(*[s for s, _, _ in servers]), rss=memory(servers[-1][0]))

    def repair(self):
        primary, first, listen, proxy = self.primary(self.data.all)
        _, server, client = self.follow(primary, first, listen, proxy, True)
        client("CONFIG", "SET", "replica-read-only", "no")
        for i, key in enumerate(self.data.wrong):
            client(*(("SET", key, "wrong") if i % 2 else ("DEL", key)))
        server.stop()
        result, _, client = self.follow(primary, first, listen, proxy, True)
        if client("GET", self.data.wrong[0]) != self.data.all[self.data.wrong[0]].encode():
            raise RuntimeError("not mended")
        result.note = "unnoticed; blind: a whole copy"
        return result

    def close(self):
        pass

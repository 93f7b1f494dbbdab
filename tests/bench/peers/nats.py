"""NATS 2.9 JetStream: the last message of each key in a stream, mirrored over leaf nodes."""
import hashlib
import json
import socket
import time

from peers.common import (HOPS, UPDATES, Result, cpu_seconds, disk, latencies, listening, memory, paced, through)
from sites import wait_for

NAME, PACKAGES, DURABLE = "nats", ["nats-server"], "not durable per message: flushed every 2 minutes"
STREAM = {"subjects": ["rec.>"], "storage": "file", "max_msgs_per_subject": 1, "num_replicas": 1, "retention": "limits",
          "discard": "old", "duplicate_window": 0, "allow_direct": True}


def subject(key):
    return "rec." + hashlib.sha256(key.encode()).hexdigest()[:24]


class Client:
    """As much of the protocol as is needed: one thread, one inbox."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.file = self.socket.makefile("rb")
        self.file.readline()  # INFO
        self.inbox = "_INBOX.bench%d" % self.socket.getsockname()[1]
        self.socket.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
        self.subscribe(self.inbox, 1)

    def subscribe(self, what, number):
        self.socket.sendall(b"SUB %s %d\r\nPING\r\n" % (what.encode(), number))
        while self.file.readline().strip() != b"PONG":
            pass

    def message(self):
        """(subject, body) of the next message."""
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("nats closed the connection")
            words = line.split()
            if words[0] == b"MSG":
                return words[1].decode(), self.file.read(int(words[-1]) + 2)[:-2]
            if words[0] == b"HMSG":
                return words[1].decode(), self.file.read(int(words[-1]) + 2)[int(words[-2]):-2]
            if words[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise RuntimeError(line.decode().strip())

    @staticmethod
    def packed(to, reply, body):
        return b"PUB %s %s %d\r\n%s\r\n" % (to.encode(), reply.encode(), len(body), body)

    def ask(self, to, body=None):
        self.socket.sendall(self.packed(to, self.inbox, json.dumps(body).encode() if body else b""))
        answer = json.loads(self.message()[1])
        if "error" in answer:
            raise OSError("%s: %s" % (to, answer["error"]))  # mostly: not there yet
        return answer

    def put(self, items, at_once=500):
        """Each is acknowledged."""
        items = list(items)
        for i in range(0, len(items), at_once):
            part = items[i:i + at_once]
            self.socket.sendall(b"".join(self.packed(s, self.inbox, b) for s, b in part))
            for _ in part:
                if "error" in json.loads(self.message()[1]):
                    raise RuntimeError("not stored")


class Peer:
    def __init__(self, place, data):
        self.place, self.data = place, data

    def server(self, name, above=None, fresh=True):
        """above: the leaf node port that it connects to."""
        port, leaves = self.place.ports.take(), self.place.ports.take()
        folder = self.place.folder(name) if fresh else self.place.dir / name
        config = ['listen: "127.0.0.1:%d"' % port, 'server_name: "%s"' % name,
                  'jetstream { store_dir: "%s", domain: "%s", max_memory_store: 64MB, max_file_store: 4GB }' % (folder, name)]
        remote = ', remotes: [{ url: "nats://127.0.0.1:%d" }]' % above if above else ""
        config.append('leafnodes { listen: "127.0.0.1:%d"%s }' % (leaves, remote))
        path = self.place.dir / (name + ".conf")
        path.write_text("\n".join(config) + "\n")
        server = self.place.start(name, ["nats-server", "-c", path])
        listening(port, server)
        return server, port, folder, leaves

    def primary(self, records):
        server, port, _, leaves = self.server("hub")
        client = Client(port)
        wait_for(lambda: client.ask("$JS.API.STREAM.CREATE.REC", dict(STREAM, name="REC")), 30, "the stream is made")
        client.put((subject(k), v.encode()) for k, v in records.items())
        listen, proxy = self.place.proxy(leaves)
        return server, client, listen, proxy

    @staticmethod
    def mirror(client, of, domain):
        return client.ask("$JS.API.STREAM.CREATE.COPY", {
            "name": "COPY", "storage": "file", "max_msgs_per_subject": 1, "num_replicas": 1,
            "mirror": {"name": of, "external": {"api": "$JS.%s.API" % domain, "deliver": ""}}})

    def follow(self, primary, first, listen, proxy, fresh):
        want = first.ask("$JS.API.STREAM.INFO.REC")["state"]
        before, cpu, start = through(proxy), cpu_seconds(primary), time.monotonic()
        server, port, folder, _ = self.server("leaf", listen, fresh)
        client = Client(port)
        if fresh:
            wait_for(lambda: self.mirror(client, "REC", "hub"), 30, "the mirror is made", interval=0.01)

        def there():
            server.alive()
            have = client.ask("$JS.API.STREAM.INFO.COPY")["state"]
            return have["last_seq"] == want["last_seq"] and have["messages"] >= want["messages"]
        wait_for(there, 90, "the mirror has everything", interval=0.01)
        return Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                      rss=memory(server), disk=disk(folder)), server, client

    def bootstrap(self):
        primary, first, listen, proxy = self.primary(self.data.all)
        return self.follow(primary, first, listen, proxy, True)[0]

    def catchup(self):
        primary, first, listen, proxy = self.primary(self.data.base)
        _, server, _ = self.follow(primary, first, listen, proxy, True)
        server.stop()
        first.put([(subject(k), v.encode()) for k, v in self.data.put.items()] + [(subject(k), b"") for k in self.data.gone])
        result, _, _ = self.follow(primary, first, listen, proxy, False)
        result.note = "start of the server, its mirror's next try"
        return result

    def cascade(self):
        """Each stream mirrors the one of the server before."""
        servers = [self.server("hop0")]
        first = Client(servers[0][1])
        wait_for(lambda: first.ask("$JS.API.STREAM.CREATE.COPY", dict(STREAM, name="COPY")), 30, "the stream is made")
        for i in range(HOPS):
            servers.append(self.server("hop%d" % (i + 1), servers[-1][3]))
            client = Client(servers[-1][1])
            wait_for(lambda: self.mirror(client, "COPY", "hop%d" % i), 30, "the mirror is made", interval=0.05)
        leaf, arrived = Client(servers[-1][1]), {}

        def send(i):
            first.put([("rec.u-%d" % i, b"x" * 600)])
            number = first.ask("$JS.API.STREAM.INFO.COPY")["state"]["last_seq"]
            wait_for(lambda: leaf.ask("$JS.API.STREAM.INFO.COPY")["state"]["last_seq"] >= number, 30, "it arrives",
                     interval=0.0002)
            arrived[i] = time.monotonic()
        for i in range(1000, 1005):
            send(i)
        p50, p99 = latencies(paced(UPDATES, send), arrived)
        return Result(p50=p50, p99=p99, cpu=cpu_seconds(*[s[0] for s in servers]), rss=memory(servers[-1][0]))

    def repair(self):
        """A mirror has no way to ask for one message again."""
        primary, first, listen, proxy = self.primary(self.data.all)
        _, server, client = self.follow(primary, first, listen, proxy, True)
        for key in self.data.wrong:
            got = client.ask("$JS.API.STREAM.MSG.GET.COPY", {"last_by_subj": subject(key)})["message"]
            client.ask("$JS.API.STREAM.MSG.DELETE.COPY", {"seq": got["seq"]})
        server.stop()
        result, _, _ = self.follow(primary, first, listen, proxy, True)
        result.note = "unnoticed; blind: a new mirror"
        return result

    def close(self):
        pass

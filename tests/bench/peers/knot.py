"""knot 3.2: one zone with a TXT record for each key; AXFR, IXFR."""
import socket
import struct
import time

from peers.common import (HOPS, Result, cpu_seconds, disk, latencies, listening, memory, run, through)
from sites import wait_for

NAME, PACKAGES, DURABLE = "knot", ["knot"], "journal, robust mode"
ZONE, CASCADE_UPDATES = "bench.", 5
RECORD_MOST = 60000  # a DNS message holds 64 KiB; the few larger values go under several names


def serial(port):
    """The zone's SOA serial, or None."""
    query = struct.pack(">HHHHHH", 7, 0, 1, 0, 0, 0) + b"\x05bench\x00" + struct.pack(">HH", 6, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        s.sendto(query, ("127.0.0.1", port))
        answer = s.recv(4096)
    if struct.unpack(">H", answer[6:8])[0] == 0:
        return None
    return struct.unpack(">I", answer[-20:-16])[0]


def txt(data):
    parts = [data[i:i + 255] for i in range(0, len(data), 255)] or [b""]
    return " ".join('"%s"' % "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else "\\%03d" % b for b in p) for p in parts)


def name(key):
    """A label of its own for each key."""
    import hashlib
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def zone(records, number):
    head = "@ 3600 SOA ns admin %d 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n" % number
    lines = ["$ORIGIN %s\n$TTL 3600\n%s" % (ZONE, head)]
    for key in sorted(records):
        data = records[key].encode()
        for i in range(0, len(data), RECORD_MOST):
            lines.append("%s%s TXT %s\n" % (name(key), "-%d" % i if i else "", txt(data[i:i + RECORD_MOST])))
    return "".join(lines)


class Peer:
    def __init__(self, place, data):
        self.place, self.data = place, data

    def server(self, label, master=None, below=None, fresh=True, port=None):
        """master: the port that it asks; below: the port that it notifies."""
        port = port or self.place.ports.take()
        folder = self.place.folder(label) if fresh else self.place.dir / label
        config = ["server:", "  listen: 127.0.0.1@%d" % port, "  rundir: %s" % folder, "  pidfile: %s/pid" % folder,
                  "database:", "  storage: %s" % folder, "  journal-db-mode: robust", "  journal-db-max-size: 2G",
                  "control:", "  listen: %s/sock" % folder, "log:", "- target: stderr", "  any: warning"]
        remotes = (["- id: up", "  address: 127.0.0.1@%d" % master] if master else []) + \
                  (["- id: down", "  address: 127.0.0.1@%d" % below] if below else [])
        if remotes:
            config += ["remote:"] + remotes
        config += ["acl:", "- id: any", "  address: 127.0.0.0/8", "  action: [transfer, notify, update]",
                   "zone:", "- domain: %s" % ZONE, "  storage: %s" % folder, "  file: zone", "  acl: any",
                   "  journal-max-usage: 1G", "  zonefile-sync: %s" % ("0" if master else "-1"),
                   "  zonefile-load: %s" % ("whole" if master else "difference"),
                   "  journal-content: %s" % ("all" if master else "changes")]
        config += (["  master: up"] if master else []) + (["  notify: down"] if below else [])
        path = self.place.dir / (label + ".conf")
        path.write_text("\n".join(config) + "\n")
        server = self.place.start(label, ["knotd", "-c", path])
        listening(port, server)
        return server, port, folder

    def knotc(self, label, *words):
        return run(["knotc", "-c", self.place.dir / (label + ".conf"), *words])

    def primary(self, records, below=None):
        folder = self.place.folder("primary")
        (folder / "zone").write_text(zone(records, 1))
        server, port, folder = self.server("primary", below=below, fresh=False)
        wait_for(lambda: serial(port) == 1, 60, "the zone is loaded", interval=0.05)
        listen, proxy = self.place.proxy(port)
        return server, port, folder, listen, proxy

    def follow(self, primary, number, listen, proxy, fresh):
        before, cpu, start = through(proxy), cpu_seconds(primary), time.monotonic()
        server, port, folder = self.server("secondary", master=listen, fresh=fresh)
        if not fresh:  # by itself it would ask when the refresh of the SOA is due
            wait_for(lambda: serial(port), 60, "the secondary has loaded its zone", interval=0.005)
            self.knotc("secondary", "zone-refresh", ZONE)
        wait_for(lambda: serial(port) == number, 60, "the secondary has serial %d" % number, interval=0.005)
        return Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                      rss=memory(server), disk=disk(folder)), server

    def bootstrap(self):
        primary, _, _, listen, proxy = self.primary(self.data.all)
        result, _ = self.follow(primary, 1, listen, proxy, True)
        result.note = "AXFR"
        return result

    def catchup(self):
        primary, port, folder, listen, proxy = self.primary(self.data.base)
        _, server = self.follow(primary, 1, listen, proxy, True)
        server.stop()
        (folder / "zone").write_text(zone(self.data.after, 2))
        self.knotc("primary", "-b", "zone-reload", ZONE)
        wait_for(lambda: serial(port) == 2, 60, "the primary has the changes")
        result, server = self.follow(primary, 2, listen, proxy, False)
        result.note = "start of the daemon, IXFR"
        return result

    def cascade(self):
        ports = [self.place.ports.take() for _ in range(HOPS + 1)]
        servers = []
        for i in range(HOPS, -1, -1):
            if i == 0:
                (self.place.folder("hop0") / "zone").write_text(zone({"a": "b"}, 1))
            servers.insert(0, self.server("hop%d" % i, master=ports[i - 1] if i else None,
                                          below=ports[i + 1] if i < HOPS else None, fresh=i > 0, port=ports[i])[0])
        wait_for(lambda: serial(ports[-1]) == 1, 60, "the chain is through")
        sent, arrived = {}, {}
        for i in range(CASCADE_UPDATES):
            sent[i] = time.monotonic()
            self.knotc("hop0", "zone-begin", ZONE)
            self.knotc("hop0", "zone-set", ZONE, "u%d" % i, "3600", "TXT", '"%s"' % ("x" * 200))
            self.knotc("hop0", "zone-commit", ZONE)
            now = wait_for(lambda: serial(ports[0]), 10, "the change is there")
            wait_for(lambda: serial(ports[-1]) == now, 60, "it is at the leaf", interval=0.002)
            arrived[i] = time.monotonic()
        p50, p99 = latencies(sent, arrived)
        return Result(p50=p50, p99=p99, cpu=cpu_seconds(*servers), rss=memory(servers[-1]),
                      note="%d updates, one after the other" % CASCADE_UPDATES)

    def repair(self):
        primary, _, _, listen, proxy = self.primary(self.data.all)
        wrong = dict(self.data.all, **{k: "wrong" for k in self.data.wrong})
        folder = self.place.folder("secondary")
        (folder / "zone").write_text(zone(wrong, 1))
        server, port, folder = self.server("secondary", master=listen, fresh=False)
        wait_for(lambda: serial(port) == 1, 60, "the secondary has loaded its zone")
        before, cpu, start = through(proxy), cpu_seconds(primary, server), time.monotonic()
        self.knotc("secondary", "-b", "zone-retransfer", ZONE)
        key = self.data.wrong[0]
        wait_for(lambda: "wrong" not in self.knotc("secondary", "zone-read", ZONE, name(key), "TXT"), 60, "mended",
                 interval=0.02)
        return Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                      rss=memory(server), disk=disk(folder), note="unnoticed; blind: AXFR")

    def close(self):
        pass

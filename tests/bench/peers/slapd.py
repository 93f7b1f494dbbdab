"""OpenLDAP 2.5: one entry for each key; syncrepl, refresh and persist."""
import base64
import hashlib
import subprocess
import time

from peers.common import (HOPS, Result, cpu_seconds, disk, latencies, listening, memory, run, through)
from sites import wait_for

NAME, PACKAGES, DURABLE = "slapd", ["slapd", "ldap-utils"], "LMDB with its flushes, at each hop"
BASE, ADMIN, WORD = "dc=bench", "cn=admin,dc=bench", "bench"
CASCADE_UPDATES = 20


def dn(key):
    return "cn=%s,%s" % (hashlib.sha256(key.encode()).hexdigest()[:24], BASE)


def coded(text):
    return base64.b64encode(text.encode()).decode()


def entry(key, value):
    return "dn: %s\nobjectClass: device\nl:: %s\ndescription:: %s\n" % (dn(key), coded(key), coded(value))


HEAD = "dn: %s\nobjectClass: dcObject\nobjectClass: organization\ndc: bench\no: bench\n" % BASE


class Peer:
    def __init__(self, place, data):
        self.place, self.data = place, data

    def config(self, name, folder, above):
        lines = ["include /etc/ldap/schema/core.schema", "include /etc/ldap/schema/cosine.schema",
                 "modulepath /usr/lib/ldap", "moduleload back_mdb", "moduleload syncprov", "pidfile %s/pid" % self.place.dir,
                 "sizelimit unlimited", "database mdb", "maxsize 4294967296", "suffix %s" % BASE, "rootdn %s" % ADMIN,
                 "rootpw %s" % WORD, "directory %s" % folder, "index entryUUID,entryCSN,objectClass eq"]
        if above:
            lines.append('syncrepl rid=1 provider=ldap://127.0.0.1:%d type=refreshAndPersist retry="1 +" searchbase="%s" '
                         'bindmethod=simple binddn="%s" credentials=%s scope=sub schemachecking=off keepalive=60:5:10'
                         % (above, BASE, ADMIN, WORD))
        lines += ["overlay syncprov", "syncprov-checkpoint 100 10"]
        path = self.place.dir / (name + ".conf")
        path.write_text("\n".join(lines) + "\n")
        return path

    def server(self, name, above=None, fresh=True, load=None):
        port = self.place.ports.take()
        folder = self.place.folder(name) if fresh else self.place.dir / name
        path = self.config(name, folder, above)
        if load is not None:
            ldif = self.place.dir / (name + ".ldif")
            ldif.write_text(HEAD + "\n" + "\n".join(entry(k, v) for k, v in load.items()))
            run(["slapadd", "-q", "-w", "-f", path, "-l", ldif])
        server = self.place.start(name, ["slapd", "-d", "0", "-f", path, "-h", "ldap://127.0.0.1:%d" % port])
        listening(port, server)
        return server, port, folder

    @staticmethod
    def csn(port):
        """What the server says that it has come to."""
        out = run(["ldapsearch", "-LLL", "-x", "-H", "ldap://127.0.0.1:%d" % port, "-D", ADMIN, "-w", WORD, "-s", "base", "-b",
                   BASE, "contextCSN"])
        return sorted(line for line in out.splitlines() if line.startswith("contextCSN"))

    def state(self, port):
        try:
            return self.csn(port)
        except RuntimeError as error:  # nothing there yet
            raise OSError(str(error)) from error

    @staticmethod
    def modify(port, ldif, path):
        path.write_text(ldif)
        run(["ldapmodify", "-x", "-H", "ldap://127.0.0.1:%d" % port, "-D", ADMIN, "-w", WORD, "-f", path])

    def primary(self, records):
        server, port, _ = self.server("primary", load=records)
        listen, proxy = self.place.proxy(port)
        return server, port, listen, proxy

    def follow(self, primary, first, listen, proxy, fresh):
        want = self.state(first)
        before, cpu, start = through(proxy), cpu_seconds(primary), time.monotonic()
        server, port, folder = self.server("replica", listen, fresh)
        wait_for(lambda: server.alive() and self.state(port) == want, 100, "the replica has everything", interval=0.1)
        return Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                      rss=memory(server), disk=disk(folder)), server, port

    def bootstrap(self):
        return self.follow(*self.primary(self.data.all), True)[0]

    def catchup(self):
        primary, port, listen, proxy = self.primary(self.data.base)
        # filled from the primary's own dump: a refresh of everything is what the bootstrap measures
        dump = self.place.dir / "dump.ldif"
        run(["slapcat", "-f", self.place.dir / "primary.conf", "-l", dump])
        run(["slapadd", "-q", "-f", self.config("replica", self.place.folder("replica"), listen), "-l", dump])
        changes = ["dn: %s\nchangetype: delete\n" % dn(k) for k in self.data.gone]
        for k, v in self.data.put.items():
            if k in self.data.base:
                changes.append("dn: %s\nchangetype: modify\nreplace: description\ndescription:: %s\n" % (dn(k), coded(v)))
            else:
                changes.append(entry(k, v).replace("\n", "\nchangetype: add\n", 1))
        self.modify(port, "\n".join(changes), self.place.dir / "changes.ldif")
        result, _, _ = self.follow(primary, port, listen, proxy, False)
        result.note = "start of the daemon, refresh"
        return result

    def cascade(self):
        servers = [self.server("hop0", load={"a": "b"})]
        for i in range(HOPS):
            servers.append(self.server("hop%d" % (i + 1), servers[-1][1]))
            wait_for(lambda: self.state(servers[-1][1]) == self.state(servers[0][1]), 30, "hop %d follows" % (i + 1))
        watch = subprocess.Popen(  # tells of each entry when the leaf has it
            ["ldapsearch", "-LLL", "-x", "-H", "ldap://127.0.0.1:%d" % servers[-1][1], "-D", ADMIN, "-w", WORD, "-b", BASE,
             "-E", "sync=rp", "(serialNumber=u-*)", "serialNumber"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        write = subprocess.Popen(
            ["ldapmodify", "-x", "-H", "ldap://127.0.0.1:%d" % servers[0][1], "-D", ADMIN, "-w", WORD], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, text=True, bufsize=1)
        sent, arrived = {}, {}
        try:
            time.sleep(1)  # the search is running
            for i in range(CASCADE_UPDATES):
                sent[i] = time.monotonic()
                write.stdin.write("dn: cn=u-%d,%s\nchangetype: add\nobjectClass: device\nserialNumber: u-%d\ndescription: %s\n\n"
                                  % (i, BASE, i, "x" * 600))
                write.stdin.flush()
                for line in watch.stdout:
                    if line.strip() == "serialNumber: u-%d" % i:
                        break
                arrived[i] = time.monotonic()
        finally:
            for process in watch, write:
                process.kill()
                process.wait()
        p50, p99 = latencies(sent, arrived)
        return Result(p50=p50, p99=p99, cpu=cpu_seconds(*[s for s, _, _ in servers]), rss=memory(servers[-1][0]),
                      note="%d updates, one after the other" % CASCADE_UPDATES)

    def spoilt_dump(self):
        """The primary's dump with half of the chosen entries wrong and the rest left out."""
        wanted = {dn(k): i % 2 for i, k in enumerate(self.data.wrong)}
        dump = self.place.dir / "dump.ldif"
        run(["slapcat", "-o", "ldif-wrap=no", "-f", self.place.dir / "primary.conf", "-l", dump])
        entries = []
        for one in dump.read_text().strip().split("\n\n"):
            kind = wanted.get(one.split("\n", 1)[0][len("dn: "):])
            if kind == 1:
                one = "\n".join("description: wrong" if line.startswith("description:") else line for line in one.split("\n"))
            if kind != 0:
                entries.append(one)
        dump.write_text("\n\n".join(entries) + "\n")
        return dump

    def repair(self):
        """Nothing compares values: a refresh from an old state number is forced, that sends everything."""
        primary, port, listen, proxy = self.primary(self.data.all)
        folder = self.place.folder("replica")
        path, copy = self.config("replica", folder, listen), self.place.ports.take()
        run(["slapadd", "-q", "-f", path, "-l", self.spoilt_dump()])
        before, cpu, start = through(proxy), cpu_seconds(primary), time.monotonic()
        server = self.place.start("replica", [
            "slapd", "-d", "0", "-f", path, "-c", "rid=1,csn=20000101000000.000000Z#000000#000#000000",
            "-h", "ldap://127.0.0.1:%d" % copy])
        listening(copy, server)
        last, changed = before, start
        while time.monotonic() - changed < 2 and time.monotonic() - start < 100:  # it does not say when it is through
            now = through(proxy)
            if now != last:
                last, changed = now, time.monotonic()
            time.sleep(0.02)
        result = Result(changed - start, wire=last - before, cpu=cpu_seconds(primary, server) - cpu, rss=memory(server),
                        disk=disk(folder))
        left = sum(not self.right(copy, k) for k in self.data.wrong)
        result.note = "unnoticed; forced: a whole refresh, and %d of %d stay wrong" % (left, len(self.data.wrong))
        return result

    def right(self, port, key):
        done = subprocess.run(["ldapsearch", "-LLL", "-x", "-o", "ldif-wrap=no", "-H", "ldap://127.0.0.1:%d" % port, "-D", ADMIN,
                               "-w", WORD, "-b", dn(key), "-s", "base", "description"], capture_output=True, text=True)
        return "description:" in done.stdout and "description: wrong" not in done.stdout

    def close(self):
        pass

"""rsync -z of one sorted file: no keyed store, no single updates."""
import os
import time

from peers.common import Absent, Result, cpu_seconds, disk, listening, run, through

NAME, PACKAGES, DURABLE = "rsync", ["rsync"], "file flushed at the end (--fsync)"


def write(path, records):
    path.write_text("\n".join("%s\t%s" % (k, records[k].replace("\n", "\\n")) for k in sorted(records)) + "\n")


class Peer:
    def __init__(self, place, data):
        self.place, self.data = place, data
        self.port = place.ports.take()
        self.source, self.target = place.folder("source"), place.folder("target")
        config = place.dir / "rsyncd.conf"
        config.write_text("port = %d\naddress = 127.0.0.1\nuse chroot = no\n[m]\npath = %s\n%s" % (
            self.port, self.source, "uid = 0\ngid = 0\n" if os.getuid() == 0 else ""))
        self.server = place.start("rsync", ["rsync", "--daemon", "--no-detach", "--config", config])
        listening(self.port, self.server)
        self.listen, self.proxy = place.proxy(self.port)

    def copy(self, *options):
        before, cpu = through(self.proxy), cpu_seconds(self.server) + os.times().children_user + os.times().children_system
        start = time.monotonic()
        run(["rsync", "-z", "-t", "--fsync", *options, "rsync://127.0.0.1:%d/m/records" % self.listen, self.target / "records"])
        seconds = time.monotonic() - start
        cpu = cpu_seconds(self.server) + os.times().children_user + os.times().children_system - cpu
        return Result(seconds, wire=through(self.proxy) - before, cpu=cpu, disk=disk(self.target))

    def same(self):
        return (self.source / "records").read_bytes() == (self.target / "records").read_bytes()

    def bootstrap(self):
        write(self.source / "records", self.data.all)
        return self.copy()

    def catchup(self):
        write(self.source / "records", self.data.base)
        self.copy()
        write(self.source / "records", self.data.after)
        os.utime(self.source / "records", (2e9, 2e9))
        result = self.copy()
        if not self.same():
            raise RuntimeError("the copy is another")
        return result

    def cascade(self):
        raise Absent("a file at a time, on demand")

    def repair(self):
        """Size and time are as they were, so that it is not noticed without -c."""
        write(self.source / "records", self.data.all)
        self.copy()
        spoilt = dict(self.data.all)
        for key in self.data.wrong:
            spoilt[key] = spoilt[key][:-2] + chr(ord(spoilt[key][-2]) ^ 1) + spoilt[key][-1]
        write(self.target / "records", spoilt)
        stat = (self.source / "records").stat()
        os.utime(self.target / "records", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.copy()
        if self.same():
            raise RuntimeError("it was noticed")
        result = self.copy("--checksum")
        if not self.same():
            raise RuntimeError("the copy is another")
        result.note = "unnoticed; asked with --checksum"
        return result

    def close(self):
        pass

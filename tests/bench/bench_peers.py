"""The same works on what a user would pick instead, side by side in one run (tests/bench/peers/)."""
import importlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import apt_repo
import benches
from peers.common import Absent, Data, Place
from report import number
from sites import Ports

PEERS = ["ours", "rsync", "redis", "postgresql", "knot", "nats", "slapd"]
WORKS = ["bootstrap", "catchup", "cascade", "repair"]
AIMS = {"bootstrap": [("seconds", 0.34), ("wire", 14e6)], "catchup": [("seconds", 0.10), ("wire", 1.3e6)],
        "cascade": [("p50", 1.2), ("p99", 3.4)], "repair": [("seconds", 0.3), ("wire", 300 * 1024)]}
SECONDS = 480  # what is not begun by then is left out: the whole run takes ten minutes at most


class PeerRow:
    """One work of one peer."""
    HEADER = "%-18s %10s %10s %9s %8s %9s %9s %7s  %s" % (
        "work-peer", "time", "p99", "link", "cpu", "memory", "disk", "ratio", "what it promises; remarks")

    def __init__(self, work, module, result=None, ours=None, skipped=None, error=None):
        self.name, self.work, self.module, self.result, self.skipped, self.error = (
            "%s-%s" % (work, module.NAME), work, module, result, skipped, error)
        self.ours, self.mine = ours, module.NAME == "ours"
        self.aims = [(what, limit, getattr(result, what) <= limit) for what, limit in AIMS[work]] if self.mine and result else []
        # only ours has aims: a peer that is too slow or fails is shown, and takes nothing from that
        self.ok = not self.mine or (error is None and all(ok for _, _, ok in self.aims))

    @property
    def time(self):
        return self.result.p50 if self.work == "cascade" else self.result.seconds

    def ratio(self):
        """Ours by theirs."""
        if not self.result or not self.ours or self.mine:
            return None
        return (self.ours.p50 if self.work == "cascade" else self.ours.seconds) / self.time

    def object(self):
        unit = "ms" if self.work == "cascade" else "s"
        o = {"name": self.name, "unit": unit, "ours": None, "bare": None, "ratio": None, "aim": None, "ok": self.ok}
        if self.skipped or self.error:
            return dict(o, **({"skipped": self.skipped} if self.skipped else {"error": self.error}))
        if self.ours:
            o["ours"] = self.ours.p50 if self.work == "cascade" else self.ours.seconds
        r = self.result
        if not self.mine:
            o.update(bare=self.time, ratio=self.ratio())
        elif self.aims:
            o["aim"] = ", ".join("%s <= %s" % (what, number(limit)) for what, limit, _ in self.aims)
        return dict(o, peer=self.module.NAME, work=self.work, time=self.time, p99=r.p99, link_bytes=r.wire, cpu_seconds=r.cpu,
                    memory_bytes=r.rss, disk_bytes=r.disk, durability=self.module.DURABLE, note=r.note)

    def text(self):
        if self.skipped or self.error:
            return "%-18s %s" % (self.name, "skipped: " + self.skipped if self.skipped else "failed: " + self.error)
        r, unit = self.result, "ms" if self.work == "cascade" else "s"

        def mb(x):
            return "-" if x is None else "%.3g MB" % (x / 1e6)
        ratio = self.ratio()
        wrong = ["%s > %s" % (what, number(limit)) for what, limit, ok in self.aims if not ok]
        words = "; ".join([self.module.DURABLE] + ([r.note] if r.note else []) + (["MISSED: " + ", ".join(wrong)] if wrong else []))
        return "%-18s %10s %10s %9s %8s %9s %9s %7s  %s" % (
            self.name, "%.3g %s" % (self.time, unit), "-" if r.p99 is None else "%.3g ms" % r.p99, mb(r.wire),
            "-" if r.cpu is None else "%.2f s" % r.cpu, mb(r.rss), mb(r.disk), "-" if ratio is None else "%.2f" % ratio, words)


def records(stanzas):
    return {"/".join(apt_repo.identity(s)): s.decode() for s in stanzas}


def the_data(setup, folder):
    _, base, after = benches.repositories(setup, folder)
    return Data(records(s for suite in setup.debian.suites for s in setup.debian.stanzas(suite)), records(base), records(after))


def missing_packages(module):
    """Those that dpkg does not know as installed."""
    return [p for p in module.PACKAGES if "ok installed" not in subprocess.run(
        ["dpkg-query", "-W", "-f=${Status}", p], capture_output=True, text=True).stdout]


def measure(work, module, data, ports, keep):
    """A fresh folder and fresh processes for each work."""
    folder = tempfile.mkdtemp(prefix="sitetree-peer-")
    shutil.os.chmod(folder, 0o755)  # a peer may run as another user
    place, peer = Place(folder, ports), None
    try:
        peer = module.Peer(place, data)
        return getattr(peer, work)()
    finally:
        if peer:
            peer.close()
        place.close()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def peers(setup):
    """Yields a row for each work of each peer."""
    end = time.monotonic() + SECONDS
    scratch = Path(tempfile.mkdtemp(prefix="sitetree-peers-"))
    try:
        data = the_data(setup, scratch / "repo")
        ours = {}
        for work in WORKS:
            for name in PEERS:
                module = importlib.import_module("peers." + name)
                missing = missing_packages(module)
                if missing:
                    yield PeerRow(work, module, skipped="not installed: %s" % ", ".join(missing))
                elif time.monotonic() > end:
                    yield PeerRow(work, module, skipped="no time left")
                else:
                    try:
                        result = measure(work, module, data, Ports(), setup.keep)
                        if name == "ours":
                            ours[work] = result
                        yield PeerRow(work, module, result, ours.get(work))
                    except Absent as why:
                        yield PeerRow(work, module, skipped=str(why))
                    except Exception as error:  # a peer that fails is no reason to leave out the others
                        yield PeerRow(work, module, error="%s: %s" % (type(error).__name__, str(error)[:400]))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

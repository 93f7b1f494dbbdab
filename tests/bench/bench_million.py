"""A million synthetic records: the first filling of a child over a real link, and a start after kill -9."""
import gzip
import hashlib
import shutil
import signal
import os
import threading
import time
from pathlib import Path

from apt_repo import AptRepo
from benches import FOLDER, MIB, bare, dump, hop_seconds, rss_without_map
from report import Aim, Row, Sample
from sites import process_name, wait_for

RECORDS = 1000000
FILLER = ("library tool daemon data fast small files network signed tree page site common shared runtime headers "
          "documentation plugin module server client utility support transitional development").split()


def stanzas(n):
    """Made-up packages, as long and about as hard to compress as Debian's."""
    state = 88172645463325252
    for i in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff
        a, b, c = state >> 40, state >> 52, (state >> 30) & 1023
        words = " ".join(FILLER[(state >> k) % len(FILLER)] for k in range(3, 63, 4))
        digest = hashlib.sha256(b"%d" % i).hexdigest()
        yield ("Package: synthetic-%07d\nVersion: %d.%d-%d\nArchitecture: amd64\nMaintainer: Sample <sample@example.org>\n"
               "Installed-Size: %d\nDepends: libc6 (>= 2.%d), synthetic-%07d (>= %d.0), synthetic-%07d\nSection: misc\n"
               "Priority: optional\nHomepage: https://example.org/synthetic/%d\n"
               "Filename: pool/main/s/synthetic-%07d/synthetic-%07d_%d.%d-%d_amd64.deb\nSize: %d\nSHA256: %s\n"
               "Description: %s\n" % (i, b % 20, c, a % 9, a % 100000, b % 40, a % n, b % 9, (a * 7) % n, a, i, i, b % 20,
                                      c, a % 9, a, digest, words))


class Repository(AptRepo):
    """Kept between runs in the cache folder; only a .gz index, which is made ten times sooner."""

    def __init__(self, cache):
        super().__init__(Path(cache) / ("synthetic-%d" % RECORDS), suite="synthetic")
        if not (self.release_dir / "InRelease").exists():
            self.write(stanzas(RECORDS), valid_for=3650 * 86400)
        self.close()

    def write(self, stanzas, date=None, valid_for=None, **tweaks):
        folder = self.release_dir / self.component / ("binary-" + self.arch)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = folder / "Packages.gz"
        with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as f:
            part = []
            for one in stanzas:
                part.append(one)
                if len(part) == 10000:
                    f.write(("\n".join(part) + "\n").encode())
                    part = []
            f.write("\n".join(part).encode())
        data = path.read_bytes()
        name = "%s/binary-%s/Packages.gz" % (self.component, self.arch)
        digest = hashlib.sha256(data).hexdigest()
        (folder / "by-hash/SHA256").mkdir(parents=True)
        os.link(path, folder / "by-hash/SHA256" / digest)
        self.files = {name: (digest, len(data))}
        self.sign(self.release(int(time.time()), valid_for))


class Memory:
    """The most that processes held at once while it ran: anonymous memory, sampled, and at the end what they have of
    files other than the map."""

    def __init__(self, site):
        self.site, self.peak, self.end = site, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def watch(self):
        while not self.end.wait(0.02):
            self.peak = max(self.peak, sum(anonymous(p) for p in self.site.pids()))

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        self.peak += sum(max(0, rss_without_map(p) - anonymous(p)) for p in self.site.pids())


def anonymous(pid):
    try:
        for line in Path("/proc/%d/status" % pid).read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def with_synthetic(setup, tree):
    """A central site that holds the million; restarted, so that what the import needed is not counted later."""
    repository = Repository(setup.cache)
    central = tree.central()
    central.control("upstream.add", **repository.upstream_args("synthetic"))
    start = time.monotonic()
    run = central.sync(full=True, seconds=300)
    if run["result"] != "succeeded" or central.head()["records"] != RECORDS:
        raise RuntimeError("the first run at the central site %s: %s" % (run["result"], run["reason"]))
    seconds = time.monotonic() - start
    central.stop()
    return central, seconds


def million(setup):
    """A fresh child of a parent that holds the million: from its first request to the durable generation."""
    ours, theirs, child_rss, parent_rss = [], [], [], []
    with setup.tree(map_size="16GiB") as tree:
        central, imported = with_synthetic(setup, tree)
        dumped = tree.dir / "records"
        size = dump(central, dumped)
        central.start()
        generation = central.head()["generation"]
        for i in range(min(setup.runs, 2) + 1):
            child = tree.join(central, "B%02d" % i, start=False)
            with Memory(central) as above:
                child.start(wait=False)
                with Memory(child) as below:
                    wait_for(lambda: child.head()["generation"] == generation, 120, "the child is current", interval=0.05)
            ours.append(hop_seconds(child, generation))
            if child.head()["records"] != RECORDS:
                raise RuntimeError("the child holds %s records" % child.head()["records"])
            child_rss.append(below.peak / MIB)
            parent_rss.append(above.peak / MIB)
            child.stop()
            shutil.rmtree(child.dir / "metadata")
            theirs.append(bare("bare_bulk", dumped, FOLDER))
    return Row("million", "s", [
        Aim("million", "s", Sample(ours[1:]), Sample([b["seconds"] for b in theirs[1:]]), 2.5, True),
        Aim("child rss", "MiB", Sample(child_rss), None, 64, False),
        Aim("parent rss", "MiB", Sample(parent_rss), None, 64, False)],
        records=RECORDS, raw_bytes=size["bytes"], import_seconds=round(imported, 1), bytes_bare=theirs[0]["wire"])


def restart(setup):
    """kill -9 of all processes of a site that holds the million; from the start of sitetreed until a client has its
    head and a record, and until it says that it is ready."""
    serving, ready = [], []
    with setup.tree(map_size="16GiB") as tree:
        central, _ = with_synthetic(setup, tree)
        central.start()
        generation = central.head()["generation"]
        some = central.control("catalogue.list", limit=1)["updates"][0]["id"]
        for _ in range(setup.runs + 1):
            pids = central.pids()
            for pid in pids:  # the worker first: it must not have time to end well
                if process_name(pid).startswith("sitetree-"):
                    os.kill(pid, signal.SIGKILL)
            central.kill()
            wait_for(lambda: not any(process_name(p).startswith("sitetree") for p in pids), 10, "all are gone")
            start = time.monotonic()
            central.start(wait=False)

            def served():
                if central.head()["generation"] != generation:
                    return None
                return central.control("update.show", id=some)["id"] == some
            wait_for(served, 30, "the head and a record", interval=0.002)
            serving.append(time.monotonic() - start)
            wait_for(central.ready, 30, "ready", interval=0.002)
            ready.append(time.monotonic() - start)
    return Row("restart", "s", [Aim("serving", "s", Sample(serving[1:]), None, 0.3, False),
                                Aim("ready", "s", Sample(ready[1:]), None, 0.3, False)], records=RECORDS)


BENCHES = {"million": million, "restart": restart}

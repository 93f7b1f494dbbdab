"""The benches. Ours are the real programs on loopback with the real catalogue; times are those that the product itself
stores (when a hop asked, got, verified and committed) and, beside them, what a watch outside shows."""
import collections
import json
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import apt_repo
import sites
from report import Aim, Row, Sample
from sites import BUILD, wait_for

BARE = BUILD / "tests/bench"
MIB = 1024 * 1024


class Setup:
    def __init__(self, args, debian):
        self.runs, self.idle_seconds, self.keep, self.cache, self.debian = (
            args.runs, args.idle_seconds, args.keep, Path(args.cache), debian)

    def tree(self, **config):
        """Sites with the shipped timers: a bench measures what an operator gets."""
        return sites.Tree(keep=self.keep, production=True, schedule="0", **config)


def bare(program, *args):
    """Runs a bare loop in a folder of its own; what it printed. FOLDER in args stands for that folder."""
    folder = Path(tempfile.mkdtemp(prefix="sitetree-bare-"))
    try:
        words = [str(folder / "d") if a is FOLDER else str(a) for a in args]
        done = subprocess.run([str(BARE / program), *words], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError("%s: %s" % (program, done.stderr.strip()))
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


FOLDER = object()


def dump(site, path, since=0):
    """The records of a site that is not running, as the bare loops read them; {"records","bytes","zstd"...}."""
    done = subprocess.run([str(BARE / "catalogue_dump"), str(site.dir / "metadata"), str(path), str(since)],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def hop_seconds(site, generation):
    """The product's own time of the newest generation: from asking for it to its commit."""
    def committed():
        hop = site.control("sync.deliveries")["hop"]
        return hop if hop["generation"] == generation and hop["committed_ns"] >= hop["requested_ns"] else None
    hop = wait_for(committed, 10, "the times of generation %d at %s" % (generation, site.code))
    return (hop["committed_ns"] - hop["requested_ns"]) / 1e9


def with_debian(setup, tree, suites):
    """A central site that holds the real catalogue."""
    central = tree.central()
    for suite in suites:
        central.control("upstream.add", **setup.debian.upstream_args(suite))
    run = central.sync(full=True)
    if run["result"] != "succeeded":
        raise RuntimeError("the first run at the central site %s: %s" % (run["result"], run["reason"]))
    return central, run


# --- bootstrap -----------------------------------------------------------------------------------------------------------

def bootstrap(setup):
    """A fresh child of a parent that holds the catalogue: from its first request to the activated, durable generation."""
    ours, outside, theirs = [], [], []
    with setup.tree() as tree:
        central, _ = with_debian(setup, tree, ["bookworm"])
        records, generation = central.head()["records"], central.head()["generation"]
        central.stop()
        dumped = tree.dir / "records"
        dump(central, dumped)
        central.start()
        for i in range(setup.runs + 1):
            child = tree.join(central, "B%02d" % i, start=False)
            start = time.monotonic()
            child.start(wait=False)
            wait_for(lambda: child.head()["generation"] == generation, 60, "the child is current", interval=0.01)
            outside.append(time.monotonic() - start)
            ours.append(hop_seconds(child, generation))
            if child.head()["records"] != records:
                raise RuntimeError("the child holds %s of %d records" % (child.head()["records"], records))
            child.stop()
            theirs.append(bare("bare_bulk", dumped, FOLDER))
    ours, outside, theirs = ours[1:], outside[1:], theirs[1:]  # the first of each warms up
    return Row("bootstrap", "s", [Aim("bootstrap", "s", Sample(ours), Sample([b["seconds"] for b in theirs]), 2.0, True)],
               records=records, outside=Sample(outside).median, bytes_bare=theirs[0]["wire"])


# --- import --------------------------------------------------------------------------------------------------------------

def import_(setup):
    """From the apt index on disk to the published generation."""
    ours, outside, theirs = [], [], []
    for i in range(setup.runs):
        with setup.tree() as tree:
            start = time.monotonic()
            central, run = with_debian(setup, tree, setup.debian.suites)
            outside.append(time.monotonic() - start)
            ours.append(run["seconds"])
            records = central.head()["records"]
        theirs.append(bare("bare_import", FOLDER, *[setup.debian.index(s) for s in setup.debian.suites]))
    return Row("import", "s", [Aim("import", "s", Sample(ours), Sample([b["seconds"] for b in theirs]), 3.0, False)],
               records=records, outside=Sample(outside).median)


# --- catchup -------------------------------------------------------------------------------------------------------------

ADDED, CHANGED, REMOVED = 3041, 1000, 500


def repositories(setup, folder):
    """A repository of the real index, and what follows it: 3,041 added, 1,000 changed, 500 removed."""
    rng = random.Random(4)
    base = setup.debian.stanzas("bookworm")
    rng.shuffle(base)
    added = [s for suite in setup.debian.suites if suite != "bookworm" for s in setup.debian.stanzas(suite)]
    known = {apt_repo.identity(s) for s in base}
    added = [s for s in added if apt_repo.identity(s) not in known][:ADDED]
    base, held_back = base[ADDED - len(added):], base[:ADDED - len(added)]
    added += held_back
    after = [apt_repo.changed(s, "(rebuilt)") for s in base[:CHANGED]] + base[CHANGED:-REMOVED] + added
    return apt_repo.AptRepo(folder), sorted(base), sorted(after)


def catchup(setup):
    """A child that was stopped while the centre moved on: bytes on the link, and time from the link up to applied."""
    ours, wire, theirs, outside = [], [], [], []
    with setup.tree() as tree:
        repo, base, after = repositories(setup, tree.dir / "repo")
        repo.write(base)
        central = tree.central(start=False)
        proxy = tree.link_before(central)
        central.start()
        central.control("upstream.add", **repo.upstream_args("sample"))
        central.sync(full=True)
        children = [tree.join(central, "B%02d" % i) for i in range(setup.runs)]
        tree.wait_equal()
        for child in children:
            child.stop()
        serial = central.control("catalogue.scopes")["scopes"][0]["serial"]
        repo.write(after)
        run = central.sync(full=True)
        counts = {k: run[k] for k in ("added", "changed", "removed", "expired")}
        generation = central.head()["generation"]
        central.stop()
        changed = dump(central, tree.dir / "changed", since=serial)
        central.start()
        for child in children:
            first = proxy.count()
            start = time.monotonic()
            child.start(wait=False)
            wait_for(lambda: child.head()["generation"] == generation, 60, "the child has caught up", interval=0.005)
            outside.append(time.monotonic() - start)
            last = proxy.count()
            wire.append(last["down"] + last["up"] - first["down"] - first["up"])
            ours.append(hop_seconds(child, generation))
            child.stop()
            theirs.append(bare("bare_bulk", tree.dir / "changed", FOLDER)["seconds"])
    return Row("catchup", "bytes", [Aim("bytes", "bytes", Sample(wire), Sample([changed["zstd"]]), 1.15, True),
                                    Aim("time", "s", Sample(ours), Sample(theirs), 0.1, False)],
               outside=Sample(outside).median, records=changed["records"], raw_bytes=changed["bytes"], **counts)


# --- cascade -------------------------------------------------------------------------------------------------------------

HOPS, UPDATES, PER_SECOND = 4, 200, 20


def an_update(i):
    return json.dumps({"id": "bench-%06d" % i, "title": "Update %d of the bench" % i, "classification": "security",
                       "product": "bench", "severity": "important", "description": "One update of many. " * 20,
                       "cves": ["CVE-2026-%04d" % i], "package": "bench-%d" % i, "version": "1.%d" % i,
                       "architecture": "amd64"})


def cascade(setup):
    """Single updates down four durable hops: from the signing of their generation to the commit at the leaf."""
    p50, p99, theirs50, theirs99 = [], [], [], []
    with setup.tree() as tree:
        site = central = tree.central()
        for i in range(HOPS):
            site = tree.join(site, "S%d" % (i + 1), tier="branch" if i + 1 == HOPS else "secondary")
        leaf = site
        for i in range(50):  # warms up
            central.control("update.publish", json=an_update(i))
        tree.wait_equal()
        sample = tree.dir / "records"
        for run in range(setup.runs):
            first = central.head()["generation"]
            start = time.monotonic()
            for i in range(UPDATES):
                due = start + i / PER_SECOND
                time.sleep(max(0, due - time.monotonic()))  # the pace of the load
                central.control("update.publish", json=an_update(1000 * (run + 1) + i))
            tree.wait_equal()
            times = sorted((durable - signed) / 1e6 for generation, signed, _, durable in
                           leaf.control("sync.deliveries")["rows"] if generation > first and durable)
            if len(times) < UPDATES:
                raise RuntimeError("the leaf tells of %d generations, not %d" % (len(times), UPDATES))
            p50.append(times[len(times) // 2])
            p99.append(times[len(times) * 99 // 100])
            if run == 0:
                central.stop()
                dump(central, sample)
                central.start()
                tree.wait_equal()
            b = bare("bare_chain", sample, FOLDER, HOPS, UPDATES, PER_SECOND, "store")
            theirs50.append(b["p50_ms"])
            theirs99.append(b["p99_ms"])
    return Row("cascade", "ms", [Aim("p50", "ms", Sample(p50), Sample(theirs50), 2.0, True),
                                 Aim("p99", "ms", Sample(p99), Sample(theirs99), 3.0, True)],
               hops=HOPS, updates=UPDATES, per_second=PER_SECOND)


# --- idle ----------------------------------------------------------------------------------------------------------------

PERIOD = 300  # s: of the slowest that an idle link carries (report, ping of the hint lane); 60 s of the heartbeat divide it
QUIET = 5  # s without a byte before the window, so that nothing periodic falls on its edges


def rss_without_map(pid):
    """Resident bytes of a process without the mappings of LMDB data files."""
    total, skip = 0, False
    for line in Path("/proc/%d/smaps" % pid).read_text().splitlines():
        first = line.split(" ", 1)[0]
        if "-" in first and not first.endswith(":"):
            skip = line.endswith(("/data.mdb", "/lock.mdb"))
        elif first == "Rss:" and not skip:
            total += int(line.split()[1]) * 1024
    return total


def moved(proxy):
    count = proxy.count()
    return count["up"], count["down"]


def idle(setup):
    """A leaf that holds the catalogue and has nothing to do: memory of all its processes, bytes on its link.

    The link is counted outside, by a proxy: TCP payload of both lanes and both directions, with the shipped timers. What
    is sent then is periodic: a heartbeat and its answer each 60 s, a report and a ping of the hint lane each 300 s.
    The window is as long as the longest of these, or a multiple of it, and begins when the link was silent for 5 s, so each
    is in it a whole number of times; a day is the window times 86400 / its length. Not in it: the head that is asked for
    each half hour, 48 small questions a day. `sent` tells what was seen: bytes up/down and how often."""
    window = max(1, setup.idle_seconds // PERIOD) * PERIOD
    with setup.tree() as tree:
        central = tree.central(start=False)
        proxy = tree.link_before(central)
        central.start()
        for suite in setup.debian.suites:
            central.control("upstream.add", **setup.debian.upstream_args(suite))
        central.sync(full=True)
        leaf = tree.join(central, "B01")
        tree.wait_equal()
        wait_for(lambda: leaf.status()["state"] == "live", 30, "the leaf is live")
        before, since, rss, sampled, sent = moved(proxy), time.monotonic(), [], 0, collections.Counter()
        start = first = None
        while start is None or time.monotonic() - start < window:
            now = moved(proxy)
            if now != before:
                since = time.monotonic()
                sent["%d/%d" % (now[0] - before[0], now[1] - before[1])] += start is not None
            elif start is None and time.monotonic() - since >= QUIET:
                start, first = time.monotonic(), now
            before = now
            if start and time.monotonic() - start > 5 * sampled:
                rss.append(sum(rss_without_map(p) for p in leaf.pids()) / MIB)
                sampled += 1
            time.sleep(0.1)  # the pace of the samples
        total = sum(moved(proxy)) - sum(first)
        by_process = {sites.process_name(p): round(rss_without_map(p) / MIB, 1) for p in leaf.pids()}
        records = leaf.head()["records"]
    return Row("idle", "MiB", [Aim("rss", "MiB", Sample(rss), None, 32, False),
                               Aim("link", "MiB/day", Sample([total * 86400 / window / MIB]), None, 0.5, False)],
               records=records, seconds=window, window_bytes=total, processes=str(by_process),
               sent=" ".join("%s x%d" % (k, n) for k, n in sorted(sent.items()) if n))


BENCHES = {"bootstrap": bootstrap, "import": import_, "catchup": catchup, "cascade": cascade, "idle": idle}

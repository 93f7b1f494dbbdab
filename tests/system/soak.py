#!/usr/bin/python3
"""./dev soak [MINUTES] [--seed N]: a tree under random faults while the catalogue goes on changing; at the end every site
must hold the same bytes. Faults: kill -9 and SIGSTOP of nodes and workers, links cut, held and slowed."""
import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))
from apt_repo import AptRepo, changed, sample, stanza  # noqa: E402
from sites import CommandError, Failure, Tree, wait_for  # noqa: E402


class Soak:
    def __init__(self, seed, tree, repo):
        self.rng, self.tree, self.repo = random.Random(seed), tree, repo
        self.now, self.step, self.healing = sample(2000), 0, []
        self.counts = {}

    def build(self):
        self.repo.write(self.now)
        central = self.tree.central(start=False)
        self.links = [self.tree.link_before(central)]
        central.start()
        central.control("upstream.add", **self.repo.upstream_args("sample"))
        central.sync(full=True)
        for name in "P01", "P02":
            primary = self.tree.join(central, name, tier="primary", start=False)
            self.links.append(self.tree.link_before(primary))
            primary.start()
            for branch in "1", "2":
                self.tree.join(primary, "B%s%s" % (name[2], branch))
        self.tree.wait_equal()

    # faults: each is undone after a while, by (time, function)

    def later(self, seconds, undo):
        self.healing.append((time.monotonic() + seconds, undo))

    def heal(self, all_of_them=False):
        due = [h for h in self.healing if all_of_them or h[0] <= time.monotonic()]
        self.healing = [h for h in self.healing if h not in due]
        for _, undo in due:
            undo()

    def site(self):
        up = [s for s in self.tree.sites.values() if s.running()]
        return self.rng.choice(up) if up else None

    def kill_node(self):
        site = self.site()
        if site:
            site.kill()
            self.later(self.rng.uniform(0, 3), lambda: site.running() or site.start(wait=False))

    def kill_worker(self):
        site = self.site()
        pid = site and site.worker_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)

    def freeze(self):
        site = self.site()
        pid = site and self.rng.choice([site.process.pid, site.worker_pid() or site.process.pid])
        if pid:
            os.kill(pid, signal.SIGSTOP)
            self.later(self.rng.uniform(0.5, 5), lambda: self.thaw(pid))

    @staticmethod
    def thaw(pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def link_fault(self):
        link = self.rng.choice(self.links)
        fault = self.rng.choice(["cut", "hold", "slow", "drip"])
        if fault == "slow":
            link.rate(50_000, 100_000)
            self.later(self.rng.uniform(1, 5), lambda: link.rate(0, 0))
        elif fault == "drip":
            link.drip(3)
            self.later(self.rng.uniform(1, 5), lambda: link.drip(0))
        else:
            link.tell(fault)
            self.later(self.rng.uniform(0.5, 8), link.heal)

    def change(self):
        """The upstream moves on; the centre is told when it listens."""
        self.step += 1
        self.now = [changed(s, "s%d" % self.step) if self.rng.random() < 0.02 else s
                    for s in self.now if self.rng.random() > 0.005]
        self.now += [stanza("s%d-%d" % (self.step, i)) for i in range(self.rng.randrange(40))]
        self.repo.write(self.now)
        try:
            self.tree.sites["CEN"].control("sync.now", timeout=2, full=self.rng.random() < 0.5)
        except (OSError, CommandError):
            pass

    def run(self, minutes):
        end = time.monotonic() + minutes * 60
        acts = [self.change, self.change, self.kill_node, self.kill_worker, self.freeze, self.link_fault]
        while time.monotonic() < end:
            act = self.rng.choice(acts)
            self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
            act()
            pause = time.monotonic() + self.rng.uniform(0.05, 1.0)
            while time.monotonic() < pause:  # the pace of the faults; nothing is expected within it
                self.heal()
                time.sleep(0.05)
        self.heal(all_of_them=True)
        for site in self.tree.sites.values():
            if not site.running():
                site.process = None
                site.start(wait=False)

    def settle(self):
        central = self.tree.sites["CEN"]
        wait_for(central.ready, 60, "the central site is ready")

        def succeeded():
            return central.sync(full=True)["result"] == "succeeded"
        wait_for(succeeded, 180, "a last run succeeds", interval=1)
        for site in self.tree.sites.values():
            wait_for(site.ready, 60, "%s is ready" % site.code)
        start = time.monotonic()
        self.tree.wait_equal(180)
        print("equal %.1f s after the last fault" % (time.monotonic() - start))
        result = self.tree.verify_all()
        live = central.control("catalogue.count", by="state")
        active = next(c["records"] for c in live["counts"] if c["value"] == "active")
        if active != len(self.now):
            raise Failure("%d active updates, the upstream has %d" % (active, len(self.now)))
        print("generation %s, root %s, %d active updates, %d sites" % (
            result["generation"], result["root"][:8], active, len(self.tree.sites)))


def main():
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__.split("\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1000000)
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    args = parser.parse_args()
    print("seed %d, %g minutes" % (args.seed, args.minutes), flush=True)
    with tempfile.TemporaryDirectory(prefix="sitetree-repo-") as folder:
        repo = AptRepo(folder)
        try:
            with Tree(keep=args.keep) as tree:
                soak = Soak(args.seed, tree, repo)
                soak.build()
                soak.run(args.minutes)
                soak.settle()
                print("faults: %s" % ", ".join("%s %d" % item for item in sorted(soak.counts.items())))
        except Failure as error:
            print("failed (seed %d): %s" % (args.seed, error), file=sys.stderr)
            return 1
        finally:
            repo.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

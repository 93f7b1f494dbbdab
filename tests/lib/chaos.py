"""A seven-site tree under random faults while its catalogue goes on changing: kill -9 and SIGSTOP of nodes and
workers, links cut, held, slowed and made to drip, sync runs and single updates all the while.

At every look a site's generation is at least the one before (P2). At the end, within the time that is given for it and
with no operator's help (P12), every site shows the same root, recomputed from its stored pages, everything that the
upstream offers, and everything that the central site ever acknowledged.
"""
import os
import random
import signal
import time

from apt_repo import changed, identity, sample, stanza
from ledger import Ledger, listing
from sites import CommandError, Failure, Tree, wait_for


class Chaos:
    def __init__(self, seed, tree, repo, packages=2000):
        self.rng, self.tree, self.repo = random.Random(seed), tree, repo
        self.now, self.step, self.healing = sample(packages), 0, []
        self.ledger = Ledger(self.rng)
        self.counts, self.seen = {}, {}

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
        return self

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

    # what goes on meanwhile

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

    def publish(self):
        self.ledger.act(self.tree.sites["CEN"])

    def look(self):
        """No site goes back within an epoch."""
        site = self.site()
        try:
            head = site and site.control("catalogue.show", timeout=1)
        except (OSError, CommandError):
            return
        if not head or not head["generation"]:
            return
        epoch, generation = self.seen.get(site.code, (None, 0))
        if head["epoch"] == epoch and head["generation"] < generation:
            raise Failure("%s went back from generation %d to %d" % (site.code, generation, head["generation"]))
        self.seen[site.code] = (head["epoch"], head["generation"])

    def run(self, seconds):
        end = time.monotonic() + seconds
        acts = [self.change, self.change, *4 * [self.publish], self.kill_node, self.kill_worker, self.freeze,
                self.link_fault]
        while time.monotonic() < end:
            act = self.rng.choice(acts)
            self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
            act()
            pause = time.monotonic() + self.rng.uniform(0.05, 0.5)
            while time.monotonic() < pause:  # the pace of the faults; nothing is expected within it
                self.heal()
                self.look()
                time.sleep(0.05)
        self.heal(all_of_them=True)
        for site in self.tree.sites.values():
            if not site.running():
                site.process = None
                site.start(wait=False)
        return self

    # the end

    def settle(self, seconds=180):
        """Returns what was found, as a line of text."""
        central = self.tree.sites["CEN"]
        wait_for(central.ready, 60, "the central site is ready")
        wait_for(lambda: central.sync(full=True)["result"] == "succeeded", seconds, "a last run succeeds", interval=1)
        for site in self.tree.sites.values():
            wait_for(site.ready, 60, "%s is ready" % site.code)
        start = time.monotonic()
        self.tree.wait_equal(seconds)
        took = time.monotonic() - start
        result = self.tree.verify_all()
        offered = {"deb/%s/%s/%s" % identity(s) for s in self.now}
        for site in self.tree.sites.values():
            shown = self.ledger.check(site)
            active = {u["id"] for u in listing(site, state="active") if u["id"].startswith("deb/")}
            if active != offered:
                raise Failure("%s: missing %s, left over %s" % (
                    site.code, sorted(offered - active)[:10], sorted(active - offered)[:10]))
        faults = ", ".join("%s %d" % item for item in sorted(self.counts.items()))
        return ("generation %s, root %s: %d offered and %d acknowledged updates (%d of %d commands without an answer) at %d "
                "sites, equal %.1f s after the last fault; %s" % (
                    result["generation"], result["root"][:8], len(offered), len(shown), self.ledger.unanswered,
                    self.ledger.unanswered + self.ledger.acknowledged, len(self.tree.sites), took, faults))


def chaos(seed, repo, seconds, **tree_options):
    with Tree(**tree_options) as tree:
        return Chaos(seed, tree, repo).build().run(seconds).settle()

"""The product itself, at the same works."""
import time

import apt_repo
import bench_repair
import benches
import sites
from peers.common import HOPS, UPDATES, Result, cpu_seconds, disk, latencies, memory, paced, through
from sites import wait_for

NAME, PACKAGES, DURABLE = "ours", [], "every hop flushes; encrypted, verified, indexed"


class Site:
    """A site as the measures of common.py see it."""

    def __init__(self, site):
        self.site = site

    def pids(self):
        return self.site.pids()


class Peer:
    def __init__(self, place, data):
        self.place, self.data = place, data
        self.tree = sites.Tree(production=True, schedule="0")

    def central(self, stanzas):
        repo = apt_repo.AptRepo(self.tree.dir / ("repo%d" % len(self.tree.sites)))
        repo.write(sorted(stanzas))
        for site in self.tree.sites.values():
            site.destroy()
        central = self.tree.central("CEN%d" % len(self.tree.sites), start=False)
        proxy = self.tree.link_before(central)
        central.start()
        central.control("upstream.add", **repo.upstream_args("sample"))
        central.sync(full=True)
        return repo, central, proxy

    def follow(self, central, child, proxy):
        generation = central.head()["generation"]
        before, cpu = through(proxy), cpu_seconds(Site(central))
        child.start(wait=False)
        wait_for(lambda: child.head()["generation"] == generation, 60, "the child is current", interval=0.005)
        return Result(benches.hop_seconds(child, generation), wire=through(proxy) - before,
                      cpu=cpu_seconds(Site(central), Site(child)) - cpu, rss=memory(Site(child)), disk=disk(child.dir))

    def bootstrap(self):
        _, central, proxy = self.central(v.encode() for v in self.data.all.values())
        return self.follow(central, self.tree.join(central, "B01", start=False), proxy)

    def catchup(self):
        repo, central, proxy = self.central(v.encode() for v in self.data.base.values())
        child = self.tree.join(central, "B02", start=False)
        self.follow(central, child, proxy)
        child.stop()
        repo.write(sorted(v.encode() for v in self.data.after.values()))
        central.sync(full=True)
        return self.follow(central, child, proxy)

    def cascade(self):
        for site in self.tree.sites.values():
            site.destroy()
        site = central = self.tree.central("TOP")
        chain = [central]
        for i in range(HOPS):
            site = self.tree.join(site, "S%d" % (i + 1), tier="branch" if i + 1 == HOPS else "secondary")
            chain.append(site)
        for i in range(20):
            central.control("update.publish", json=benches.an_update(i))
        self.tree.wait_equal(sites=chain)
        first = central.head()["generation"]
        paced(UPDATES, lambda i: central.control("update.publish", json=benches.an_update(1000 + i)))
        self.tree.wait_equal(sites=chain)
        rows = [r for r in site.control("sync.deliveries")["rows"] if r[0] > first]
        p50, p99 = latencies({g: signed / 1e9 for g, signed, _, _ in rows}, {g: durable / 1e9 for g, _, _, durable in rows})
        return Result(p50=p50, p99=p99, cpu=cpu_seconds(*[Site(s) for s in chain]), rss=memory(Site(site)),
                      note="from the signature to the leaf's commit")

    def repair(self):
        _, central, proxy = self.central(v.encode() for v in self.data.all.values())
        child = self.tree.join(central, "B03", start=False)
        self.follow(central, child, proxy)
        child.stop()
        bench_repair.damage(child, 1)
        child.start()
        wait_for(lambda: child.status()["state"] == "live", 30, "the child is live")
        before = through_when_quiet(proxy)
        cpu, start = cpu_seconds(Site(central), Site(child)), time.monotonic()
        child.control("repair")
        wait_for(lambda: child.control("sync.status")["state"] == "live", 30, "mended", interval=0.002)
        seconds = time.monotonic() - start
        if not child.control("verify")["ok"]:
            raise RuntimeError("not mended")
        return Result(seconds, wire=through(proxy) - before, cpu=cpu_seconds(Site(central), Site(child)) - cpu,
                      rss=memory(Site(child)), disk=disk(child.dir), note="noticed by itself, in the background or asked")

    def close(self):
        self.tree.__exit__(None, None, None)


def through_when_quiet(proxy):
    counts = bench_repair.link_is_quiet(proxy)
    return counts["up"] + counts["down"]

"""100 records that are silently wrong or missing in the store of a child: found, fetched again, verified."""
import json
import subprocess
import time

from benches import BARE
from report import Aim, Row, Sample
from sites import wait_for

DAMAGED = 100
KIB = 1024


def damage(site, seed):
    """Behind the back of a site that is not running."""
    done = subprocess.run([str(BARE / "catalogue_damage"), str(site.dir / "metadata"), str(DAMAGED), str(seed)],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def link_is_quiet(proxy):
    """Waits until the greetings after a start are over; the counts then."""
    counts = [proxy.count()]

    def quiet():
        counts.append(proxy.count())
        return (counts[-1]["up"], counts[-1]["down"]) == (counts[-2]["up"], counts[-2]["down"])
    wait_for(quiet, 30, "the link is quiet", interval=0.5)
    return counts[-1]


def repair(setup):
    """From the command to the last page in its place, each checked against the signed root; then `verify`, which reads
    all again, must agree."""
    seconds, wire, verified = [], [], []
    with setup.tree() as tree:
        central = tree.central(start=False)
        proxy = tree.link_before(central)
        central.start()
        for suite in setup.debian.suites:
            central.control("upstream.add", **setup.debian.upstream_args(suite))
        central.sync(full=True)
        child = tree.join(central, "B01")
        tree.wait_equal()
        for i in range(setup.runs + 1):
            child.stop()
            spoilt = damage(child, i)
            child.start()
            wait_for(lambda: child.status()["state"] == "live", 30, "the child is live")
            before = child.control("repair", dry_run=True)
            if before["bad"] != spoilt["pages"]:
                raise RuntimeError("%d pages were damaged, %d found" % (spoilt["pages"], before["bad"]))
            first = link_is_quiet(proxy)
            start = time.monotonic()
            told = child.control("repair")
            wait_for(lambda: child.control("sync.status")["state"] == "live", 30, "mended", interval=0.002)
            seconds.append(time.monotonic() - start)
            checked = child.control("verify")
            verified.append(time.monotonic() - start)
            last = proxy.count()
            wire.append((last["up"] + last["down"] - first["up"] - first["down"]) / KIB)
            if told["bad"] != spoilt["pages"] or not checked["ok"]:
                raise RuntimeError("after the repair %s" % checked)
        records = child.head()["records"]
    return Row("repair", "s", [Aim("time", "s", Sample(seconds[1:]), None, 0.3, False),
                               Aim("link", "KiB", Sample(wire[1:]), None, 300, False)],
               records=records, damaged=DAMAGED, pages=spoilt["pages"], with_verify=Sample(verified[1:]).median)


BENCHES = {"repair": repair}

"""The first filling of a child while its link is cut 20 times and the head moves 50 times: what comes twice."""
import random
import time

from report import Aim, Row, Sample
from sites import wait_for

CUTS, MOVES = 20, 50
RATE = 4e6  # bytes a second, so that the cuts fall into the middle of it


def fill(tree, central, proxy, code, on_bytes):
    """A fresh child until it is current; bytes that came to it. on_bytes(n) is called all the time."""
    child = tree.join(central, code, start=False)
    first = proxy.count()["down"]
    start = time.monotonic()
    child.start(wait=False)

    def current():
        on_bytes(proxy.count()["down"] - first)
        return child.head()["generation"] == central.head()["generation"]
    wait_for(current, 120, "%s is current" % code, interval=0.002)
    seconds = time.monotonic() - start
    wait_for(lambda: child.status()["state"] == "live", 30, "%s is live" % code)
    return child, proxy.count()["down"] - first, seconds


def moving(setup):
    """Needed is what an undisturbed child takes in, and what 50 moves of the head bring to one that is live; the rest
    came twice, or was lost in a cut."""
    twice, seconds, numbers = [], [], {}
    with setup.tree() as tree:
        central = tree.central(start=False)
        proxy = tree.link_before(central)
        central.start()
        central.control("upstream.add", **setup.debian.upstream_args("bookworm"))
        central.sync(full=True)
        scope = central.control("catalogue.scopes")["scopes"][0]["scope"]
        ids = [u["id"] for u in central.control("catalogue.list", scope=scope, limit=5000)["updates"]]
        random.Random(7).shuffle(ids)
        proxy.rate(0, RATE)

        def move():
            central.control("update.expire", id=ids.pop())
        for run in range(max(1, min(setup.runs, 3))):
            calm, needed, _ = fill(tree, central, proxy, "C%02d" % run, lambda n: None)
            before = proxy.count()["down"]
            for _ in range(MOVES):
                move()
            tree.wait_equal(sites=[central, calm])
            moves = proxy.count()["down"] - before
            calm.stop()
            cuts = [needed * (i + 1) / (CUTS + 1) for i in range(CUTS)]
            heads = [needed * (i + 0.5) / (MOVES + 1) for i in range(MOVES)]

            def on_bytes(n):
                if heads and n >= heads[0]:
                    heads.pop(0)
                    move()
                if cuts and n >= cuts[0]:
                    cuts.pop(0)
                    proxy.hold()  # nothing passes any more, and what had passed is read, as when a cable is pulled
                    time.sleep(0.01)
                    proxy.cut()
                    proxy.heal()
            child, got, took = fill(tree, central, proxy, "M%02d" % run, on_bytes)
            if cuts or heads:
                raise RuntimeError("current before the last %d cuts and %d moves" % (len(cuts), len(heads)))
            checked = child.control("verify")
            if not checked["ok"] or checked["root"] != central.head()["root"]:
                raise RuntimeError("the child is wrong after the cuts: %s" % checked)
            child.stop()
            twice.append(100.0 * (got - needed - moves) / needed)
            seconds.append(took)
            numbers = {"needed_bytes": needed, "bytes_of_moves": moves, "came_bytes": got}
    return Row("moving", "%", [Aim("sent twice", "%", Sample(twice), None, 3, False)],
               cuts=CUTS, moves=MOVES, rate=RATE, seconds=Sample(seconds).median, **numbers)


BENCHES = {"moving": moving}

"""A link of 8 kbit/s with far more waiting than it can carry: it stays up, it is used, and a head does not wait behind
the bulk. Ten times as fast for half a minute here; SITETREE_SLOW_SECONDS=600 is the real thing, with the timers of a
real site."""
import os
import time

import pytest

from apt_repo import AptRepo, sample
from sites import Tree, wait_for

REAL = float(os.environ.get("SITETREE_SLOW_SECONDS", "0"))
RATE = 1000 if REAL else 10_000  # bytes/s
SECONDS = REAL or 25
PACKAGES = 40_000 if REAL else 15_000  # 2 MB and more on the wire, 700 KB
HEAD_WITHIN = 6 * (10_000 / RATE)


@pytest.fixture
def slow(tmp_path):
    options = {"heartbeat": "20s", "report_interval": "60s", "poll_interval": "60s"} if REAL else {
        "heartbeat": "2s", "report_interval": "5s", "poll_interval": "5s", "request_timeout": "20s"}
    repo = AptRepo(tmp_path / "repo")
    repo.write(sample(50))
    with Tree(production=bool(REAL), schedule="0", **options) as tree:
        central = tree.central(start=False)
        link = tree.link_before(central)
        central.start()
        central.control("upstream.add", **repo.upstream_args("sample"))
        assert central.sync(full=True)["result"] == "succeeded"
        child = tree.join(central, "B01")
        tree.wait_equal()
        yield tree, repo, central, child, link
    repo.close()


def known(child):
    """The newest generation that the child has heard and checked, applied or not."""
    return child.control("explain")["newest"] or 0


def test_a_slow_link_is_used_and_stays_up(slow):
    tree, repo, central, child, link = slow
    link.rate(RATE, RATE)
    repo.write(sample(50) + sample(PACKAGES, seed=9, prefix="bulk"))
    assert central.sync(full=True)["result"] == "succeeded"
    wait_for(lambda: known(child) >= central.head()["generation"], 3 * HEAD_WITHIN, "the child knows of the generation")
    wait_for(lambda: link.count()["down"] > 0 and child.status()["state"] == "walk", 3 * HEAD_WITHIN, "it walks")
    first, start, heads, asked = link.count(), time.monotonic(), [], 0
    while time.monotonic() - start < SECONDS:
        asked += 1
        central.control("update.publish", json='{"id":"h-%d","title":"h"}' % asked, publisher="acme")
        generation, since = central.head()["generation"], time.monotonic()
        wait_for(lambda: known(child) >= generation, HEAD_WITHIN, "a head passes ahead of the bulk")
        heads.append(time.monotonic() - since)
        assert child.control("links")["links"][0]["state"] == "live"
        pause = min(time.monotonic() + SECONDS / 8, start + SECONDS)
        wait_for(lambda: time.monotonic() >= pause, SECONDS, "the next head", interval=0.1)
    last = link.count()
    used = (last["down"] - first["down"]) / (RATE * (time.monotonic() - start))
    print("%.0f s at %d bytes/s: %.0f %% used, %d heads, the slowest after %.1f s, %d connections made" % (
        time.monotonic() - start, RATE, 100 * used, asked, max(heads), last["accepted"] - first["accepted"]))
    assert child.head()["records"] == 50, "the bulk was over too soon to show anything"
    assert used >= 0.85
    assert last["accepted"] == first["accepted"], "the link was made again"
    link.rate(0, 0)
    tree.wait_equal(60)
    tree.verify_all()

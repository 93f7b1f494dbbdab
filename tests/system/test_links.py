"""Links that are slow, limited, silent or frozen: seen from both ends, and they heal by themselves."""
import time

import pytest

from apt_repo import sample
from sites import paused, wait_for


@pytest.fixture
def pair(tree, central):
    central.stop()
    link = tree.link_before(central)
    central.start()
    child = tree.join(central, "B01")
    tree.wait_equal()
    wait_for(lambda: child_class(central) == "live", 10, "the parent sees the child live")
    return central, child, link


def child_class(central):
    return next(s["class"] for s in central.control("tree")["sites"] if s["site"] == "B01")


def grow(repo, central, n=6000):
    repo.write(sample(300) + sample(n, seed=4, prefix="bulk"))
    run = central.sync(full=True)
    assert run["result"] == "succeeded", run


def test_a_silent_link_is_seen_from_both_ends_and_heals(tree, repo, pair):
    central, child, link = pair
    link.hold()
    wait_for(lambda: child_class(central) == "not-heard", 15, "the parent does not hear the child")
    wait_for(lambda: child.control("links")["links"][0]["state"] != "live", 15, "the child does not hear the parent")
    explained = central.cli("explain", "B01", ok=(3,)).data
    assert explained["current"] is not True and explained["cause"] in ("parent-not-heard", "not-heard"), explained
    grow(repo, central, 50)
    link.heal()
    tree.wait_equal(30)
    wait_for(lambda: child_class(central) == "live", 15, "the parent sees the child live")


def test_a_cut_link_heals(tree, repo, pair):
    central, child, link = pair
    for _ in range(3):
        link.cut()
        wait_for(lambda: child.control("links")["links"][0]["state"] != "live", 15, "the child knows")
        link.heal()
        wait_for(lambda: child.control("links")["links"][0]["state"] == "live", 20, "the link is back")
    grow(repo, central, 50)
    tree.wait_equal(30)


def test_a_frozen_parent_and_a_frozen_worker(tree, repo, pair):
    central, child, _ = pair
    with paused(central.process.pid):
        wait_for(lambda: child.control("links")["links"][0]["state"] != "live", 15, "the child does not hear the parent")
        assert child.head()["records"] == 300
    grow(repo, central, 50)
    tree.wait_equal(30)
    with paused(child.worker_pid()):
        grow(repo, central, 80)
    tree.wait_equal(30)


def test_liveness_does_not_depend_on_bulk(tree, repo, pair):
    """Heartbeats and reports go on while the link is full of catalogue for several times what counts as silence."""
    central, child, link = pair
    link.rate(0, 60_000)
    grow(repo, central, 8000)
    generation = central.head()["generation"]
    start, classes = time.monotonic(), set()
    while child.head()["generation"] < generation:
        classes.add(child_class(central))
        assert child.control("links")["links"][0]["state"] == "live"
        assert time.monotonic() - start < 120
        time.sleep(0.1)
    assert time.monotonic() - start > 4, "the bulk was over too soon to show anything"
    assert "not-heard" not in classes, classes
    tree.verify_all()


def test_the_rate_limit_holds_and_is_reloaded(tree, repo, pair):
    central, child, link = pair
    central.write_config(down_rate="50KiB")
    central.cli("reload")
    first, start = link.count()["down"], time.monotonic()
    grow(repo, central, 8000)
    wait_for(lambda: link.count()["down"] - first > 150_000, 30, "bulk has moved")
    seconds = time.monotonic() - start
    moved = link.count()["down"] - first
    assert moved / seconds < 1.5 * 50 * 1024 + 100_000 / seconds, (moved, seconds)
    central.write_config(down_rate="0")
    central.cli("reload")
    tree.wait_equal(30)


def test_a_drip_of_bytes(tree, repo, pair):
    """Frames that come in pieces of a few bytes are the same frames."""
    central, _, link = pair
    link.drip(7)
    grow(repo, central, 200)
    tree.wait_equal(60)
    tree.verify_all()

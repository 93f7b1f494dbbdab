"""Recalls with real processes: ahead of a catalogue that fills a link of 8 kbit/s, and of a site that is away."""
import time

from apt_repo import sample
from sites import wait_for

SLOW = {"heartbeat": "5s", "report_interval": "20s", "poll_interval": "60s", "request_timeout": "20s", "hello_timeout": "20s"}


def ids(site, n):
    return [u["id"] for u in site.control("catalogue.list", limit=n)["updates"]]


def state_of(site, update):
    return site.control("update.show", id=update)["state"]


def rows(answer):
    return {s["site"]: s for s in answer["sites"]}


def test_a_recall_passes_the_bulk_of_a_slow_link(tree, repo, central):
    tree.config.update(SLOW)
    central.stop()
    link = tree.link_before(central)
    central.write_config(**SLOW)
    central.start()
    primary = tree.join(central, "P01", tier="primary")
    branch = tree.join(primary, "B11")
    tree.wait_equal()
    bad, worse = ids(central, 2)
    before = primary.head()["generation"]
    link.rate(1000, 1000)
    accepted = link.count()["accepted"]
    repo.write(sample(300) + sample(12000, seed=4, prefix="bulk"))
    assert central.sync(full=True)["result"] == "succeeded"
    wait_for(lambda: primary.control("sync.status")["state"] == "walk", 60, "the primary walks")
    first = link.count()["down"]
    wait_for(lambda: link.count()["down"] - first > 10000, 60, "the link is full of catalogue")

    start = time.monotonic()
    done = central.cli("recall", bad, "--wait", "--timeout", "60s", timeout=90).data
    seconds = time.monotonic() - start
    print("recall in force at all three sites after %.1f s, %d bytes after the first" % (seconds, link.count()["down"] - first))
    assert {c: s["state"] for c, s in rows(done).items()} == {"CEN": "confirmed", "P01": "ahead", "B11": "ahead"}, done
    for site in (primary, branch):
        assert site.head()["generation"] == before
        shown = site.control("update.show", id=bad)
        assert shown["state"] == "expired" and shown["recalled"] == done["generation"], shown
        assert state_of(site, worse) == "active"
    assert link.count()["accepted"] == accepted, "the link was dialled again"

    link.rate(0, 0)
    tree.wait_equal(120)
    again = central.cli("recall", bad, "--wait", "--timeout", "30s").data
    assert again["generation"] == done["generation"]
    wait_for(lambda: set(s["state"] for s in central.control("recall.show", id=bad)["sites"]) == {"confirmed"}, 30,
             "all have applied it")
    tree.verify_all()


def test_a_site_that_is_away_is_named(tree, repo, central):
    child = tree.join(central, "B01")
    away = tree.join(central, "B02")
    tree.wait_equal()
    bad, worse = ids(central, 2)
    away.stop()
    wait_for(lambda: {s["site"]: s["class"] for s in central.control("tree")["sites"]}["B02"] == "not-heard", 30,
             "the central site misses it")
    done = central.cli("recall", bad, "--wait", "--timeout", "30s", ok=(3,)).data
    assert rows(done)["B01"]["state"] == "confirmed" and rows(done)["B01"]["at"], done
    assert rows(done)["B02"]["state"] == "offline" and rows(done)["B02"]["cause"] == "not-heard", done
    assert (done["confirmed"], done["offline"], done["of"]) == (2, 1, 3), done
    listed = child.cli("recall").data["recalls"]
    assert [r["id"] for r in listed] == [bad] and listed[0]["of"] == 1, listed
    assert child.cli("recall", worse, ok=(1,)).error == "not-central"
    planned = central.cli("recall", worse, "--dry-run", ok=(3,)).data
    assert planned["state"] == "active" and state_of(central, worse) == "active"
    away.start()
    assert central.cli("recall", bad, "--wait", "--timeout", "30s").data["confirmed"] == 3
    assert state_of(away, bad) == "expired"

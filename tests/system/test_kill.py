"""kill -9 of each process at each place of the tree while a sync is under way: it converges, and every byte is right."""
import pytest

from apt_repo import changed, sample
from sites import wait_for

MANY = 4000


@pytest.fixture
def line(tree, central):
    """Central, middle, leaf; the links between them are slow enough for a sync to be met in the middle."""
    central.stop()
    link = tree.link_before(central)
    central.start()
    middle = tree.join(central, "P01", tier="primary")
    leaf = tree.join(middle, "B11")
    tree.wait_equal()
    return central, middle, leaf, link


def restart(site):
    if not site.running():
        site.start()


@pytest.mark.parametrize("who", [0, 1, 2], ids=["centre", "middle", "leaf"])
@pytest.mark.parametrize("what", ["node", "worker"])
def test_kill_during_a_sync(tree, repo, line, who, what):
    central, middle, leaf, link = line
    link.rate(0, 400_000)
    repo.write([changed(s, "again") for s in sample(300)] + sample(MANY, seed=2, prefix="more"))
    run = central.control("sync.now", full=True)["run"]
    if who == 0:
        wait_for(lambda: central.control("sync.show", run=run)["phase"], 10, "it runs")
    else:
        count = link.count()["down"]
        wait_for(lambda: link.count()["down"] > count + 20_000, 20, "the generation is on its way")
    victim = line[who]
    if what == "node":
        victim.kill()
        restart(victim)
    else:
        old = victim.kill_worker()
        wait_for(lambda: victim.worker_pid() not in (None, old), 20, "the node started a new worker")
    link.rate(0, 0)
    # The run is over one way or the other; a failed one is tried again later by itself, here by hand.
    record = central.wait_run(run)
    if who == 0 and record["result"] != "succeeded":
        record = central.sync(full=True)
    assert record["result"] == "succeeded", record
    tree.wait_equal(60)
    assert leaf.head()["records"] == 300 + MANY
    tree.verify_all()


def test_everything_dies_at_once(tree, repo, line):
    central, middle, leaf, link = line
    link.rate(0, 300_000)
    repo.write(sample(300) + sample(MANY, seed=3, prefix="extra"))
    run = central.control("sync.now", full=True)["run"]
    count = link.count()["down"]
    wait_for(lambda: link.count()["down"] > count + 20_000, 20, "the generation is on its way")
    assert central.wait_run(run)["result"] == "succeeded"
    for site in (central, middle, leaf):
        site.kill()
    for site in (leaf, middle, central):
        site.start()
    link.rate(0, 0)
    tree.wait_equal(60)
    assert leaf.head()["records"] == 300 + MANY
    tree.verify_all()


def test_a_cut_link_does_not_lose_what_came_over_it(tree, repo, line):
    """What was received and verified is never sent again: two halves cost little more than one whole."""
    central, middle, leaf, link = line
    leaf.stop()  # without the middle it would take the catalogue over the same link
    middle.stop()
    repo.write(sample(300) + sample(20_000, seed=5, prefix="bulk"))
    assert central.sync(full=True)["result"] == "succeeded"
    link.rate(0, 600_000)
    start = link.count()["down"]
    middle.start()
    wait_for(lambda: link.count()["down"] > start + 600_000, 30, "the middle of the transfer")
    link.cut()
    first = link.count()["down"] - start
    link.heal()
    link.rate(0, 0)
    tree.wait_equal(60, sites=[central, middle])
    cut = link.count()["down"] - start
    # The same again without a cut, to a site that has only the first state.
    whole = tree.join(central, "P02", tier="primary", start=False)
    start = link.count()["down"]
    whole.start()
    tree.wait_equal(60, sites=[central, whole])
    uncut = link.count()["down"] - start
    leaf.start()
    assert cut < 1.25 * uncut, (first, cut, uncut)
    tree.verify_all()

"""A disk that fails once under a real daemon, at each kind of call, in each store, at the centre and below it: the
process that met it ends without another try, starts again from the disk, and nothing acknowledged is lost."""
import errno
import random

import pytest

from ledger import Ledger
from sites import BadDisk, wait_for

KINDS = [("sync", BadDisk.SYNC, errno.EIO), ("write", BadDisk.WRITE, errno.EIO), ("full", BadDisk.WRITE, errno.ENOSPC),
         ("pointer", BadDisk.META, errno.EIO)]


@pytest.fixture
def pair(tree):
    """Centre and child, each with a disk of its own that can be made to fail."""
    def start(site):
        site.disk = BadDisk(tree.dir / (site.code + ".disk"))
        return site.start(env=site.disk.env)
    central = start(tree.central(start=False))
    child = start(tree.join(central, "B01", start=False))
    ledger = Ledger(random.Random(1))
    ledger.publish(central)
    tree.wait_equal()
    return central, child, ledger


def one_failure(tree, site, store, kind, error, nth, central, ledger):
    lives = site.disk.lives
    site.disk.fail(site.dir / store, kind, error, nth)

    def met():
        ledger.publish(central)
        return site.disk.hits
    wait_for(met, 30, "the disk of %s fails" % site.code)

    def again():
        if not site.running():  # a node that fails a fourth time within a minute leaves it to the service manager
            assert site.process.returncode == 1
            site.process = None
            site.start(wait=False, env=site.disk.env)
        return site.disk.lives > lives
    wait_for(again, 30, "%s starts again" % site.code)
    wait_for(site.ready, 30, "%s is ready" % site.code)
    before = ledger.acknowledged

    def goes_on():
        ledger.publish(central)
        return ledger.acknowledged > before
    wait_for(goes_on, 30, "updates are published again")
    tree.wait_equal(60)
    assert site.disk.hits == 1 and site.disk.syncs_after == 0
    for one in tree.sites.values():
        ledger.check(one)


@pytest.mark.parametrize("store", ["metadata", "node.mdb"])
def test_a_call_that_fails(tree, pair, store):
    central, child, ledger = pair
    for site in (central, child):
        for name, kind, error in KINDS:
            print("%s %s %s" % (site.code, store, name))
            one_failure(tree, site, store, kind, error, 1, central, ledger)
    assert ledger.acknowledged > len(KINDS)
    tree.verify_all()


def test_a_later_call_that_fails(tree, pair):
    central, child, ledger = pair
    for site in (central, child):
        for nth in (2, 3):
            one_failure(tree, site, "metadata", BadDisk.SYNC, errno.EIO, nth, central, ledger)
    tree.verify_all()

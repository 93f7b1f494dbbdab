"""Backups of running sites, and what comes of them."""
import json
import shutil
import subprocess

import pytest

from apt_repo import sample
from sites import Site, wait_for
from test_disk import small_disk


def published(central, name):
    return central.cli("update", "publish", "-", stdin='{"id":"%s","title":"%s"}' % (name, name)).data["generation"]


def sums_are_right(folder):
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)


def replace(site, folder):
    """The machine is lost: its folder is gone, and comes back from the backup."""
    site.kill()
    shutil.rmtree(site.dir)
    done = site.cli("restore", folder)
    assert done.data["restored"] and done.data["site"] == site.code
    return done.data


def test_a_centre_from_a_backup_of_before(tree, repo, central):
    child = tree.join(central, "P01", tier="primary")
    below = tree.join(child, "B11")
    tree.wait_equal()
    folder = tree.dir / "saved"
    saved = central.cli("backup", folder).data
    assert saved["generation"] == central.head()["generation"] and saved["verified"] and not saved["root_key"]
    sums_are_right(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["site"] == "CEN" and manifest["root"] == central.head()["root"]
    assert not (central.dir / "backup.new").exists()
    later = published(central, "later")
    below.wait_generation(later)
    replace(central, folder)
    central.start()
    wait_for(lambda: central.status()["cause"] == "epoch-fence" and "generation %d" % later in central.status()["text"],
             20, "the centre knows that it went back")
    assert central.head()["generation"] < later == below.head()["generation"]
    refused = central.cli("sync", "now", "--full", ok=(1,))
    assert (refused.error, refused.json["hint"].split(" --dir")[0]) == ("epoch-fence", "sitetree epoch open")
    told = central.cli("explain", ok=(3,)).data
    assert told["cause"] == "epoch-fence" and any("epoch open" in line for line in told["try"]), told
    assert central.cli("status", ok=(3,)).data["sites"]["broken"] >= 1
    opened = central.cli("epoch", "open").data
    assert opened["generation"] > later
    tree.wait_equal()
    assert below.head()["epoch"] == opened["id"]
    below.wait_generation(published(central, "after"))
    tree.wait_equal()
    tree.verify_all()


def test_a_centre_that_missed_nothing_goes_on_by_itself(tree, central):
    child = tree.join(central, "P01", tier="primary")
    tree.wait_equal()
    central.cli("backup", tree.dir / "saved")
    child.stop()
    replace(central, tree.dir / "saved")
    central.start()
    wait_for(lambda: central.status()["cause"] == "epoch-fence", 20, "it waits for its child")
    assert central.cli("sync", "now", ok=(1,)).error == "epoch-fence"
    child.start()
    wait_for(lambda: central.status()["cause"] is None, 20, "its child was heard")
    child.wait_generation(published(central, "after"))
    tree.wait_equal()


def test_a_branch_from_a_backup(tree, repo, central):
    child = tree.join(central, "B01")
    tree.wait_equal()
    child.cli("backup", tree.dir / "saved")
    repo.write(sample(320))
    assert central.sync(full=True)["result"] == "succeeded"
    tree.wait_equal()
    replace(child, tree.dir / "saved")
    child.start()
    tree.wait_equal()
    tree.verify_all()


def test_what_is_refused(tree, central):
    folder = tree.dir / "saved"
    central.cli("backup", folder, "--with-root-key")
    assert (folder / "keys/root.key").exists()
    assert central.cli("backup", folder, ok=(1,)).error == "exists"
    refused = central.cli("restore", folder, ok=(1,))  # a site, and at work
    assert refused.error == "exists" and "there is something in it" in refused.json["message"]
    other = Site(tree, "OTHER")
    assert other.cli("restore", folder, "--dry-run", ok=(3,)).data["restored"] is False
    assert not other.dir.exists()
    data = folder / "metadata/data.mdb"
    data.write_bytes(data.read_bytes()[:-4096])
    refused = other.cli("restore", folder, ok=(1,))
    assert refused.error == "corrupt" and "metadata/data.mdb" in refused.json["message"]
    assert not other.dir.exists() and not list(tree.dir.glob("*.part-*"))
    central.stop()
    assert central.cli("backup", tree.dir / "more", ok=(1,)).error == "not-running"
    assert not (tree.dir / "more").exists()


def test_a_disk_that_is_full(tree, central):
    with small_disk(tree.dir / "small", 64 * 1024):
        refused = central.cli("backup", tree.dir / "small/saved", ok=(1,))
        assert refused.error == "disk", refused
        assert list((tree.dir / "small").iterdir()) == []
    assert not (central.dir / "backup.new").exists()
    with small_disk(tree.dir / "CEN" / "backup.new", 32 * 1024):
        assert central.cli("backup", tree.dir / "saved", ok=(1,)).error in ("disk", "exists")
        assert not (tree.dir / "saved").exists()
    central.cli("backup", tree.dir / "saved")  # and it works on
    published(central, "after")

"""A full disk and a full store: the site says so, serves what it has, and goes on by itself once there is room."""
import contextlib
import json
import os
import subprocess

import pytest

from apt_repo import sample
from sites import wait_for


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d,mode=0700" % size, "tmpfs", str(folder)],
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no mount here: %s" % done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def causes(site):
    status = site.status()
    return "%s %s" % (status["cause"], status["text"])


def test_disk_full_at_a_child(tree, repo, central):
    with small_disk(tree.dir / "B01", 3 * 1024 * 1024):
        try:
            child = tree.join(central, "B01")
            tree.wait_equal()
            old = child.head()["generation"]
            repo.write(sample(300) + sample(30_000, seed=3, prefix="bulk"))
            assert central.sync(full=True)["result"] == "succeeded"
            wait_for(lambda: any(w in causes(child) for w in ("disk", "store-full")), 30, "the child says why")
            assert child.head()["generation"] == old
            assert len(child.control("catalogue.list", limit=5)["updates"]) == 5
            subprocess.run(["mount", "-o", "remount,size=300m", str(tree.dir / "B01")], check=True)
            tree.wait_equal(60)
            tree.verify_all()
        finally:
            tree.sites["B01"].destroy()


def test_store_full_at_a_child(tree, repo, central):
    child = tree.join(central, "B01", map_size="16MiB")
    tree.wait_equal()
    old = child.head()["generation"]
    repo.write(sample(300) + sample(60_000, seed=3, prefix="bulk"))
    assert central.sync(full=True)["result"] == "succeeded"
    wait_for(lambda: "store-full" in causes(child), 60, "the child says why")
    wait_for(lambda: [e for e in child.control("events")["events"] if e["name"] == "store.nearly-full"], 10, "its event")
    assert child.head()["generation"] == old
    child.stop()
    child.write_config(map_size="2GiB")
    child.start()
    tree.wait_equal(60)
    tree.verify_all()


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount")
def test_disk_full_at_the_centre(tree, repo):
    with small_disk(tree.dir / "CEN", 3 * 1024 * 1024):
        try:
            central = tree.central()
            central.control("upstream.add", **repo.upstream_args("sample"))
            assert central.sync(full=True)["result"] == "succeeded"
            before = central.head()
            repo.write(sample(300) + sample(30_000, seed=3, prefix="bulk"))
            run = central.sync(full=True)
            assert (run["result"], run["code"]) in (("failed", "disk"), ("failed", "store-full")), run
            assert central.head()["root"] == before["root"]
            assert len(central.control("sync.list")["runs"]) == 2  # the next try waits for its time
            assert [e["legacy"] for e in central.control("events")["events"] if e["name"] == "sync.failed"] == [6703]
            again = central.sync(full=True)
            assert (again["result"], again["code"]) in (("failed", "disk"), ("failed", "store-full")), again
            subprocess.run(["mount", "-o", "remount,size=300m", str(tree.dir / "CEN")], check=True)
            assert central.sync(full=True)["result"] == "succeeded"
            assert central.head()["records"] == 30_300
        finally:
            tree.sites["CEN"].destroy()


def test_store_full_at_the_centre(tree, repo, tmp_path):
    """What cannot be kept is refused with its reason, at once, and what is there is served and can be taken away."""
    central = tree.central(map_size="16MiB")
    central.control("upstream.add", **repo.upstream_args("sample"))
    assert central.sync(full=True)["result"] == "succeeded"
    before = central.head()
    repo.write(sample(300) + sample(60_000, seed=3, prefix="bulk"))
    run = central.sync(full=True)
    assert (run["result"], run["code"]) == ("failed", "store-full"), run
    assert central.head()["root"] == before["root"]
    assert central.status()["run"] == {"run": run["run"], "result": "failed"}
    file = tmp_path / "updates.json"
    for step in range(40):
        file.write_text(json.dumps([{"id": "u%d-%d" % (step, i), "title": "one of many",
                                     "description": os.urandom(1000).hex()} for i in range(350)]))
        before = central.head()
        done = central.cli("update", "publish", str(file), ok=None, timeout=20)
        if done.exit:
            break
    assert (done.exit, done.error) == (1, "store-full"), done
    assert wait_for(central.head, 10, "it serves again")["root"] == before["root"]
    central.cli("update", "remove", "local/CEN/u0-1", "--yes")
    assert central.head()["generation"] == before["generation"] + 1
    assert central.cli("verify").data["ok"]

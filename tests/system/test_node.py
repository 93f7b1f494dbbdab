"""The daemon itself: comes up, says so, loses its neighbours and its worker, and finds them again without an operator."""
import os
import signal
import socket
import subprocess
import time

import pytest

from sites import CLI, NODE, PATIENCE, CommandError, Site, process_name, wait_for


def link(site, name):
    return {row["link"]: row for row in site.control("links")["links"]}[name]


def events(site, name):
    return site.control("events", name=name)["events"]


def test_a_parent_that_starts_again_finds_its_child(tree, central):
    child = tree.join(central, "B01")
    tree.wait_equal()
    central.kill()
    wait_for(lambda: child.status()["cause"] == "parent-unreachable", 20, "the child says why")
    assert child.status()["state"] != "live"
    central.start()
    wait_for(lambda: link(central, "CEN>B01")["state"] == "live", 20, "the link is back")
    wait_for(lambda: child.status()["state"] == "live" and not child.status()["cause"], 20, "the child is live")


def test_goodbyes(tree, central):
    child = tree.join(central, "B01")
    tree.wait_equal()
    assert link(central, "CEN>B01")["state"] == "live"
    child.stop()
    wait_for(lambda: link(central, "CEN>B01")["state"] == "silent", 1, "the parent heard the goodbye")
    assert events(central, "link.down")
    child.start()
    wait_for(lambda: child.status()["state"] == "live", 20, "the child is live")
    central.stop()
    wait_for(lambda: any("goodbye" in e["text"] for e in events(child, "parent.down")), 2, "the child heard it")


def test_a_silent_child_is_not_heard(tree, central):
    child = tree.join(central, "B01")
    tree.wait_equal()
    for pid in child.pids():
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: central.status()["sites"]["not_heard"] == 1, 20, "it is not heard")
        told = central.cli("explain", "B01", ok=(3,)).data
        assert (told["cause"], told["at"], told["current"]) == ("not-heard", "B01", False)
        assert central.cli("status", ok=(3,)).data["causes"][0]["sites"] == ["B01"]
    finally:
        for pid in child.pids():
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: central.status()["sites"]["live"] == 2, 20, "it is heard again")
    assert central.cli("explain", "B01").data["current"]


def test_a_worker_that_is_away(tree, central):
    with pytest.raises(CommandError) as refused:
        for _ in range(200):
            central.kill_worker()
            for _ in range(20):
                central.control("sync.status")
    assert refused.value.code == "not-running"
    assert "started again by itself" in str(refused.value)
    wait_for(lambda: central.control("sync.status"), 30, "the worker answers again")
    assert events(central, "worker.down")
    assert central.status()["sites"]["total"] == 1


def test_readiness_and_stop_are_told(tree):
    site = tree.central(start=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        path = str(tree.dir / "notify")
        told.bind(path)
        told.settimeout(20 * PATIENCE)
        process = subprocess.Popen([str(NODE), "--dir", str(site.dir)], env=dict(os.environ, NOTIFY_SOCKET=path),
                                   stderr=subprocess.DEVNULL)
        try:
            assert told.recv(100) == b"READY=1"
            assert site.control("ping")["ready"]
            site.control("stop")
            assert told.recv(100) == b"STOPPING=1"
            assert process.wait(20 * PATIENCE) == 0
        finally:
            process.kill()


def test_a_join_can_be_given_again(tree, central):
    """The same line again: after kill -9 in the middle of it, and when it had joined before."""
    token = tree.invite(central, "B01")
    site = tree.sites["B01"] = Site(tree, "B01")
    central.stop()
    with subprocess.Popen([str(CLI), "--dir", str(site.dir), "site", "join", token, "--no-start"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as join:
        wait_for(lambda: (site.dir / "join.token").exists(), 10, "the join has begun")
        join.kill()
    assert not (site.dir / "site.chain").exists()
    keys = sorted(p.read_text() for p in (site.dir / "keys").iterdir())
    central.start()
    site.cli("site", "join", token, "--no-start")
    assert keys == sorted(p.read_text() for p in (site.dir / "keys").iterdir())
    site.cli("site", "join", token, "--no-start")
    site.write_config()
    site.start()
    wait_for(lambda: site.status()["state"] == "live", 20, "it is live")
    assert not (site.dir / "join.token").exists()


def test_a_rate_holds(tree, repo, central):
    from apt_repo import sample
    child = tree.join(central, "B01")
    tree.wait_equal()
    central.write_config(down_rate="256KiB")
    assert "down_rate" in central.control("reload")["changed"]
    repo.write(sample(300) + sample(8_000, seed=9, prefix="bulk"))
    before, start = child.status()["bytes_in"], time.monotonic()
    assert central.sync(full=True)["result"] == "succeeded"
    tree.wait_equal(60)
    took, came = time.monotonic() - start, child.status()["bytes_in"] - before
    assert came > 500_000
    assert took > 0.8 * came / (256 * 1024), (took, came)
    assert took < 5 + 3 * came / (256 * 1024), (took, came)


def test_a_leaf_is_small(tree, central):
    child = tree.join(central, "B01")
    tree.wait_equal()

    def resident():
        return {process_name(pid): int(next(l for l in open("/proc/%d/status" % pid) if l.startswith("VmRSS")).split()[1])
                for pid in child.pids()}
    wait_for(lambda: sum(resident().values()) <= 32 * 1024, 10, "node and worker fit into 32 MiB: %s" % resident())


def test_both_stores_are_told(central):
    stores = {s["store"]: s for s in central.cli("store", "stat").data["stores"]}
    assert set(stores) == {"metadata", "node"}
    assert all(0 < s["used"] < s["limit"] for s in stores.values())
    assert stores["node"]["tables"]["events"] > 0

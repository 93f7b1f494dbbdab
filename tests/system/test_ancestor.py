"""A parent that is dead, frozen or of no use is stepped over: the site goes on over a site further up, and back."""
import time

import pytest

from apt_repo import sample
from sites import Tree, paused, wait_for


def rows(site):
    return {row["link"]: row for row in site.control("links")["links"]}


def live(site, name):
    row = rows(site).get(name)
    return row is not None and row["state"] == "live"


def events(site, name):
    return site.control("events", name=name)["events"]


def of_tree(site, code):
    return next((s for s in site.control("tree")["sites"] if s["site"] == code), {})


def is_current(site, code):
    told = site.cli("explain", code, ok=(0, 3)).data
    return told if told["current"] else None


@pytest.fixture
def line(tree, central):
    """CEN above P01 above B11, all equal; quick timers."""
    p01 = tree.join(central, "P01", tier="primary")
    b11 = tree.join(p01, "B11")
    tree.wait_equal()
    wait_for(lambda: of_tree(central, "B11").get("class") == "live", 10, "CEN knows of B11")
    return central, p01, b11


def test_a_parent_killed_in_the_middle_of_the_bulk(repo):
    """Default configuration: live over the central site in 15 s, no page comes twice, back after the restart."""
    rate = 48 * 1024
    with Tree(production=True) as tree:
        repo.write(sample(15_000))
        central = tree.central()
        central.control("upstream.add", **repo.upstream_args("sample"))
        assert central.sync(full=True)["result"] == "succeeded"
        p01 = tree.join(central, "P01", tier="primary")
        x11 = tree.join(p01, "X11")
        tree.wait_equal()
        whole = x11.status()["bytes_in"]
        assert whole > 20 * rate
        p01.write_config(down_rate=str(rate))
        p01.control("reload")
        b11 = tree.join(p01, "B11")
        assert live(b11, "P01>B11") or wait_for(lambda: live(b11, "P01>B11"), 10, "B11 is connected to P01")
        wait_for(lambda: b11.status()["bytes_in"] > whole / 4, 60, "a quarter has come")
        assert b11.status()["generation"] is None
        p01.kill()
        died = time.monotonic()
        wait_for(lambda: live(b11, "CEN>B11"), 15, "B11 is connected to CEN")
        took = time.monotonic() - died
        tree.wait_equal(60, [central, b11])
        came = b11.status()["bytes_in"]
        print("live over CEN after %.1f s; %d bytes came, %d without the fault" % (took, came, whole))
        assert came < whole * 1.02 + 2 * rate, (came, whole)  # what was on the way when it died comes again
        assert [e["site"] for e in events(b11, "parent.left")] == ["P01"]
        repo.write(sample(15_050))
        assert central.sync(full=True)["result"] == "succeeded"
        tree.wait_equal(30, [central, b11])
        assert of_tree(central, "B11").get("via") == "CEN"
        p01.start()
        wait_for(lambda: live(b11, "P01>B11") and "CEN>B11" not in rows(b11), 90, "B11 is back at P01")
        assert events(b11, "parent.back")
        tree.wait_equal(30)
        wait_for(lambda: of_tree(central, "B11").get("via", "?") is None, 10, "CEN knows that it is back")
        tree.verify_all()


def test_a_frozen_parent(line, tree, repo):
    central, p01, b11 = line
    with paused(p01.process.pid):
        wait_for(lambda: live(b11, "CEN>B11"), 20, "B11 is connected to CEN")
        assert rows(b11)["P01>B11"]["state"] in ("left", "connecting")
        assert rows(b11)["CEN>B11"]["path"] == "ancestor"
        assert rows(central)["CEN>B11"]["path"] == "ancestor"
        repo.write(sample(320))
        assert central.sync(full=True)["result"] == "succeeded"
        tree.wait_equal(20, [central, b11])
        assert b11.status()["via"] == "CEN"
        told = b11.cli("explain").data
        assert told["current"] and "connected to CEN instead of P01" in told["seen"][0], told
        told = wait_for(lambda: is_current(central, "B11"), 10, "CEN calls B11 current")
        assert [h["site"] for h in told["hop"]] == ["CEN", "B11"], told
    wait_for(lambda: live(b11, "P01>B11"), 90, "B11 is back at P01")
    assert b11.status()["via"] is None
    tree.wait_equal()


def test_a_parent_whose_worker_hangs(line, tree, repo):
    """It answers heartbeats, and nothing else: a slow answer is a failed answer."""
    central, p01, b11 = line
    with paused(wait_for(p01.worker_pid, 10, "P01 has a worker")):
        repo.write(sample(320))
        assert central.sync(full=True)["result"] == "succeeded"
        b11.kill_worker()  # the next one asks at once; else nobody does while heartbeats tell of nothing new
        wait_for(lambda: live(b11, "CEN>B11"), 60, "B11 is connected to CEN")
        tree.wait_equal(20, [central, b11])
        assert "failures in a row" in events(b11, "parent.left")[0]["text"]
    wait_for(lambda: live(b11, "P01>B11"), 90, "B11 is back at P01")
    tree.wait_equal()


def test_an_orphan(tree, repo):
    central = tree.central(orphan_after="2s")
    central.control("upstream.add", **repo.upstream_args("sample"))
    assert central.sync(full=True)["result"] == "succeeded"
    p01 = tree.join(central, "P01", tier="primary", orphan_after="2s")
    b11 = tree.join(p01, "B11", orphan_after="2s")
    tree.wait_equal()
    central.kill()
    p01.kill()
    wait_for(lambda: b11.status()["state"] == "orphan", 30, "B11 is an orphan")
    assert b11.head()["records"] == 300
    told = b11.cli("explain", ok=(3,)).data
    assert told["cause"] == "parent-unreachable" and "2 sites above are tried in turn" in told["now"][0], told
    central.start()
    wait_for(lambda: live(b11, "CEN>B11"), 60, "B11 is connected to CEN")
    wait_for(lambda: b11.status()["state"] == "live", 10, "B11 is live")
    p01.start()
    wait_for(lambda: live(b11, "P01>B11"), 90, "B11 is back at P01")


def test_a_site_moves_with_all_below_it(line, tree, repo):
    central, p01, b11 = line
    p02 = tree.join(central, "P02", tier="primary")
    c11 = tree.join(b11, "C11")
    tree.wait_equal()
    wait_for(lambda: of_tree(central, "C11").get("class") == "live", 10, "CEN knows of C11")
    refused = b11.cli("site", "move", tree.invite(p02, "B99"), ok=None)
    assert refused.error == "token", refused
    shown = p02.cli("site", "invite", "B11", "--move", "--tier", "branch", json_output=False).out
    assert "paste at B11:  sitetree site move st1-" in shown, shown
    token = shown.split()[-1]
    assert p01.cli("site", "move", token, ok=None).error == "token"
    assert c11.cli("site", "join", token, "--no-start", ok=None).error == "token"
    keys = sorted(p.read_text() for p in (b11.dir / "keys").iterdir())
    moved = b11.cli("site", "move", token).data
    assert (moved["site"], moved["parent"], moved["state"]) == ("B11", "P02", "live"), moved
    assert b11.cli("site", "move", token).data["again"]
    assert keys == sorted(p.read_text() for p in (b11.dir / "keys").iterdir())
    assert live(b11, "P02>B11")
    assert b11.status()["bytes_in"] < 10_000  # since the start of the node: no page came again
    wait_for(lambda: of_tree(central, "B11").get("parent") == "P02", 10, "CEN knows of the move")
    wait_for(lambda: of_tree(p02, "C11").get("class") == "live", 10, "what is below has come along")
    wait_for(lambda: events(c11, "site.chain"), 10, "C11 has the new chain")
    p01.cli("site", "remove", "B11", "--yes")
    repo.write(sample(320))
    assert central.sync(full=True)["result"] == "succeeded"
    tree.wait_equal()
    b11.kill()
    wait_for(lambda: live(c11, "P02>C11"), 20, "C11 finds the new site above")
    b11.start()
    wait_for(lambda: live(c11, "B11>C11"), 90, "C11 is back at B11")
    tree.verify_all()


def test_a_removed_site_finds_no_other_door(line):
    central, p01, b11 = line
    p01.cli("site", "remove", "B11", "--yes")
    wait_for(lambda: events(central, "site.removed"), 10, "CEN knows of it")
    wait_for(lambda: b11.status()["cause"] in ("refused-by-parent", "key-not-trusted"), 20, "B11 says why")
    p01.kill()
    wait_for(lambda: len(events(b11, "parent.refused")) >= 2, 20, "CEN refuses it too")
    assert "CEN>B11" not in rows(central)
    assert b11.head()["records"] == 300

"""Sync runs through the real programs: FULL and DELTA_NEW with their two cursors, at the central site and below."""
import json
import random

from apt_repo import changed, field, sample, stanza


def ids(site):
    """{id: state} of the whole catalogue, by the command line, page by page."""
    found, after = {}, ""
    while True:
        words = ["catalogue", "list", "--limit", "200"] + (["--after", after] if after else [])
        page = site.cli(*words).data
        found.update((u["id"], u["state"]) for u in page["updates"])
        after = page["next"]
        if not after:
            return found


def expected(stanzas):
    return {"deb/%s/%s/%s" % (field(s, "Package"), field(s, "Version"), field(s, "Architecture")) for s in stanzas}


def active(site):
    return {i for i, state in ids(site).items() if state == "active"}


def test_full_run_reaches_every_site(tree, repo, central):
    middle = tree.join(central, "P01", tier="primary")
    leaf = tree.join(middle, "B11")
    tree.wait_equal()
    assert active(leaf) == expected(sample(300)) == active(central)
    tree.verify_all()


def test_full_takes_all_changes_and_delta_new_takes_new_ones_only(tree, repo, central):
    leaf = tree.join(central, "B01")
    base = sample(300)
    new = [stanza("new-%d" % i) for i in range(5)]
    after = base[10:200] + [changed(s, "otherwise") for s in base[200:]] + new
    repo.write(after)
    run = central.sync(full=False)
    assert (run["kind"], run["result"]) == ("DELTA_NEW", "succeeded")
    assert (run["added"], run["changed"], run["removed"], run["expired"]) == (5, 0, 0, 0)
    tree.wait_equal()
    assert active(leaf) == expected(base + new)
    run = central.sync(full=True)
    assert (run["kind"], run["result"]) == ("FULL", "succeeded")
    assert (run["added"], run["changed"], run["expired"] + run["removed"]) == (0, 100, 10)
    tree.wait_equal()
    assert active(leaf) == expected(after)
    assert "otherwise" in leaf.control("update.show", id="deb/%s/%s/amd64" % (
        field(base[250], "Package"), field(base[250], "Version")))["description"]
    tree.verify_all()


def test_manual_runs_between_two_scheduled_ones_lose_nothing(tree, repo, central):
    """Whatever runs lie between, the next FULL run ends at the upstream's content."""
    rng = random.Random(7)
    leaf = tree.join(central, "B01")
    now = sample(300)
    for step in range(6):
        rng.shuffle(now)
        now = [changed(s, "step %d" % step) if rng.random() < 0.1 else s for s in now[rng.randrange(8):]]
        now += [stanza("step%d-%d" % (step, i)) for i in range(rng.randrange(6))]
        repo.write(now)
        for _ in range(rng.randrange(3)):
            assert central.sync(full=False)["result"] == "succeeded"
        if step % 2:
            assert central.sync(full=True)["result"] == "succeeded"
            tree.wait_equal()
            assert active(leaf) == expected(now)
    # The same content by one run from nothing has the same updates.
    fresh = tree.central("NEW")
    fresh.control("upstream.add", **repo.upstream_args("sample"))
    assert fresh.sync(full=True)["result"] == "succeeded"
    assert active(fresh) == active(central)
    tree.sites.pop("NEW").destroy()
    tree.verify_all()


def test_a_run_that_finds_nothing_new_succeeds_and_changes_nothing(tree, repo, central):
    before = central.head()
    run = central.sync(full=True)
    assert run["result"] == "succeeded"
    assert (run["added"], run["changed"], run["removed"], run["expired"]) == (0, 0, 0, 0)
    assert central.head()["root"] == before["root"]


def test_a_child_does_not_sync_by_itself(tree, central):
    child = tree.join(central, "B01")
    tree.wait_equal()
    result = child.cli("sync", "now", ok=None)
    assert (result.exit, result.error) == (1, "not-central")
    assert "CEN" in result.json["message"]


def test_local_publisher(tree, central, tmp_path):
    leaf = tree.join(tree.join(central, "P01", tier="primary"), "B11")
    tree.wait_equal()
    update = tmp_path / "update.json"
    update.write_text('{"id":"1","title":"Patch one","classification":"security","publisher":"acme"}')
    central.cli("update", "publish", str(update))
    tree.wait_equal()
    assert ids(leaf)["local/CEN/1"] == "active"
    central.cli("update", "expire", "local/CEN/1", "--yes")
    tree.wait_equal()
    assert ids(leaf)["local/CEN/1"] == "expired"
    central.cli("update", "remove", "local/CEN/1", "--yes")
    tree.wait_equal()
    assert "local/CEN/1" not in ids(leaf)
    tree.verify_all()


def test_a_publication_is_one_generation_or_none(tree, central, tmp_path):
    def publish(updates, **more):
        file = tmp_path / "updates.json"
        file.write_text(json.dumps(updates))
        return central.cli("update", "publish", str(file), **more)
    before = central.head()
    many = [{"id": "u%d" % i, "title": "update %d" % i, "description": "text " * 20} for i in range(300)]
    bad = publish(many + [{"id": "u7", "title": "again"}], ok=None)
    assert (bad.exit, bad.error) == (2, "usage") and "id" in bad.json["message"], bad
    bad = publish(many[:5] + [{"id": "u5", "title": "odd", "bogus": 1}], ok=None)
    assert (bad.exit, bad.error) == (2, "usage") and "bogus" in bad.json["message"], bad
    assert central.head()["root"] == before["root"]
    done = publish(many).data
    assert sorted(done["ids"]) == sorted("local/CEN/%s" % u["id"] for u in many)
    after = central.head()
    assert (after["generation"], after["records"]) == (before["generation"] + 1, before["records"] + 300)


def test_a_publication_that_the_filter_leaves_out(tree, repo, central, tmp_path):
    """The local publisher is a product like any other."""
    file = tmp_path / "update.json"
    file.write_text('{"id":"1","title":"one"}')
    central.cli("filter", "set", "--products", "sample-sample")
    before = central.head()
    refused = central.cli("update", "publish", str(file), ok=None)
    assert refused.exit == 2 and "local/CEN" in refused.json["message"] and "filter" in refused.json["message"], refused
    assert central.head()["root"] == before["root"]
    central.cli("filter", "set", "--products", "sample-sample,local/CEN")
    central.cli("update", "publish", str(file))
    assert ids(central)["local/CEN/1"] == "active"


def test_history_says_what_happened(tree, repo, central):
    repo.write(sample(310))
    central.sync(full=False)
    kinds = [r["kind"] for r in central.cli("sync", "list").data["runs"]]
    assert sorted(kinds) == ["DELTA_NEW", "FULL"]
    events = central.cli("events").data["events"]
    assert sum(e["name"] == "sync.succeeded" and e["legacy"] == 6702 for e in events) == 2, events

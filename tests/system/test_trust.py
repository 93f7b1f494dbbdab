"""Keys that change while everything runs."""
from sites import wait_for


def published(central, name):
    return central.cli("update", "publish", "-", stdin='{"id":"%s","title":"%s"}' % (name, name)).data["generation"]


def test_another_head_key_while_the_tree_runs(tree, central):
    first = tree.join(central, "P01", tier="primary")
    below = tree.join(first, "B11")
    asleep = tree.join(central, "P02", tier="primary")
    tree.wait_equal()
    asleep.stop()
    before = central.cli("trust", "show").data
    assert before["version"] == 1 and before["root_key"] == str(central.dir / "keys/root.key")
    assert below.cli("trust", "show").data["head_key"] == before["head_key"]
    away = tree.dir / "root.key"
    (central.dir / "keys/root.key").rename(away)
    missing = central.cli("trust", "rotate", ok=(1,))
    assert missing.error == "key-file" and "keys/root.key" in missing.json["message"]
    done = central.cli("trust", "rotate", "--root-key", away).data
    assert done["version"] == 2 and done["head_key"] != before["head_key"]
    tree.wait_equal(sites=[central, first, below])
    for site in (central, first, below):
        shown = site.cli("trust", "show").data
        assert (shown["version"], shown["head_version"], shown["head_key"]) == (2, 2, done["head_key"]), site.code
    assert central.cli("trust", "show").data["root_key"] is None
    generation = published(central, "after")
    below.wait_generation(generation)
    asleep.start()
    tree.wait_equal()
    central.stop()  # the next lives sign with the same key
    central.start()
    asleep.wait_generation(published(central, "later"))
    late = tree.join(central, "P03", tier="primary")
    tree.wait_equal()
    assert late.cli("trust", "show").data["version"] == 2
    tree.verify_all()


def test_a_head_key_that_changes_while_the_daemon_is_stopped(tree, central):
    child = tree.join(central, "B01")
    tree.wait_equal()
    central.stop()
    done = central.cli("trust", "rotate").data
    assert done["version"] == 2 and "next start" in done["state"]
    central.start()
    wait_for(lambda: child.cli("trust", "show").data["head_version"] == 2, 20, "the child has the new key")
    refused = child.cli("trust", "rotate", ok=(1,))
    assert refused.error == "not-central"
    tree.wait_equal()

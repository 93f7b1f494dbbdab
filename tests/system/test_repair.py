"""Silent damage with real processes: one page of a stopped child is changed behind its back, found, named, and mended."""
import lmdb

from apt_repo import sample
from sites import wait_for


KIND_LEAF = 2


def flip_a_leaf(site):
    """The last byte of a leaf page in the middle of the table (services/metadata/page.h, "stored form")."""
    env = lmdb.open(str(site.dir / "metadata"), max_dbs=16, map_size=2 << 30)
    pages = env.open_db(b"pages", create=False)
    with env.begin(write=True, db=pages) as txn:
        leaves = [k for k, v in txn.cursor() if v[0] & 15 == KIND_LEAF and len(v) > 200]
        key = leaves[len(leaves) // 2]
        value = bytearray(txn.get(key))
        value[-1] ^= 1
        txn.put(key, bytes(value))
    env.close()


def test_one_damaged_page_is_found_and_mended_while_serving(tree, repo, central):
    repo.write(sample(300) + sample(12000, seed=4, prefix="bulk"))
    assert central.sync(full=True)["result"] == "succeeded"
    child = tree.join(central, "B01")
    tree.wait_equal(120)
    whole = child.control("sync.status")["bytes_in"]
    generation = child.head()["generation"]
    child.stop()
    flip_a_leaf(child)
    child.start()
    assert child.head()["generation"] == generation  # it serves, and does not know yet
    found = child.cli("verify", ok=(3,)).data
    assert [b["pages"] for b in found["bad"]] == [1] and not found["ok"], found
    planned = child.cli("repair", "--dry-run", ok=(3,)).data
    assert planned["bad"] == 1 and 1 <= planned["records"] <= 64 and not planned["fetching"], planned
    assert planned["scopes"][0]["ranges"][0].endswith("*") and planned["bytes"] > 100, planned
    assert not child.cli("verify", ok=(3,)).data["ok"]  # nothing was changed
    before = child.control("sync.status")["bytes_in"]
    assert child.cli("repair", ok=(3,)).data["fetching"]
    assert child.head()["generation"] == generation
    wait_for(lambda: child.control("verify")["ok"], 20, "the page is back")
    moved = child.control("sync.status")["bytes_in"] - before
    print("repair moved %d bytes (planned %d) of %d, %.2f %%" % (moved, planned["bytes"], whole, 100.0 * moved / whole))
    assert 0 < moved < whole / 100, (moved, whole)
    assert child.cli("verify", "--deep").data["ok"]
    wait_for(lambda: central.cli("verify", "B01", ok=None).exit == 0, 10, "the child's report is compared")
    assert [s["site"] for s in central.cli("verify", "B01").data["sites"]] == ["B01"]
    tree.verify_all()

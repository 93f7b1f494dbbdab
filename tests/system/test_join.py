"""A site joins with two pasted lines, and with nothing less."""
import time

import pytest

from sites import Site, wait_for


def test_two_lines_and_live_within_ten_seconds(tree, central):
    start = time.monotonic()
    child = tree.join(central, "B01")
    wait_for(lambda: child.status()["state"] == "live", 10, "the child is live")
    assert time.monotonic() - start < 10
    parent, own = central.status(), child.status()
    assert (own["generation"], own["root"], own["records"]) == (parent["generation"], parent["root"], 300)
    assert own["parent"] == "CEN"
    wait_for(lambda: {s["site"]: (s["state"], s["class"]) for s in central.cli("site", "list").data["sites"]}["B01"] ==
             ("joined", "live"), 5, "the parent lists it as live")
    tree.verify_all()


def attempt(tree, code, token):
    """A site that tries to join; its folder stays in the tree for the logs."""
    site = tree.sites.setdefault(code, Site(tree, code))
    return site.cli("site", "join", token, "--no-start", ok=None, timeout=60)


def refused(tree, code, token, word):
    result = attempt(tree, code, token)
    assert (result.exit, result.error) == (1, word), result
    assert result.json["hint"].startswith("sitetree "), result
    assert not (tree.sites[code].dir / "site.key").exists()
    return result


def test_a_token_works_once(tree, central):
    token = tree.invite(central, "B01")
    assert attempt(tree, "B01", token).exit == 0
    tree.sites.pop("B01")
    second = Site(tree, "B01")
    second.dir = tree.dir / "second"
    second.config_file = second.dir / "sitetree.conf"
    tree.sites["second"] = second
    refused(tree, "second", token, "token-used")
    assert central.cli("site", "invites").data["invites"][0]["state"] == "used"


def test_a_token_expires(tree, central):
    token = central.cli("site", "invite", "B01", "--ttl", "1s").data["token"]
    wait_for(lambda: central.cli("site", "invites").data["invites"][0]["state"] == "expired", 10, "it has expired")
    refused(tree, "B01", token, "token-expired")


def test_a_revoked_token(tree, central):
    token = tree.invite(central, "B01")
    central.cli("site", "revoke", "B01")
    result = attempt(tree, "B01", token)
    assert result.exit == 1 and result.error in ("token", "key-not-trusted"), result


@pytest.mark.parametrize("spoil", [lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"),
                                   lambda t: t[:20] + ("x" if t[20] != "x" else "y") + t[21:],
                                   lambda t: t[:-9], lambda t: "st1-", lambda t: "st2-" + t[4:], lambda t: "hello"])
def test_an_altered_token_is_found_without_the_network(tree, central, spoil):
    token = tree.invite(central, "B01")
    central.stop()
    refused(tree, "B01", spoil(token), "token")


def test_a_token_of_another_tree(tree, central):
    """Another hierarchy answers where the token's parent was."""
    token = tree.invite(central, "B01")
    central.stop()
    other = tree.central("OTH", start=False)
    other.write_config(listen="127.0.0.1:%d" % central.port, listen_hints="127.0.0.1:%d" % central.hints)
    other.start()
    result = attempt(tree, "B01", token)
    assert result.exit == 1 and result.error in ("key-not-trusted", "timeout", "network"), result


def test_a_removed_site_is_cut_off_at_once(tree, central, repo):
    child = tree.join(central, "B01")
    other = tree.join(central, "B02")
    tree.wait_equal()
    before = child.head()["generation"]
    central.cli("site", "remove", "B01", "--yes")
    central.cli("update", "publish", "-", stdin='{"id":"one","title":"one"}')
    other.wait_generation(before + 1)
    assert child.head()["generation"] == before
    wait_for(lambda: child.status()["state"] != "live" and child.status()["cause"] in
             ("refused-by-parent", "key-not-trusted", "site-removed"), 15, "the removed site knows why")

"""What a signed apt repository must not get away with: each refusal has its word, and the catalogue stays as it was."""
import hashlib
import time

import pytest

from apt_repo import AptRepo, sample, stanza


def refused(central, word, text=""):
    """A FULL run fails with this word, and nothing has changed."""
    before = central.head()
    run = central.sync(full=True)
    assert (run["result"], run["code"]) == ("failed", word), run
    assert text.lower() in run["reason"].lower(), run
    after = central.head()
    assert (after["generation"], after["root"], after["records"]) == \
        (before["generation"], before["root"], before["records"])
    listed = central.cli("upstream", "list").data["upstreams"][0]
    assert listed["last_error"], listed
    events = [e for e in central.control("events")["events"] if e["name"] == "sync.failed"]
    assert events and events[-1]["legacy"] == 6703, events
    return run


def recovers(central, repo, n=310):
    repo.write(sample(n))
    run = central.sync(full=True)
    assert run["result"] == "succeeded", run
    assert central.head()["records"] >= n


def test_unsigned(central, repo):
    repo.write(sample(305), signed=False)
    refused(central, "upstream-signature")
    recovers(central, repo)


def test_signed_by_another_key(central, repo):
    good = repo.keyring.read_bytes()
    repo.new_key()
    repo.write(sample(305))
    repo.keyring.write_bytes(good)
    refused(central, "upstream-signature")


def test_altered_after_signing(central, repo):
    repo.write(sample(305))
    path = repo.release_dir / "InRelease"
    path.write_bytes(path.read_bytes().replace(b"Label: Sample", b"Label: Forged"))
    refused(central, "upstream-signature")
    recovers(central, repo)


def test_text_outside_of_the_signature(central, repo):
    """What stands before the signed part is not signed."""
    repo.write(sample(305))
    path = repo.release_dir / "InRelease"
    path.write_bytes(b"Suite: sample\n\n" + path.read_bytes())
    before = central.head()
    central.sync(full=True)
    after = central.head()
    # Refused as a whole or read from the signed part alone: never the unsigned text.
    assert after["records"] in (before["records"], 305)


def test_expired(central, repo):
    repo.write(sample(305), date=int(time.time()) - 10 * 86400 if repo.date is None else repo.date + 1, valid_for=-3600)
    refused(central, "upstream-stale", "valid")
    recovers(central, repo)


def test_older_than_seen(central, repo):
    repo.write(sample(305), date=int(time.time()) - 86400)
    refused(central, "upstream-stale")
    recovers(central, repo)


def test_one_of_the_future_does_not_shut_the_later_ones_out(central, repo):
    repo.write(sample(305), date=int(time.time()) + 30 * 86400)
    assert central.sync(full=True)["result"] == "succeeded"
    assert "future" in central.cli("upstream", "list").data["upstreams"][0]["warning"]
    repo.date = int(time.time()) + 1
    recovers(central, repo)
    assert central.cli("upstream", "list").data["upstreams"][0]["warning"] is None


def test_index_with_another_hash(central, repo):
    repo.write(sample(305))
    for path in [repo.index_path(".xz"), repo.index_path(".gz"), *repo.index_path("").parent.glob("by-hash/SHA256/*")]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    refused(central, "upstream")
    recovers(central, repo)


def test_index_of_another_size(central, repo):
    repo.write(sample(305))
    for path in [repo.index_path(".xz"), repo.index_path(".gz"), *repo.index_path("").parent.glob("by-hash/SHA256/*")]:
        path.write_bytes(path.read_bytes()[:-100])
    refused(central, "upstream")
    recovers(central, repo)


def test_index_missing(central, repo):
    repo.write(sample(305))
    for path in [repo.index_path(".xz"), repo.index_path(".gz"), *repo.index_path("").parent.glob("by-hash/SHA256/*")]:
        path.unlink()
    refused(central, "upstream")
    recovers(central, repo)


@pytest.mark.parametrize("bad", [
    pytest.param(stanza("huge", Description="x" * 100_000_000), id="stanza of 100 MB"),
    pytest.param(stanza("nul", Description="a\0b"), id="NUL byte"),
    pytest.param(stanza("bare").replace(b"Version: 1.0\n", b""), id="no version"),
    pytest.param(stanza("nameless").replace(b"Package: nameless\n", b""), id="no name"),
    pytest.param(b"this is not a field\n", id="no field"),
])
def test_bad_stanza(central, repo, bad):
    """Signed or not: what is not well formed is refused or left out, and the rest of the catalogue is never lost."""
    before = central.head()
    repo.write(sample(300) + [bad] + sample(5, seed=9, prefix="good"))
    run = central.sync(full=True, seconds=180)
    after = central.head()
    if run["result"] == "failed":
        assert run["code"] in ("upstream", "malformed", "too-large"), run
        assert after["root"] == before["root"]
    else:
        assert after["records"] == 305, run
    recovers(central, repo)


def test_a_bomb(central, repo):
    """A small file that unpacks to far more than its signed size says."""
    import lzma
    repo.write(sample(305))
    bomb = lzma.compress(b"\n" * 300_000_000)
    digest = hashlib.sha256(bomb).hexdigest()
    name = "main/binary-amd64/Packages.xz"
    repo.index_path(".xz").write_bytes(bomb)
    (repo.index_path("").parent / "by-hash/SHA256" / digest).write_bytes(bomb)
    repo.index_path(".gz").unlink()
    repo.files = {name: (digest, len(bomb)), "main/binary-amd64/Packages": (digest, 5000)}
    repo.sign(repo.release(repo.date + 1))
    refused(central, "upstream")


def test_repository_gone(central, repo):
    repo.release_dir.rename(repo.dir / "away")
    refused(central, "upstream")


def test_two_upstreams_of_one_scope(tree, central, repo, tmp_path):
    """Each would expire what the other one brings: the second is refused, and the first goes on."""
    twin = AptRepo(tmp_path / "twin")
    twin.write(sample(310))
    central.control("upstream.add", **twin.upstream_args("a-twin"))
    repo.write(sample(305))
    run = central.sync(full=True)
    assert (run["result"], run["code"]) == ("failed", "exists"), run
    assert "upstream a-twin: " in run["reason"] and "which upstream sample fills already" in run["reason"], run
    assert central.head()["records"] == 305
    listed = {u["name"]: u["last_error"] for u in central.cli("upstream", "list").data["upstreams"]}
    assert listed["sample"] is None and "sample/sample/main/amd64" in listed["a-twin"], listed
    central.cli("upstream", "remove", "sample", "--yes")
    assert central.sync(full=True)["result"] == "succeeded"  # now it is the only one
    assert central.head()["records"] == 310
    twin.close()


def test_an_error_names_the_upstream_once(tree, central, repo):
    repo.write(sample(305), signed=False)
    run = central.sync(full=True)
    assert run["reason"] == "upstream sample: InRelease: not signed", run
    tested = central.cli("upstream", "test", "sample", ok=None)
    assert tested.json["message"] == "upstream sample: InRelease: not signed", tested


def test_upstream_words(tree, central, repo, tmp_path):
    """add, list, test and remove by the command line."""
    other = AptRepo(tmp_path / "other", suite="other")
    other.write(sample(20, prefix="other"))
    added = central.cli("upstream", "add", *other.upstream_words("other")).data["added"]
    assert [a["name"] for a in added] == ["other"]
    result = central.cli("upstream", "test", "other").data
    assert (result["ok"], result["records"]) == (True, 20)
    assert central.cli("upstream", "add", *other.upstream_words("other"), ok=None).error == "exists"
    central.sync(full=True)
    assert central.head()["records"] == 320
    central.cli("upstream", "remove", "other", "--yes")
    assert {u["name"] for u in central.cli("upstream", "list").data["upstreams"]} == {"sample"}
    assert central.cli("upstream", "test", "other", ok=None).error == "not-found"
    other.close()

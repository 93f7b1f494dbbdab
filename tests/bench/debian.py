"""The real Debian catalogue for the benches: fetched once through this machine's own apt sources into a folder that is
laid out as a mirror, so that everything measured reads from disk."""
import configparser
import email.utils
import glob
import hashlib
import lzma
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))
import apt_repo  # noqa: E402

SUITES = ["bookworm", "bookworm-updates", "bookworm-security"]
COMPONENT, ARCH = "main", "amd64"


class Offline(Exception):
    """The catalogue is not here and cannot be fetched."""


def system_sources(folder="/etc/apt"):
    """{suite: (uri, keyring)} of the wanted suites, from deb822 and one-line files."""
    found = {}
    for path in sorted(glob.glob(folder + "/sources.list.d/*.sources")):
        for block in re.split(r"\n\s*\n", Path(path).read_text()):
            lines = [line for line in block.splitlines() if not line.startswith("#")]
            parser = configparser.ConfigParser(delimiters=(":",), interpolation=None, strict=False)
            parser.read_string("[s]\n" + "\n".join(lines))
            s = parser["s"]
            if "deb" in s.get("types", "").split() and COMPONENT in s.get("components", "").split():
                for suite in s.get("suites", "").split():
                    found.setdefault(suite, (s.get("uris", "").split()[0], s.get("signed-by", "").strip()))
    for path in [folder + "/sources.list"] + sorted(glob.glob(folder + "/sources.list.d/*.list")):
        for line in Path(path).read_text().splitlines() if os.path.exists(path) else []:
            m = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
            if m and COMPONENT in m.group(4).split():
                options = dict(o.split("=", 1) for o in (m.group(1) or "").split() if "=" in o)
                found.setdefault(m.group(3), (m.group(2), options.get("signed-by", "")))
    return {suite: found[suite] for suite in SUITES if suite in found}


def get(url):
    request = urllib.request.Request(url, headers={"User-Agent": "sitetree-bench", "Cache-Control": "no-cache"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def checked_release(path, keyring):
    """The fields of a signed InRelease, after gpgv."""
    args = ["gpgv", "--output", "-"] + (["--keyring", keyring] if keyring else []) + [str(path)]
    done = subprocess.run(args, capture_output=True)
    if done.returncode:
        raise Offline("%s is not signed by %s: %s" % (path, keyring, done.stderr.decode().strip()))
    return done.stdout.decode()


def expired(release):
    until = re.search(r"^Valid-Until: (.*)$", release, re.M)
    return bool(until) and email.utils.parsedate_to_datetime(until.group(1)).timestamp() < time.time() + 3600


def fetch_suite(folder, suite, uri, keyring):
    base = folder / "dists" / suite
    base.mkdir(parents=True, exist_ok=True)
    new = base / "InRelease.new"
    new.write_bytes(get("%s/dists/%s/InRelease" % (uri.rstrip("/"), suite)))
    release = checked_release(new, keyring)
    # A component that is named with a folder before it (updates/main) lies in the plain folder all the same.
    m = re.search(r"^ ([0-9a-f]{64})\s+(\d+)\s+(?:\S+/)?%s/binary-%s/Packages\.xz$" % (COMPONENT, ARCH), release, re.M)
    if not m:
        raise Offline("%s names no Packages.xz" % suite)
    digest, name = m.group(1), "%s/binary-%s" % (COMPONENT, ARCH)
    index = base / name / "Packages.xz"
    if not index.exists() or hashlib.sha256(index.read_bytes()).hexdigest() != digest:
        by_hash = "%s/dists/%s/%s/by-hash/SHA256/%s" % (uri.rstrip("/"), suite, name, digest)
        data = get(by_hash)
        if hashlib.sha256(data).hexdigest() != digest:
            raise Offline("%s has another hash than its InRelease says" % by_hash)
        (base / name / "by-hash/SHA256").mkdir(parents=True, exist_ok=True)
        index.write_bytes(data)
        (base / name / "by-hash/SHA256" / digest).write_bytes(data)
    os.replace(new, base / "InRelease")


class Debian:
    """The mirror in a cache folder: suites (those that the machine's sources name), uri, keyring."""

    def __init__(self, cache, refresh=False):
        self.dir = Path(cache) / "debian"
        sources = system_sources()
        if "bookworm" not in sources:
            raise Offline("the apt sources of this machine do not name bookworm")
        self.suites = list(sources)
        self.keyring = next(k for _, k in sources.values())
        self.uri = "file://%s" % self.dir
        for suite, (uri, keyring) in sources.items():
            path = self.dir / "dists" / suite / "InRelease"
            if path.exists() and not refresh and not expired(checked_release(path, keyring)):
                continue
            try:
                fetch_suite(self.dir, suite, uri, keyring)
            except (urllib.error.URLError, OSError) as error:
                raise Offline("%s of %s cannot be fetched: %s" % (suite, uri, error)) from error

    def index(self, suite):
        return self.dir / "dists" / suite / COMPONENT / ("binary-" + ARCH) / "Packages.xz"

    def stanzas(self, suite):
        return apt_repo.split(lzma.decompress(self.index(suite).read_bytes()))

    def upstream_args(self, suite):
        return {"name": suite, "kind": "apt", "uri": self.uri, "suite": suite, "components": [COMPONENT],
                "architectures": [ARCH], "keyring": self.keyring}

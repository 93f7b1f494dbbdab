"""Signed apt repositories for tests and benches: made in a folder, with a key of their own, changed step by step.

    repo = AptRepo(folder)                      # a new key, or the one that is in the folder already
    repo.write([stanza(name="hello", version="1")])
    site.cli("upstream", "add", *repo.upstream_words("sample"))
"""
import email.utils
import gzip
import hashlib
import lzma
import os
import random
import shutil
import subprocess
import time
from pathlib import Path


def stanza(name, version="1.0", arch="amd64", **more):
    """One package as an index has it; fields by their names, an underscore for each hyphen."""
    digest = hashlib.sha256(("%s %s %s" % (name, version, arch)).encode()).hexdigest()
    fields = {"Package": name, "Version": version, "Architecture": arch, "Maintainer": "Sample <sample@example.org>",
              "Installed-Size": "123", "Section": "misc", "Priority": "optional",
              "Filename": "pool/%s_%s_%s.deb" % (name, version, arch), "Size": str(1000 + len(name)), "SHA256": digest,
              "Description": "sample package %s" % name}
    fields.update({k.replace("_", "-"): v for k, v in more.items()})
    return "".join("%s: %s\n" % item for item in fields.items()).encode()


def sample(n, seed=1, prefix="pkg"):
    """n stanzas with descriptions of varying length; the same for the same seed."""
    rng = random.Random(seed)
    words = ["tool", "library", "daemon", "data", "fast", "small", "files", "network", "sign", "tree", "page", "site"]
    return [stanza("%s-%05d" % (prefix, i), "1.%d-1" % rng.randrange(100),
                   Description=" ".join(rng.choice(words) for _ in range(rng.randrange(3, 60)))) for i in range(n)]


def split(index):
    """The stanzas of a Packages file."""
    return [s + b"\n" for s in index.strip(b"\n").split(b"\n\n") if s]


def field(one, name):
    for line in one.split(b"\n"):
        if line.startswith(name.encode() + b": "):
            return line.split(b": ", 1)[1].decode()
    return None


def identity(one):
    return tuple(field(one, name) for name in ("Package", "Version", "Architecture"))


def changed(one, mark):
    """The same version of the package, described otherwise."""
    lines = one.split(b"\n")
    return b"\n".join(line + (" " + mark).encode() if line.startswith(b"Description: ") else line for line in lines)


class AptRepo:
    def __init__(self, folder, suite="sample", component="main", arch="amd64"):
        self.dir, self.suite, self.component, self.arch = Path(folder), suite, component, arch
        self.dir.mkdir(parents=True, exist_ok=True)
        self.keyring = self.dir / "keyring.gpg"
        self.home = self.dir / "gnupg-0"
        self.keys = 1
        self.date = None
        if not self.keyring.exists():
            self.new_key()

    # keys

    def gpg(self, *args, **more):
        # The home of gpg must have a short path (its agent makes sockets there) and belong to us alone.
        return subprocess.run(["gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", "--pinentry-mode",
                               "loopback", "--passphrase", "", *args], check=True, capture_output=True, **more)

    def new_key(self):
        """From now on everything is signed by a new key, that the keyring holds alone."""
        # Another home for it: the agent of the old one ends when its home goes, and takes the sockets there with it.
        self.close()
        shutil.rmtree(self.home, ignore_errors=True)
        self.home = self.dir / ("gnupg-%d" % self.keys)
        self.keys += 1
        self.home.mkdir(mode=0o700)
        self.gpg("--quick-generate-key", "Sample repository <sample@example.org>", "ed25519", "sign", "never")
        self.keyring.write_bytes(self.gpg("--export").stdout)

    def close(self):
        """Ends the agent that gpg started for our key."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], capture_output=True)

    # content

    @property
    def uri(self):
        return "file://%s" % self.dir

    @property
    def release_dir(self):
        return self.dir / "dists" / self.suite

    def upstream_words(self, name):
        """The words after `upstream add`."""
        return [name, "--kind", "apt", "--uri", self.uri, "--suite", self.suite, "--components", self.component,
                "--architectures", self.arch, "--keyring", str(self.keyring)]

    def upstream_args(self, name):
        """The arguments of the command upstream.add on the control socket."""
        return {"name": name, "kind": "apt", "uri": self.uri, "suite": self.suite, "components": [self.component],
                "architectures": [self.arch], "keyring": str(self.keyring)}

    def write(self, stanzas, date=None, valid_for=7 * 86400, **tweaks):
        """A whole new state of the repository. Dates of two states differ by at least a second."""
        self.write_index(b"\n".join(stanzas))
        if date is None:
            date = max(int(time.time()), (self.date or 0) + 1)
        self.sign(self.release(date, valid_for), **tweaks)
        self.date = date

    def write_index(self, index, preset=1):
        """Packages.xz and Packages.gz, also by hash; no Release that names them yet."""
        folder = self.release_dir / self.component / ("binary-" + self.arch)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "by-hash/SHA256").mkdir(parents=True)
        self.files = {}
        for suffix, data in ("", index), (".gz", gzip.compress(index, 1, mtime=0)), (".xz", lzma.compress(index, preset=preset)):
            digest = hashlib.sha256(data).hexdigest()
            name = "%s/binary-%s/Packages%s" % (self.component, self.arch, suffix)
            self.files[name] = (digest, len(data))
            if suffix:  # as Debian does: the plain one is named, not there
                (self.release_dir / name).write_bytes(data)
                (folder / "by-hash/SHA256" / digest).write_bytes(data)

    def index_path(self, suffix=".xz"):
        return self.release_dir / self.component / ("binary-" + self.arch) / ("Packages" + suffix)

    def release(self, date, valid_for=7 * 86400):
        def when(t):
            return email.utils.formatdate(t, usegmt=True).replace("GMT", "UTC")
        lines = ["Origin: Sample", "Label: Sample", "Suite: %s" % self.suite, "Codename: %s" % self.suite,
                 "Date: %s" % when(date)]
        if valid_for is not None:
            lines.append("Valid-Until: %s" % when(date + valid_for))
        lines += ["Acquire-By-Hash: yes", "Architectures: %s" % self.arch, "Components: %s" % self.component, "SHA256:"]
        lines += [" %s %16d %s" % (digest, size, name) for name, (digest, size) in sorted(self.files.items())]
        return ("\n".join(lines) + "\n").encode()

    def sign(self, release, signed=True):
        """InRelease, so that it is there whole or not at all."""
        text = release
        if signed:
            text = self.gpg("--clearsign", "--digest-algo", "SHA512", "--output", "-", input=release).stdout
        new = self.release_dir / "InRelease.new"
        new.write_bytes(text)
        os.replace(new, self.release_dir / "InRelease")

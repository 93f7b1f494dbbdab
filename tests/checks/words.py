#!/usr/bin/python3
"""What no tracked file may hold: paths of one machine, addresses of package registries, marks of unfinished work.
Usage: words.py ROOT | words.py --self-test"""
import os
import re
import subprocess
import sys

# Written with brackets, so that this file does not find itself.
BANNED = [
    ("a path of one machine", re.compile(r"(?<![\w.~-])/(?:wor[k]|roo[t]|hom[e]/\w+)(?:/|\b)(?!:)")),
    ("a path outside of the tree", re.compile(r"\.\./share[d]\b")),
    ("the address of a package mirror", re.compile(r"\b(?:deb|security|ftp|archive|snapshot|ports)\.(?:\w+\.)*(?:debia[n]\.org|ubunt[u]\.com)", re.I)),
    ("the address of a package registry", re.compile(r"\b(?:pyp[i]\.org|files\.pythonhoste[d]\.org|registry\.npmj[s]\.org|crate[s]\.io|docke[r]\.io|ghc[r]\.io)\b", re.I)),
    ("a mark of unfinished work", re.compile(r"\b(?:TOD[O]|FIXM[E])\b")),
    ("a number of a tracker", re.compile(r"\b[Ii]ssu[e] #?\d+\b")),
    ("a conflict mark", re.compile(r"^(?:<<<<<<[<] |>>>>>>[>] )", re.M)),
]
BINARY = (".png", ".gz", ".xz", ".zst", ".bin", ".gpg")


def tracked(root):
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True).stdout
        return [name for name in out.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # not a checkout: everything but the build folders
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if f != ".git" and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
        return sorted(names)


def find(text):
    for what, pattern in BANNED:
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, what, match.group(0).strip()


def check(root):
    for name in tracked(root):
        path = os.path.join(root, name)
        if name.endswith(BINARY) or not os.path.isfile(path) or os.path.islink(path):
            continue
        with open(path, "rb") as f:
            data = f.read()
        if b"\0" in data:
            continue
        for line, what, word in find(data.decode("utf-8", errors="replace")):
            yield "%s:%d: %s: %s" % (name, line, what, word)


CASES = [
    ("cd /wor" + "k/main", True),
    ("'/roo" + "t/x'", True),
    ("a/work/b", False),
    ("see http://deb.debia" + "n.org/debian", True),
    ("http://security.debia" + "n.org/x", True),
    ("deb.example.org", False),
    ("the root /rootless", False),
    ("TOD" + "O: later", True),
    ("issu" + "e #12", True),
    ("an issue of taste", False),
]


def main():
    if sys.argv[1] == "--self-test":
        found = ["%r: %s" % (text, bad) for text, bad in CASES if bool(list(find(text))) != bad]
    else:
        found = list(check(sys.argv[1]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

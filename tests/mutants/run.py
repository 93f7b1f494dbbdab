#!/usr/bin/python3
"""Are the tests any good? Each patch of this folder is a bug of the protocol that somebody could make; each has to be
caught by a test that it names.

Usage: run.py [NAME ...] [--jobs N] [--list]
       run.py --check    only whether every patch still applies

A patch begins with lines `bug: WHAT`, `rule: WHICH ONE IT BREAKS`, and one or more `test: NAME [ARGUMENTS]`: the name of
a test as `meson test --list` gives it, and arguments in place of its own. The tests are run in this order until one
fails. First of all the tree without a patch has to pass all of them. The last line is "N caught, N survived"; the exit
code is 0 only when all are caught."""
import argparse
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = os.path.join(ROOT, "build-mutants")
SECONDS = 180  # for one test; a mutant that makes it hang is caught as well
SETUP = ["-Doptimization=1", "-Ddebug=false"]


alive = set()  # process groups: whoever ends this program ends them


def end(number, frame):
    del frame
    for pid in list(alive):
        try:
            os.killpg(pid, 9)
        except ProcessLookupError:
            pass
    os._exit(128 + number)


class Mutant:
    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)[:-len(".patch")]
        self.bug = self.rule = ""
        self.tests = []
        self.files = []
        with open(path, encoding="utf-8") as f:
            self.text = f.read()
            for line in self.text.splitlines():
                key, _, value = line.partition(": ")
                if key == "bug":
                    self.bug = value
                elif key == "rule":
                    self.rule = value
                elif key == "test":
                    name, _, arguments = value.partition(" [")
                    self.tests.append((name, shlex.split(arguments.rstrip("]")) if arguments else None))
                elif line.startswith("+++ b/"):
                    self.files.append(line[len("+++ b/"):].split("\t")[0].strip())

    def complaint(self):
        if not self.bug or not self.rule or not self.tests or not self.files:
            return "lacks bug, rule, test or a change"
        if [f for f in self.files if not f.startswith(("common/", "services/", "tools/", "proto/"))]:
            return "changes more than the product"
        return None


def mutants(names):
    found = [Mutant(os.path.join(HERE, f)) for f in sorted(os.listdir(HERE)) if f.endswith(".patch")]
    unknown = set(names) - {m.name for m in found}
    if unknown:
        sys.exit("no such mutant: %s" % " ".join(sorted(unknown)))
    return [m for m in found if not names or m.name in names]


def patch(tree, mutant, dry=False):
    """Whether it applies."""
    command = ["patch", "-p1", "-s", "-f", "-N", "-F1", "--no-backup-if-mismatch", "-r", "-", "-d", tree]
    return subprocess.run(command + (["--dry-run"] if dry else []), input=mutant.text.encode(),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def tracked():
    try:
        out = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "-c", "-o", "--exclude-standard"], check=True,
                             capture_output=True).stdout
        return [f for f in out.decode().split("\0") if f and os.path.isfile(os.path.join(ROOT, f))]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [d for d in folders if d != ".git" and not d.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
        return names


def same(a, b):
    try:
        with open(a, "rb") as x, open(b, "rb") as y:
            return x.read() == y.read()
    except OSError:
        return False


class Tree:
    """A copy of the sources with a build folder of its own; only what differs is copied, so that little is built."""

    def __init__(self, number):
        self.source = os.path.join(WORK, "tree-%d" % number)
        self.build = os.path.join(WORK, "build-%d" % number)
        self.log = os.path.join(WORK, "log-%d" % number)
        wanted = tracked()
        for name in wanted:
            self.take(name)
        for folder, _, files in os.walk(self.source):
            for f in files:
                name = os.path.relpath(os.path.join(folder, f), self.source)
                if name not in set(wanted):
                    os.unlink(os.path.join(folder, f))
        if not os.path.exists(os.path.join(self.build, "build.ninja")):
            self.run(["meson", "setup", self.build, self.source] + SETUP, must=True)
        self.run(["ninja", "-C", self.build, "build.ninja"], must=True)
        with open(os.path.join(self.build, "meson-info", "intro-tests.json"), encoding="utf-8") as f:
            self.tests = {t["name"]: t for t in json.load(f)}
        with open(os.path.join(self.build, "meson-info", "intro-targets.json"), encoding="utf-8") as f:
            self.targets = {t["id"]: t["filename"] for t in json.load(f)}

    def take(self, name):
        to = os.path.join(self.source, name)
        if same(os.path.join(ROOT, name), to):
            return
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(os.path.join(ROOT, name), to)
        os.utime(to)

    def contents(self, names):
        texts = {}
        for name in names:
            with open(os.path.join(self.source, name), "rb") as f:
                texts[name] = f.read()
        return texts

    def put_back(self, texts):
        for name, text in texts.items():
            with open(os.path.join(self.source, name), "wb") as f:
                f.write(text)

    def run(self, command, must=False, seconds=None, env=None):
        """The exit code, or None when it took too long."""
        with open(self.log, "ab") as log:
            p = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env,
                                 cwd=self.source, start_new_session=True)
            alive.add(p.pid)
            try:
                rc = p.wait(seconds)
            except subprocess.TimeoutExpired:
                rc = None
            try:
                os.killpg(p.pid, 9)
            except ProcessLookupError:
                pass
            p.wait()
            alive.discard(p.pid)
        if must and rc != 0:
            sys.exit("failed: %s; see %s" % (" ".join(command), self.log))
        return rc

    def compile(self, tests):
        files = set()
        for name, _ in tests:
            test = self.tests[name]
            for path in [test["cmd"][0]] + [f for d in test["depends"] for f in self.targets.get(d, [])]:
                if path.startswith(self.build + os.sep):
                    files.add(os.path.relpath(path, self.build))
        return self.run(["ninja", "-C", self.build] + sorted(files)) == 0

    def passes(self, name, arguments):
        test = self.tests[name]
        command = test["cmd"] if arguments is None else test["cmd"][:1] + arguments
        return self.run(command, seconds=SECONDS, env=dict(os.environ, **test["env"]))


def judge(tree, mutant):
    """A word, and why."""
    open(tree.log, "wb").close()
    before = tree.contents(mutant.files)
    if not patch(tree.source, mutant):
        return "does-not-apply", "the code has changed: make the patch anew"
    try:
        if not tree.compile(mutant.tests):
            return "does-not-build", tree.log
        for name, arguments in mutant.tests:
            start = time.monotonic()
            rc = tree.passes(name, arguments)
            if rc != 0:
                return "caught", "%s, %s, %.0f s" % (name, "no end" if rc is None else "exit code %d" % rc,
                                                    time.monotonic() - start)
        return "SURVIVED", mutant.bug
    finally:
        tree.put_back(before)


def baseline(tree, chosen):
    wanted = []
    for m in chosen:
        wanted += [t for t in m.tests if t not in wanted]
    unknown = [name for name, _ in wanted if name not in tree.tests]
    if unknown:
        sys.exit("no such test: %s" % ", ".join(unknown))
    if not tree.compile(wanted):
        sys.exit("the tree does not build; see %s" % tree.log)
    for name, arguments in wanted:
        if tree.passes(name, arguments) != 0:
            sys.exit("without any patch '%s' fails (arguments %s); see %s" % (name, arguments, tree.log))
    print("without a patch all %d tests pass" % len(wanted), flush=True)


def check():
    bad = 0
    for m in mutants([]):
        why = m.complaint() or (None if patch(ROOT, m, dry=True) else "does not apply any more")
        if why:
            print("%s: %s" % (m.name, why))
            bad += 1
    sys.exit(1 if bad else 0)


def main():
    p = argparse.ArgumentParser(usage="mutants [NAME ...] [--jobs N] [--list]")
    p.add_argument("names", nargs="*")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--list", action="store_true")
    p.add_argument("--check", action="store_true")
    o = p.parse_args()
    if o.check:
        check()
    chosen = mutants(o.names)
    if o.list:
        for m in chosen:
            print("%-36s %s\n%36s (%s)" % (m.name, m.bug, "", m.rule))
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    os.makedirs(WORK, exist_ok=True)
    trees = [Tree(i) for i in range(max(1, min(o.jobs, len(chosen))))]
    baseline(trees[0], chosen)
    counts = {}
    left = queue.Queue()
    for m in chosen:
        left.put(m)
    lock = threading.Lock()

    def work(tree):
        while True:
            try:
                m = left.get_nowait()
            except queue.Empty:
                return
            word, why = judge(tree, m)
            with lock:
                counts[word] = counts.get(word, 0) + 1
                print("%-14s %-36s %s" % (word, m.name, why), flush=True)

    threads = [threading.Thread(target=work, args=(t, )) for t in trees]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for word in ("does-not-apply", "does-not-build"):
        if counts.get(word):
            print("%d %s" % (counts[word], word))
    print("%d caught, %d survived" % (counts.get("caught", 0), counts.get("SURVIVED", 0)))
    sys.exit(0 if counts.get("caught", 0) == len(chosen) else 1)


if __name__ == "__main__":
    main()

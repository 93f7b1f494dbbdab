#!/usr/bin/python3
"""The command line against a daemon that answers from files: text, JSON, errors, exit codes, and the request that goes out.

Golden files: tests/vectors/cli/golden/NAME.txt, one a command. `golden_test.py --update ...` writes them anew.
"""
import difflib
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import fcntl
import termios
import time
from pathlib import Path

UPDATE = "--update" in sys.argv
CLI, FAKE, VECTORS = [Path(a) for a in sys.argv[1:] if a != "--update"]
ANSWERS, GOLDEN = VECTORS / "answers", VECTORS / "golden"

# Beside `NOUN VERB` with the words of WORDS: variants that show something else.
WORDS = {"site invite": ["P03"], "site revoke": ["i-17"], "site remove": ["P02", "--yes"], "upstream remove": ["acme", "--yes"],
         "upstream test": ["bookworm"], "update show": ["deb/openssl/3.0.15-1~deb12u1/amd64"],
         "upstream add": ["acme", "--uri", "https://deb.example", "--keyring", "/k/a.gpg"], "update expire": ["acme/tool/1.1", "--yes"], "update remove": ["acme/tool/1.0", "--yes"],
         "update publish": ["{dir}/update.json"], "catalogue search": ["openssl"], "sync show": ["r-8812"], "sync approve": ["r-9"], "sync reject": ["r-9"],
         "recall": ["deb/openssl/3.0.15-1~deb12u1/amd64"], "explain": ["B21"], "wait": ["CEN", "P01", "--for", "current", "--timeout", "1h"]}
VARIANTS = {
    "plan": [["--recall", "deb/openssl/3.0.15-1~deb12u1/amd64"]],
    "recall": [[], ["list"], ["deb/openssl/3.0.15-1~deb12u1/amd64", "--wait", "--timeout", "300ms"]],
    "tree": [["--problems"], ["--depth", "1"]],
    "links": [["--sort", "rtt"]],
    "site remove": [["P02", "--dry-run"], ["P02"]],
    "site revoke": [["P03"]],
    "site invite": [["P03", "--tier", "branch", "--ttl", "90m"], ["P03", "--tier", "brunch"], []],
    "sync now": [["--full"], ["--wait", "--timeout", "0"]],
    "upstream add": [["--from-system", "--suites", "bookworm,bookworm-updates"],
                     ["x", "--uri", "https://deb.example", "--components", "main,contrib", "--no-check-valid-until"],
                     ["x", "--path", "/srv/x", "--publisher", "acme"], ["x", "--keyring", "/a.gpg"], []],
    "filter set": [["--products", "", "--architectures", "amd64, arm64"]],
    "events": [["--limit", "5", "--name", "link-down", "--since", "2026-11-20T06:00:00Z"]],
    "catalogue list": [["--limit", "2", "--state", "active"], ["--limit", "2x"]],
    "wait": [["--for", "live", "--timeout", "200ms", "CEN", "B12"], ["--for", "current", "XXX"], ["--for", "nothing"],
             ["--for", "run=r-8812"]],
    "update publish": [["{dir}/none.json"], ["{dir}/bad.json"]],
    "status": [["--colr"], ["more"], ["--dir", "{dir}/none"], ["--dir", "{dir}"]],
}
# They do more than ask, and have tests of their own.
APART = {"trust rotate", "backup", "restore", "site init", "site join", "demo", "help", "version"}
failures = []


def check(condition, *what):
    if not condition:
        failures.append(" ".join(str(w) for w in what))


class Fixture:
    """A site's folder with the fake daemon; answers: others than those of the vectors, {"sync.show.1": object or list}."""

    def __init__(self, answers=None):
        self.dir = Path(tempfile.mkdtemp(prefix="cli-test-"))
        self.site = self.dir / "site"
        (self.site / "run").mkdir(mode=0o700, parents=True)
        self.site.chmod(0o700)
        (self.dir / "update.json").write_text('{"id": "acme/tool/1.2"}\n')
        (self.dir / "bad.json").write_text('{"id": \n')
        self.log = open(self.dir / "requests", "w+")
        folder = ANSWERS
        if answers is not None:
            folder = shutil.copytree(ANSWERS, self.dir / "answers")
            for name, answer in answers.items():
                (folder / (name + ".json")).write_text(json.dumps(answer))
        self.fake = subprocess.Popen([FAKE, self.site / "run/control.sock", folder], stdin=subprocess.PIPE, stdout=self.log)
        deadline = time.monotonic() + 20
        while "ready" not in self.requests() and time.monotonic() < deadline:
            time.sleep(0.005)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SITETREE_") and k not in ("NO_COLOR", "COLUMNS")}
        self.env.update(SITETREE_DIR=str(self.site), TERM="xterm", TZ="UTC")

    def requests(self):
        return (self.dir / "requests").read_text()

    def words(self, words):
        return [w.replace("{dir}", str(self.dir)) for w in words]

    def run(self, words, stdin="", **env):
        before = len(self.requests())
        done = subprocess.run([CLI, *self.words(words)], capture_output=True, text=True, input=stdin, timeout=60,
                              env=dict(self.env, **env))
        return done, self.requests()[before:].splitlines()

    def close(self):
        self.fake.stdin.close()
        self.fake.wait(20)
        self.log.close()
        shutil.rmtree(self.dir)


def stable(text, f):
    text = text.replace(str(f.dir), "{dir}")
    # What `wait` measures itself.
    text = re.sub(r'("sitetree.wait/1","as_of":)"[^"]*"', r'\1"TIME"', text)
    text = "\n".join(re.sub(r'"seconds":[0-9.e-]+', '"seconds":0.1', line) if "sitetree.wait/1" in line else line
                     for line in text.split("\n"))
    text = re.sub(r"after \d+(\.\d)? s", "after 0.1 s", text)
    return re.sub(r"(site  generation +cause .*as of) \S+", r"\1 TIME", text)


def transcript(f, words):
    done, requests = f.run(words)
    lines = ["$ sitetree " + " ".join(words)] + done.stdout.splitlines()
    lines += ["stderr: " + line for line in done.stderr.splitlines()]
    asked = []
    for r in requests:
        r = json.loads(r)
        line = "asked: " + r["command"] + (" " + json.dumps(r["args"], sort_keys=True) if r.get("args") else "")
        if line not in asked:  # polling asks again
            asked.append(line)
    return stable("\n".join(lines + asked + ["exit: %d" % done.returncode]), f), done


def check_json(name, done):
    lines = done.stdout.splitlines()
    check(lines, name, "--json printed nothing")
    for line in lines:
        try:
            o = json.loads(line)
        except ValueError:
            check(False, name, "--json printed", line)
            continue
        want = {"schema", "code", "message", "hint"} if o.get("schema") == "sitetree.error/1" else {"schema", "as_of", "data"}
        check(set(o) == want, name, "keys of the JSON answer:", sorted(o))
        check(re.fullmatch(r"sitetree\.[a-z-]+/1", o.get("schema", "")), name, "schema", o.get("schema"))
    return lines


def all_commands(f):
    """From the table, by what completion offers."""
    found = []
    for noun in f.run(["__complete", ""])[0].stdout.split():
        verbs = f.run(["__complete", noun, ""])[0].stdout.split()
        is_noun = "VERB tells more" in f.run(["help", noun])[0].stdout
        found += [noun + " " + v for v in verbs] if is_noun else [noun]
    return found


def test_goldens(f):
    commands = [c for c in all_commands(f) if c not in APART]
    check(len(commands) > 30, "only these commands:", commands)
    for command in commands:
        words = command.split() + WORDS.get(command, [])
        text, done = transcript(f, words)
        json_text, json_done = transcript(f, words + ["--json"])
        check(done.returncode == json_done.returncode, command, "exit", done.returncode, "but with --json", json_done.returncode)
        check_json(command, json_done)
        parts = [text, json_text] + [transcript(f, command.split() + v)[0] for v in VARIANTS.get(command, [])]
        for out in (done.stdout, done.stderr, json_done.stdout):
            check("\033" not in out and "\r" not in out, command, "escape bytes in a pipe")
        compare(command.replace(" ", "-"), "\n\n".join(parts) + "\n")


def compare(name, got):
    path = GOLDEN / (name + ".txt")
    want = path.read_text() if path.exists() else ""
    if got == want:
        return
    if UPDATE:
        path.write_text(got)
        return
    diff = "\n".join(difflib.unified_diff(want.splitlines(), got.splitlines(), str(path), "now", lineterm=""))
    check(False, name, "differs from its golden file:\n" + diff)


def test_first_columns_can_be_pasted(f):
    for noun, key, list_path in (("tree", "site", "sites"), ("site list", "site", "sites"), ("sync list", "run", "runs"),
                                 ("upstream list", "name", "upstreams")):
        data = json.loads(f.run(noun.split() + ["--json"])[0].stdout)["data"][list_path]
        rows = f.run(noun.split())[0].stdout.splitlines()[1:]
        check([r.split()[0] for r in rows] == [d[key] for d in data], noun, "first column", rows)


def test_unknown_is_a_question_mark(f):
    row = [l for l in f.run(["tree"])[0].stdout.splitlines() if l.strip().startswith("P02")][0].split()
    check(row.count("?") >= 8 and "0" not in row[2:6], "a silent site:", row)


def run_in_terminal(f, words, columns=200, rows=50, env=None):
    """Everything that comes out, both streams, on a terminal of this width."""
    pid, fd = pty.fork()
    if pid == 0:
        time.sleep(0.05)
        os.execve(CLI, [str(CLI), *f.words(words)], dict(f.env, **(env or {})))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    out = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.waitpid(pid, 0)
    os.close(fd)
    return out.decode()


def test_terminal(f):
    wide = run_in_terminal(f, ["tree"])
    check("\033[32mlive\033[0m" in wide, "no colour on a terminal:", wide)
    check("\033" not in run_in_terminal(f, ["tree"], env={"NO_COLOR": "1"}), "colour with NO_COLOR")
    check("\033" in run_in_terminal(f, ["tree", "--color", "always"], env={"NO_COLOR": "1"}), "--color always is weaker than NO_COLOR")
    check("\033" in run_in_terminal(f, ["tree"], env={"NO_COLOR": ""}), "an empty NO_COLOR counts")
    check("\033" not in run_in_terminal(f, ["tree"], env={"TERM": "dumb"}), "colour on a dumb terminal")
    check("\033" not in run_in_terminal(f, ["tree", "--color=never"]), "colour with --color=never")
    done, _ = f.run(["tree", "--color", "always"])
    check("\033[32m" in done.stdout, "--color always in a pipe has no colour")
    for columns in (30, 40, 60, 80, 120):
        narrow = run_in_terminal(f, ["tree"], columns, env={"NO_COLOR": "1"})
        head = narrow.splitlines()[0] if "as of" not in narrow.splitlines()[0][:6] else narrow.splitlines()[1]
        check(all(len(l) <= columns for l in narrow.splitlines()), columns, "columns are not enough:\n" + narrow)
        check(head.startswith("site"), columns, "columns: the first column is gone:", head)
    at80 = run_in_terminal(f, ["tree"], 80, env={"NO_COLOR": "1"}).splitlines()[1]
    check("cause" in at80 and "version" not in at80, "80 columns:", at80)


def test_destroying_asks(f):
    before = len(f.requests())
    out = run_in_terminal_with_input(f, ["site", "remove", "P02"], "n\n")
    asked = [json.loads(l)["args"] for l in f.requests()[before:].splitlines()]
    check("go on? [y/N]" in out and "nothing was changed" in out, "no question:", out)
    check(asked == [{"site": "P02", "dry_run": True}], "asked before the answer was yes:", asked)
    before = len(f.requests())
    run_in_terminal_with_input(f, ["site", "remove", "P02"], "y\n")
    asked = [json.loads(l)["args"] for l in f.requests()[before:].splitlines()]
    check(asked == [{"site": "P02", "dry_run": True}, {"site": "P02"}], "after yes:", asked)


def answer_of(command, **data):
    answer = json.loads((ANSWERS / (command + ".json")).read_text())
    answer["data"].update(data)
    return answer


def test_progress(_):
    """A run that goes on for two looks and then ends."""
    going = answer_of("sync.show", run="r-8813", result=None, ended=None, phase="VIEW")
    status = answer_of("sync.status", run="r-8813")
    full = answer_of("sync.status", run="r-8813", items=66481, bytes=13631488, left=0)
    answers = {"sync.now": answer_of("sync.now", run="r-8813", queued=False), "sync.show.1": going, "sync.show.2": going,
               "sync.status.1": status, "sync.status.2": full}
    f = Fixture(answers)
    out = run_in_terminal(f, ["sync", "now", "--wait"], env={"NO_COLOR": "1"})
    check("\rrun r-8813  VIEW  phase 2 of 5  41,233 of 66,481 items  8.0 MiB of 13 MiB  4.0 MiB/s  1.3 s left\033[K" in out,
          "no progress on a terminal:", repr(out[:600]))
    check("%" not in out and out.index("\033[K\r\033[K") < out.index("succeeded"), "the line of progress stays:", repr(out[:600]))
    f.close()
    f = Fixture(answers)
    done, _ = f.run(["sync", "now", "--wait", "--json"])
    check(done.stderr.splitlines() == ["run r-8813  VIEW  phase 2 of 5  41,233 of 66,481 items  8.0 MiB of 13 MiB  "
                                       "4.0 MiB/s  1.3 s left"], "one plain line in 5 s:", done.stderr)
    check(json.loads(done.stdout)["data"]["result"] == "succeeded", "what is left on stdout:", done.stdout)
    f.close()
    f = Fixture({"sync.show": going})
    done, _ = f.run(["sync", "now", "--wait", "--timeout", "300ms"])
    check(done.returncode == 4 and "it is in phase VIEW" in done.stderr, "a run that does not end:", done)
    f.close()
    f = Fixture({"sync.show": dict(going, data=dict(going["data"], waits_for="approval", reason="main would lose 47 %"))})
    done, _ = f.run(["sync", "now", "--wait"])
    check(done.returncode == 3 and "sitetree sync approve r-8813" in done.stderr and "47 %" in done.stdout, "a guarded run:", done)
    f.close()
    f = Fixture({"sync.show": answer_of("sync.show", result="failed", code="upstream", reason="no route")})
    done, _ = f.run(["wait", "--for", "run=r-8812"])
    check(done.returncode == 1 and "no route" in done.stdout, "a run that failed:", done)
    f.close()


def test_events_go_on(_):
    first, second = answer_of("events"), answer_of("events")
    first["more"] = True
    second["data"]["events"] = second["data"]["events"][:1]
    f = Fixture({"events": [first, second]})
    done, _ = f.run(["events", "--follow"])
    lines = done.stdout.splitlines()
    check(len(lines) == 4 and lines[0].startswith("at ") and "link-down" in lines[3], "titles once, then rows:", lines)
    done, _ = f.run(["events", "-f", "--json"])
    check([len(json.loads(l)["data"]["events"]) for l in done.stdout.splitlines()] == [2, 1], "an object a line:", done.stdout)
    f.close()


def test_waiting_for_sites(_):
    """Two looks in which a site is away, and a generation that moves on meanwhile."""
    tree = answer_of("tree")["data"]["sites"]
    away = answer_of("tree", sites=tree[:3])
    late = answer_of("tree", sites=[dict(s, generation=4715 if s["site"] == "CEN" else s["generation"]) for s in tree[:2]] +
                     [dict(tree[3], **{"class": "live", "generation": 4714})])
    f = Fixture({"tree.1": away, "tree": late})
    done, _ = f.run(["wait", "B12", "--for", "joined", "--timeout", "20s"])
    check(done.returncode == 0 and done.stdout.startswith("B12  generation 4714  after"), "joined:", done)
    f.close()
    f = Fixture({"tree.1": answer_of("tree", sites=tree[:4]), "tree": late, "status.2": answer_of("status", generation=4715)})
    done, _ = f.run(["wait", "P01", "B12", "--timeout", "20s"])
    check(done.returncode == 0 and "waiting for generation 4714" in done.stderr, "current, pinned:", done)
    check([l.split()[0] for l in done.stdout.splitlines()] == ["P01", "B12"], "in the order of arrival:", done.stdout)
    f.close()
    f = Fixture({"tree": answer_of("tree", sites=tree[:4])})
    done, _ = f.run(["wait", "--timeout", "300ms", "--json"])
    sites = {s["site"]: s for s in json.loads(done.stdout)["data"]["sites"]}
    check(done.returncode == 4 and sites["CEN"]["reached"] and not sites["B12"]["reached"], "not heard is not current:", done)
    check(sites["B12"]["cause"] == "not-heard", "with its cause:", sites["B12"])
    f.close()


def test_recall_waits(_):
    """Each site is named as it follows; it ends when only what is offline is left, or all have it."""
    first = answer_of("recall.show")["data"]
    sites = first["sites"]
    two = [dict(sites[0]), dict(sites[1]), dict(sites[2], state="confirmed", generation=4715), dict(sites[3])]
    partly = answer_of("recall.show", confirmed=3, sites=two)
    f = Fixture({"recall.show.1": answer_of("recall.show"), "recall.show": partly})
    done, _ = f.run(["recall", first["id"], "--wait", "--timeout", "20s"])
    lines = done.stdout.splitlines()
    check(done.returncode == 3 and [l.split()[0] for l in lines[:3]] == ["CEN", "P01", "B11"], "as they follow:", done)
    check(any(l.startswith("P02   offline") for l in lines) and not any(l.startswith("CEN   ") for l in lines[3:]), "the rest:", lines)
    f.close()
    everywhere = answer_of("recall.show", confirmed=4, offline=0, sites=[dict(s, state="confirmed", generation=4715) for s in two])
    f = Fixture({"recall.show": everywhere})
    done, _ = f.run(["recall", first["id"], "--wait", "--json"])
    check(done.returncode == 0 and json.loads(done.stdout)["data"]["confirmed"] == 4, "all of them:", done)
    f.close()
    f = Fixture({"recall.show": answer_of("recall.show")})
    done, _ = f.run(["recall", first["id"], "--wait", "--timeout", "300ms"])
    check(done.returncode == 4 and "in force at 2 of 4 sites" in done.stderr, "the time ran out:", done)
    f.close()


def test_large_trees_are_folded(_):
    fine = dict(answer_of("tree")["data"]["sites"][2])
    sites = [dict(fine, site="CEN", parent=None, depth=0)]
    for p in range(10):
        sites.append(dict(fine, site="P%02d" % p, parent="CEN", depth=1, below=20, below_live=20))
        sites += [dict(fine, site="B%d-%d" % (p, b), parent="P%02d" % p, depth=2) for b in range(20)]
    sites[-1].update({"class": "behind", "cause": "rate-limited"})
    f = Fixture({"tree": answer_of("tree", sites=sites)})
    done, _ = f.run(["tree"])
    names = [l.split()[0] for l in done.stdout.splitlines()[1:]]
    check(names[:11] == ["CEN"] + ["P%02d" % p for p in range(10)] and len(names) == 31, "folded:", names)
    done, _ = f.run(["tree", "--problems"])
    names = [l.split()[0] for l in done.stdout.splitlines()[1:]]
    check(names == ["CEN", "P09", "B9-19"], "problems and the way to them:", names)
    check("not shown: 208 that are fine" in done.stderr, done.stderr)
    f.close()


def run_in_terminal_with_input(f, words, text):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(CLI, [str(CLI), *words], f.env)
    os.write(fd, text.encode())
    out = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.waitpid(pid, 0)
    os.close(fd)
    return out.decode()


def test_not_running(f):
    empty = f.dir / "empty"
    (empty / "run").mkdir(parents=True)
    for words in (["status"], ["tree"], ["events"], ["sync", "now"]):
        done, _ = f.run(words + ["--dir", str(empty)])
        check(done.returncode == 1 and done.stdout == "", words, "without a daemon:", done)
        check(done.stderr.splitlines()[-1] == "try: sitetreed --dir %s" % empty, words, done.stderr)
    done, _ = f.run(["wait", "--for", "live", "--timeout", "300ms", "--dir", str(empty)])
    check(done.returncode == 4 and "no sitetreed runs for" in done.stderr, "wait without a daemon:", done)
    # where the configuration says that the socket is elsewhere
    (empty / "sitetree.conf").write_text('run_dir = "%s"\n' % (f.site / "run"))
    done, _ = f.run(["status", "--dir", str(empty)])
    check(done.returncode == 3, "run_dir of the configuration is not used:", done)


def test_watch(f):
    watch = subprocess.Popen([CLI, "status", "--watch", "--json"], env=f.env, stdout=subprocess.PIPE, text=True)
    try:
        lines = [json.loads(watch.stdout.readline()) for _ in range(2)]
        check(watch.poll() is None, "--watch ends by itself:", watch.returncode)
        check([line["schema"] for line in lines] == ["sitetree.status/1"] * 2, "--watch:", lines)
    finally:
        watch.kill()
        watch.wait()
    done, _ = f.run(["status", "--watch", "--dir", str(f.dir / "none")])
    check(done.returncode == 1, "--watch where no site is goes on:", done)


def test_completion(f):
    for words, want in ((["sync", ""], "now status list show cancel approve reject"), (["s"], "site sync status store stop"),
                        (["site", "show", ""], "CEN P01 P02"), (["site", "show", "P"], "P01 P02"),
                        (["sync", "show", ""], "r-8812 r-8811"), (["upstream", "test", "b"], "bookworm"),
                        (["site", "invite", "--tier", ""], "primary secondary branch"), (["wait", "CEN", ""], "CEN P01 P02"),
                        (["wait", "--for", "c"], "current"), (["sync", "now", "--f"], "--full"),
                        (["help", "sto"], "store stop"), (["help", "store", ""], "stat check"), (["status", "x", ""], ""),
                        (["nonsense", ""], "")):
        done, _ = f.run(["__complete", *words])
        check(done.returncode == 0 and done.stdout.split() == want.split(), "completion of", words, "is", done.stdout.split())
    begin = time.monotonic()
    f.run(["__complete", "site", "show", ""], SITETREE_DIR="/nonexistent")
    check(time.monotonic() - begin < 2, "completion waits for a daemon that is not there")


def test_help(f):
    overview = f.run(["help"])[0].stdout
    check(len(overview.splitlines()) < 60, "the overview does not fit a screen")
    for command in all_commands(f):
        done, _ = f.run(command.split() + ["--help"])
        again, _ = f.run(["help"] + command.split())
        check(done.returncode == 0 and done.stdout.startswith("sitetree " + command), command, "--help:", done.stdout[:80])
        check(done.stdout == again.stdout, command, "--help and help differ")
    compare("help", overview + "\n" + f.run(["help", "sync"])[0].stdout + "\n" + f.run(["help", "wait"])[0].stdout)


def main():
    f = Fixture()
    try:
        for name, test in sorted(globals().items()):
            if name.startswith("test_"):
                before = len(failures)
                test(f)
                print("%s  %s" % ("ok    " if len(failures) == before else "FAILED", name))
    finally:
        f.close()
    for failure in failures:
        print("\n" + failure)
    sys.exit(1 if failures else 0)


main()

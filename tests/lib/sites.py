"""Real sites on loopback for system tests and benches: folders, daemons, the command line, the control socket, links.

A Tree owns a temporary folder, the daemons it started and the proxies between them. Nothing waits by sleeping: wait_for
asks again until the condition holds or its deadline passes, and then fails with the last thing that was seen.
"""
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SITETREE_BUILD", ROOT / "build"))
CLI = BUILD / "tools/sitetree/sitetree"
NODE = BUILD / "services/node/sitetreed"
WORKER = BUILD / "services/metadata/sitetree-metadata"
PROXY = BUILD / "tests/lib/link_proxy"
BAD_DISK = BUILD / "tests/lib/bad_disk.so"
# Sanitizers and valgrind make everything slower; so does a busy machine.
PATIENCE = float(os.environ.get("SITETREE_PATIENCE", "1"))


class Failure(AssertionError):
    """A condition that did not come true; the message says what was seen last."""


def wait_for(condition, seconds, what, interval=0.02):
    """Asks condition() until it gives something true, and returns that."""
    deadline = time.monotonic() + seconds * PATIENCE
    seen = None
    while True:
        try:
            seen = condition()
            if seen:
                return seen
        except (OSError, CommandError) as error:
            seen = error
        if time.monotonic() >= deadline:
            raise Failure("not within %g s: %s; seen last: %s" % (seconds * PATIENCE, what, str(seen)[:2000]))
        time.sleep(interval)


# --- ports -----------------------------------------------------------------------------------------------------------

class Ports:
    """A block of ports below the ephemeral range that no other test on this machine takes at the same time."""
    FIRST, LAST, BLOCK = 20000, 32000, 100

    def __init__(self):
        folder = Path(tempfile.gettempdir()) / ("sitetree-test-ports-%d" % os.getuid())
        folder.mkdir(mode=0o700, exist_ok=True)
        blocks = list(range(self.FIRST, self.LAST, self.BLOCK))
        random.shuffle(blocks)
        for first in blocks:
            lock = open(folder / str(first), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self.lock, self.next, self.end = lock, first, first + self.BLOCK
            return
        raise RuntimeError("all blocks of ports are taken")

    def take(self):
        while self.next < self.end:
            port, self.next = self.next, self.next + 1
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue
            return port
        raise RuntimeError("this test used up its ports")


# --- a link ------------------------------------------------------------------------------------------------------------

class LinkProxy:
    """tests/lib/link_proxy.c between a child and its parent. Up is from the child."""

    def __init__(self, pairs, up=0, down=0, delay_ms=0):
        args = [str(PROXY), "-r", "%g:%g" % (up, down), "-d", "%g" % delay_ms]
        args += ["%d:%d" % pair for pair in pairs]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("link_proxy ended at once")

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError("link_proxy: %s: %s" % (command, answer["error"]))
        return answer

    def cut(self):
        self.tell("cut")

    def hold(self):
        self.tell("hold")

    def heal(self):
        self.tell("heal")

    def rate(self, up, down):
        self.tell("rate %g %g" % (up, down))

    def delay(self, ms):
        self.tell("delay %g" % ms)

    def drip(self, size):
        self.tell("drip %d" % size)

    def count(self):
        return self.tell("count")

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)
        self.process.stdout.close()


# --- a disk ------------------------------------------------------------------------------------------------------------

class BadDisk:
    """tests/lib/bad_disk.c: one call on a store's file fails, in a daemon that was started with env=disk.env."""
    SYNC, WRITE, META = 1, 2, 3
    FIELDS = struct.Struct("=7i256s")

    def __init__(self, path):
        self.path = path
        path.write_bytes(self.FIELDS.pack(0, 0, 0, 0, 0, 0, 0, b""))
        self.env = {"LD_PRELOAD": str(BAD_DISK), "BAD_DISK": str(path)}

    def _write(self, offset, data):
        with open(self.path, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def fail(self, folder, kind, error, nth=1):
        """The nth call of this kind on a data file below folder fails with error (an errno)."""
        self._write(0, struct.pack("=i", 0))
        self._write(28, struct.pack("256s", str(folder).encode()))
        self._write(4, struct.pack("=5i", nth, error, 0, 0, 0))
        self._write(0, struct.pack("=i", kind))

    @property
    def lives(self):
        """Programs that were started with this disk: the node, each worker, and each new start of one."""
        return self.FIELDS.unpack(self.path.read_bytes())[6]

    @property
    def hits(self):
        return self.FIELDS.unpack(self.path.read_bytes())[3]

    @property
    def syncs_after(self):
        """Syncs of the file by the process that had met the error."""
        return self.FIELDS.unpack(self.path.read_bytes())[5]


# --- the control socket ------------------------------------------------------------------------------------------------

class CommandError(Exception):
    """A command that was refused: code is the word of the error, exit the exit code."""

    def __init__(self, answer, where):
        self.answer = answer
        self.code = answer.get("code")
        self.exit = answer.get("exit")
        super().__init__("%s: %s: %s" % (where, self.code, answer.get("message")))


def control(path, command, args=None, timeout=60.0):
    """One command over a control socket (docs/control.md); the data of the answer, or of all answers as a list."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        # A path longer than 107 bytes does not fit the address: go by a descriptor of its folder.
        folder = os.open(os.path.dirname(path), os.O_PATH)
        try:
            s.connect("/proc/self/fd/%d/%s" % (folder, os.path.basename(path)))
        finally:
            os.close(folder)
        text = json.dumps({"command": command, "args": args or {}}).encode()
        s.sendall(struct.pack(">I", len(text)) + text)
        answers = []
        while True:
            answer = json.loads(_receive(s, struct.unpack(">I", _receive(s, 4))[0]))
            if answer.get("schema", "").startswith("sitetree.error"):
                raise CommandError(answer, command)
            answers.append(answer)
            if not answer.get("more"):
                break
    return answers[0]["data"] if len(answers) == 1 else [a["data"] for a in answers]


def _receive(s, n):
    got = b""
    while len(got) < n:
        piece = s.recv(n - len(got))
        if not piece:
            raise ConnectionError("the control socket was closed in the middle of an answer")
        got += piece
    return got


# --- a site ------------------------------------------------------------------------------------------------------------

class Result:
    """What a command line gave."""

    def __init__(self, args, done):
        self.args, self.exit, self.out, self.err = args, done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def data(self):
        return self.json["data"]

    @property
    def error(self):
        """The error's code, with --json or without."""
        try:
            return self.json.get("code")
        except ValueError:
            return None

    def __str__(self):
        return "%s\nexit %d\n%s%s" % (" ".join(self.args), self.exit, self.out, self.err)


class Site:
    def __init__(self, tree, code, **config):
        self.tree, self.code = tree, code
        self.dir = tree.dir / code
        self.log = tree.dir / (code + ".log")
        self.config_file = self.dir / "sitetree.conf"
        self.process = None
        self.parent = None
        self.proxy = None
        self.port, self.hints = tree.ports.take(), tree.ports.take()
        self.config = dict(tree.config, **config)
        self.config.setdefault("listen", "127.0.0.1:%d" % self.port)
        self.config.setdefault("listen_hints", "127.0.0.1:%d" % self.hints)
        self.config.setdefault("advertise", "127.0.0.1:%d" % self.port)
        self.config.setdefault("advertise_hints", "127.0.0.1:%d" % self.hints)

    # configuration and command line

    def write_config(self, **more):
        self.config.update(more)
        self.dir.mkdir(mode=0o700, exist_ok=True)
        text = "".join("%s = \"%s\"\n" % item for item in sorted(self.config.items()))
        self.config_file.write_text(text)

    def cli(self, *words, ok=(0,), json_output=True, timeout=120, stdin=None):
        """Runs `sitetree --dir DIR WORDS --json`; any exit code is fine with ok=None."""
        args = [str(CLI), "--dir", str(self.dir), *[str(w) for w in words]]
        if json_output:
            args.append("--json")
        env = dict(os.environ, NO_COLOR="1")
        done = subprocess.run(args, capture_output=True, text=True, timeout=timeout * PATIENCE, input=stdin, env=env)
        result = Result(args, done)
        if ok is not None and result.exit not in ok:
            raise Failure("exit %d, not one of %s:\n%s" % (result.exit, ok, result))
        return result

    def control(self, command, timeout=60.0, **args):
        return control(str(self.run_dir / "control.sock"), command, args, timeout)

    @property
    def run_dir(self):
        return Path(self.config.get("run_dir", self.dir / "run"))

    # the daemon

    def start(self, wait=True, limits=None, env=None):
        """limits: a function for the child process before it becomes the daemon; env: more environment."""
        assert self.process is None
        log = open(self.log, "ab")
        self.process = subprocess.Popen([str(NODE), "--dir", str(self.dir)], stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL, preexec_fn=limits, start_new_session=True,
                                        env=dict(os.environ, **(env or {})))
        log.close()
        if wait:
            wait_for(self.ready, 20, "%s is ready" % self.code)
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise Failure("%s ended with exit code %d; its log:\n%s" % (self.code, self.process.returncode, self.tail()))
        return self.control("ping", timeout=5)["ready"]

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, seconds=20):
        """A clean stop; fails when the daemon does not end in time or ends with an error."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill_group(process)
            raise Failure("%s did not stop within %g s of SIGTERM" % (self.code, seconds))
        if code != 0:
            raise Failure("%s stopped with exit code %d:\n%s" % (self.code, code, self.tail()))

    def kill(self):
        """kill -9 of the node alone; its workers must end by themselves or be taken over."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def kill_worker(self):
        """kill -9 of the metadata worker; returns its pid."""
        pid = wait_for(self.worker_pid, 10, "%s has a worker" % self.code)
        os.kill(pid, signal.SIGKILL)
        return pid

    def worker_pid(self):
        for pid in children_of(self.process.pid) if self.process else []:
            if process_name(pid).startswith(WORKER.name[:15]):
                return pid
        return None

    def pids(self):
        """The node and everything it started."""
        found = [self.process.pid] if self.process else []
        for pid in found:
            found += children_of(pid)
        return found

    def _kill_group(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def destroy(self):
        if self.process is not None:
            for pid in self.pids()[1:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._kill_group(self.process)
            self.process = None
        if self.proxy:
            self.proxy.close()
            self.proxy = None

    def tail(self, lines=30):
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    # what it says of itself

    def status(self):
        return self.control("status")

    def head(self):
        return self.control("catalogue.show")

    def wait_generation(self, generation, seconds=30):
        return wait_for(lambda: (self.head()["generation"] or 0) >= generation, seconds,
                        "%s is at generation %d" % (self.code, generation))

    def sync(self, full=True, seconds=120):
        """A run to its end; its record."""
        run = self.control("sync.now", full=full)["run"]
        return self.wait_run(run, seconds)

    def wait_run(self, run, seconds=120):
        def ended():
            record = self.control("sync.show", run=run)
            return record if record["result"] else None
        return wait_for(ended, seconds, "run %s at %s has ended" % (run, self.code))


def children_of(pid):
    try:
        return [int(p) for task in os.listdir("/proc/%d/task" % pid)
                for p in Path("/proc/%d/task/%s/children" % (pid, task)).read_text().split()]
    except OSError:
        return []


def process_name(pid):
    try:
        return Path("/proc/%d/comm" % pid).read_text().strip()
    except OSError:
        return ""


# --- a tree ------------------------------------------------------------------------------------------------------------

class Tree:
    """Quick timers by default, so that tests see retries and reports within seconds."""
    CONFIG = {"heartbeat": "500ms", "report_interval": "500ms", "hello_timeout": "3s", "poll_interval": "2s",
              "request_timeout": "3s", "schedule": "0", "map_size": "2GiB"}

    def __init__(self, keep=False, production=False, **config):
        self.dir = Path(tempfile.mkdtemp(prefix="sitetree-test-"))
        self.keep = keep or bool(os.environ.get("SITETREE_KEEP"))
        self.config = dict({"map_size": "2GiB"} if production else self.CONFIG, **config)
        self.ports = Ports()
        self.sites = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.show_logs()
        for site in self.sites.values():
            site.destroy()
        if self.keep:
            print("kept: %s" % self.dir, file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        for site in self.sites.values():
            print("--- log of %s ---\n%s" % (site.code, site.tail(40)), file=sys.stderr)

    def central(self, code="CEN", start=True, **config):
        site = self.sites[code] = Site(self, code, **config)
        site.cli("site", "init", "--central", code, "--no-start")
        site.write_config()
        return site.start() if start else site

    def invite(self, parent, code, tier="branch"):
        return parent.cli("site", "invite", code, "--tier", tier).data["token"]

    def join(self, parent, code, tier="branch", start=True, **config):
        """A new site below parent, by a token."""
        site = self.sites[code] = Site(self, code, **config)
        site.parent = parent
        site.cli("site", "join", self.invite(parent, code, tier), "--no-start")
        site.write_config()
        return site.start() if start else site

    def link_before(self, parent):
        """Puts a proxy before a parent that is not running now; all children that join from now on go through it."""
        pull, hints = self.ports.take(), self.ports.take()
        parent.proxy = LinkProxy([(pull, parent.port), (hints, parent.hints)])
        parent.write_config(advertise="127.0.0.1:%d" % pull, advertise_hints="127.0.0.1:%d" % hints)
        return parent.proxy

    def start_all(self):
        for site in self.sites.values():
            if not site.running():
                site.start()

    def wait_equal(self, seconds=60, sites=None):
        """Until every site shows the generation and root of the central site."""
        sites = list(sites or self.sites.values())
        central = sites[0]

        def equal():  # asks the workers: the status of a site may be a moment old
            want = central.head()
            got = {s.code: s.head() for s in sites}
            apart = {c: (g["generation"], g["root"]) for c, g in got.items()
                     if (g["generation"], g["root"]) != (want["generation"], want["root"])}
            if apart:
                raise OSError("want %s %s, apart: %s" % (want["generation"], want["root"], apart))
            return want
        return wait_for(equal, seconds, "all sites are equal")

    def verify_all(self, seconds=60):
        """`verify --all` at the central site, and `verify` at each: recomputed from the stored bytes."""
        central = next(iter(self.sites.values()))

        def fine():
            done = central.cli("verify", "--all", ok=None)
            if done.exit != 0:
                raise OSError(str(done))
            return done.data
        result = wait_for(fine, seconds, "verify --all is fine", interval=0.2)
        assert {s["site"] for s in result["sites"]} >= set(self.sites)
        assert all(s["equal"] for s in result["sites"]), result
        for site in self.sites.values():
            own = site.cli("verify").data
            assert own["ok"] and own["root"] == own["recomputed"] == result["root"], (site.code, own)
        return result


@contextmanager
def paused(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

"""What the peers share: their processes with CPU time, memory and disk, ports, a counting proxy, and the data.

A peer is a module with
    NAME, PACKAGES, DURABLE         its name, Debian packages, and in a few words what it promises of a write
    class Peer                      made with (place: Place, data: Data); each method is one work and gives a Result, or
                                    raises Absent(why) when the peer has nothing of that kind
        bootstrap()  catchup()  cascade()  repair()
        close()                     ends what is still running
A peer runs in its own folder, on its own ports, on 127.0.0.1, and is ended by its process ids.
"""
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from sites import LinkProxy, children_of, wait_for

HOPS, UPDATES, PER_SECOND = 4, 60, 20
WRONG = 100


class Absent(Exception):
    """There is nothing to measure, and why."""


class Result:
    """seconds (or milliseconds p50 and p99), bytes on the link both ways, CPU seconds and memory of the processes, disk of
    the receiving side, a remark."""

    def __init__(self, seconds=None, p50=None, p99=None, wire=None, cpu=None, rss=None, disk=None, note=""):
        self.seconds, self.p50, self.p99, self.wire, self.cpu, self.rss, self.disk, self.note = (
            seconds, p50, p99, wire, cpu, rss, disk, note)


class Data:
    """The same records for everybody: {key: text}, all of them, and two states that 4,541 changes lie between."""

    def __init__(self, everything, base, after):
        self.all, self.base, self.after = everything, base, after
        self.put = {k: v for k, v in after.items() if base.get(k) != v}
        self.gone = [k for k in base if k not in after]
        self.wrong = random.Random(3).sample(sorted(everything), WRONG)


class Place:
    """A folder and ports of a peer."""

    def __init__(self, folder, ports):
        self.dir, self.ports = Path(folder), ports
        self.running, self.proxies = [], []

    def folder(self, name, user=None):
        path = self.dir / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, mode=0o700)
        if user:
            entry = pwd.getpwnam(user)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    def start(self, name, args, **more):
        log = open(self.dir / (name + ".log"), "ab")
        process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True, **more)
        log.close()
        self.running.append(Server(name, process, self.dir / (name + ".log")))
        return self.running[-1]

    def proxy(self, port):
        """A counted way to a port."""
        listen = self.ports.take()
        self.proxies.append(LinkProxy([(listen, port)]))
        return listen, self.proxies[-1]

    def close(self):
        for server in reversed(self.running):
            server.stop()
        for proxy in self.proxies:
            proxy.close()
        self.running, self.proxies = [], []


class Server:
    def __init__(self, name, process, log):
        self.name, self.process, self.log = name, process, log

    def pids(self):
        found = [self.process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def alive(self):
        if self.process.poll() is not None:
            raise RuntimeError("%s ended with exit code %d: %s" % (
                self.name, self.process.returncode, self.log.read_text(errors="replace")[-1500:]))
        return True

    def stop(self, how=signal.SIGTERM, seconds=20):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def cpu_seconds(*servers):
    """Of the processes and of those that they have ended already."""
    total = 0
    for server in servers:
        for pid in server.pids():
            try:
                fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
                total += sum(int(x) for x in fields[11:15])
            except OSError:
                pass
    return total / os.sysconf("SC_CLK_TCK")


def memory(*servers):
    """Bytes, shared pages divided among those who share them (the proportional set size)."""
    total = 0
    for server in servers:
        for pid in server.pids():
            try:
                for line in Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
            except OSError:
                pass
    return total


def disk(path):
    """Bytes that a folder takes."""
    return sum(f.lstat().st_blocks * 512 for f in Path(path).rglob("*") if f.is_file())


def through(proxy):
    counts = proxy.count()
    return counts["up"] + counts["down"]


def listening(port, server, seconds=30):
    def there():
        server.alive()
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    wait_for(there, seconds, "%s listens" % server.name, interval=0.01)


def run(args, **more):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError("%s: %s" % (args[0], (done.stderr or done.stdout).strip()[-1500:]))
    return done.stdout


def paced(n, send):
    """Calls send(i) n times at the pace of the load; {i: when it was sent}."""
    start, sent = time.monotonic(), {}
    for i in range(n):
        time.sleep(max(0, start + i / PER_SECOND - time.monotonic()))
        sent[i] = time.monotonic()
        send(i)
    return sent


def latencies(sent, arrived):
    """p50 and p99 in milliseconds."""
    times = sorted((arrived[i] - sent[i]) * 1e3 for i in sent)
    return times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]

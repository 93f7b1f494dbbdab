"""One parent and a thousand connected children, each with keys of its own: an update to all, memory, a restart."""
import json
import resource
import statistics
import subprocess
import time

from benches import BARE, MIB, bare, rss_without_map
from report import Aim, Row, Sample
from sites import process_name, wait_for

CHILDREN, UPDATE_BYTES, ROUNDS, PER_PROCESS = 1000, 1024, 21, 160


class Children:
    """tests/bench/children.c"""

    def __init__(self, tokens):
        self.process = subprocess.Popen([str(BARE / "children"), str(tokens)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)

    def state(self, generation=1 << 62):
        self.process.stdin.write("state %d\n" % generation)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the children ended")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def an_update(i):
    """UPDATE_BYTES that do not compress well."""
    text = "".join("%08x " % (hash((i, k)) & 0xffffffff) for k in range(200))
    return json.dumps({"id": "fanout-%d" % i, "title": "Update %d" % i, "product": "bench", "severity": "important",
                       "description": text[:UPDATE_BYTES - 60]})


def invite(tree, parent):
    """A file with a token for each child."""
    path = tree.dir / "tokens"
    tokens = [parent.control("site.invite", site="F%04d" % i, tier="branch")["token"] for i in range(CHILDREN)]
    path.write_text("\n".join(tokens) + "\n")
    return path


def to_all(parent, children, i):
    """Milliseconds from the command until the last child has the hint with the update."""
    start = time.monotonic_ns()
    generation = parent.control("update.publish", json=an_update(i))["generation"]

    def heard():
        state = children.state(generation)
        return state if state["heard"] == CHILDREN else None
    return (wait_for(heard, 30, "all have heard of generation %d" % generation, interval=0.01)["last_ns"] - start) / 1e6


def back(parent, children):
    """Seconds from the start of the parent until 95 % of the children have a session again."""
    parent.kill()
    wait_for(lambda: children.state()["live"] == 0, 30, "the children have noticed")
    start = time.monotonic()
    parent.start(wait=False)
    wait_for(lambda: children.state()["live"] >= CHILDREN * 0.95, 120, "95 % are live", interval=0.02)
    return time.monotonic() - start


def fanout(setup):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12000:
        raise RuntimeError("at most %d open files: a thousand children need 12,000" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # also for the bare loop; inherited
    update, rss, live, by_process = [], [], [], {}
    try:
        with setup.tree() as tree:
            parent = tree.central()
            parent.control("update.publish", json=an_update(0))
            with Children(invite(tree, parent)) as children:
                start = time.monotonic()
                wait_for(lambda: children.state()["live"] == CHILDREN, 120, "all children are live", interval=0.1)
                joined = time.monotonic() - start
                for i in range(ROUNDS + 3):  # the first three warm up
                    update.append(to_all(parent, children, i + 1))
                    time.sleep(0.05)  # everybody waits again, as in the bare loop
                by_process = {process_name(p): rss_without_map(p) / MIB for p in parent.pids()}
                rss.append(sum(by_process.values()))
                for _ in range(max(1, min(setup.runs, 3))):
                    live.append(back(parent, children))
                rss.append(sum(rss_without_map(p) for p in parent.pids()) / MIB)
        theirs = bare("bare_fanout", CHILDREN, UPDATE_BYTES, ROUNDS, PER_PROCESS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    update = update[3:]
    return Row("fanout", "ms", [
        Aim("update", "ms", Sample([statistics.median(update)]), Sample([theirs["median_ms"]]), 3, True),
        Aim("rss", "MiB", Sample(rss), None, 256, False),
        Aim("back", "s", Sample(live), None, 60, False)],
        children=CHILDREN, update_bytes=UPDATE_BYTES, update_most_ms=max(update), bare_most_ms=theirs["max_ms"],
        joined_seconds=round(joined, 1), processes=str({k: round(v, 1) for k, v in by_process.items()}))


BENCHES = {"fanout": fanout}

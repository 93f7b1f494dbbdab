#!/usr/bin/python3
"""./dev bench [NAME...] [--json] [--runs N]: the product beside the bare loop of the same libraries, in the same run.

Each line: ours, bare (median, smallest to largest of the runs), ratio, aim, ok. With --json one object a line. Exit 0
when every aim is met, 1 when one is not, 3 when the real catalogue is neither in the cache nor to be fetched.

peers is a bench of its own, that runs only when it is named: the same works on what a user would pick instead, each
installed from Debian, in a table; "bare" is the peer's value then, and a peer that cannot be installed is skipped.
"""
import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]
import bench_fanout  # noqa: E402
import bench_million  # noqa: E402
import bench_moving  # noqa: E402
import bench_peers  # noqa: E402
import bench_repair  # noqa: E402
import benches  # noqa: E402
import sites  # noqa: E402
from debian import Debian, Offline  # noqa: E402
from report import Row  # noqa: E402

BENCHES = dict(benches.BENCHES, **bench_repair.BENCHES, **bench_moving.BENCHES, **bench_fanout.BENCHES,
               **bench_million.BENCHES)


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": os.uname().release, "load": os.getloadavg()[0]}


def show_peers(args, debian):
    if not args.json:
        print(bench_peers.PeerRow.HEADER, flush=True)
    fine = True
    for row in bench_peers.peers(benches.Setup(args, debian)):
        fine = fine and row.ok
        print(json.dumps(row.object()) if args.json else row.text(), flush=True)
    return fine


def main():
    names = list(BENCHES) + ["peers"]
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--runs", type=int, default=5, help="of each side (default %(default)s); the median counts")
    parser.add_argument("--idle-seconds", type=int, default=300, help="how long the idle link is counted, in whole periods of 300 s (default %(default)s)")
    parser.add_argument("--cache", type=Path, default=sites.BUILD / "bench-cache", help="folder of the catalogue")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the sites")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    unknown = [n for n in args.names if n not in names]
    if unknown:
        parser.error("no bench %s; there are %s" % (", ".join(unknown), ", ".join(names)))
    try:
        debian = Debian(args.cache)
    except Offline as error:
        print("skipped: the real catalogue is not here: %s" % error, file=sys.stderr)
        return 3
    note = machine()
    print("machine: %(cpus)d x %(cpu)s, kernel %(kernel)s, load %(load).2f" % note, file=sys.stderr)
    if note["load"] > note["cpus"] / 2:
        print("warning: this machine is busy; read the ratios, not the times", file=sys.stderr)
    fine = True
    if "peers" in args.names:
        fine = show_peers(args, debian)
    todo = [n for n in args.names or BENCHES if n != "peers"]
    if todo and not args.json:
        print(Row.HEADER)
    for name in todo:
        start = time.monotonic()
        load = os.getloadavg()[0]
        try:
            row = BENCHES[name](benches.Setup(args, debian))
        except (sites.Failure, sites.CommandError, RuntimeError) as error:
            row = Row(name, "", None, error=str(error))
        row.more.update(load=[load, os.getloadavg()[0]], took=round(time.monotonic() - start, 1))
        fine = fine and row.ok
        print(json.dumps(row.object()) if args.json else row.text(), flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""./dev soak [MINUTES] [--seed N]: a tree under random faults while the catalogue goes on changing; at the end every site
must hold the same bytes, and all that was acknowledged (tests/lib/chaos.py)."""
import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))
from apt_repo import AptRepo  # noqa: E402
from chaos import chaos  # noqa: E402
from sites import Failure  # noqa: E402


def main():
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__.split("\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1000000)
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    args = parser.parse_args()
    print("seed %d, %g minutes" % (args.seed, args.minutes), flush=True)
    with tempfile.TemporaryDirectory(prefix="sitetree-repo-") as folder:
        repo = AptRepo(folder)
        try:
            print(chaos(args.seed, repo, args.minutes * 60, keep=args.keep))
        except Failure as error:
            print("failed (seed %d): %s" % (args.seed, error), file=sys.stderr)
            return 1
        finally:
            repo.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

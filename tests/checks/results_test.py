#!/usr/bin/python3
"""The counts behind the closing line of `./dev test`."""
import json
import sys

from results import count


def main():
    rows = [{"name": n, "result": r, "stdout": '"result": "OK"'} for n, r in [
        ("a", "OK"), ("b", "FAIL"), ("c", "SKIP"), ("d", "TIMEOUT"), ("e", "ERROR"), ("f", "EXPECTEDFAIL"),
        ("g", "UNEXPECTEDPASS"), ("h", "INTERRUPT")]]
    passed, failed, skipped = count(json.dumps(row) + "\n" for row in rows)
    assert passed == 2, passed
    assert failed == ["b (fail)", "d (timeout)", "e (error)", "g (unexpectedpass)", "h (interrupt)"], failed
    assert skipped == 1, skipped
    assert count([]) == (0, [], 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

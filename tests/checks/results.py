#!/usr/bin/python3
"""Counts the results in a meson testlog.json: "passed failed skipped" on the first line, then each failed test."""
import json
import sys

GOOD = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def count(lines):
    passed, skipped, failed = 0, 0, []
    for line in lines:
        if not line.strip():
            continue
        row = json.loads(line)
        if row["result"] in GOOD:
            passed += 1
        elif row["result"] in SKIPPED:
            skipped += 1
        else:
            failed.append("%s (%s)" % (row["name"], row["result"].lower()))
    return passed, failed, skipped


def main():
    with open(sys.argv[1], encoding="utf-8") as log:
        passed, failed, skipped = count(log)
    print(passed, len(failed), skipped)
    for name in failed:
        print(name)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""A seed that fails tells the command that replays it, and that fails at the same step after the same trace.
Usage: replay_test.py PROGRAM"""
import re
import subprocess
import sys


def run(command):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return p.returncode, p.stdout.decode(errors="replace")


def found(pattern, text):
    match = re.search(pattern, text, re.M)
    if not match:
        sys.exit("not in the output: %s\n%s" % (pattern, text[-3000:]))
    return match.group(1)


def main():
    for at in ("100", "4000"):
        rc, first = run([sys.argv[1], "--first", "11", "--seeds", "3", "--break-at", at])
        if rc == 0:
            sys.exit("a seed was broken on purpose, and the test passes")
        command = found(r"^world: the same again: (.*)$", first)
        if "--seed 11" not in command:
            sys.exit("not the seed that failed: %s" % command)
        rc, second = run(command.split())
        for pattern in (r"^(world: seed .*)$", r"^(world: trace .*)$", r"^(world: nothing: .*)$"):
            if rc == 0 or found(pattern, first) != found(pattern, second):
                sys.exit("the replay differs: %s" % found(pattern, second))
        if len(second.splitlines()) < len(first.splitlines()):
            sys.exit("the replay does not show its whole trace")


main()

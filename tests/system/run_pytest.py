#!/usr/bin/python3
"""Runs one file of system tests for meson: exit code 77 where pytest or a module it needs is missing."""
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
for module in ("pytest", "zmq", "nacl", "lmdb"):
    if importlib.util.find_spec(module) is None:
        print("python3-%s is not installed" % module)
        sys.exit(77)
import pytest  # noqa: E402

sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)
code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--rootdir", HERE, "--durations=5", *sys.argv[1:]])
sys.exit(77 if code == pytest.ExitCode.NO_TESTS_COLLECTED else int(code))

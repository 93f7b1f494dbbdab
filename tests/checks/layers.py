#!/usr/bin/python3
"""Which folder may include what: docs/architecture.md, "Folders". Usage: layers.py ROOT | layers.py --self-test"""
import os
import re
import sys
import tempfile

COMMON = ["base", "crypto", "wire", "store", "bus", "config", "control", "process"]
# A library's header appears only in its folder.
HEADERS = {
    "sodium.h": "common/crypto",
    "lmdb.h": "common/store",
    "zmq.h": "common/bus",
}
# Tools that measure a library bare, beside our own use of it, and tests of the layer itself may include it too.
ALSO = ("tests/", )
OURS = ("common/", "services/", "tools/", "tests/", "proto/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
UNPACK = re.compile(r"\b(?:\w+__unpack|protobuf_c_message_unpack)\s*\(")


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:2])


def may_include(source, header):
    """Both are paths from the top; says why not, or None."""
    here, there = source.split("/"), header.split("/")
    if here[0] == "tests":
        return None
    if there[0] == "tests":
        return "only tests include tests"
    if there[0] == "proto":
        if here[:2] == ["common", "base"]:
            return "base includes nothing of ours"
        return None
    if here[0] == "common":
        if there[0] != "common":
            return "common/ includes only common/"
        if here[1] not in COMMON or there[1] not in COMMON:
            return "unknown folder of common/"
        if COMMON.index(there[1]) > COMMON.index(here[1]):
            return "common/%s stands below common/%s" % (there[1], here[1])
    elif here[0] == "services":
        if there[0] == "tools" or (there[0] == "services" and there[1] != here[1]):
            return "a service includes only common/ and itself"
    elif here[0] == "tools":
        if there[0] == "tools" and there[1] != here[1]:
            return "a tool does not include another tool"
    return None


def check_file(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        text = f.read()
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(1)) + 1
        kind, header = match.groups()
        why = None
        if header.startswith(OURS):
            why = may_include(path, header) if kind == '"' else "own headers stand in quotes"
        elif kind == '"':
            why = "own headers are written from the top of the tree"
        elif header in HEADERS and folder_of(path) != HEADERS[header] and not path.startswith(ALSO):
            why = "only %s may" % HEADERS[header]
        if why:
            yield "%s:%d: includes %s: %s" % (path, line, header, why)
    if folder_of(path) != "common/wire" and not path.startswith(ALSO):
        for match in UNPACK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield "%s:%d: unpacks a message itself: only common/wire may (its arena has a cap)" % (path, line)


def check(root):
    for top in ("common", "services", "tools", "tests"):
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    path = os.path.relpath(os.path.join(folder, name), root)
                    yield from check_file(root, path)


CASES = [  # file, its text, must be refused
    ("common/base/a.c", '#include "common/base/a.h"\n#include <zlib.h>\n', False),
    ("common/base/b.c", '#include "common/wire/frame.h"\n', True),
    ("common/base/c.c", '#include "proto/link.pb-c.h"\n', True),
    ("common/bus/a.c", '#include <zmq.h>\n#include "common/store/store.h"\n', False),
    ("common/store/a.c", '#include "common/bus/step.h"\n', True),
    ("common/store/b.c", "#  include <sodium.h>\n", True),
    ("common/store/c.c", '#include "store.h"\n', True),
    ("common/store/d.c", "#include <common/store/store.h>\n", True),
    ("common/control/a.c", '#include "services/node/node.h"\n', True),
    ("services/node/a.c", '#include "services/node/node.h"\n#include "common/process/run.h"\n', False),
    ("services/node/b.c", '#include "services/metadata/metadata.h"\n', True),
    ("services/node/c.c", "x = sitetree__hello__unpack(NULL, n, p);\n", True),
    ("services/node/d.c", "#include <lmdb.h>\n", True),
    ("services/node/e.c", '#include "tests/lib/world/world.h"\n', True),
    ("common/wire/a.c", "m = protobuf_c_message_unpack(d, a, n, p);\n", False),
    ("tools/sitetree/a.c", '#include "services/node/node.h"\n', False),
    ("tools/sitetree/b.c", '#include "tools/simulate/world.h"\n', True),
    ("tests/unit/a.c", '#include "common/base/err.h"\n#include <zmq.h>\n', False),
]


def self_test():
    wrong = []
    for path, text, refused in CASES:
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, os.path.dirname(path)))
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
            found = list(check(root))
            if bool(found) != refused:
                wrong.append("%s: %s" % (path, found or "not refused"))
    return wrong


def main():
    found = self_test() if sys.argv[1] == "--self-test" else list(check(sys.argv[1]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

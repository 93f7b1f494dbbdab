#!/usr/bin/python3
"""Writes the seed inputs of the fuzz targets into tests/fuzz/corpus, from the golden bytes of tests/vectors and by
hand. Run it after a message or a frame type was added; what a fuzzer found is added by hand, under its own name."""
import os
import re
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = os.path.join(HERE, "..", "vectors")


def golden(name):
    with open(os.path.join(VECTORS, name), encoding="ascii") as f:
        return {key: bytes.fromhex(value) for key, value in (line.split(" ", 1) for line in f)}


def write(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def frame(kind, body, raw=None, flags=0, lane=3, version=1, magic=0x5354):
    raw = len(body) if raw is None else raw
    return struct.pack(">HBBHHQII", magic, version, lane, kind, flags, 7, raw, len(body)) + bytes(16) + body


def stored(data):
    """A zstd frame with one raw block and its size in the header, without a compressor."""
    block = struct.pack("<I", len(data) << 3 | 1)[:3]
    return struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data)) + block + data


def frames():
    for name, data in golden("frames.hex").items():
        write("frame", name, data)
        write("frame", name + "-zstd", frame(struct.unpack_from(">H", data, 4)[0], stored(data[40:]), len(data) - 40, 1))
    write("frame", "empty-body", frame(1, b""))
    write("frame", "unknown-type", frame(999, b"abc"))
    write("frame", "later-version", frame(1, b"", version=2))
    write("frame", "zstd-of-another-size", frame(21, stored(b"x" * 100), 99, 1))
    write("frame", "zstd-garbage", frame(21, b"\x28\xb5\x2f\xfd" + bytes(40), 1000, 1))
    bomb = struct.pack("<IBI", 0xFD2FB528, 0xA0, 4194304) + struct.pack("<I", 131072 << 3 | 2)[:3] + b"\0"
    write("frame", "zstd-bomb", frame(21, bomb, 4194304, 1))
    write("frame", "many-empty-reports", frame(6, b"\x0a\x00" * 200))
    write("frame", "nul-in-a-string", frame(5, b"\x0a\x05ab\0cd"))
    write("frame", "unknown-fields", frame(5, b"\x0a\x01x\xfa\x3f\x03abc\x80\x40\x01"))


def messages():
    with open(os.path.join(HERE, "message.c"), encoding="ascii") as f:
        kinds = re.findall(r"&sitetree__(\w+?)__descriptor", f.read())
    known = {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): value for key, value in golden("messages.hex").items()}
    for index, kind in enumerate(kinds):
        write("message", kind, bytes([index]) + known[kind])


def fragments():
    def piece(lane, stream, total, data, offset=None):
        head = lane | stream << 2 | 64 | (32 if offset is not None else 0)
        place = struct.pack(">I", offset) if offset is not None else b""
        return bytes([0, head]) + struct.pack(">H", total) + place + struct.pack(">H", len(data)) + data
    data = bytes(range(250))
    write("fragment", "two-pieces", piece(3, 1, 400, data[:200]) + piece(3, 1, 400, data[:200]))
    write("fragment", "two-classes", piece(3, 1, 40, data[:20]) + piece(1, 2, 30, data[:10]) +
          piece(3, 1, 40, data[:20]) + piece(1, 2, 30, data[:20]))
    write("fragment", "replaced", piece(2, 1, 40, data[:20]) + piece(2, 2, 40, data[:40], 0))
    write("fragment", "overlap", piece(2, 1, 40, data[:20]) + piece(2, 1, 40, data[:20], 10))
    write("fragment", "gap", piece(2, 1, 40, data[:20]) + piece(2, 1, 40, data[:10], 30))
    write("fragment", "beyond", piece(2, 1, 40, data[:20]) + piece(2, 1, 40, data[:30]))
    write("fragment", "huge", bytes([0, 16 | 2]) + struct.pack(">IB", 0xFFFFFFFF, 4) + data[:4])
    write("fragment", "most", bytes([0, 16 | 2]) + struct.pack(">IB", 1048616, 4) + data[:4])
    write("fragment", "too-late", piece(2, 1, 40, data[:20]) + b"\xf1\xff" + piece(2, 1, 40, data[:20], 20))
    write("fragment", "nested", piece(0, 0, 48, frame(9, data[:8])))
    write("fragment", "raw", b"\xff" + frame(9, struct.pack(">III", 1, 100, 0) + data[:50]))
    write("fragment", "raw-whole", b"\xff" + frame(9, struct.pack(">III", 1, 50, 0) + data[:50]))


def lanes():
    def push(lane, large):
        return bytes([lane | 3 << 2, large])
    slow = bytes([6 << 2]) + struct.pack(">H", 1000)
    some = b"".join(bytes([lane, 100]) for lane in (3, 2, 1, 0, 3))
    go = bytes([4 << 2, 31])
    write("lane", "small", some + go)
    write("lane", "slow-bulk", slow + push(3, 20) + go + some + go)
    write("lane", "all-large", b"".join(push(lane, 60) for lane in range(4)) + go * 2)
    write("lane", "faster", slow + push(3, 40) + go + bytes([6 << 2 | 32]) + struct.pack(">I", 1000000) + go * 2)
    write("lane", "cut", push(3, 40) + push(1, 40) + bytes([4 << 2, 1]) + bytes([6 << 2 | 64]) + some + go)
    write("lane", "full", push(3, 255) * 4 + push(1, 200) * 3 + some + go)
    write("lane", "pause", slow + push(2, 2) + bytes([4 << 2, 0]) + bytes([7 << 2]) + b"\xff\xff" + go)


frames()
messages()
fragments()
lanes()

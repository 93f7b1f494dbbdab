#!/usr/bin/python3
"""Reads the golden bytes with Python's own BLAKE2b and struct: what the C side wrote means what the documents say."""
import hashlib
import os
import struct
import sys


def load(folder, name):
    with open(os.path.join(folder, name), encoding="ascii") as f:
        return {key: bytes.fromhex(value) for key, value in (line.split(" ", 1) for line in f)}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """Every field of a message, in order: number, wire type, value."""
    at, out = 0, []
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        elif tag & 7 == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        elif tag & 7 == 2:
            length, at = varint(data, at)
            value, at = data[at:at + length], at + length
            assert len(value) == length
        else:
            raise AssertionError("wire type %d" % (tag & 7))
        out.append((tag >> 3, tag & 7, value))
    return out


def check_crypto(golden):
    seed = bytes(range(32))
    for domain in ("record", "page", "head", "0123456789abcdef"):
        def blake(salt):
            return hashlib.blake2b(b"sitetree", digest_size=32, salt=salt, person=domain.encode()).digest()
        assert golden["hash-" + domain] == blake(b""), domain
        assert golden["hash-salted-" + domain] == blake(seed[:16]), domain
    hierarchy = hashlib.blake2b(golden["sign-public"], digest_size=32, person=b"hierarchy").digest()
    assert golden["hierarchy"] == hierarchy
    checksum = hashlib.blake2b(b"sitetree", digest_size=32, person=b"checksum").digest()[:4]
    assert golden["checksum"] == checksum
    assert len(golden["signature-head"]) == 64


def check_frames(golden):
    assert len(golden) > 20
    for name, data in golden.items():
        number, word = name.split("-", 1)
        magic, version, lane, kind, flags, request, raw, length, epoch = struct.unpack(">2sBBHHQII16s", data[:40])
        assert (magic, version, flags) == (b"ST", 1, 0), name
        assert (kind, lane, request) == (int(number), int(number) % 4, 0x1122334455667700 + int(number)), name
        assert raw == length == len(data) - 40, name
        assert epoch == b"\xe0" + bytes(range(1, 16)), name
        if word != "NONE":
            fields(data[40:])


def check_messages(golden):
    for name, data in golden.items():
        numbers = [number for number, _, _ in fields(data)]
        assert numbers == sorted(numbers) and numbers, name  # canonical order, and no message is empty
    assert dict((n, v) for n, _, v in fields(golden["HeadGet"])) == {1: 0x0102030405060701}
    refusal = fields(golden["Refusal"])
    assert refusal == [(1, 0, 2001), (2, 2, b"text-2"), (3, 2, b"text-3")], refusal  # -1001 in zigzag


def main():
    folder = sys.argv[1]
    check_crypto(load(folder, "crypto.hex"))
    check_frames(load(folder, "frames.hex"))
    check_messages(load(folder, "messages.hex"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

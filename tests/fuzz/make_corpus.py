#!/usr/bin/python3
"""Writes the seed inputs of the fuzz targets into tests/fuzz/corpus, from the golden bytes of tests/vectors and by
hand. Run it after a message or a frame type was added; what a fuzzer found is added by hand, under its own name."""
import hashlib
import json
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


# Our own messages by hand: a number is fixed64, ("u", n) a varint, bytes and texts are as they are, a list repeats.
def proto(**fields):
    out = b""
    for name, value in fields.items():
        tag = int(name[1:])
        for v in value if isinstance(value, list) else [value]:
            if isinstance(v, tuple):
                out += varint(tag << 3) + varint(v[1])
            elif isinstance(v, int):
                out += varint(tag << 3 | 1) + struct.pack("<Q", v)
            else:
                v = v.encode() if isinstance(v, str) else v
                out += varint(tag << 3 | 2) + varint(len(v)) + v
    return out


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def digest(domain, data, salt=b""):
    return hashlib.blake2b(data, digest_size=32, person=domain, salt=salt).digest()


def sized(*parts):
    return b"".join(struct.pack(">H", len(p)) + p for p in parts)


# The key pair of the seed 01 00 00 ...: root, head and site key of the targets that sign what they are given.
KEY = bytes.fromhex("cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc")
HIERARCHY = digest(b"hierarchy", KEY)
NOW = 1795000000 * 10**9


def tokens():
    place = proto(_1="p.example:7700", _2="p.example:7701", _3=b"k" * 32, _4="P01")
    fields = dict(_1=("u", 1), _2=b"h" * 32, _3="B11", _4="branch", _5="P01", _6=b"s" * 32, _7=NOW, _8=[place, place])
    write("token", "whole", b"b" + proto(**fields))
    write("token", "five-parents", b"b" + proto(**dict(fields, _8=[place] * 5)))
    write("token", "later-version", b"b" + proto(**dict(fields, _1=("u", 2))))
    write("token", "no-port", b"b" + proto(**dict(fields, _8=[proto(_1="p", _2="p:0", _3=b"k" * 32, _4="P01")])))
    write("token", "text", b"t  st1-CAES\n IA==\n")
    write("token", "text-prefix", b"tst1-")


def certificate(code, parent, tier, serial=1):
    return proto(_1=HIERARCHY, _2=code, _3=parent, _4=tier, _5=KEY, _6=b"l" * 32, _7=serial, _8=NOW)


def trust(version=1, central=None):
    return proto(_1=HIERARCHY, _2=version, _3=KEY, _4=KEY, _5=central or certificate("CEN", "", "central"))


def chains():
    p01, b11 = certificate("P01", "CEN", "primary"), certificate("B11", "P01", "branch")
    write("trust", "three", b"s" + sized(trust(), p01, b11))
    write("trust", "loop", b"s" + sized(trust(), p01, certificate("CEN", "P01", "branch")))
    write("trust", "upward", b"s" + sized(trust(), b11, p01))
    write("trust", "two-centres", b"s" + sized(trust(), certificate("P01", "CEN", "central")))
    write("trust", "deep", b"s" + sized(trust(), *[certificate("S%d" % i, "S%d" % (i - 1) if i else "CEN", "branch")
                                                   for i in range(17)]))
    write("trust", "raw", b"r" + golden("messages.hex")["Chain"])


def configs():
    with open(os.path.join(HERE, "..", "..", "deploy", "config", "sitetree.conf.example"), encoding="ascii") as f:
        keys = [line.lstrip("# ") for line in f if re.match(r"# ?\w+ = ", line)]
    write("config", "all", "".join(keys).encode())
    write("config", "quotes", b"run_dir = \"/a b\\\"c\"\nlisten = '[::1]:7700'\nheartbeat = \"60s\"\n")
    write("config", "units", b"chunk = 64kB\nwindow = 4MiB\nheartbeat = 250ms\nschedule = 0\ndown_rate = 1MB/s\n")
    write("config", "wrong", b"heartbeat = 0\nheartbeat = 60s\nnothing = 1\n")
    write("config", "section", b"listen {\n a = 1\n}\nrun_dir = ${HOME}\ninclude(\"/etc/passwd\")\n/* c */ # d\n")


def controls():
    def request(text, piece=255):
        data = struct.pack(">I", len(text)) + text
        return b"".join(bytes([len(data[i:i + piece])]) + data[i:i + piece] for i in range(0, len(data), piece))
    ask = b'{"command":"status","args":{"a":[1,2.5,"x"]}}'
    write("control", "one", b"s" + request(ask))
    write("control", "three-in-pieces", b"s" + request(ask, 3) + request(b'{"command":"stop"}') + request(b"[]"))
    write("control", "no-json", b"s" + request(b"{\"command\""))
    write("control", "large", b"s\x04\x7f\xff\xff\xff")
    write("control", "empty", b"s\x04\0\0\0\0")
    answer = b'{"schema":"sitetree.status/1","data":{},"exit":0,"more":%s}'
    answers = [answer % more for more in (b"true", b"false")]
    write("control", "answers", b"c" + b"".join(struct.pack(">I", len(a)) + a for a in answers))
    write("control", "answer-cut", b"c" + struct.pack(">I", 200) + answers[1])
    write("control", "answer-list", b"c" + struct.pack(">I", 4) + b"[{}]")


def files():
    write("file", "key", b"fsitetree-sign " + b"1f" * 32 + b"\n")
    write("file", "key-kind", b"fsitetree-link " + b"1f" * 32 + b"\n")
    write("file", "key-short", b"fsitetree-sign 1f\n")
    write("file", "route", b"i" + struct.pack(">BBBBIHH", 1, 4, 1, 1, 7, 5, 0) + b"topic")
    write("file", "page-key", b"k" + struct.pack(">I", 1) + b"\xab\xc0" + bytes(6) + b"\x03" + b"h" * 32)
    write("file", "page-key-deep", b"k" + struct.pack(">I", 1) + bytes(8) + b"\x11" + b"h" * 32)
    write("file", "place", b"k\x03\xab\xc0")
    names = ["site.chain", "keys/site.key", "keys/link.key", "keys/head.key", "parents", "node.mdb/data.mdb",
             "metadata/data.mdb", "manifest.json"]
    write("file", "sums", b"s" + "".join("%064x  %s\n" % (i, n) for i, n in enumerate(names)).encode())
    write("file", "sums-empty", b"s")
    write("file", "sums-cut", b"s" + b"1f" * 32 + b"  site.chain")
    write("file", "long-name", b"k" + b"n" * 500)


def record(key, value, serial=2, flags=0):
    return struct.pack(">IHBQ", len(value), len(key), flags, serial) + key + value


def delta(records, drops=(), serial=2, scope=b"local/acme"):
    return (struct.pack(">BH", 1, len(scope)) + scope + struct.pack(">Q", serial) + b"a" * 32 + b"b" * 32 + b"c" * 32 +
            struct.pack(">QII", 0, len(records), len(drops)) + b"".join(records) +
            b"".join(struct.pack(">H", len(d)) + d for d in drops))


def stored_page(kind, raw, hashes=b"", data=None):
    return struct.pack(">BIH", kind | (128 if data else 0), len(raw), len(hashes) // 32) + hashes + (data or raw)


def pages():
    two = record(b"deb/a/1/all", b"x" * 40) + record(b"deb/b/1/all", b"y", flags=2)
    child = b"h" * 32 + struct.pack(">IQ", 40, 4000)
    inner = struct.pack(">H", 0b101) + child * 2
    write("page", "records", b"r" + two)
    write("page", "inner", b"n" + inner)
    write("page", "inner-small", b"n" + struct.pack(">H", 1) + child)
    write("page", "inner-sixteen", b"n" + struct.pack(">H", 65535) + child * 16)
    write("page", "inner-many", b"n" + struct.pack(">H", 3) + (b"h" * 32 + struct.pack(">IQ", 0xFFFFFFFF, 1)) * 2)
    write("page", "stored-leaf", b"p" + stored_page(2, two, b"g" * 64))
    write("page", "stored-zstd", b"p" + stored_page(2, two * 3, b"g" * 64, stored(two * 3)))
    write("page", "stored-inner", b"p" + stored_page(1, inner))
    write("page", "leaf", b"v\x02" + struct.pack(">H", 2) + two)
    write("page", "leaf-order", b"v\x02" + struct.pack(">H", 2) + record(b"b", b"") + record(b"a", b""))
    write("page", "leaf-deepest", b"v\x10" + struct.pack(">H", 80) + b"".join(record(b"%03d" % i, b"") for i in range(80)))
    write("page", "verify-inner", b"v\x01" + struct.pack(">H", 80) + inner)
    keys = [bytes([i]) for i in range(90)]
    changes = {"change": delta([record(k, b"new") for k in keys[:5]]),
               "shrink": delta([], keys[:40]), "empty": delta([], keys), "one": delta([], keys[1:]),
               "grow": delta([record(b"k%d" % i, b"v" * i) for i in range(100)], keys[3:7]),
               "unknown-drop": delta([], [b"nobody"]), "same-twice": delta([record(b"a", b"1"), record(b"a", b"2")], [b"a"]),
               "other-serial": delta([record(b"a", b"", serial=3)]), "nothing": delta([])}
    for name, bytes_ in changes.items():
        write("page", "delta-" + name, b"d" + bytes_)
        write("page", "tree-" + name, b"t" + bytes_)
    write("page", "stored-delta", b"z" + struct.pack(">I", 100) + b"h" * 64 + stored(delta([])))


def scope(name, **more):
    return proto(**dict(dict(_1=name, _2=2, _3=b"r" * 32, _4=70, _5=7000, _6=1, _7=0, _8=b"d" * 32, _9=100, _10=60), **more))


def head_payload(generation=1, **more):
    return proto(**dict(dict(_1=HIERARCHY, _2=b"e" * 16, _3=1, _4=generation, _5=bytes(32), _6=NOW, _7=NOW + 10**15,
                             _8=bytes(32), _9=1), **more))


def heads():
    scopes = proto(_1=[scope("debian/a"), scope("local/acme")])
    write("head", "signed", b"s" + sized(head_payload(_9=0)) + scopes)
    write("head", "fitting", b"S" + sized(trust(1), head_payload()) + scopes)
    write("head", "no-trust", b"S" + sized(b"", head_payload(_9=0)) + scopes)
    write("head", "old-trust", b"S" + sized(trust(2), head_payload()) + scopes)
    write("head", "no-scopes", b"S" + sized(b"", head_payload(_9=0)))
    write("head", "order", b"S" + sized(b"", head_payload(_9=0)) + proto(_1=[scope("b"), scope("a")]))
    write("head", "twice", b"S" + sized(b"", head_payload(_9=0)) + proto(_1=[scope("a"), scope("a")]))
    write("head", "names", b"S" + sized(b"", head_payload(_9=0)) + proto(_1=[scope("/a"), scope("a b"), scope("")]))
    write("head", "expired", b"S" + sized(b"", head_payload(_9=0, _7=5)) + scopes)
    write("head", "raw", b"r" + golden("messages.hex")["HeadBytes"])


def sources():
    write("apt", "list", b"l# c\ndeb [arch=amd64,arm64 signed-by=/k.gpg check-valid-until=no] https://a.example/d/ "
          b"bookworm main contrib # d\ndeb-src http://a x y\ndeb file:/srv/d ./\ndeb http://b stable/updates main\n")
    write("apt", "list-open", b"ldeb [arch=amd64 http://a b c\ndeb [=] \ndeb []\n")
    write("apt", "deb822", b"dTypes: deb deb-src\nURIs: http://a.example/d\n http://b.example\nSuites: s t/u\n"
          b"# c\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME\n -----END PGP PUBLIC "
          b"KEY BLOCK-----\n\nTypes: deb\nURIs: http://a\nSuites: x/\nEnabled: no\nCheck-Valid-Until: no\n")
    write("apt", "config", b"c" + json.dumps({"kind": "apt", "name": "n", "uri": "https://a", "suite": "s",
          "components": ["main", "updates/x"], "architectures": ["amd64", "all"], "keyring": "/k.gpg",
          "fingerprints": "0" * 40, "check_valid_until": False}).encode())
    write("apt", "config-types", b'c{"kind":"apt","uri":1,"suite":[],"components":"main","architectures":[null]}')
    write("apt", "form", b"f-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\na\n- -----\n-----BEGIN PGP SIGNATURE-----\n"
          b"\nx\n-----END PGP SIGNATURE-----\n")
    write("apt", "form-two", b"f-----BEGIN PGP SIGNED MESSAGE-----\n-----BEGIN PGP SIGNED MESSAGE-----\n")
    print40 = b"0123456789ABCDEF0123456789ABCDEF01234567"
    write("apt", "gpgv", b"g[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 0123 a\n[GNUPG:] VALIDSIG " + print40 +
          b" 2026-01-01 1 0 4 0 1 8 01 " + print40 + b"\n[GNUPG:] NEWSIG\n[GNUPG:] NO_PUBKEY 4567\n")
    write("apt", "gpgv-bad", b"g[GNUPG:] BADSIG 0123 a\n[GNUPG:] REVKEYSIG\n[GNUPG:] EXPKEYSIG x\n[GNUPG:] \n")


def step(kind, data=b"", a=0, b=0):
    return struct.pack(">BBBH", kind, a, b, len(data)) + data


def command(what, /, to=0, **args):
    return step(0, json.dumps({"command": what, "args": args}).encode(), b=to)


def catalogue():
    def save(name, *steps, at=b"m"):
        write("catalogue", name, at + b"".join(steps))
    one = {"id": "a-1", "title": "t", "package": "p", "version": "1", "cves": ["CVE-2026-1"], "supersedes": ["a-0"]}
    publish = command("update.publish", json=json.dumps(one), publisher="acme")
    more = command("update.publish", json=json.dumps([dict(one, id="b-%d" % i) for i in range(70)]), publisher="acme")
    questions = [command(n) for n in ("sync.status", "sync.list", "sync.show", "catalogue.show", "catalogue.scopes",
                                      "upstream.list", "filter.show", "store.stat", "store.check", "verify", "repair",
                                      "plan")]
    save("publish", publish, step(2), *questions)
    save("expire", publish, command("update.expire", id="local/acme/a-1"), command("update.show", id="local/acme/a-1"),
         command("update.remove", id="local/acme/a-1"), step(6), command("verify", deep=True))
    save("many", more, command("catalogue.list", limit=3, after="local/acme/b-2"), command("catalogue.count", by="state"),
         command("catalogue.search", text="B-1", state="active"), step(6), publish)
    add = command("upstream.add", name="u", kind="apt", uri="http://a.example", suite="s", keyring="/dev/null",
                  architectures=["amd64"])
    save("upstream", add, command("sync.now", full=True), step(3, json.dumps([one]).encode()), command("plan"), step(2),
         command("sync.now"), step(3, b'{"items":1,"bytes":2}', 1), step(3, b"it broke", 2), command("upstream.remove", name="u"))
    save("decide", add, command("sync.now", full=True), command("sync.cancel"), command("sync.approve"),
         command("sync.reject", run="R1"), command("epoch.new"), command("filter.set", products=["x", 1]))
    save("serve", more, *[step(1, proto(_1=0), 20, 1), step(1, proto(_1="local/acme", _2=0, _3=9, _4=("u", 65536)), 23, 1),
         step(1, proto(_1="local/acme", _2=[proto(_1=b"\0", _2=b"h" * 32, _3=("u", 1))], _3=("u", 65536)), 25, 1),
         step(1, proto(_1="R1"), 28, 1)])
    for kind in range(1, 80):
        if any(int(n.split("-")[0]) == kind for n in golden("frames.hex")):
            body = next(d for n, d in golden("frames.hex").items() if int(n.split("-")[0]) == kind)[40:]
            save("frames-%d" % kind, *[step(1, body, kind, peer) for peer in range(4)], at=b"c")
    offered = sized(head_payload()) + proto(_1=[scope("local/acme")])
    save("walk", step(4, offered), step(1, proto(_1=[proto(_1=b"\0", _3=b"x")], _2=("u", 1)), 26), step(2), step(2),
         step(4, sized(head_payload(2)) + proto(_1=[scope("local/acme", _2=3)])), *questions, at=b"c")
    empty = digest(b"sitetree-leaf", bytes(13), digest(b"sitetree-scope", b"local/acme")[:16])
    save("empty-generation", step(4, sized(head_payload()) +
                                  proto(_1=[scope("local/acme", _3=empty, _4=0, _5=0, _10=0)])), step(2), *questions, at=b"c")
    reply = proto(_1=[proto(_1="local/acme", _2=2, _3=("u", 100), _4=stored(delta([record(b"a", b"")])))])
    save("deltas", step(4, offered), step(1, reply, 24), step(1, reply, 24), at=b"c")
    save("sync-request", step(1, proto(_1="R1", _2="FULL", _3=b"e" * 16, _4=5, _5=NOW, _6=NOW, _7="R1"), 27), step(2), at=b"c")
    def row(table, key, value):
        return step(5, bytes([len(key)]) + key + value, table)
    save("damaged-head", publish, row(0, b"head", b"x"), step(6), *questions)
    save("damaged-scope", publish, row(1, b"local/acme", b"\0\0\0\1"), step(6), publish, *questions)
    save("damaged-run", add, row(4, struct.pack(">Q", 1), b'{"kind":5,"phases":[1]}'), step(6), *questions)
    save("damaged-upstream", row(5, b"u", b'["x"]'), step(6), command("sync.now", full=True), *questions)
    save("damaged-page", publish, row(2, struct.pack(">I", 1) + bytes(8) + b"\xff" + b"h" * 32, b"x"), step(6), *questions)


def node():
    def save(name, *steps):
        write("node", name, b"".join(steps))
    names = ["status", "site.list", "site.show", "tree", "links", "events", "explain", "store.stat", "site.invites", "ping"]
    save("questions", *[command(n, to=i & 1, site="P01", below="CEN", limit=3) for i, n in enumerate(names)])
    save("invite", command("site.invite", site="P02", tier="branch", valid="1h"), command("site.invites"),
         command("site.revoke", site="P02"), command("site.remove", site="P01", dry_run=True),
         command("site.remove", site="P01"), step(6, a=5), step(7))
    save("events", command("events", follow=True, since=1, name="link.up"), step(6, a=90), command("stop"))
    for name, data in golden("frames.hex").items():
        kind = int(name.split("-")[0])
        save("frames-%d" % kind, *[step(way, data[40:], kind, b) for way, b in ((1, 0), (2, 0), (3, 1), (3, 3), (4, 0), (4, 2))])
    report = proto(_1=HIERARCHY, _2="P01", _3="CEN", _4="primary", _5=2**62, _6=NOW, _8=b"e" * 16, _9=1, _13="live")
    save("report", step(5, report), step(5, golden("messages.hex")["SiteReport"]), command("tree"), command("site.show", site="P01"))
    save("worker", step(7, b=2), step(4, golden("messages.hex")["WorkerStatus"], 66, 2), step(4, golden("messages.hex")["EventNote"], 65, 2),
         step(4, proto(_1=head_payload()), 63, 2), step(4, proto(_1=head_payload(2)), 63, 2), command("events"))


frames()
messages()
fragments()
lanes()
tokens()
chains()
configs()
controls()
files()
pages()
heads()
sources()
catalogue()
node()
write("text", "times", b"2026-11-20T06:10:20Z")
for text in ("250ms", "24h", "P01", "1f" * 32, "st1-abc", "\x1b[31m", "90"):
    write("text", "t-" + hashlib.sha1(text.encode()).hexdigest()[:6], text.encode())

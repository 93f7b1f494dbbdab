"""The proxy that the other tests make slow and cut links with does what it says."""
import socket
import threading
import time

import pytest

from sites import LinkProxy, Ports, wait_for


class Echo:
    """A server that sends back what it gets."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    @staticmethod
    def serve(s):
        with s:
            try:
                while piece := s.recv(65536):
                    s.sendall(piece)
            except OSError:
                pass


@pytest.fixture
def link():
    ports = Ports()
    here, there = ports.take(), ports.take()
    echo = Echo(there)
    proxy = LinkProxy([(here, there)])
    proxy.port = here
    yield proxy
    proxy.close()
    echo.listener.close()


def connect(proxy):
    s = socket.create_connection(("127.0.0.1", proxy.port))
    s.settimeout(10)
    return s


def exchange(s, data):
    def send():
        try:
            s.sendall(data)
        except OSError:
            pass  # who reads finds out
    sender = threading.Thread(target=send)
    sender.start()
    got = b""
    while len(got) < len(data):
        piece = s.recv(65536)
        assert piece, "closed after %d of %d bytes" % (len(got), len(data))
        got += piece
    sender.join()
    assert got == data


def test_counts_both_ways(link):
    with connect(link) as s:
        exchange(s, b"x" * 3_000_000)
        count = link.count()
        assert (count["up"], count["down"], count["connections"]) == (3_000_000, 3_000_000, 1)
        assert count["ports"] == {str(link.port): {"up": 3_000_000, "down": 3_000_000}}
    wait_for(lambda: link.count()["connections"] == 0, 5, "the closed connection is gone")


def test_rate(link):
    link.rate(0, 200_000)
    with connect(link) as s:
        start = time.monotonic()
        exchange(s, b"x" * 100_000)
        assert 0.4 < time.monotonic() - start < 2


def test_delay_and_drip(link):
    link.delay(50)
    link.drip(7)
    with connect(link) as s:
        start = time.monotonic()
        exchange(s, b"0123456789" * 10)
        assert 0.1 <= time.monotonic() - start < 2


def test_cut_and_heal(link):
    with connect(link) as s:
        exchange(s, b"before")
        link.cut()
        with pytest.raises((ConnectionError, AssertionError)):
            exchange(s, b"after")
        with pytest.raises((ConnectionError, AssertionError)), connect(link) as refused:
            exchange(refused, b"still cut")
    link.heal()
    with connect(link) as s:
        exchange(s, b"healed")


def test_hold_keeps_the_connection_and_the_bytes(link):
    with connect(link) as s:
        exchange(s, b"before")
        link.hold()
        s.sendall(b"while held")
        s.settimeout(0.2)
        with pytest.raises(TimeoutError):
            s.recv(100)
        assert link.count()["up"] == len("before")
        link.heal()
        s.settimeout(10)
        assert s.recv(100) == b"while held"

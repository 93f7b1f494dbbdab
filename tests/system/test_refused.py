"""What is refused: unknown keys on the public sockets, key files that others can read, configurations with mistakes."""
import os
import subprocess

import pytest
import zmq
import zmq.utils.z85

from sites import NODE, wait_for


def knock(port, server_key, kind=zmq.DEALER):
    """A stranger with a good CURVE key that no certificate names; the events of its connection."""
    context = zmq.Context()
    try:
        socket = context.socket(kind)
        socket.linger = 0
        public, secret = zmq.curve_keypair()
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = server_key, public, secret
        if kind == zmq.SUB:
            socket.subscribe(b"")
        monitor = socket.get_monitor_socket()
        socket.connect("tcp://127.0.0.1:%d" % port)
        from zmq.utils.monitor import recv_monitor_message
        while monitor.poll(10_000):
            event = recv_monitor_message(monitor)
            if event["event"] in (zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH,
                                  zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                return event["event"], event["value"]
        return None, None
    finally:
        context.destroy(0)


@pytest.mark.parametrize("lane", ["pull", "hints"])
def test_an_unknown_key(tree, central, lane):
    link_key = bytes.fromhex(central.cli("site", "show", "CEN").data["link_key"])
    port = central.port if lane == "pull" else central.hints
    event, code = knock(port, zmq.utils.z85.encode(link_key), zmq.DEALER if lane == "pull" else zmq.SUB)
    assert (event, code) == (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)


def test_a_plain_connection_gets_nowhere(tree, central):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED)
    from zmq.utils.monitor import recv_monitor_message
    socket.connect("tcp://127.0.0.1:%d" % central.port)
    assert monitor.poll(10_000)
    assert recv_monitor_message(monitor)["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED
    context.destroy(0)
    assert central.control("ping")["ready"]


def key_files(site):
    return sorted(p for p in site.dir.rglob("*.key") if p.is_file())


def test_key_files_are_ours_alone(tree, central):
    child = tree.join(central, "B01")
    for site in (central, child):
        assert key_files(site), list(site.dir.iterdir())
        for path in key_files(site):
            assert path.stat().st_mode & 0o777 == 0o600, path
        assert site.dir.stat().st_mode & 0o777 == 0o700


def start_fails(site, *words):
    done = subprocess.run([str(NODE), "--dir", str(site.dir)], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0, done
    for word in words:
        assert word in done.stderr, done.stderr
    return done


def test_a_key_file_that_others_can_read(tree, central):
    child = tree.join(central, "B01")
    child.stop()
    path = key_files(child)[0]
    path.chmod(0o644)
    start_fails(child, str(path), "chmod 600")
    path.chmod(0o600)
    child.start()


@pytest.mark.parametrize("text,line,word", [
    ("no_such_key = 1\n", 1, "no_such_key"),
    ("# one\nheartbeat = 5s\nheartbeat = 6s\n", 3, "heartbeat"),
    ("heartbeat = fast\n", 1, "heartbeat"),
    ("\n\nlisten = \"nowhere\"\n", 3, "listen"),
    ("window = 1KiB\n", 1, "window"),
])
def test_bad_configuration(tree, text, line, word):
    site = tree.central(start=False)
    site.config_file.write_text(text)
    for extra in ([], ["--check"]):
        done = subprocess.run([str(NODE), "--dir", str(site.dir), *extra], capture_output=True, text=True, timeout=30)
        assert done.returncode != 0
        assert "sitetree.conf:%d:" % line in done.stderr and word in done.stderr, done.stderr


def test_check_and_print_config(tree):
    site = tree.central(start=False, heartbeat="7s")
    done = subprocess.run([str(NODE), "--dir", str(site.dir), "--check"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([str(NODE), "--dir", str(site.dir), "--print-config"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "heartbeat = 7s" in done.stdout, done
    # What it prints is a configuration.
    site.config_file.write_text(done.stdout)
    again = subprocess.run([str(NODE), "--dir", str(site.dir), "--print-config"], capture_output=True, text=True, timeout=30)
    assert again.stdout == done.stdout


def test_two_daemons_of_one_site(tree, central):
    start_fails(central)
    assert central.control("ping")["ready"]


def test_rate_limit_is_reloaded(tree, central):
    central.write_config(down_rate="100KiB")
    central.cli("reload")
    wait_for(lambda: all(l["rate_limit"] == 102400 for l in central.control("links")["links"]), 5, "the new rate")


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_a_site_folder_of_another_user(tree, central):
    central.stop()
    path = key_files(central)[0]
    os.chown(path, 65534, 65534)
    start_fails(central, str(path), "chown")

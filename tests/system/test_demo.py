"""`sitetree demo`: what it says, what it leaves behind, and how it ends."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from sites import CLI, PATIENCE, wait_for

pytestmark = pytest.mark.skipif(not CLI.exists(), reason="no sitetree was built")


@pytest.fixture
def place(tmp_path):
    """An environment whose temporary folder is ours, so that anything left behind is seen."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def environment(place):
    return dict(os.environ, TMPDIR=str(place), NO_COLOR="1")


def processes_below(place):
    """Processes whose command line names the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                if str(place).encode() in f.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def nothing_is_left(place):
    wait_for(lambda: not processes_below(place), 10, "no process is left")
    return not os.listdir(place)


def run(place, *words):
    return subprocess.run([str(CLI), "demo", "--offline", *words], capture_output=True, text=True,
                          timeout=180 * PATIENCE, env=environment(place), stdin=subprocess.DEVNULL)


def test_json(place):
    done = run(place, "--exit", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema"] == "sitetree.demo/1" and answer["as_of"].endswith("Z")
    assert answer["sites"] == 7 and answer["records"] == 2000
    assert answer["converged"] is True and answer["roots_equal"] is True and 0 < answer["seconds"] < 120 * PATIENCE
    rows = {row["site"]: row for row in answer["sites_detail"]}
    assert {code: row["parent"] for code, row in rows.items()} == {
        "CEN": None, "P01": "CEN", "P02": "CEN", "B11": "P01", "B12": "P01", "B21": "P02", "B22": "P02"}
    assert {row["root"] for row in rows.values()} == {rows["CEN"]["root"]} and len(rows["CEN"]["root"]) == 64
    assert all(row["equal"] and row["verified"] and row["records"] == 2000 for row in rows.values())
    assert all(row["bytes_in"] > 0 for code, row in rows.items() if code != "CEN")
    assert {key: answer[key] for key in answer["data"]} == answer["data"]
    assert nothing_is_left(place)


def test_text(place):
    done = run(place, "--sites", "3")  # no terminal: it ends by itself
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(r"site +parent +generation +records +root +lag +bytes in", lines[0]), done.stdout
    assert [line.split()[0] for line in lines[1:4]] == ["CEN", "P01", "B11"]
    assert "3 of 3 sites hold the signed root" in done.stderr
    assert "\033" not in done.stdout + done.stderr
    assert nothing_is_left(place)


def test_refused(place):
    done = run(place, "--sites", "1")
    assert done.returncode == 2 and "2 to 200 sites" in done.stderr and "try: " in done.stderr
    (place / "full").mkdir()
    (place / "full" / "file").write_text("mine")
    done = run(place, "--dir", str(place / "full"), "--exit")
    assert done.returncode == 1 and "is not empty" in done.stderr
    assert (place / "full" / "file").read_text() == "mine"
    done = run(place, "--dir", str(place / "full"), "--exit", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["code"] == "exists"


def test_dir_is_kept(place):
    done = run(place, "--sites", "2", "--dir", str(place / "mine"), "--exit")
    assert done.returncode == 0, done.stderr
    assert {"CEN", "P01"} <= set(os.listdir(place / "mine"))
    wait_for(lambda: not processes_below(place), 10, "no process is left")


@pytest.mark.parametrize("after", [b"starting", b"sites run after"])
def test_interrupted(place, after):
    process = subprocess.Popen([str(CLI), "demo", "--offline"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=environment(place), stdin=subprocess.DEVNULL)
    seen = b""
    while after not in seen:
        piece = os.read(process.stderr.fileno(), 4096)
        assert piece, seen
        seen += piece
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30 * PATIENCE)
    assert process.returncode == 1
    assert nothing_is_left(place)


def test_killed(place):
    """Even then no process stays behind; the folder does."""
    process = subprocess.Popen([str(CLI), "demo", "--offline", "--sites", "3"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=environment(place), stdin=subprocess.DEVNULL)
    wait_for(lambda: len(processes_below(place)) >= 2, 20, "its sites run")
    process.kill()
    process.wait()
    wait_for(lambda: not processes_below(place), 20, "no process is left")


def test_terminal(place):
    """On a terminal the lines are rewritten in place, the tree stays until Ctrl-C, and a killed site comes back."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment(place), TERM="xterm", COLUMNS="100")
        os.execv(str(CLI), [str(CLI), "demo", "--offline", "--sites", "3"])
    shown = b""

    def read_until(what, seconds):
        nonlocal shown
        deadline = time.monotonic() + seconds * PATIENCE
        while what not in shown:
            assert time.monotonic() < deadline, shown.decode(errors="replace")
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536)

    try:
        read_until(b"runs until Ctrl-C", 120)
        assert b"\033[4A" in shown  # three sites and the line about all
        read_until(b"kill -9 ", 5)
        read_until(b"(B11;", 5)
        victim = int(re.search(rb"kill -9 (\d+)", shown).group(1))
        os.kill(victim, signal.SIGKILL)
        read_until(b"B11: sitetreed ended; started again", 20)
        os.write(terminal, b"\x03")
    finally:
        def ended():
            if select.select([terminal], [], [], 0)[0]:
                try:
                    os.read(terminal, 65536)
                except OSError:
                    pass
            return os.waitpid(pid, os.WNOHANG)
        try:
            status = wait_for(lambda: (lambda r: r if r[0] else None)(ended()), 30, "it ends")
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            raise
    assert os.waitstatus_to_exitcode(status[1]) == 0
    assert nothing_is_left(place)

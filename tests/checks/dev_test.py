#!/usr/bin/python3
"""./dev on machines that lack something: each case runs a copy of it with stand-ins for dpkg, apt, sudo and id, and
looks at what it says, what it would have installed, and its exit code."""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = sys.argv[1]
PLAIN = ["bash", "env", "dirname", "readlink", "grep", "sed", "sort", "comm", "mktemp", "rm", "tail", "tr", "cat"]
INSTALLED = "installed gcc\ninstalled meson\nconfig-files scdoc\n"


class Machine:
    def __init__(self, folder, packages, dpkg=True, uid=0, sudo=None, update=0, install=0, says=""):
        self.folder = folder
        self.tools = os.path.join(folder, "tools")
        self.calls = os.path.join(folder, "calls")
        self.database = os.path.join(folder, "database")
        os.makedirs(os.path.join(folder, "tree", "deploy"))
        os.makedirs(self.tools)
        shutil.copy(os.path.join(ROOT, "dev"), os.path.join(folder, "tree", "dev"))
        with open(os.path.join(folder, "tree", "deploy", "packages.txt"), "w", encoding="utf-8") as f:
            f.write("# group package\n\nbuild gcc\nbuild meson\n" + packages)
        with open(self.database, "w", encoding="utf-8") as f:
            f.write(INSTALLED)
        for name in PLAIN:
            os.symlink(shutil.which(name), os.path.join(self.tools, name))
        self.tool("id", "echo %d" % uid)
        if dpkg:
            self.tool("dpkg-query", "cat %s" % self.database)
            # apt-get: says what it was asked, and installs into the database
            self.tool("apt-get", """
for a; do last=$a; done
case " $* " in
*" update "*) echo update >>%(calls)s; [ %(update)d = 0 ] || echo "%(says)s"; exit %(update)d ;;
*) echo "install $DEBIAN_FRONTEND ${*: -1}" >>%(calls)s; echo "%(says)s"
   [ %(install)d = 0 ] && echo "installed $last" >>%(database)s; exit %(install)d ;;
esac""" % {"calls": self.calls, "update": update, "install": install, "says": says, "database": self.database})
        if sudo is not None:
            self.tool("sudo", 'echo sudo >>%s\nif [ "$1" = -n ]; then exit %d; fi\nexec "$@"' % (self.calls, sudo))

    def tool(self, name, script):
        path = os.path.join(self.tools, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!%s\n%s\n" % (shutil.which("bash"), script))
        os.chmod(path, 0o755)

    def run(self, *args):
        env = {"DEV_TOOLS": self.tools, "PATH": self.tools, "HOME": self.folder}
        done = subprocess.run([os.path.join(self.folder, "tree", "dev"), *args], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        calls = open(self.calls, encoding="utf-8").read().splitlines() if os.path.exists(self.calls) else []
        return done.returncode, done.stderr + done.stdout, calls


CASES = [
    # name, machine, exit code, what it says, what it called
    ("nothing is missing", dict(packages="", uid=1000), 0, [], []),
    ("one is missing", dict(packages="build scdoc\n"), 0, ["installing 1 packages: scdoc"],
     ["update", "install noninteractive scdoc"]),
    ("other groups do not count", dict(packages="test bats\n"), 0, [], []),
    ("no apt", dict(packages="", dpkg=False), 1, ["no apt", "Debian 12", "deploy/packages.txt"], []),
    ("no root, no sudo", dict(packages="build scdoc\n", uid=1000), 1,
     ["need root", "no sudo", "scdoc", "try: su -c 'apt-get install scdoc'"], []),
    ("sudo asks", dict(packages="build scdoc\n", uid=1000, sudo=1), 1,
     ["sudo asks for a password", "try: sudo apt-get install scdoc"], ["sudo"]),
    ("sudo does not ask", dict(packages="build scdoc\n", uid=1000, sudo=0), 0, ["installing"],
     ["sudo", "sudo", "update", "sudo", "install noninteractive scdoc"]),
    ("no network", dict(packages="build scdoc\n", update=100, install=100, says="Temporary failure resolving 'mirror'"),
     1, ["mirrors of this machine cannot be reached", "missing: scdoc", "try: ./dev setup"], ["update", "install noninteractive scdoc"]),
    ("stale lists are enough", dict(packages="build scdoc\n", update=100), 0, ["could not be renewed"],
     ["update", "install noninteractive scdoc"]),
    ("unknown package", dict(packages="build no-such-thing\n", install=100, says="E: Unable to locate package no-such-thing"),
     1, ["do not have: no-such-thing", "try: apt-get update"], ["update", "install noninteractive no-such-thing"]),
    ("locked", dict(packages="build scdoc\n", install=100, says="E: Could not get lock /var/lib/dpkg/lock"), 1,
     ["another program holds the package manager"], ["update", "install noninteractive scdoc"]),
]


def main():
    wrong = []
    for name, machine, code, says, calls in CASES:
        with tempfile.TemporaryDirectory() as folder:
            got_code, text, got_calls = Machine(folder, **machine).run("setup", "build")
            if got_code != code or got_calls != calls or not all(s in text for s in says):
                wrong.append("%s: exit %d, called %s, said:\n%s" % (name, got_code, got_calls, text))
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(folder, packages="build scdoc\n")
        machine.run("setup", "build")
        code, text, calls = machine.run("setup", "build")
        if code or text or calls.count("update") != 1:
            wrong.append("setup twice: exit %d, called %s: %s" % (code, calls, text))
        for args, want in ((["help"], 0), (["nonsense"], 1), (["test", "--nonsense"], 1), (["test", "--suite"], 1)):
            code, text, _ = machine.run(*args)
            if code != want or ("./dev help" not in text if want else "setup" not in text):
                wrong.append("%s: exit %d: %s" % (args, code, text))
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

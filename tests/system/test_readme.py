"""The commands that the README shows are there: every `sitetree ...` line parses, every ./dev word and file exists."""
import os
import re
import subprocess

import pytest

from sites import CLI, NODE, ROOT

README = (ROOT / "README.md").read_text()


def shown(program):
    """The command lines of a program, in code blocks and between backquotes."""
    found = re.findall(r"^ {4}(?:\w+\$ +)?(?:sudo (?:-u \w+ )?)?(%s .*)$" % re.escape(program), README, re.M)
    found += re.findall(r"`(%s [^`]*)`" % re.escape(program), README)
    return [f.strip() for f in found]


@pytest.mark.parametrize("line", sorted(set(shown("sitetree"))))
def test_command_is_in_the_table(line):
    words = []
    for word in line.split()[1:]:
        if word.startswith("-") or word.isupper() or word.startswith("st1-") or "/" in word:
            break
        words.append(word)
    help_text = ""
    while words:
        done = subprocess.run([str(CLI), *words, "--help"], capture_output=True, text=True, timeout=10)
        if done.returncode == 0:
            help_text = done.stdout
            break
        words.pop()  # a name in place of a word of ours
    assert help_text, line
    for option in re.findall(r"--[a-z-]+", line):
        assert option in help_text, "%s: its help does not know %s" % (line, option)


def test_there_are_commands():
    assert len(shown("sitetree")) >= 5 and len(shown("./dev")) >= 2


@pytest.mark.parametrize("line", sorted(set(shown("./dev"))))
def test_dev_word(line):
    done = subprocess.run([str(ROOT / "dev"), "help"], capture_output=True, text=True, timeout=10)
    for word in line.split()[1:]:
        assert word in done.stdout, (line, word)


def test_folders_exist():
    for path in re.findall(r"`((?:docs|deploy|common|services|tools|tests)/[\w/]*)`", README):
        assert (ROOT / path).exists(), path


def test_programs_tell_their_version():
    for program in (CLI, NODE):
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=10)
        assert done.returncode == 0 and re.search(r"\d+\.\d+\.\d+", done.stdout), done


def test_nothing_is_changed_by_asking_for_help(tmp_path):
    env = dict(os.environ, HOME=str(tmp_path))
    subprocess.run([str(CLI), "--help"], capture_output=True, env=env, timeout=10, check=True)
    assert not list(tmp_path.iterdir())

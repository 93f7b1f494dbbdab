#!/usr/bin/python3
"""Man pages and bash completion against the program they describe. pages_test.py CLI FOLDER-OF-PAGES COMPLETION-SCRIPT"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

CLI, PAGES, SCRIPT = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
failures = []


def check(condition, *what):
    if not condition:
        failures.append(" ".join(str(w) for w in what))


def run(*words):
    return subprocess.run([CLI, *words], capture_output=True, text=True).stdout


def text_of(page):
    """A page without its marks."""
    return re.sub(r"\\f[BIR]|\\&", "", page.read_text()).replace("\\-", "-")


def pages_are_lint_clean(pages):
    if not shutil.which("mandoc"):
        print("skipped: no mandoc to look at the pages")
        return
    for page in pages:
        done = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True)
        check(done.returncode == 0 and not done.stdout, page.name, done.stdout[:500])


def options_of_help_and_page_are_the_same():
    nouns = run("__complete", "").split()
    check(len(nouns) >= 17, nouns)
    for noun in nouns:
        help_text = run("help", noun)
        if "VERB tells more" in help_text:
            help_text += "".join(run("help", noun, verb) for verb in run("__complete", noun, "").split())
        page = PAGES / ("sitetree-%s.1" % noun)
        check(page.exists(), "no page for", noun)
        if page.exists():
            in_help = set(re.findall(r"--[a-z][a-z-]+", help_text))
            in_page = set(re.findall(r"--[a-z][a-z-]+", text_of(page)))
            check(in_help == in_page, noun, "help and page differ:", in_help ^ in_page)
            exits = set(re.findall(r"\b([0-4]) ", help_text[help_text.rfind("\nexit "):]))
            check("EXIT STATUS" in text_of(page), noun, "no exit status")
            check(not exits or exits <= set(re.findall(r"^([0-4])$", text_of(page), re.M)), noun, "exit codes", exits)


def every_key_of_the_example_is_in_the_page():
    page = text_of(PAGES / "sitetree.conf.5")
    example = Path(__file__).parents[3] / "deploy/config/sitetree.conf.example"
    keys = re.findall(r"^#([a-z_]+) = ", example.read_text(), re.M)
    check(len(keys) > 20, keys)
    for key in keys:
        check(re.search(r"^%s \(" % key, page, re.M), key, "is not in sitetree.conf(5)")


def bash_offers_the_words():
    bash = shutil.which("bash")
    folder = str(Path(CLI).parent)
    for line, want in (("sitetree sync ", "now status list show cancel approve reject"), ("sitetree sto", "store stop"),
                       ("sitetree wait --for c", "current"), ("sitetree site invite --tier b", "branch")):
        words = line.split() + ([""] if line.endswith(" ") else [])
        program = 'PATH=%s:$PATH; source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _sitetree; echo "${COMPREPLY[*]}"' % (
            folder, SCRIPT, " ".join("'%s'" % w for w in words), len(words) - 1)
        out = subprocess.run([bash, "-c", program], capture_output=True, text=True)
        check(out.stdout.split() == want.split(), line, "offers", out.stdout, out.stderr)


found = sorted(PAGES.glob("sitetree*.[158]"))
if found:
    pages_are_lint_clean(found)
    options_of_help_and_page_are_the_same()
    every_key_of_the_example_is_in_the_page()
else:
    print("skipped: the pages were not built (no scdoc)")
bash_offers_the_words()
for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)

"""One minute of ./dev soak: seven sites, kill -9, SIGSTOP and bad links at random, and nothing acknowledged is lost."""
import random

from apt_repo import AptRepo
from chaos import chaos


def test_a_minute_of_faults(tmp_path):
    seed = random.randrange(1000000)
    print("seed %d" % seed)
    repo = AptRepo(tmp_path / "repo")
    try:
        print(chaos(seed, repo, 60))
    finally:
        repo.close()

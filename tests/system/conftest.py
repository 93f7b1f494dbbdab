"""Fixtures: a tree of real sites with its logs shown on failure, and a signed repository."""
import pytest

from apt_repo import AptRepo, sample
from sites import Tree


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture
def tree(request):
    with Tree() as tree:
        yield tree
        if getattr(request.node, "failed", False):
            tree.show_logs()


@pytest.fixture
def repo(tmp_path):
    repo = AptRepo(tmp_path / "repo")
    repo.write(sample(300))
    yield repo
    repo.close()


@pytest.fixture
def central(tree, repo):
    """A central site with the repository's first state published."""
    site = tree.central()
    site.control("upstream.add", **repo.upstream_args("sample"))
    run = site.sync(full=True)
    assert run["result"] == "succeeded", run
    return site

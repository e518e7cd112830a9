"""Scheduling of tests that share processes on one worker."""

from functools import cache

from xdist.scheduler import LoadScopeScheduling

from deploy.local import REPOSITORY

#: Marks of modules whose tests share a fixture that takes seconds to set up.
_SHARES = ("shared_stack", 'scope="module"')

#: Directories in descending order of the duration of their tests.
_LONGEST_FIRST = ("e2e", "faults", "contract", "unit/project", "unit/deploy", "integration", "")


class Together(LoadScopeScheduling):
    """Gives a worker one test at a time, or all tests of a module that shares a fixture.

    The groups of xdist's own `loadgroup` have no effect with pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _shares(module) else nodeid


def rank(nodeid: str) -> int:
    """Return the position of a test's directory: the longest tests come first.

    Otherwise, the last tests to start could be long ones, and the other workers would have no work.
    """
    places = enumerate(_LONGEST_FIRST)
    return next((n for n, folder in places if nodeid.startswith(f"tests/{folder}")), 0)


@cache
def _shares(module: str) -> bool:
    text = (REPOSITORY / module).read_text()
    return any(mark in text for mark in _SHARES)

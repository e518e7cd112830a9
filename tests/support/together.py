"""Scheduling of tests that share processes on one worker."""

from functools import cache

from xdist.scheduler import LoadScopeScheduling

from deploy.local import REPOSITORY

#: Marks of modules whose tests share a fixture that takes seconds to set up.
_SHARES = ("shared_stack", 'scope="module"')


class Together(LoadScopeScheduling):
    """Gives a worker one test at a time, or all tests of a module that shares a fixture.

    The groups of xdist's own `loadgroup` have no effect with pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _shares(module) else nodeid


@cache
def _shares(module: str) -> bool:
    text = (REPOSITORY / module).read_text()
    return any(mark in text for mark in _SHARES)

"""Waiting for conditions, instead of sleeping.

The result of a test must not depend on the speed of the machine: a limit here only ends a test that
would otherwise wait indefinitely, so that its failure is reported.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds without success, or without progress, after which a wait fails: many times as long as a
#: busy machine needs.
PATIENCE = 120.0

#: Seconds between two calls to a claim: the shortest, the longest, and their share of the time
#: since the start of the wait. A long wait makes few calls, and ends at most a tenth of its
#: duration too late.
_SHORTEST, _LONGEST, _PART = 0.05, 0.5, 0.1


def eventually(
    claim: Callable[[], T],
    *,
    within: float = PATIENCE,
    progress: Callable[[], object] | None = None,
) -> T:
    """Call `claim` until it does not raise an exception, and return its result.

    Any exception counts as "not yet": without its message, row, or process, a claim may fail in an
    unpacking, a lookup, or a connection. Raises the last exception after `within` seconds, or, with
    `progress`, after `within` seconds in which `progress` has returned the same value.
    """
    start = time.monotonic()
    deadline, reached = start + within, progress and progress()
    while True:
        try:
            return claim()
        except Exception:
            if progress and (now := progress()) != reached:
                deadline, reached = time.monotonic() + within, now
            if time.monotonic() > deadline:
                raise
        time.sleep(min(max(_SHORTEST, _PART * (time.monotonic() - start)), _LONGEST))


def becomes(value: Callable[[], object], expected: object) -> None:
    """Call `value` until it returns the expected value, as `eventually` does."""

    def equal() -> None:
        assert value() == expected

    eventually(equal)


def never(claim: Callable[[], object], *, during: float) -> None:
    """Call `claim` repeatedly for `during` seconds. It must never raise an exception."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        claim()
        time.sleep(0.05)

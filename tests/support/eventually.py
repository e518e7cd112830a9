"""Waiting for what must come true, instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(claim: Callable[[], T], *, within: float = 20.0) -> T:
    """Call `claim` until it raises no AssertionError; returns what it returns.

    After `within` seconds its last AssertionError is raised.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            return claim()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def never(claim: Callable[[], object], *, during: float) -> None:
    """Call `claim` for `during` seconds; it must raise no AssertionError in all that time."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        claim()
        time.sleep(0.05)

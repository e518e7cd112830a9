"""Virtual time, for the code under simulation and for its databases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from eventbus.consumer import retention
from eventbus.database import wakeup
from eventbus.outbox import aside, claim_start, claims, lanes, outcomes, relay
from eventbus.worker import micro_batches, observation, waiting_messages

#: The modules whose time is virtual.
_MODULES = (
    aside,
    claim_start,
    claims,
    lanes,
    micro_batches,
    observation,
    outcomes,
    relay,
    retention,
    waiting_messages,
    wakeup,
)


class VirtualClock:
    """The seconds since the start of a run, which pass only when every actor waits."""

    def __init__(self, wait: Callable[[float], None] | None = None) -> None:
        self.now = 0.0
        self.wait = wait

    def advance_to(self, now: float) -> None:
        """Advance the time."""
        self.now = max(self.now, now)

    def monotonic(self) -> float:
        """Return the present time, in place of `time.monotonic`."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait, in place of `time.sleep`."""
        if self.wait:
            self.wait(self.now + seconds)


@contextmanager
def virtual_time(clock: VirtualClock, await_notification: Callable[..., None]) -> Iterator[None]:
    """Make the code under simulation use this clock during the block."""
    with ExitStack() as patches:
        for module in _MODULES:
            patched: Any = patch.object(module, "time", clock)
            patches.enter_context(patched)
        patches.enter_context(patch.object(wakeup, "_await_notification", await_notification))
        yield

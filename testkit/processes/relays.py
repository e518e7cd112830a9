"""Relays at work, as a process has them: one drain after the other."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from eventbus.outbox.claims import Claims
from eventbus.outbox.relay import Relay


@contextmanager
def draining(*relays: Relay) -> Iterator[None]:
    """Let each of these relays drain its outbox while the block runs."""
    ends: list[bool] = []

    def drain(relay: Relay) -> None:
        while not ends:
            relay.drain(time.monotonic() + 0.5)

    with ThreadPoolExecutor(len(relays)) as threads:
        done = [threads.submit(drain, relay) for relay in relays]
        try:
            yield
        finally:
            ends.append(True)
            for each in done:
                each.result(timeout=60)


def relay_once(relay: Relay) -> int:
    """Publish one batch of an outbox as a drain does; return the number of confirmed events."""
    with Claims.of(relay._sessions) as claims:
        if claims.hold():
            relay._send(claims)
        return relay._settle(claims, max_in_flight=0)

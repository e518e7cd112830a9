"""Relays that drain their outboxes repeatedly, as their processes do."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from eventbus.outbox.claims import Claims
from eventbus.outbox.relay import Relay
from testkit.eventually import eventually

T = TypeVar("T")


@contextmanager
def draining(*relays: Relay) -> Iterator[None]:
    """Drain the outbox of each of these relays during the block."""
    ended = Event()

    def drain(relay: Relay) -> None:
        while not ended.is_set():
            relay.drain(time.monotonic() + 0.5)

    with ThreadPoolExecutor(len(relays)) as threads:
        drains = [threads.submit(drain, relay) for relay in relays]
        try:
            yield
        finally:
            ended.set()
            for drained in drains:
                drained.result(timeout=60)


def drain_until(relay: Relay, claim: Callable[[], T]) -> T:
    """Drain repeatedly until the claim holds, as `eventually` waits, and return its result."""

    def drained() -> T:
        relay.drain(time.monotonic() + 0.2)
        return claim()

    return eventually(drained)


def relay_once(relay: Relay) -> int:
    """Publish one batch of an outbox as a drain does, and return the number of confirmed events."""
    with Claims.of(relay._sessions, part=relay._part) as claims:
        if claims.hold():
            relay._send(claims)
        return relay._settle(claims, max_in_flight=0)

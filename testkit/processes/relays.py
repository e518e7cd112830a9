"""Relays that drain their outboxes repeatedly, as their processes do."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from eventbus.outbox.claims import Claims
from eventbus.outbox.relay import Relay


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


def relay_once(relay: Relay) -> int:
    """Publish one batch of an outbox as a drain does, and return the number of confirmed events."""
    with Claims.of(relay._sessions, part=relay._part) as claims:
        if claims.hold():
            relay._send(claims)
        return relay._settle(claims, max_in_flight=0)

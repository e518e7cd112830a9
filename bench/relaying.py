"""(a) Events a second through a relay: ours against kombu's confirms, one at a time."""

import time

from bench.plain import relay as plain
from bench.system import empty, fill_outbox, purge
from common.relay import Relay
from deploy.local.problem import Problem
from tests.support.stack import Stack


def ours(stack: Stack, events: int) -> float:
    """Return our relay's events a second, from an outbox that holds nothing else."""
    empty(stack)
    fill_outbox(stack, events)
    return drained(stack, events)


def others(stack: Stack, events: int) -> float:
    """Return the plain relay's events a second."""
    empty(stack)
    fill_outbox(stack, events)
    with stack.vhost.connect(confirm_publish=True) as connection:
        began = time.perf_counter()
        sent = plain.drain(stack.sessions("order"), connection)
        return sent / (time.perf_counter() - began)


def drained(stack: Stack, events: int) -> float:
    """Return our relay's rate for so many events, of which the outbox must hold enough."""
    publisher = stack.publisher()
    relay = Relay(stack.sessions("order"), publisher)
    began = time.perf_counter()
    sent = 0
    while sent < events:
        if not (confirmed := relay.relay_once()):
            raise Problem(f"the relay stopped after {sent} of {events} events")
        sent += confirmed
    seconds = time.perf_counter() - began
    publisher.close()
    purge(stack)
    return sent / seconds

"""(a) Events a second through a relay: ours against kombu's confirms, one at a time."""

import time
from datetime import datetime

from bench.load.backlog import fill_outbox
from bench.plain import relay as plain
from bench.system.servers import empty, execute, purge
from deploy.local.problem import Problem
from eventbus.outbox.relay import Relay
from testkit.processes.stack import Stack

#: Seconds between two of beat's ticks.
_TICK = 1.0


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
    """Return our relay's rate for so many events, of which the outbox must hold enough.

    From the first claim to the last mark, as it runs in a process: from tick to tick.
    """
    publisher = stack.publisher()
    relay = Relay(stack.sessions("order"), publisher)
    began = _now(stack)
    sent, last = 0, began
    while sent < events:
        relay.drain(time.monotonic() + _TICK)
        found, last = _sent_since(stack, began)
        if found == sent:
            raise Problem(f"the relay stopped after {sent} of {events} events")
        sent = found
    publisher.close()
    purge(stack)
    return sent / (last - began).total_seconds()


def _now(stack: Stack) -> datetime:
    ((now,),) = execute(stack, "order", "SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def _sent_since(stack: Stack, began: datetime) -> tuple[int, datetime]:
    sql = "SELECT count(*), max(sent_at) FROM outbox WHERE sent_at > :began"
    (row,) = execute(stack, "order", sql, began=began)
    return row[0], row[1]

"""Events per second through our relay, compared with kombu's confirms, one at a time."""

import time
from datetime import datetime

from bench.load.backlog import fill_outbox
from bench.plain import relay as plain
from bench.system.servers import empty, execute, purge
from deploy.local.problem import Problem
from eventbus.outbox.relay import Relay
from testkit.processes.stack import Stack

#: Seconds between two ticks.
_TICK = 1.0


def ours(stack: Stack, events: int) -> float:
    """Return our relay's events per second, from an outbox that contains no other events."""
    empty(stack)
    fill_outbox(stack, events)
    return drained(stack, events)


def others(stack: Stack, events: int) -> float:
    """Return the plain relay's events per second."""
    empty(stack)
    fill_outbox(stack, events)
    with stack.vhost.connect(confirm_publish=True) as connection:
        start = time.perf_counter()
        sent = plain.drain(stack.sessions("order"), connection)
        return sent / (time.perf_counter() - start)


def drained(stack: Stack, events: int) -> float:
    """Return our relay's events per second for this many events, which the outbox must contain.

    The time is measured from the first claim to the last mark, in drains from tick to tick, as in a
    process.
    """
    publisher = stack.publisher()
    relay = Relay(stack.sessions("order"), publisher)
    start = _now(stack)
    sent, last = 0, start
    while sent < events:
        relay.drain(time.monotonic() + _TICK)
        total, last = _sent_since(stack, start)
        if total == sent:
            raise Problem(f"the relay stopped after {sent} of {events} events")
        sent = total
    publisher.close()
    purge(stack)
    return sent / (last - start).total_seconds()


def _now(stack: Stack) -> datetime:
    ((now,),) = execute(stack, "order", "SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def _sent_since(stack: Stack, start: datetime) -> tuple[int, datetime]:
    sql = "SELECT count(*), max(sent_at) FROM outbox WHERE sent_at > :start"
    (row,) = execute(stack, "order", sql, start=start)
    return row[0], row[1]

"""(d) Orders a second from the first POST to the last decision, their price, their latency."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import clients, cpu, intake
from bench.system import execute, until
from common.kombu_topology import CONSUMERS
from deploy.local.problem import Problem, last_words
from tests.support.stack import Stack

#: Seconds within which all orders of one measurement are decided. One that takes longer failed.
PATIENCE = 180.0

_STATES = "SELECT status, count(*) FROM orders WHERE created_at >= :began GROUP BY status"
_TIMES = """
SELECT count(*), extract(epoch FROM max(decided_at) - min(created_at)) FROM orders
WHERE created_at >= :began
"""
_DECIDED = "SELECT id::text, extract(epoch FROM decided_at) FROM orders WHERE created_at >= :began"

#: Each a look at an index.
_PENDING = "SELECT EXISTS (SELECT FROM orders WHERE status = 'PENDING')"
_UNSENT = "SELECT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL)"


@dataclass(frozen=True)
class Throughput:
    """Orders a second, and the milliseconds of processor time that one order takes of each."""

    orders: int
    orders_per_s: float
    cpu_ms: Mapping[str, float]


def throughput(stack: Stack, seconds: int) -> Throughput:
    """Order as fast as the API takes it, and wait for the last decision."""
    settle(stack)
    began = _now(stack)
    before = cpu.used(stack)
    intake.load(stack.url, stack.api_key, seconds=seconds, connections=32)
    _decide(stack, began)
    settle(stack)
    after = cpu.used(stack)
    ((count, took),) = execute(stack, "order", _TIMES, began=began)
    return Throughput(count, float(count / took), cpu.price(before, after, count))


def latency(stack: Stack, rate: int, seconds: int) -> dict[str, float]:
    """Return percentiles, in milliseconds, from POST to decision at so many orders a second.

    It counts from when the order was due: one that had to wait to be posted waited.
    """
    settle(stack)
    began = _now(stack)
    due = clients.order(stack, rate, seconds)
    _decide(stack, began)
    # The clients and the order service share this machine's clock.
    decided = {order: float(at) for order, at in execute(stack, "order", _DECIDED, began=began)}
    return percentiles([(decided[order] - moment) * 1000 for order, moment in due.items()])


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile."""
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def medians(found: Sequence[Mapping[str, float]], *, digits: int = 1) -> dict[str, float]:
    """Return the median of each figure of several measurements."""
    return {name: round(statistics.median(one[name] for one in found), digits) for name in found[0]}


def settle(stack: Stack) -> None:
    """Wait until nothing that was ordered is under way; mails that still wait are forgotten."""
    # One connection for all looks: to open one costs the broker as much as several orders.
    with stack.vhost.connect() as connection:
        channel = connection.default_channel

        def settled() -> bool:
            _require_all_running(stack)
            return not (
                any(_is(stack, service, _UNSENT) for service in ("order", "inventory"))
                or any(
                    channel.queue_declare(s.queue, passive=True).message_count for s in CONSUMERS
                )
            )

        until(settled, "outboxes and queues empty", within=PATIENCE)
    # In the order in which the worker writes to them: it may be at its last batch.
    execute(stack, "notification", "TRUNCATE inbox, notifications")
    stack.mailbox.messages.clear()


def _decide(stack: Stack, began: object) -> None:
    def decided() -> bool:
        _require_all_running(stack)
        return not _is(stack, "order", _PENDING)

    try:
        until(decided, "all orders decided", within=PATIENCE)
    except Problem as problem:
        waiting = ", ".join(f"{s.queue} {stack.vhost.depth(s.queue)}" for s in CONSUMERS)
        found = dict(execute(stack, "order", _STATES, began=began))
        raise Problem(f"{problem.message} ({found}, {waiting}); see {stack.directory}") from None
    # There is plenty of everything: whatever is not confirmed went wrong.
    states = dict(execute(stack, "order", _STATES, began=began))
    if set(states) != {"CONFIRMED"}:
        raise Problem(f"not all orders were confirmed: {states}; see {stack.directory}")


def _require_all_running(stack: Stack) -> None:
    for name in stack.pids():
        if not stack.runs(name):
            log = stack.directory / f"{name}.log"
            raise Problem(f"{name} has ended: {last_words(log)}; see {log}")


def _is(stack: Stack, service: str, question: str) -> bool:
    ((answer,),) = execute(stack, service, question)
    return bool(answer)


def _now(stack: Stack) -> object:
    ((now,),) = execute(stack, "order", "SELECT now()")
    return now

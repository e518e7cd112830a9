"""(d) The whole flow: orders a second to the last decision, their price, their latency."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.load import clients
from bench.parts import intake
from bench.system import cpu
from bench.system.measured import Measured
from bench.system.servers import execute
from bench.system.settling import PATIENCE, decide, settle

#: Clients that order as fast as they are answered; as many as the plain API has threads where the
#: two are compared.
_CONNECTIONS = 32
_COMPARED = 16

#: Seconds of load of the run that comes first, and of every run at least.
_SHORT = 3

_TIMES = """
SELECT count(*), extract(epoch FROM max(decided_at) - min(created_at)) FROM orders
WHERE created_at >= :began
"""
_DECIDED = "SELECT id::text, extract(epoch FROM decided_at) FROM orders WHERE created_at >= :began"


@dataclass(frozen=True)
class Throughput:
    """Orders a second, and the milliseconds of processor time that one order takes of each."""

    orders: int
    orders_per_s: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True)
class Steady:
    """What orders at a steady rate cost, how many processors are busy with them, how long each."""

    cpu_ms: Mapping[str, float]
    cores: float
    latency_ms: Mapping[str, float]


def throughput(measured: Measured, seconds: int, *, connections: int = _CONNECTIONS) -> Throughput:
    """Order for so long, as fast as the API takes it, and wait for the last decision."""
    settle(measured)
    began = _now(measured)
    before = cpu.used(measured)
    intake.load(measured.url, measured.api_key, seconds=seconds, connections=connections)
    # An API may take orders many times as fast as they are decided.
    patience = PATIENCE + 20 * seconds
    decide(measured, began, within=patience)
    settle(measured, within=patience)
    after = cpu.used(measured)
    ((count, took),) = execute(measured, "order", _TIMES, began=began)
    return Throughput(count, float(count / took), cpu.price(before, after, count))


def limit(measured: Measured, seconds: int) -> Throughput:
    """Order as fast as the API takes it, for so long that the last decision is after `seconds`.

    A short run first shows how much of that is load, and how much is draining the backlog.
    """
    first = throughput(measured, _SHORT, connections=_COMPARED)
    lasted = first.orders / first.orders_per_s
    load = max(_SHORT, round(seconds * _SHORT / max(lasted, _SHORT)))
    return throughput(measured, load, connections=_COMPARED)


def steady(measured: Measured, rate: float, seconds: int) -> Steady:
    """Order at this many a second, whether or not the earlier ones are answered.

    The latency, in milliseconds, is from when an order was due to its decision: one that had to
    wait to be posted waited.
    """
    settle(measured)
    began, clock = _now(measured), time.monotonic()
    before = cpu.used(measured)
    due = clients.order(measured, rate, seconds)
    # Near the limit most may still wait, and all of their mails.
    patience = PATIENCE + 2 * seconds
    decide(measured, began, within=patience)
    settle(measured, within=patience)
    after, took = cpu.used(measured), time.monotonic() - clock
    # The clients and the order service share this machine's clock.
    decided = {order: float(at) for order, at in execute(measured, "order", _DECIDED, began=began)}
    waits = [(decided[order] - moment) * 1000 for order, moment in due.items()]
    price = cpu.price(before, after, len(due))
    return Steady(price, sum(price.values()) * len(due) / 1000 / took, percentiles(waits))


def latency(measured: Measured, rate: int, seconds: int) -> Mapping[str, float]:
    """Return percentiles, in milliseconds, from POST to decision at so many orders a second."""
    return steady(measured, rate, seconds).latency_ms


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile."""
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def medians(found: Sequence[Mapping[str, float]], *, digits: int = 1) -> dict[str, float]:
    """Return the median of each figure of several measurements."""
    return {name: round(statistics.median(one[name] for one in found), digits) for name in found[0]}


def _now(measured: Measured) -> object:
    ((now,),) = execute(measured, "order", "SELECT now()")
    return now

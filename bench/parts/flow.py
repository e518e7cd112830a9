"""The whole flow: orders per second to the last decision, their price and their latency."""

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

#: Connections that place orders as fast as the API responds; in a comparison, as many as the plain
#: API has threads.
_CONNECTIONS = 32
_COMPARED = 16

#: Seconds of load of the first run, and the minimum of every run.
_SHORT = 3

_TIMES = """
SELECT count(*), extract(epoch FROM max(decided_at) - min(created_at)) FROM orders
WHERE created_at >= :start
"""
_DECIDED = "SELECT id::text, extract(epoch FROM decided_at) FROM orders WHERE created_at >= :start"


@dataclass(frozen=True)
class Throughput:
    """Orders per second, and milliseconds of CPU time per order by program and server."""

    orders: int
    orders_per_s: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True)
class Steady:
    """The price and the latency of orders at a steady rate, and the processors busy meanwhile."""

    cpu_ms: Mapping[str, float]
    cores: float
    latency_ms: Mapping[str, float]


def throughput(measured: Measured, seconds: int, *, connections: int = _CONNECTIONS) -> Throughput:
    """Place orders for `seconds` as fast as the API accepts them, and await the last decision."""
    settle(measured)
    start = _now(measured)
    before = cpu.used(measured)
    intake.load(measured.url, measured.api_key, seconds=seconds, connections=connections)
    # An API may accept orders many times as fast as they are decided.
    patience = PATIENCE + 20 * seconds
    decide(measured, start, within=patience)
    settle(measured, within=patience)
    after = cpu.used(measured)
    ((count, duration),) = execute(measured, "order", _TIMES, start=start)
    return Throughput(count, float(count / duration), cpu.price(before, after, count))


def limit(measured: Measured, seconds: int) -> Throughput:
    """Place orders as fast as the API accepts them, until the last decision is after `seconds`.

    A short first run shows which part of the time is load, and which part drains the backlog.
    """
    first = throughput(measured, _SHORT, connections=_COMPARED)
    duration = first.orders / first.orders_per_s
    load = max(_SHORT, round(seconds * _SHORT / max(duration, _SHORT)))
    return throughput(measured, load, connections=_COMPARED)


def steady(measured: Measured, rate: float, seconds: int) -> Steady:
    """Place orders at a rate per second that does not depend on earlier responses.

    The latency, in milliseconds, is from the due time of an order to its decision, and includes the
    wait for a free client.
    """
    settle(measured)
    start, clock = _now(measured), time.monotonic()
    before = cpu.used(measured)
    due = clients.order(measured, rate, seconds)
    loaded, duration = cpu.used(measured), time.monotonic() - clock
    # Near the limit most orders and all of their emails may still wait.
    patience = PATIENCE + 2 * seconds
    decide(measured, start, within=patience)
    settle(measured, within=patience)
    after = cpu.used(measured)
    # The clients and the order service share this machine's clock.
    decided = {order: float(at) for order, at in execute(measured, "order", _DECIDED, start=start)}
    waits = [(decided[order] - moment) * 1000 for order, moment in due.items()]
    price = cpu.price(before, after, len(due))
    return Steady(price, cpu.cores(before, loaded, duration), percentiles(waits))


def latency(measured: Measured, rate: int, seconds: int) -> Mapping[str, float]:
    """Return percentiles, in milliseconds, from due time to decision at a rate of orders."""
    return steady(measured, rate, seconds).latency_ms


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile."""
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def medians(runs: Sequence[Mapping[str, float]], *, digits: int = 1) -> dict[str, float]:
    """Return the median of each figure of several measurements."""
    return {name: round(statistics.median(run[name] for run in runs), digits) for name in runs[0]}


def _now(measured: Measured) -> object:
    ((now,),) = execute(measured, "order", "SELECT now()")
    return now

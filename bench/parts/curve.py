"""The price and the latency of an order at each rate, from nearly idle to the limit."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bench.figures.calibration import calibrate
from bench.figures.spread import merged
from bench.parts import flow
from bench.system import cpu
from bench.system.measured import Measured

#: Fixed rates in orders per second; those above the limit are omitted.
RATES = (5, 20, 50, 100, 200)

#: Further rates, in percent of the limit.
SHARES = (25, 50, 70, 90, 100)

Log = Callable[[str], None]


def measure(measured: Measured, repeat: int, seconds: int, log: Log) -> dict[str, Any]:
    """Return the system's limit, and its curve: the spread of each figure over the repetitions.

    Each repetition is the whole curve, so that other load on the machine affects all rates. Every
    figure has a calibration from immediately before it.
    """
    flow.throughput(measured, 3)
    limits = []
    for number in range(1, repeat + 1):
        limits.append(at_limit(measured, seconds))
        log(f"{measured.name} limit {number}/{repeat}: {limits[-1]['orders_per_s']:.0f}/s")
    limit = merged(limits)
    points: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(1, repeat + 1):
        for name, rate in rates(limit["orders_per_s"]["median"]).items():
            points[name].append(at := at_rate(measured, rate, seconds))
            summary = f"{at['price_ms']['total']:.1f} ms, p50 {at['latency_ms']['p50']:.0f} ms"
            log(f"{measured.name} at {rate:g}/s {number}/{repeat}: {summary}")
    return {"limit": limit, "curve": {name: merged(runs) for name, runs in points.items()}}


def rates(limit: float) -> dict[str, float]:
    """Return the rates of a curve by their names, such as `5` or `25%`.

    A fixed rate above the limit is omitted: it would measure only the duration of the run.
    """
    fixed: dict[str, float] = {str(rate): rate for rate in RATES if rate <= limit}
    return fixed | {f"{share}%": round(limit * share / 100, 1) for share in SHARES}


def at_limit(measured: Measured, seconds: int) -> dict[str, Any]:
    """Return the figures of a run as fast as orders are accepted."""
    calibration = calibrate(measured)
    run = flow.limit(measured, seconds)
    return {
        "orders_per_s": run.orders_per_s,
        "price_ms": cpu.parts(run.cpu_ms),
        "cpu_ms": dict(run.cpu_ms),
        "calibration": calibration,
    }


def at_rate(measured: Measured, rate: float, seconds: int) -> dict[str, Any]:
    """Return the figures of a run at a steady rate."""
    calibration = calibrate(measured)
    run = flow.steady(measured, rate, seconds)
    return {
        "rate": rate,
        "price_ms": cpu.parts(run.cpu_ms),
        "cpu_ms": dict(run.cpu_ms),
        "cores": run.cores,
        "latency_ms": dict(run.latency_ms),
        "calibration": calibration,
    }

"""The lean system: orders per second, and the CPU time, disk space and latency of an order."""

import statistics
from collections.abc import Callable
from typing import Any

from bench.parts import flow
from bench.system import cpu, storage
from bench.system.measured import Measured, of
from bench.system.servers import empty, execute
from testkit.processes.stack import Stack

#: Orders per second at which the latency is measured. Higher rates follow until the system falls
#: behind.
RATES = (20, 50, 100, 150, 200)
FURTHER_RATES = (250, 300, 350, 400, 450, 500, 600, 700, 800, 1000)

#: Median latency in milliseconds above which a queue grows: more orders arrive than are decided.
BEHIND = 1000.0

Log = Callable[[str], None]


def measure(stack: Stack, repeat: int, seconds: int, log: Log) -> dict[str, Any]:
    """Return the figures, each the median of the repetitions."""
    lean = of(stack)
    empty(stack)
    before = storage.used(stack)
    stack.start()
    try:
        flow.throughput(lean, 3)
        runs = []
        for number in range(1, repeat + 1):
            runs.append(run := flow.throughput(lean, seconds))
            split = ", ".join(f"{name} {ms:.2f}" for name, ms in cpu.split(run.cpu_ms).items())
            log(f"orders {number}/{repeat}: {run.orders_per_s:.0f}/s, ms each: {split}")
        ((orders,),) = execute(stack, "order", "SELECT count(*) FROM orders")
        stored = storage.of_an_order(before, storage.used(stack), orders)
        latencies = _latencies(lean, repeat, seconds, log)
    finally:
        stack.stop()
    price = flow.medians([run.cpu_ms for run in runs], digits=2)
    return {
        "orders_per_s": round(statistics.median(run.orders_per_s for run in runs), 1),
        "cpu_ms_per_order": {name: round(ms, 2) for name, ms in cpu.split(price).items()},
        "cpu_ms_per_order_by_program": cpu.of_programs(price),
        "bytes_per_order": stored,
        "latency_ms": latencies,
    }


def _latencies(lean: Measured, repeat: int, seconds: int, log: Log) -> dict[str, Any]:
    latencies: dict[str, dict[str, float]] = {}
    for rate in (*RATES, *FURTHER_RATES):
        at = flow.medians([flow.latency(lean, rate, seconds) for _ in range(repeat)])
        latencies[str(rate)] = at
        log(f"latency at {rate}/s: " + ", ".join(f"{name} {ms}" for name, ms in at.items()))
        if rate >= RATES[-1] and at["p50"] > BEHIND:
            break
    return latencies

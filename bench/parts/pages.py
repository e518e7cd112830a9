"""The console's pages with many orders and parked messages, and the cost of its viewers."""

import statistics
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from bench.console import parked_messages, stored_orders
from bench.console.addresses import pages, routes
from bench.console.examples import STUCK, examples
from bench.console.operator import Operator, viewers
from bench.parts import flow
from bench.system.full import Full
from bench.system.measured import Measured
from deploy.local.processes import programs
from deploy.local.servers import certificates, credentials

#: Viewers of the overview while orders are accepted.
VIEWERS = 50

STREAM = "/overview/stream"

#: The login in the console's settings, which has an administrator's rights.
_NAME = "operator"

Log = Callable[[str], None]


def measure(
    full: Full, orders: int, parked: int, repeat: int, seconds: int, log: Log
) -> dict[str, Any]:
    """Return the duration of each page, and the orders per second with and without viewers."""
    with full.running() as measured:
        stored_orders.fill(measured, orders, log)
        stored_orders.stick(measured, STUCK)
        number = parked_messages.park(measured, parked, log)
        operator = _logged_in(full)
        try:
            measured_pages = _pages(full, measured, operator, number, log)
            stored_orders.decide(measured)
            watched = _watched(measured, operator, repeat, seconds, log)
        finally:
            operator.close()
    return {"pages": {"orders": orders, "parked": parked, "ms": measured_pages, "viewers": watched}}


def ratio(runs: dict[str, list[float]]) -> dict[str, float]:
    """Return the orders per second with and without viewers, and their ratio."""
    medians = {name: statistics.median(values) for name, values in runs.items()}
    return {
        "number": VIEWERS,
        "with_per_s": round(medians["with"], 1),
        "without_per_s": round(medians["without"], 1),
        "ratio": round(medians["with"] / medians["without"], 3),
    }


def _logged_in(full: Full) -> Operator:
    password = credentials.read(full.run.state.secrets, credentials.CONSOLE)
    return Operator(programs.console_url(full.run.ports), _NAME, password)


def _pages(
    full: Full, measured: Measured, operator: Operator, parked: int, log: Log
) -> list[dict[str, Any]]:
    known = examples(measured, operator, parked)
    rows = []
    for page in pages(routes(certificates.ca_file(full.run.state)), known):
        rows.append({"page": page.title, **operator.time(page.path)})
        log(_line(rows[-1]))
    rows.append({"page": "event stream, first message", **operator.time_stream(STREAM)})
    log(_line(rows[-1]))
    return rows


def _line(row: dict[str, Any]) -> str:
    missing = f", {row['incomplete']} incomplete" if row["incomplete"] else ""
    return f"{row['page']}: {row['p50']:.0f} ms, p99 {row['p99']:.0f} ms{missing}"


def _watched(
    measured: Measured, operator: Operator, repeat: int, seconds: int, log: Log
) -> dict[str, float]:
    flow.throughput(measured, 3)
    runs: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(1, repeat + 1):
        # The two runs alternate, so that other load on the machine affects both.
        for name, rates in runs.items():
            watching = viewers(operator, STREAM, VIEWERS) if name == "with" else nullcontext()
            with watching:
                rates.append(flow.limit(measured, seconds).orders_per_s)
            log(f"{name} {VIEWERS} viewers {number}/{repeat}: {rates[-1]:,.0f} orders/s")
    return ratio(runs)

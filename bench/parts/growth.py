"""The parts with empty and with large tables: millions of old rows, and a backlog.

The relay drains a backlog in its outbox, and the inventory drains a backlog in its queue; at any
time, at least the backlog is waiting. The orders are placed after the backlog was drained. Behind
it, they would measure the relay and the inventory again.
"""

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bench.load import seeding
from bench.load.backlog import fill_outbox
from bench.parts import flow, intake, inventory, relay
from bench.system import cpu, measured
from bench.system.servers import checkpoint, empty, execute, purge
from common.kombu_topology import INVENTORY
from testkit.processes.stack import Stack

PARTS = ("relay", "inventory", "intake", "orders")

#: The number of old rows for each waiting row: 200,000 rows wait for 10 million old rows.
ROWS_FOR_ONE_WAITING = 50

#: Orders per second at which the latency is measured with empty and with large tables.
RATE = 50

_MARK_SENT = "UPDATE outbox SET sent_at = clock_timestamp() WHERE sent_at IS NULL"

Log = Callable[[str], None]


def measure(
    stack: Stack, rows: int, repeat: int, seconds: int, events: Mapping[str, int], log: Log
) -> dict[str, Any]:
    """Return each part's rate with empty and with large tables, and their ratio.

    `events` is the number of events by part.
    """
    seeding.require_space(stack.servers.secrets_dir.parent, rows)
    backlog = rows // ROWS_FOR_ONE_WAITING
    little = _with_little(stack, repeat, seconds, events, log)
    with seeding.past(stack, rows, log):
        much = _with_much(stack, backlog, repeat, seconds, events, log)
    return summary(little, much) | {"growth_rows": rows, "growth_backlog": backlog}


def summary(little: Mapping[str, Any], much: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ratios of large to empty tables by part, and the lowest as `growth_ratio`."""
    parts = {
        part: {
            "little_per_s": round(little[part], 1),
            "much_per_s": round(much[part], 1),
            "ratio": round(much[part] / little[part], 3),
        }
        for part in PARTS
    }
    return {
        "growth_ratio": min(part["ratio"] for part in parts.values()),
        "growth": parts,
        "growth_latency_ms": {"little": little["latency"], "much": much["latency"]},
        "growth_cpu_ms_per_order": {"little": little["price"], "much": much["price"]},
    }


def _with_little(
    stack: Stack, repeat: int, seconds: int, events: Mapping[str, int], log: Log
) -> dict[str, Any]:
    median = partial(_median, "little", repeat, log)
    rates: dict[str, Any] = {
        "relay": median("relay", lambda: relay.ours(stack, events["relay"])),
        "inventory": median("inventory", lambda: inventory.ours(stack, events["inventory"])),
        "intake": median("intake", lambda: intake.ours(stack, seconds)),
    }
    empty(stack)
    rates |= _orders(stack, "little", repeat, seconds, log)
    empty(stack)
    return rates


def _with_much(
    stack: Stack,
    backlog: int,
    repeat: int,
    seconds: int,
    events: Mapping[str, int],
    log: Log,
) -> dict[str, Any]:
    # In addition to the backlog, twice the measured events wait, because a relay stops at the end
    # of a tick, not after the last event.
    waiting = backlog + 2 * repeat * events["relay"]
    log(f"much: {waiting:,} unsent events")
    fill_outbox(stack, waiting)
    median = partial(_median, "much", repeat, log)
    rates: dict[str, Any] = {
        "relay": median("relay", lambda: relay.drained(stack, events["relay"]))
    }
    # The order service's outbox now contains old rows and the backlog.
    rates["intake"] = median("intake", lambda: _accepted(stack, seconds))
    waiting = backlog + repeat * events["inventory"]
    log(f"much: {waiting:,} queued events")
    inventory.publish(stack, waiting, INVENTORY.queue)
    rates["inventory"] = median("inventory", lambda: inventory.handled(stack, events["inventory"]))
    _drain_backlog(stack)
    rates |= _orders(stack, "much", repeat, seconds, log)
    return rates


def _orders(stack: Stack, state: str, repeat: int, seconds: int, log: Log) -> dict[str, Any]:
    prices = []
    lean = measured.of(stack)

    def one() -> float:
        run = flow.throughput(lean, seconds)
        prices.append(cpu.split(run.cpu_ms))
        return run.orders_per_s

    stack.start()
    try:
        flow.throughput(lean, 3)
        rate = _median(state, repeat, log, "orders", one)
        latencies = [flow.latency(lean, RATE, seconds) for _ in range(repeat)]
    finally:
        stack.stop()
    price = flow.medians(prices, digits=2)
    return {"orders": rate, "latency": flow.medians(latencies), "price": price}


def _accepted(stack: Stack, seconds: int) -> float:
    # The measurement is that of `intake.ours`, but with the present tables.
    checkpoint(stack)
    return intake.taken(stack, seconds)


def _drain_backlog(stack: Stack) -> None:
    # Every row is updated once, as by the relays. The orders of the intake are undecided.
    for service in ("order", "inventory"):
        execute(stack, service, _MARK_SENT)
    execute(stack, "order", "DELETE FROM orders WHERE status = 'PENDING'")
    purge(stack)
    checkpoint(stack)


def _median(state: str, repeat: int, log: Log, part: str, measure: Callable[[], float]) -> float:
    results = []
    for number in range(1, repeat + 1):
        results.append(measure())
        log(f"growth, {state}: {part} {number}/{repeat}: {results[-1]:,.0f}/s")
    return statistics.median(results)

"""(e) The same with little data and with much: millions of old rows, and a backlog.

The relay works off a backlog in its outbox, and the inventory one in its queue; at no time is less
than the backlog waiting. The orders come after that, in a system whose backlog has been worked off:
with it in front of them their time would be the backlog's, which the first two have measured, and
not their own.
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

#: Of so many old rows one more waits: 200,000 of 10 million.
ROWS_FOR_ONE_WAITING = 50

#: Orders a second at which the latency is measured with little and with much; for information.
RATE = 50

_WORKED_OFF = "UPDATE outbox SET sent_at = clock_timestamp() WHERE sent_at IS NULL"

Tell = Callable[[str], None]


def measure(
    stack: Stack, rows: int, repeat: int, seconds: int, events: Mapping[str, int], tell: Tell
) -> dict[str, Any]:
    """Return each part's rate with little and with much, and their ratios; `events` is by part."""
    seeding.require_space(stack.servers.secrets_dir.parent, rows)
    backlog = rows // ROWS_FOR_ONE_WAITING
    little = _with_little(stack, repeat, seconds, events, tell)
    with seeding.past(stack, rows, tell):
        much = _with_much(stack, backlog, repeat, seconds, events, tell)
    return summary(little, much) | {"growth_rows": rows, "growth_backlog": backlog}


def summary(little: Mapping[str, Any], much: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts' ratios, much to little, and `growth_ratio`, the least of them."""
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
    stack: Stack, repeat: int, seconds: int, events: Mapping[str, int], tell: Tell
) -> dict[str, Any]:
    median = partial(_median, "little", repeat, tell)
    found: dict[str, Any] = {
        "relay": median("relay", lambda: relay.ours(stack, events["relay"])),
        "inventory": median("inventory", lambda: inventory.ours(stack, events["inventory"])),
        "intake": median("intake", lambda: intake.ours(stack, seconds)),
    }
    empty(stack)
    found |= _orders(stack, "little", repeat, seconds, tell)
    empty(stack)
    return found


def _with_much(
    stack: Stack,
    backlog: int,
    repeat: int,
    seconds: int,
    events: Mapping[str, int],
    tell: Tell,
) -> dict[str, Any]:
    # Twice as many as are measured: a relay ends with its tick, and not with the last of these.
    waiting = backlog + 2 * repeat * events["relay"]
    tell(f"much: {waiting:,} unsent events")
    fill_outbox(stack, waiting)
    median = partial(_median, "much", repeat, tell)
    found: dict[str, Any] = {
        "relay": median("relay", lambda: relay.drained(stack, events["relay"]))
    }
    # Now the order service's outbox holds both: the orders come into it.
    found["intake"] = median("intake", lambda: _taken(stack, seconds))
    waiting = backlog + repeat * events["inventory"]
    tell(f"much: {waiting:,} queued events")
    inventory.publish(stack, waiting, INVENTORY.queue)
    found["inventory"] = median("inventory", lambda: inventory.handled(stack, events["inventory"]))
    _work_off(stack)
    found |= _orders(stack, "much", repeat, seconds, tell)
    return found


def _orders(stack: Stack, state: str, repeat: int, seconds: int, tell: Tell) -> dict[str, Any]:
    prices = []
    lean = measured.of(stack)

    def one() -> float:
        run = flow.throughput(lean, seconds)
        prices.append(cpu.split(run.cpu_ms))
        return run.orders_per_s

    stack.start()
    try:
        flow.throughput(lean, 3)
        rate = _median(state, repeat, tell, "orders", one)
        latencies = [flow.latency(lean, RATE, seconds) for _ in range(repeat)]
    finally:
        stack.stop()
    price = flow.medians(prices, digits=2)
    return {"orders": rate, "latency": flow.medians(latencies), "price": price}


def _taken(stack: Stack, seconds: int) -> float:
    # As `intake.ours` begins, but with what the tables hold.
    checkpoint(stack)
    return intake.taken(stack, seconds)


def _work_off(stack: Stack) -> None:
    # As the relays leave it: every row once updated. The intake's orders go, which nobody decides.
    for service in ("order", "inventory"):
        execute(stack, service, _WORKED_OFF)
    execute(stack, "order", "DELETE FROM orders WHERE status = 'PENDING'")
    purge(stack)
    checkpoint(stack)


def _median(state: str, repeat: int, tell: Tell, part: str, measure: Callable[[], float]) -> float:
    rates = []
    for number in range(1, repeat + 1):
        rates.append(measure())
        tell(f"growth, {state}: {part} {number}/{repeat}: {rates[-1]:,.0f}/s")
    return statistics.median(rates)

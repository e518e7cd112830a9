"""(d) Orders a second from the first POST to the last decision, their price, their latency."""

import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import intake
from bench.system import SKUS, execute, until
from tests.support.stack import Stack

_TICKS = 100  # of the kernel's clock, in a second
_DECIDED = "SELECT id::text, extract(epoch FROM decided_at) FROM orders"
_TIMES = """
SELECT count(*), extract(epoch FROM max(decided_at) - min(created_at)) FROM orders
"""


@dataclass(frozen=True)
class Throughput:
    """Orders a second, and the milliseconds of processor time that one order takes."""

    orders: int
    orders_per_s: float
    cpu_ms: Mapping[str, float]


def throughput(stack: Stack, seconds: int) -> Throughput:
    """Order as fast as the API takes it, and wait for the last decision."""
    clear(stack)
    before = cpu(stack)
    intake.load(stack.url, stack.api_key, seconds=seconds, connections=8)
    _decided(stack)
    after = cpu(stack)
    ((orders, took),) = execute(stack, "order", _TIMES)
    price = {name: (after[name] - before[name]) * 1000 / int(orders) for name in after}  # type: ignore[call-overload]
    return Throughput(int(orders), float(orders) / float(took), price)  # type: ignore[arg-type,call-overload]


def latency(stack: Stack, rate: int, seconds: int) -> dict[str, float]:
    """Return percentiles, in milliseconds, from POST to decision at so many orders a second."""
    clear(stack)
    posted = _order_at(stack, rate, seconds)
    _decided(stack)
    decided = execute(stack, "order", _DECIDED)
    # The clients and the order service share this machine's clock.
    found = [(float(at) - posted[str(order)]) * 1000 for order, at in decided]  # type: ignore[arg-type]
    cuts = statistics.quantiles(found, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def cpu(stack: Stack) -> dict[str, float]:
    """Return the seconds of processor time of the application and of both servers so far."""
    ours = {pid for group in stack.pids().values() for pid in group}
    found = {"application": sum(map(_seconds, ours)), "postgresql": 0.0, "rabbitmq": 0.0}
    for pid, command in _processes():
        if command.startswith("postgres"):
            found["postgresql"] += _seconds(pid)
        elif command == "beam.smp":
            found["rabbitmq"] += _seconds(pid)
    return found


def clear(stack: Stack) -> None:
    """Forget all orders, once everything that they caused is done."""
    until(lambda: execute(stack, "order", _UNSENT) == [(0,)], within=60)
    until(lambda: stack.vhost.depth("notification.queue") == 0, within=120)
    execute(stack, "order", "TRUNCATE orders, outbox, inbox CASCADE")
    execute(stack, "inventory", "TRUNCATE reservations, reservation_lines, outbox, inbox")
    execute(stack, "notification", "TRUNCATE notifications, inbox")
    stack.mailbox.messages.clear()


_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


def _decided(stack: Stack) -> None:
    pending = "SELECT count(*) FROM orders WHERE status = 'PENDING'"
    until(lambda: execute(stack, "order", pending) == [(0,)], within=300)


def _order_at(stack: Stack, rate: int, seconds: int) -> dict[str, float]:
    """Post orders when they are due, whether or not the earlier ones are answered.

    Returns the moment (Unix time) of each order's POST, by its id.
    """
    posted: dict[str, float] = {}
    began = time.monotonic() + 0.5
    numbers = iter(range(rate * seconds))
    lock = threading.Lock()
    failures: list[str] = []

    def client() -> None:
        with stack.client as http:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                line = {"sku": SKUS[number % len(SKUS)], "quantity": 1, "unit_price": 500}
                order = {"customer": {"email": "ada@example.com"}, "currency": "EUR"}
                moment = time.time()
                answer = http.post("/orders", json=order | {"lines": [line]})
                if answer.status_code == 201:
                    posted[answer.headers["Location"].rpartition("/")[2]] = moment
                else:
                    failures.append(answer.text)

    clients = [threading.Thread(target=client) for _ in range(max(4, rate // 10))]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    return posted


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "comm").read_text().strip()
            except OSError:
                continue


def _seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS

"""Attempts to handle events of the inventory, and the spans that they record."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from celery import signals
from celery.utils.dispatch import Signal
from opentelemetry.trace import Span, get_current_span

from common.events import StockReserved
from common.kombu_topology import INVENTORY
from eventbus.consumer.attempt import Attempt
from eventbus.consumer.attempts import attempt_all
from eventbus.consumer.receive import Delivery, Item, Outcome
from eventbus.events.envelope import Event
from eventbus.settings.base import Settings
from testkit.processes.signals import worker_app

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"

#: The trace that is named in the envelope of a delivery, not in its headers.
ENVELOPE_TRACEPARENT = TRACEPARENT.replace("0a", "0b")

#: Settings with an endpoint on port 9, which has no listener.
NOWHERE = Settings(otlp_endpoint="http://127.0.0.1:9")

_TIERS = (1.0, 5.0)

_APP = worker_app("order.created", "stock.reserved", "inventory.relay", retry_tiers=_TIERS)


def attempt_spans(items: list[Item], error: Exception | None = None) -> list[Span]:
    """Attempt a batch of deliveries, which fails with the error, if any.

    Returns the spans of the attempts.
    """
    spans: dict[str, Span] = {}

    def record(task_id: str, **_: object) -> None:
        spans[task_id] = get_current_span()

    def make(item: Item) -> Attempt:
        task = _APP.tasks[item.delivery.task]
        return Attempt(item, task, service=INVENTORY, hostname="inventory", tiers=_TIERS)

    def work() -> None:
        if error:
            raise error
        for item in items:
            item.outcome = Outcome.HANDLED

    with first_receiver(signals.task_postrun, record), suppress(Exception):
        attempt_all(items, make, work)
    return [spans[item.delivery.event_id] for item in items]


@contextmanager
def first_receiver(signal: Signal, receiver: Callable[..., None]) -> Iterator[None]:
    """Call the receiver before all others, and thus before the instrumentation ends the span."""
    others, signal.receivers[:] = list(signal.receivers), []
    signal.connect(receiver, weak=False)
    signal.receivers.extend(others)
    yield
    signal.disconnect(receiver)


def stock_reserved(traceparent: object = None, attempts: int = 1, **headers: object) -> Item:
    """Return a delivery of `stock.reserved` with these headers."""
    event = Event(
        source="order",
        subject=uuid4(),
        sequence=1,
        traceparent=ENVELOPE_TRACEPARENT,
        data=StockReserved(lines=()),
    )
    event_id = str(event.id)
    headers = {
        "id": event_id,
        "task": event.type,
        "retries": attempts - 1,
        "traceparent": traceparent,
    } | headers
    delivery = Delivery(event.type, b"", attempts, traceparent, event_id, headers=headers)  # type: ignore[arg-type]
    return Item(delivery, event, event)

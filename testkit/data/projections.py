"""Events of orders in the broker's stream, and the projections that the reader makes of them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from analytics_worker.stream_reader import Reader
from common.events import Data, Line, OrderCancelled, OrderConfirmed, OrderCreated
from common.kombu_topology import EVENTS
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from testkit.eventually import eventually
from testkit.servers.vhosts import Vhost

#: When the orders are placed, and the minute that they count in.
AT = datetime(2026, 11, 1, 12, 30, 15, tzinfo=UTC)
MINUTE = AT.replace(second=0)

LINES = (
    Line(sku="TEA", quantity=2, unit_price=500),
    Line(sku="CUP", quantity=1, unit_price=900),
)
ORDERED: dict[str, Any] = {
    "customer_email": "ada@example.com",
    "currency": "EUR",
    "total": 1900,
    "lines": LINES,
}
CREATED = OrderCreated(**ORDERED)
CONFIRMED = OrderConfirmed(**ORDERED)


def cancelled(reason: str) -> OrderCancelled:
    """Return the data of a cancellation."""
    return OrderCancelled(reason=reason, **ORDERED)


def event(data: Data, order_id: UUID, *, after: float = 0.0) -> Event:
    """Return an event of an order, so many seconds after `AT`."""
    return Event(
        source="order", subject=order_id, sequence=1, time=AT + timedelta(seconds=after), data=data
    )


def order(*outcomes: Data, at: float = 0.0) -> list[Event]:
    """Return the events of a new order: its placing, and each outcome a second after the last."""
    order_id = uuid4()
    return [event(data, order_id, after=at + n) for n, data in enumerate((CREATED, *outcomes))]


def publish(broker: Vhost, *events: Event, at: datetime | None = None) -> None:
    """Publish events, with the message timestamp `at` or that of each event."""
    for each in events:
        broker.publish(
            codec.wrap(codec.encode(each)),
            exchange=EVENTS.name,
            routing_key=each.type,
            headers=task_headers(str(each.id), each.type, None),
            message_id=str(each.id),
            timestamp=int((at or each.time).timestamp()),
        )


def read_until(reader: Reader, done: Callable[[], bool]) -> None:
    """Let a reader read until the condition is true."""

    def read() -> None:
        reader.read(time.monotonic() + 0.3)
        assert done()

    eventually(read)


def minutes(sessions: Sessions) -> list[tuple[Any, ...]]:
    """Return the figures of each minute and currency."""
    query = text(
        "SELECT minute, currency, placed, placed_total, confirmed, revenue, rejected, cancelled,"
        " decided, decision_microseconds FROM minutes ORDER BY 1, 2"
    )
    with transaction(sessions) as session:
        return [tuple(row) for row in session.execute(query)]


def skus(sessions: Sessions) -> list[tuple[Any, ...]]:
    """Return the figures of each minute and SKU."""
    query = text(
        "SELECT minute, sku, placed, pieces, confirmed, revenue FROM sku_minutes ORDER BY 1, 2"
    )
    with transaction(sessions) as session:
        return [tuple(row) for row in session.execute(query)]


def everything(sessions: Sessions) -> tuple[Any, ...]:
    """Return the rows of all projections."""
    with transaction(sessions) as session:
        orders = session.execute(text("SELECT * FROM orders ORDER BY id")).all()
    return minutes(sessions), skus(sessions), [tuple(row) for row in orders]


def placed(sessions: Sessions) -> int:
    """Return how many placed orders the minutes count."""
    return sum(row[2] for row in minutes(sessions))


def count(sessions: Sessions, table: str) -> int:
    """Return how many rows a table has."""
    with transaction(sessions) as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

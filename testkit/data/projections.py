"""Events of orders in the broker's stream, and the projections that a reader derives from them."""

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

#: The time at which orders are placed, and the minute in which they are counted.
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
    """Return an event of an order, `after` seconds after `AT`."""
    return Event(
        source="order", subject=order_id, sequence=1, time=AT + timedelta(seconds=after), data=data
    )


def order(*outcomes: Data, at: float = 0.0) -> list[Event]:
    """Return the events of a new order: its creation, and the outcomes at intervals of a second."""
    order_id = uuid4()
    return [event(data, order_id, after=at + n) for n, data in enumerate((CREATED, *outcomes))]


def publish(broker: Vhost, *events: Event, at: datetime | None = None) -> None:
    """Publish events, with the message timestamp `at`, by default the time of each event."""
    for published in events:
        broker.publish(
            codec.wrap(codec.encode(published)),
            exchange=EVENTS.name,
            routing_key=published.type,
            headers=task_headers(str(published.id), published.type, None),
            message_id=str(published.id),
            timestamp=int((at or published.time).timestamp()),
        )


def read_until(reader: Reader, done: Callable[[], bool]) -> None:
    """Run a reader until the condition is true."""

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
    """Return the number of placed orders in the minutes."""
    return sum(row[2] for row in minutes(sessions))


def count(sessions: Sessions, table: str) -> int:
    """Return the number of rows in a table."""
    with transaction(sessions) as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

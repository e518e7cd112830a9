"""The writer of the projections: many events in one transaction, each with exactly one effect.

Table names have no schema, so a replay writes to shadow tables with the same names.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from kombu.message import Message
from sqlalchemy import insert
from sqlalchemy.orm import Session

from analytics_worker import domain
from analytics_worker.domain import Figures, Order, Outcome
from analytics_worker.models import SkippedRow
from common.events import OrderCancelled, OrderConfirmed, OrderCreatedV2, OrderShipped
from eventbus.consumer.inbox import first_deliveries
from eventbus.database import outages
from eventbus.database.statement import Statement, packed
from eventbus.errors import InvalidEvent
from eventbus.events import codec
from eventbus.events.conversion import newest
from eventbus.events.envelope import Event
from eventbus.messaging.stream import Entry
from eventbus.messaging.untrusted import storable
from eventbus.telemetry.privacy import described

#: Maximum number of characters that are stored from a message that cannot be projected.
BODY_LIMIT = 100_000

#: Maximum number of characters of a stored reason.
REASON_LIMIT = 1_000

#: The reason that is stored for an event of an order whose `order.created` was not read.
UNKNOWN_ORDER = "order.created was not read"

_LOAD = Statement(
    "load_orders",
    "SELECT id, placed_at, currency, total, outcome, decided_at FROM orders WHERE id = ANY ($1)",
    "uuid[]",
)
_STORE = Statement(
    "store_orders",
    """
    INSERT INTO orders (id, placed_at, currency, total, outcome, decided_at)
    SELECT id, placed_at, currency, total, outcome, decided_at
    FROM json_to_recordset($1) AS row (
        id uuid, placed_at timestamptz, currency text, total bigint, outcome text,
        decided_at timestamptz
    )
    ON CONFLICT (id) DO UPDATE SET outcome = excluded.outcome, decided_at = excluded.decided_at
    """,
    "json",
)


def _add(table: str, keys: dict[str, str], figures: Sequence[str]) -> Statement:
    names = ", ".join([*keys, *figures])
    types = [f"{key} {kind}" for key, kind in keys.items()] + [f"{n} numeric" for n in figures]
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in figures)
    return Statement(
        f"add_to_{table}",
        f"""
        INSERT INTO {table} ({names})
        SELECT {names} FROM json_to_recordset($1) AS row ({", ".join(types)})
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET {added}
        """,  # noqa: S608, the names are this module's own
        "json",
    )


_MINUTE = tuple(
    domain.of_order(Order(placed_at=datetime.min.replace(tzinfo=UTC), currency="", total=0))
)
_SKU = ("placed", "pieces", "confirmed", "revenue")
_ADD_MINUTES = _add("minutes", {"minute": "timestamptz", "currency": "text"}, _MINUTE)
_ADD_SKUS = _add("sku_minutes", {"minute": "timestamptz", "sku": "text", "currency": "text"}, _SKU)


_ABOUT_ORDERS = OrderCreatedV2 | OrderConfirmed | OrderShipped | OrderCancelled


class Unprojectable(NamedTuple):
    """A message that cannot be projected, and the reason."""

    entry: Entry
    reason: str
    event: Event | None = None


def project(session: Session, entries: Iterable[Entry], *, since: datetime | None = None) -> None:
    """Add these messages to the figures. Events that were added before have no effect.

    Messages that cannot be projected are stored with the reason. With `since`, orders that were
    placed before that time, or whose `order.created` was not read, are left unchanged. Raises the
    errors of the database, in which case the figures are unchanged.
    """
    events, skipped = _decoded(entries)
    first = first_deliveries(session, ((event, 1) for _, event in events))
    changes = _Changes(session, {event.subject for _, event in events})
    for entry, event in events:
        # If a batch contains two copies of an event, only the first counts.
        if event.id in first:
            first.discard(event.id)
            if not changes.take(event, since):
                skipped.append(Unprojectable(entry, UNKNOWN_ORDER, event))
    changes.write()
    skip(session, skipped)


def skip(session: Session, skipped: Iterable[Unprojectable]) -> None:
    """Store messages that cannot be projected, so that reading can continue without losing them."""
    rows = [
        {
            "stream_offset": message.entry.offset,
            "order_id": message.event.subject if message.event else None,
            "type": message.event.type if message.event else None,
            "reason": storable(message.reason),
            "body": storable(_text(message.entry.message)[:BODY_LIMIT]),
        }
        for message in skipped
    ]
    if rows:
        session.execute(insert(SkippedRow), rows)


def is_passing(error: Exception) -> bool:
    """Return whether the database caused an error, so the same messages may succeed later."""
    return outages.reason(error) is not None or outages.contention(error)


class _Changes:
    """The orders of a batch, and the resulting changes of the figures."""

    def __init__(self, session: Session, ids: set[UUID]) -> None:
        self._session = session
        rows = _LOAD.run(session, list(ids)).all() if ids else []
        #: Orders with an outcome that only a newer release defines, whose figures are not changed.
        self._newer = {row.id for row in rows if row.outcome not in frozenset(Outcome)}
        self._orders: dict[UUID, Order] = {
            row.id: Order(
                placed_at=row.placed_at,
                currency=row.currency,
                total=row.total,
                outcome=Outcome(row.outcome),
                decided_at=row.decided_at,
            )
            for row in rows
            if row.id not in self._newer
        }
        self._changed: set[UUID] = set()
        self._minutes: defaultdict[tuple[Any, ...], Figures] = defaultdict(Figures)
        self._skus: defaultdict[tuple[Any, ...], Figures] = defaultdict(Figures)

    def take(self, event: Event, since: datetime | None) -> bool:
        """Apply an event; return False if its order is unknown."""
        if not isinstance(event.data, _ABOUT_ORDERS):
            return True
        if event.subject in self._newer:
            return True
        before = self._orders.get(event.subject)
        after = domain.after(before, event)
        if after is None:
            return before is not None
        if since and after.placed_at < since:
            return True
        self._orders[event.subject] = after
        self._changed.add(event.subject)
        place = after.minute, after.currency
        self._minutes[place].update(domain.less(domain.of_order(after), domain.of_order(before)))
        lines_before = domain.of_lines(before, event.data.lines)
        for sku, figures in domain.of_lines(after, event.data.lines).items():
            change = domain.less(figures, lines_before.get(sku, Figures()))
            self._skus[(after.minute, sku, after.currency)].update(change)
        return True

    def write(self) -> None:
        """Write the changes in the session's transaction."""
        if not self._changed:
            return
        orders = ({"id": i} | _row(self._orders[i]) for i in sorted(self._changed))
        _STORE.run(self._session, packed(orders))
        minutes = (
            {"minute": m, "currency": c} | {name: figures[name] for name in _MINUTE}
            for (m, c), figures in sorted(self._minutes.items())
        )
        _ADD_MINUTES.run(self._session, packed(minutes))
        skus = (
            {"minute": m, "sku": s, "currency": c} | {name: figures[name] for name in _SKU}
            for (m, s, c), figures in sorted(self._skus.items())
        )
        _ADD_SKUS.run(self._session, packed(skus))


def _row(order: Order) -> dict[str, Any]:
    return {
        "placed_at": order.placed_at,
        "currency": order.currency,
        "total": order.total,
        "outcome": order.outcome.value,
        "decided_at": order.decided_at,
    }


def _decoded(entries: Iterable[Entry]) -> tuple[list[tuple[Entry, Event]], list[Unprojectable]]:
    events, skipped = list[tuple[Entry, Event]](), list[Unprojectable]()
    for entry in entries:
        try:
            events.append((entry, _event(entry.message)))
        except Exception as error:
            # Any error here has its cause in the message.
            skipped.append(Unprojectable(entry, f"not an event: {described(error)}"[:REASON_LIMIT]))
    return events, skipped


def _event(message: Message) -> Event:
    if message.errors:
        raise InvalidEvent(str(message.errors[0][1]))
    # kombu's decoding is not used, because it depends on the properties of the message.
    envelope = msgspec.json.decode(message.body)[1]["event"]
    if not isinstance(envelope, dict):
        raise InvalidEvent("the message contains no envelope")
    return newest(codec.decode(envelope))


def _text(message: Message) -> str:
    body = message.body
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body)

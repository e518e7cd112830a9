"""The conventional worker of an order service: each event of the inventory is a task."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bench.plain.application import application, sessions
from bench.plain.topology import ORDERS
from common.events import Shortage, StockRejected
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from order_app import domain, events
from order_app.storage.models import OrderRow
from testkit.data.inboxes import first_delivery

app = application("plain-orders", ORDERS)

Rule = Callable[[domain.Order, datetime], domain.Order]


@app.task(name="stock.reserved", shared=False)  # type: ignore[untyped-decorator]
def stock_reserved(*, event: dict[str, Any]) -> None:
    """Confirm one order."""
    _decide(codec.decode(event), lambda order, now: domain.confirm(order, now=now))


@app.task(name="stock.rejected", shared=False)  # type: ignore[untyped-decorator]
def stock_rejected(*, event: dict[str, Any]) -> None:
    """Cancel one order."""
    decoded = codec.decode(event)
    assert isinstance(decoded.data, StockRejected)
    reason = domain.Reason.OUT_OF_STOCK
    _decide(
        decoded,
        lambda order, now: domain.cancel(order, reason, now=now),
        decoded.data.shortages,
    )


def _decide(event: Event, rule: Rule, shortages: tuple[Shortage, ...] = ()) -> None:
    with transaction(sessions()) as session:
        if not first_delivery(session, event, attempts=1):
            return
        row = session.get_one(OrderRow, event.subject, with_for_update=True)
        order = row.to_domain()
        decided = rule(order, datetime.now(UTC))
        if decided is order:
            return
        row.decide(decided)
        row.sequence += 1
        cause = events.Cause.of(event)
        events.record(session, decided, sequence=row.sequence, cause=cause, shortages=shortages)

"""One event for each golden file, written independently of its encoding.

A contract with a new field needs a new sample with the next version number, in which the field has
a value. `make docs` writes its golden file. Earlier samples do not change.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from common.events import (
    Customer,
    Data,
    FraudSuspected,
    Line,
    Money,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderCreatedV2,
    OrderShipped,
    PricedLine,
    Quantity,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
    Suspicion,
)
from eventbus.events.envelope import Event

_ORDER = UUID("0199c1a0-0000-7000-8000-00000000000a")
_LINES = (
    Line(sku="CHAIR-1", quantity=2, unit_price=9900),
    Line(sku="TISCH-Ö", quantity=1, unit_price=0),
)
_SHORTAGES = (Shortage(sku="CHAIR-1", requested=2, available=1),)
_HELD = (Quantity(sku="CHAIR-1", quantity=2), Quantity(sku="TISCH-Ö", quantity=1))


def _event(
    number: int, source: str, sequence: int, data: Data, *, causation: int | None = None
) -> Event:
    return Event(
        id=_id(number),
        source=source,
        subject=_ORDER,
        sequence=sequence,
        time=datetime(2025, 10, 8, 12, 30, number, 250_000, tzinfo=UTC),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        causationid=_id(causation) if causation else None,
        data=data,
    )


def _eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


def _id(number: int) -> UUID:
    return UUID(f"0199c1a0-0000-7000-8000-{number:012x}")


#: By the name of its golden file: the event's type and the version of its contract.
SAMPLES: Mapping[str, Event] = {
    # An order has no cause and, without tracing, no trace: both attributes are omitted.
    "order.created.v1": Event(
        id=_id(1),
        source="order",
        subject=_ORDER,
        sequence=1,
        time=datetime(2025, 10, 8, 12, 30, 1, tzinfo=UTC),
        data=OrderCreated(
            customer_email="ada@example.com", currency="EUR", total=19800, lines=_LINES
        ),
    ),
    "order.created.v2": _event(
        7,
        "order",
        1,
        OrderCreated(
            customer_email="ada@example.com",
            currency="EUR",
            total=19800,
            lines=_LINES,
            client_ip="192.0.2.7",
        ),
    ),
    # The same order in the next version of the contract. Both have the same id.
    "order.created.v2.v1": _event(
        7,
        "order",
        1,
        OrderCreatedV2(
            customer=Customer(email="ada@example.com"),
            total=_eur(19800),
            lines=(
                PricedLine(sku="CHAIR-1", quantity=2, unit_price=_eur(9900)),
                PricedLine(sku="TISCH-Ö", quantity=1, unit_price=_eur(0)),
            ),
            client_ip="192.0.2.7",
        ),
    ),
    "order.confirmed.v1": _event(
        2,
        "order",
        2,
        OrderConfirmed(customer_email="ada@example.com", currency="EUR", total=19800, lines=_LINES),
        causation=4,
    ),
    # An operator shipped the order, so no event is the cause.
    "order.shipped.v1": _event(
        9,
        "order",
        3,
        OrderShipped(customer_email="ada@example.com", currency="EUR", total=19800, lines=_LINES),
    ),
    "order.cancelled.v1": _event(
        3,
        "order",
        3,
        OrderCancelled(
            reason="out_of_stock",
            customer_email="ada@example.com",
            currency="EUR",
            total=19800,
            lines=_LINES,
            shortages=_SHORTAGES,
        ),
        causation=5,
    ),
    "stock.reserved.v1": _event(4, "inventory", 1, StockReserved(lines=_HELD), causation=1),
    "stock.rejected.v1": _event(
        5,
        "inventory",
        1,
        StockRejected(reason="out_of_stock", shortages=_SHORTAGES),
        causation=1,
    ),
    "stock.released.v1": _event(6, "inventory", 2, StockReleased(lines=_HELD), causation=3),
    "fraud.suspected.v1": _event(
        8,
        "fraud",
        1,
        FraudSuspected(
            customer_email="ada@example.com",
            currency="EUR",
            total=19800,
            client_ip="192.0.2.7",
            score=90,
            reasons=(
                Suspicion(rule="email_orders", found=6, limit=5),
                Suspicion(rule="skus", found=21, limit=20),
            ),
        ),
        causation=7,
    ),
}


def newest(event_type: str) -> str:
    """Return the name of the newest sample of an event type."""
    versions = [name for name, event in SAMPLES.items() if event.type == event_type]
    return max(versions, key=lambda name: int(name.rpartition(".v")[2]))

"""What the notification service does about each event: it records the mail that answers it.

The mailer sends it. So a mail server that is slow or down holds up no event, and a customer, or the
operator, gets one mail however often an event is delivered.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy.orm import Session

from common.errors import Permanent
from common.events import Event, FraudSuspected, OrderCancelled, OrderConfirmed, OrderCreatedV2
from common.statement import Statement, packed
from notification_worker import address
from notification_worker.domain import OPERATOR, Kind, Status, kind_of_cancellation

# A second event of the same fact, with an id of its own, is no reason for a second mail.
_RECORD = Statement(
    "record_notifications",
    """
    INSERT INTO notifications (order_id, kind, sequence, recipient, context, traceparent, status)
    SELECT order_id, kind, sequence, recipient, context, traceparent, status
    FROM json_to_recordset($1) AS row (
        order_id uuid, kind text, sequence integer, recipient text, context jsonb, traceparent text,
        status text
    )
    ON CONFLICT (order_id, kind) DO NOTHING
    """,
    "json",
)


def on_order_created(session: Session, event: Event) -> None:
    """Tell the customer that the order has arrived."""
    on_orders_created(session, [event])


def on_order_confirmed(session: Session, event: Event) -> None:
    """Tell the customer that the order will be delivered."""
    on_orders_confirmed(session, [event])


def on_order_cancelled(session: Session, event: Event) -> None:
    """Tell the customer that, and why, the order will not be delivered."""
    data = cast(OrderCancelled, event.data)
    _record(session, [_row(event, kind_of_cancellation(data.reason))])


def on_fraud_suspected(session: Session, event: Event) -> None:
    """Tell the operator that, and why, an order looks like fraud."""
    row = {
        "order_id": event.subject,
        "kind": Kind.SUSPECTED,
        # No mail to the customer waits for this one, nor this one for theirs.
        "sequence": None,
        "recipient": OPERATOR,
        "context": msgspec.to_builtins(event.data),
        "traceparent": event.traceparent,
        "status": _status(event),
    }
    _record(session, [row])


def on_orders_created(session: Session, created: Sequence[Event]) -> None:
    """Tell many customers that their orders have arrived."""
    _record(session, [_row(event, Kind.RECEIVED) for event in created])


def on_orders_confirmed(session: Session, confirmed: Sequence[Event]) -> None:
    """Tell many customers that their orders will be delivered."""
    _record(session, [_row(event, Kind.CONFIRMED) for event in confirmed])


def _record(session: Session, rows: list[dict[str, Any]]) -> None:
    _RECORD.run(session, packed(rows))


def _row(event: Event, kind: Kind) -> dict[str, Any]:
    data = event.data
    context = _ordered(data) if isinstance(data, OrderCreatedV2) else msgspec.to_builtins(data)
    return {
        "order_id": event.subject,
        "kind": kind,
        "sequence": event.sequence,
        "recipient": _recipient(context.pop("customer_email")),
        "context": context,
        "traceparent": event.traceparent,
        "status": _status(event),
    }


def _status(event: Event) -> Status:
    return Status.HELD if event.replayed else Status.PENDING


def _ordered(data: OrderCreatedV2) -> dict[str, Any]:
    # As the templates show it, which is how the other events tell it.
    return {
        "customer_email": data.customer.email,
        "currency": data.total.currency,
        "total": data.total.amount,
        "lines": [
            {"sku": line.sku, "quantity": line.quantity, "unit_price": line.unit_price.amount}
            for line in data.lines
        ],
    }


def _recipient(customer_email: str) -> str:
    try:
        return address.ascii_domain(customer_email)
    except ValueError as error:
        raise Permanent(f"customer_email is {error}") from None


HANDLERS: Mapping[type, Callable[[Session, Event], None]] = {
    OrderCreatedV2: on_order_created,
    OrderConfirmed: on_order_confirmed,
    OrderCancelled: on_order_cancelled,
    FraudSuspected: on_fraud_suspected,
}

SETS: Mapping[type, Callable[[Session, Sequence[Event]], None]] = {
    OrderCreatedV2: on_orders_created,
    OrderConfirmed: on_orders_confirmed,
}

"""The handlers of the notification service, which record an email for each event.

The mailer sends the emails. Therefore, a slow or unavailable mail server does not delay events, and
each event leads to one email, regardless of how often the event is delivered.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from common.events import (
    FraudSuspected,
    OrderCancelled,
    OrderConfirmed,
    OrderCreatedV2,
    OrderShipped,
)
from eventbus.consumer.receive import BatchHandler, Handlers
from eventbus.database.statement import Statement, packed
from eventbus.errors import InvalidEvent
from eventbus.events.envelope import Event
from notification_worker.domain import OPERATOR, Kind, Status, kind_of_cancellation
from notification_worker.mail import address

# A second event of the same fact, with a different id, does not lead to a second email. Every batch
# inserts rows in the same order, so overlapping batches wait but cannot deadlock.
_RECORD = Statement(
    "record_notifications",
    """
    INSERT INTO notifications (order_id, kind, sequence, recipient, context, traceparent, status)
    SELECT order_id, kind, sequence, recipient, context, traceparent, status
    FROM json_to_recordset($1) AS row (
        order_id uuid, kind text, sequence integer, recipient text, context jsonb, traceparent text,
        status text
    )
    ORDER BY order_id, sequence, kind COLLATE "C"
    ON CONFLICT (order_id, kind) DO NOTHING
    """,
    "json",
)


def on_events(session: Session, events: Sequence[Event]) -> None:
    """Record the emails for many events.

    The customer receives an email when an order is received, confirmed, shipped or cancelled; the
    last email contains the reason. The operator receives an email when an order is suspected.
    """
    _record(session, [_mail(event) for event in events])


def _mail(event: Event) -> dict[str, Any]:
    match event.data:
        case OrderCreatedV2():
            return _row(event, Kind.RECEIVED)
        case OrderConfirmed():
            return _row(event, Kind.CONFIRMED)
        case OrderShipped():
            return _row(event, Kind.SHIPPED)
        case OrderCancelled(reason=reason):
            return _row(event, kind_of_cancellation(reason))
        case FraudSuspected():
            return _suspicion(event)
        case _:
            raise NotImplementedError(f"there is no email for {event.type}")


def _suspicion(event: Event) -> dict[str, Any]:
    return {
        "order_id": event.subject,
        "kind": Kind.SUSPECTED,
        # This email and the emails to the customer do not wait for each other.
        "sequence": None,
        "recipient": OPERATOR,
        "context": msgspec.to_builtins(event.data),
        "traceparent": event.traceparent,
        "status": _status(event),
    }


def _record(session: Session, rows: list[dict[str, Any]]) -> None:
    _RECORD.run_with_next(session, packed(rows))


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
    # The data has the form of the other events, which the templates use.
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
    except ValueError:
        # The validator's own message would quote the address.
        raise InvalidEvent("customer_email is not an email address") from None


HANDLERS: Handlers = dict.fromkeys(
    (OrderCreatedV2, OrderConfirmed, OrderShipped, OrderCancelled, FraudSuspected),
    BatchHandler(on_events),
)

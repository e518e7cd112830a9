"""A conventional notification service: a task for each event that causes an email.

It only records the email: the mailer is not part of the comparison.
"""

from typing import Any

import msgspec

from bench.plain.application import application, sessions
from bench.plain.topology import NOTIFICATION
from common.events import OrderCancelled, OrderConfirmed, OrderCreated
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from notification_worker.domain import Kind, kind_of_cancellation
from notification_worker.models import Notification
from testkit.data.inboxes import first_delivery

app = application("plain-notification", NOTIFICATION)


@app.task(name="order.created", shared=False)  # type: ignore[untyped-decorator]
def order_created(*, event: dict[str, Any]) -> None:
    """Record the email about the receipt of an order."""
    _record(codec.decode(event), Kind.RECEIVED)


@app.task(name="order.confirmed", shared=False)  # type: ignore[untyped-decorator]
def order_confirmed(*, event: dict[str, Any]) -> None:
    """Record the email about the confirmation of an order."""
    _record(codec.decode(event), Kind.CONFIRMED)


@app.task(name="order.cancelled", shared=False)  # type: ignore[untyped-decorator]
def order_cancelled(*, event: dict[str, Any]) -> None:
    """Record the email about the cancellation of an order."""
    decoded = codec.decode(event)
    assert isinstance(decoded.data, OrderCancelled)
    _record(decoded, kind_of_cancellation(decoded.data.reason))


def _record(event: Event, kind: Kind) -> None:
    assert isinstance(event.data, OrderCreated | OrderConfirmed | OrderCancelled)
    with transaction(sessions()) as session:
        if first_delivery(session, event, attempts=1):
            context = msgspec.to_builtins(event.data)
            mail = Notification(
                order_id=event.subject,
                kind=kind,
                sequence=event.sequence,
                recipient=context.pop("customer_email"),
                context=context,
                traceparent=event.traceparent,
            )
            session.add(mail)

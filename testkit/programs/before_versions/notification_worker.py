"""The notification service's earlier worker, which decodes only the first version."""

from typing import cast

import msgspec
from sqlalchemy.orm import Session

from common.events import OrderCancelled, OrderConfirmed, OrderCreated
from common.kombu_topology import NOTIFICATION
from eventbus.consumer.receive import BatchHandler
from eventbus.database.statement import packed
from eventbus.events.envelope import Event
from eventbus.settings.service import ServiceSettings
from eventbus.worker.events import make_worker
from notification_worker import handlers
from notification_worker.domain import Kind, Status


def on_order_created(session: Session, event: Event) -> None:
    """Record the email that confirms the receipt of an order."""
    data = cast(OrderCreated, event.data)
    row = {
        "order_id": event.subject,
        "kind": Kind.RECEIVED,
        "sequence": event.sequence,
        "status": Status.PENDING,
        "recipient": data.customer_email,
        "context": {
            "currency": data.currency,
            "total": data.total,
            "lines": msgspec.to_builtins(data.lines),
        },
        "traceparent": event.traceparent,
    }
    handlers._RECORD.run(session, packed([row]))


app = make_worker(
    NOTIFICATION,
    {
        OrderCreated: on_order_created,
        OrderConfirmed: BatchHandler(handlers.on_events),
        OrderCancelled: BatchHandler(handlers.on_events),
    },
    ServiceSettings,
    config="celeryconfig.worker",
)

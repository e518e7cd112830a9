from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from common.events import (
    Data,
    FraudSuspected,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    Shortage,
    Suspicion,
)
from eventbus.consumer.receive import Outcome
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Permanent
from eventbus.events.envelope import Event
from notification_worker.handlers import HANDLERS
from notification_worker.models import Notification
from testkit.events.deliveries import deliver

CONTEXT = {
    "currency": "EUR",
    "total": 2980,
    "lines": [{"sku": "COFFEE", "quantity": 2, "unit_price": 1490}],
}
ORDER: dict[str, Any] = {
    "customer_email": "ann@example.com",
    "currency": "EUR",
    "total": 2980,
    "lines": (Line(sku="COFFEE", quantity=2, unit_price=1490),),
}


def an_event(data: Data, *, order_id: UUID | None = None, sequence: int = 1) -> Event:
    return Event(source="order", subject=order_id or uuid4(), sequence=sequence, data=data)


def handle(sessions: Sessions, event: Event) -> Outcome:
    (outcome,) = deliver(sessions, HANDLERS, event)
    return outcome


def notifications(sessions: Sessions) -> list[Notification]:
    with transaction(sessions) as session:
        return list(session.scalars(select(Notification).order_by(Notification.id)))


@pytest.mark.parametrize(
    ("data", "kind", "context"),
    [
        (OrderCreated(client_ip="192.0.2.7", **ORDER), "received", CONTEXT),
        (OrderConfirmed(**ORDER), "confirmed", CONTEXT),
        (
            OrderCancelled(
                reason="out_of_stock",
                shortages=(Shortage(sku="COFFEE", requested=2, available=1),),
                **ORDER,
            ),
            "rejected",
            CONTEXT
            | {
                "reason": "out_of_stock",
                "shortages": [{"sku": "COFFEE", "requested": 2, "available": 1}],
            },
        ),
        (
            OrderCancelled(reason="customer", **ORDER),
            "cancelled",
            CONTEXT | {"reason": "customer", "shortages": []},
        ),
        (
            OrderCancelled(reason="deadline", **ORDER),
            "cancelled",
            CONTEXT | {"reason": "deadline", "shortages": []},
        ),
    ],
)
def test_an_event_records_its_mail(
    notification_database: Sessions, data: Data, kind: str, context: dict[str, Any]
) -> None:
    event = an_event(data, sequence=2)
    handle(notification_database, event)
    [row] = notifications(notification_database)
    assert (row.order_id, row.kind, row.sequence) == (event.subject, kind, 2)
    assert (row.recipient, row.context) == ("ann@example.com", context)
    assert (row.status, row.attempts, row.sent_at) == ("PENDING", 0, None)


def test_a_duplicate_event_records_one_mail(notification_database: Sessions) -> None:
    event = an_event(OrderCreated(**ORDER))
    again = an_event(OrderCreated(**ORDER), order_id=event.subject)
    outcomes = [handle(notification_database, each) for each in (event, event, again)]
    assert outcomes == [Outcome.HANDLED, Outcome.DUPLICATE, Outcome.HANDLED]
    assert len(notifications(notification_database)) == 1


def test_an_order_has_a_mail_of_each_kind(notification_database: Sessions) -> None:
    order_id = uuid4()
    outcomes: list[Data] = [
        OrderCreated(**ORDER),
        OrderConfirmed(**ORDER),
        OrderCancelled(reason="customer", **ORDER),
    ]
    for sequence, data in enumerate(outcomes, start=1):
        handle(notification_database, an_event(data, order_id=order_id, sequence=sequence))
    kinds = [row.kind for row in notifications(notification_database)]
    assert kinds == ["received", "confirmed", "cancelled"]


@pytest.mark.parametrize("email", ["ann@example.com\r\nBcc: all@example.com", "nobody", ""])
def test_an_invalid_address_is_a_permanent_failure(
    notification_database: Sessions, email: str
) -> None:
    event = an_event(OrderCreated(**(ORDER | {"customer_email": email})))
    with pytest.raises(Permanent, match="customer_email is not an email address"):
        handle(notification_database, event)
    assert notifications(notification_database) == []


def test_a_suspicion_records_a_mail_to_the_operator(
    notification_database: Sessions,
) -> None:
    # Given two events about one suspicion
    data = FraudSuspected(
        customer_email="ann@example.com",
        currency="EUR",
        total=2980,
        score=60,
        reasons=(Suspicion(rule="amount", found=2980, limit=1000),),
    )
    event = an_event(data)
    again = Event(source="fraud", subject=event.subject, sequence=1, data=data)

    # When both are handled
    for each in (event, again):
        handle(notification_database, each)

    # Then one email to the operator is recorded, without a sequence
    [row] = notifications(notification_database)
    assert (row.kind, row.recipient, row.sequence) == ("suspected", "operator", None)
    assert row.context["reasons"] == [{"rule": "amount", "found": 2980, "limit": 1000}]
    assert row.context["customer_email"] == "ann@example.com"


def test_the_mails_of_replayed_events_are_held(notification_database: Sessions) -> None:
    # Given replayed events, followed by a live event
    suspicion = FraudSuspected(
        customer_email="ann@example.com",
        currency="EUR",
        total=1,
        score=60,
        reasons=(Suspicion(rule="amount", found=2, limit=1),),
    )
    history = [
        an_event(OrderCreated(**ORDER)),
        an_event(OrderConfirmed(**ORDER)),
        an_event(OrderCancelled(reason="customer", **ORDER)),
        an_event(suspicion),
    ]

    # When all are handled
    for event in history:
        handle(notification_database, replace(event, replayed=True))
    handle(notification_database, an_event(OrderCreated(**ORDER)))

    # Then only the email of the live event is pending
    statuses = [row.status for row in notifications(notification_database)]
    assert statuses == ["HELD"] * len(history) + ["PENDING"]

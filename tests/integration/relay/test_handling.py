"""An event that is parked is recorded once, and a failed transaction is never a handled event."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from common.events import Line, OrderConfirmed
from common.kombu_topology import NOTIFICATION
from eventbus.consumer import parked_events
from eventbus.consumer.cause import Failed
from eventbus.consumer.handling import Handling
from eventbus.consumer.inbox import inbox
from eventbus.consumer.receive import Delivery
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from testkit.events.deliveries import delivery

TIERS = 2

SERVICE = replace(NOTIFICATION, parks_in_sequence=True)


def an_event() -> Event:
    """Return an event of a new order."""
    line = Line(sku="TEA", quantity=1, unit_price=1)
    data = OrderConfirmed(customer_email="a@example.com", currency="EUR", total=1, lines=(line,))
    return Event(source="order", subject=uuid4(), sequence=1, data=data)


def invalid(event: Event) -> Delivery:
    """Return a delivery of an event whose payload violates its contract."""
    envelope = codec.encode(event).replace(b'"currency":"EUR"', b'"currency":7')
    return Delivery(event.type, codec.wrap(envelope), 1)


def handling(handler: Callable[[Session, Event], None]) -> Handling:
    """Return the handling of a service that parks in sequence."""
    return Handling(service=SERVICE, handlers={OrderConfirmed: handler}, tiers=TIERS)


def fail(*_: object) -> None:
    """Fail as a handler with a bug."""
    raise KeyError("a bug")


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[bytes | str]:
    """The bodies that are recorded, in their sequence."""
    bodies: list[bytes | str] = []
    record = parked_events.record

    def spy(session: Session, recorded: Iterable[bytes | str]) -> None:
        recorded = list(recorded)
        bodies.extend(recorded)
        record(session, recorded)

    monkeypatch.setattr(parked_events, "record", spy)
    return bodies


@pytest.mark.parametrize(
    "failing", [invalid, lambda event: delivery(event, attempts=TIERS + 1)], ids=["invalid", "last"]
)
def test_a_parked_event_is_recorded_once(
    notification_database: Sessions,
    records: list[Any],
    failing: Callable[[Event], Delivery],
) -> None:
    failed = failing(an_event())

    with pytest.raises(Failed):
        handling(fail).handle(notification_database, [failed])

    assert records == [failed.body]


def test_an_event_whose_handler_ignores_a_database_error_is_not_handled(
    notification_database: Sessions,
) -> None:
    # Given a handler that continues after an error of the database, without a savepoint
    def ignore(session: Session, _event: Event) -> None:
        with suppress(ProgrammingError):
            session.execute(text("SELECT no_such_column"))

    # When it handles an event
    with pytest.raises(Failed) as caught:
        handling(ignore).handle(notification_database, [delivery(an_event())])

    # Then the event has failed, as its transaction has had no effect
    assert caught.value.cause.exception == "NotCommitted"
    with transaction(notification_database) as session:
        assert session.scalars(select(inbox.c.event_id)).all() == []

"""Events wait behind the parked events of their order, by the records in the database."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text

from common.events import Line, OrderConfirmed, OrderCreatedV2
from eventbus.consumer import parked_events
from eventbus.consumer.receive import Delivery, Handlers, Item, Outcome, receive_batch
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from testkit.events.deliveries import deliver, delivery

ORDER, OTHER = uuid4(), uuid4()

HANDLED, WAITING, DUPLICATE = Outcome.HANDLED, Outcome.WAITING, Outcome.DUPLICATE


@pytest.fixture
def database(notification_database: Sessions) -> Sessions:
    """A database of a service that parks in sequence."""
    return notification_database


def an_event(sequence: int, *, order: UUID = ORDER, source: str = "order") -> Event:
    """Return an event of an order."""
    line = Line(sku="TEA", quantity=1, unit_price=1)
    data = OrderConfirmed(customer_email="a@example.com", currency="EUR", total=1, lines=(line,))
    return Event(source=source, subject=order, sequence=sequence, data=data)


def handle(database: Sessions, *events: Event) -> list[Outcome]:
    """Handle events in one batch."""
    return deliver(database, _HANDLERS, *events, in_sequence=True)


def park(database: Sessions, *events: Event) -> None:
    """Record events as a child process does before they are parked."""
    with transaction(database) as session:
        parked_events.record(session, [delivery(event).body for event in events])


def recorded(database: Sessions) -> dict[UUID, UUID | None]:
    """Return the recorded events, each with the event that it waits behind."""
    columns = parked_events.parked_events.c
    with transaction(database) as session:
        return dict(session.execute(select(columns.event_id, columns.behind)).all())


def test_later_events_of_an_order_wait_behind_a_parked_one(database: Sessions) -> None:
    # Given a parked event, and one that arrived behind it
    parked, second, third = an_event(1), an_event(2), an_event(3)
    park(database, parked)
    assert handle(database, second) == [WAITING]

    # When other events arrive in one batch, some of them of another order or source
    outcomes = handle(
        database, an_event(1, order=OTHER), third, an_event(1, source="fraud"), second
    )

    # Then only the later events of the order wait
    assert outcomes == [HANDLED, WAITING, HANDLED, WAITING]
    assert recorded(database) == {parked.id: None, second.id: parked.id, third.id: parked.id}


def test_events_are_released_one_after_the_other(database: Sessions) -> None:
    # Given a parked event, and two that wait behind it
    first, second, third = (an_event(n) for n in (1, 2, 3))
    park(database, first)
    handle(database, second, third)

    # Then each is handled only after the one ahead of it
    assert handle(database, third) == [WAITING]
    assert handle(database, first) == [HANDLED]
    assert handle(database, third) == [WAITING]
    assert handle(database, an_event(4)) == [WAITING]
    assert handle(database, second) == [HANDLED]
    assert handle(database, third) == [HANDLED]
    assert len(recorded(database)) == 1


def test_a_batch_in_sequence_is_handled_together(database: Sessions) -> None:
    first, second, third = (an_event(n) for n in (1, 2, 3))
    park(database, first)
    handle(database, second)

    assert handle(database, first, second, third) == [HANDLED] * 3
    assert recorded(database) == {}


def test_a_batch_out_of_sequence_is_not_reordered(database: Sessions) -> None:
    # Given a parked event
    first, second, third = (an_event(n) for n in (1, 2, 3))
    park(database, first)

    # When it is redriven, and arrives between two later events
    outcomes = handle(database, second, first, third)

    # Then the last one does not pass the one that waits
    assert outcomes == [WAITING, HANDLED, WAITING]
    assert recorded(database).keys() == {second.id, third.id}


def test_an_earlier_event_does_not_wait_behind_a_later_one(database: Sessions) -> None:
    # Given a parked event, while an earlier one is being retried
    park(database, an_event(2))

    assert handle(database, an_event(1)) == [HANDLED]


def test_a_duplicate_does_not_wait(database: Sessions) -> None:
    # Given a handled event, and an earlier one that is parked
    second = an_event(2)
    handle(database, second)
    park(database, an_event(1))

    assert handle(database, second) == [DUPLICATE]


def test_a_handled_event_blocks_no_other(database: Sessions) -> None:
    # Given an event that one worker has handled while another one failed
    first, second = an_event(1), an_event(2)
    handle(database, first)
    park(database, first)
    assert recorded(database) == {}
    with transaction(database) as session:
        # The record was committed just before the handling.
        session.execute(
            text("INSERT INTO parked_events SELECT event_id, source, subject, 1 FROM inbox")
        )

    # Then later events do not wait, and the record is deleted
    assert handle(database, second) == [HANDLED]
    assert recorded(database) == {}


def test_an_invalid_event_blocks_its_order(database: Sessions) -> None:
    # Given an event whose payload violates its contract, and one without a position
    first, second = an_event(1), an_event(2)
    broken = codec.wrap(codec.encode(first).replace(b'"currency":"EUR"', b'"currency":7'))
    items = [
        Item.of(Delivery(first.type, body, 1), _HANDLERS) for body in (broken, b"[[], {}, {}]")
    ]

    # When they fail in a batch
    receive_batch(database, _HANDLERS, items, in_sequence=True)

    # Then later events of its order wait, and it is handled once it is corrected
    assert [item.outcome for item in items] == [Outcome.FAILED] * 2
    assert handle(database, second) == [WAITING]
    assert handle(database, first) == [HANDLED]
    assert handle(database, second) == [HANDLED]


def test_a_rolled_back_batch_releases_no_event(database: Sessions) -> None:
    # Given a parked event whose handler still fails
    first, second = an_event(1), an_event(2)
    park(database, first)

    def fail(*_: object) -> None:
        raise KeyError("a bug")

    # When both events are in one batch
    broken: Handlers = {OrderConfirmed: fail}
    with pytest.raises(KeyError):
        deliver(database, broken, first, second, in_sequence=True)

    # Then the record is kept, and the later event waits
    assert recorded(database) == {first.id: None}
    assert handle(database, second) == [WAITING]


def test_other_services_do_not_use_the_table(database: Sessions) -> None:
    # Given a service without the option, and without the table
    with transaction(database) as session:
        session.execute(text("DROP TABLE parked_events"))

    # Then its events are handled
    assert deliver(database, _HANDLERS, an_event(1), an_event(2)) == [HANDLED] * 2


_HANDLERS: Handlers = {OrderConfirmed: lambda *_: None, OrderCreatedV2: lambda *_: None}

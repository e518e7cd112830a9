"""An event is recorded exactly if its change is committed, and handled exactly once."""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from common.events import Quantity, StockReserved
from eventbus.consumer.inbox import inbox
from eventbus.consumer.receive import Handlers, Outcome
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.table import append, outbox
from testkit.data.inboxes import first_delivery
from testkit.events.deliveries import deliver
from testkit.eventually import eventually


def reserved(order_id: UUID | None = None, *, sequence: int = 1) -> Event:
    return Event(
        source="inventory",
        subject=order_id or uuid4(),
        sequence=sequence,
        traceparent="00-1-2-01",
        causationid=uuid4(),
        data=StockReserved(lines=(Quantity(sku="A", quantity=1),)),
    )


def recorded(sessions: Sessions) -> list[UUID]:
    with transaction(sessions) as session:
        return list(session.scalars(select(outbox.c.event_id).order_by(outbox.c.id)))


def handled(sessions: Sessions) -> list[UUID]:
    with transaction(sessions) as session:
        return list(session.scalars(select(inbox.c.event_id)))


def require_a_waiting_transaction(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        waiting = session.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    assert waiting == 1


class Stop(Exception):
    """Raised to roll back a transaction."""


def test_an_event_is_recorded_when_its_transaction_commits(order_database: Sessions) -> None:
    # Given an event
    event = reserved()

    # When its transaction commits
    with transaction(order_database) as session:
        append(session, event)
        assert recorded(order_database) == []

    # Then the row is unsent, with the event as it will be published
    with transaction(order_database) as session:
        row = session.execute(select(outbox)).one()
    assert (row.event_id, row.type, row.subject) == (event.id, "stock.reserved", event.subject)
    assert codec.decode(json.loads(row.event)) == event
    assert row.event.encode() == codec.encode(event)
    assert row.sent_at is None
    assert row.unroutable_reason is None
    assert row.next_attempt_at == row.created_at


def test_an_event_is_discarded_when_its_transaction_rolls_back(order_database: Sessions) -> None:
    # When a transaction rolls back
    with suppress(Stop), transaction(order_database) as session:
        append(session, reserved())
        raise Stop

    # Then the outbox is empty
    assert recorded(order_database) == []


def test_an_event_cannot_be_recorded_twice(order_database: Sessions) -> None:
    # Given an event
    event = reserved()

    # When it is recorded twice
    with order_database() as session:
        append(session, reserved())
        append(session, event)
        append(session, event)
        with pytest.raises(IntegrityError):
            session.commit()

    # Then the transaction fails as a whole
    assert recorded(order_database) == []


def test_events_keep_the_order_of_their_recording(order_database: Sessions) -> None:
    order_id = uuid4()
    events = [reserved(order_id, sequence=n) for n in range(1, 6)]

    with transaction(order_database) as session:
        for event in events:
            append(session, event)

    assert recorded(order_database) == [event.id for event in events]


def test_a_second_delivery_is_not_the_first(order_database: Sessions) -> None:
    event = reserved()

    with transaction(order_database) as session:
        assert first_delivery(session, event, attempts=1)
    with transaction(order_database) as session:
        assert not first_delivery(session, event, attempts=2)


def test_the_inbox_records_the_event_and_the_time_of_handling(order_database: Sessions) -> None:
    # Given an event
    event = reserved()

    # When it is delivered for the third time
    with transaction(order_database) as session:
        first_delivery(session, event, attempts=3)

    # Then its row has all attributes
    with transaction(order_database) as session:
        row = session.execute(select(inbox)).one()
        assert row.handled_at == session.scalar(select(func.max(inbox.c.handled_at)))
    assert (row.event_id, row.type, row.source) == (event.id, event.type, event.source)
    assert (row.subject, row.attempts, row.occurred_at) == (event.subject, 3, event.time)
    assert (row.traceparent, row.causationid) == (event.traceparent, event.causationid)


def test_a_failed_delivery_does_not_count(order_database: Sessions) -> None:
    # Given a delivery whose transaction was rolled back
    event = reserved()
    with suppress(Stop), transaction(order_database) as session:
        assert first_delivery(session, event, attempts=1)
        raise Stop

    # Then the next delivery is the first
    with transaction(order_database) as session:
        assert first_delivery(session, event, attempts=2)


@pytest.mark.parametrize("commits", [True, False])
def test_the_second_worker_with_an_event_waits_for_the_first(
    order_database: Sessions, commits: bool
) -> None:
    # Given an event
    event = reserved()

    def second() -> bool:
        with transaction(order_database) as session:
            return first_delivery(session, event, attempts=1)

    with ThreadPoolExecutor(1) as thread:
        with order_database() as session:
            assert first_delivery(session, event, attempts=1)

            # When a second worker receives it while the first one handles it
            result: Future[bool] = thread.submit(second)
            eventually(lambda: require_a_waiting_transaction(order_database))
            assert not result.done()
            session.commit() if commits else session.rollback()

        # Then the second waits, and handles the event only if the first failed
        assert result.result(timeout=60) is not commits
    assert handled(order_database) == [event.id]


def test_exactly_one_of_many_workers_handles_an_event(order_database: Sessions) -> None:
    # Given an event and eight workers
    event = reserved()
    barrier = Barrier(8)

    def deliver(_: int) -> bool:
        with transaction(order_database) as session:
            barrier.wait(timeout=60)
            return first_delivery(session, event, attempts=1)

    # When all handle it at the same time
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(deliver, range(8)))

    # Then one of them does
    assert sorted(results) == [False] * 7 + [True]


def test_workers_with_different_events_do_not_block_each_other(
    order_database: Sessions,
) -> None:
    # Given two events, one of which is being handled
    first, second = reserved(), reserved()
    with order_database() as session:
        first_delivery(session, first, attempts=1)

        # When another worker handles the second
        with transaction(order_database) as other:
            other.execute(text("SET LOCAL lock_timeout = 1"))
            assert first_delivery(other, second, attempts=1)

        # Then it does not wait
        assert handled(order_database) == [second.id]


def handler(fails: bool) -> Callable[[Session, Event], None]:
    def handle(session: Session, event: Event) -> None:
        append(session, reserved(event.subject))
        if fails:
            raise Stop

    return handle


def test_a_handlers_effect_and_its_dedup_key_commit_together(order_database: Sessions) -> None:
    # Given an event
    event = reserved()

    # When the handler fails, Then neither is recorded
    with pytest.raises(Stop):
        deliver(order_database, {StockReserved: handler(fails=True)}, event)
    assert (handled(order_database), recorded(order_database)) == ([], [])

    # When the handler succeeds, Then both are recorded once
    succeeding: Handlers = {StockReserved: handler(fails=False)}
    outcomes = [deliver(order_database, succeeding, event) for _ in range(3)]
    assert outcomes == [[Outcome.HANDLED], [Outcome.DUPLICATE], [Outcome.DUPLICATE]]
    assert len(handled(order_database)) == len(recorded(order_database)) == 1

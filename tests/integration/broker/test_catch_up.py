"""Catch-up reads the events from the stream that a full queue has dropped."""

from datetime import datetime, timedelta
from time import monotonic
from typing import NoReturn

import pytest
from sqlalchemy.orm import Session

from common.kombu_topology import FRAUD, INVENTORY, STREAM
from eventbus.catch_up import overflow
from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.overflow import Overflow
from eventbus.database import db
from testkit.data.catching_up import ROOM, catch_up, in_stream, record
from testkit.data.dropping import Subscriber, created, publish
from testkit.eventually import becomes, eventually
from testkit.processes.publishers import PublisherOf


def test_dropped_events_are_delivered_with_one_effect_each(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # Given a stopped worker, and more events than the queue holds
    publish(publisher_of(), *(created(n) for n in range(1, 61)))

    # When the worker is back
    catch_up(fraud, process)

    # Then each event had one effect, and the stream and other queues were left alone
    assert fraud.effects == dict.fromkeys(range(1, 61), 1)
    assert fraud.broker.depth(INVENTORY.queue) == in_stream(fraud.broker) == 60
    assert fraud.broker.depth(FRAUD.parking_lot) == 0
    assert record(fraud).gaps == 0


def test_a_full_queue_receives_no_copies(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # Given a full queue
    publish(publisher_of(), *(created(n) for n in range(1, 31)))

    # When its messages are not consumed
    assert not any(process.step() for _ in range(5))

    # Then no event was copied
    assert record(fraud).requested_at is not None
    assert record(fraud).copied == 0
    becomes(lambda: fraud.broker.depth(FRAUD.queue), ROOM)


def test_events_dropped_during_catch_up_are_delivered(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # Given a catch-up that has started
    publisher = publisher_of()
    publish(publisher, *(created(n) for n in range(1, 31)))
    process.step()
    fraud.handle()
    assert process.step()
    assert record(fraud).position is not None

    # When more events arrive than the queue has room for
    publish(publisher, *(created(n) for n in range(31, 71)))

    # Then these are delivered as well
    catch_up(fraud, process)
    assert fraud.effects == dict.fromkeys(range(1, 71), 1)


def test_reading_starts_where_the_queue_was_last_empty(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a queue that was empty twice, far enough apart
    monkeypatch.setattr(overflow, "HELD", timedelta())
    publisher = publisher_of()
    publish(publisher, *(created(n) for n in range(1, 6)))
    fraud.handle()
    with fraud.worker():
        process.step()
    publish(publisher, *(created(n) for n in range(6, 9)))
    fraud.handle()
    with fraud.worker():
        process.step()
    settled = record(fraud).settled_offset
    assert settled == 5

    # When the queue drops events
    publish(publisher, *(created(n) for n in range(9, 31)))
    process.step()

    # Then catch-up starts at the second time
    assert record(fraud).start_offset == settled
    catch_up(fraud, process)
    assert fraud.effects == dict.fromkeys(range(1, 31), 1)


def test_events_missing_from_the_stream_are_counted_as_a_gap(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # Given a stream of tiny segments, the first of which are gone
    broker = fraud.broker
    arguments = {
        "x-queue-type": "stream",
        "x-max-length-bytes": 20_000,
        "x-stream-max-segment-size-bytes": 5_000,
    }
    broker.request("DELETE", f"/queues/{broker.name}/{STREAM}")
    broker.request(
        "PUT", f"/queues/{broker.name}/{STREAM}", json={"durable": True, "arguments": arguments}
    )
    broker.request(
        "POST",
        f"/bindings/{broker.name}/e/orders.topic/q/{STREAM}",
        json={"routing_key": "order.created"},
    )
    publisher = publisher_of()
    publish(publisher, created(1))
    fraud.handle()
    _settle_at(fraud, 1)
    for n in range(2, 202):
        publish(publisher, created(n))

    # When the process catches up
    catch_up(fraud, process)

    # Then the remaining events were handled, and one gap is recorded
    assert record(fraud).gaps == 1
    assert 1 < len(fraud.effects) < 201
    assert set(fraud.effects.values()) == {1}


def test_a_drop_is_recorded_after_an_unexpected_error(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a step that fails unexpectedly, after it has received the marker of a drop
    publish(publisher_of(), *(created(n) for n in range(1, 31)))
    loop = process.loop()
    with monkeypatch.context() as patched, pytest.raises(KeyError):
        patched.setattr(overflow, "changed", _fail)
        loop._step(monotonic() + 1)

    # When the loop repeats it, then the drop is recorded
    def assert_recorded() -> None:
        loop._step(monotonic())
        assert record(fraud).requested_at is not None

    eventually(assert_recorded)


def test_a_drop_is_recorded_while_another_process_creates_the_record(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drop, and a record that another process creates while this one does not find it
    publish(publisher_of(), *(created(n) for n in range(1, 31)))
    read, others = overflow._read, db.engine(fraud.settings)

    def read_before(session: Session, **options: bool) -> tuple[Overflow, datetime] | None:
        found = read(session, **options)
        if found is None:
            with others.begin() as connection:
                connection.execute(overflow.overflow.insert().values(id=1))
        return found

    # When the process finds the marker
    with monkeypatch.context() as patched:
        patched.setattr(overflow, "_read", read_before)
        process.step()
    others.dispose()

    # Then the drop is recorded
    assert record(fraud).requested_at is not None


def _fail(*_: object, **__: object) -> NoReturn:
    raise KeyError("a bug")


def test_a_recreated_stream_is_read_from_its_first_message(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # Given an offset from a longer stream
    _settle_at(fraud, 1_000_000)
    publish(publisher_of(), *(created(n) for n in range(1, 31)))

    # When the process catches up
    catch_up(fraud, process)

    # Then it has read all events
    assert fraud.effects == dict.fromkeys(range(1, 31), 1)


def _settle_at(fraud: Subscriber, offset: int) -> None:
    with overflow.changed(fraud.sessions) as changed:
        assert changed
        _, state, now = changed
        state.settled_offset = state.emptied_offset = offset
        state.emptied_at = now


def test_the_queue_is_observed_empty_in_all_its_parts(fraud: Subscriber, process: CatchUp) -> None:
    # Given a second part that has a message
    part = f"/queues/{fraud.broker.name}/{FRAUD.part_queue(1)}"
    arguments = {"x-queue-type": "quorum"}
    fraud.broker.request("PUT", part, json={"durable": True, "arguments": arguments})
    fraud.broker.publish(b"[]", exchange="", routing_key=FRAUD.part_queue(1), headers={})

    with fraud.worker():
        # When the first part is empty, then no observation is recorded
        process.step()
        assert record(fraud).emptied_at is None

        # When both parts are empty and have a worker, then it is
        with fraud.broker.connect() as connection:
            channel = connection.channel()
            channel.basic_consume(FRAUD.part_queue(1), callback=lambda _: None, no_ack=True)
            eventually(lambda: _require_empty(fraud))
            process.step()
            assert record(fraud).emptied_at is not None


def _require_empty(fraud: Subscriber) -> None:
    assert fraud.broker.depth(FRAUD.part_queue(1)) == 0

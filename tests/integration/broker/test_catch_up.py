"""Catch-up reads the events from the stream that a full queue has dropped."""

from datetime import timedelta

import pytest

from common.kombu_topology import FRAUD, INVENTORY, STREAM
from eventbus.catch_up import overflow
from eventbus.catch_up.catch_up import CatchUp
from testkit.data.catching_up import ROOM, catch_up, in_stream, record
from testkit.data.dropping import Subscriber, created, publish
from testkit.processes.publishers import PublisherOf


def test_dropped_events_come_back_and_have_one_effect_each(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # given a worker that is down
    publish(publisher_of(), *(created(n) for n in range(1, 61)))

    # when it is back
    catch_up(fraud, process)

    # then
    assert fraud.effects == dict.fromkeys(range(1, 61), 1)
    assert fraud.broker.depth(INVENTORY.queue) == in_stream(fraud.broker) == 60
    assert fraud.broker.depth(FRAUD.parking_lot) == 0
    assert record(fraud).gaps == 0


def test_nothing_is_copied_while_the_queue_is_full(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # given
    publish(publisher_of(), *(created(n) for n in range(1, 31)))

    # when nobody consumes
    assert not any(process.step() for _ in range(5))

    # then
    assert record(fraud).requested_at is not None
    assert record(fraud).copied == 0
    assert fraud.broker.depth(FRAUD.queue) == ROOM


def test_events_that_are_dropped_during_a_reading_come_back_too(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # given a reading that has begun
    publisher = publisher_of()
    publish(publisher, *(created(n) for n in range(1, 31)))
    process.step()
    fraud.handle()
    assert process.step()
    assert record(fraud).position is not None

    # when more events arrive than the queue has room for
    publish(publisher, *(created(n) for n in range(31, 71)))

    # then
    catch_up(fraud, process)
    assert fraud.effects == dict.fromkeys(range(1, 71), 1)


def test_reading_starts_where_the_queue_was_last_empty(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a queue that was empty twice, far enough apart
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

    # when
    publish(publisher, *(created(n) for n in range(9, 31)))
    process.step()

    # then
    assert record(fraud).start_offset == settled
    catch_up(fraud, process)
    assert fraud.effects == dict.fromkeys(range(1, 31), 1)


def test_what_left_the_stream_is_reported(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # given a stream of tiny segments, of which the first are gone
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

    # when
    catch_up(fraud, process)

    # then what is there was handled, and the rest is told
    assert record(fraud).gaps == 1
    assert 1 < len(fraud.effects) < 201
    assert set(fraud.effects.values()) == {1}


def test_a_stream_that_begins_anew_is_read_from_its_first_message(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # given an observation of a longer stream
    _settle_at(fraud, 1_000_000)
    publish(publisher_of(), *(created(n) for n in range(1, 31)))

    # when
    catch_up(fraud, process)

    # then
    assert fraud.effects == dict.fromkeys(range(1, 31), 1)


def _settle_at(fraud: Subscriber, offset: int) -> None:
    with overflow.changed(fraud.sessions) as found:
        assert found
        _, state, now = found
        state.settled_offset = state.emptied_offset = offset
        state.emptied_at = now

"""A full queue of a service that is not essential: nothing is held back, and nothing is lost."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION, STREAM
from eventbus.catch_up import overflow
from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.copies import Copies
from eventbus.catch_up.overflow import Overflow
from eventbus.database import db
from eventbus.database.db import transaction
from eventbus.messaging import stream
from eventbus.topology.service import Service
from testkit.data.dropping import Subscriber, created, limit, outgoing, publish
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf, publish_and_settle
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

LENGTH = 10


@pytest.fixture
def fraud(
    servers: Infrastructure,
    broker: Vhost,
    database_of: Callable[[str], TestDatabase],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Subscriber]:
    """The fraud check with room for ten events; its process does not wait for events to settle."""
    monkeypatch.setattr(overflow, "SETTLED", timedelta())
    database = database_of("fraud")
    engine = db.engine(database.service_settings)
    limit(broker, FRAUD, LENGTH)
    yield Subscriber.of(FRAUD, servers, broker, database, db.sessions(engine))
    engine.dispose()


@pytest.fixture
def process(fraud: Subscriber) -> Iterator[CatchUp]:
    """The process that catches up, for a test to run step by step."""
    made = fraud.catch_up()
    yield made
    made.close()


def in_stream(broker: Vhost) -> int:
    """How many messages the stream has ever had."""
    with broker.connect() as connection:
        return stream.end(connection, STREAM)


def record(fraud: Subscriber) -> Overflow:
    with transaction(fraud.sessions) as session:
        return overflow.read(session)[0]


def is_caught_up(fraud: Subscriber, process: CatchUp) -> None:
    """Let the worker and the process take turns until nothing is missing."""

    def done() -> None:
        fraud.handle()
        process.step()
        assert record(fraud).requested_at is None
        assert fraud.handle() == 0

    process.step()
    eventually(done)


@pytest.mark.parametrize("service", [FRAUD, NOTIFICATION], ids=lambda s: s.name)
def test_a_full_queue_of_a_subscriber_refuses_no_event(
    broker: Vhost, publisher_of: PublisherOf, service: Service
) -> None:
    # given
    limit(broker, service, LENGTH)

    # when
    publish(publisher_of(), *(created(n) for n in range(1, 41)))

    # then each event was published once, and the queue keeps the newest
    assert broker.depth(INVENTORY.queue) == in_stream(broker) == 40
    assert broker.depth(service.queue) == LENGTH
    # and the last drop is recorded, once
    marker = eventually(lambda: _one(broker, service.overflow))
    assert marker == created(40 - LENGTH).id.hex


def _one(broker: Vhost, queue: str) -> str:
    (message,) = broker.messages(queue)
    return str(message.properties["message_id"]).replace("-", "")


def test_a_full_queue_of_an_essential_service_refuses_events(
    broker: Vhost, publisher_of: PublisherOf
) -> None:
    # given
    limit(broker, INVENTORY, LENGTH)
    publisher = publisher_of()

    # then it is full sooner or later; what is on its way may pass the limit
    def refuses() -> None:
        events = (outgoing(created(n)) for n in range(1, LENGTH))
        assert publish_and_settle(publisher, events).refused

    eventually(refuses)


def test_dropped_events_come_back_and_have_one_effect_each(
    fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf
) -> None:
    # given a worker that is down
    publish(publisher_of(), *(created(n) for n in range(1, 61)))

    # when it is back
    is_caught_up(fraud, process)

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
    assert fraud.broker.depth(FRAUD.queue) == LENGTH


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
    is_caught_up(fraud, process)
    assert fraud.effects == dict.fromkeys(range(1, 71), 1)


def test_a_process_that_is_killed_midway_goes_on_where_it_was(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given some batches, the last of which is confirmed and not recorded
    publish(publisher_of(), *(created(n) for n in range(1, 41)))
    process.step()
    fraud.handle()
    assert process.step()
    before = record(fraud).position

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Overflow, "advance", die)
        process.step()
    process.close()
    assert record(fraud).position == before

    # when
    again = fraud.catch_up()
    is_caught_up(fraud, again)
    again.close()

    # then
    assert fraud.effects == dict.fromkeys(range(1, 41), 1)


def test_copies_that_were_not_confirmed_are_made_again(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a reading, of which the last copies are lost with their connection
    publish(publisher_of(), *(created(n) for n in range(1, 41)))
    process.step()
    fraud.handle()
    assert process.step()
    before = record(fraud).position

    def lose(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr(Copies, "put", lose)
        process.step()
    process.close()
    assert record(fraud).position == before

    # when
    is_caught_up(fraud, process)

    # then
    assert fraud.effects == dict.fromkeys(range(1, 41), 1)


def test_a_drop_is_recorded_before_its_marker_is_gone(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a process that dies before it has recorded the drop
    publish(publisher_of(), *(created(n) for n in range(1, 21)))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Overflow, "request", die)
        process.step()
    process.close()

    # when
    again = fraud.catch_up()
    eventually(lambda: again.step() or _requested(fraud))
    is_caught_up(fraud, again)
    again.close()

    # then
    assert fraud.effects == dict.fromkeys(range(1, 21), 1)


def _requested(fraud: Subscriber) -> None:
    assert record(fraud).requested_at is not None


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
    is_caught_up(fraud, process)
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
    is_caught_up(fraud, process)

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
    is_caught_up(fraud, process)

    # then
    assert fraud.effects == dict.fromkeys(range(1, 31), 1)


def _settle_at(fraud: Subscriber, offset: int) -> None:
    with overflow.changed(fraud.sessions) as found:
        assert found
        _, state, now = found
        state.settled_offset = state.emptied_offset = offset
        state.emptied_at = now


def test_a_dropped_message_of_a_retry_tier_is_parked(
    fraud: Subscriber, publisher_of: PublisherOf
) -> None:
    # given a message that came back from a tier
    broker = fraud.broker
    broker.publish(b"[]", exchange=FRAUD.retry_exchange, routing_key="1s", headers={"id": "e-1"})
    eventually(lambda: _assert_depth(broker, FRAUD.queue, 1))

    # when
    publish(publisher_of(), *(created(n) for n in range(1, LENGTH + 1)))

    # then
    eventually(lambda: _assert_depth(broker, FRAUD.parking_lot, 1))
    assert broker.depth(FRAUD.overflow) == 0


def test_a_rejected_message_is_parked(fraud: Subscriber, publisher_of: PublisherOf) -> None:
    # given
    publish(publisher_of(), created(1))

    # when
    with fraud.broker.connect() as connection:
        channel = connection.channel()
        message = channel.basic_get(FRAUD.queue)
        channel.basic_reject(message.delivery_tag, requeue=False)

    # then
    eventually(lambda: _assert_depth(fraud.broker, FRAUD.parking_lot, 1))
    assert fraud.broker.depth(FRAUD.overflow) == 0


def _assert_depth(broker: Vhost, queue: str, depth: int) -> None:
    assert broker.depth(queue) == depth

"""The simulated publisher behaves as the real one does with a real broker."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol
from urllib.parse import quote
from uuid import uuid4

import pytest

from common.kombu_topology import NOTIFICATION
from eventbus.messaging.in_flight import Outgoing, Report
from eventbus.messaging.publisher import Publisher
from testkit.events.messages import ids, take
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf, publishers
from testkit.servers.bindings import full_queue, unbind_everywhere
from testkit.servers.connections import one_connection
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost
from testkit.simulation.rig import SimulatedRig

CREATED, CONFIRMED, CANCELLED = "order.created", "order.confirmed", "order.cancelled"

#: A type that the user of the publisher may not publish.
FOREIGN = "stock.reserved"


class Rig(Protocol):
    """A publisher with a broker, in which a test causes faults."""

    publisher: Publisher

    def run(self, body: Callable[[], None]) -> None: ...
    def unbind(self, event_type: str) -> None: ...
    def fill(self, event_type: str) -> None: ...
    def object_to(self, event_type: str) -> None: ...
    def cut(self) -> None: ...
    def arrived(self) -> list[str]: ...


class RealRig:
    """The real publisher with a real broker."""

    def __init__(self, broker: Vhost, make: PublisherOf) -> None:
        self._broker = broker
        self.publisher = make()

    def run(self, body: Callable[[], None]) -> None:
        body()

    def unbind(self, event_type: str) -> None:
        unbind_everywhere(self._broker, event_type)

    def fill(self, event_type: str) -> None:
        full_queue(self._broker, event_type)

    def object_to(self, event_type: str) -> None:
        assert event_type == FOREIGN

    def cut(self) -> None:
        (name,) = eventually(lambda: one_connection(self._broker))
        self._broker.request("DELETE", f"/connections/{quote(name, safe='')}")

    def arrived(self) -> list[str]:
        return [str(event_id) for event_id in ids(take(self._broker, NOTIFICATION.queue))]


@pytest.fixture(params=["simulated", "real"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The same tests with the simulated and with the real publisher."""
    if request.param == "simulated":
        yield SimulatedRig(seed=1)
        return
    servers: Infrastructure = request.getfixturevalue("servers")
    broker: Vhost = request.getfixturevalue("broker")
    with publishers(servers, broker) as make:
        yield RealRig(broker, make)


def outgoing(event_type: str) -> Outgoing:
    return Outgoing(uuid4(), event_type, "{}", uuid4())


def publish(rig: Rig, *events: Outgoing, aside: bool = False) -> Report:
    report = rig.publisher.settle(rig.publisher.send(events, aside=aside))
    assert report
    return report


def test_confirmed_events_are_in_their_queue_in_order(rig: Rig) -> None:
    events = [outgoing(CREATED) for _ in range(20)]

    def body() -> None:
        report = publish(rig, *events)
        assert report.confirmed == {event.event_id for event in events}
        assert (report.error, report.refused, report.returned) == (None, set(), {})

    rig.run(body)
    assert rig.arrived() == [str(event.event_id) for event in events]


def test_an_event_without_a_queue_is_returned_with_the_reason(rig: Rig) -> None:
    rig.unbind(CONFIRMED)
    unroutable, other = outgoing(CONFIRMED), outgoing(CREATED)

    def body() -> None:
        report = publish(rig, unroutable, other)
        assert report.confirmed == {other.event_id}
        reason = "orders.topic has no queue for order.confirmed"
        assert report.returned == {unroutable.event_id: reason}

    rig.run(body)


def test_an_event_that_a_full_queue_rejects_is_refused(rig: Rig) -> None:
    rig.fill(CANCELLED)
    refused, other = outgoing(CANCELLED), outgoing(CREATED)

    def body() -> None:
        report = publish(rig, refused, other)
        assert (report.confirmed, report.refused) == ({other.event_id}, {refused.event_id})
        assert report.error is None

    rig.run(body)
    # And the other queue of its type has stored it
    assert set(rig.arrived()) == {str(refused.event_id), str(other.event_id)}


def test_an_objection_ends_the_batch_but_not_the_publisher(rig: Rig) -> None:
    rig.object_to(FOREIGN)

    def body() -> None:
        report = publish(rig, outgoing(FOREIGN))
        assert (report.confirmed, report.objected) == (set(), True)
        assert "ACCESS_REFUSED" in (report.error or "")
        later = outgoing(CREATED)
        assert publish(rig, later).confirmed == {later.event_id}

    rig.run(body)


def test_an_objection_aside_does_not_end_other_batches(rig: Rig) -> None:
    rig.object_to(FOREIGN)
    event = outgoing(CREATED)

    def body() -> None:
        in_flight = rig.publisher.send([event])
        assert publish(rig, outgoing(FOREIGN), aside=True).objected
        report = rig.publisher.settle(in_flight)
        assert report
        assert (report.confirmed, report.error) == ({event.event_id}, None)

    rig.run(body)


def test_a_lost_connection_is_an_error_without_an_objection(rig: Rig) -> None:
    def body() -> None:
        first = outgoing(CREATED)
        assert publish(rig, first).confirmed == {first.event_id}
        in_flight = rig.publisher.send([outgoing(CREATED)])
        rig.cut()
        report = rig.publisher.settle(in_flight)
        assert report
        # The confirm may have arrived before the end of the connection.
        assert report.confirmed or (report.error and not report.objected)
        later = outgoing(CREATED)
        again = publish(rig, later)
        assert again.confirmed or publish(rig, later).confirmed

    rig.run(body)


def test_an_unconfirmed_batch_has_no_report_at_its_deadline(rig: Rig) -> None:
    event = outgoing(CREATED)

    def body() -> None:
        in_flight = rig.publisher.send([event])
        assert rig.publisher.settle(in_flight, until=-1.0) is None
        report = rig.publisher.settle(in_flight)
        assert report
        assert report.confirmed == {event.event_id}

    rig.run(body)


def test_an_event_in_two_versions_is_confirmed_if_one_has_a_queue(rig: Rig) -> None:
    event = outgoing(CREATED)
    rig.unbind(CONFIRMED)
    other = Outgoing(event.event_id, CONFIRMED, "{}", event.subject)

    def body() -> None:
        report = publish(rig, event, other)
        assert report.confirmed == {event.event_id}
        assert (report.returned, report.unconsumed) == ({}, {CONFIRMED})

    rig.run(body)


def test_a_publisher_that_is_not_blocked_is_ready(rig: Rig) -> None:
    def body() -> None:
        publish(rig, outgoing(CREATED))
        rig.publisher.heartbeat()
        assert rig.publisher.ready(monotonic())

    rig.run(body)

"""A relay claims and sends the next batch before the broker has confirmed a full one."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from types import SimpleNamespace
from uuid import uuid4

import pytest

from common.kombu_topology import INVENTORY
from eventbus.database.db import Sessions
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.messaging.publisher import Publisher
from eventbus.outbox import relay
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import CREATED, DATA, event, record, row_of, sent
from testkit.events.messages import ids, take
from testkit.eventually import PATIENCE
from testkit.processes.publishers import PublisherOf, publish_and_settle
from testkit.processes.relays import drain_until
from testkit.servers.bindings import full_queue
from testkit.servers.vhosts import Vhost

#: Events of a full batch.
FULL = 5


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BATCH", FULL)


class Observed:
    """A publisher that records its calls: the size of each sent batch, or `settle`."""

    def __init__(self, real: Publisher, before_settling: Callable[[], object] = bool) -> None:
        self._real = real
        self._before_settling = before_settling
        self.calls: list[int | str] = []

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        events = list(batch)
        self.calls.append(len(events))
        return self._real.send(events, aside=aside)

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        self._before_settling()
        self.calls.append("settle")
        return self._real.settle(in_flight, until)

    def ready(self, until: float) -> bool:
        return self._real.ready(until)

    def heartbeat(self) -> None:
        self._real.heartbeat()


class Idle(Exception):
    """A drain has sent and settled every event."""


def drain_all(relaying: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drain until no event is left: a deadline could cut batches short on a busy machine."""

    def end(*_: object) -> None:
        raise Idle

    monkeypatch.setattr(Relay, "_idle", end)
    with pytest.raises(Idle):
        relaying.drain(time.monotonic() + PATIENCE)


def test_the_next_batch_is_sent_before_a_full_one_is_confirmed(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given more than two full batches
    recorded = record(order_database, *(event(CREATED) for _ in range(2 * FULL + 2)))
    observed = Observed(publisher_of())

    # When they are drained
    drain_all(Relay(order_database, observed), monkeypatch)

    # Then each event is sent once and marked
    assert observed.calls[:6] == [FULL, FULL, "settle", 2, "settle", "settle"]
    assert sent(order_database) == recorded
    assert Counter(ids(take(broker, INVENTORY.queue))) == dict.fromkeys(recorded, 1)


def test_an_orders_next_event_waits_until_the_previous_is_confirmed(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given two events of each order, in different batches
    orders = [uuid4() for _ in range(FULL)]
    firsts = record(order_database, *(event(CREATED, subject=order) for order in orders))
    seconds = record(
        order_database, *(event(DATA["order.cancelled"], subject=order) for order in orders)
    )
    unconfirmed: list[int] = []
    observed = Observed(publisher_of(), lambda: unconfirmed.append(len(sent(order_database))))

    # When they are drained
    drain_all(Relay(order_database, observed), monkeypatch)

    # Then the second batch starts after the first one is confirmed and marked
    assert observed.calls == [FULL, "settle", FULL, "settle"]
    assert unconfirmed == [0, FULL]
    assert ids(take(broker, INVENTORY.queue)) == [*firsts, *seconds]


def test_events_in_flight_with_a_rejected_one_are_sent_again(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # Given full batches, and in the second an event that its service may not publish
    before = record(order_database, *(event(CREATED) for _ in range(FULL + 2)))
    (foreign,) = record(order_database, event(DATA["stock.reserved"]))
    behind = record(order_database, *(event(CREATED) for _ in range(2 * FULL)))
    relaying = Relay(order_database, publisher_of())

    def others_sent() -> None:
        assert set(sent(order_database)) == {*before, *behind}

    # When the relay drains until all others are sent
    drain_until(relaying, others_sent)

    # Then each of the others has arrived
    assert "ACCESS_REFUSED" in row_of(order_database, foreign).unroutable_reason
    assert set(ids(take(broker, INVENTORY.queue))) == {*before, *behind}


def test_batches_in_flight_are_settled_when_the_drain_ends(
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a drain whose time is over when the second batch is sent
    recorded = record(order_database, *(event(CREATED) for _ in range(3 * FULL)))
    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[-1], sleep=time.sleep)
    monkeypatch.setattr(relay, "time", clock)
    observed = Observed(publisher_of(), lambda: passed.append(2 * PATIENCE))

    # When it ends
    Relay(order_database, observed).drain(time.monotonic() + PATIENCE)

    # Then no further batch was started, and both batches are marked
    assert observed.calls == [FULL, FULL, "settle", "settle"]
    assert sent(order_database) == recorded[: 2 * FULL]


def test_batches_on_one_channel_end_with_it(publisher_of: PublisherOf) -> None:
    # Given two batches in flight, the second of which the broker rejects
    publisher = publisher_of()
    first, second = (
        publisher.send([Outgoing(uuid4(), event_type, "{}", uuid4())])
        for event_type in ("order.created", "stock.reserved")
    )

    # When they are settled
    reports = [report for batch in (second, first) if (report := publisher.settle(batch))]

    # Then both end, unless the first one was confirmed before
    assert [report.objected or bool(report.confirmed) for report in reports] == [True, True]
    assert "ACCESS_REFUSED" in (reports[0].error or "")

    # And the next one is sent on a new channel
    placed = Outgoing(uuid4(), "order.created", "{}", uuid4())
    assert publish_and_settle(publisher, [placed]).confirmed


def test_a_batch_in_flight_is_settled_before_its_channel_is_replaced(
    broker: Vhost, publisher_of: PublisherOf
) -> None:
    # Given two batches in flight on one channel, the first of which is refused
    full_queue(broker, "order.cancelled")
    publisher = publisher_of()
    refused, waiting = (
        publisher.send([Outgoing(uuid4(), event_type, "{}", uuid4())])
        for event_type in ("order.cancelled", "order.created")
    )
    report = publisher.settle(refused)
    assert report
    assert report.refused

    # When the next one is sent, on a new channel
    later = publisher.send([Outgoing(uuid4(), "order.created", "{}", uuid4())])

    # Then the broker has both
    for in_flight in (waiting, later):
        report = publisher.settle(in_flight)
        assert report
        assert (len(report.confirmed), report.error) == (1, None)

"""While the broker works on a full batch, a relay claims and sends the next one."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from uuid import uuid4

import pytest

from common.kombu_topology import INVENTORY
from eventbus.database.db import Sessions
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.messaging.publisher import Publisher
from eventbus.outbox import relay
from eventbus.outbox.relay import Relay
from testkit.data.messages import ids, take
from testkit.data.outboxes import CREATED, DATA, event, record, row_of, sent
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf, publish_and_settle
from testkit.servers.bindings import full_queue
from testkit.servers.vhosts import Vhost

#: Events of a full batch.
FULL = 5


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BATCH", FULL)


class Observed:
    """A publisher of which one sees what it is asked for: how many were sent, or `settle`."""

    def __init__(self, real: Publisher, before_settling: Callable[[], object] = bool) -> None:
        self._real = real
        self._before_settling = before_settling
        self.asked: list[int | str] = []

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        events = list(batch)
        self.asked.append(len(events))
        return self._real.send(events, aside=aside)

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        self._before_settling()
        self.asked.append("settle")
        return self._real.settle(in_flight, until)

    def ready(self, until: float) -> bool:
        return self._real.ready(until)

    def heartbeat(self) -> None:
        self._real.heartbeat()


def drain(relaying: Relay) -> None:
    relaying.drain(time.monotonic() + 0.5)


def test_the_next_batch_is_sent_before_a_full_one_is_confirmed(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # given
    recorded = record(order_database, *(event(CREATED) for _ in range(2 * FULL + 2)))
    observed = Observed(publisher_of())

    # when
    drain(Relay(order_database, observed))

    # then each is sent once, and marked
    assert observed.asked[:6] == [FULL, FULL, "settle", 2, "settle", "settle"]
    assert sent(order_database) == recorded
    assert Counter(ids(take(broker, INVENTORY.queue))) == dict.fromkeys(recorded, 1)


def test_an_orders_next_event_is_not_sent_while_the_one_before_is_on_its_way(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # given each order's two events behind each other, in batches of their own
    orders = [uuid4() for _ in range(FULL)]
    firsts = record(order_database, *(event(CREATED, subject=order) for order in orders))
    seconds = record(
        order_database, *(event(DATA["order.cancelled"], subject=order) for order in orders)
    )
    unconfirmed: list[int] = []
    observed = Observed(publisher_of(), lambda: unconfirmed.append(len(sent(order_database))))

    # when
    drain(Relay(order_database, observed))

    # then nothing was left for the second batch until the first one was confirmed and marked
    assert observed.asked == [FULL, "settle", FULL, "settle"]
    assert unconfirmed == [0, FULL]
    assert ids(take(broker, INVENTORY.queue)) == [*firsts, *seconds]


def test_what_was_ahead_of_an_event_that_the_broker_objects_to_is_sent_again(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # given full batches, and in the second one an event that its service may not publish
    before = record(order_database, *(event(CREATED) for _ in range(FULL + 2)))
    (foreign,) = record(order_database, event(DATA["stock.reserved"]))
    behind = record(order_database, *(event(CREATED) for _ in range(2 * FULL)))
    relaying = Relay(order_database, publisher_of())

    def others_sent() -> None:
        drain(relaying)
        assert set(sent(order_database)) == {*before, *behind}

    # when
    eventually(others_sent)

    # then
    assert "ACCESS_REFUSED" in row_of(order_database, foreign).unroutable_reason
    assert set(ids(take(broker, INVENTORY.queue))) == {*before, *behind}


def test_what_is_ahead_when_the_tick_ends_is_settled(
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # given a tick that ends while the second batch is sent
    recorded = record(order_database, *(event(CREATED) for _ in range(3 * FULL)))
    observed = Observed(publisher_of(), lambda: time.sleep(0.5))

    # when
    drain(Relay(order_database, observed))

    # then nothing more was begun, and what was is marked
    assert observed.asked == [FULL, FULL, "settle", "settle"]
    assert sent(order_database) == recorded[: 2 * FULL]


def test_batches_on_one_channel_share_its_end(publisher_of: PublisherOf) -> None:
    # given two on their way, and the broker objects to the second one
    publisher = publisher_of()
    first, second = (
        publisher.send([Outgoing(uuid4(), event_type, "{}", uuid4())])
        for event_type in ("order.created", "stock.reserved")
    )

    # when
    reports = [report for each in (second, first) if (report := publisher.settle(each))]

    # then both end, unless the first one was confirmed before
    assert [report.objected or bool(report.confirmed) for report in reports] == [True, True]
    assert "ACCESS_REFUSED" in (reports[0].error or "")

    # and the next one is on a channel of its own
    placed = Outgoing(uuid4(), "order.created", "{}", uuid4())
    assert publish_and_settle(publisher, [placed]).confirmed


def test_a_batch_on_its_way_is_settled_before_its_channel_is_replaced(
    broker: Vhost, publisher_of: PublisherOf
) -> None:
    # given two on their way on a channel, of which the broker refuses the first
    full_queue(broker, "order.cancelled")
    publisher = publisher_of()
    refused, waiting = (
        publisher.send([Outgoing(uuid4(), event_type, "{}", uuid4())])
        for event_type in ("order.cancelled", "order.created")
    )
    report = publisher.settle(refused)
    assert report
    assert report.refused

    # when the next one is sent, on a channel of its own
    later = publisher.send([Outgoing(uuid4(), "order.created", "{}", uuid4())])

    # then the broker has both
    for in_flight in (waiting, later):
        report = publisher.settle(in_flight)
        assert report
        assert (len(report.confirmed), report.error) == (1, None)

"""An event that cannot be published blocks neither the relay nor events of other orders."""

import logging
import time
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY
from eventbus.database.db import Sessions, transaction
from eventbus.events.codec import encode
from eventbus.messaging import event_message
from eventbus.outbox import batches, claims, lanes
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import CREATED, DATA, drain_all, event, record, row_of, sent
from testkit.events.messages import ids, take
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import drain_until, relay_once
from testkit.servers.connections import connections, one_connection
from testkit.servers.vhosts import Vhost

V1, V2 = "order.created", "order.created.v2"


def record_row(sessions: Sessions, event_type: str, envelope: str) -> UUID:
    """Insert an outbox row that the project's own code would not write."""
    row = {"event_id": uuid4(), "type": event_type, "subject": uuid4(), "event": envelope}
    with transaction(sessions) as session:
        session.execute(
            text(
                "INSERT INTO outbox (event_id, type, subject, event)"
                " VALUES (:event_id, :type, :subject, :event)"
            ),
            row,
        )
    return row["event_id"]


#: Stands for a valid envelope.
GOOD = object()


@pytest.mark.parametrize(
    ("event_type", "envelope", "reason"),
    [
        (V1, "", "DecodeError"),
        (V1, "[]", "AttributeError"),
        (V1, "{}", "unknown event type"),
        (V1, '{"type": "order.created"}', "specversion"),
        (V1, '{"a":' * 100_000, "RecursionError"),
        (V2, '{"type": "order.confirmed", "specversion": "1.0"}', "InvalidEvent"),
        ("x" * 300, GOOD, "error"),
        ("(repair)", GOOD, "not an event type"),
        ("(earlier event)", GOOD, "not an event type"),
    ],
    ids=["empty", "list", "object", "version", "deep", "foreign", "long", "lane", "other lane"],
)
def test_an_invalid_row_is_isolated_with_its_reason(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    caplog: pytest.LogCaptureFixture,
    event_type: str,
    envelope: Any,
    reason: str,
) -> None:
    # Given such a row between two events
    before = record(order_database, event(CREATED))
    stored = encode(event(CREATED)).decode() if envelope is GOOD else envelope
    bad = record_row(order_database, event_type, stored)
    behind = record(order_database, event(CREATED))
    relay = Relay(order_database, publisher_of(), sent_as=(V1, V2))

    # When it has been tried at least twice
    def tried_twice() -> None:
        relay.drain(time.monotonic() + 0.5)
        assert row_of(order_database, bad).attempts >= 2

    eventually(tried_twice)

    # Then the others are sent, and the row waits for repair with one log line
    assert set(sent(order_database)) == {*before, *behind}
    row = row_of(order_database, bad)
    assert (row.sent_at, row.waits_for) == (None, lanes.REPAIR)
    assert reason.lower() in row.unroutable_reason.lower()
    logged = [r for r in caplog.records if r.message == "event isolated"]
    assert [vars(r)["event_id"] for r in logged] == [str(bad)]


@pytest.mark.parametrize("module", [claims, batches, event_message], ids=lambda m: m.__name__)
def test_an_event_that_is_too_large_is_isolated(
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
) -> None:
    # Given a limit that applies to claims, or to the encoded message
    for limited in (claims, batches, event_message):
        if limited is module or module is claims:
            monkeypatch.setattr(limited, "LARGEST_EVENT", 10_000)
    large = record_row(order_database, V1, '{"a": "' + 20_000 * "x" + '"}')
    others = record(order_database, event(CREATED))

    # When the relay drains
    def isolated() -> None:
        assert set(others) <= set(sent(order_database))
        if module is not batches:
            assert "larger than" in (row_of(order_database, large).unroutable_reason or "")

    # Then the other event is sent
    drain_until(Relay(order_database, publisher_of()), isolated)


def test_an_isolated_event_is_sent_when_it_can_be_decoded(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given an event that this release cannot decode
    bad = record_row(order_database, V1, "{}")
    relay = Relay(order_database, publisher_of(), sent_as=(V1, V2))

    def isolated() -> None:
        assert row_of(order_database, bad).waits_for == lanes.REPAIR

    drain_until(relay, isolated)

    # When the next release can
    drain_all(Relay(order_database, publisher_of()), order_database)

    # Then the event is sent
    assert ids(take(broker, INVENTORY.queue)) == [bad]
    assert row_of(order_database, bad).unroutable_reason is None


def test_a_rejected_event_costs_a_channel_and_few_copies(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a connected relay, and events of another service among many
    relay = Relay(order_database, publisher_of())
    first = record(order_database, event(CREATED))
    relay_once(relay)
    connection = eventually(lambda: one_connection(broker))
    recorded = []
    foreign = []
    for _ in range(5):
        recorded += record(order_database, *(event(CREATED) for _ in range(100)))
        foreign += record(order_database, event(DATA["stock.reserved"]))
    recorded += record(order_database, *(event(CREATED) for _ in range(100)))

    def others_sent() -> None:
        relay.drain(time.monotonic() + 0.5)
        assert set(sent(order_database)) == {*first, *recorded}

    # When the relay drains
    eventually(others_sent)
    relay.drain(time.monotonic() + 2)

    # Then the connection is the same
    assert connections(broker) == connection
    # And no event was sent more than a few times, and all of them little more than twice
    arrived = Counter(ids(take(broker, INVENTORY.queue)))
    assert arrived.keys() == {*first, *recorded}
    assert arrived.total() <= 2 * 601 + 20
    # And each attempted event of the other service has its reason
    foreign_rows = [row_of(order_database, event_id) for event_id in foreign]
    assert all(row.sent_at is None for row in foreign_rows)
    reasons = [row.unroutable_reason for row in foreign_rows if row.attempts]
    assert reasons
    assert all("ACCESS_REFUSED" in reason for reason in reasons)


def test_events_are_sent_once_their_type_is_permitted_again(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a type that the service may not publish
    monkeypatch.setattr(lanes, "LONGEST_DELAY", 2.0)
    path = f"/topic-permissions/{broker.name}/order"
    (rights,) = broker.request("GET", path).json()
    narrow = {"exchange": rights["exchange"], "write": r"^order\.created$", "read": rights["read"]}
    broker.request("PUT", path, json=narrow)
    relay = Relay(order_database, publisher_of())
    order = uuid4()
    record(order_database, event(CREATED, order, 1), event(DATA["order.cancelled"], order, 2))
    record(order_database, *(event(DATA["order.cancelled"]) for _ in range(30)))

    def one_sent() -> None:
        assert len(sent(order_database)) == 1

    drain_until(relay, one_sent)
    relay.drain(time.monotonic() + 0.5)
    one_sent()

    # When the permission is restored
    broker.request("PUT", path, json=narrow | {"write": rights["write"]})

    # Then all events are sent
    drain_all(relay, order_database)


def test_an_invalid_event_is_logged_without_its_content(
    publisher_of: PublisherOf, order_database: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a row with a customer's name in an invalid place
    caplog.set_level(logging.DEBUG)
    record_row(order_database, V1, '{"type": "order.created", "specversion": "1.0", "id": "Ada L"}')

    # When the relay drains
    Relay(order_database, publisher_of(), sent_as=(V1, V2)).drain(time.monotonic() + 0.5)

    # Then no log record contains the name
    assert all("Ada L" not in str(vars(record)) for record in caplog.records)

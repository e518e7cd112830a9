"""One event in several versions: each is published, and each consumer has one effect."""

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from common.events import OrderCreated, OrderCreatedV2
from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION, STREAM
from eventbus.consumer.inbox import inbox
from eventbus.consumer.receive import Handlers, Outcome
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Transient
from eventbus.events import codec
from eventbus.events.conversion import convert
from eventbus.events.envelope import Event
from eventbus.outbox.relay import Relay
from eventbus.outbox.table import append, outbox
from testkit.data.outboxes import CREATED, drain_all, event, record, row_of, sent
from testkit.events.deliveries import deliver
from testkit.events.messages import take
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import relay_once
from testkit.servers.bindings import full_queue, unbind
from testkit.servers.vhosts import Vhost

V1, V2 = OrderCreated.TYPE, OrderCreatedV2.TYPE


def arrived(broker: Vhost, queue: str) -> list[tuple[str, UUID]]:
    """Remove all messages; return their types and event ids, which must match their headers."""
    messages = []
    for message in take(broker, queue):
        envelope = json.loads(message.body)[1]["event"]
        assert envelope["type"] == message.headers["task"] == message.properties["type"]
        assert envelope["id"] == message.headers["id"] == message.properties["message_id"]
        codec.decode(envelope)
        messages.append((envelope["type"], UUID(envelope["id"])))
    return messages


@pytest.mark.parametrize("written", [V1, V2])
@pytest.mark.parametrize("sent_as", [(V1,), (V1, V2), (V2,)])
def test_an_event_is_published_in_the_configured_versions(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    written: str,
    sent_as: tuple[str, ...],
) -> None:
    # Given an event that was written in one version
    created = convert(event(CREATED), written)
    record(order_database, created)

    # When it is published
    assert relay_once(Relay(order_database, publisher_of(), sent_as=sent_as)) == 1

    # Then each configured version is one message of the same event
    expected = [(version, created.id) for version in sent_as]
    assert arrived(broker, INVENTORY.queue) == arrived(broker, NOTIFICATION.queue) == expected
    assert sent(order_database) == [created.id]


def test_a_relay_without_versions_publishes_each_row_unchanged(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    ids = record(order_database, event(CREATED), convert(event(CREATED), V2))

    relay_once(Relay(order_database, publisher_of()))

    assert arrived(broker, INVENTORY.queue) == [(V1, ids[0]), (V2, ids[1])]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("full", [V1, V2])
def test_an_event_stays_unsent_while_a_version_is_refused(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    full: str,
) -> None:
    # Given a full queue for one version
    full_queue(broker, full)
    (event_id,) = record(order_database, event(CREATED))
    relaying = Relay(order_database, publisher_of(), sent_as=(V1, V2))

    # When both versions are published
    assert relay_once(relaying) == 0

    # Then the event is unsent and is tried again
    row = row_of(order_database, event_id)
    assert (row.sent_at, row.unroutable_reason) == (None, None)
    assert row.next_attempt_at > row.created_at

    # When the queue has room
    take(broker, "full")
    drain_all(relaying, order_database)

    # Then both versions arrive; the inboxes drop the second copy of one
    assert {version for version, _ in arrived(broker, INVENTORY.queue)} == {V1, V2}
    assert arrived(broker, "full") == [(full, event_id)]


@pytest.mark.parametrize(("unbound", "bound"), [(V1, V2), (V2, V1)])
def test_a_version_without_consumers_is_logged_and_blocks_nothing(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    caplog: pytest.LogCaptureFixture,
    unbound: str,
    bound: str,
) -> None:
    # Given a version without a binding
    for queue in (INVENTORY.queue, NOTIFICATION.queue, FRAUD.queue, STREAM):
        unbind(broker, queue, unbound)
    ids = record(order_database, event(CREATED), event(CREATED))
    relaying = Relay(order_database, publisher_of(), sent_as=(V1, V2))

    # When three events are published
    assert relay_once(relaying) == 2
    record(order_database, event(CREATED))
    assert relay_once(relaying) == 1

    # Then all are sent, and one warning is logged
    assert set(ids) < set(sent(order_database))
    assert arrived(broker, INVENTORY.queue)[:2] == [(bound, each) for each in ids]
    warnings = [record for record in caplog.records if "have no consumer" in record.message]
    assert [vars(record)["types"] for record in warnings] == [unbound]


def test_an_event_without_any_consumed_version_stays_unsent(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # Given no binding for either version
    for queue in (INVENTORY.queue, NOTIFICATION.queue, FRAUD.queue, STREAM):
        for version in (V1, V2):
            unbind(broker, queue, version)
    (event_id,) = record(order_database, event(CREATED))

    # When the event is published
    assert relay_once(Relay(order_database, publisher_of(), sent_as=(V1, V2))) == 0

    # Then it is unroutable
    row = row_of(order_database, event_id)
    assert row.sent_at is None
    assert "orders.topic has no queue for order.created" in row.unroutable_reason


@pytest.fixture
def seen() -> list[Event]:
    """The events that the handler received."""
    return []


@pytest.fixture
def handlers(seen: list[Event]) -> Handlers:
    """A handler with an effect, which accepts the newest version."""

    def on_order_created(session: Any, received: Event) -> None:
        seen.append(received)
        append(session, event(CREATED, received.subject))

    return {OrderCreatedV2: on_order_created}


def handle(sessions: Sessions, handlers: Handlers, received: Event) -> Outcome:
    (outcome,) = deliver(sessions, handlers, received)
    return outcome


def effects(sessions: Sessions) -> int:
    with transaction(sessions) as session:
        return session.scalar(select(func.count()).select_from(outbox)) or 0


def recorded(sessions: Sessions) -> list[tuple[UUID, str]]:
    with transaction(sessions) as session:
        rows = session.execute(select(inbox.c.event_id, inbox.c.type)).all()
    return [(row.event_id, row.type) for row in rows]


@pytest.mark.parametrize("order", [(V1, V2), (V2, V1)])
def test_two_versions_of_an_event_have_one_effect_in_any_order(
    order_database: Sessions, handlers: Handlers, seen: list[Event], order: tuple[str, str]
) -> None:
    # Given an event
    created = event(CREATED)

    # When it is handled in both versions
    outcomes = [handle(order_database, handlers, convert(created, each)) for each in order]

    # Then the second is a duplicate
    assert outcomes == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert seen == [convert(created, V2)]
    assert effects(order_database) == 1
    # And the inbox has the version that was handled
    assert recorded(order_database) == [(created.id, order[0])]


@pytest.mark.parametrize("order", [(V1, V2), (V2, V1)])
def test_two_versions_in_one_batch_have_one_effect(
    order_database: Sessions, handlers: Handlers, seen: list[Event], order: tuple[str, str]
) -> None:
    # Given an event in both versions, and another in one
    created, other = event(CREATED), event(CREATED)
    batch = [*(convert(created, each) for each in order), convert(other, order[1])]

    # When all are handled in one batch
    outcomes = deliver(order_database, handlers, *batch)

    # Then one of the two versions is a duplicate
    assert outcomes == [Outcome.HANDLED, Outcome.DUPLICATE, Outcome.HANDLED]
    assert seen == [convert(created, V2), convert(other, V2)]
    assert set(recorded(order_database)) == {(created.id, order[0]), (other.id, order[1])}


def test_a_failed_version_is_a_duplicate_after_the_other_is_handled(
    order_database: Sessions, handlers: Handlers
) -> None:
    # Given a first version that fails, and will be retried or redriven
    created = event(CREATED)

    def fail(*_: Any) -> None:
        raise Transient("not now")

    with pytest.raises(Transient):
        handle(order_database, {OrderCreatedV2: fail}, created)

    # When both versions are handled
    outcomes = [handle(order_database, handlers, each) for each in (convert(created, V2), created)]

    # Then the failed one is a duplicate
    assert outcomes == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert effects(order_database) == 1


def test_an_old_consumer_handles_the_first_version(order_database: Sessions) -> None:
    # Given a handler that was written before the second version
    seen: list[Event] = []
    old: Handlers = {OrderCreated: lambda _, received: seen.append(received)}
    created = event(CREATED)

    # When the first version is handled
    handle(order_database, old, created)

    # Then the handler receives it unchanged
    assert seen == [created]

"""One event in several versions: each goes out, and each consumer has one effect."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from common.events import OrderCreated, OrderCreatedV2
from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION, STREAM
from eventbus.consumer.inbox import inbox
from eventbus.consumer.receive import Delivery, Handlers, Item, Outcome, receive, receive_batch
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Transient
from eventbus.events import codec
from eventbus.events.conversion import convert
from eventbus.events.envelope import Event
from eventbus.outbox.relay import Relay
from eventbus.outbox.table import append, outbox
from testkit.data.messages import take
from testkit.data.outboxes import CREATED, drain_all, event, record, row_of, sent
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import relay_once
from testkit.servers.bindings import full_queue, unbind
from testkit.servers.vhosts import Vhost

V1, V2 = OrderCreated.TYPE, OrderCreatedV2.TYPE


def arrived(broker: Vhost, queue: str) -> list[tuple[str, UUID]]:
    """Take all messages: the type of each and its event's id, which its headers tell, too."""
    found = []
    for message in take(broker, queue):
        envelope = json.loads(message.body)[1]["event"]
        assert envelope["type"] == message.headers["task"] == message.properties["type"]
        assert envelope["id"] == message.headers["id"] == message.properties["message_id"]
        codec.decode(envelope)
        found.append((envelope["type"], UUID(envelope["id"])))
    return found


# --- The relay ----------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [V1, V2])
@pytest.mark.parametrize("sent_as", [(V1,), (V1, V2), (V2,)])
def test_an_event_goes_out_in_the_versions_that_are_set_whichever_its_row_has(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    written: str,
    sent_as: tuple[str, ...],
) -> None:
    # given
    created = convert(event(CREATED), written)
    record(order_database, created)

    # when
    assert relay_once(Relay(order_database, publisher_of(), sent_as=sent_as)) == 1

    # then
    expected = [(version, created.id) for version in sent_as]
    assert arrived(broker, INVENTORY.queue) == arrived(broker, NOTIFICATION.queue) == expected
    assert sent(order_database) == [created.id]


def test_a_relay_that_is_set_to_nothing_sends_each_row_as_it_is(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    ids = record(order_database, event(CREATED), convert(event(CREATED), V2))

    relay_once(Relay(order_database, publisher_of()))

    assert arrived(broker, INVENTORY.queue) == [(V1, ids[0]), (V2, ids[1])]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("full", [V1, V2])
def test_an_event_is_not_marked_while_one_of_its_versions_is_refused(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    full: str,
) -> None:
    # given
    full_queue(broker, full)
    (event_id,) = record(order_database, event(CREATED))
    relaying = Relay(order_database, publisher_of(), sent_as=(V1, V2))

    # when
    assert relay_once(relaying) == 0

    # then
    row = row_of(order_database, event_id)
    assert (row.sent_at, row.unroutable_reason) == (None, None)
    assert row.next_attempt_at > row.created_at

    # and when there is room
    take(broker, "full")
    drain_all(relaying, order_database)

    # then both are there; the other one twice, which the inboxes drop
    assert {version for version, _ in arrived(broker, INVENTORY.queue)} == {V1, V2}
    assert arrived(broker, "full") == [(full, event_id)]


@pytest.mark.parametrize(("unheard", "heard"), [(V1, V2), (V2, V1)])
def test_a_version_that_nobody_hears_is_told_and_holds_up_nothing(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    caplog: pytest.LogCaptureFixture,
    unheard: str,
    heard: str,
) -> None:
    # given
    for queue in (INVENTORY.queue, NOTIFICATION.queue, FRAUD.queue, STREAM):
        unbind(broker, queue, unheard)
    ids = record(order_database, event(CREATED), event(CREATED))
    relaying = Relay(order_database, publisher_of(), sent_as=(V1, V2))

    # when
    assert relay_once(relaying) == 2
    record(order_database, event(CREATED))
    assert relay_once(relaying) == 1

    # then
    assert set(ids) < set(sent(order_database))
    assert arrived(broker, INVENTORY.queue)[:2] == [(heard, each) for each in ids]
    warnings = [record for record in caplog.records if "have no consumer" in record.message]
    assert [vars(record)["types"] for record in warnings] == [unheard]


def test_an_event_of_whose_versions_none_is_heard_stays(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
) -> None:
    # given
    for queue in (INVENTORY.queue, NOTIFICATION.queue, FRAUD.queue, STREAM):
        for version in (V1, V2):
            unbind(broker, queue, version)
    (event_id,) = record(order_database, event(CREATED))

    # when
    assert relay_once(Relay(order_database, publisher_of(), sent_as=(V1, V2))) == 0

    # then
    row = row_of(order_database, event_id)
    assert row.sent_at is None
    assert "orders.topic has no queue for order.created" in row.unroutable_reason


# --- The consumer -------------------------------------------------------------------------------


@pytest.fixture
def seen() -> list[Event]:
    """What a handler was given."""
    return []


@pytest.fixture
def handlers(seen: list[Event]) -> Handlers:
    """A handler that has an effect, and is only written for the newest version."""

    def on_order_created(session: Any, given: Event) -> None:
        seen.append(given)
        append(session, event(CREATED, given.subject))

    return {OrderCreatedV2: on_order_created}


def delivery(given: Event, *, attempts: int = 1) -> Delivery:
    return Delivery(given.type, codec.wrap(codec.encode(given)), attempts)


def handle(sessions: Sessions, handlers: Handlers, given: Event) -> Outcome:
    task, body, attempts, *_ = delivery(given)
    return receive(sessions, handlers, body, task=task, attempts=attempts)


def effects(sessions: Sessions) -> int:
    with transaction(sessions) as session:
        return session.scalar(select(func.count()).select_from(outbox)) or 0


def recorded(sessions: Sessions) -> list[tuple[UUID, str]]:
    with transaction(sessions) as session:
        rows = session.execute(select(inbox.c.event_id, inbox.c.type)).all()
    return [(row.event_id, row.type) for row in rows]


@pytest.mark.parametrize("order", [(V1, V2), (V2, V1)])
def test_two_versions_of_an_event_have_one_effect_in_whichever_order_they_come(
    order_database: Sessions, handlers: Handlers, seen: list[Event], order: tuple[str, str]
) -> None:
    # given
    created = event(CREATED)

    # when
    outcomes = [handle(order_database, handlers, convert(created, each)) for each in order]

    # then
    assert outcomes == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert seen == [convert(created, V2)]
    assert effects(order_database) == 1
    # and what came is what is recorded
    assert recorded(order_database) == [(created.id, order[0])]


@pytest.mark.parametrize("order", [(V1, V2), (V2, V1)])
def test_two_versions_in_one_batch_have_one_effect(
    order_database: Sessions, handlers: Handlers, seen: list[Event], order: tuple[str, str]
) -> None:
    # given an event in both versions, and another in one
    created, other = event(CREATED), event(CREATED)
    items = [Item.of(delivery(convert(created, each)), handlers) for each in order]
    items.append(Item.of(delivery(convert(other, order[1])), handlers))

    # when
    receive_batch(order_database, handlers, {}, items)

    # then
    expected = [Outcome.HANDLED, Outcome.DUPLICATE, Outcome.HANDLED]
    assert [item.outcome for item in items] == expected
    assert seen == [convert(created, V2), convert(other, V2)]
    assert set(recorded(order_database)) == {(created.id, order[0]), (other.id, order[1])}


def test_a_version_that_failed_is_a_duplicate_once_the_other_one_is_handled(
    order_database: Sessions, handlers: Handlers
) -> None:
    # given a first version that fails, and will be tried again or redriven
    created = event(CREATED)

    def fail(*_: Any) -> None:
        raise Transient("not now")

    with pytest.raises(Transient):
        handle(order_database, {OrderCreatedV2: fail}, created)

    # when
    outcomes = [handle(order_database, handlers, each) for each in (convert(created, V2), created)]

    # then
    assert outcomes == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert effects(order_database) == 1


def test_two_versions_with_ids_of_their_own_have_two_effects(
    order_database: Sessions, handlers: Handlers
) -> None:
    # This is why they must not.
    created = event(CREATED)
    other = replace(convert(created, V2), id=uuid4())

    outcomes = [handle(order_database, handlers, each) for each in (created, other)]

    assert outcomes == [Outcome.HANDLED, Outcome.HANDLED]
    assert effects(order_database) == 2


def test_an_old_consumer_handles_the_version_that_it_knows(order_database: Sessions) -> None:
    # given handlers from before there was a second version
    seen: list[Event] = []
    old: Handlers = {OrderCreated: lambda _, given: seen.append(given)}
    created = event(CREATED)

    # when
    handle(order_database, old, created)

    # then
    assert seen == [created]

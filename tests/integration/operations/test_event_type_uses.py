"""`orderctl contracts retire` finds every use of an event type, and takes no message."""

import pytest

from common.events import OrderCreatedV2
from common.kombu_topology import EVENTS, INVENTORY, NOTIFICATION, SERVICES
from console.actions.retirement import Findings
from console.broker.queue_inspection import RENEWED_FROM
from eventbus.consumer.receive import Handlers
from eventbus.database.db import Sessions, transaction
from eventbus.outbox.table import append
from testkit.data.outboxes import CREATED, event
from testkit.events.deliveries import deliver
from testkit.eventually import becomes, eventually
from testkit.servers.bindings import bind
from testkit.versions.retirement import V1, MigratedSystem, in_version_2

HANDLERS: Handlers = {OrderCreatedV2: lambda *_: None}


def test_an_unused_type_has_no_uses(
    migrated: MigratedSystem, sessions_of: dict[str, Sessions]
) -> None:
    # Given only the second version in every place
    migrated.put(INVENTORY.queue, in_version_2())
    migrated.put(INVENTORY.parking_lot, in_version_2())
    with transaction(sessions_of["order"]) as session:
        append(session, in_version_2())
    deliver(sessions_of["inventory"], HANDLERS, in_version_2())

    # Then there is no use of the first
    assert migrated.inspect() == Findings(uses=(), unseen=())


def test_services_use_the_types_they_publish_and_consume(migrated: MigratedSystem) -> None:
    uses = [(use.kind, use.place, use.text) for use in migrated.inspect(SERVICES).uses]

    assert ("code", "order", "publishes it, according to the topology") in uses
    consumers = {name for kind, name, text in uses if kind == "code" and "consumes" in text}
    assert (
        consumers
        == {s.name for s in SERVICES if V1 in s.consumed_types}
        >= {"inventory", "notification"}
    )


def test_a_permission_to_publish_a_type_is_a_use(migrated: MigratedSystem) -> None:
    # Given a permission that was not withdrawn
    right = {"exchange": EVENTS.name, "write": r"^(order\.created|order\.confirmed)$", "read": "^$"}
    path = f"/topic-permissions/{migrated.broker.name}/order"
    migrated.broker.request("PUT", path, json=right)

    assert migrated.uses() == [("right", "user order", None)]


@pytest.mark.parametrize("key", [V1, "order.*", "#", "*.created", "order.created.#"])
def test_a_matching_binding_is_a_use(migrated: MigratedSystem, key: str) -> None:
    bind(migrated.broker, INVENTORY.queue, key)

    assert migrated.uses() == [("binding", INVENTORY.queue, None)]


@pytest.mark.parametrize("key", ["order.created.*", "*.created.v2", "order", "order.createdx", "*"])
def test_another_binding_is_not_a_use(migrated: MigratedSystem, key: str) -> None:
    bind(migrated.broker, INVENTORY.queue, key)

    assert migrated.uses() == []


def test_an_unsent_event_is_a_use_and_a_sent_one_is_not(
    migrated: MigratedSystem, sessions_of: dict[str, Sessions]
) -> None:
    # Given two unsent events and a sent one
    with transaction(sessions_of["order"]) as session:
        for _ in range(3):
            append(session, event(CREATED))
        session.connection().exec_driver_sql(
            "UPDATE outbox SET sent_at = now() WHERE id = (SELECT min(id) FROM outbox)"
        )

    assert migrated.uses() == [("outbox", "order", 2)]


@pytest.mark.parametrize(
    "queue",
    [
        INVENTORY.queue,
        NOTIFICATION.queue,
        INVENTORY.retry_queue(600.0),
        INVENTORY.parking_lot,
    ],
)
def test_a_message_in_a_queue_is_a_use(migrated: MigratedSystem, queue: str) -> None:
    migrated.put(queue, in_version_2(), event(CREATED), in_version_2(), event(CREATED))

    uses = migrated.inspect().uses

    assert [(use.kind, use.place, use.count) for use in uses] == [("queue", queue, 2)]
    assert "2 messages, the oldest from 20" in uses[0].text


def test_a_message_in_a_stream_is_a_use(migrated: MigratedSystem) -> None:
    # Given an unmanaged stream that is no longer bound
    stream = {"durable": True, "arguments": {"x-queue-type": "stream"}}
    migrated.broker.request("PUT", f"/queues/{migrated.broker.name}/history", json=stream)
    migrated.put("history", in_version_2(), event(CREATED), in_version_2(), event(CREATED))

    assert migrated.uses() == [("stream", "history", 2)]
    # And the messages are still there
    assert migrated.uses() == [("stream", "history", 2)]


def test_a_consumer_that_handled_the_type_recently_is_a_use(
    migrated: MigratedSystem, sessions_of: dict[str, Sessions]
) -> None:
    # Given an event that was handled now, and one that was handled two hours ago
    for _ in range(2):
        deliver(sessions_of["notification"], HANDLERS, event(CREATED))
    with transaction(sessions_of["notification"]) as session:
        session.connection().exec_driver_sql(
            "UPDATE inbox SET handled_at = now() - interval '2 hours'"
            " WHERE event_id = (SELECT max(event_id::text)::uuid FROM inbox)"
        )

    assert migrated.uses() == [("consumer", "notification", 1)]


def test_an_inspection_keeps_the_messages_and_their_order(migrated: MigratedSystem) -> None:
    # Given 50 events
    events = [event(CREATED) for _ in range(50)]
    migrated.put(INVENTORY.queue, *events)

    # When the queue is inspected
    assert migrated.uses() == [("queue", INVENTORY.queue, 50)]

    # Then they are in their order
    eventually(lambda: depth_is(migrated, INVENTORY.queue, 50))
    assert migrated.ids(INVENTORY.queue) == [str(each.id) for each in events]


def test_repeated_inspections_do_not_park_messages(
    migrated: MigratedSystem,
) -> None:
    # Given three events
    events = [event(CREATED) for _ in range(3)]
    migrated.put(INVENTORY.queue, *events)

    # When the queue is inspected more often than its delivery limit
    for _ in range(2 * RENEWED_FROM + 6):
        assert migrated.uses() == [("queue", INVENTORY.queue, 3)]
        eventually(lambda: depth_is(migrated, INVENTORY.queue, 3))

    # Then no event is parked
    becomes(lambda: migrated.broker.depth(INVENTORY.parking_lot), 0)
    assert sorted(migrated.ids(INVENTORY.queue)) == sorted(str(each.id) for each in events)


def depth_is(migrated: MigratedSystem, queue: str, count: int) -> None:
    assert migrated.broker.depth(queue) == count


def test_uninspected_messages_are_a_possible_use(
    migrated: MigratedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more messages than one inspection reads
    monkeypatch.setattr("console.broker.queue_inspection.LIMIT", 2)
    migrated.put(INVENTORY.queue, *(in_version_2() for _ in range(5)))

    # When the queue is inspected
    (use,) = migrated.inspect().uses

    # Then the rest is reported as a possible use
    assert (use.kind, use.place) == ("queue", INVENTORY.queue)
    assert use.text == (
        "3 or more messages could not be inspected, after 2: they may be of this type"
    )

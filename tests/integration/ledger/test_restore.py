"""`orderctl restore`: its findings, the records that it restores, and those that it keeps."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import NullPool, create_engine, text

from common.events import OrderCreated
from common.kombu_topology import EVENTS, INVENTORY, NOTIFICATION
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from testkit.data.accounted import AccountedSystem
from testkit.data.outboxes import CANCELLED, CONFIRMED, CREATED, ORDERED, drain_all, event, record
from testkit.events.messages import event_in, ids, take
from testkit.eventually import becomes
from testkit.processes.orderctl import orderctl
from testkit.servers.databases import service_url

CHECK = ("restore", "check", "--wait", "60", "--json")
HEAL = ("restore", "heal", "--wait", "20", "--yes", "--service")

ORDERS = """
SELECT status, reason, customer_email, currency, total::int, sequence,
    deadline_at > now() + interval '10 minutes' AS has_time, decided_at IS NOT NULL AS is_decided,
    (SELECT json_agg(json_build_array(position, sku, quantity, unit_price)) FROM order_lines
        WHERE order_id = orders.id) AS lines
FROM orders WHERE id = :id
"""


def send(system: AccountedSystem, *events: Event) -> list[UUID]:
    """Publish events of the order service, and return their ids."""
    sent = record(system.databases["order"], *events)
    drain_all(system.relay, system.databases["order"])
    return sent


def set_back(system: AccountedSystem, lost: list[UUID]) -> None:
    """Restore the order database to a time before these events."""
    system.run("order", "DELETE FROM outbox WHERE event_id = ANY (:ids)", ids=lost)


def stored(system: AccountedSystem, order_id: UUID) -> Mapping[str, Any] | None:
    """Return an order of the order database, or None."""
    with transaction(system.databases["order"]) as session:
        row = session.execute(text(ORDERS), {"id": order_id}).mappings().one_or_none()
        return dict(row) if row else None


def outbox(system: AccountedSystem) -> dict[UUID, bool]:
    """Return the ids in the order outbox, and whether each event is sent."""
    with transaction(system.databases["order"]) as session:
        sql = "SELECT event_id, sent_at IS NOT NULL FROM outbox"
        return dict(session.execute(text(sql)).all())


def test_a_database_that_is_not_behind_is_success(system: AccountedSystem) -> None:
    result = orderctl(system.environment, *CHECK, "--service", "inventory")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["behind"] == []


def test_missing_events_are_named_and_delivered_to_one_service(system: AccountedSystem) -> None:
    # Given an inventory whose inbox was restored to an earlier time
    lost = system.publish(3)
    system.handle_all()
    system.forget(INVENTORY, lost)

    # When it is checked, then exactly these events are missing
    result = orderctl(system.environment, *CHECK, "--service", "inventory")
    assert result.exit_code == 1, result.output
    (found,) = json.loads(result.stdout)["services"]
    assert found["missing"] == {"count": 3, "ids": [str(each) for each in lost]}

    # And a healing delivers them to this service, unmarked, and to no other
    result = orderctl(system.environment, *HEAL, "inventory")
    assert result.exit_code == 0, result.output
    messages = system.broker.messages(INVENTORY.queue)
    assert ids(messages) == lost
    assert not any(event_in(message).replayed for message in messages)
    becomes(lambda: system.broker.depth(NOTIFICATION.queue), 0)


def test_events_in_other_places_are_not_delivered_again(system: AccountedSystem) -> None:
    # Given a parked event, one in a retry tier, and one that was lost
    system.publish(1)
    system.park(NOTIFICATION, 1)
    system.publish(1)
    system.retry(NOTIFICATION, 1, 600)
    lost = system.publish(1)
    system.purge(NOTIFICATION)

    # When the service is healed
    result = orderctl(system.environment, *HEAL, "notification")

    # Then only the lost event is delivered, as history
    assert result.exit_code == 0, result.output
    messages = take(system.broker, NOTIFICATION.queue)
    assert ids(messages) == lost
    assert event_in(messages[0]).replayed


def test_a_service_with_an_empty_inbox_lacks_every_event(system: AccountedSystem) -> None:
    # Given a service that has lost its database
    sent = system.publish(2)
    system.handle_all()
    system.run("notification", "TRUNCATE inbox")

    # When it is checked, then the reason is named
    result = orderctl(system.environment, "restore", "check", "--service", "notification")
    assert result.exit_code == 1
    assert "3 events were sent to it, and are lost: its inbox is empty" in result.stdout

    # And a healing delivers every event
    orderctl(system.environment, *HEAL, "notification")
    assert ids(system.broker.messages(NOTIFICATION.queue))[-2:] == sent


def test_lost_orders_are_written_again_with_their_state(system: AccountedSystem) -> None:
    # Given an order that is PENDING, one that was confirmed, and one that was cancelled
    pending, confirmed, cancelled = uuid4(), uuid4(), uuid4()
    lost = send(
        system,
        event(CREATED, pending),
        event(CREATED, confirmed),
        event(CONFIRMED, confirmed, 2),
        event(CREATED, cancelled),
        event(CONFIRMED, cancelled, 2),
        event(CANCELLED, cancelled, 3),
    )
    system.handle_all()

    # When their database is restored, then the check names the events and the orders
    set_back(system, lost)
    result = orderctl(system.environment, *CHECK, "--service", "order")
    (found,) = json.loads(result.stdout)["services"]
    assert result.exit_code == 1
    assert sorted(found["lost"]["ids"]) == sorted(str(each) for each in lost)
    assert {str(pending), str(confirmed), str(cancelled)} <= set(found["orphans"]["fraud"]["ids"])

    # And a healing restores them
    result = orderctl(system.environment, *HEAL, "order")
    assert result.exit_code == 0, result.output
    content = {
        "customer_email": "ada@example.com",
        "currency": "EUR",
        "total": 100,
        "lines": [[1, "Ä-1", 1, 100]],
    }
    first = {"status": "PENDING", "reason": None, "sequence": 1, "is_decided": False}
    second = {"status": "CONFIRMED", "reason": None, "sequence": 2, "is_decided": True}
    third = {"status": "CANCELLED", "reason": "customer", "sequence": 3, "is_decided": True}
    for order_id, state in ((pending, first), (confirmed, second), (cancelled, third)):
        found = stored(system, order_id)
        assert found
        assert found.pop("has_time")
        assert found == state | content
    # And their events are sent: no consumer receives them a second time
    assert {outbox(system)[each] for each in lost} == {True}

    # And a second healing changes nothing
    again = orderctl(system.environment, *HEAL, "order")
    assert "order: 0 of its own events restored" in again.stdout


def test_an_overdue_order_has_time_for_its_reply(system: AccountedSystem) -> None:
    # Given an order of the backup whose deadline is over
    created = event(CREATED)
    set_back(system, send(system, created))
    orderctl(system.environment, *HEAL, "order")
    system.run("order", "UPDATE orders SET deadline_at = now() - interval '1 hour'")

    # When the service is healed, then the sweep does not cancel the order
    orderctl(system.environment, *HEAL, "order")
    found = stored(system, created.subject)
    assert found
    assert (found["status"], found["has_time"]) == ("PENDING", True)


@pytest.mark.parametrize(
    ("source", "routing_key"), [("inventory", "order.created"), ("order", "order.confirmed")]
)
def test_a_forged_event_is_not_restored(
    system: AccountedSystem, source: str, routing_key: str
) -> None:
    # Given a message that the order service could not have published
    forged = event(OrderCreated(**ORDERED), source=source)
    body = codec.wrap(codec.encode(forged))
    headers = {"task": routing_key, "id": str(forged.id)}
    system.broker.publish(body, exchange=EVENTS.name, routing_key=routing_key, headers=headers)

    # When the order database is checked, then the event is not among the lost events
    result = orderctl(system.environment, *CHECK, "--service", "order")
    (found,) = json.loads(result.stdout)["services"]
    assert found["lost"]["count"] == 0


def test_lost_events_are_not_restored_beside_processes(system: AccountedSystem) -> None:
    # Given a restored database, and a process that is connected to it
    created = event(CREATED)
    set_back(system, send(system, created))
    with create_engine(service_url(system.settings, "order"), poolclass=NullPool).connect():
        # When a healing is attempted, then it fails with the processes to stop
        result = orderctl(system.environment, *HEAL, "order")
    assert result.exit_code == 1
    assert "stop order-worker, order-relay" in result.output
    assert stored(system, created.subject) is None


def test_a_lost_queue_is_declared_and_its_events_are_delivered(system: AccountedSystem) -> None:
    # Given a queue that was lost with its events
    lost = system.publish(2)
    system.handle_queues(but=INVENTORY)
    system.read_stream()
    system.broker.request("DELETE", f"/queues/{system.broker.name}/{INVENTORY.queue}")

    # When the databases are checked, then the queue is named
    result = orderctl(system.environment, *CHECK)
    document = json.loads(result.stdout)
    assert (result.exit_code, document["lost_queues"]) == (1, [INVENTORY.queue])
    assert document["behind"][0] == "broker"

    # And a healing declares the queue, and delivers the events
    result = orderctl(system.environment, *HEAL, "broker")
    assert result.exit_code == 0, result.output
    assert f"created queue {INVENTORY.queue}" in result.output
    assert "broker: 2 events delivered again" in result.stdout
    assert ids(system.broker.messages(INVENTORY.queue)) == lost


def test_a_healing_is_in_the_audit_log(system: AccountedSystem) -> None:
    orderctl(system.environment, *HEAL, "inventory")

    result = orderctl(system.environment, "audit", "--action", "restore.heal", "--json")
    assert '"service": "inventory"' in result.stdout

"""Stuck orders are listed with the place where each is stuck, and the reason."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from amqp import Message
from click.testing import CliRunner, Result

from common.events import Quantity, StockReserved
from common.kombu_topology import INVENTORY, NOTIFICATION, ORDER
from console.ledger.account import Place
from console.ledger.books import Books
from console.orderctl import main
from console.orders import places, stuck
from console.orders.places import SEARCH
from console.orders.stuck import Report, Stuck
from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.topology.service import PARKED, Service, tier_key
from testkit.data.accounted import AccountedSystem
from testkit.data.orders import stored
from testkit.data.outboxes import CREATED, drain_all, event, record
from testkit.eventually import becomes

RESERVED = StockReserved(lines=(Quantity(sku="TEA", quantity=2),))
OVERDUE = {"deadline_at": datetime.now(UTC) - timedelta(seconds=20)}


def test_only_old_undecided_orders_are_stuck(system: AccountedSystem) -> None:
    # Given an order of now, a decided one, an old one, and a new one past its deadline
    now = datetime.now(UTC)
    stored(system.databases["order"])
    decided = {"status": "CONFIRMED", "decided_at": now}
    order(system, **decided)
    old = order(system)
    overdue = order(system, created_at=now, **OVERDUE)

    # When the stuck orders are listed
    report = find(system)

    # Then they are the last two, the oldest first
    assert [each.order.id for each in report.orders] == [old, overdue]
    assert not report.is_cut
    # And none is older than a day
    with Books.opened(system.settings) as books:
        older = stuck.find(system.settings, books, older_than=timedelta(days=1))
    assert [each.order.id for each in older.orders] == [overdue]


def test_more_stuck_orders_than_are_examined_are_reported(
    system: AccountedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "LIMIT", 2)
    ids = [order(system) for _ in range(3)]

    report = find(system)

    assert {each.order.id for each in report.orders} < set(ids)
    assert (len(report.orders), report.is_cut) == (2, True)


def test_an_order_hangs_in_the_outbox_while_its_relay_is_down(system: AccountedSystem) -> None:
    # Given an order whose event is not sent, since the relay has stopped
    order_id = order(system)
    record(system.databases["order"], event(CREATED, order_id))
    system.run("order", "UPDATE relay_state SET passed_at = now() - interval '1 minute'")

    # Then it hangs there
    (delivery,) = only(find(system)).waiting
    assert delivery.place is Place.UNSENT
    assert delivery.where == "unsent in the outbox of order"
    assert delivery.why == "order-relay is not running"


def test_an_order_waits_for_a_worker_that_does_not_run(system: AccountedSystem) -> None:
    # Given an order whose event is in a queue without a consumer
    sent(system, order(system))

    # Then it waits for that service, and for no other
    (delivery,) = only(find(system)).waiting
    assert (delivery.place, delivery.where) == (Place.IN_FLIGHT, "waiting for inventory")
    assert delivery.why == "inventory-worker is not running"


def test_an_order_is_in_flight_while_a_worker_holds_its_event(system: AccountedSystem) -> None:
    # Given a worker that holds the event of an order
    sent(system, order(system))
    with system.broker.connect() as connection:
        channel = connection.channel()
        channel.basic_consume(INVENTORY.queue, callback=lambda _: None)
        connection.drain_events(timeout=60)

        # Then the event is in flight, and nothing is known about the reason
        (delivery,) = only(find(system)).waiting
    assert (delivery.where, delivery.why) == ("in flight to inventory", "")


def test_an_order_hangs_in_a_retry_tier_with_the_last_failure(system: AccountedSystem) -> None:
    # Given an order whose event has failed twice
    sent(system, order(system))
    fail(system, INVENTORY, tier_key(600), attempts=2)

    # Then it is in a retry tier, with the last failure, and the message is still there
    (delivery,) = only(find(system)).waiting
    assert (delivery.place, delivery.where) == (Place.RETRYING, "in a retry tier of inventory")
    assert delivery.why == "Transient: the shelf is locked (attempt 2)"
    becomes(lambda: system.broker.depth(INVENTORY.retry_queue(600)), 1)


def test_an_order_hangs_in_a_parking_lot_with_the_reason(system: AccountedSystem) -> None:
    # Given an order whose event is parked, and another of which only the mail is parked
    order_id = order(system)
    sent(system, order_id)
    fail(system, INVENTORY, PARKED, attempts=5)
    fail(system, NOTIFICATION, PARKED, attempts=5)

    # Then it hangs at the service that decides it
    (delivery,) = only(find(system)).waiting
    assert (delivery.place, delivery.where) == (Place.PARKED, "parked at inventory")
    assert delivery.why == "Transient: the shelf is locked (attempt 5)"
    # And the order itself shows both places
    with Books.opened(system.settings) as books:
        found = places.follow(system.settings, books, order_id)
    assert [each.where for each in found.waiting if each.place is Place.PARKED] == [
        "parked at inventory",
        "parked at notification",
    ]


def test_an_order_hangs_where_the_reply_of_the_inventory_is(system: AccountedSystem) -> None:
    # Given an order whose stock is reserved, and whose reply is parked
    order_id = order(system)
    sent(system, order_id)
    system.handle_queues()
    reply = event(RESERVED, order_id, source="inventory")
    record(system.databases["inventory"], reply)
    system.run("inventory", "UPDATE outbox SET sent_at = now()")
    put(system, ORDER, reply)
    fail(system, ORDER, PARKED, attempts=1)

    # Then it hangs at the order service
    (delivery,) = only(find(system)).waiting
    assert (delivery.event.type, delivery.where) == ("stock.reserved", "parked at order")


def test_an_order_past_its_deadline_hangs_at_the_sweep(system: AccountedSystem) -> None:
    # Given an order whose events are all handled, past its deadline
    sent(system, order(system, **OVERDUE))
    system.handle_queues()

    # Then the order relay is named
    each = only(find(system))
    assert each.waiting == ()
    assert each.problem.startswith("order-relay has not cancelled it at its deadline")


def test_an_order_without_stored_events_is_named_as_such(system: AccountedSystem) -> None:
    order(system)

    assert only(find(system)).problem == "no event of it is stored"


def test_a_longer_search_proves_that_an_event_is_lost(system: AccountedSystem) -> None:
    # Given an order whose event was purged from the queue of the inventory
    sent(system, order(system))
    system.purge(INVENTORY)

    # When the search is long enough for the proof
    report = find(system, seconds=60)

    # Then the event is lost
    (delivery,) = only(report).waiting
    assert (delivery.place, delivery.where) == (Place.MISSING, "lost on its way to inventory")


def test_stuck_orders_are_listed_without_the_broker(system: AccountedSystem) -> None:
    # Given an order, and a broker that does not respond
    order_id = order(system)
    sent(system, order_id)
    settings = system.settings.model_copy(update={"broker_port": 9})

    # When the stuck orders are listed
    report = find(replace(system, settings=settings))

    # Then the order is listed as in flight, and the report has the problem
    (delivery,) = only(report).waiting
    assert (delivery.where, delivery.why) == ("in flight to inventory", "")
    assert report.problem.startswith("the broker at 127.0.0.1:9, AMQP: ")


def test_a_service_whose_database_is_down_is_named(system: AccountedSystem) -> None:
    # Given an order whose event waits for the inventory, whose database refuses connections
    sent(system, order(system))
    name = system.settings.database_name("inventory")
    system.run("order", f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")

    # Then the database is named as the reason
    (delivery,) = only(find(system)).waiting
    assert delivery.where == "waiting for inventory"
    assert delivery.why.startswith("its database is unavailable: ")


def test_orderctl_lists_stuck_orders_and_shows_one(system: AccountedSystem) -> None:
    # Given a stuck order
    order_id = order(system)
    (event_id,) = sent(system, order_id)
    fail(system, INVENTORY, PARKED, attempts=3)

    # When it is listed and shown
    table, shown = orderctl(system, "stuck"), orderctl(system, "show", str(order_id))
    (listed,) = json.loads(orderctl(system, "stuck", "--json").stdout)["orders"]
    document = json.loads(orderctl(system, "show", str(order_id), "--json").stdout)
    none = orderctl(system, "stuck", "--older-than", "1h")

    # Then both contain the place and the reason, and no address
    for output in (table.stdout, shown.stdout):
        assert "parked at inventory" in output
        assert "Transient: the shelf is locked (attempt 3)" in output
        assert "ann@example.com" not in output
    assert (listed["id"], listed["waiting"][0]["place"]) == (str(order_id), "parked")
    (parked,) = [d for d in document["deliveries"] if d["service"] == "inventory"]
    assert (parked["event_id"], parked["attempts"]) == (str(event_id), 3)
    assert "a***@example.com" in shown.stdout
    assert none.stdout == "no order is stuck\n"


def order(system: AccountedSystem, **values: Any) -> UUID:
    """Store an order that was placed a minute ago, and return its id."""
    placed = {"created_at": datetime.now(UTC) - timedelta(minutes=1)}
    return stored(system.databases["order"], **placed | values)


def sent(system: AccountedSystem, order_id: UUID) -> list[UUID]:
    """Publish the first event of an order, and return its id."""
    ids = record(system.databases["order"], event(CREATED, order_id))
    drain_all(system.relay, system.databases["order"])
    return ids


def put(system: AccountedSystem, service: Service, published: Event) -> None:
    """Put an event into a service's queue."""
    with system.broker.connect(confirm_publish=True) as connection:
        headers = {"task": published.type, "id": str(published.id)}
        body = codec.wrap(codec.encode(published))
        message = Message(body, application_headers=headers, message_id=str(published.id))
        connection.channel().basic_publish(message, routing_key=service.queue)


def fail(system: AccountedSystem, service: Service, key: str, *, attempts: int) -> None:
    """Move a message from a service's queue to its parking lot or a tier, as its worker does."""
    cause = Cause(Verdict.RETRY, "Transient", "the shelf is locked")
    failure = Failure.of(cause, service=service.name, release="r1", headers={})
    failed = replace(failure, attempts=attempts).to_headers()
    with system.broker.connect(confirm_publish=True) as connection:
        channel = connection.channel()
        taken = channel.basic_get(service.queue)
        assert taken is not None
        copy = Message(
            taken.body,
            application_headers=dict(taken.headers) | failed,
            message_id=taken.headers["id"],
            type=taken.headers["task"],
        )
        channel.basic_publish(copy, exchange=service.retry_exchange, routing_key=key)
        channel.basic_ack(taken.delivery_tag)


def find(system: AccountedSystem, seconds: float = SEARCH) -> Report:
    with Books.opened(system.settings) as books:
        return stuck.find(system.settings, books, seconds=seconds)


def only(report: Report) -> Stuck:
    (each,) = report.orders
    return each


def orderctl(system: AccountedSystem, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["orders", *arguments], env=dict(system.environment))
    assert result.exit_code == 0, result.output
    return result

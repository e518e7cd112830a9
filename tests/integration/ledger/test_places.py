"""The ledger names the place of each event."""

from dataclasses import replace

import pytest
from amqp import Message
from click.testing import CliRunner

from common.kombu_topology import ANALYTICS, FRAUD, INVENTORY, NOTIFICATION, ORDER
from console.broker.parked_message import event_id
from console.ledger import search
from console.ledger.account import Place
from console.ledger.books import Books
from console.orderctl import main
from console.orders.places import SEARCH, follow
from eventbus.catch_up import overflow
from eventbus.messaging.message_copy import copy_of, own_headers
from testkit.data import indexed as index
from testkit.data.accounted import AccountedSystem, brief, patient, places
from testkit.data.outboxes import CREATED, event, record
from testkit.eventually import becomes


def test_handled_events_are_accounted_for(system: AccountedSystem) -> None:
    # Given events that every service has handled
    system.publish(20)
    system.handle_all()

    # When the ledger is read
    accounts = system.accounts(brief())

    # Then each consumer has handled all of them, and the order service consumes none
    for service in (INVENTORY, NOTIFICATION, FRAUD, ANALYTICS):
        assert places(accounts[service.name]) == {Place.HANDLED: 21}
    assert places(accounts[ORDER.name]) == {}


def test_an_event_that_is_not_published_is_unsent(system: AccountedSystem) -> None:
    record(system.databases["order"], event(CREATED))

    accounts = system.accounts(brief())

    assert places(accounts[INVENTORY.name]) == {Place.HANDLED: 1, Place.UNSENT: 1}


def test_a_discarded_event_is_not_missing(system: AccountedSystem) -> None:
    # Given a parked event that an operator discards
    (event_id,) = system.publish(1)
    system.park(INVENTORY, 1)
    system.handle_all()
    arguments = ["parked", "discard", INVENTORY.name, "--id", str(event_id), "--yes"]
    result = CliRunner().invoke(
        main, [*arguments, "--reason", "a test order"], env=dict(system.environment)
    )
    assert result.exit_code == 0, result.output

    # When the ledger is read
    account = system.accounts()[INVENTORY.name]

    # Then the event is accounted for
    assert places(account) == {Place.HANDLED: 1, Place.DISCARDED: 1}


def test_waiting_messages_are_in_flight(system: AccountedSystem) -> None:
    # Given a worker that has handled half of its queue
    system.publish(10)
    system.handle(INVENTORY, 5)

    # When the search is long enough for a proof
    account = system.accounts(patient(25))[INVENTORY.name]

    # Then the others are in flight
    assert places(account) == {Place.HANDLED: 6, Place.IN_FLIGHT: 5}
    assert account.unproven == "inventory.queue was not empty at any moment of the search"


def test_messages_that_a_worker_holds_are_in_flight(system: AccountedSystem) -> None:
    # Given messages that a worker holds, and no others
    system.publish(3)
    with system.broker.connect() as connection:
        channel = connection.channel()
        while channel.basic_get(INVENTORY.queue) is not None:
            pass

        # When the search is long enough for a proof
        account = system.accounts(patient(25))[INVENTORY.name]

    # Then none is missing
    assert places(account) == {Place.HANDLED: 1, Place.IN_FLIGHT: 3}


def test_messages_in_a_part_of_a_queue_are_in_flight(system: AccountedSystem) -> None:
    # Given a queue with two parts, of which the second one has messages
    second = replace(INVENTORY, parts=2).part_queue(1)
    path = f"/queues/{system.broker.name}/{second}"
    system.broker.request(
        "PUT", path, json={"durable": True, "arguments": {"x-queue-type": "quorum"}}
    )
    system.publish(3)
    with system.broker.connect(confirm_publish=True) as connection:
        channel = connection.channel()
        while (message := channel.basic_get(INVENTORY.queue, no_ack=True)) is not None:
            copy = copy_of(message.body, message.properties, own_headers(message.headers))
            channel.basic_publish(copy, routing_key=second)

    # When the search is long enough for a proof
    account = system.accounts(patient(25))[INVENTORY.name]

    # Then none is missing
    assert places(account) == {Place.HANDLED: 1, Place.IN_FLIGHT: 3}


def test_parked_and_retried_events_are_named_as_such(system: AccountedSystem) -> None:
    # Given parked events, events in a retry tier, and a lost one
    system.publish(6)
    parked = system.park(INVENTORY, 2)
    retried = system.retry(INVENTORY, 3, 600)
    system.purge(INVENTORY)
    system.handle_all()

    # When the ledger is read
    account = system.accounts()[INVENTORY.name]

    # Then each is in its place, and only the lost one is missing
    assert places(account) == {
        Place.HANDLED: 1,
        Place.PARKED: 2,
        Place.RETRYING: 3,
        Place.MISSING: 1,
    }
    assert not {str(e.id) for e in account.missing} & {*parked, *retried}
    # And both are where they were
    becomes(lambda: system.broker.depth(INVENTORY.parking_lot), 2)
    becomes(lambda: system.broker.depth(INVENTORY.retry_queue(600)), 3)


def test_a_search_for_one_event_reads_its_parking_lot_only_up_to_it(
    system: AccountedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three parked events, of different orders
    ids = system.publish(3)
    system.park(INVENTORY, 3)
    order = next(event.subject for event in system.events() if event.id == ids[1])
    read: list[str] = []

    def recorded(message: Message) -> str:
        read.append(event_id(message))
        return read[-1]

    monkeypatch.setattr(search, "event_id", recorded)

    # When the second one's order is followed
    with Books.opened(system.settings) as books:
        found = follow(system.settings, books, order)

    # Then it is found, and the third message is not read
    (delivery,) = [each for each in found.deliveries if each.service == INVENTORY.name]
    assert (delivery.place, found.problem) == (Place.PARKED, "")
    assert set(read) == {str(each) for each in ids[:2]}


def test_a_parked_event_is_found_in_the_index_of_a_large_parking_lot(
    system: AccountedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two orders whose events are parked, one of which is in the index
    ids = system.publish(2)
    system.handle_queues(but=INVENTORY)
    system.read_stream()
    system.park(INVENTORY, 1)
    index.read(system.settings)
    system.park(INVENTORY, 1)
    orders = [next(e.subject for e in system.events() if e.id == each) for each in ids]
    read: list[object] = []
    monkeypatch.setattr(search, "parking_lot", lambda *arguments: read.append(arguments))

    # When the orders are followed
    with Books.opened(system.settings) as books:
        found = [follow(system.settings, books, order) for order in orders]

    # Then the parking lot is not read, and the other event counts as in flight
    first, second = (
        next(each for each in one.deliveries if each.service == INVENTORY.name) for one in found
    )
    assert (first.place, second.place) == (Place.PARKED, Place.IN_FLIGHT)
    assert first.message is not None
    assert first.message.id == str(ids[0])
    assert read == []


def test_a_longer_search_does_not_use_the_index(system: AccountedSystem) -> None:
    # Given an indexed event, which has left the parking lot and was handled by nothing
    (event_id,) = system.publish(1)
    system.handle_queues(but=INVENTORY)
    system.read_stream()
    system.park(INVENTORY, 1)
    index.read(system.settings)
    order = next(e.subject for e in system.events() if e.id == event_id)
    with system.broker.connect() as connection:
        connection.channel().queue_purge(INVENTORY.parking_lot)

    # When the order is followed for longer than a page takes
    with Books.opened(system.settings) as books:
        found = follow(system.settings, books, order, seconds=SEARCH + 1)

    # Then the event is not parked
    (delivery,) = [each for each in found.deliveries if each.service == INVENTORY.name]
    assert delivery.place is not Place.PARKED


def test_a_parked_event_that_was_handled_is_a_harmless_duplicate(
    system: AccountedSystem,
) -> None:
    # Given two parked events, one of which is handled by another delivery
    ids = system.publish(2)
    system.park(INVENTORY, 2)
    handled = next(e for e in system.events() if e.id == ids[0])
    system.deliver(INVENTORY, handled)

    account = system.accounts(brief())[INVENTORY.name]

    assert places(account) == {Place.HANDLED: 2, Place.PARKED: 1}
    assert account.parked_duplicates == 1


def test_events_that_the_queue_has_dropped_are_in_the_stream(system: AccountedSystem) -> None:
    # Given a drop that the catch-up has recorded, and not read yet
    system.publish(4)
    system.purge(FRAUD)
    system.handle_all()
    with overflow.changed(system.databases["fraud"]) as record_:
        assert record_
        _, state, now = record_
        state.request(now)

    account = system.accounts()[FRAUD.name]

    assert places(account) == {Place.HANDLED: 1, Place.IN_STREAM: 4}


def test_events_that_the_inbox_may_have_deleted_are_expired(system: AccountedSystem) -> None:
    # Given a handled event whose row has expired, and which the outbox still has
    (old,) = system.publish(1)
    system.handle_all()
    system.forget(FRAUD, [old])
    sql = "UPDATE outbox SET sent_at = now() - interval '31 days' WHERE event_id = :id"
    system.run("order", sql, id=old)

    account = system.accounts(brief())[FRAUD.name]

    assert places(account) == {Place.EXPIRED: 1, Place.HANDLED: 1}

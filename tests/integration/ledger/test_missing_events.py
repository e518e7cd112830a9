"""The ledger reports an event as missing only if the event is in no place."""

import threading

import pytest

from common.kombu_topology import ANALYTICS, FRAUD, INVENTORY, NOTIFICATION
from console.ledger import reconciliation
from console.ledger.account import Place
from testkit.data.accounted import AccountedSystem, brief, missing, patient, places
from testkit.servers.bindings import unbind


def test_purged_events_are_missing(system: AccountedSystem) -> None:
    # Given a queue that was purged between two handled events
    lost = system.publish(7)
    system.purge(INVENTORY)
    system.publish(2)
    system.handle_all()

    # When the ledger is read
    accounts = system.accounts()

    # Then exactly these events are missing, for this service only, oldest first
    assert [e.id for e in accounts[INVENTORY.name].missing] == lost
    assert places(accounts[INVENTORY.name]) == {Place.HANDLED: 3, Place.MISSING: 7}
    for service in (NOTIFICATION, FRAUD, ANALYTICS):
        assert places(accounts[service.name]) == {Place.HANDLED: 10}


def test_events_published_without_a_binding_are_missing(system: AccountedSystem) -> None:
    # Given events that were published while a binding was missing
    unbind(system.broker, NOTIFICATION.queue, "order.created")
    lost = system.publish(3)
    system.handle_all()

    # When the ledger is read
    accounts = system.accounts()

    # Then they are missing for that service
    assert missing(accounts[NOTIFICATION.name]) == set(lost)
    assert not missing(accounts[FRAUD.name])


def test_events_whose_inbox_rows_are_deleted_are_missing(system: AccountedSystem) -> None:
    ids = system.publish(6)
    system.handle_all()
    system.forget(FRAUD, ids[2:4])

    accounts = system.accounts()

    assert missing(accounts[FRAUD.name]) == set(ids[2:4])


def test_an_event_that_moves_between_tiers_is_never_missing(system: AccountedSystem) -> None:
    # Given an event whose attempts fail, each faster than the broker counts
    system.publish(1)
    system.handle_queues(but=INVENTORY)
    ended = threading.Event()

    def fail_repeatedly() -> None:
        while not ended.is_set():
            if system.broker.depth(INVENTORY.queue):
                system.retry(INVENTORY, 1, 1)
            ended.wait(0.05)

    worker = threading.Thread(target=fail_repeatedly)
    worker.start()
    try:
        # When the ledger is read several times
        accounts = [system.accounts(patient(20))[INVENTORY.name] for _ in range(2)]
    finally:
        ended.set()
        worker.join()

    # Then the event is retrying or in flight each time
    assert [a.counts[Place.MISSING] for a in accounts] == [0, 0]
    assert all(a.counts[Place.RETRYING] + a.counts[Place.IN_FLIGHT] == 1 for a in accounts)


def test_what_happens_during_the_search_counts(system: AccountedSystem) -> None:
    # Given two events in no queue
    first, second = system.publish(2)
    system.purge(INVENTORY)
    system.handle_all()
    handled = next(e for e in system.events() if e.id == first)

    def happen() -> None:
        system.deliver(INVENTORY, handled)
        sql = "UPDATE outbox SET sent_at = NULL WHERE event_id = :id"
        system.run("order", sql, id=second)

    # When one is handled during the search, and the mark of the other is lost
    late = threading.Timer(5, happen)
    late.start()
    account = system.accounts()[INVENTORY.name]
    late.join()

    # Then neither is missing: one was handled, and the other will be sent again
    assert places(account) == {Place.HANDLED: 2, Place.UNSENT: 1}


def test_a_reader_lacks_an_event_only_if_it_has_a_later_one(
    system: AccountedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an event that the analytics service lacks, and no later event
    (lost,) = system.publish(1)
    assert places(system.accounts(brief())[ANALYTICS.name]) == {
        Place.HANDLED: 1,
        Place.IN_STREAM: 1,
    }
    settle = reconciliation.settle

    def with_traffic(*arguments: object) -> None:
        # When the reader has read an event that was published after the ledger saw the first
        system.publish(1)
        system.read_stream()
        system.forget(ANALYTICS, [lost])
        settle(*arguments)

    monkeypatch.setattr(reconciliation, "settle", with_traffic)
    account = system.accounts(brief())[ANALYTICS.name]

    # Then the first is missing
    assert missing(account) == {lost}


def test_events_from_before_a_service_subscribed_are_not_missing(
    system: AccountedSystem,
) -> None:
    # Given a service that has handled only the last events
    system.publish(5)
    system.handle_all()
    with_all = sorted(e.id for e in system.events())
    system.forget(FRAUD, with_all[:4])

    account = system.accounts(brief())[FRAUD.name]

    assert places(account) == {Place.EARLIER: 4, Place.HANDLED: 2}

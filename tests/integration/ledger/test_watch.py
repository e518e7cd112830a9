"""The ledger in passes, with the permissions of the console."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from amqp import Channel

from common.kombu_topology import ANALYTICS, FRAUD, INVENTORY
from console.broker import state
from console.broker.management import Management
from console.ledger import account, location, watch
from console.ledger.account import Account
from console.ledger.books import Books
from console.ledger.watch import Watch
from console.settings import ConsoleSettings
from testkit.data.accounted import AccountedSystem, missing
from testkit.data.outboxes import CREATED, drain_all, event, record
from testkit.eventually import eventually
from testkit.processes.web_console import settings_of_console
from testkit.servers.infrastructure import Infrastructure

#: Seconds for a search: enough for a proof on a busy machine.
SEARCH = 60.0


class Ledger:
    """The watch of a console, and what it has found."""

    def __init__(self, passes: Watch) -> None:
        self.watch = passes

    def run(self) -> None:
        """Make one pass."""
        self.watch.run(search=SEARCH)

    def missing(self, service: str) -> set[UUID]:
        """Return the events that a service misses."""
        return missing(self._account(service))

    def open(self, service: str) -> set[UUID]:
        """Return the open events of a service."""
        return set(self._account(service).open)

    def _account(self, name: str) -> Account:
        return next(a for a in self.watch.accounts if a.service.name == name)


@pytest.fixture
def ledger(
    system: AccountedSystem, servers: Infrastructure, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledger]:
    """The ledger with the console's users, which reads events without delay."""
    monkeypatch.setattr(watch, "DELAY", 0.0)
    monkeypatch.setattr(watch, "PAUSE", 0.0)
    suffix = system.environment["DATABASE_SUFFIX"]
    settings = ConsoleSettings(**settings_of_console(servers, system.broker, suffix))
    with Books.opened(settings) as books:
        yield Ledger(Watch(settings, books))


def consume(channel: Channel) -> None:
    """Let a worker wait at the queue of the inventory, which must be empty."""
    channel.basic_consume(INVENTORY.queue)


def counted(system: AccountedSystem, *queues: str) -> None:
    """Require the broker to count one message in each of these queues."""
    with Management(system.settings) as broker:
        totals = state.totals(broker)
    assert [totals[queue].get("messages") for queue in queues] == [1] * len(queues)


def test_a_pass_names_what_was_lost_since_the_last(system: AccountedSystem, ledger: Ledger) -> None:
    # Given a pass without a finding, and then a purge
    ledger.run()
    assert not ledger.missing("inventory")
    lost = system.publish(3)
    system.purge(INVENTORY)
    system.handle_all()

    # When a worker waits at the empty queue, and the next pass is made
    with system.broker.connect() as connection:
        consume(connection.channel())
        ledger.run()

    # Then the lost events are named, and stay named
    assert ledger.missing("inventory") == set(lost)
    ledger.run()
    assert ledger.missing("inventory") == set(lost)
    assert not ledger.open("inventory")


def test_a_repaired_event_is_no_longer_missing(system: AccountedSystem, ledger: Ledger) -> None:
    # Given an event that is known to be missing
    (lost,) = system.publish(1)
    system.purge(INVENTORY)
    system.handle_all()
    with system.broker.connect() as connection:
        consume(connection.channel())
        ledger.run()
    assert ledger.missing("inventory") == {lost}

    # When it is handled after all
    system.deliver(INVENTORY, next(e for e in system.events() if e.id == lost))
    ledger.run()

    # Then it is not missing
    assert not ledger.missing("inventory")


def test_an_event_that_is_sent_late_is_examined_then(
    system: AccountedSystem, ledger: Ledger
) -> None:
    # Given an event that is unsent at the first pass
    (late,) = record(system.databases["order"], event(CREATED))
    ledger.run()
    assert not ledger.open("inventory")

    # When it is sent, and lost
    drain_all(system.relay, system.databases["order"])
    system.purge(INVENTORY)
    system.handle_all()
    with system.broker.connect() as connection:
        consume(connection.channel())
        ledger.run()

    # Then it is missing
    assert ledger.missing("inventory") == {late}


def test_events_beyond_the_limit_are_examined_later(
    system: AccountedSystem, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given five events that are unsent at the first pass, and room for two
    record(system.databases["order"], *(event(CREATED) for _ in range(5)))
    ledger.run()
    for module, limit in ((watch, "OPEN_LIMIT"), (account, "OPEN_LIMIT"), (watch, "PAGE")):
        monkeypatch.setattr(module, limit, 2)
    monkeypatch.setattr(location, "PAGE", 2)

    # When they are sent
    drain_all(system.relay, system.databases["order"])
    ledger.watch.run(search=0.0)

    # Then two of them are open, and the others wait
    assert len(ledger.open("inventory")) == 2
    late = [e for e in system.events()[-5:] if e.id not in ledger.open("inventory")]

    # And when one of the others is lost, and the rest is handled
    system.purge(INVENTORY)
    system.handle_all()
    for handled in system.events():
        if handled.id != late[0].id:
            system.deliver(INVENTORY, handled)

    # Then a later pass finds it to be missing
    def found() -> None:
        ledger.run()
        assert ledger.missing("inventory") == {late[0].id}

    with system.broker.connect() as connection:
        consume(connection.channel())
        # The broker's counts, which decide on a search, are up to five seconds old.
        eventually(found)


def test_a_pass_reads_no_event_twice(system: AccountedSystem, ledger: Ledger) -> None:
    # Given a pass over some events
    system.publish(5)
    system.handle_all()
    ledger.run()
    read: list[int] = []
    books = ledger.watch.books
    appended = books.appended
    books.appended = lambda sender, position: (  # type: ignore[method-assign]
        read.append(len(rows := appended(sender, position))) or rows
    )

    # When the next pass is made
    ledger.run()

    # Then it reads none of them
    assert sum(read) == 0


def test_retried_and_parked_events_do_not_cause_a_search(
    system: AccountedSystem, ledger: Ledger
) -> None:
    # Given an event in a retry tier and a parked one, and no other
    system.publish(2)
    system.retry(INVENTORY, 1, 600)
    system.park(INVENTORY, 1)
    system.handle_all()
    eventually(lambda: counted(system, INVENTORY.retry_queue(600), INVENTORY.parking_lot))

    # When passes are made
    ledger.run()
    ledger.run()

    # Then both are open, and no message was taken from the tier for a moment
    assert len(ledger.open("inventory")) == 2
    (retried,) = system.broker.messages(INVENTORY.retry_queue(600))
    assert not retried.headers.get("x-delivery-count")


def test_the_analytics_lack_an_event_if_they_have_a_later_one(
    system: AccountedSystem, ledger: Ledger
) -> None:
    # Given an event that the analytics service has not read at the first pass
    (lost,) = system.publish(1)
    system.handle_queues()
    ledger.run()
    assert ledger.open("analytics") == {lost}

    # When they have read a later one
    system.publish(1)
    system.handle_all()
    system.forget(ANALYTICS, [lost])
    ledger.run()

    # Then the first is missing
    assert ledger.missing("analytics") == {lost}
    assert not ledger.missing(FRAUD.name)

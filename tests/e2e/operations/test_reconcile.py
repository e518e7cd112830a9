"""The ledger with running processes: only lost events are missing, and a repair delivers them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from common.kombu_topology import INVENTORY, NOTIFICATION
from console.ledger import agreement, reconciliation
from console.ledger.account import Account, Place
from console.ledger.agreement import Disagreements
from console.ledger.books import Books
from console.ledger.reconciliation import Effort
from console.ledger.repair import republish
from console.settings import LedgerSettings
from testkit.eventually import eventually
from testkit.processes.stack import ORDER_FLOW, Stack
from testkit.system.ledger_settings import ledger_settings

PIECES = 100_000


@pytest.fixture
def settings(stack: Stack) -> LedgerSettings:
    """The operator's settings for the running system."""
    return ledger_settings(stack)


def read(settings: LedgerSettings, *, search: float) -> tuple[dict[str, Account], Disagreements]:
    """Return the accounts by service, and the disagreements."""
    with Books.opened(settings) as books:
        effort = Effort(search=search)
        accounts = reconciliation.reconcile(settings, books, effort=effort)
        found = agreement.compare(settings, books, since=None, pause=0)
    return {account.service.name: account for account in accounts}, found


@contextmanager
def ordering(stack: Stack, *emails: str) -> Iterator[None]:
    """Let one customer with each of these addresses order continuously during the block."""
    ended = threading.Event()

    def order(email: str) -> None:
        while not ended.is_set():
            stack.place(("TEA", 1), email=email)
            ended.wait(0.2)

    customers = [threading.Thread(target=order, args=(email,)) for email in emails]
    for customer in customers:
        customer.start()
    try:
        yield
    finally:
        ended.set()
        for customer in customers:
            customer.join()


def test_nothing_is_missing_under_load_with_retries(stack: Stack, settings: LedgerSettings) -> None:
    # Given an inventory that fails some orders twice, and others always
    stack.start_failing()
    stack.start(
        *("api", "order-worker", "order-relay", "inventory-relay", "beat"),
        *("notification-worker", "notification-mailer", "fraud-worker", "fraud-relay"),
        "analytics-reader",
    )
    stack.stock(TEA=PIECES)
    stack.decided(stack.place(("TEA", 1)))

    # When the ledger is read several times during the load
    with ordering(stack, "ada@example.com", "twice@example.com", "always@example.com"):
        readings = [read(settings, search=20) for _ in range(3)]

    # Then no event is missing, and no facts disagree
    for accounts, found in readings:
        assert {name: a.counts[Place.MISSING] for name, a in accounts.items()} == dict.fromkeys(
            accounts, 0
        )
        assert found.count == 0, found.listed
    # And parked events are known as such
    assert readings[-1][0]["inventory"].counts[Place.PARKED] > 0


def test_a_purge_is_named_and_repaired(stack: Stack, settings: LedgerSettings) -> None:
    # Given orders whose events were purged from two queues while the workers were down, and no
    # fraud check, whose events would have been in one of them
    stack.start(*ORDER_FLOW, "notification-worker", "notification-mailer", "analytics-reader")
    stack.stock(TEA=PIECES)
    before = stack.place(("TEA", 1))
    assert stack.decided(before)[0] == "CONFIRMED"
    eventually(lambda: _mailed(stack))
    stack.kill("inventory-worker")
    stack.kill("notification-worker")
    lost = {stack.place(("TEA", 1)) for _ in range(5)}
    eventually(lambda: _sent(stack))
    for queue in (INVENTORY.queue, NOTIFICATION.queue):
        stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{queue}/contents")
    stack.start("inventory-worker", "notification-worker")

    # When the ledger is read
    accounts, _ = read(settings, search=90)

    # Then exactly these events are missing, for both services
    sql = (
        "SELECT event_id FROM outbox WHERE type LIKE 'order.created%' AND subject::text = ANY(:ids)"
    )
    expected = set(stack.execute("order", sql, ids=list(lost)))
    for service in ("inventory", "notification"):
        assert {event.id for event in accounts[service].missing} == expected

    # And a repair decides the orders, each once
    with Books.opened(settings) as books:
        repaired = list(republish(settings, books, list(accounts.values())))
    assert len(repaired) == 10
    assert {stack.decided(order_id) for order_id in lost} == {("CONFIRMED", None)}
    assert stack.reserved("TEA") == 6
    eventually(lambda: _clear(settings))


def _mailed(stack: Stack) -> None:
    # Received and confirmed: nothing of the first order is in flight.
    assert stack.execute("notification", "SELECT count(*) FROM inbox") == [2]


def _sent(stack: Stack) -> None:
    assert stack.execute("order", "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [0]


def _clear(settings: LedgerSettings) -> None:
    accounts, found = read(settings, search=30)
    assert not any(account.missing for account in accounts.values())
    assert found.count == 0, found.listed

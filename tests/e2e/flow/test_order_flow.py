"""An order in the real processes, from POST to its outcome and its emails."""

import pytest

from testkit.eventually import eventually
from testkit.processes.stack import Stack


@pytest.fixture(scope="module")
def running(shared_stack: Stack) -> Stack:
    """A running system, in which each test has its own SKUs and its own customer."""
    shared_stack.start()
    return shared_stack


def test_an_order_in_stock_is_confirmed_and_reserved(running: Stack) -> None:
    # Given stock
    running.stock(TEA=10)

    # When a customer orders some of it
    order_id = running.place(("TEA", 3), email="ada@example.com")

    # Then the order is confirmed, its stock is reserved, and the customer receives two emails
    assert running.decided(order_id) == ("CONFIRMED", None)
    assert running.reserved("TEA") == 3

    def mailed() -> None:
        mails = running.mails("ada@example.com")
        assert len(mails) == 2, mails
        subjects = [str(m["Subject"]) for m in running.mailbox.messages]
        assert [subject for subject in subjects if order_id in subject] == mails

    eventually(mailed)

    # And each service received the order once
    for worker in ("inventory-worker", "notification-worker"):
        assert running.deliveries(worker, "order.created", order_id) == 1


def test_an_order_out_of_stock_is_cancelled(running: Stack) -> None:
    # Given a shortage of one of two SKUs
    running.stock(JAR=10, MUG=1)

    # When a customer orders both
    order_id = running.place(("JAR", 3), ("MUG", 2), email="bob@example.com")

    # Then the order is cancelled, nothing is reserved, and the customer receives two emails
    assert running.decided(order_id) == ("CANCELLED", "out_of_stock")
    assert (running.reserved("JAR"), running.reserved("MUG")) == (0, 0)
    eventually(lambda: _assert_mails(running, "bob@example.com", 2))


def test_a_cancelled_order_releases_its_stock(running: Stack) -> None:
    # Given a confirmed order
    running.stock(CUP=10)
    order_id = running.place(("CUP", 3), email="eve@example.com")
    assert running.decided(order_id) == ("CONFIRMED", None)

    # When the customer cancels it, twice
    first, second = running.cancel(order_id), running.cancel(order_id)

    # Then it is cancelled once, and nothing remains reserved
    assert (first.status_code, second.status_code) == (200, 200)
    assert running.decided(order_id) == ("CANCELLED", "customer")
    eventually(lambda: _assert_reserved(running, "CUP", 0))
    eventually(lambda: _assert_mails(running, "eve@example.com", 3))


def test_an_order_cancelled_before_its_decision_reserves_nothing(stack: Stack) -> None:
    # Given an order that the inventory has not received yet
    stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat")
    stack.stock(TEA=10)
    order_id = stack.place(("TEA", 3))

    # When the customer cancels it before the inventory starts
    assert stack.cancel(order_id).json()["status"] == "CANCELLED"
    stack.start("inventory-worker")

    # Then the inventory handles both events, and reserves nothing
    def settled() -> None:
        types = stack.execute("inventory", "SELECT type FROM inbox")
        assert sorted(types) == ["order.cancelled", "order.created"]

    eventually(settled)
    assert stack.reserved("TEA") == 0
    assert stack.order(order_id)["status"] == "CANCELLED"


def test_an_undecided_order_is_cancelled_at_its_deadline(stack: Stack) -> None:
    # Given a system without an inventory, and a short deadline
    stack.extra["ORDER_DEADLINE"] = "1"
    stack.start("api", "order-worker", "order-relay", "beat")
    stack.stock(TEA=10)

    # When an order reaches its deadline
    order_id = stack.place(("TEA", 3))

    # Then it is cancelled, and an inventory that starts later reserves nothing for it
    assert stack.decided(order_id) == ("CANCELLED", "deadline")
    stack.start("inventory-worker", "inventory-relay")

    def settled() -> None:
        types = stack.execute("inventory", "SELECT type FROM inbox")
        assert sorted(types) == ["order.cancelled", "order.created"]

    eventually(settled)
    assert stack.reserved("TEA") == 0
    assert stack.order(order_id)["reason"] == "deadline"


def test_a_shipped_order_leaves_the_stock_and_cannot_be_cancelled(running: Stack) -> None:
    # Given a confirmed order
    running.stock(POT=10)
    order_id = running.place(("POT", 3), email="grace@example.com")
    assert running.decided(order_id) == ("CONFIRMED", None)

    # When it is shipped, twice, and then the customer cancels it
    first, second = running.ship(order_id), running.ship(order_id)
    late = running.cancel(order_id)

    # Then it is shipped once, and the customer receives one email about it
    assert (first.status_code, second.status_code, late.status_code) == (200, 200, 409)
    assert first.json() == second.json()

    def deducted() -> None:
        query = "SELECT on_hand || ' ' || reserved FROM stock WHERE sku = 'POT'"
        assert running.execute("inventory", query) == ["7 0"]

    eventually(deducted)
    eventually(lambda: _assert_mails(running, "grace@example.com", 3))
    assert running.mails("grace@example.com")[-1] == f"Your order {order_id} is on its way"

    # And its timeline contains each of its events once
    with running.client as client:
        events = client.get(f"/orders/{order_id}/timeline").json()["events"]
    assert [event["type"] for event in events] == [
        "order.created",
        "stock.reserved",
        "order.confirmed",
        "order.shipped",
    ]


def _assert_mails(stack: Stack, email: str, count: int) -> None:
    assert len(stack.mails(email)) == count, stack.mails(email)


def _assert_reserved(stack: Stack, sku: str, count: int) -> None:
    assert stack.reserved(sku) == count

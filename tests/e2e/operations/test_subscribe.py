"""A service that joins under load: each event has one effect, and history sends no email."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.kombu_topology import FRAUD, NOTIFICATION
from console.orderctl import main
from eventbus.topology.service import Service
from testkit.eventually import becomes, eventually
from testkit.processes.stack import ORDER_FLOW_WITH_MAILS, RETRY_TIERS, Stack

#: Seconds between two orders of a customer.
PAUSE = 0.1


class Orders:
    """Customers who order continuously; `ids` are the orders that the API accepted."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.ids: list[str] = []

    @contextmanager
    def flowing(self, customers: int = 4) -> Iterator[None]:
        """Place orders during the block."""
        threads = [threading.Thread(target=self._order, args=(n,)) for n in range(customers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until this many more orders are placed."""
        target = len(self.ids) + more

        def placed() -> None:
            assert len(self.ids) >= target

        eventually(placed)

    def _order(self, customer: int) -> None:
        while not self._ended.is_set():
            placed = self._stack.place(("TEA", 1), email=f"{customer}@example.com")
            with self._lock:
                self.ids.append(placed)
            self._ended.wait(PAUSE)


@pytest.fixture
def orderctl(stack: Stack, tmp_path: Path) -> Callable[..., str]:
    """A function that runs `orderctl` and returns its output."""
    environment: Mapping[str, str] = {
        "ORDERS_ENV_FILE": str(stack.servers.operator_environment),
        "BROKER_VHOST": stack.vhost.name,
        "BROKER_PORT": str(stack.vhost.amqp_port),
        "RETRY_TIERS": ",".join(str(seconds) for seconds in RETRY_TIERS),
    }

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def remove(stack: Stack, service: Service) -> None:
    """Delete the queues and the exchange of a service from the broker."""
    for queue in stack.vhost.request("GET", f"/queues/{stack.vhost.name}").json():
        if queue["name"].startswith(f"{service.name}."):
            stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{queue['name']}")
    stack.vhost.request("DELETE", f"/exchanges/{stack.vhost.name}/{service.retry_exchange}")


def handled(stack: Stack, service: Service, event_type: str = "order.created") -> list[str]:
    """Return the ids of the events of a type in a service's inbox."""
    sql = "SELECT event_id::text FROM inbox WHERE type = :type"
    return sorted(stack.execute(service.name, sql, type=event_type))


def recorded(stack: Stack, event_type: str = "order.created") -> list[str]:
    """Return the ids of the events of a type in the order service's outbox."""
    sql = "SELECT event_id::text FROM outbox WHERE type = :type"
    return sorted(stack.execute("order", sql, type=event_type))


def drained(stack: Stack, *services: Service) -> None:
    """Wait until no event is unsent, and the queues of these services are empty."""

    def empty() -> None:
        assert stack.execute("order", "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [0]
        for service in services:
            assert stack.vhost.depth(service.queue) == 0
            assert stack.vhost.depth(service.parking_lot) == 0
            for tier in RETRY_TIERS:
                assert stack.vhost.depth(service.retry_queue(tier)) == 0

    eventually(empty)


def test_a_service_that_joins_under_load_handles_each_event_once(
    stack: Stack, orderctl: Callable[..., str]
) -> None:
    # Given a shop without a fraud check
    stack.stock(TEA=1_000_000)
    remove(stack, FRAUD)
    stack.start(*ORDER_FLOW_WITH_MAILS)
    orders = Orders(stack)
    with orders.flowing():
        orders.wait_for(60)

        # When it joins under load
        stack.start("fraud-relay")
        output = orderctl("subscribe", "fraud", "--from", "first")
        stack.start("fraud-worker")
        orders.wait_for(60)

    # Then it handles every order since the first, each once
    event_ids = recorded(stack)
    assert len(event_ids) == len(orders.ids) > 120

    def all_handled() -> None:
        assert handled(stack, FRAUD) == event_ids

    eventually(all_handled)
    assert "events of history delivered to fraud.queue" in output
    judged = "SELECT order_id::text FROM judgements"
    assert sorted(stack.execute("fraud", judged)) == sorted(orders.ids)

    # And the events from before are marked as replayed, the others are not
    marks = stack.execute("fraud", "SELECT replayed FROM judgements")
    assert marks.count(True) >= 60
    assert marks.count(False) >= 60

    # When history is replayed again, then nothing changes
    before = stack.execute("fraud", "SELECT count(*) FROM outbox")
    orderctl("subscribe", "fraud", "--from", "first")
    drained(stack, FRAUD)
    assert handled(stack, FRAUD) == event_ids
    assert stack.execute("fraud", "SELECT count(*) FROM judgements") == [len(event_ids)]
    assert stack.execute("fraud", "SELECT count(*) FROM outbox") == before
    outcomes = _outcomes(stack.log("fraud-worker"))
    assert outcomes["handled"] == len(event_ids)
    assert outcomes["duplicate"] >= len(event_ids)


def test_history_sends_no_mail(stack: Stack, orderctl: Callable[..., str]) -> None:
    # Given orders whose emails were sent, to customers and the operator
    stack.extra |= {"FRAUD_AMOUNTS": "EUR:400", "OPERATOR_EMAIL": "ops@shop.example"}
    stack.stock(TEA=1_000)
    stack.start()
    first = [stack.place(("TEA", 1), email=f"{n}@example.com") for n in range(10)]

    def three_mails_each() -> None:
        assert len(stack.mailbox.messages) == 3 * len(first)

    eventually(three_mails_each)

    # When both services have lost their data, and history is replayed to them
    for service, table in ((NOTIFICATION, "notifications"), (FRAUD, "judgements, outbox")):
        stack.execute(service.name, f"TRUNCATE inbox, {table}")
    orderctl("subscribe", "fraud", "--from", "first")
    becomes(lambda: handled(stack, FRAUD), recorded(stack))
    relayed = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL"
    becomes(lambda: stack.execute("fraud", relayed), [len(first)])
    orderctl("subscribe", "notification", "--from", "first")
    drained(stack, NOTIFICATION)

    # Then each email is recorded, to customers and the operator, and held
    statuses = "SELECT DISTINCT status FROM notifications"
    count = "SELECT count(*) FROM notifications"
    becomes(lambda: stack.execute("notification", count), [3 * len(first)])
    assert stack.execute("notification", statuses) == ["HELD"]

    # And the emails of a new order are sent: the held emails would have been sent before them
    latest = stack.place(("TEA", 1), email="latest@example.com")
    confirmed = [f"We have received your order {latest}", f"Your order {latest} is confirmed"]
    becomes(lambda: stack.mails("latest@example.com"), confirmed)
    suspected = f"Order {latest} looks like fraud"
    eventually(lambda: _contains(stack.mails("ops@shop.example"), suspected))
    assert len(stack.mailbox.messages) == 3 * len(first) + 3


def _outcomes(log: str) -> dict[str, int]:
    outcomes: dict[str, int] = {}
    for text in log.splitlines():
        if '"event received"' in text:
            outcome = json.loads(text)["outcome"]
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def _contains(texts: list[str], expected: str) -> None:
    assert expected in texts

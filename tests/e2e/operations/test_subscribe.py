"""A service joins while orders keep coming: each event has one effect, and no old mail goes out."""

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
from testkit.eventually import eventually
from testkit.processes.stack import RETRY_TIERS, Stack

#: Of the fraud check nothing runs, and nothing is on the broker, before it joins.
BEFORE_FRAUD = (
    "api",
    "order-worker",
    "order-relay",
    "inventory-worker",
    "inventory-relay",
    "notification-worker",
    "notification-mailer",
    "beat",
)


class Orders:
    """Customers who keep ordering; `ids` are the orders that were answered with 201."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.ids: list[str] = []

    @contextmanager
    def flowing(self, customers: int = 4) -> Iterator[None]:
        """Let them order for as long as the block lasts."""
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
        """Wait until so many more orders were placed."""
        target = len(self.ids) + more

        def placed() -> None:
            assert len(self.ids) >= target

        eventually(placed)

    def _order(self, customer: int) -> None:
        while not self._ended.is_set():
            placed = self._stack.place(("TEA", 1), email=f"{customer}@example.com")
            with self._lock:
                self.ids.append(placed)


@pytest.fixture
def orderctl(stack: Stack, tmp_path: Path) -> Callable[..., str]:
    """Run `orderctl`; returns what it prints."""
    environment: Mapping[str, str] = {
        "ORDERS_ENV_FILE": str(stack.servers.operator_environment),
        "BROKER_VHOST": stack.vhost.name,
        "BROKER_PORT": str(stack.vhost.amqp_port),
        "RETRY_TIERS": ",".join(str(seconds) for seconds in RETRY_TIERS),
    }

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, arguments, env=environment)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def remove(stack: Stack, service: Service) -> None:
    """Leave nothing of a service on the broker, as if it had never been there."""
    for queue in stack.vhost.request("GET", f"/queues/{stack.vhost.name}").json():
        if queue["name"].startswith(f"{service.name}."):
            stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{queue['name']}")
    stack.vhost.request("DELETE", f"/exchanges/{stack.vhost.name}/{service.retry_exchange}")


def handled(stack: Stack, service: Service, event_type: str = "order.created") -> list[str]:
    """The ids of the events of a type that a service has handled, by its inbox."""
    sql = "SELECT event_id::text FROM inbox WHERE type = :type"
    return sorted(stack.execute(service.name, sql, type=event_type))


def told(stack: Stack, event_type: str = "order.created") -> list[str]:
    """The ids of all events of a type that the order service has ever told."""
    sql = "SELECT event_id::text FROM outbox WHERE type = :type"
    return sorted(stack.execute("order", sql, type=event_type))


def drained(stack: Stack, *services: Service) -> None:
    """Wait until nothing is on its way."""

    def still() -> None:
        assert stack.execute("order", "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [0]
        for service in services:
            assert stack.vhost.depth(service.queue) == 0
            assert stack.vhost.depth(service.parking_lot) == 0
            for tier in RETRY_TIERS:
                assert stack.vhost.depth(service.retry_queue(tier)) == 0

    eventually(still)


def test_a_service_that_joins_under_load_handles_every_event_once(
    stack: Stack, orderctl: Callable[..., str]
) -> None:
    # given a shop without a fraud check
    stack.stock(TEA=1_000_000)
    remove(stack, FRAUD)
    stack.start(*BEFORE_FRAUD)
    orders = Orders(stack)
    with orders.flowing():
        orders.wait_for(60)

        # when it joins while orders keep coming
        stack.start("fraud-relay")
        said = orderctl("subscribe", "fraud", "--from", "first")
        stack.start("fraud-worker")
        orders.wait_for(60)

    # then it has handled every order from the first to the last, and each once
    every = told(stack)
    assert len(every) == len(orders.ids) > 120

    def all_of_them() -> None:
        assert handled(stack, FRAUD) == every

    eventually(all_of_them)
    assert "events of history delivered to fraud.queue" in said
    judged = "SELECT order_id::text FROM judgements"
    assert sorted(stack.execute("fraud", judged)) == sorted(orders.ids)

    # and history is what was before, the present what came live
    marks = stack.execute("fraud", "SELECT replayed FROM judgements")
    assert marks.count(True) >= 60
    assert marks.count(False) >= 60

    # when it is told all of it once more, then nothing changes
    before = stack.execute("fraud", "SELECT count(*) FROM outbox")
    orderctl("subscribe", "fraud", "--from", "first")
    drained(stack, FRAUD)
    assert handled(stack, FRAUD) == every
    assert stack.execute("fraud", "SELECT count(*) FROM judgements") == [len(every)]
    assert stack.execute("fraud", "SELECT count(*) FROM outbox") == before
    outcomes = _outcomes(stack.log("fraud-worker"))
    assert outcomes["handled"] == len(every)
    assert outcomes["duplicate"] >= len(every)


def test_nobody_gets_a_mail_because_of_history(stack: Stack, orderctl: Callable[..., str]) -> None:
    # given orders whose mails have left, and one operator
    stack.extra |= {"FRAUD_AMOUNTS": "EUR:400", "OPERATOR_EMAIL": "ops@shop.example"}
    stack.stock(TEA=1_000)
    stack.start()
    first = [stack.place(("TEA", 1), email=f"{n}@example.com") for n in range(10)]

    def three_mails_each() -> None:
        assert len(stack.mailbox.messages) == 3 * len(first)

    eventually(three_mails_each)

    # when the notification service and the fraud check have lost all that they knew
    for service, table in ((NOTIFICATION, "notifications"), (FRAUD, "judgements, outbox")):
        stack.execute(service.name, f"TRUNCATE inbox, {table}")
    orderctl("subscribe", "fraud", "--from", "first")
    eventually(lambda: _equal(handled(stack, FRAUD), told(stack)))
    relayed = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL"
    eventually(lambda: _equal(stack.execute("fraud", relayed), [len(first)]))
    orderctl("subscribe", "notification", "--from", "first")
    drained(stack, NOTIFICATION)

    # then each mail is recorded, of customers and of the operator, and not one is sent
    statuses = "SELECT DISTINCT status FROM notifications"
    recorded = "SELECT count(*) FROM notifications"
    eventually(lambda: _equal(stack.execute("notification", recorded), [3 * len(first)]))
    assert stack.execute("notification", statuses) == ["HELD"]

    # and an order that comes now has all its mails, so that those would have left before
    latest = stack.place(("TEA", 1), email="latest@example.com")
    confirmed = [f"We have received your order {latest}", f"Your order {latest} is confirmed"]
    eventually(lambda: _equal(stack.mails("latest@example.com"), confirmed))
    suspected = f"Order {latest} looks like fraud"
    eventually(lambda: _contains(stack.mails("ops@shop.example"), suspected))
    assert len(stack.mailbox.messages) == 3 * len(first) + 3


def _outcomes(log: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in log.splitlines():
        if '"event received"' in text:
            outcome = json.loads(text)["outcome"]
            found[outcome] = found.get(outcome, 0) + 1
    return found


def _equal(found: object, expected: object) -> None:
    assert found == expected


def _contains(found: list[str], expected: str) -> None:
    assert expected in found

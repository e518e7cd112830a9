"""An event that is delivered many times has one effect."""

import json
from collections import Counter
from uuid import uuid4

from common.events import Line, OrderCreated
from common.kombu_topology import EVENTS
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing
from eventbus.messaging.publisher import ConfirmingPublisher
from testkit.eventually import eventually
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import Stack


def test_fifty_deliveries_to_two_workers_have_one_effect(stack: Stack) -> None:
    # Given two workers of each service
    stack.stock(TEA=100)
    stack.start("inventory-worker", "notification-worker", "notification-mailer", "beat")
    stack.start("inventory-worker", alias="second-inventory-worker")
    stack.start("notification-worker", alias="second-notification-worker")

    # When an event is published fifty times
    line = Line(sku="TEA", quantity=3, unit_price=500)
    event = Event(
        source="order",
        subject=uuid4(),
        sequence=1,
        data=OrderCreated(
            customer_email="ada@example.com", currency="EUR", total=1500, lines=(line,)
        ),
    )
    outgoing = Outgoing(event.id, event.type, codec.encode(event).decode(), event.subject)
    publisher = ConfirmingPublisher(
        stack.vhost.amqp_url,
        tls=stack.vhost.tls,
        service="order",
        user=stack.vhost.admin_user,
        exchange=EVENTS.name,
        heartbeat=30,
    )
    report = publish_and_settle(publisher, [outgoing] * 50)
    publisher.close()
    assert report.error is None

    # Then the two workers of each service handle one delivery and drop the other 49
    def delivered() -> None:
        for service in ("inventory", "notification"):
            assert outcomes(stack, service) == {"handled": 1, "duplicate": 49}
        assert stack.mails() != []

    eventually(delivered)
    assert stack.execute("inventory", "SELECT count(*) FROM inbox") == [1]
    assert stack.execute("notification", "SELECT count(*) FROM notifications") == [1]
    assert stack.reserved("TEA") == 3
    assert len(stack.mails()) == 1
    for worker in ("inventory-worker", "second-inventory-worker"):
        assert '"outcome":"duplicate"' in stack.log(worker)


def outcomes(stack: Stack, service: str) -> Counter[str]:
    """Return the outcomes of the deliveries in the logs of a service's two workers."""
    logs = "\n".join(stack.log(f"{prefix}{service}-worker") for prefix in ("", "second-"))
    lines = (json.loads(line) for line in logs.splitlines() if line.startswith("{"))
    return Counter(line["outcome"] for line in lines if "outcome" in line)


def test_two_beats_and_two_relays_publish_each_event_once(stack: Stack) -> None:
    # Given two of each process that works by the clock
    stack.stock(TEA=100)
    stack.start("api", "order-worker", "inventory-worker")
    for number in ("first", "second"):
        stack.start("beat", alias=f"{number}-beat")
        stack.start("order-relay", alias=f"{number}-order-relay")
        stack.start("inventory-relay", alias=f"{number}-inventory-relay")

    # When orders are placed
    orders = [stack.place(("TEA", 1)) for _ in range(30)]

    # Then each order is decided, and each of its events was delivered once
    assert [stack.decided(order_id) for order_id in orders] == [("CONFIRMED", None)] * 30
    assert stack.deliveries("inventory-worker", "order.created") == 30
    assert stack.deliveries("order-worker", "stock.reserved") == 30

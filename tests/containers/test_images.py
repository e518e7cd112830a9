"""The behaviour that depends on the broker's version, on the images that are deployed."""

from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from common.events import EVENTS, Line, OrderCreated
from common.kombu_topology import CONSUMERS, SERVICES
from common.kombu_topology import EVENTS as EXCHANGE
from eventbus.consumer.failure import Failure
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing, Report
from eventbus.messaging.publisher import ConfirmingPublisher
from testkit.eventually import eventually
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.servers.infrastructure import Infrastructure


@pytest.fixture
def failing(stack: Stack, tmp_path: Path) -> Stack:
    """A system whose inventory fails as the customer's address specifies, without emails."""
    (tmp_path / "attempts").mkdir()
    stack.extra["ATTEMPTS"] = str(tmp_path / "attempts")
    stack.stock(TEA=10)
    stack.start("inventory-worker", module="testkit.programs.failing.inventory_worker")
    stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat")
    return stack


def test_the_servers_reject_clients_without_tls(servers: Infrastructure) -> None:
    # When a client with the password connects without TLS, then the database rejects it
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        psycopg2.connect(
            host="127.0.0.1",
            port=servers.postgres_port,
            user="postgres",
            password=servers.postgres_password,
            dbname="postgres",
            sslmode="disable",
        )

    # And the broker does not respond
    plain = f"amqp://deployer:{servers.deployer_password}@127.0.0.1:{servers.amqp_port}/orders"
    with pytest.raises(OperationalError), Connection(plain, connect_timeout=5) as connection:
        connection.ensure_connection(max_retries=1, timeout=5)


def test_an_order_in_stock_is_confirmed_and_mailed(stack: Stack) -> None:
    # Given a running system with stock
    stack.start()
    stack.stock(TEA=10)

    # When a customer orders some of it
    order_id = stack.place(("TEA", 3))

    # Then it is confirmed and reserved, and the customer receives two emails
    assert stack.decided(order_id) == ("CONFIRMED", None)
    assert stack.reserved("TEA") == 3

    def mailed() -> None:
        assert len(stack.mails()) == 2, stack.mails()

    eventually(mailed)


def test_an_event_is_routed_to_the_queues_of_its_consumers(stack: Stack) -> None:
    for event_type in EVENTS:
        # Given the depth of each queue
        before = {service.name: stack.vhost.depth(service.queue) for service in CONSUMERS}
        publisher = next(s.name for s in SERVICES if event_type in s.published_types)

        # When an event of a type is published
        report = _publish(stack, publisher, [Outgoing(uuid4(), event_type, "{}", uuid4())])
        assert report.error is None

        # Then the queue of each consumer has one message more
        after = {service.name: stack.vhost.depth(service.queue) for service in CONSUMERS}
        assert after == {
            service.name: before[service.name] + (event_type in service.consumed_types)
            for service in CONSUMERS
        }, event_type


def test_fifty_deliveries_of_an_event_have_one_effect(stack: Stack) -> None:
    # Given a running inventory
    stack.stock(TEA=100)
    stack.start("inventory-worker")

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
    report = _publish(stack, "order", [outgoing] * 50)
    assert report.error is None

    # Then one delivery is handled, and the others are duplicates
    def handled() -> None:
        assert stack.vhost.depth("inventory.queue") == 0
        assert stack.log("inventory-worker").count('"outcome":"duplicate"') == 49

    eventually(handled)
    assert stack.reserved("TEA") == 3
    assert stack.execute("inventory", "SELECT count(*) FROM inbox") == [1]


def test_an_event_that_fails_twice_is_retried(failing: Stack) -> None:
    # When the handler fails twice
    order_id = failing.place(("TEA", 1), email="twice@example.com")

    # Then the third attempt confirms the order, and nothing is parked
    assert failing.decided(order_id) == ("CONFIRMED", None)
    assert failing.reserved("TEA") == 1
    assert failing.vhost.depth("inventory.dlq") == 0


def test_an_event_that_always_fails_is_parked_with_its_reason(failing: Stack) -> None:
    # When the handler fails at every attempt
    failing.place(("TEA", 1), email="always@example.com")

    # Then the event is parked after the last tier
    failure = eventually(lambda: _parked(failing))
    assert failure.attempts == len(RETRY_TIERS) + 1
    assert (failure.service, failure.text) == ("inventory", "the shelf is locked")


def test_an_event_that_crashes_its_child_is_parked(failing: Stack) -> None:
    # When the handler kills its process at every attempt
    failing.place(("TEA", 1), email="kill@example.com")

    # Then the event is parked after the last tier
    failure = eventually(lambda: _parked(failing))
    assert failure.attempts == len(RETRY_TIERS) + 1
    assert (failure.service, failure.exception) == ("inventory", "WorkerLostError")


def test_a_killed_broker_keeps_confirmed_messages(stack: Stack) -> None:
    # Given a queued event
    stack.stock(TEA=10)
    stack.start("api", "order-relay", "order-worker", "beat")
    order_id = stack.place(("TEA", 1))

    def queued() -> None:
        assert stack.vhost.depth("inventory.queue") == 1

    eventually(queued)

    # When the broker is killed and restarted, and then the workers start
    stack.servers.stop_broker()
    stack.servers.start_broker()
    stack.start("inventory-worker", "inventory-relay")

    # Then the order is confirmed
    assert stack.decided(order_id) == ("CONFIRMED", None)


def _publish(stack: Stack, service: str, events: list[Outgoing]) -> Report:
    publisher = ConfirmingPublisher(
        stack.vhost.amqp_url,
        tls=stack.vhost.tls,
        service=service,
        user=stack.vhost.admin_user,
        exchange=EXCHANGE.name,
        heartbeat=30,
    )
    try:
        return publish_and_settle(publisher, events)
    finally:
        publisher.close()


def _parked(failing: Stack) -> Failure:
    """Return the failure of the only message in the parking lot."""
    messages = failing.vhost.messages("inventory.dlq")
    assert len(messages) == 1
    failure = Failure.from_headers(messages[0].headers)
    assert failure is not None
    return failure

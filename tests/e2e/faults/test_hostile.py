"""Thousands of hostile messages: each is handled or parked, and no process stops."""

import json
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from analytics_worker import position
from analytics_worker.models import SkippedRow
from common.kombu_topology import CONSUMERS, STREAM
from console.orderctl import main
from eventbus.consumer.inbox import inbox
from eventbus.database.db import transaction
from eventbus.topology.objects import tick_queue
from eventbus.topology.service import Service
from testkit.eventually import eventually
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.wire.corpus import Message, messages
from testkit.wire.publisher import Refused, wire_publisher

WORKERS = tuple(f"{service.name}-worker" for service in CONSUMERS)

LINES = [{"sku": "TEA", "quantity": 1, "unit_price": 500}]
CREATED = {"customer_email": "ada@example.com", "currency": "EUR", "total": 500, "lines": LINES}
REJECTED = {"shortages": [{"sku": "TEA", "requested": 2, "available": 1}]}

#: The event type that each service receives, its publisher and its data.
EVENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "inventory": ("order.created", "order", CREATED),
    "notification": ("order.created", "order", CREATED),
    "fraud": ("order.created", "order", CREATED),
    "order": ("stock.rejected", "inventory", REJECTED),
}

#: The maximum number of unconfirmed messages.
WINDOW = 200

#: The maximum memory of a process in MB. A prefetch of 400 large bodies is 100 MB.
MEMORY_LIMIT = 500

#: Seconds that a slow machine may take for one message, including its retries.
PATIENCE = 0.5


@pytest.mark.timeout(100_000)
def test_workers_handle_or_park_each_hostile_message(
    stack: Stack, pytestconfig: pytest.Config, operator_env: dict[str, str]
) -> None:
    # Given all workers
    stack.stock(TEA=1_000_000_000)
    stack.start(*(name for name in WORKERS if name != "order-worker"))
    # Its handler rejects every good message, because the order does not exist.
    stack.extra["PARKING_BURST_LIMIT"] = "0"
    stack.start("order-worker")
    before = stack.pids()

    # When each receives hostile messages, with some good ones among them
    count = pytestconfig.getoption("hostile") // len(CONSUMERS)
    seed = pytestconfig.getoption("hostile_seed")
    sent = {
        service.name: _send(stack, service, seed + number, count)
        for number, service in enumerate(CONSUMERS)
    }

    # Then each message is in the inbox or the parking lot, and the queues are empty
    for service in CONSUMERS:
        eventually(
            lambda s=service: _accounted(stack, s, sent[s.name]), within=120 + count * PATIENCE
        )

    # And no process has exited, including children
    assert stack.pids() == before, _logs(stack)
    assert max(_megabytes(pid) for pids in before.values() for pid in pids) < MEMORY_LIMIT

    # And `orderctl` lists every parked message
    environment = operator_env | {"BROKER_VHOST": stack.vhost.name}
    for service in CONSUMERS:
        listed = CliRunner().invoke(
            main,
            ["parked", "list", service.name, "--json", "--limit", "10000000"],
            env=environment,
        )
        assert listed.exit_code == 0, listed.output
        assert len(json.loads(listed.stdout)) == stack.vhost.depth(service.parking_lot)


@pytest.mark.timeout(100_000)
def test_the_stream_reader_passes_each_hostile_message(
    stack: Stack, pytestconfig: pytest.Config
) -> None:
    # Given a running reader
    stack.start("beat", "analytics-reader")
    before = stack.pids()

    # When the stream contains hostile messages, and a good one at its end
    count = pytestconfig.getoption("hostile") // len(CONSUMERS)
    created = {"order.created": ("order", CREATED)}
    published = list(messages(pytestconfig.getoption("hostile_seed"), count, created))
    published += list(messages(99, 1, created))
    confirmed = _send_each(stack, STREAM, published)
    assert confirmed[-1] is published[-1]

    # Then the reader reaches the last one
    def read() -> None:
        _running(stack)
        with transaction(stack.sessions("analytics")) as session:
            ids = set(session.scalars(select(inbox.c.event_id)))
            assert UUID(published[-1].event_id) in ids
            skipped = len(session.scalars(select(SkippedRow.stream_offset)).all())
            reached = position.read(session)
        assert reached
        assert len(ids) + skipped >= len(confirmed)
        assert {UUID(m.event_id) for m in confirmed if m.kind == "good"} <= ids

    eventually(read, within=120 + count * PATIENCE)
    assert stack.pids() == before, _logs(stack)


@pytest.mark.timeout(100_000)
def test_tick_consumers_drop_each_hostile_message(
    stack: Stack, pytestconfig: pytest.Config
) -> None:
    # Given every process that consumes ticks
    ticking = ("order-relay", "inventory-relay", "fraud-relay", "notification-mailer")
    stack.start("beat", "api", *ticking, "analytics-reader")
    before = stack.pids()

    # When hostile messages arrive in their tick queues
    count = min(pytestconfig.getoption("hostile") // 10, 2_000)
    for service in CONSUMERS:
        for tick in service.ticks:
            hostile = messages(7, count, {"order.created": ("order", CREATED)}, good=10**9)
            _send_each(stack, tick_queue(service, tick).name, list(hostile))

    # Then they continue: the event of an order is published
    order_id = stack.place(("TEA", 1))
    eventually(lambda: _sent(stack, order_id))
    after = stack.pids()
    assert after == before, _logs(stack)


def _send(stack: Stack, service: Service, seed: int, count: int) -> list[Message]:
    event_type, source, data = EVENTS[service.name]
    published = list(messages(seed, count, {event_type: (source, data)}))
    with wire_publisher(stack.vhost) as publisher:
        for message in published:
            publisher.publish("", service.queue, message.properties, message.body)
            publisher.settle(at_most=WINDOW)
        publisher.settle()
    return published


def _send_each(stack: Stack, queue: str, published: list[Message]) -> list[Message]:
    """Publish one message at a time, and return those that the broker has not refused.

    RabbitMQ 3.10 cannot convert every type of header for a stream.
    """
    confirmed: list[Message] = []
    remaining = iter(published)
    is_done = False
    while not is_done:
        with wire_publisher(stack.vhost) as publisher, suppress(Refused):
            for message in remaining:
                publisher.publish("", queue, message.properties, message.body)
                publisher.settle()
                confirmed.append(message)
            is_done = True
    return confirmed


def _accounted(stack: Stack, service: Service, sent: list[Message]) -> None:
    _running(stack)
    for queue in (service.queue, *(service.retry_queue(tier) for tier in RETRY_TIERS)):
        assert stack.vhost.depth(queue) == 0, queue
    with transaction(stack.sessions(service.name)) as session:
        handled = set(session.scalars(select(inbox.c.event_id)))
    parked = stack.vhost.depth(service.parking_lot)
    assert len(handled) + parked == len(sent), _kinds(sent, handled)
    if service.name != "order":
        assert {UUID(m.event_id) for m in sent if m.kind == "good"} <= handled


def _running(stack: Stack) -> None:
    """Raise at once if a process has exited: the condition would never hold."""
    for name in stack.pids():
        if not stack.is_running(name):
            raise RuntimeError(f"{name} ended: {stack.log(name)[-3_000:]}")


def _kinds(sent: list[Message], handled: set[UUID]) -> str:
    kinds = Counter(m.kind for m in sent if UUID(m.event_id) not in handled)
    return f"not handled: {kinds.most_common()}"


def _sent(stack: Stack, order_id: str) -> None:
    _running(stack)
    unsent = "SELECT count(*) FROM outbox WHERE subject = :id AND sent_at IS NULL"
    assert stack.execute("order", unsent, id=order_id) == [0]


def _megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = defaultdict(str, (line.split(":", 1) for line in status.splitlines()))
    return int(fields["VmRSS"].split()[0] or 0) / 1024 if fields["VmRSS"] else 0.0


def _logs(stack: Stack) -> str:
    return "\n".join(f"{name}: {stack.log(name)[-2_000:]}" for name in stack.pids())

"""Hostile messages by the thousand: each is handled or parked, and no process stops for one."""

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

#: What each service is sent: the type, its publisher and its data.
EVENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "inventory": ("order.created", "order", CREATED),
    "notification": ("order.created", "order", CREATED),
    "fraud": ("order.created", "order", CREATED),
    "order": ("stock.rejected", "inventory", REJECTED),
}

#: Messages on their way before their confirms are waited for.
WINDOW = 200

#: MB of memory of a process, at most. A prefetch of 400 large bodies is 100.
MEMORY_LIMIT = 500

#: Seconds for a message, of everything that is done with it, on a slow machine.
PATIENCE = 0.5


@pytest.mark.timeout(100_000)
def test_workers_handle_or_park_each_hostile_message(
    stack: Stack, pytestconfig: pytest.Config, operator_env: dict[str, str]
) -> None:
    # Given all workers, and their processes
    stack.stock(TEA=1_000_000_000)
    stack.start(*WORKERS)
    before = stack.pids()

    # When each gets its share of hostile messages, a good one now and then
    count = pytestconfig.getoption("hostile") // len(CONSUMERS)
    seed = pytestconfig.getoption("hostile_seed")
    sent = {
        service.name: _send(stack, service, seed + number, count)
        for number, service in enumerate(CONSUMERS)
    }

    # Then each message is in the inbox or the parking lot, and nothing waits
    for service in CONSUMERS:
        eventually(
            lambda s=service: _accounted(stack, s, sent[s.name]), within=120 + count * PATIENCE
        )

    # And no process ended, not even a child
    assert stack.pids() == before, _logs(stack)
    assert max(_megabytes(pid) for pids in before.values() for pid in pids) < MEMORY_LIMIT

    # And the tools show all of it
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
def test_reader_of_the_stream_passes_each_hostile_message(
    stack: Stack, pytestconfig: pytest.Config
) -> None:
    # Given the reader
    stack.start("beat", "analytics-reader")
    before = stack.pids()

    # When hostile messages are in the stream, and a good one at its end
    count = pytestconfig.getoption("hostile") // len(CONSUMERS)
    created = {"order.created": ("order", CREATED)}
    made = list(messages(pytestconfig.getoption("hostile_seed"), count, created))
    made += list(messages(99, 1, created))
    confirmed = _send_each(stack, STREAM, made)
    assert confirmed[-1] is made[-1]

    # Then the reader comes to the last one
    def read() -> None:
        _running(stack)
        with transaction(stack.sessions("analytics")) as session:
            ids = set(session.scalars(select(inbox.c.event_id)))
            assert UUID(made[-1].event_id) in ids
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
    # Given every process that works by the clock, and an order that waits for its relay
    ticking = ("order-relay", "inventory-relay", "fraud-relay", "notification-mailer")
    stack.start("beat", "api", *ticking, "analytics-reader")
    before = stack.pids()

    # When hostile messages come to the queues of their ticks
    count = min(pytestconfig.getoption("hostile") // 10, 2_000)
    for service in CONSUMERS:
        for tick in service.ticks:
            made = messages(7, count, {"order.created": ("order", CREATED)}, good=10**9)
            _send_each(stack, tick_queue(service, tick).name, list(made))

    # Then they go on: an order's event is published
    order_id = stack.place(("TEA", 1))
    eventually(lambda: _sent(stack, order_id))
    after = stack.pids()
    assert after == before, _logs(stack)


def _send(stack: Stack, service: Service, seed: int, count: int) -> list[Message]:
    event_type, source, data = EVENTS[service.name]
    made = list(messages(seed, count, {event_type: (source, data)}))
    with wire_publisher(stack.vhost) as publisher:
        for message in made:
            publisher.publish("", service.queue, message.properties, message.body)
            publisher.settle(at_most=WINDOW)
        publisher.settle()
    return made


def _send_each(stack: Stack, queue: str, made: list[Message]) -> list[Message]:
    """Publish one message at a time; returns those that the broker has not refused.

    RabbitMQ 3.10 cannot convert every type of header for a stream.
    """
    taken: list[Message] = []
    left = iter(made)
    is_done = False
    while not is_done:
        with wire_publisher(stack.vhost) as publisher, suppress(Refused):
            for message in left:
                publisher.publish("", queue, message.properties, message.body)
                publisher.settle()
                taken.append(message)
            is_done = True
    return taken


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
    """Raise at once if a process has ended: nothing that is waited for will come."""
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

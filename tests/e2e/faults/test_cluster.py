"""The failure of one node in a cluster of three."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from kombu.message import Message

from common.kombu_topology import EVENTS, INVENTORY, ORDER, STREAM, TICKS
from console.actions import health, topology
from console.actions.health import Finding, Kind
from console.settings import BrokerAdminSettings, TopologySettings
from eventbus.consumer.cause import Cause
from eventbus.errors import Transient
from eventbus.messaging import best_effort_publisher
from eventbus.messaging.copy_publisher import CopyPublisher
from eventbus.messaging.in_flight import Outgoing
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.worker.settlement import Receipt, Settlement
from testkit.eventually import eventually
from testkit.mail.mailbox import Mailbox
from testkit.processes.beats import ticks
from testkit.processes.customers import Customers
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.servers.cluster import FIRST, Cluster, cluster
from testkit.servers.databases import Databases
from testkit.servers.vhosts import Vhost, fresh_vhost
from testkit.servers.workers import own_state

#: Orders a second.
RATE = 20

TICK_QUEUE = ORDER.tick_queue("relay")


@pytest.fixture(scope="module")
def nodes(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    state = own_state(pytestconfig.getoption("state"))
    with cluster(state.with_name(f"{state.name}-cluster")) as running:
        yield running


def test_every_order_is_decided_once_when_a_node_fails(nodes: Cluster, tmp_path: Path) -> None:
    with (
        Databases.prepare(nodes.servers).fresh() as database_of,
        fresh_vhost(nodes.servers) as vhost,
        Mailbox.running() as mailbox,
        Stack.on(nodes.servers, database_of, vhost, mailbox, tmp_path) as stack,
    ):
        # Given processes with the addresses of a missing node and of three running ones
        hosts = [f"127.0.0.1:{port}" for port in (1, *nodes.amqp_ports)]
        stack.extra["BROKER_HOST"] = ",".join(hosts)
        stack.stock(TEA=10_000)
        stack.start()
        # And a replica of every queue on each node, including the ticks that trigger the relays
        eventually(lambda: _assert_replicated(vhost))
        address = stack.url.removeprefix("http://")
        customers = Customers(stack, RATE, [address], finished=lambda: len(mailbox.messages) // 2)

        # When the node that they are connected to is killed under load, and restarted
        with customers.ordering():
            eventually(lambda: _assert_decided(stack, 2 * RATE))
            nodes.servers.stop_broker()
            placed = len(customers.placed)
            eventually(lambda: _assert_decided(stack, placed + 5 * RATE))
            nodes.servers.start_broker()
            eventually(nodes.assert_whole)

        # Then no request failed, and every order is confirmed and mailed once
        assert customers.failures == []
        customers.assert_all_confirmed_once()


def test_new_publishers_recover_from_a_failover(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort_publisher, "CONNECT_INTERVAL", 0.0)
    with fresh_vhost(nodes.servers) as vhost, ExitStack() as contexts:
        # Given the publishers of beat, a relay and a worker, on a node without leaders
        apply(nodes, vhost)
        other = replace(vhost, amqp_port=nodes.amqp_ports[1])
        beat = contexts.enter_context(ticks(other, TICKS.name))
        beat.send("unrouted")
        relay = contexts.enter_context(closing(publisher(other)))
        assert accepts(relay, "order.confirmed")
        copies = contexts.enter_context(copy_publisher(other))
        worker = Settlement(
            copies.publish, service=INVENTORY, retry_tiers=RETRY_TIERS, release="test"
        )

        def all_published() -> None:
            # First those that do not wait, and all at once: new leaders are elected soon.
            beat.send(TICK_QUEUE)
            published = (retries(worker, copies), accepts(relay, "order.created"))
            assert published == (True, True)
            assert other.depth(TICK_QUEUE) == 1

        # When the node is killed, and all publish to queues that they have not used before
        nodes.servers.stop_broker()
        try:
            # Then the broker accepts their messages while the node is down
            eventually(all_published)
        finally:
            nodes.servers.start_broker()
        eventually(nodes.assert_whole)


def test_queues_with_too_few_replicas_are_reported_and_grown(nodes: Cluster) -> None:
    with fresh_vhost(nodes.servers) as vhost:
        # Given a stream and a queue with one replica, as a cluster of one node makes them
        apply(nodes, vhost)
        for node in ("two@localhost", "three@localhost"):
            where = f"--vhost {vhost.name}"
            nodes.run(f"rabbitmq-streams delete_replica {where} {STREAM} {node}")
            nodes.run(f"rabbitmq-queues delete_member {where} {ORDER.queue} {node}")
        settings = BrokerAdminSettings(**vhost.administrator, retry_tiers=RETRY_TIERS)
        # And the broker's statistics include the removals: those of a stream may be minutes old
        commands = eventually(lambda: _assert_commands(settings, STREAM, ORDER.queue), within=300)

        # When the commands of the findings are run
        for command in commands:
            nodes.run(command)

        # Then no queue is reported
        eventually(lambda: _assert_commands(settings))


def _assert_replicated(vhost: Vhost) -> None:
    # The broker's statistics of a new queue are delayed.
    for queue in vhost.request("GET", f"/queues/{vhost.name}").json():
        assert len(queue.get("members", [])) == 3, queue["name"]


def _few(settings: BrokerAdminSettings) -> list[Finding]:
    return [f for f in health.check(settings).findings if f.kind == Kind.FEW_REPLICAS]


def _assert_commands(settings: BrokerAdminSettings, *names: str) -> list[str]:
    """Return the commands of the findings: two for each of these queues, and no others."""
    by_queue = {f.name: f.text.partition("run on a node: ")[2].split("; ") for f in _few(settings)}
    assert {name: len(commands) for name, commands in by_queue.items()} == dict.fromkeys(names, 2)
    return [command for commands in by_queue.values() for command in commands]


def apply(nodes: Cluster, vhost: Vhost) -> None:
    """Declare every queue, with its leader on the first node."""
    settings = TopologySettings(
        **vhost.administrator,
        secrets_dir=nodes.servers.secrets_dir,
        retry_tiers=RETRY_TIERS,
    )
    list(topology.apply(settings))

    def led() -> None:
        for queue in vhost.request("GET", f"/queues/{vhost.name}").json():
            assert queue["type"] == "stream" or queue.get("leader") == FIRST, queue["name"]

    eventually(led)


def publisher(vhost: Vhost) -> ConfirmingPublisher:
    """Return a relay's publisher, with the administrator's permissions."""
    return ConfirmingPublisher(
        vhost.amqp_url,
        tls=vhost.tls,
        service="order",
        user=vhost.admin_user,
        exchange=EVENTS.name,
        heartbeat=30,
    )


def accepts(relay: ConfirmingPublisher, event_type: str) -> bool:
    """Return whether the broker confirms an event."""
    event_id = uuid4()
    report = publish_and_settle(relay, [Outgoing(event_id, event_type, "{}", uuid4())])
    return event_id in report.confirmed


@contextmanager
def copy_publisher(vhost: Vhost) -> Iterator[CopyPublisher]:
    """Run a worker's publisher of copies."""
    publisher = CopyPublisher(vhost.connect, name="copies", call_soon=lambda call: None)
    try:
        yield publisher
    finally:
        publisher.stop()


def retries(worker: Settlement, copies: CopyPublisher) -> bool:
    """Return whether the broker confirms the copy of a failed message in its retry tier."""
    headers = {"task": "order.created", "retries": 0}
    settled: list[bool] = []
    receipt = Receipt(
        message=Message(b"[]", properties={}, headers=headers),
        headers=headers,
        acknowledge=lambda: settled.append(True),
        reject=lambda: settled.append(False),
        is_held=lambda: True,
    )
    worker.retry(receipt, Cause.of(Transient("the shelf is locked")))
    copies.flush(timeout=60)
    return settled == [True]


def _assert_decided(stack: Stack, count: int) -> None:
    (decided,) = stack.execute("order", "SELECT count(*) FROM orders WHERE status <> 'PENDING'")
    assert decided >= count

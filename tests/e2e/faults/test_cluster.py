"""A broker of three nodes, one of which dies."""

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

TICKED = ORDER.tick_queue("relay")


@pytest.fixture(scope="module")
def nodes(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    own = own_state(pytestconfig.getoption("state"))
    with cluster(own.with_name(f"{own.name}-cluster")) as running:
        yield running


def test_a_node_dies_and_every_order_is_decided_once(nodes: Cluster, tmp_path: Path) -> None:
    with (
        Databases.prepare(nodes.servers).fresh() as database_of,
        fresh_vhost(nodes.servers) as vhost,
        Mailbox.running() as mailbox,
        Stack.on(nodes.servers, database_of, vhost, mailbox, tmp_path) as stack,
    ):
        # Given processes that know of a node that is not there, and of three that are
        hosts = [f"127.0.0.1:{port}" for port in (1, *nodes.amqp_ports)]
        stack.extra["BROKER_HOST"] = ",".join(hosts)
        stack.stock(TEA=10_000)
        stack.start()
        # And a replica of every queue on each node: ticks, too, without which nothing leaves
        eventually(lambda: _assert_replicated(vhost))
        address = stack.url.removeprefix("http://")
        customers = Customers(stack, RATE, [address], finished=lambda: len(mailbox.messages) // 2)

        # When the node that they are connected to dies while orders come in, and then comes back
        with customers.ordering():
            eventually(lambda: _assert_decided(stack, 2 * RATE))
            nodes.servers.stop_broker()
            so_far = len(customers.placed)
            eventually(lambda: _assert_decided(stack, so_far + 5 * RATE))
            nodes.servers.start_broker()
            eventually(nodes.assert_whole)

        # Then no request failed, and every order is confirmed and told of, once
        assert customers.failures == []
        customers.assert_all_confirmed_once()


def test_who_begins_to_publish_while_leaders_die_is_refused_for_a_moment_only(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort_publisher, "CONNECT_INTERVAL", 0.0)
    with fresh_vhost(nodes.servers) as vhost, ExitStack() as opened:
        # Given ways to publish, by another node than that of all leaders: beat's,
        apply(nodes, vhost)
        other = replace(vhost, amqp_port=nodes.amqp_ports[1])
        clock = opened.enter_context(ticks(other, TICKS.name))
        clock.send("nobody's")
        # a relay's,
        relays = opened.enter_context(closing(publisher(other)))
        assert takes(relays, "order.confirmed")
        # and a worker's
        copies = opened.enter_context(copy_publisher(other))
        workers = Settlement(
            copies.publish, service=INVENTORY, retry_tiers=RETRY_TIERS, release="test"
        )

        def all_heard() -> None:
            # Who does not wait first, and all at once: a moment later there are new leaders.
            clock.send(TICKED)
            heard = (retries(workers, copies), takes(relays, "order.created"))
            assert heard == (True, True)
            assert other.depth(TICKED) == 1

        # When the node dies, and all publish to queues that they have not published to before
        nodes.servers.stop_broker()
        try:
            # Then they are heard while the node is away
            eventually(all_heard)
        finally:
            nodes.servers.start_broker()
        eventually(nodes.assert_whole)


def test_what_was_declared_before_the_cluster_grew_is_named_and_mended(nodes: Cluster) -> None:
    with fresh_vhost(nodes.servers) as vhost:
        # Given a stream and a queue with one replica, as a cluster of one node makes them
        apply(nodes, vhost)
        for node in ("two@localhost", "three@localhost"):
            where = f"--vhost {vhost.name}"
            nodes.run(f"rabbitmq-streams delete_replica {where} {STREAM} {node}")
            nodes.run(f"rabbitmq-queues delete_member {where} {ORDER.queue} {node}")
        settings = BrokerAdminSettings(**vhost.administrator, retry_tiers=RETRY_TIERS)
        # and the broker's statistics show both removals of both: a stream's may be minutes old
        commands = eventually(lambda: _assert_commands(settings, STREAM, ORDER.queue), within=300)

        # When the commands of the findings are run
        for command in commands:
            nodes.run(command)

        # Then
        eventually(lambda: _assert_commands(settings))


def _assert_replicated(vhost: Vhost) -> None:
    # By the broker's statistics, which lack a new queue's for a while.
    for queue in vhost.request("GET", f"/queues/{vhost.name}").json():
        assert len(queue.get("members", [])) == 3, queue["name"]


def _few(settings: BrokerAdminSettings) -> list[Finding]:
    return [f for f in health.check(settings).findings if f.kind == Kind.FEW_REPLICAS]


def _assert_commands(settings: BrokerAdminSettings, *names: str) -> list[str]:
    """Two for each queue of these names, and none for another one."""
    found = {f.name: f.text.partition("run on a node: ")[2].split("; ") for f in _few(settings)}
    assert {name: len(commands) for name, commands in found.items()} == dict.fromkeys(names, 2)
    return [command for commands in found.values() for command in commands]


def apply(nodes: Cluster, vhost: Vhost) -> None:
    """Make every queue, led by the first node."""
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
    """A relay's publisher, with the administrator's rights."""
    return ConfirmingPublisher(
        vhost.amqp_url,
        tls=vhost.tls,
        service="order",
        user=vhost.admin_user,
        exchange=EVENTS.name,
        heartbeat=30,
    )


def takes(relays: ConfirmingPublisher, event_type: str) -> bool:
    """Tell whether the broker takes an event."""
    event_id = uuid4()
    report = publish_and_settle(relays, [Outgoing(event_id, event_type, "{}", uuid4())])
    return event_id in report.confirmed


@contextmanager
def copy_publisher(vhost: Vhost) -> Iterator[CopyPublisher]:
    """A worker's publisher of copies."""
    publisher = CopyPublisher(vhost.connect, name="copies", call_soon=lambda call: None)
    try:
        yield publisher
    finally:
        publisher.stop()


def retries(workers: Settlement, copies: CopyPublisher) -> bool:
    """Tell whether a message that was not handled goes to its retry tier."""
    headers = {"task": "order.created", "retries": 0}
    settled: list[bool] = []
    receipt = Receipt(
        message=Message(b"[]", properties={}, headers=headers),
        headers=headers,
        acknowledge=lambda: settled.append(True),
        reject=lambda: settled.append(False),
        is_held=lambda: True,
    )
    workers.retry(receipt, Cause.of(Transient("the shelf is locked")))
    copies.flush(timeout=10)
    return settled == [True]


def _assert_decided(stack: Stack, count: int) -> None:
    (decided,) = stack.execute("order", "SELECT count(*) FROM orders WHERE status <> 'PENDING'")
    assert decided >= count

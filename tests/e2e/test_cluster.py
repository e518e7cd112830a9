"""A broker of three nodes, one of which dies while orders come in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, cluster
from tests.support.customers import Customers
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.mailbox import Mailbox
from tests.support.stack import Stack
from tests.support.vhosts import fresh_vhost
from tests.support.workers import own_state

#: Orders a second.
RATE = 20


@pytest.fixture
def nodes(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    if not pytestconfig.getoption("cluster"):
        # On a machine with ten times more to do than it can, ticks were seen to end with the node.
        pytest.skip("NOT RUN, three nodes on a busy machine: --cluster")
    own = own_state(pytestconfig.getoption("state"))
    with cluster(own.with_name(f"{own.name}-cluster")) as running:
        yield running


@pytest.mark.timeout(400)
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
        for queue in vhost.request("GET", f"/queues/{vhost.name}").json():
            assert len(queue.get("members", [])) == 3, queue["name"]
        customers = Customers(stack, RATE, [stack.url.removeprefix("http://")])

        # When the node that they are connected to dies while orders come in, and then comes back
        with customers.ordering():
            eventually(lambda: _assert_decided(stack, 2 * RATE), within=60)
            nodes.servers.stop_broker()
            so_far = len(customers.placed)
            eventually(lambda: _assert_decided(stack, so_far + 5 * RATE), within=90)
            nodes.servers.start_broker()
            eventually(nodes.assert_whole, within=60)

        # Then no request failed, and every order is confirmed and told of, once
        assert customers.failures == []
        customers.assert_all_confirmed_once()


def _assert_decided(stack: Stack, count: int) -> None:
    (decided,) = stack.execute("order", "SELECT count(*) FROM orders WHERE status <> 'PENDING'")
    assert decided >= count

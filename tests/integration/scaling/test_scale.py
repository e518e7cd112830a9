"""`orderctl topology scale` changes the number of parts of a queue while orders are processed."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID, uuid4

from common.kombu_topology import INVENTORY
from console.actions import health, topology
from eventbus.database.db import Sessions
from eventbus.outbox.relay import Relay
from eventbus.outbox.slots import Part
from testkit.data.outboxes import CREATED, event, record, rows
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import draining
from testkit.servers.scaling import AdministratorSettings
from testkit.servers.vhosts import Vhost
from testkit.system.part_consumers import PartConsumers
from testkit.system.scaling import PARTS, divide, require_all_sent, unsent


@contextmanager
def ordering(outbox: Sessions, orders: list[UUID]) -> Iterator[None]:
    """Record further events of these orders during the block."""
    ended = threading.Event()

    def go_on() -> None:
        sequence = 0
        while not ended.wait(0.3):
            sequence += 1
            record(outbox, *(event(CREATED, order, sequence) for order in orders))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def require_arrived(consumers: PartConsumers, count: int) -> None:
    assert len(consumers.arrived) >= count


def test_the_number_of_parts_changes_while_orders_flow(
    broker: Vhost,
    publisher_of: PublisherOf,
    outbox: Sessions,
    settings: AdministratorSettings,
) -> None:
    # Given two relays of one outbox, and a consumer for each of four parts
    two = [Relay(outbox, publisher_of(), part=Part(number, 2)) for number in range(2)]
    orders = [uuid4() for _ in range(30)]
    consumers = PartConsumers(broker)
    with consumers.consuming(PARTS), draining(*two), ordering(outbox, orders):
        eventually(lambda: require_arrived(consumers, 200))

        # When the queue is divided into four parts, and then into two
        assert divide(settings, 4) == 1
        after_four = len(consumers.arrived)
        eventually(lambda: require_arrived(consumers, after_four + 1_000))
        assert divide(settings, 2) == 4
        after_two = len(consumers.arrived)
        eventually(lambda: require_arrived(consumers, after_two + 500))
    with consumers_until_all_arrived(broker, publisher_of, outbox) as rest:
        pass

    # Then each event has arrived once, and those of an order in their order and in one part
    arrived = [*consumers.arrived, *rest.arrived]
    assert Counter(event_id for *_, event_id in arrived) == dict.fromkeys(rows(outbox), 1)
    sequences = defaultdict(list)
    for _, subject, sequence, _ in arrived:
        sequences[subject].append(sequence)
    assert all(found == sorted(found) for found in sequences.values())
    # And every part had events, as long as it existed
    used = {queue for queue, *_ in consumers.arrived[after_four:after_two]}
    assert used == set(PARTS)
    assert {queue for queue, *_ in consumers.arrived[after_two:]} == set(PARTS[:2])
    names = {queue["name"] for queue in broker.request("GET", f"/queues/{broker.name}").json()}
    assert names & set(PARTS) == set(PARTS[:2])


@contextmanager
def consumers_until_all_arrived(
    broker: Vhost, publisher_of: PublisherOf, outbox: Sessions
) -> Iterator[PartConsumers]:
    """Publish and consume what is left."""
    rest = PartConsumers(broker)
    with rest.consuming(PARTS[:2]), draining(Relay(outbox, publisher_of())):
        eventually(lambda: require_all_sent(outbox), progress=lambda: unsent(outbox))
        eventually(lambda: _require_empty(broker, PARTS[:2]), progress=lambda: len(rest.arrived))
        yield rest


def test_the_broker_matches_the_code_after_each_change(
    broker: Vhost, settings: AdministratorSettings, orders_divided: None
) -> None:
    for parts in (3, 1, 2, 1):
        # When the number is changed
        divide(settings, parts)

        # Then the setting with the new number finds no difference, and another reports it
        now = settings.model_copy(update={"parts": {"inventory": parts}})
        assert topology.plan(now).differences == ()
        assert [str(d) for d in topology.plan(settings).differences] == (
            []
            if parts == 1
            else [
                f"parts of inventory.queue: {parts}, but PARTS has 1; orderctl topology scale"
                " inventory 1 changes them while orders are processed"
            ]
        )
        # And applying the topology changes nothing
        list(topology.apply(settings))
        assert topology.plan(now).differences == ()
        # And the parts without a worker are findings
        without = {f.name for f in health.check(now).findings if f.kind == "no_consumer"}
        assert {name for name in without if name.startswith("inventory.queue")} == set(
            replace(INVENTORY, parts=parts).queues
        )
    exchanges = broker.request("GET", f"/exchanges/{broker.name}").json()
    assert INVENTORY.part_exchange not in {exchange["name"] for exchange in exchanges}


def _require_empty(broker: Vhost, queues: tuple[str, ...]) -> None:
    assert [broker.depth(queue) for queue in queues] == [0] * len(queues)

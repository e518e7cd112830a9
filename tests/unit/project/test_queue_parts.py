"""The setting PARTS, and the topology of a service whose queue has several parts."""

import pytest
from pydantic import Field

from common.kombu_topology import EVENTS, INVENTORY, divided, topology
from common.queue_parts import Parts
from console.settings import BrokerAdminSettings
from eventbus.settings.base import Settings, SettingsError, load
from eventbus.topology.objects import Binding, Topology, event_queue

FOUR = {"inventory": 4}


class PartSettings(Settings):
    """The setting alone."""

    parts: Parts = Field("", validate_default=True)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("", {}),
        ("inventory=4", {"inventory": 4}),
        ("inventory=4, order=2", {"inventory": 4, "order": 2}),
        ("order=64,inventory=1", {"order": 64, "inventory": 1}),
    ],
)
def test_parts_are_parsed(
    monkeypatch: pytest.MonkeyPatch, value: str, parts: dict[str, int]
) -> None:
    monkeypatch.setenv("PARTS", value)

    assert load(PartSettings).parts == parts


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("inventory", "'inventory' is not SERVICE=NUMBER"),
        ("inventory=", "'inventory=' is not SERVICE=NUMBER"),
        ("inventory=-1", "'inventory=-1' is not SERVICE=NUMBER"),
        ("inventory=²", "'inventory=²' is not SERVICE=NUMBER"),
        ("inventory=2,", "'' is not SERVICE=NUMBER"),
        ("inventory=2,inventory=3", "'inventory' occurs twice"),
        ("inventory=0", "inventory=0 is not between 1 and 64"),
        ("order=65", "order=65 is not between 1 and 64"),
        (
            "warehouse=2",
            "'warehouse' has no queue; these have: order, inventory, notification, fraud",
        ),
        # It reads the stream.
        (
            "analytics=2",
            "'analytics' has no queue; these have: order, inventory, notification, fraud",
        ),
    ],
)
def test_invalid_parts_are_errors_that_name_the_setting(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("PARTS", value)

    with pytest.raises(SettingsError) as error:
        load(PartSettings)

    assert str(error.value) == f"setting PARTS: Value error, {reason}"


def test_the_setting_has_one_part_by_default() -> None:
    assert BrokerAdminSettings.model_fields["parts"].default == ""
    assert topology(parts={}) == topology() == topology(parts={"inventory": 1})


def test_each_part_has_the_arguments_of_the_queue() -> None:
    whole = event_queue(INVENTORY).queue_arguments
    queues = {queue.name: queue.queue_arguments for queue in topology(parts=FOUR).queues}

    names = ["inventory.queue", *(f"inventory.queue.{part}" for part in (1, 2, 3))]
    assert [queues[name] for name in names] == [whole] * 4
    assert [name for name in queues if INVENTORY.is_part_queue(name)] == names


def test_events_reach_the_parts_through_one_exchange() -> None:
    shop = topology(parts=FOUR)
    (exchange,) = (e for e in shop.exchanges if e.name == INVENTORY.part_exchange)

    assert (exchange.type, exchange.durable) == ("x-consistent-hash", True)
    assert exchange.arguments == {"hash-property": "correlation_id"}
    assert [b for b in shop.bindings if b.exchange == exchange.name] == [
        Binding(exchange=exchange.name, queue=queue, routing_key="1")
        for queue in ("inventory.queue", *(f"inventory.queue.{part}" for part in (1, 2, 3)))
    ]
    assert [b.routing_key for b in shop.bindings if b.target_exchange == exchange.name] == list(
        INVENTORY.consumed_types
    )
    # And no event reaches a part in another way
    direct = [b for b in shop.bindings if b.exchange == EVENTS.name]
    assert [b for b in direct if INVENTORY.is_part_queue(b.queue)] == []


def test_a_worker_may_read_every_part() -> None:
    assert _reads(topology(parts=FOUR)) == (
        r"^(inventory\.queue|inventory\.queue\.1|inventory\.queue\.2|inventory\.queue\.3"
        r"|inventory\.relay)$"
    )


def test_other_services_do_not_change() -> None:
    (inventory,) = (s for s in divided([INVENTORY], FOUR))
    alone, shop = topology(), topology(parts=FOUR)

    assert inventory.parts == 4
    assert set(map(str, alone.bindings)) - set(map(str, shop.bindings)) == {
        str(Binding(exchange=EVENTS.name, queue="inventory.queue", routing_key=key))
        for key in INVENTORY.consumed_types
    }
    assert {q.name for q in alone.queues} < {q.name for q in shop.queues}
    assert [u for u in shop.users if u not in alone.users] == [
        u for u in shop.users if u.name == "inventory"
    ]


def _reads(shop: Topology) -> str:
    (user,) = (user for user in shop.users if user.name == "inventory")
    return user.read

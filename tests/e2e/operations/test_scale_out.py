"""The order flow with relays and workers in parts, whose numbers change under load."""

from collections import Counter

from common.kombu_topology import INVENTORY
from console.scaling.scale import scale
from testkit.eventually import eventually
from testkit.processes.customers import Customers
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.servers.scaling import scale_settings

#: The maximum of orders per second.
RATE = 20


def test_parts_are_added_and_removed_while_orders_flow(stack: Stack) -> None:
    # Given a running system
    settings = scale_settings(stack.servers, stack.vhost, stack.databases, retry_tiers=RETRY_TIERS)
    stack.stock(TEA=100_000)
    stack.start()
    finished = lambda: len(stack.mailbox.messages) // 2  # noqa: E731
    customers = Customers(stack, RATE, [stack.url.removeprefix("http://")], finished=finished)

    def divide(parts: int) -> int:
        return scale(settings, INVENTORY, parts, begun=lambda _: None, changed=lambda _: None)

    with customers.ordering():
        customers.place_more(RATE)

        # When the order relay is replaced by two, and the inventory's worker gets three others
        for part in range(2):
            _start_part(stack, "order-relay", part, RELAY_PARTS="2", RELAY_PART=str(part))
        stack.shut_down("order-relay")
        for part in (1, 2, 3):
            _start_part(stack, "inventory-worker", part, waits=False, WORKER_PART=str(part))
        assert divide(4) == 1
        for part in (1, 2, 3):
            stack.wait_until_healthy(f"inventory-worker-{part}")
        customers.place_more(3 * RATE)

        # And two of the workers and a relay are removed again
        assert divide(2) == 4
        for part in (2, 3):
            stack.shut_down(f"inventory-worker-{part}")
        stack.start("order-relay")
        for part in range(2):
            stack.shut_down(f"order-relay-{part}")
        customers.place_more(2 * RATE)

    # Then no request failed, and every order is confirmed and mailed once
    assert customers.failures == []
    customers.assert_all_confirmed_once()
    # And all workers have handled events, each once
    workers = ["inventory-worker", *(f"inventory-worker-{part}" for part in (1, 2, 3))]
    handled = Counter({name: stack.deliveries(name, "order.created") for name in workers})
    assert min(handled.values()) > 0
    assert handled.total() == len(customers.placed)
    eventually(lambda: _require_empty(stack))


def _start_part(
    stack: Stack, program: str, part: int, *, waits: bool = True, **settings: str
) -> None:
    stack.extra |= settings
    start = stack.start if waits else stack.launch
    start(program, alias=f"{program}-{part}")
    for name in settings:
        del stack.extra[name]


def _require_empty(stack: Stack) -> None:
    assert [stack.vhost.depth(INVENTORY.part_queue(part)) for part in range(2)] == [0, 0]

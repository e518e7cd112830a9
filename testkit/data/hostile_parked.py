"""Hostile messages in a parking lot, or in a stream."""

from typing import Any

from testkit.servers.vhosts import Vhost
from testkit.wire.corpus import messages
from testkit.wire.draft import KINDS
from testkit.wire.publisher import wire_publisher

#: The events from which the messages are made.
CREATED: dict[str, tuple[str, dict[str, Any]]] = {
    "order.created": (
        "order",
        {
            "customer_email": "ada@example.com",
            "currency": "EUR",
            "total": 500,
            "lines": [{"sku": "TEA", "quantity": 1, "unit_price": 500}],
        },
    )
}


def park_hostile(vhost: Vhost, seed: int, *, rounds: int = 2) -> int:
    """Park messages for the inventory, and return their number.

    Each kind is parked once; each additional round parks as many messages of random kinds.
    """
    count = 0
    with wire_publisher(vhost) as publisher:
        # The first message is good.
        for message in messages(seed, 1 + rounds * len(KINDS), CREATED, good=10**9):
            # A message that expires would leave the parking lot.
            if message.kind not in ("good", "an expiration"):
                publisher.publish("", "inventory.dlq", message.properties, message.body)
                count += 1
        publisher.settle()
    return count

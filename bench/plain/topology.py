"""The plain build's exchange, queues and bindings."""

from kombu.connection import Connection
from kombu.entity import Exchange, Queue

EVENTS = Exchange("plain.events", "topic", durable=True)

INVENTORY, ORDERS, NOTIFICATION = "plain.inventory", "plain.orders", "plain.notification"

#: Event types by queue: this system's bindings, except those for shipping and for services that the
#: plain system lacks.
BINDINGS = {
    INVENTORY: ("order.created", "order.cancelled"),
    ORDERS: ("stock.reserved", "stock.rejected"),
    NOTIFICATION: ("order.created", "order.confirmed", "order.cancelled"),
}


def declare(connection: Connection) -> None:
    """Declare the exchange, the quorum queues and their bindings."""
    channel = connection.default_channel
    EVENTS(channel).declare()
    for name, types in BINDINGS.items():
        queue = Queue(name, queue_arguments={"x-queue-type": "quorum"})(channel)
        queue.queue_declare()
        for event_type in types:
            queue.bind_to(EVENTS, routing_key=event_type)

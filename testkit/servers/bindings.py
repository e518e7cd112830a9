"""Changes to the bindings of the events' exchange."""

from common.kombu_topology import EVENTS, NOTIFICATION, STREAM
from testkit.servers.vhosts import Vhost


def unbind(broker: Vhost, queue: str, event_type: str) -> None:
    """Unbind an event type from a queue."""
    broker.request("DELETE", f"{binding(broker, queue)}/{event_type}")


def unbind_everywhere(broker: Vhost, event_type: str) -> None:
    """Unbind a type that only the notification service consumes, so that it is unroutable."""
    for queue in (NOTIFICATION.queue, STREAM):
        unbind(broker, queue, event_type)


def bind(broker: Vhost, queue: str, event_type: str) -> None:
    """Bind an event type to a queue."""
    broker.request("POST", binding(broker, queue), json={"routing_key": event_type})


def binding(broker: Vhost, queue: str) -> str:
    """Return the path of a queue's bindings in the management API."""
    return f"/bindings/{broker.name}/e/{EVENTS.name}/q/{queue}"


def full_queue(broker: Vhost, event_type: str) -> str:
    """Bind a new queue that holds one message, fill it, and return its name."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = {"durable": True, "arguments": arguments}
    broker.request("PUT", f"/queues/{broker.name}/full", json=queue)
    broker.publish(b"0", exchange="", routing_key="full", headers={})
    bind(broker, "full", event_type)
    return "full"

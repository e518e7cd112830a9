"""Who takes an event from the exchange, for a test to change."""

from common.kombu_topology import EVENTS, NOTIFICATION, STREAM
from testkit.servers.vhosts import Vhost


def unbind(broker: Vhost, queue: str, event_type: str) -> None:
    """Take a type of event from a queue."""
    broker.request("DELETE", f"{binding(broker, queue)}/{event_type}")


def unbind_everywhere(broker: Vhost, event_type: str) -> None:
    """Unbind a type that one service consumes, from the stream, too."""
    for queue in (NOTIFICATION.queue, STREAM):
        unbind(broker, queue, event_type)


def bind(broker: Vhost, queue: str, event_type: str) -> None:
    """Let a queue get a type of event."""
    broker.request("POST", binding(broker, queue), json={"routing_key": event_type})


def binding(broker: Vhost, queue: str) -> str:
    """Return the management API's path of a queue's bindings."""
    return f"/bindings/{broker.name}/e/{EVENTS.name}/q/{queue}"


def full_queue(broker: Vhost, event_type: str) -> str:
    """Bind a queue of the test's own, with room for one message, and fill it."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = {"durable": True, "arguments": arguments}
    broker.request("PUT", f"/queues/{broker.name}/full", json=queue)
    broker.publish(b"0", exchange="", routing_key="full", headers={})
    bind(broker, "full", event_type)
    return "full"

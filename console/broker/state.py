"""The objects in a broker's vhost, as its management API reports them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from console.broker.management import Management

Object = Mapping[str, Any]

#: The parameters with which the API counts the messages of queues itself, without its collected
#: statistics.
_TOTALS = "?disable_stats=true&enable_queue_totals=true"


def figure(described: Object | None, name: str) -> int | None:
    """Return a figure of a queue or a node, or None if the broker does not report it.

    The broker omits it without statistics, after a restart, and for a queue that is down. An
    omitted figure is unknown, not 0.
    """
    value = described.get(name) if described is not None else None
    return value if isinstance(value, int) else None


def rate(described: Object | None, name: str) -> float | None:
    """Return a rate of a queue per second, such as `ack`, or None if the broker does not report it.

    A queue without any messages so far has no rates; the change of its depth shows whether the
    broker collects them.
    """
    if described is None:
        return None
    reported = described.get("message_stats", {}).get(f"{name}_details", {}).get("rate")
    is_collected = "messages_details" in described
    return float(reported) if reported is not None else 0.0 if is_collected else None


@dataclass(frozen=True, kw_only=True)
class BrokerState:
    """The objects of one vhost, and the broker's users, each as the API describes it."""

    vhost: str
    exchanges: Mapping[str, Object]
    queues: Mapping[str, Object]
    bindings: tuple[Object, ...]
    #: The users and permissions, which are empty if they were not requested.
    users: Mapping[str, Object] = field(default_factory=dict)
    permissions: Mapping[str, Object] = field(default_factory=dict)
    #: The topic permissions, by user and exchange.
    topic_permissions: Mapping[tuple[str, str], Object] = field(default_factory=dict)

    @classmethod
    def read(cls, broker: Management, *, with_users: bool = True) -> "BrokerState":
        """Query the broker for all objects; users and permissions require an administrator."""
        vhost = broker.vhost
        return cls(
            vhost=vhost,
            exchanges={e["name"]: e for e in broker.get("exchanges", vhost)},
            queues=_queues(broker),
            bindings=tuple(broker.get("bindings", vhost)),
            **(_users(broker) if with_users else {}),
        )


def _queues(broker: Management) -> Mapping[str, Object]:
    queues = {q["name"]: q for q in broker.get("queues", broker.vhost)}
    if all(figure(queue, "messages") is not None for queue in queues.values()):
        return queues
    counted = totals(broker)
    return {name: {**counted.get(name, {}), **queue} for name, queue in queues.items()}


def totals(broker: Management) -> Mapping[str, Object]:
    """Return each queue with the broker's own counts of its messages.

    RabbitMQ counts the messages of a quorum queue every 5 seconds.
    """
    return {q["name"]: q for q in broker.get("queues", broker.vhost, query=_TOTALS)}


def _users(broker: Management) -> Mapping[str, Any]:
    vhost = broker.vhost
    return {
        "users": {u["name"]: u for u in broker.get("users")},
        "permissions": {p["user"]: p for p in broker.get("vhosts", vhost, "permissions")},
        "topic_permissions": {
            (p["user"], p["exchange"]): p for p in broker.get("vhosts", vhost, "topic-permissions")
        },
    }

"""The connections of the order relay's publisher."""

from testkit.servers.vhosts import Vhost


def connections(broker: Vhost) -> list[str]:
    """Return the names of the connections on which the relay publishes."""
    return [
        connection["name"]
        for connection in broker.request("GET", f"/vhosts/{broker.name}/connections").json()
        if connection.get("user_provided_name") == "order-relay publisher"
    ]


def one_connection(broker: Vhost) -> list[str]:
    """Require exactly one connection, and return its name in a list."""
    names = connections(broker)
    assert len(names) == 1
    return names

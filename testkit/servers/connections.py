"""The broker's connections, as a test counts them."""

from testkit.servers.vhosts import Vhost


def connections(broker: Vhost) -> list[str]:
    """Return the names of a relay's connections to publish."""
    return [
        connection["name"]
        for connection in broker.request("GET", f"/vhosts/{broker.name}/connections").json()
        if connection.get("user_provided_name") == "order-relay publisher"
    ]


def one_connection(broker: Vhost) -> list[str]:
    """Require that there is one, and return it."""
    found = connections(broker)
    assert len(found) == 1
    return found

"""Changes of the number of parts of the inventory's queue, and their effect on the broker."""

from dataclasses import replace

from sqlalchemy import text

from common.kombu_topology import EVENTS, INVENTORY
from console.scaling.scale import scale
from eventbus.database.db import Sessions, transaction
from eventbus.topology.service import Service
from testkit.servers.scaling import AdministratorSettings
from testkit.servers.vhosts import Vhost

PARTS = replace(INVENTORY, parts=4).queues


def divide(settings: AdministratorSettings, parts: int, service: Service = INVENTORY) -> int:
    """Change the number of parts, and return the previous number."""
    return scale(settings, service, parts, begun=lambda _: None, changed=lambda _: None)


def unsent(outbox: Sessions) -> int:
    """Return the number of unsent events of an outbox, without reading them."""
    with transaction(outbox) as session:
        query = text("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
        count: int = session.scalars(query).one()
    return count


def require_all_sent(outbox: Sessions) -> None:
    """Require that every event of an outbox is sent."""
    assert unsent(outbox) == 0


def inventory_objects(broker: Vhost) -> set[tuple[str, ...]]:
    """Return the inventory's queues, routes and permissions."""
    routes = broker.request("GET", f"/bindings/{broker.name}").json()
    queues = broker.request("GET", f"/queues/{broker.name}").json()
    permission = broker.request("GET", f"/permissions/{broker.name}/inventory").json()
    return {
        *(("queue", queue["name"]) for queue in queues),
        *(
            ("route", route["source"], route["destination"], route["routing_key"])
            for route in routes
            if route["source"] in (EVENTS.name, INVENTORY.part_exchange)
        ),
        ("reads", permission["read"]),
    }

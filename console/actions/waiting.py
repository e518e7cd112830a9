"""Work that is waiting in a service's database."""

from dataclasses import dataclass

from common.kombu_topology import ORDER
from console.databases.service_database import Databases
from eventbus.outbox import lag
from eventbus.outbox.lag import OutboxLag, RelayPass
from eventbus.topology.service import Service
from order_app.storage.pending import Pending, pending


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The events that wait in an outbox; for the order service, also the PENDING orders."""

    unsent: OutboxLag
    relay_pass: RelayPass | None
    orders: Pending | None = None


def read(databases: Databases, service: Service) -> Waiting:
    """Return the waiting work of a service that has an outbox."""
    with databases.transaction(service) as session:
        return Waiting(
            unsent=lag.outbox_lag(session),
            relay_pass=lag.relay_pass(session),
            orders=pending(session) if service == ORDER else None,
        )

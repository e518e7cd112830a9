"""Every exchange, queue, binding, retry tier, user and permission of this shop, as data.

All of it is derived from `SERVICES`, from what each service publishes and consumes: see
`eventbus.topology`. `orderctl topology apply` declares it; the services declare nothing.
"""

from collections.abc import Sequence

from kombu.entity import Queue

import common.events  # noqa: F401 - sets the catalogue, with the versions of each event type
from eventbus.topology import objects
from eventbus.topology.limits import RETRY_TIERS
from eventbus.topology.objects import Topology
from eventbus.topology.service import Bus, Service

BUS = Bus("orders")
EVENTS = BUS.events
DEAD_LETTERS = BUS.dead_letters
TICKS = BUS.ticks
STREAM = BUS.stream

ORDER = Service(
    name="order",
    package="order_app",
    bus=BUS,
    publishes=("order.created", "order.confirmed", "order.shipped", "order.cancelled"),
    consumes=("stock.reserved", "stock.rejected", "stock.released"),
    ticks=("relay",),
    essential=True,
)
INVENTORY = Service(
    name="inventory",
    package="inventory_worker",
    bus=BUS,
    publishes=("stock.reserved", "stock.rejected", "stock.released"),
    consumes=("order.created", "order.shipped", "order.cancelled"),
    ticks=("relay",),
    essential=True,
)
NOTIFICATION = Service(
    name="notification",
    package="notification_worker",
    bus=BUS,
    consumes=(
        "order.created",
        "order.confirmed",
        "order.shipped",
        "order.cancelled",
        "fraud.suspected",
    ),
    ticks=("mailer",),
)
FRAUD = Service(
    name="fraud",
    package="fraud_worker",
    bus=BUS,
    publishes=("fraud.suspected",),
    consumes=("order.created",),
    ticks=("relay",),
)

ANALYTICS = Service(
    name="analytics", package="analytics_worker", bus=BUS, ticks=("reader",), reads_stream=True
)

SERVICES = (ORDER, INVENTORY, NOTIFICATION, FRAUD, ANALYTICS)

#: The services that consume events.
CONSUMERS = tuple(service for service in SERVICES if service.consumes)

#: Stores spans: it has a database, but no broker objects.
SPAN_STORE = Service(name="trace", package="span_store", bus=BUS)

#: The services that have a database.
DATABASES = (*SERVICES, SPAN_STORE)


def topology(
    services: Sequence[Service] = SERVICES, retry_tiers: Sequence[float] = RETRY_TIERS
) -> Topology:
    """Return the topology of these services, with these retry tiers (seconds)."""
    return objects.topology(BUS, services, retry_tiers)


def stream() -> Queue:
    """Return the stream of past events."""
    return objects.stream(BUS)

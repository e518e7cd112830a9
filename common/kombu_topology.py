"""Every exchange, queue, binding, retry tier, user and permission of this shop, as data.

All of it is derived from `SERVICES`, that is from what each service's `declaration` publishes and
consumes: see `eventbus.topology`. `orderctl topology apply` declares it; the services declare
nothing.
"""

from collections.abc import Sequence
from importlib import import_module

from kombu.entity import Queue

from common.bus import BUS as BUS
from common.bus import DEAD_LETTERS as DEAD_LETTERS
from common.bus import EVENTS as EVENTS
from common.bus import STREAM as STREAM
from common.bus import TICKS as TICKS
from eventbus.topology import objects
from eventbus.topology.limits import RETRY_TIERS
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service

#: The packages of the services: each has a module `declaration`. A new service is one more line.
_PACKAGES = (
    "order_app",
    "inventory_worker",
    "notification_worker",
    "fraud_worker",
    "analytics_worker",
)


def _declared(package: str) -> Service:
    # By name: no service imports another, and a process of a service imports only its own.
    declared: Service = import_module(f"{package}.declaration").SERVICE
    return declared


SERVICES = tuple(map(_declared, _PACKAGES))

#: The services that consume events.
CONSUMERS = tuple(each for each in SERVICES if each.consumes)

#: The services that have a database.
DATABASES = (*SERVICES, _declared("span_store"), _declared("console"))


def service(name: str) -> Service:
    """Return a service by its name. Raises `LookupError` if there is none of that name."""
    for each in DATABASES:
        if each.name == name:
            return each
    raise LookupError(f"no service is called {name!r}")


ORDER, INVENTORY, NOTIFICATION = service("order"), service("inventory"), service("notification")
FRAUD, ANALYTICS, SPAN_STORE = service("fraud"), service("analytics"), service("trace")
CONSOLE = service("console")


def topology(
    services: Sequence[Service] = SERVICES, retry_tiers: Sequence[float] = RETRY_TIERS
) -> Topology:
    """Return the topology of these services, with these retry tiers (seconds)."""
    return objects.topology(BUS, services, retry_tiers)


def stream() -> Queue:
    """Return the stream of past events."""
    return objects.stream(BUS)

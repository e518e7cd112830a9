"""Every exchange, queue, binding, retry tier, user and permission of this shop, as data.

The topology is derived from `SERVICES`, that is, from the types that each service's `declaration`
publishes and consumes: see `eventbus.topology`. Only `orderctl topology apply` declares it;
services do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from types import MappingProxyType

from kombu.entity import Queue

from common.bus import BUS as BUS
from common.bus import DEAD_LETTERS as DEAD_LETTERS
from common.bus import EVENTS as EVENTS
from common.bus import STREAM as STREAM
from common.bus import TICKS as TICKS
from eventbus.topology import objects
from eventbus.topology.objects import Topology
from eventbus.topology.retry_schedule import RETRY_TIERS
from eventbus.topology.service import Service

#: The packages of the services, each of which has a module `declaration`. A new service requires
#: one more line here.
_PACKAGES = (
    "order_app",
    "inventory_worker",
    "notification_worker",
    "fraud_worker",
    "analytics_worker",
)


def _declared(package: str) -> Service:
    # Declarations are imported by name, because no service imports another, and a process of a
    # service imports only its own declaration.
    declared: Service = import_module(f"{package}.declaration").SERVICE
    return declared


SERVICES = tuple(map(_declared, _PACKAGES))

#: The services that consume events.
CONSUMERS = tuple(each for each in SERVICES if each.consumes)

#: The services that have a database.
DATABASES = (*SERVICES, _declared("span_store"), _declared("console"))


def service(name: str) -> Service:
    """Return a service by its name. Raises `LookupError` for an unknown name."""
    for each in DATABASES:
        if each.name == name:
            return each
    raise LookupError(f"no service is called {name!r}")


ORDER, INVENTORY, NOTIFICATION = service("order"), service("inventory"), service("notification")
FRAUD, ANALYTICS, SPAN_STORE = service("fraud"), service("analytics"), service("trace")
CONSOLE = service("console")


def topology(
    services: Sequence[Service] = SERVICES,
    retry_tiers: Sequence[float] = RETRY_TIERS,
    parts: Mapping[str, int] = MappingProxyType({}),
) -> Topology:
    """Return the topology of these services, with these retry tiers (seconds).

    `parts` are the numbers of parts of their queues, by service; the default is one.
    """
    return objects.topology(BUS, divided(services, parts), retry_tiers)


def divided(services: Sequence[Service], parts: Mapping[str, int]) -> tuple[Service, ...]:
    """Return the services with these numbers of parts of their queues; the default is one."""
    return tuple(replace(each, parts=parts.get(each.name, 1)) for each in services)


def stream() -> Queue:
    """Return the stream of past events."""
    return objects.stream(BUS)

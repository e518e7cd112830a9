"""The parts into which services' queues are divided on a broker."""

from collections.abc import Iterator, Mapping

from common.kombu_topology import CONSUMERS, EVENTS
from console.broker.state import BrokerState
from console.broker.topology_diff import Difference
from eventbus.topology.service import Service

#: The kind of a difference in the number of parts.
KIND = "parts"


def actual(state: BrokerState, parts: Mapping[str, int]) -> dict[str, int]:
    """Return the number of parts of each service's queue on the broker.

    A service that has no queue yet has the number of `parts`.
    """
    return {s.name: _parts_on(state, s) or parts.get(s.name, 1) for s in CONSUMERS}


def differences(state: BrokerState, parts: Mapping[str, int]) -> Iterator[Difference]:
    """Yield each service whose queue has a different number of parts on the broker.

    Only `scale` may change the number, because with bindings for two different numbers, events
    would be delivered twice.
    """
    numbers = actual(state, parts)
    for service in CONSUMERS:
        number, wanted = numbers[service.name], parts.get(service.name, 1)
        if number != wanted:
            command = f"orderctl topology scale {service.name} {wanted}"
            yield Difference(
                kind=KIND,
                name=f"of {service.queue}",
                problem=f"{number}, but PARTS has {wanted}",
                remedy=f"{command} changes them while orders are processed",
            )


def _parts_on(state: BrokerState, service: Service) -> int | None:
    if service.queue not in state.queues:
        return None
    routes = [(b["source"], b["destination"]) for b in state.bindings]
    if (EVENTS.name, service.part_exchange) not in routes:
        return 1
    return len({target for source, target in routes if source == service.part_exchange}) or 1

"""Services whose worker does not consume: its process is down, or it is paused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.kombu_topology import divided
from console.broker import queue_counts
from console.databases.pauses import read_all
from console.errors import ActionError
from console.monitoring.prometheus import Prometheus
from console.settings import BrokerAdminSettings, ConsoleSettings, DatabaseServer
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.topology.service import Service

#: The query for the workers that reported a pause at their last scrape.
_PAUSED = "orders_consumption_paused == 1"


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The reason why a worker does not consume. `is_paused` states whether `resume` ends it."""

    reason: str
    is_paused: bool = False


def stopped(settings: BrokerAdminSettings, services: Iterable[Service]) -> Mapping[str, Stop]:
    """Return the services whose worker does not consume, each with the reason.

    A pause for an outage is known only to the console, and only if Prometheus responds.
    """
    divided_services = divided(tuple(services), settings.parts)
    queues = {queue: service for service in divided_services for queue in service.queues}
    counts = queue_counts.consumers(settings, queues)
    idle = {
        service.name: Stop(reason=f"{service.name}-worker is not running")
        for queue, service in queues.items()
        if counts.get(queue) == 0
    }
    by_operator = {
        name: Stop(reason=f"{name} is paused by {pause.paused_by}: {pause.reason}", is_paused=True)
        for name, pause in _pauses(settings, [s for s in divided_services if s.name in idle])
    }
    return _paused(settings) | idle | by_operator


def _pauses(
    settings: BrokerAdminSettings, services: Sequence[Service]
) -> Iterable[tuple[str, OperatorPause]]:
    # A service that consumes is not paused.
    return (
        read_all(settings, services).paused.items() if isinstance(settings, DatabaseServer) else ()
    )


def _paused(settings: BrokerAdminSettings) -> dict[str, Stop]:
    if not isinstance(settings, ConsoleSettings) or settings.prometheus_url is None:
        return {}
    try:
        with Prometheus(settings.prometheus_url) as prometheus:
            paused = prometheus.now(_PAUSED, "service")
    except ActionError:
        return {}
    return {name: Stop(reason=f"{name}-worker is paused; see its log") for name in paused}

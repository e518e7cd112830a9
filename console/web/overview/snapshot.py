"""The state of the system at one moment, from every source that responds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from analytics_worker.figures import behind
from common.kombu_topology import ANALYTICS, CONSUMERS, ORDER, SERVICES
from console.actions import figures, health, missed, oldest_queued, waiting
from console.actions.figures import Lately
from console.actions.health import BrokerHealth, Finding
from console.broker.topology_diff import Difference
from console.databases.pauses import Pauses
from console.databases.service_database import Databases
from console.monitoring.prometheus import Alert
from console.settings import ConsoleSettings
from console.web.overview.rows import Row, row
from console.web.overview.shapes import Level
from console.web.overview.sources import Sources
from console.web.queries import Queries, Result, results
from eventbus.consumer import operator_pause
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.topology.service import Service
from order_app.storage.pending import Pending

#: Services with an outbox.
_SENDERS = tuple(service for service in SERVICES if service.publishes)

#: Services whose queue drops events when it is full.
_SUBSCRIBERS = tuple(service for service in CONSUMERS if service.can_overflow)

#: Services that read the stream.
_READERS = (ANALYTICS,)

#: The results of queries, by the service and the field of its row.
_ByService = dict[str, dict[str, Result[Any]]]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of the system; `unavailable` are the sources that do not respond, with reasons."""

    at: datetime
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    drift: tuple[Difference, ...]
    unavailable: Mapping[str, str]
    lately: Lately | None
    pending: Pending | None

    @property
    def firing(self) -> list[Alert]:
        """The alerts that fire."""
        return [alert for alert in self.lately.alerts if alert.is_firing] if self.lately else []

    @property
    def paused(self) -> dict[str, OperatorPause]:
        """The pauses in effect, by service."""
        return {each.service.name: each.pause for each in self.rows if each.pause}

    @property
    def parked(self) -> dict[str, int]:
        """The numbers of parked messages, by service, where there are any."""
        return {each.service.name: each.parked for each in self.rows if each.parked}

    @property
    def headline(self) -> str:
        """The state in a few words. It is healthy only if every source has confirmed it."""
        if self.findings or self.firing:
            return "Problems found"
        if count := sum(self.parked.values()):
            return f"{count:,} {'message is' if count == 1 else 'messages are'} parked"
        if self.unavailable:
            return "Some data is unavailable"
        return f"Healthy, but paused: {', '.join(self.paused)}" if self.paused else "Healthy"

    @property
    def level(self) -> Level:
        """The level of the headline."""
        if self.findings or self.firing or self.parked:
            return Level.BAD
        return Level.WARN if self.unavailable or self.paused else Level.GOOD

    def row_of(self, service: Service) -> Row:
        """Return the state of a service."""
        return next(each for each in self.rows if each.service.name == service.name)


def take(settings: ConsoleSettings, sources: Sources, queries: Queries) -> Snapshot:
    """Return the current state, within `queries.PATIENCE` seconds."""
    per_field: Mapping[str, tuple[Iterable[Service], Callable[..., Any]]] = {
        "pause": (CONSUMERS, _pause),
        "waiting": (_SENDERS, waiting.read),
        "missed": (_SUBSCRIBERS, missed.read),
        "oldest_seconds": (CONSUMERS, oldest_queued.age_of_oldest),
        "behind_seconds": (_READERS, _behind),
    }
    shared: list[Future[Any]] = [
        queries.start(partial(_broker, settings, sources)),
        queries.start(partial(_lately, sources)),
    ]
    # Each source is queried separately, so a database that does not respond hides only its own
    # data.
    started: dict[tuple[str, str], Future[Any]] = {
        (service.name, field): queries.start(partial(query, sources.databases, service))
        for field, (services, query) in per_field.items()
        for service in services
    }
    broker, lately, *found = results([*shared, *started.values()])
    by_service: _ByService = {service.name: {} for service in SERVICES}
    for (service_name, field), result in zip(started, found, strict=True):
        by_service[service_name][field] = result
    return _snapshot(broker, lately, by_service)


def _broker(settings: ConsoleSettings, sources: Sources) -> BrokerHealth:
    return health.inspect(settings, sources.broker())


def _lately(sources: Sources) -> Lately | None:
    prometheus = sources.prometheus()
    return figures.lately(prometheus) if prometheus else None


def _pause(databases: Databases, service: Service) -> OperatorPause | None:
    with databases.transaction(service) as session:
        return operator_pause.read(session)


def _behind(databases: Databases, service: Service) -> float | None:
    with databases.transaction(service) as session:
        return behind(session)


def _snapshot(
    broker: Result[BrokerHealth], lately: Result[Lately | None], by_service: _ByService
) -> Snapshot:
    rows = tuple(
        row(
            service,
            broker.value,
            lately.value,
            **{name: result.value for name, result in by_service[service.name].items()},
        )
        for service in SERVICES
    )
    paused = Pauses(paused={each.service.name: each.pause for each in rows if each.pause})
    orders = next(each.waiting for each in rows if each.service == ORDER)
    found = broker.value
    return Snapshot(
        at=datetime.now(UTC),
        rows=rows,
        findings=health.without_paused(found.findings, paused) if found else (),
        drift=found.drift if found else (),
        unavailable=dict(_unavailable(broker, lately, by_service, rows)),
        lately=lately.value,
        pending=orders.orders if orders else None,
    )


def _unavailable(
    broker: Result[BrokerHealth],
    lately: Result[Lately | None],
    by_service: _ByService,
    rows: Iterable[Row],
) -> Iterator[tuple[str, str]]:
    if broker.problem:
        yield "RabbitMQ", broker.problem
    if broker.value and (unknown := broker.value.unknown):
        text = f"RabbitMQ reports no statistics of {', '.join(unknown)}."
        yield "The number of consumers", text
    if broker.value and (lots := [r.service.parking_lot for r in rows if _is_uncounted(r)]):
        text = f"RabbitMQ does not report the messages of {', '.join(lots)}."
        yield "The number of parked messages", text
    if lately.problem:
        yield "Prometheus", lately.problem
    for name, found in by_service.items():
        # One failed query of a database must not be hidden by another, whether that fails or not.
        if problems := sorted({result.problem for result in found.values() if result.problem}):
            yield f"The database of the {name} service", "; ".join(problems)


def _is_uncounted(each: Row) -> bool:
    return bool(each.service.consumes) and each.parked is None

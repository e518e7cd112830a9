"""The overview page: whether the system is healthy, and where work is stuck."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Blueprint, current_app, render_template

from common.kombu_topology import CONSUMERS, ORDER, SERVICES
from console.actions import figures, health, missed, waiting
from console.actions.figures import Lately
from console.actions.health import BrokerHealth
from console.actions.missed import Missed
from console.actions.waiting import Waiting
from console.broker.state import figure
from console.databases import pauses
from console.databases.pauses import Pauses
from console.settings import ConsoleSettings
from console.web import sparkline
from console.web.queries import Queries, Result, results
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.topology.service import Service

overview = Blueprint("overview", __name__)

#: Services with an outbox.
_SENDERS = tuple(service for service in SERVICES if service.publishes)

#: Services whose queue drops events when it is full.
_SUBSCRIBERS = tuple(service for service in CONSUMERS if service.can_overflow)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One service; a field is None if it is unknown."""

    service: Service
    depth: int | None
    consumers: int | None
    retrying: int | None
    parked: int | None
    parked_seconds: float | None
    waiting: Waiting | None
    missed: Missed | None
    pause: OperatorPause | None


@overview.get("/overview")
def show() -> str:
    """Show the state of every source that responds."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    futures: list[Future[Any]] = [
        queries.start(partial(health.inspect, settings)),
        queries.start(partial(figures.lately, settings)),
        # Each separately: a database that does not respond hides only its own service's pause.
        *(queries.start(partial(pauses.read, settings, service)) for service in CONSUMERS),
        *(queries.start(partial(waiting.read, settings, service)) for service in _SENDERS),
        *(queries.start(partial(missed.read, settings, service)) for service in _SUBSCRIBERS),
    ]
    broker: Result[BrokerHealth]
    lately: Result[Lately]
    databases: list[Result[Any]]
    broker, lately, *databases = results(futures)
    left = iter(databases)
    pause_by: dict[str, Result[OperatorPause | None]] = _by_name(CONSUMERS, left)
    waiting_by: dict[str, Result[Waiting]] = _by_name(_SENDERS, left)
    missed_by: dict[str, Result[Missed]] = _by_name(_SUBSCRIBERS, left)
    paused = {name: pause.value for name, pause in pause_by.items() if pause.value}
    orders = waiting_by[ORDER.name].value
    problems = {
        "RabbitMQ": broker.problem,
        "The number of consumers": _uncounted(broker.value),
        "Prometheus": lately.problem,
    } | {
        f"The database of the {name} service": result.problem
        for by_name in (pause_by, waiting_by, missed_by)
        for name, result in by_name.items()
        # One failed query of a database must not be hidden by another that succeeds.
        if result.problem
    }
    return render_template(
        "overview.html",
        drift=broker.value.drift if broker.value else (),
        findings=health.without_paused(broker.value.findings, Pauses(paused=paused))
        if broker.value
        else (),
        paused=paused,
        unseen={name: problem for name, problem in problems.items() if problem},
        lately=lately.value,
        has_prometheus=settings.prometheus_url is not None,
        rows=[
            _row(
                service,
                broker.value,
                lately.value,
                waiting_by.get(service.name),
                missed_by.get(service.name),
                paused.get(service.name),
            )
            for service in SERVICES
        ],
        orders=orders.orders if orders else None,
        drawings=[sparkline.draw(figure) for figure in lately.value.figures]
        if lately.value
        else (),
        latest=sparkline.latest,
        minutes=figures.LATELY // 60,
    )


def _by_name(services: Iterable[Service], left: Iterator[Result[Any]]) -> dict[str, Result[Any]]:
    """Take the result of each service from the results that are left."""
    return {service.name: next(left) for service in services}


def _row(
    service: Service,
    broker: BrokerHealth | None,
    lately: Lately | None,
    outbox: Result[Waiting] | None,
    overflow: Result[Missed] | None,
    pause: OperatorPause | None,
) -> Row:
    divided = {s.name: s for s in broker.services} if broker else {}
    names = divided.get(service.name, service).queues
    queues = [broker.state.queues.get(name) for name in names] if broker else []
    parking_lot = broker.state.queues.get(service.parking_lot) if broker else None
    return Row(
        service=service,
        depth=_total(figure(queue, "messages") for queue in queues) if broker else None,
        consumers=_least(figure(queue, "consumers") for queue in queues),
        retrying=_retrying(service, broker) if broker else None,
        parked=figure(parking_lot, "messages"),
        parked_seconds=lately.parked.get(service.parking_lot) if lately else None,
        waiting=outbox.value if outbox else None,
        missed=overflow.value if overflow else None,
        pause=pause,
    )


def _uncounted(broker: BrokerHealth | None) -> str | None:
    if broker is None or not broker.unknown:
        return None
    return f"RabbitMQ reports no statistics of {', '.join(broker.unknown)}."


def _retrying(service: Service, broker: BrokerHealth) -> int | None:
    tiers = [queue for name, queue in broker.state.queues.items() if _is_tier(service, name)]
    return _total(figure(queue, "messages") for queue in tiers)


def _total(figures: Iterable[int | None]) -> int | None:
    # A sum with an unknown part is unknown.
    known = _known(figures)
    return None if known is None else sum(known)


def _least(figures: Iterable[int | None]) -> int | None:
    # A part without a consumer makes no progress, even if all other parts have consumers.
    return min(_known(figures) or [], default=None)


def _known(figures: Iterable[int | None]) -> list[int] | None:
    every = list(figures)
    known = [each for each in every if each is not None]
    return known if len(known) == len(every) else None


def _is_tier(service: Service, queue: str) -> bool:
    return queue.startswith(f"{service.retry_exchange}.")

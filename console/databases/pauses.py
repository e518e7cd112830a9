"""Pausing and resuming the consumption of one service."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.exc import DBAPIError

from common.kombu_topology import CONSUMERS as _CONSUMERS
from console.databases.service_database import transaction
from console.errors import problem
from console.operator_text import checked
from console.settings import DatabaseServer
from eventbus.consumer import operator_pause
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.errors import ExpectedError
from eventbus.messaging.untrusted import storable
from eventbus.telemetry.privacy import masked
from eventbus.topology.service import Service

#: The services whose consumption can be paused, by name.
CONSUMERS: Mapping[str, Service] = {service.name: service for service in _CONSUMERS}


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """The pauses in effect by service, and the problems of databases that were not read."""

    paused: Mapping[str, OperatorPause] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, queue: str) -> bool:
        """Return whether this is the queue, or a part of it, of a paused service."""
        return any(CONSUMERS[name].is_part_queue(queue) for name in self.paused)


def begin(
    settings: DatabaseServer, service: Service, *, reason: str, operator: str
) -> OperatorPause | None:
    """Pause a service; if it is already paused, change nothing, and return the existing pause.

    Raises `ActionError` for an invalid reason.
    """
    # Addresses are masked, because every viewer of the console can read the reason.
    reason = masked(checked("reason", reason))
    with transaction(settings, service) as session:
        return operator_pause.begin(session, reason=reason, by=storable(operator))


def end(settings: DatabaseServer, service: Service) -> OperatorPause | None:
    """Resume a service; return the pause that has ended, or None if it was not paused."""
    with transaction(settings, service) as session:
        return operator_pause.end(session)


def read(settings: DatabaseServer, service: Service) -> OperatorPause | None:
    """Return the pause of a service that is in effect, or None."""
    with transaction(settings, service) as session:
        return operator_pause.read(session)


def read_all(settings: DatabaseServer, services: Iterable[Service] = _CONSUMERS) -> Pauses:
    """Return the pauses of services. A database that does not respond is listed as a problem.

    The databases are read concurrently: the call takes as long as the slowest of them.
    """
    paused: dict[str, OperatorPause] = {}
    problems: dict[str, str] = {}
    listed = tuple(services)
    with ThreadPoolExecutor(len(_CONSUMERS)) as threads:
        for service, found in zip(
            listed, threads.map(partial(_try, settings), listed), strict=True
        ):
            if isinstance(found, OperatorPause):
                paused[service.name] = found
            elif found:
                problems[service.name] = found
    return Pauses(paused=paused, problems=problems)


def _try(settings: DatabaseServer, service: Service) -> OperatorPause | str | None:
    try:
        return read(settings, service)
    except (DBAPIError, ExpectedError) as error:
        return problem(error)

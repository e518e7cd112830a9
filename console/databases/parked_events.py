"""The records of parked events, in the databases of the services that park in sequence."""

from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from console.databases.service_database import transaction
from console.settings import DatabaseServer
from eventbus.consumer import parked_events
from eventbus.topology.service import Service


def release(settings: DatabaseServer, service: Service, event_ids: Iterable[str]) -> None:
    """Let later events overtake these events."""
    if service.parks_in_sequence:
        with transaction(settings, service) as session:
            parked_events.forget(session, list(_uuids(event_ids)))


def record(settings: DatabaseServer, service: Service, body: bytes) -> None:
    """Make later events wait behind the event in a message body, unless it was handled."""
    if service.parks_in_sequence:
        with transaction(settings, service) as session:
            parked_events.record(session, [body])


def _uuids(values: Iterable[str]) -> Iterable[UUID]:
    for value in values:
        # A message may have any id.
        with suppress(ValueError):
            yield UUID(value)

"""The release of a parked event: later events of its order pass it."""

from contextlib import suppress
from uuid import UUID

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.errors import ActionError
from console.operator_text import checked
from console.parking import journal
from console.parking.journal import Change, Entry
from console.settings import DatabaseServer
from eventbus.consumer import parked_events
from eventbus.messaging import untrusted
from eventbus.topology.service import Service


def release(
    settings: DatabaseServer, service: Service, event_id: str, *, reason: str, released_by: str
) -> None:
    """Let the later events of an order pass an event; a parked event stays parked.

    The release is recorded first, so after a crash in between, the journal contains a release that
    was not made. Raises `ActionError` if no event waits behind the event; nothing is changed in
    this case.
    """
    entry = Entry(
        service=service.name,
        change=Change.RELEASED,
        recorded_by=released_by,
        event_id=event_id,
        text=checked("reason", reason),
    )
    name = untrusted.text(event_id)
    if not service.parks_in_sequence:
        raise ActionError(
            f"{service.name} does not park in sequence: no event waits behind another"
        )
    with transaction(settings, service) as session:
        if not parked_events.forget(session, _key(event_id)):
            raise ActionError(f"{service.name} has no record of {name}: no event waits behind it")
        # The entry is recorded before the release is committed.
        with transaction(settings, CONSOLE) as own:
            journal.record(own, entry)


def _key(event_id: str) -> list[UUID]:
    # A message may have any id.
    with suppress(ValueError):
        return [UUID(event_id)]
    return []

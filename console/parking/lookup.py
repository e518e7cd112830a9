"""Parked messages of one event: from the index of a large parking lot, or from a small one itself.

The index may be a minute old. An action on a message compares its id and its body again, when it
takes the message out of the parking lot.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from common.kombu_topology import CONSOLE
from console.broker.other_readers import unread
from console.broker.parked_message import digest as digest_of
from console.broker.parked_message import event_id
from console.broker.parking_lot import parking_lot
from console.databases.service_database import transaction
from console.errors import ActionError
from console.parking.content import Content
from console.parking.index import rows
from console.settings import DiscardSettings
from eventbus.messaging.untrusted import text
from eventbus.topology.service import Service


@dataclass(frozen=True, kw_only=True)
class Found:
    """The oldest parked messages of an event; `as_of` is the time of the index, None: now."""

    contents: tuple[Content, ...]
    as_of: datetime | None = None
    #: As `other_readers` returns it, if no message was found.
    unread: str = ""


def find(
    settings: DiscardSettings, service: Service, wanted: str, digest: str = "", *, limit: int = 1
) -> Found:
    """Return the messages of an event, with this SHA-256 of the body if it is not empty.

    A parking lot that is not indexed, or whose index is unavailable, is read up to the last of
    them; the messages stay.
    """
    with suppress(DBAPIError), transaction(settings, CONSOLE) as session:
        if lot := rows.lot(session, service.name):
            contents = rows.of_event(session, service.name, wanted, digest, limit=limit)
            return Found(
                contents=contents, as_of=lot.read_at, unread="" if contents else lot.unread
            )
    return read(settings, service, wanted, digest, limit=limit)


def read(
    settings: DiscardSettings, service: Service, wanted: str, digest: str = "", *, limit: int = 1
) -> Found:
    """Return the same from the parking lot itself."""
    with parking_lot(settings, service) as lot:
        messages = (
            message
            for message in lot.scan()
            if event_id(message) == wanted and digest in ("", digest_of(message))
        )
        # The numbers first: no message is read after the last one.
        contents = tuple(
            Content.of(service, each) for _, each in zip(range(limit), messages, strict=False)
        )
        others = "" if contents else unread(settings, service, lot)
    return Found(contents=contents, unread=others)


def only(found: Found, service: Service, wanted: str, digest: str = "") -> Content:
    """Return the oldest message that was found. Raises `ActionError` if there is none."""
    if found.contents:
        return found.contents[0]
    at = f" at {found.as_of.astimezone(UTC):%H:%M:%S} UTC" if found.as_of else ""
    body = " with the body that was shown" if digest else ""
    reason = f"not parked by {service.name}{body}{at}: {text(wanted)}"
    raise ActionError(f"{reason}; {found.unread}" if found.unread else reason)

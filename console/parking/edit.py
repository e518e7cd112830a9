"""An edit of one parked message, which changes only the payload of its event.

The id of the event stays the same, so the inbox accepts either the original or the edited copy.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from amqp import Message
from sqlalchemy.exc import DBAPIError

from common.kombu_topology import CONSOLE
from console.broker.parked_message import Parked, digest, event_id
from console.broker.parking_lot import ParkingLot, parking_lot
from console.databases.service_database import transaction
from console.errors import ActionError
from console.operator_text import checked
from console.parking import journal, lookup
from console.parking.age_limit import is_too_old
from console.parking.difference import Change, difference, unknown
from console.parking.effects import Candidate, Effect, effects
from console.parking.journal import Entry
from console.parking.lookup import Found
from console.settings import ParkingSettings
from eventbus.errors import InvalidEvent
from eventbus.events import codec
from eventbus.messaging import untrusted
from eventbus.messaging.untrusted import BODY_LIMIT, storable
from eventbus.topology.service import Service

#: A function that finds the parked messages of an event.
Find = Callable[[ParkingSettings, Service, str, str], Found]


@dataclass(frozen=True, kw_only=True)
class Original:
    """A parked message before its edit, and the effect of its redrive; None if that is unknown."""

    parked: Parked
    digest: str
    envelope: Mapping[str, Any]
    effect: Effect | None

    @property
    def payload(self) -> Any:
        """The payload of the event, or None."""
        return self.envelope.get("data")

    @property
    def text(self) -> str:
        """The payload as indented JSON."""
        # JSON may contain lone surrogates, which a page or a file cannot contain.
        return storable(msgspec.json.format(_encoded(self.payload), indent=2).decode())


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A valid edit before it is made: the original, the edited body, and the difference."""

    original: Original
    body: bytes
    changes: tuple[Change, ...]


def read(
    settings: ParkingSettings,
    service: Service,
    wanted: str,
    wanted_digest: str = "",
    *,
    find: Find = lookup.read,
) -> Original:
    """Return the oldest parked message of an event; `digest` is the SHA-256 of its body, if given.

    The message stays in place. `find` reads the parking lot or its index. Raises `ActionError` if
    no such message is parked, or if it contains no event.
    """
    found = find(settings, service, wanted, wanted_digest)
    content = lookup.only(found, service, wanted, wanted_digest)
    if content.body is None:
        raise ActionError(
            f"{wanted} cannot be edited here: the index has no copy of its body;"
            f" see: orderctl parked edit {service.name}"
        )
    envelope, parked = untrusted.envelope(content.body), content.parked
    if not envelope:
        raise ActionError(f"{parked.id} cannot be edited: its body contains no event")
    candidate = Candidate.of(settings, parked, Message(content.body))
    return Original(
        parked=parked,
        digest=parked.digest,
        envelope=envelope,
        effect=_effect(settings, service, candidate),
    )


def edit(original: Original, payload: Any) -> Edit:
    """Return an edit that replaces the payload of an event, which may be any JSON value.

    Raises `ActionError` with the path of a value that the contract of the event's type does not
    allow, or if nothing differs.
    """
    changes = difference(original.payload, payload)
    if not changes:
        raise ActionError("the payload is unchanged")
    body = codec.wrap(_encoded({**original.envelope, "data": payload}))
    if len(body) > BODY_LIMIT:
        raise ActionError(f"the edited event has more than {BODY_LIMIT} bytes")
    try:
        event = codec.read(body)
    except InvalidEvent as error:
        raise ActionError(f"the edited event is invalid: {error}") from None
    # A consumer ignores unknown fields, so a misspelled field would have no effect.
    if names := unknown(changes, msgspec.json.decode(_encoded(event.data))):
        raise ActionError(f"{event.type} has no field {', '.join(names)}")
    return Edit(original=original, body=body, changes=changes)


def publish(
    settings: ParkingSettings,
    service: Service,
    wanted: Edit,
    *,
    reason: str,
    edited_by: str,
    redrive: bool,
) -> None:
    """Replace a parked message with its edited copy, in the service's queue or in the parking lot.

    A redriven copy has one attempt. The edit is recorded first; the original leaves the parking lot
    once the broker has confirmed the copy. After a crash in between, the original, the copy or both
    exist. Raises `ActionError` if the message is no longer parked or cannot be copied, if its event
    is too old to be redriven, or if the queue rejects the copy; in these cases, the message stays
    parked.
    """
    reason, parked = checked("reason", reason), wanted.original.parked
    with parking_lot(settings, service) as lot:
        message = _find(lot, wanted.original)
        if message is None:
            raise ActionError(f"not parked by {service.name} any more: {parked.id}")
        if redrive and is_too_old(message, settings):
            days = f"PARKED_REDRIVE_DAYS ({settings.parked_redrive_days})"
            raise ActionError(f"{parked.id} is older than {days} and cannot be redriven")
        entry = _entry(wanted, reason=reason, edited_by=edited_by, redrive=redrive)
        _record(settings, entry)
        try:
            _replace(settings, lot, message, wanted.body, redrive=redrive)
        except ActionError as error:
            failed = Entry(
                service=service.name,
                change=journal.Change.EDIT_FAILED,
                recorded_by=edited_by,
                event_id=parked.id,
                text=str(error),
                details={"before": wanted.original.digest},
            )
            _record(settings, failed)
            raise


def _replace(
    settings: ParkingSettings, lot: ParkingLot, message: Message, body: bytes, *, redrive: bool
) -> None:
    # As in a plan, all attempts except the last are counted, so a failure is known within seconds.
    moved = (
        lot.put_back(message, body=body, retries=len(settings.retry_tiers))
        if redrive
        else lot.replace(message, body)
    )
    if not moved:
        raise ActionError("the message has properties that cannot be copied")


def _find(lot: ParkingLot, original: Original) -> Message | None:
    return next(
        (
            message
            for message in lot.messages()
            if event_id(message) == original.parked.id and digest(message) == original.digest
        ),
        None,
    )


def _effect(settings: ParkingSettings, service: Service, candidate: Candidate) -> Effect | None:
    # The edit itself does not need these databases, so their errors are ignored.
    with suppress(DBAPIError), effects(settings, service) as expected:
        return expected.of([candidate])[0]
    return None


def _entry(wanted: Edit, *, reason: str, edited_by: str, redrive: bool) -> Entry:
    parked = wanted.original.parked
    return Entry(
        service=parked.service,
        change=journal.Change.EDITED,
        recorded_by=edited_by,
        event_id=parked.id,
        text=reason,
        details={
            "before": wanted.original.digest,
            "after": digest(Message(wanted.body)),
            "redriven": redrive,
            "changes": [asdict(change) for change in wanted.changes],
        },
    )


def _record(settings: ParkingSettings, entry: Entry) -> None:
    with transaction(settings, CONSOLE) as session:
        journal.record(session, entry)


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, ArithmeticError, ValueError, RecursionError) as error:
        raise ActionError(f"the payload cannot be encoded: {untrusted.text(error)}") from None

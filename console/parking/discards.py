"""Discarded messages, which are kept for a while and can be restored."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from amqp import Message
from amqp.exceptions import MessageNacked
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, defer

from common import kombu_topology
from common.kombu_topology import CONSOLE
from console.broker.connection import ANSWER_TIMEOUT, connected
from console.broker.parked_message import Parked, body_bytes, body_text
from console.broker.parking_lot import parking_lot
from console.databases import parked_events
from console.databases.service_database import transaction
from console.errors import ActionError
from console.models import DiscardRow
from console.operator_text import checked
from console.parking import journal
from console.parking.choice import choose
from console.parking.journal import Change
from console.settings import BrokerAdminSettings, DiscardSettings
from eventbus.messaging.message_copy import copy_of
from eventbus.topology.service import Service

#: Maximum number of discarded messages that are listed, from the newest.
LISTED = 100

#: Maximum number of old rows that are deleted in one transaction, which is therefore short. The
#: next command deletes more.
_DELETED_TOGETHER = 1_000


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """A discarded message, with its number, its body, and the reason why it was parked."""

    id: int
    parked: Parked
    body: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A discarded message in the list, without its content."""

    id: int
    service: str
    event_id: str
    type: str | None
    failure: str
    reason: str
    discarded_by: str
    discarded_at: datetime


def discard(
    settings: DiscardSettings,
    service: Service,
    event_ids: Iterable[str],
    *,
    digest: str | None = None,
    reason: str,
    discarded_by: str,
) -> tuple[Discarded, ...]:
    """Take the messages of these events out of the parking lot, and return them.

    With `digest`, only messages whose body has this SHA-256 are taken. They are stored first, for
    `discarded_retention_days`, so after a crash in between, a message is in both places. Once no
    message of an event is left, later events no longer wait behind it. Raises `ActionError` naming
    the events that are not parked, or that are parked with different bodies; nothing is changed in
    this case. Also raises `ActionError` if more messages are parked than `choose` returns, after
    the returned messages have been discarded.
    """
    reason = checked("reason", reason)
    with parking_lot(settings, service) as lot:
        choice = choose(settings, service, lot, event_ids, digest)
        if choice.missing:
            raise ActionError(choice.missing)
        chosen = choice.messages
        parked = [Parked.of(service, message) for message in chosen]
        with transaction(settings, CONSOLE) as session:
            _forget(session, timedelta(days=settings.discarded_retention_days))
            rows = [
                _row(one, message, reason, discarded_by)
                for one, message in zip(parked, chosen, strict=True)
            ]
            session.add_all(rows)
            session.flush()
            ids = [row.id for row in rows]
            entries = [_journaled(row, Change.DISCARDED, discarded_by, reason) for row in rows]
            journal.record(session, *entries)
        # The records are deleted before the messages are removed, because a record without a
        # message would block its order.
        parked_events.release(settings, service, {one.id for one in parked} - choice.left)
        for message in chosen:
            lot.discard(message)
    if choice.more:
        raise ActionError(
            f"{len(chosen)} discarded, and {choice.more} left parked: discard them again"
        )
    return tuple(
        Discarded(id=id_, parked=one, body=body_text(body_bytes(message)))
        for id_, one, message in zip(ids, parked, chosen, strict=True)
    )


def restore(settings: DiscardSettings, discard_id: int, *, restored_by: str) -> Entry:
    """Return a discarded message to its parking lot, and remove it from the list.

    If its service parks in sequence, later events wait behind it again. The row is deleted once the
    broker has confirmed the message, so after a crash in between, the message is in both places.
    Raises `ActionError` if there is no such message, or if it cannot be sent.
    """
    with transaction(settings, CONSOLE) as session:
        _forget(session, timedelta(days=settings.discarded_retention_days))
        rows = select(DiscardRow).where(DiscardRow.id == discard_id)
        row = session.scalars(rows.with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            raise ActionError(
                f"discarded message {discard_id} does not exist, or is being restored;"
                " see: orderctl parked discarded"
            )
        if row.properties is None:
            raise ActionError(
                f"discarded message {discard_id} cannot be restored: its properties cannot be sent"
            )
        service = kombu_topology.service(row.service)
        parked_events.record(settings, service, row.body)
        _publish(settings, service, row.properties, row.body)
        journal.record(session, _journaled(row, Change.RESTORED, restored_by))
        entry = _entry(row)
        session.delete(row)
    return entry


def newest(settings: DiscardSettings, service: Service | None = None) -> list[Entry]:
    """Return the newest discarded messages of a service or of all, at most `LISTED`."""
    with transaction(settings, CONSOLE) as session:
        _forget(session, timedelta(days=settings.discarded_retention_days))
        rows = select(DiscardRow).order_by(DiscardRow.id.desc()).limit(LISTED)
        rows = rows.options(defer(DiscardRow.body), defer(DiscardRow.properties))
        if service:
            rows = rows.where(DiscardRow.service == service.name)
        return [_entry(row) for row in session.scalars(rows)]


def _row(parked: Parked, message: Message, reason: str, discarded_by: str) -> DiscardRow:
    # All headers are kept, because they contain the failures.
    copy = copy_of(message.body, message.properties, message.headers or {})
    return DiscardRow(
        service=parked.service,
        event_id=parked.id,
        type=parked.type,
        failure=parked.failure,
        reason=reason,
        discarded_by=discarded_by,
        properties=copy._serialize_properties() if copy else None,
        body=body_bytes(message),
    )


def _entry(row: DiscardRow) -> Entry:
    return Entry(
        id=row.id,
        service=row.service,
        event_id=row.event_id,
        type=row.type,
        failure=row.failure,
        reason=row.reason,
        discarded_by=row.discarded_by,
        discarded_at=row.discarded_at,
    )


def _journaled(
    row: DiscardRow, change: Change, by: str, reason: str | None = None
) -> journal.Entry:
    return journal.Entry(
        service=row.service,
        change=change,
        recorded_by=by,
        event_id=row.event_id,
        text=reason,
        details={"before": sha256(row.body).hexdigest()},
    )


def _publish(
    settings: BrokerAdminSettings, service: Service, properties: bytes, body: bytes
) -> None:
    message = Message(body)
    message._load_properties(Message.CLASS_ID, properties, 0)
    with connected(settings, confirm_publish=True) as connection:
        try:
            connection.channel().basic_publish(
                message,
                routing_key=service.parking_lot,
                mandatory=True,
                confirm_timeout=ANSWER_TIMEOUT,
            )
        except MessageNacked:
            raise ActionError(f"{service.parking_lot} rejects the message") from None


def _forget(session: Session, age: timedelta) -> None:
    old = select(DiscardRow.id).where(DiscardRow.discarded_at < func.now() - age)
    old = old.order_by(DiscardRow.discarded_at).limit(_DELETED_TOGETHER)
    session.execute(delete(DiscardRow).where(DiscardRow.id.in_(old)))

"""The rows of the index: a large parking lot, and each of its messages."""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Select, case, delete, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from console.broker.parked_message import Parked
from console.models import IndexedLotRow, IndexedRow
from console.parking.content import Content
from console.parking.selection import ALL, Selection
from eventbus.messaging.untrusted import storable

#: Maximum number of rows that are deleted in one statement.
_DELETED_TOGETHER = 5_000


def lot(session: Session, service: str) -> IndexedLotRow | None:
    """Return the last reading of a parking lot, or None if the parking lot is not indexed."""
    return session.get(IndexedLotRow, service)


def lots(session: Session) -> dict[str, tuple[IndexedLotRow, timedelta]]:
    """Return the last reading of each indexed parking lot with its age, by service."""
    found = session.execute(select(IndexedLotRow, func.now()))
    return {row.service: (row, now - row.read_at) for row, now in found}


def oldest(
    session: Session, service: str, selection: Selection = ALL, *, limit: int
) -> dict[int, Parked]:
    """Return the oldest selected messages of a parking lot, by their row numbers."""
    rows = select(IndexedRow.id, IndexedRow.parked).where(IndexedRow.service == service)
    if selection.find:
        entered = storable(selection.find)
        rows = rows.where(or_(IndexedRow.event_id == entered, IndexedRow.order_id == entered))
    if selection.group:
        rows = rows.where(IndexedRow.group_key == storable(selection.group))
    if selection.after:
        rows = rows.where(IndexedRow.id > selection.after)
    found = session.execute(rows.order_by(IndexedRow.id).limit(limit))
    return {number: msgspec.convert(parked, Parked) for number, parked in found}


def of_event(
    session: Session, service: str, event_id: str, digest: str, *, limit: int
) -> tuple[Content, ...]:
    """Return the oldest messages of an event, with this SHA-256 of the body if it is not empty."""
    rows = select(IndexedRow.parked, IndexedRow.headers, IndexedRow.size, IndexedRow.body).where(
        IndexedRow.service == service, IndexedRow.event_id == storable(event_id)
    )
    if digest:
        rows = rows.where(IndexedRow.digest == storable(digest))
    found = session.execute(rows.order_by(IndexedRow.id).limit(limit))
    return tuple(
        Content(
            parked=msgspec.convert(row.parked, Parked),
            headers=row.headers,
            size=row.size,
            body=row.body,
        )
        for row in found
    )


def of_events(session: Session, service: str, event_ids: Sequence[str]) -> tuple[Parked, ...]:
    """Return the oldest message of each of these events that is parked."""
    rows = (
        select(IndexedRow.parked)
        .ext(distinct_on(IndexedRow.event_id))
        .where(IndexedRow.service == service, IndexedRow.event_id.in_(event_ids))
        .order_by(IndexedRow.event_id, IndexedRow.id)
    )
    return _described(session.scalars(rows))


def add(session: Session, rows: Sequence[dict[str, object]]) -> None:
    """Insert messages."""
    session.execute(insert(IndexedRow).on_conflict_do_nothing(), rows)


def store(session: Session, read: IndexedLotRow) -> None:
    """Replace the last reading of a parking lot."""
    session.merge(read)


def remove(
    session: Session, service: str, event_ids: Collection[str], digest: str | None = None
) -> None:
    """Delete the messages of these events, or only messages with this SHA-256 of the body."""
    rows = delete(IndexedRow).where(
        IndexedRow.service == service, IndexedRow.event_id.in_(event_ids)
    )
    session.execute(rows.where(IndexedRow.digest == digest) if digest else rows)


def remove_rows(session: Session, ids: Sequence[int]) -> None:
    """Delete the messages with these row numbers."""
    for start in range(0, len(ids), _DELETED_TOGETHER):
        chunk = ids[start : start + _DELETED_TOGETHER]
        session.execute(delete(IndexedRow).where(IndexedRow.id.in_(chunk)))


def forget(session: Session, service: str) -> None:
    """Delete a parking lot and all its messages."""
    session.execute(delete(IndexedLotRow).where(IndexedLotRow.service == service))
    ids = select(IndexedRow.id).where(IndexedRow.service == service)
    remove_rows(session, session.scalars(ids).all())


def numbers(service: str) -> Select[UUID, int, int]:
    """Return a query for the fingerprint, the row number and the kept bytes of each message."""
    kept = case((IndexedRow.body.is_not(None), IndexedRow.size), else_=0)
    return select(IndexedRow.fingerprint, IndexedRow.id, kept).where(IndexedRow.service == service)


def _described(documents: Iterable[object]) -> tuple[Parked, ...]:
    return tuple(msgspec.convert(document, Parked) for document in documents)

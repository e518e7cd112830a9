"""The parked events of a service that parks in sequence, behind which later events wait.

A row is committed before its event is parked, and is deleted in the transaction that handles the
event. An event waits, and is itself recorded and parked, while a row has its subject and source and
a lower sequence. A service that does not park in sequence neither reads nor writes the table.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from uuid import UUID

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Index,
    Table,
    Text,
    Uuid,
    any_,
    delete,
    exists,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from eventbus.consumer.inbox import already_handled, inbox
from eventbus.database.db import metadata
from eventbus.database.statement import Statement
from eventbus.events import codec
from eventbus.events.codec import Position
from eventbus.events.envelope import Event

parked_events = Table(
    "parked_events",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("source", Text, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("behind", Uuid, comment="The event that it waits behind; null: it failed itself."),
    Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("ix_parked_events_subject", "subject"),
)

_READ = Statement(
    "read_parked_events",
    """
    SELECT event_id, source, subject, sequence,
        EXISTS (SELECT FROM inbox WHERE inbox.event_id = parked_events.event_id) AS is_handled
    FROM parked_events
    WHERE subject IN (SELECT value::uuid FROM json_array_elements_text($1) AS value)
    """,
    "json",
)


def hold_back(session: Session, events: Sequence[Event]) -> dict[UUID, UUID]:
    """Return the events that must wait, each with the parked event that it waits behind.

    `events` are the events of one transaction, in the order in which it handles them. In this
    transaction, the events that wait are recorded, and the rows of all other events are deleted. If
    none of their subjects has a parked event, this takes one statement.
    """
    subjects = {event.subject for event in events}
    rows = _READ.run(session, msgspec.json.encode(subjects).decode()).all()
    if not rows:
        return {}
    # A row of a handled event remains if a second copy of it failed at the same time.
    done = {row.event_id for row in rows if row.is_handled}
    ahead = _Ahead(
        Position(row.event_id, row.source, row.subject, row.sequence)
        for row in rows
        if not row.is_handled
    )
    handled = already_handled(session, [event.id for event in events])
    waiting: dict[UUID, tuple[Position, UUID]] = {}
    for event in events:
        first = None if event.id in handled else ahead.first_before(event)
        if first:
            # Later events of the same transaction wait as well.
            position = _position(event)
            ahead.add(position)
            waiting[event.id] = position, first.id
        else:
            ahead.remove(event.id)
            done.add(event.id)
    _upsert(session, list(waiting.values()))
    forget(session, done)
    return {event_id: behind for event_id, (_, behind) in waiting.items()}


def record(session: Session, bodies: Iterable[bytes | str]) -> None:
    """Record the events in these message bodies, which are to be parked because they failed.

    A body without a position is ignored, and so is an event that was handled in the meantime.
    """
    failed = {p.id: p for body in bodies if (p := codec.position(body))}
    if failed:
        handled = already_handled(session, failed.keys())
        _upsert(session, [(p, None) for event_id, p in failed.items() if event_id not in handled])


def forget(session: Session, event_ids: Collection[UUID]) -> set[UUID]:
    """Delete the rows of these events, so no event waits behind them; return the deleted ids."""
    if not event_ids:
        return set()
    rows = delete(parked_events).where(parked_events.c.event_id.in_(event_ids))
    return set(session.scalars(rows.returning(parked_events.c.event_id)))


def waiting(session: Session, event_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return which of these events would wait now, each with the first event ahead of it."""
    if not event_ids:
        return {}
    later, ahead = parked_events.alias("later"), parked_events.alias("ahead")
    is_ahead = (
        (ahead.c.subject == later.c.subject)
        & (ahead.c.source == later.c.source)
        & (ahead.c.sequence < later.c.sequence)
    )
    is_handled = exists().where(inbox.c.event_id == ahead.c.event_id)
    pairs = (
        select(later.c.event_id, ahead.c.event_id)
        .ext(distinct_on(later.c.event_id))
        .join(ahead, is_ahead)
        .where(later.c.event_id == any_(literal(list(event_ids), ARRAY(Uuid))), ~is_handled)
        .order_by(later.c.event_id, ahead.c.sequence)
    )
    return dict(session.execute(pairs).all())


class _Ahead:
    """Parked events, indexed by subject and source, so that the first event is found quickly."""

    def __init__(self, positions: Iterable[Position]) -> None:
        self._by_id: dict[UUID, Position] = {}
        #: Heaps by subject and source; they may contain events that were removed.
        self._sequences: defaultdict[tuple[UUID, str], list[tuple[int, UUID]]] = defaultdict(list)
        for position in positions:
            self.add(position)

    def add(self, position: Position) -> None:
        """Add a parked event, or an event that waits."""
        if position.id not in self._by_id:
            self._by_id[position.id] = position
            entry = position.sequence, position.id
            heappush(self._sequences[position.subject, position.source], entry)

    def remove(self, event_id: UUID) -> None:
        """Remove an event, if it is present."""
        self._by_id.pop(event_id, None)

    def first_before(self, event: Event) -> Position | None:
        """Return the first event that an event must wait behind, or None."""
        heap = self._sequences[event.subject, event.source]
        while heap and heap[0][1] not in self._by_id:
            heappop(heap)
        return self._by_id[heap[0][1]] if heap and heap[0][0] < event.sequence else None


def _position(event: Event) -> Position:
    return Position(event.id, event.source, event.subject, event.sequence)


def _upsert(session: Session, pairs: Sequence[tuple[Position, UUID | None]]) -> None:
    """Record events, each with the event that it waits behind."""
    if not pairs:
        return
    statement = insert(parked_events).values(
        [
            {
                "event_id": position.id,
                "source": position.source,
                "subject": position.subject,
                "sequence": position.sequence,
                "behind": behind,
            }
            # The rows are sorted, so that transactions that record the same events do not deadlock.
            for position, behind in sorted(pairs, key=lambda pair: str(pair[0].id))
        ]
    )
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[parked_events.c.event_id],
            set_={"behind": new.behind, "parked_at": func.now()},
        )
    )

"""The outbox: a table of events, each written in the transaction of the change it describes."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import Session

from eventbus.database.db import metadata
from eventbus.database.statement import Statement, packed
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.slots import SLOT

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column("event", Text, nullable=False, comment="The envelope as it goes on the wire."),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True), comment="When the broker confirmed it."),
    Column(
        "next_attempt_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        comment="Not before this; later than created_at once the broker has refused it.",
    ),
    Column(
        "unroutable_reason",
        Text,
        comment="Why the broker returned it last; null once it is sent.",
    ),
    Column(
        "attempts",
        SmallInteger,
        nullable=False,
        server_default=text("0"),
        comment="Attempts to publish it that failed.",
    ),
    Column(
        "waits_for",
        Text,
        comment="Null: its turn. An event type: the queues of that type. Else in parentheses.",
    ),
    # The index is sorted by lane first, so new events are one range of the index, regardless of
    # events in lanes.
    Index("ix_outbox_lane", "waits_for", "id", postgresql_where=text("sent_at IS NULL")),
    # An index for the queries of slots, in a sort order that prevents them from using the index
    # above.
    Index(
        "ix_outbox_slot",
        text(SLOT),
        text("waits_for DESC"),
        "id",
        postgresql_where=text("sent_at IS NULL"),
    ),
    # An index for the metrics of the lag.
    Index("ix_outbox_unsent", "next_attempt_at", "id", postgresql_where=text("sent_at IS NULL")),
    # An index to find the earlier events of an order, and for the order's timeline.
    Index("ix_outbox_subject", "subject"),
    # An index for the deletion of old rows.
    Index("ix_outbox_sent_at", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
)

_APPEND = Statement(
    "append_events",
    """
    INSERT INTO outbox (event_id, type, subject, event)
    SELECT event_id, type, subject, event
    FROM json_to_recordset($1) AS row (event_id uuid, type text, subject uuid, event text)
    """,
    "json",
)

#: The key in `Session.info` of the events that are written together.
_GATHERED = "gathered events"

#: A table with a row for each part of the outbox, which records the last pass of the part's relay.
#: The API reports it without calling the broker. The id is the part's number, from 1.
relay_state = Table(
    "relay_state",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column(
        "passed_at",
        DateTime(timezone=True),
        nullable=False,
        comment="Its last pass over the outbox.",
    ),
    Column("broker_error", Text, comment="Why that pass could not publish; null when it could."),
)


def append(session: Session, event: Event) -> None:
    """Record an event, to be published if and only if the caller's transaction commits."""
    row = {
        "event_id": event.id,
        "type": event.type,
        "subject": event.subject,
        "event": codec.encode(event).decode(),
    }
    if (gathered := session.info.get(_GATHERED)) is None:
        _APPEND.run_with_next(session, packed([row]))
    else:
        gathered.append(row)


@contextmanager
def one_statement(session: Session) -> Iterator[None]:
    """Write all events that are appended in the block in one statement, at its end."""
    rows = session.info[_GATHERED] = []
    try:
        yield
    finally:
        del session.info[_GATHERED]
    if rows:
        _APPEND.run_with_next(session, packed(rows))

"""The outbox: events wait here, written in the transaction of the change that they tell of."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    insert,
    text,
)
from sqlalchemy import Column as C
from sqlalchemy.orm import Session

from common import codec
from common.db import metadata
from common.events import Event

outbox = Table(
    "outbox",
    metadata,
    C("id", BigInteger, Identity(always=True), primary_key=True),
    C("event_id", Uuid, nullable=False, unique=True),
    C("type", Text, nullable=False),
    C("subject", Uuid, nullable=False),
    C("event", Text, nullable=False, comment="The envelope as it goes on the wire."),
    C("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    C("sent_at", DateTime(timezone=True), comment="When the broker confirmed it."),
    C(
        "next_attempt_at",
        DateTime(timezone=True),
        comment="Not before this, after a failure.",
    ),
    C(
        "unroutable_reason",
        Text,
        comment="Why the broker returned it last; null once it is sent.",
    ),
    # Both indexes hold unsent rows only: claiming costs the same with ten or ten million sent rows.
    Index("ix_outbox_unsent", "id", postgresql_where=text("sent_at IS NULL")),
    Index(
        "ix_outbox_unsent_subject",
        "subject",
        "id",
        postgresql_where=text("sent_at IS NULL"),
    ),
    # For the timeline of one order, and for the removal of old rows.
    Index("ix_outbox_subject", "subject"),
    Index("ix_outbox_sent_at", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
)

#: One row: what the relay last did, so that the API can tell without asking the broker.
relay_state = Table(
    "relay_state",
    metadata,
    C("id", SmallInteger, CheckConstraint("id = 1", name="single"), primary_key=True),
    C(
        "passed_at",
        DateTime(timezone=True),
        nullable=False,
        comment="Its last pass over the outbox.",
    ),
    C("broker_error", Text, comment="Why that pass could not publish; null when it could."),
)


def append(session: Session, event: Event) -> None:
    """Record an event in the caller's transaction: it is published if and only if that commits."""
    session.execute(
        insert(outbox).values(
            event_id=event.id,
            type=event.type,
            subject=event.subject,
            event=codec.encode(event).decode(),
        )
    )

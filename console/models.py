"""The console's own tables: plans, discarded messages, groups, a journal, and an index."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING


class Base(DeclarativeBase):
    """The tables of the console."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        str: Text,
        int: Integer,
        float: Double,
        UUID: Uuid,
    }


class PlanState(StrEnum):
    """The state of a redrive plan."""

    #: The plan is being prepared: its messages are still being chosen, and it cannot run.
    INCOMPLETE = "incomplete"
    #: The preparation of the plan has failed, so the plan never runs.
    FAILED = "failed"
    #: The plan can run, or is running.
    READY = "ready"
    #: An operator has paused the plan.
    PAUSED = "paused"
    #: An operator has ended the plan.
    ABORTED = "aborted"
    #: Each message of the plan was redriven.
    DONE = "done"


class ItemState(StrEnum):
    """The state of a message of a plan."""

    #: The message is to be redriven.
    PLANNED = "planned"
    #: The redrive of the message has started, and its outcome is not known yet.
    SENT = "sent"
    #: The event of the message is in the service's inbox.
    HANDLED = "handled"
    #: The message failed again, and is parked again.
    PARKED = "parked again"
    #: The message was not handled, because an earlier event of its order is parked.
    WAITING = "waiting"
    #: An operator has discarded or edited the message since the plan was made.
    GONE = "gone"
    #: The message is not redriven, and stays parked.
    SKIPPED = "skipped"


class PlanRow(Base):
    """A redrive plan: a frozen set of parked messages of one service."""

    __tablename__ = "redrive_plans"
    __table_args__ = (
        CheckConstraint(
            "state IN ('incomplete', 'failed', 'ready', 'paused', 'aborted', 'done')", name="state"
        ),
        Index("ix_redrive_plans_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    service: Mapped[str]
    criteria: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="As the operator gave them.")
    state: Mapped[str]
    reason: Mapped[str | None] = mapped_column(comment="Why its last run ended early.")
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    depth: Mapped[int | None] = mapped_column(comment="Messages to examine for its preparation.")
    examined: Mapped[int] = mapped_column(server_default="0", comment="How many of them were.")
    states: Mapped[dict[str, int]] = mapped_column(
        JSONB, server_default="{}", comment="The numbers of its messages by their state."
    )
    effects: Mapped[dict[str, int]] = mapped_column(
        JSONB, server_default="{}", comment="The same by the expected effect."
    )


class ItemRow(Base):
    """A message of a plan."""

    __tablename__ = "redrive_items"
    __table_args__ = (
        UniqueConstraint("plan_id", "event_id"),
        CheckConstraint(
            "state IN ('planned', 'sent', 'handled', 'parked again', 'waiting', 'gone', 'skipped')",
            name="state",
        ),
        Index("ix_redrive_items_state", "plan_id", "state", "rank", "position"),
        Index("ix_redrive_items_rank", "plan_id", "rank", "position"),
        Index("ix_redrive_items_event_id", "event_id"),
    )

    plan_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("redrive_plans.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True, comment="In the parking lot, from 1.")
    event_id: Mapped[str] = mapped_column(comment="As `orderctl parked list` shows it.")
    digest: Mapped[str] = mapped_column(comment="SHA-256 of the body.")
    inbox_id: Mapped[UUID | None] = mapped_column(comment="The dedup key; null: not an event.")
    type: Mapped[str | None]
    order_id: Mapped[str | None]
    effect: Mapped[str] = mapped_column(comment="Of the redrive, as expected at planning.")
    rank: Mapped[int] = mapped_column(
        SmallInteger, comment="Redriven in ascending order: first the messages that have an effect."
    )
    state: Mapped[str]
    note: Mapped[str | None] = mapped_column(comment="Why it is parked again or skipped.")
    redriven_at: Mapped[datetime | None] = mapped_column(comment="Last, by this plan.")
    redriven_by: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DiscardRow(Base):
    """A discarded message, which can be restored until it is deleted."""

    __tablename__ = "discarded_messages"
    __table_args__ = (
        Index("ix_discarded_messages_discarded_at", "discarded_at"),
        Index("ix_discarded_messages_service", "service", "id"),
        Index("ix_discarded_messages_event_id", "event_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    service: Mapped[str]
    event_id: Mapped[str] = mapped_column(comment="As `orderctl parked list` showed it.")
    type: Mapped[str | None]
    failure: Mapped[str] = mapped_column(comment="Why it was parked.")
    reason: Mapped[str] = mapped_column(comment="Why it was discarded.")
    discarded_by: Mapped[str]
    discarded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    properties: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="With headers, as in AMQP; null: they cannot be sent."
    )
    body: Mapped[bytes] = mapped_column(LargeBinary)


class JournalRow(Base):
    """An operator's change to a parked message or a failure group. Rows are only appended."""

    __tablename__ = "parking_journal"
    __table_args__ = (
        CheckConstraint("(event_id IS NULL) <> (group_key IS NULL)", name="subject"),
        Index("ix_parking_journal_event_id", "service", "event_id", "id"),
        Index("ix_parking_journal_group_key", "service", "group_key", "id"),
        Index("ix_parking_journal_recorded_at", "recorded_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    service: Mapped[str]
    event_id: Mapped[str | None] = mapped_column(comment="As `orderctl parked list` shows it.")
    group_key: Mapped[str | None]
    change: Mapped[str]
    text: Mapped[str | None] = mapped_column(comment="The reason, the note or the owner.")
    details: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, comment="Of an edit: the difference. Of a message: the SHA-256 of its bodies."
    )
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class FailureGroupRow(Base):
    """A group of parked messages with one cause, which remains when its messages are gone."""

    __tablename__ = "failure_groups"
    __table_args__ = (Index("ix_failure_groups_last_seen", "service", "last_seen"),)

    service: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(
        primary_key=True, comment="Hash of the type, the failure and the frame."
    )
    type: Mapped[str | None]
    failure: Mapped[str]
    frame: Mapped[str | None]
    count: Mapped[int] = mapped_column(BigInteger, comment="Failures that were seen.")
    first_seen: Mapped[datetime | None]
    last_seen: Mapped[datetime | None]
    releases: Mapped[list[str]] = mapped_column(
        ARRAY(Text), comment="The newest in which it was seen, in this order."
    )
    returned_at: Mapped[datetime | None] = mapped_column(comment="First failure after an absence.")
    previous_seen: Mapped[datetime | None] = mapped_column(comment="Last failure before it.")
    previous_release: Mapped[str | None]
    owner: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(comment="The newest; the journal has the others.")
    noted_by: Mapped[str | None]
    noted_at: Mapped[datetime | None]
    muted_until: Mapped[datetime | None]
    muted_by: Mapped[str | None]


#: Options of a table that is not in the write-ahead log: a crash of the server empties the index,
#: which is then read again from the parking lots. It has no copy on a standby or in a physical
#: backup.
_UNLOGGED = {"prefixes": ["UNLOGGED"]}


class IndexedLotRow(Base):
    """A large parking lot as of its last reading, whose messages are in `indexed_messages`."""

    __tablename__ = "indexed_lots"
    __table_args__ = (_UNLOGGED,)

    service: Mapped[str] = mapped_column(primary_key=True)
    messages: Mapped[int] = mapped_column(comment="The number of messages that were read.")
    read_at: Mapped[datetime] = mapped_column(comment="The start of the reading.")
    seconds: Mapped[float] = mapped_column(comment="The duration of the reading.")
    unread: Mapped[str] = mapped_column(comment="Messages that another reader held, in words.")
    groups: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, comment="The groups of the messages."
    )


class IndexedRow(Base):
    """A message of a large parking lot; identical messages have one row."""

    __tablename__ = "indexed_messages"
    __table_args__ = (
        UniqueConstraint("service", "fingerprint"),
        Index("ix_indexed_messages_service", "service", "id"),
        Index("ix_indexed_messages_event_id", "service", "event_id", "id"),
        Index("ix_indexed_messages_order_id", "service", "order_id", "id"),
        Index("ix_indexed_messages_group_key", "service", "group_key", "id"),
        _UNLOGGED,
    )

    id: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="Ids are in the order of the queue.",
    )
    service: Mapped[str]
    fingerprint: Mapped[UUID] = mapped_column(comment="Hash of the description and of the body.")
    event_id: Mapped[str] = mapped_column(comment="As `orderctl parked list` shows it.")
    order_id: Mapped[str | None]
    digest: Mapped[str] = mapped_column(comment="SHA-256 of the body.")
    group_key: Mapped[str]
    parked: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="The description.")
    headers: Mapped[dict[str, str]] = mapped_column(JSONB, comment="The headers as text.")
    size: Mapped[int] = mapped_column(comment="Bytes of the body.")
    body: Mapped[bytes | None] = mapped_column(LargeBinary, comment="Null if it is not kept.")

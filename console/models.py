"""The console's own tables: redrive plans with their messages, and discarded messages."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
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
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING


class Base(DeclarativeBase):
    """The tables of the console."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        str: Text,
        int: Integer,
        UUID: Uuid,
    }


class PlanState(StrEnum):
    """The state of a redrive plan."""

    #: Its messages are still being chosen; it cannot run.
    INCOMPLETE = "incomplete"
    #: It can run, or runs.
    READY = "ready"
    #: An operator has paused it.
    PAUSED = "paused"
    #: An operator has ended it.
    ABORTED = "aborted"
    #: Each of its messages was redriven.
    DONE = "done"


class ItemState(StrEnum):
    """The state of a message of a plan."""

    #: It is to be redriven.
    PLANNED = "planned"
    #: Its redrive has begun; the outcome is not known yet.
    SENT = "sent"
    #: Its event is in the service's inbox.
    HANDLED = "handled"
    #: It failed again, and is parked again.
    PARKED = "parked again"
    #: It was not in the parking lot when its turn came.
    GONE = "gone"
    #: It is not redriven and stays parked.
    SKIPPED = "skipped"


class PlanRow(Base):
    """A redrive plan: a frozen set of parked messages of one service."""

    __tablename__ = "redrive_plans"
    __table_args__ = (
        CheckConstraint(
            "state IN ('incomplete', 'ready', 'paused', 'aborted', 'done')", name="state"
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


class ItemRow(Base):
    """A message of a plan."""

    __tablename__ = "redrive_items"
    __table_args__ = (
        UniqueConstraint("plan_id", "event_id"),
        CheckConstraint(
            "state IN ('planned', 'sent', 'handled', 'parked again', 'gone', 'skipped')",
            name="state",
        ),
        Index("ix_redrive_items_state", "plan_id", "state", "rank", "position"),
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

"""The projections and their position in the stream, which are written in the same transactions."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    MetaData,
    Numeric,
    Text,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING


class Base(DeclarativeBase):
    """The base class of the analytics service's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        int: BigInteger,
        # Sums of many orders are integers of any size.
        Decimal: Numeric(),
        str: Text,
    }


class OrderRow(Base):
    """The part of an order that the figures need, which later events change."""

    __tablename__ = "orders"
    __table_args__ = (Index("ix_orders_placed_at", "placed_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    placed_at: Mapped[datetime]
    currency: Mapped[str]
    total: Mapped[int] = mapped_column(comment="In minor units of the currency.")
    outcome: Mapped[str]
    decided_at: Mapped[datetime | None] = mapped_column(
        comment="When it was confirmed, or rejected for lack of stock."
    )


class MinuteRow(Base):
    """The figures of the orders placed in one minute in one currency."""

    __tablename__ = "minutes"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    placed: Mapped[int]
    placed_total: Mapped[Decimal] = mapped_column(comment="What all of them cost.")
    confirmed: Mapped[int]
    shipped: Mapped[int] = mapped_column(
        server_default="0", comment="Of the confirmed ones, those whose goods have left."
    )
    revenue: Mapped[Decimal] = mapped_column(comment="What the confirmed ones cost.")
    rejected: Mapped[int]
    cancelled: Mapped[int] = mapped_column(comment="By the customer, or at the deadline.")
    decided: Mapped[int] = mapped_column(comment="Ever confirmed, or rejected.")
    decision_microseconds: Mapped[Decimal] = mapped_column(comment="How long these waited, in all.")


class SkuMinuteRow(Base):
    """The figures of the orders of one SKU placed in one minute in one currency."""

    __tablename__ = "sku_minutes"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    placed: Mapped[int] = mapped_column(comment="Orders.")
    pieces: Mapped[Decimal]
    confirmed: Mapped[int] = mapped_column(comment="Orders.")
    revenue: Mapped[Decimal] = mapped_column(comment="What these pieces cost in confirmed orders.")


class PositionRow(Base):
    """A single row: the last event of the stream that is in the projections."""

    __tablename__ = "stream_position"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    stream_offset: Mapped[int]
    message_id: Mapped[str | None] = mapped_column(
        comment="Of that message: another one at its offset is another stream."
    )
    caught_up_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When nothing more was there to read."
    )


class SkippedRow(Base):
    """A message of the stream that could not be projected, and the reason."""

    __tablename__ = "skipped_events"
    __table_args__ = (
        Index("ix_skipped_events_stream_offset", "stream_offset"),
        # An index for the retention.
        Index("ix_skipped_events_skipped_at", "skipped_at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    stream_offset: Mapped[int]
    order_id: Mapped[UUID | None]
    type: Mapped[str | None]
    reason: Mapped[str]
    body: Mapped[str] = mapped_column(comment="As it came.")
    skipped_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GapRow(Base):
    """Offsets that left the stream before they were read."""

    __tablename__ = "stream_gaps"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    first_offset: Mapped[int]
    last_offset: Mapped[int | None] = mapped_column(comment="Null: the stream was replaced.")
    noticed_at: Mapped[datetime] = mapped_column(server_default=func.now())

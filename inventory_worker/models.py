"""The inventory's tables."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Connection,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Text,
    Uuid,
    event,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING
from inventory_worker import ledger
from inventory_worker.domain import Status as Status


class Base(DeclarativeBase):
    """The base class of the inventory's tables."""

    metadata = MetaData(naming_convention=NAMING)


class Stock(Base):
    """The level of one SKU: the units on hand, and the units reserved for orders."""

    __tablename__ = "stock"
    # `on_hand` has no lower bound: a count may find less than is reserved, and goods that are
    # shipped before their receipt is entered leave a negative level until the next count.
    __table_args__ = (CheckConstraint("reserved >= 0", name="reserved"),)

    sku: Mapped[str] = mapped_column(Text, primary_key=True)
    on_hand: Mapped[int] = mapped_column(BigInteger)
    reserved: Mapped[int] = mapped_column(BigInteger, server_default="0")
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class Reservation(Base):
    """The inventory's reply to one order."""

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint(
            "status IN ('RESERVED', 'REJECTED', 'RELEASED', 'SHIPPED', 'CANCELLED')", name="status"
        ),
        CheckConstraint("(status = 'SHIPPED') = (shipped_at IS NOT NULL)", name="shipped_at"),
    )

    order_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    status: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(
        Integer, server_default="0", comment="Of the last event published about this order."
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
    released_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="Set by the database when the status becomes RELEASED."
    )
    shipped_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="Set by the database when the status becomes SHIPPED."
    )


class ReservationLine(Base):
    """The quantity of one SKU that is, or was, reserved for an order."""

    __tablename__ = "reservation_lines"
    __table_args__ = (
        CheckConstraint("quantity >= 1", name="quantity"),
        # An index for the movements of one SKU, sorted by time because order ids increase with
        # time.
        Index("ix_reservation_lines_sku", "sku", "order_id"),
    )

    order_id: Mapped[UUID] = mapped_column(
        ForeignKey("reservations.order_id", ondelete="CASCADE"), primary_key=True
    )
    # There is no foreign key, because its check would cost more for each line of an order than an
    # index. Only SKUs whose level is locked are written, and the database rejects the deletion of a
    # level.
    sku: Mapped[str] = mapped_column(Text, primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)


class Kind(StrEnum):
    """The kinds of entries. `reserve`, `release` and `ship` are derived from the reservations."""

    #: The level at the time when movements were introduced.
    OPENING = "opening"
    #: Goods were received.
    RECEIVE = "receive"
    #: The goods were counted. The movement is the difference from the previous level.
    COUNT = "count"
    #: A mistake was corrected.
    CORRECT = "correct"


class StockEntry(Base):
    """A movement that an operator entered. It is never changed or deleted."""

    __tablename__ = "stock_entries"
    __table_args__ = (
        CheckConstraint("kind IN ('opening', 'receive', 'count', 'correct')", name="kind"),
        CheckConstraint("reserved = 0 OR kind = 'opening'", name="reserved"),
        Index("ix_stock_entries_sku", "sku", "id"),
        # This constraint ensures that a document has at most one effect on each SKU.
        Index(
            "ix_stock_entries_reference",
            "reference",
            "sku",
            "kind",
            unique=True,
            postgresql_where=text("reference IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    # There is no foreign key, because its check would lock the level. Rows of `stock` are never
    # deleted.
    sku: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    on_hand: Mapped[int] = mapped_column(BigInteger, comment="By how much it rises or falls.")
    reserved: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="By how much it rises or falls."
    )
    counted: Mapped[int | None] = mapped_column(BigInteger, comment="What a count has found.")
    reason: Mapped[str] = mapped_column(Text)
    reference: Mapped[str | None] = mapped_column(
        Text, comment="A document; entered again, it has no second effect."
    )
    entered_by: Mapped[str] = mapped_column(Text)
    entered_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class StockImport(Base):
    """The progress of a file's import: all SKUs up to `reached`, sorted by code point."""

    __tablename__ = "stock_imports"

    reference: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, comment="SHA-256 of the file's content.")
    reached: Mapped[str] = mapped_column(Text, server_default="", comment="The last SKU done.")
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


@event.listens_for(Base.metadata, "after_create")
def _create_ledger(_target: object, connection: Connection, **_: object) -> None:
    for statement in ledger.DEFINITIONS:
        connection.execute(text(statement))

"""The inventory's tables."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Text,
    Uuid,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common.db import NAMING


class Base(DeclarativeBase):
    """What the inventory's tables have in common."""

    metadata = MetaData(naming_convention=NAMING)


class Status(StrEnum):
    """What became of an order's reservation."""

    #: Everything it asked for is held for it.
    RESERVED = "RESERVED"
    #: Nothing was ever held: some SKU was short.
    REJECTED = "REJECTED"
    #: It was held, then the order was cancelled.
    RELEASED = "RELEASED"
    #: The order was cancelled before it was heard of; this tombstone keeps it from reserving.
    CANCELLED = "CANCELLED"


class Stock(Base):
    """What lies in the warehouse of one SKU, and how much of that is reserved for orders."""

    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("reserved >= 0 AND reserved <= on_hand", name="reserved"),)

    sku: Mapped[str] = mapped_column(Text, primary_key=True)
    on_hand: Mapped[int] = mapped_column(BigInteger)
    reserved: Mapped[int] = mapped_column(BigInteger, server_default="0")
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class Reservation(Base):
    """The inventory's answer to one order."""

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint(
            "status IN ('RESERVED', 'REJECTED', 'RELEASED', 'CANCELLED')", name="status"
        ),
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


class ReservationLine(Base):
    """How much of one SKU an order holds, or held until it was released."""

    __tablename__ = "reservation_lines"
    __table_args__ = (CheckConstraint("quantity >= 1", name="quantity"),)

    order_id: Mapped[UUID] = mapped_column(
        ForeignKey("reservations.order_id", ondelete="CASCADE"), primary_key=True
    )
    sku: Mapped[str] = mapped_column(ForeignKey("stock.sku"), primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)

"""The order service's tables, for Flask-SQLAlchemy and for the plain sessions of its workers."""

from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry, relationship

from eventbus.database.db import NAMING
from order_app.domain import Line, Order, reason_of, status_of


class Base(DeclarativeBase):
    """The base class of the order service's tables."""

    # Both are passed to the registry, because Flask-SQLAlchemy copies this class, and rejects them
    # in its body.
    registry = registry(
        metadata=MetaData(naming_convention=NAMING),
        type_annotation_map={str: Text, datetime: DateTime(timezone=True)},
    )


#: The API's sessions, one per request. The first query of a session opens its connection.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


class OrderRow(Model):
    """A stored order."""

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(
            "status IN ('PENDING', 'CONFIRMED', 'SHIPPED', 'CANCELLED')", name="status"
        ),
        CheckConstraint("(status = 'CANCELLED') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint("(status = 'PENDING') = (decided_at IS NULL)", name="decided_at"),
        CheckConstraint("(status = 'SHIPPED') = (shipped_at IS NOT NULL)", name="shipped_at"),
        # For each list of orders, newest first, a page is read from a single index.
        Index("ix_orders_created_at", "created_at", "id"),
        Index("ix_orders_status", "status", "created_at", "id"),
        Index("ix_orders_customer_email", "customer_email", "created_at", "id"),
        # This index contains only the few PENDING orders, so old orders do not slow down the sweep.
        Index(
            "ix_orders_pending_deadline_at",
            "deadline_at",
            postgresql_where=text("status = 'PENDING'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_email: Mapped[str]
    currency: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str | None]
    total: Mapped[int] = mapped_column(BigInteger, comment="In minor units of the currency.")
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]
    traceparent: Mapped[str | None] = mapped_column(comment="Of the request that placed it.")
    sequence: Mapped[int] = mapped_column(Integer, comment="The number of its events so far.")
    shipped_at: Mapped[datetime | None]
    lines: Mapped[list["LineRow"]] = relationship(order_by="LineRow.position", lazy="selectin")

    def to_domain(self) -> Order:
        """Return the order."""
        return Order(
            id=self.id,
            customer_email=self.customer_email,
            currency=self.currency,
            lines=tuple(line.to_domain() for line in self.lines),
            created_at=self.created_at,
            deadline_at=self.deadline_at,
            status=status_of(self.status),
            reason=reason_of(self.reason),
            decided_at=self.decided_at,
            shipped_at=self.shipped_at,
        )

    def decide(self, order: Order) -> None:
        """Copy the status of a changed order into the row."""
        self.status = order.status
        self.reason = order.reason
        self.decided_at = order.decided_at
        self.shipped_at = order.shipped_at


class LineRow(Model):
    """A line of an order; positions start at 1."""

    __tablename__ = "order_lines"
    __table_args__ = (
        UniqueConstraint("order_id", "sku"),
        CheckConstraint("quantity >= 1", name="quantity"),
        CheckConstraint("unit_price >= 0", name="unit_price"),
    )

    order_id: Mapped[UUID] = mapped_column(
        ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    sku: Mapped[str]
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price: Mapped[int] = mapped_column(BigInteger)

    def to_domain(self) -> Line:
        """Return the line."""
        return Line(sku=self.sku, quantity=self.quantity, unit_price=self.unit_price)


class CancellationRow(Model):
    """An operator's cancellation of an order, in the operator's own words. Rows never change."""

    __tablename__ = "cancellations"

    # There is no foreign key, because adding one would lock the orders.
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    reason: Mapped[str]
    cancelled_by: Mapped[str] = mapped_column(comment="The operator's account name.")
    cancelled_at: Mapped[datetime]


class ShipmentRow(Model):
    """An operator's shipment of an order. Rows never change."""

    __tablename__ = "shipments"

    # There is no foreign key, for the same reason as in the cancellations.
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    shipped_by: Mapped[str] = mapped_column(comment="The operator's account name.")
    shipped_at: Mapped[datetime]


class IdempotencyKey(Model):
    """A client's identifier of a request to place an order, which `retention` deletes."""

    __tablename__ = "idempotency_keys"
    # An index for the retention.
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    api_key: Mapped[str] = mapped_column(
        primary_key=True,
        server_default="",
        comment="The prefix of the API key that it came with.",
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(comment="SHA-256 of what the request asked for.")
    # The constraint is deferred, because the key is claimed before its order is inserted.
    order_id: Mapped[UUID] = mapped_column(
        ForeignKey("orders.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"),
        index=True,
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKeyRow(Model):
    """An API key, without its secret."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("cardinality(scopes) > 0", name="scopes"),)

    prefix: Mapped[str] = mapped_column(
        primary_key=True, comment="The key's public part: its name in logs."
    )
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(comment="SHA-256 of the whole key.")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    last_used_on: Mapped[date | None] = mapped_column(
        comment="In UTC; a day at most is written for each key."
    )

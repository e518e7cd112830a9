"""The notifications: one row for each email."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING
from notification_worker.domain import Status


class Base(DeclarativeBase):
    """The base class of the notification service's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012


class Notification(Base):
    """An email: its recipient, its content, and the state of its delivery."""

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("order_id", "kind"),
        CheckConstraint("status IN ('PENDING', 'SENT', 'FAILED', 'HELD')", name="status"),
        # This index contains only unsent rows, so the cost of a scan does not depend on the number
        # of sent emails. A claim does not change an indexed column, so it writes to no index and
        # leaves no dead entry.
        Index(
            "ix_notifications_due",
            "next_attempt_at",
            "id",
            postgresql_where=text("status = 'PENDING'"),
        ),
        # An index for the retention.
        Index(
            "ix_notifications_created_at",
            "created_at",
            postgresql_where=text("status <> 'PENDING'"),
        ),
        # An index for the metrics.
        Index("ix_notifications_failed", "id", postgresql_where=text("status = 'FAILED'")),
        # This leaves space for the second version of a claimed row on the same page.
        {"postgresql_with": {"fillfactor": 85}},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    order_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(comment="Names the templates.")
    sequence: Mapped[int | None] = mapped_column(
        comment="The event's; an order's emails are sent in this order. Null waits for none."
    )
    recipient: Mapped[str] = mapped_column(comment="An address, or `operator`.")
    context: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="What the templates show: the event's data."
    )
    status: Mapped[str] = mapped_column(server_default=Status.PENDING)
    attempts: Mapped[int] = mapped_column(server_default="0")
    unsure: Mapped[int] = mapped_column(
        server_default="0", comment="Attempts after which the email may have been sent."
    )
    next_attempt_at: Mapped[datetime] = mapped_column(
        server_default="epoch", comment="Not before this; epoch: immediately, by any clock."
    )
    claimed_by: Mapped[UUID | None] = mapped_column(comment="The mailer that is sending it.")
    claimed_until: Mapped[datetime | None] = mapped_column(
        comment="When another mailer may take it over; renewed while the first one lives."
    )
    message_id: Mapped[str | None] = mapped_column(
        comment="The Message-ID of every attempt; null before the first."
    )
    last_error: Mapped[str | None] = mapped_column(
        comment="Why the last failed attempt failed; kept when a later one succeeds."
    )
    traceparent: Mapped[str | None] = mapped_column(comment="Of the handler that recorded it.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None] = mapped_column(
        comment="When the mail server took responsibility for it."
    )
